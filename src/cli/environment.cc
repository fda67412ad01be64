// SPDX-License-Identifier: Apache-2.0
// Variables, files and device nodes of the host.
#include "cli/environment.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/text.h"
#include "fs/dir.h"
#include "plan/parse_options.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

constexpr std::size_t kMostFile = 1U << 20;

Result<std::string> read_text_file(const std::string& path) {
  const UniqueFd file = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY));
  return sys::read_all(file.get(), kMostFile, path);
}

Result<oci::Device> look_up_device(const std::string& path) {
  const struct stat facts = TRY(sys::stat_at(AT_FDCWD, path.c_str(), 0));
  if (!S_ISCHR(facts.st_mode) && !S_ISBLK(facts.st_mode))
    return Error::make(Code::invalid_config, printable(path), " is not a device node; -v binds files and directories");
  oci::Device device;
  device.type = S_ISBLK(facts.st_mode) ? 'b' : 'c';
  device.path = path;
  device.major = ::major(facts.st_rdev);
  device.minor = ::minor(facts.st_rdev);
  device.file_mode = facts.st_mode & 07777U;
  device.uid = facts.st_uid;
  device.gid = facts.st_gid;
  return device;
}

// Every container has these of its own.
bool is_own(std::string_view path) {
  constexpr std::array<std::string_view, 12> kOwn{"/dev/pts",  "/dev/shm",  "/dev/fd",      "/dev/mqueue",
                                                  "/dev/null", "/dev/zero", "/dev/full",    "/dev/random",
                                                  "/dev/tty",  "/dev/ptmx", "/dev/urandom", "/dev/console"};
  for (const auto own : kOwn)
    if (path == own) return true;
  return false;
}

// Walks /dev; links, sockets and what cannot be read are left out.
void collect_devices(const std::string& directory, std::vector<oci::Device>& found) {
  const auto open = sys::open_at(AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!open) return;
  const auto entries = fs::list(open->get());
  if (!entries) return;
  for (const auto& entry : *entries) {
    const std::string path = str(directory, '/', entry.name);
    if (is_own(path)) continue;
    if (entry.type == DT_DIR) collect_devices(path, found);
    if (entry.type != DT_CHR && entry.type != DT_BLK) continue;
    if (auto device = look_up_device(path)) found.push_back(std::move(*device));
  }
}

// "K=V" as it is, "K" with its value outside; nothing where it has none.
std::optional<std::string> completed(const std::string& entry, const Surroundings& outside) {
  if (entry.find('=') != std::string::npos) return entry;
  const auto value = outside.variable(entry);
  if (!value) return std::nullopt;
  return str(entry, '=', *value);
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
  outside.device = look_up_device;
  outside.devices = [] {
    std::vector<oci::Device> found;
    collect_devices("/dev", found);
    return found;
  };
  std::array<char, 4096> here{};
  outside.working_dir = ::getcwd(here.data(), here.size()) == nullptr ? "/" : here.data();
  return outside;
}

Result<std::vector<std::string>> merge_environment(const std::vector<std::string>& files,
                                                   const std::vector<std::string>& entries,
                                                   const Surroundings& outside) {
  std::vector<std::string> merged;
  const auto take = [&](const std::string& entry) {
    if (auto whole = completed(entry, outside)) merged.push_back(std::move(*whole));
  };
  for (const auto& file : files) {
    const std::string text = TRY_CTX(outside.read_file(file), "--env-file");
    for (const auto& entry : TRY_CTX(plan::parse_env_file(text, file), "--env-file")) take(entry);
  }
  for (const auto& entry : entries) take(entry);
  return merged;
}

std::string absolute_path(std::string_view path, const Surroundings& outside) {
  if (path.starts_with('/')) return std::string(path);
  return str(outside.working_dir, outside.working_dir.ends_with('/') ? "" : "/", path);
}

}  // namespace skink::cli
