// SPDX-License-Identifier: Apache-2.0
// Telling files from names of images.
#include "cli/archive_name.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>

#include "base/text.h"
#include "image/store.h"

namespace skink::cli {

namespace {

constexpr std::array<std::string_view, 7> kEndings{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".oci", ".tzst"};

std::string_view without_ending(std::string_view file) {
  for (const auto ending : kEndings)
    if (file.size() > ending.size() && file.ends_with(ending)) return file.substr(0, file.size() - ending.size());
  return file;
}

}  // namespace

Result<bool> names_archive(const std::string& argument) {
  const bool has_ending = without_ending(argument).size() != argument.size();
  if (!has_ending && argument.find('/') == std::string::npos) return false;
  struct stat facts {};
  if (::stat(argument.c_str(), &facts) == 0) {
    if (!S_ISDIR(facts.st_mode)) return true;
    if (argument.starts_with('/') || argument.starts_with('.'))
      return Error::make(Code::invalid_config, quoted(argument),
                         " is a directory; an OCI bundle is run with --bundle DIR, an image from a tar file");
    return false;
  }
  const int reason = errno;
  const bool path_like =
      has_ending || argument.starts_with('/') || argument.starts_with("./") || argument.starts_with("../");
  if (path_like) return Error::from_errno(reason, printable(argument));
  return false;
}

std::string name_from_file(std::string_view file) {
  const auto slash = file.rfind('/');
  if (slash != std::string_view::npos) file.remove_prefix(slash + 1);
  std::string name;
  for (const char c : without_ending(file)) name += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return image::parse_reference(name) ? name : std::string();
}

}  // namespace skink::cli
