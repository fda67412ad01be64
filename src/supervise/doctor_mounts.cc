// SPDX-License-Identifier: Apache-2.0
// Doctor: mounts. In health none of ours can be seen on the host: roots and layers are detached from birth.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>

#include <algorithm>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/doctor.h"
#include "supervise/removal.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::supervise {
namespace {

constexpr std::size_t kMountinfoLimit = 64U << 20;

struct Mount {
  std::string point, type, source;
};

// "36 35 98:0 /root /point rw,noatime shared:1 - type source super-options"; proc_pid_mountinfo(5).
std::optional<Mount> parse_mount(std::string_view line) {
  constexpr std::size_t kPoint = 4;
  const auto sides = line.find(" - ");
  if (sides == line.npos) return std::nullopt;
  const auto left = split(line.substr(0, sides), ' ');
  const auto right = split(line.substr(sides + 3), ' ');
  if (left.size() <= kPoint || right.size() < 2) return std::nullopt;
  return Mount{sys::unescape_mount_field(left[kPoint]), std::string(right[0]), sys::unescape_mount_field(right[1])};
}

std::vector<Mount> mounts() {
  std::vector<Mount> all;
  const auto file = sys::open_at(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY);
  const auto text = file ? sys::read_all(file->get(), kMountinfoLimit, "mountinfo") : Result<std::string>(file.error());
  if (!text) return all;
  for (const auto line : split(*text, '\n'))
    if (auto mount = parse_mount(line)) all.push_back(std::move(*mount));
  return all;
}

// As overlay.cc names them.
bool is_named_ours(const Mount& mount) {
  if (mount.type == "overlay") return mount.source == "skink";
  return mount.type == "tmpfs" && (mount.source == "skink-upper" || mount.source == "skink-scaffold");
}

// What is below `top`, without the slash; nothing for `top` itself and for what is elsewhere.
std::string_view below(std::string_view path, std::string_view top) {
  if (!path.starts_with(top) || path.size() <= top.size() + 1 || path[top.size()] != '/') return {};
  return path.substr(top.size() + 1);
}

// The container in whose directory it is; empty when it is in none's.
std::string owner_of(std::string_view rest) {
  const auto parts = split(rest, '/');
  if (parts.size() < 2 || parts[0] != kContainers) return {};
  std::string_view name = parts[1];
  for (const auto prefix : {kNewPrefix, kGonePrefix})
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  return is_id(name) ? std::string(name) : std::string();
}

bool is_kept(const Roots& roots, const std::string& id) {
  const auto dir = open_container(roots, id);
  return dir && is_alive(dir->get());
}

// Looked at again: what is mounted there by now may be another's.
Result<void> take_off(const Roots& roots, const std::string& id, const Mount& mount) {
  if (is_kept(roots, id)) return Error::make(Code::busy, "its container is being started just now");
  const auto now = mounts();
  const auto top = std::find_if(now.rbegin(), now.rend(), [&](const Mount& one) { return one.point == mount.point; });
  if (top == now.rend()) return {};
  if (!is_named_ours(*top)) return Error::make(Code::busy, "something else is mounted over it");
  return sys::unmount(mount.point.c_str(), MNT_DETACH);
}

void check_inside(Ward& ward, const Mount& mount, std::string_view rest) {
  const Roots& roots = ward.roots();
  const std::string id = owner_of(rest);
  // What keeps the namespace in which layers are mounted.
  if (rest == "layers/pin" && mount.type == "nsfs") return;
  // A file system of its own for images/, containers/ and the like is the administrator's.
  if (rest.find('/') == rest.npos || (!id.empty() && is_kept(roots, id))) return;
  const std::string what = str("a mount (", mount.type, " of ", mount.source, ") in a directory of skink");
  if (is_named_ours(mount) && !id.empty())
    ward.problem("mount", mount.point, str(what, ", of a container that is not running"), "--fix takes it off",
                 [&roots, id, mount] { return take_off(roots, id, mount); });
  else
    ward.problem("foreign-mount", mount.point, str(what, ", which is not skink's; what is below cannot be removed"),
                 str("umount ", quoted(mount.point), " if nobody needs it; skink never touches it"));
}

}  // namespace

void check_mounts(Ward& ward) {
  for (const Mount& mount : mounts()) {
    std::string_view rest = below(mount.point, ward.options().store);
    if (rest.empty()) rest = below(mount.point, ward.options().run);
    if (!rest.empty()) check_inside(ward, mount, rest);
    // "/" is ours when we run in one of our containers.
    else if (is_named_ours(mount) && mount.point != "/")
      ward.note("foreign-mount", mount.point,
                str("a mount with a name of skink (", mount.source, ") outside its directories"),
                "whoever put it there knows why; skink never touches it");
  }
}

}  // namespace skink::supervise
