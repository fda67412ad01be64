// SPDX-License-Identifier: Apache-2.0
#include "plan/run_mounts.h"

#include <algorithm>

#include "base/text.h"
#include "plan/mount_options.h"

namespace skink::plan {
namespace {

using Mounts = std::vector<oci::Mount>;
using Volumes = std::vector<VolumeOption>;

constexpr std::size_t kPathLimit = 4095;  // PATH_MAX with its NUL
constexpr std::int64_t kShmSize = std::int64_t{64} << 20;
constexpr std::string_view kTmpfsSize = "size=65536k";

bool has_option(const oci::Strings& options, std::string_view word) {
  return std::find(options.begin(), options.end(), word) != options.end();
}

bool has_key(const oci::Strings& options, std::string_view key) {
  return std::any_of(options.begin(), options.end(), [&](const std::string& word) {
    return word.size() > key.size() && word.starts_with(key) && word[key.size()] == '=';
  });
}

/// Adds `word` unless the options already say this or its opposite.
void add_default(oci::Strings& options, std::string_view word, std::string_view opposite) {
  if (!has_option(options, word) && !has_option(options, opposite)) options.emplace_back(word);
}

const VolumeOption* volume_at(const Volumes& volumes, std::string_view destination) {
  for (const VolumeOption& volume : volumes)
    if (volume.destination == destination) return &volume;
  return nullptr;
}

bool is_covered(const Volumes& volumes, std::string_view path) {
  return std::any_of(volumes.begin(), volumes.end(),
                     [&](const VolumeOption& volume) { return is_at_or_below(path, volume.destination); });
}

// ---- what the options and the image ask for ----

Result<void> check_destination(const VolumeOption& volume) {
  if (volume.destination == "/")
    return Error::make(Code::invalid_config,
                       "volume on /: the root file system is the image's; give a directory in it");
  if (volume.destination == "/proc")
    return Error::make(Code::invalid_config, "volume on /proc: the container's own process file system belongs there");
  return {};
}

/// An image is not the operator: its volumes must not hide what isolates the container (attack A17, CVE-2015-3631), nor
/// the files that are made for it.
Result<void> check_image_volume(const std::string& destination, std::string_view as_written) {
  for (const std::string_view top : {"/proc", "/sys", "/dev"})
    if (is_at_or_below(destination, top))
      return Error::make(Code::invalid_config, "the image declares a volume ", quoted(as_written), ": not allowed in ",
                         top);
  for (const std::string_view taken : {"/", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"})
    if (destination == taken)
      return Error::make(Code::invalid_config, "the image declares a volume ", quoted(as_written),
                         ": not allowed there");
  return {};
}

/// The options' volumes, then those of the image that no option covers.
Result<Volumes> all_volumes(const RunOptions& options, const ImageFacts& facts, std::vector<std::string>& notes) {
  Volumes volumes;
  for (VolumeOption volume : options.volumes) {
    volume.destination = TRY_CTX(clean_path(volume.destination), "volume ", quoted(volume.destination));
    TRY(check_destination(volume));
    if (volume.from_image) TRY(check_image_volume(volume.destination, volume.destination));
    if (volume_at(volumes, volume.destination) != nullptr)
      return Error::make(Code::invalid_config, "two volumes on ", quoted(volume.destination), ": give one");
    volumes.push_back(std::move(volume));
  }
  std::string named;
  for (const std::string& written : facts.config->run.volumes) {
    VolumeOption volume;
    volume.kind = VolumeOption::Kind::tmpfs;
    volume.from_image = true;
    volume.destination = TRY_CTX(clean_path(written), "the image declares a volume ", quoted(written));
    TRY(check_image_volume(volume.destination, written));
    if (volume_at(volumes, volume.destination) != nullptr) continue;
    named += str(named.empty() ? "" : ", ", printable(volume.destination));
    volumes.push_back(std::move(volume));
  }
  if (!named.empty())
    notes.push_back(
        str("image declares volumes ", named, ": they are tmpfs of one incarnation; -v SRC:DST keeps data"));
  return volumes;
}

bool has_propagation(const oci::Strings& options) {
  return std::any_of(options.begin(), options.end(),
                     [](const std::string& word) { return parse_propagation(word).has_value(); });
}

oci::Mount bind_of(const VolumeOption& volume, bool privileged) {
  oci::Strings options = volume.options;
  add_default(options, "rbind", "bind");
  if (!has_propagation(options)) options.emplace_back("rprivate");
  // What the host has mounted nosuid, nodev or noexec stays so (attack A52).
  options.emplace_back("src-flags");
  if (!privileged) {
    // A setuid file or a device node in a volume is not the image's to use (attack A45); what is bound from /dev is
    // there for its nodes.
    add_default(options, "nosuid", "suid");
    if (!is_at_or_below(volume.source, "/dev")) add_default(options, "nodev", "dev");
  }
  return {volume.destination, "bind", volume.source, std::move(options), {}, {}};
}

/// tmpfs over a directory of the image keeps what the image has there, with mode and owner, unless told otherwise.
oci::Mount tmpfs_of(const VolumeOption& volume) {
  oci::Strings options = volume.options;
  add_default(options, "nosuid", "suid");
  add_default(options, "nodev", "dev");
  if (!volume.from_image) add_default(options, "noexec", "exec");
  if (!has_key(options, "size")) options.emplace_back(kTmpfsSize);
  add_default(options, "tmpcopyup", "notmpcopyup");
  std::erase(options, "notmpcopyup");
  return {volume.destination, "tmpfs", "tmpfs", std::move(options), {}, {}};
}

// ---- what every container has ----

void add_kernel_mounts(const RunOptions& options, Mounts& mounts) {
  oci::Strings sealed{"nosuid", "noexec", "nodev"};
  mounts.push_back({"/proc", "proc", "proc", sealed, {}, {}});
  mounts.push_back({"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}, {}, {}});
  mounts.push_back({"/dev/pts",
                    "devpts",
                    "devpts",
                    {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"},
                    {},
                    {}});
  if (options.host_ipc) {
    mounts.push_back({"/dev/shm", "bind", "/dev/shm", {"rbind", "rprivate", "nosuid", "noexec", "nodev"}, {}, {}});
  } else {
    oci::Strings words = sealed;
    words.push_back("mode=1777");
    words.push_back(str("size=", options.shm_size.value_or(kShmSize)));
    mounts.push_back({"/dev/shm", "tmpfs", "shm", std::move(words), {}, {}});
  }
  mounts.push_back({"/dev/mqueue", "mqueue", "mqueue", sealed, {}, {}});
  if (!options.privileged) sealed.push_back("ro");
  mounts.push_back({"/sys", "sysfs", "sysfs", sealed, {}, {}});
  mounts.push_back({"/sys/fs/cgroup", "cgroup", "cgroup", std::move(sealed), {}, {}});
}

void add_files(const std::string& directory, Mounts& mounts) {
  for (const char* name : {"hosts", "hostname", "resolv.conf"})
    mounts.push_back({str("/etc/", name),
                      "bind",
                      str(directory, '/', name),
                      {"bind", "rprivate", "nosuid", "noexec", "nodev", "ro"},
                      {},
                      {}});
}

/// Places to write in a container whose root is read-only.
void add_scratch(const Volumes& volumes, Mounts& mounts) {
  constexpr std::pair<const char*, const char*> kPlaces[] = {
      {"/tmp", "mode=1777"}, {"/run", "mode=0755"}, {"/var/tmp", "mode=1777"}};
  for (const auto& [path, mode] : kPlaces)
    if (!is_covered(volumes, path))
      mounts.push_back(
          {path, "tmpfs", "tmpfs", {"nosuid", "nodev", mode, std::string(kTmpfsSize), "tmpcopyup"}, {}, {}});
}

/// A volume takes the place of a default at the same path; one on /dev that of everything below it too.
void drop_replaced(const Volumes& volumes, Mounts& mounts) {
  const bool own_dev = volume_at(volumes, "/dev") != nullptr;
  std::erase_if(mounts, [&](const oci::Mount& mount) {
    return volume_at(volumes, mount.destination) != nullptr || (own_dev && is_at_or_below(mount.destination, "/dev"));
  });
}

}  // namespace

Result<std::vector<oci::Mount>> make_mounts(const RunOptions& options, const ImageFacts& facts,
                                            std::vector<std::string>& notes) {
  const Volumes volumes = TRY(all_volumes(options, facts, notes));
  Mounts mounts;
  add_kernel_mounts(options, mounts);
  add_files(facts.files_dir, mounts);
  if (!options.writable) add_scratch(volumes, mounts);
  drop_replaced(volumes, mounts);
  for (const VolumeOption& volume : volumes)
    mounts.push_back(volume.kind == VolumeOption::Kind::bind ? bind_of(volume, options.privileged) : tmpfs_of(volume));
  const auto depth = [](const oci::Mount& mount) {
    return std::count(mount.destination.begin(), mount.destination.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(),
                   [&](const oci::Mount& a, const oci::Mount& b) { return depth(a) < depth(b); });
  return mounts;
}

Result<std::string> clean_path(std::string_view path) {
  if (!path.starts_with('/')) return Error::make(Code::invalid_config, "expected an absolute path");
  if (path.size() > kPathLimit) return Error::make(Code::invalid_config, "longer than ", kPathLimit, " bytes");
  if (path.find('\0') != std::string_view::npos) return Error::make(Code::invalid_config, "has a NUL byte");
  std::vector<std::string_view> kept;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") kept.push_back(part);
    else if (!kept.empty()) kept.pop_back();
  }
  std::string clean;
  for (const std::string_view part : kept) clean += str('/', part);
  return clean.empty() ? std::string("/") : clean;
}

bool is_at_or_below(std::string_view path, std::string_view top) {
  if (top == "/") return true;
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

}  // namespace skink::plan
