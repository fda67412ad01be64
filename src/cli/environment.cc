// SPDX-License-Identifier: Apache-2.0
// --env and --env-file.
#include "cli/environment.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/text.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

constexpr std::size_t kMostFile = 1U << 20;

Result<std::string> read_text_file(const std::string& path) {
  const UniqueFd file = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY));
  return sys::read_all(file.get(), kMostFile, path);
}

std::string_view without_leading_blanks(std::string_view line) {
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  return line;
}

}  // namespace

Surroundings real_surroundings() {
  Surroundings outside;
  outside.variable = [](const std::string& name) -> std::optional<std::string> {
    const char* value = ::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
  outside.read_file = read_text_file;
  std::array<char, 4096> here{};
  outside.working_dir = ::getcwd(here.data(), here.size()) == nullptr ? "/" : here.data();
  return outside;
}

Result<std::optional<std::string>> environment_entry(std::string_view text, const Surroundings& outside) {
  const std::string name(text.substr(0, text.find('=')));
  if (name.empty()) return Error::make(Code::invalid_config, quoted(text), " has no name; use NAME=VALUE or NAME");
  if (text.find('\0') != std::string_view::npos)
    return Error::make(Code::invalid_config, quoted(text), " holds a NUL byte");
  if (name.size() != text.size()) return std::optional(std::string(text));
  const auto value = outside.variable(name);
  if (!value) return std::optional<std::string>();
  return std::optional(str(name, '=', *value));
}

Result<std::vector<std::string>> environment_file(const std::string& path, const Surroundings& outside) {
  const std::string text = TRY_CTX(outside.read_file(path), "--env-file");
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);  // a byte order mark
  std::vector<std::string> entries;
  std::size_t number = 0;
  for (std::string_view line : split(rest, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = without_leading_blanks(line);
    if (line.empty() || line.front() == '#') continue;
    const std::string_view name = line.substr(0, line.find('='));
    if (name.find_first_of(" \t") != std::string_view::npos)
      return Error::make(Code::invalid_config, "--env-file: ", printable(path), ", line ", number, ": the name ",
                         quoted(name), " holds a blank");
    auto entry = TRY_CTX(environment_entry(line, outside), "--env-file: ", printable(path), ", line ", number);
    if (entry) entries.push_back(std::move(*entry));
  }
  return entries;
}

Result<std::vector<std::string>> merge_environment(const std::vector<std::string>& files,
                                                   const std::vector<std::string>& entries,
                                                   const Surroundings& outside) {
  std::vector<std::string> merged;
  for (const auto& file : files)
    for (auto& entry : TRY(environment_file(file, outside))) merged.push_back(std::move(entry));
  for (const auto& text : entries)
    if (auto entry = TRY_CTX(environment_entry(text, outside), "--env")) merged.push_back(std::move(*entry));
  return merged;
}

std::string absolute_path(std::string_view path, const Surroundings& outside) {
  if (path.starts_with('/')) return std::string(path);
  return str(outside.working_dir, outside.working_dir.ends_with('/') ? "" : "/", path);
}

}  // namespace skink::cli
