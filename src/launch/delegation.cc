// SPDX-License-Identifier: Apache-2.0
#include "launch/delegation.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "fs/dir.h"
#include "launch/id_maps.h"
#include "sys/process.h"

namespace skink::launch {
namespace {

bool is_writable_view(const plan::MountStep& mount) {
  const std::uint64_t set = mount.options.attr_set | mount.options.rec_set;
  return mount.type == "cgroup2" && (mount.flags & plan::kMountNeedsCgroup) != 0 && (set & MOUNT_ATTR_RDONLY) == 0;
}

bool has_user_namespace(const plan::LaunchPlan& plan) {
  const auto joins_one = [](const auto& join) { return join.type == oci::NamespaceType::user; };
  return (plan.flags & plan::kHasUserNamespace) != 0 || std::ranges::any_of(plan.joins, joins_one);
}

// Nothing: it has none outside, so nobody can own anything.
Result<std::optional<std::uint32_t>> owner_outside(const plan::LaunchPlan& plan) {
  const std::uint32_t uid = plan.process.user.uid;
  if (!has_user_namespace(plan)) return std::optional<std::uint32_t>(uid);
  return host_id(TRY(maps_of(plan)).uids, uid);
}

// /sys/kernel/cgroup/delegate has a name a line (Linux 4.15).
std::string delegated_files() {
  constexpr std::size_t kMost = 4096;
  auto names = fs::read_file(AT_FDCWD, "/sys/kernel/cgroup/delegate", kMost);
  return names ? *std::move(names) : "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";
}

Result<void> give(int dir_fd, const std::string& name, std::uint32_t uid) {
  const int flags = name.empty() ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
  constexpr auto kKeep = static_cast<gid_t>(-1);
  if (::fchownat(dir_fd, name.c_str(), uid, kKeep, flags) == 0 || errno == ENOENT) return {};
  const bool not_ours = (errno == EPERM || errno == EINVAL || errno == EROFS) && sys::in_user_namespace();
  if (not_ours) return {};
  return Error::from_errno(errno, "give the container's user its control group", name.empty() ? "" : ": ", name);
}

}  // namespace

Result<void> delegate_group(const plan::LaunchPlan& plan, const cgroup::Group& group) {
  if ((plan.flags & plan::kNewCgroupNamespace) == 0 || !std::ranges::any_of(plan.mounts, is_writable_view)) return {};
  const auto places = group.location();
  if (places.layout != cgroup::Layout::v2) return {};
  const auto uid = TRY(owner_outside(plan));
  if (!uid || *uid == ::geteuid()) return {};
  const std::string files = delegated_files();
  Result<void> given;
  group.each([&](const cgroup::Place&, int dir_fd) {
    given = give(dir_fd, "", *uid);
    for (const std::string_view name : split(files, '\n'))
      if (given && !name.empty()) given = give(dir_fd, std::string(name), *uid);
  });
  return given;
}

}  // namespace skink::launch
