// SPDX-License-Identifier: Apache-2.0
#include "supervise/rootfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "image/posix_acl.h"
#include "supervise/overlay.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::supervise {
namespace {

struct Target {
  std::string path;
  bool directory = true;
};

bool is_bind(const oci::Mount& mount) {
  const auto& words = mount.options;
  return mount.type == "bind" || std::find(words.begin(), words.end(), "bind") != words.end() ||
         std::find(words.begin(), words.end(), "rbind") != words.end();
}

bool is_below(std::string_view path, std::string_view top) {
  while (top.ends_with('/')) top.remove_suffix(1);
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

// What must exist in the root before the mounts are made, apart from what lies below an earlier mount.
std::vector<Target> targets_of(const oci::Spec& spec) {
  std::vector<Target> targets;
  std::vector<std::string_view> covered;
  const auto hidden = [&](std::string_view path) {
    return std::any_of(covered.begin(), covered.end(), [&](std::string_view top) { return is_below(path, top); });
  };
  for (const auto& mount : spec.mounts) {
    if (!hidden(mount.destination)) {
      bool directory = true;
      if (is_bind(mount)) {
        const auto source = sys::stat_at(AT_FDCWD, mount.source.c_str(), 0);
        directory = !source || S_ISDIR(source->st_mode);
      }
      targets.push_back({mount.destination, directory});
    }
    covered.push_back(mount.destination);
  }
  // docker makes a WORKDIR that the image lacks.
  if (spec.process && !spec.process->cwd.empty() && !hidden(spec.process->cwd))
    targets.push_back({spec.process->cwd, true});
  return targets;
}

// The directory that exists, as deep as possible, on the way to `path`, and the names that are missing below it.
struct Gap {
  UniqueFd parent;
  std::vector<std::string> missing;
};

Result<Gap> find_gap(int root_fd, const std::string& path) {
  Gap gap;
  gap.parent = TRY(sys::open_in_root(root_fd, "/", O_PATH | O_DIRECTORY));
  std::string at;
  const auto parts = split(path, '/');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty() || parts[i] == ".") continue;
    at += str("/", parts[i]);
    auto next = sys::open_in_root(root_fd, at.c_str(), O_PATH);
    if (next) {
      gap.parent = std::move(*next);
      continue;
    }
    if (next.error().errnum() != ENOENT) return std::move(next.error().context(quoted(path)));
    for (; i < parts.size(); ++i)
      if (!parts[i].empty() && parts[i] != ".") gap.missing.emplace_back(parts[i]);
  }
  return gap;
}

// Where a directory inside a detached mount is, symlinks resolved: "/a/b". The kernel knows.
Result<std::string> path_in_mount(int fd) {
  std::string path = TRY(sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", fd).c_str()));
  constexpr std::string_view kUnreachable = "(unreachable)";
  if (path.starts_with(kUnreachable)) path.erase(0, kUnreachable.size());
  if (!path.starts_with('/')) return Error::make(Code::internal, "a directory of the image has no path");
  return path;
}

// The scaffold's directory `name` below `parent_fd`, with the metadata of the image's directory: it is the topmost
// layer, so its mode and owner are the ones that count.
Result<UniqueFd> copy_dir(int parent_fd, const char* name, const struct stat& like) {
  auto made = sys::mkdir_at(parent_fd, name, 0700);
  const bool fresh = made.has_value();
  if (!made && made.error().errnum() != EEXIST) return std::move(made).error();
  UniqueFd dir = TRY(sys::open_beneath(parent_fd, name, O_RDONLY | O_DIRECTORY));
  if (!fresh) return dir;
  if (::fchown(dir.get(), like.st_uid, like.st_gid) != 0) return Error::from_errno(errno, "chown ", printable(name));
  if (::fchmod(dir.get(), like.st_mode & 07777) != 0) return Error::from_errno(errno, "chmod ", printable(name));
  return dir;
}

void copy_times(int to_fd, const struct stat& like) {
  const timespec times[2] = {like.st_atim, like.st_mtim};
  (void)::futimens(to_fd, times);
}

// Makes the way to a gap's parent in the scaffold, as the image has it.
Result<UniqueFd> copy_way(int root_fd, int scaffold_fd, const std::string& path) {
  UniqueFd at = TRY(sys::open_at(scaffold_fd, ".", O_RDONLY | O_DIRECTORY));
  std::string done;
  for (const auto part : split(path, '/')) {
    if (part.empty()) continue;
    done += str("/", part);
    const UniqueFd original = TRY(sys::open_in_root(root_fd, done.c_str(), O_PATH | O_DIRECTORY));
    const auto like = TRY(sys::stat_fd(original.get(), done));
    at = TRY(copy_dir(at.get(), std::string(part).c_str(), like));
    copy_times(at.get(), like);
  }
  return at;
}

Result<void> make_missing(int parent_fd, const Gap& gap, bool directory) {
  UniqueFd at = TRY(sys::open_at(parent_fd, ".", O_RDONLY | O_DIRECTORY));
  for (std::size_t i = 0; i < gap.missing.size(); ++i) {
    const char* name = gap.missing[i].c_str();
    if (i + 1 == gap.missing.size() && !directory) {
      const auto file = sys::open_at(at.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
      if (!file && file.error().errnum() != EEXIST) return file.error();
      if (file && ::fchmod(file->get(), 0644) != 0) return Error::from_errno(errno, "chmod ", printable(name));
      return {};
    }
    auto made = sys::mkdir_at(at.get(), name, 0755);
    if (!made && made.error().errnum() != EEXIST) return made;
    at = TRY(sys::open_beneath(at.get(), name, O_RDONLY | O_DIRECTORY));
    // Again, as mkdir takes the umask off.
    if (made && ::fchmod(at.get(), 0755) != 0) return Error::from_errno(errno, "chmod ", printable(name));
  }
  return {};
}

// The scaffold for what is missing in `root_fd`: -1 when nothing is.
Result<UniqueFd> make_scaffold(int root_fd, const std::vector<Target>& targets) {
  UniqueFd scaffold;
  for (const auto& target : targets) {
    const Gap gap = TRY(find_gap(root_fd, target.path));
    if (gap.missing.empty()) continue;
    const auto parent = TRY(sys::stat_fd(gap.parent.get(), target.path));
    if (!S_ISDIR(parent.st_mode))
      return Error::make(Code::invalid_config, quoted(target.path),
                         ": a part of this path is no directory in the image");
    if (!scaffold) {
      scaffold = TRY(mount_scaffold_tmpfs());
      const auto top = TRY(sys::stat_fd(root_fd, "/"));
      if (::fchmodat(scaffold.get(), ".", top.st_mode & 07777, 0) != 0 ||
          ::fchownat(scaffold.get(), ".", top.st_uid, top.st_gid, 0) != 0)
        return Error::from_errno(errno, "scaffold's top directory");
    }
    const UniqueFd way = TRY(copy_way(root_fd, scaffold.get(), TRY(path_in_mount(gap.parent.get()))));
    TRY_CTX(make_missing(way.get(), gap, target.directory), "scaffold for ", quoted(target.path));
  }
  return scaffold;
}

Result<UniqueFd> make_sub_dir(int parent_fd, const char* name, mode_t mode) {
  TRY(sys::mkdir_at(parent_fd, name, mode));
  return sys::open_at(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

// Owner, mode and ACLs of the directory of an O_PATH descriptor.
Result<void> copy_top(int from_fd, int to_fd) {
  const UniqueFd from = TRY(sys::open_at(from_fd, ".", O_RDONLY | O_DIRECTORY));
  const auto top = TRY(sys::stat_fd(from.get(), "/"));
  mode_t mode = top.st_mode & 07777;
  if (::fchown(to_fd, top.st_uid, top.st_gid) != 0) return Error::from_errno(errno, "chown");
  for (const char* name : {image::kAclAccess.data(), image::kAclDefault.data()}) {
    const ssize_t size = ::fgetxattr(from.get(), name, nullptr, 0);
    if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP)) continue;
    std::string value(static_cast<std::size_t>(std::max<ssize_t>(size, 0)), '\0');
    if (size < 0 || ::fgetxattr(from.get(), name, value.data(), value.size()) != size)
      return Error::from_errno(errno, "get xattr ", name);
    if (::fsetxattr(to_fd, name, value.data(), value.size(), 0) == 0) continue;
    if (!image::has_no_room_for_acl(errno)) return Error::from_errno(errno, "set xattr ", name);
    // The mode's group bits are the mask of an ACL that this file system cannot hold.
    if (name == image::kAclAccess) mode = image::mode_without(image::parse_acl(value), mode);
  }
  // Order: last, as chown clears bits of it and an ACL sets some.
  if (::fchmod(to_fd, mode) != 0) return Error::from_errno(errno, "chmod");
  return {};
}

}  // namespace

RootRequest root_request(const image::Lowers& lowers) {
  RootRequest request;
  for (const auto& dir : lowers.dirs) request.lowers.push_back(dir.get());
  request.space_fd = lowers.space.get();
  for (const std::size_t i : lowers.outside) request.outside.push_back(request.lowers[i]);
  if (lowers.detached >= 0) request.detached_fd = request.lowers[static_cast<std::size_t>(lowers.detached)];
  return request;
}

std::string root_key(const oci::Spec& spec) {
  std::string key;
  for (const auto& target : targets_of(spec)) key += str(target.path, '\0', target.directory ? 'd' : 'f');
  return key;
}

Result<UniqueFd> make_root(const RootRequest& request) {
  OverlayLayers layers{.lowers = request.lowers,
                       .detached_fd = request.detached_fd,
                       .space_fd = request.space_fd,
                       .outside = request.outside};
  std::vector<int>& lowers = layers.lowers;
  if (lowers.empty()) return Error::make(Code::corrupt, "the image has no layers");
  if (request.upper_parent_fd >= 0) {
    const UniqueFd upper = TRY(make_sub_dir(request.upper_parent_fd, "upper", 0755));
    TRY(sys::mkdir_at(request.upper_parent_fd, "work", 0700));
    // The upper layer's top is the root directory that the container sees: it has to look like the image's.
    TRY_CTX(copy_top(lowers.front(), upper.get()), "upper layer's top directory");
    layers.upper_parent_fd = request.upper_parent_fd;
    if (request.upper_detached) layers.detached_fd = request.upper_parent_fd;
    return mount_overlay(layers);
  }
  // An overlay without an upper needs two layers: an empty one does.
  UniqueFd filler;
  if (lowers.size() == 1) {
    filler = TRY(mount_scaffold_tmpfs());
    lowers.push_back(filler.get());
    layers.detached_fd = filler.get();
  }
  UniqueFd root = TRY(mount_overlay(layers));
  if (request.spec == nullptr) return root;
  const UniqueFd scaffold = TRY(make_scaffold(root.get(), targets_of(*request.spec)));
  if (!scaffold) return root;
  lowers.insert(lowers.begin(), scaffold.get());
  layers.detached_fd = scaffold.get();
  return mount_overlay(layers);
}

}  // namespace skink::supervise
