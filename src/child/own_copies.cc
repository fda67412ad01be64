// SPDX-License-Identifier: Apache-2.0
// The host's trees for a container in a user namespace: the kernel's own copies of them, whose flags are locked. A tree
// that comes by descriptor is not: root of the user namespace could take "ro" off it (docs/decisions/own-copies.md).
#include "child/context.h"

namespace skink::child {
namespace {

constexpr char kRootName[] = "r";

// "m12": what the stage has for mounts[12]; "d3": for devices[3].
struct Name {
  char text[12];
  Name(char kind, unsigned number) : text{} {
    char digits[10];
    Size count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    Size at = 0;
    text[at++] = kind;
    while (count > 0) text[at++] = digits[--count];
    text[at] = 0;
  }
};

plan::Mount* mounts_of(const Context& context) {
  return reinterpret_cast<plan::Mount*>(context.bytes(context.plan().mounts.at));
}

bool is_outside(const plan::Mount& mount) {
  return mount.kind == static_cast<unsigned>(plan::MountKind::tree) && mount.fd >= 0;
}

// A tmpfs over the bundle, or where the container's root is going to be. Of the host's user namespace, so that device
// nodes can be made in it.
Fault make_stage(const Context& context, int& stage) {
  const long config = call(__NR_fsopen, arg("tmpfs"), 1 /* FSOPEN_CLOEXEC */);
  CHILD_TRY(check(config, Step::own_copies));
  const int fs = static_cast<int>(config);
  long rc = call(__NR_fsconfig, fs, FSCONFIG_SET_STRING, arg("mode"), arg("0755"), 0);
  if (rc >= 0) rc = call(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
  if (rc >= 0) rc = call(__NR_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  close_fd(fs);
  CHILD_TRY(check(rc, Step::own_copies));
  stage = static_cast<int>(rc);
  if (context.plan().stage_path == 0) return {Step::own_copies, 0, ENOENT};
  const long place = open_at(kHere, context.text(context.plan().stage_path), kOpenPath | kOpenDirectory);
  CHILD_TRY(check(place, Step::own_copies));
  rc = move_mount(stage, static_cast<int>(place));
  close_fd(static_cast<int>(place));
  CHILD_TRY(check(rc, Step::own_copies));
  return check(call(__NR_fchdir, stage), Step::own_copies);
}

long stand(int stage, const char* name, int tree_fd) {
  FileStatus status;
  long rc = stat_fd(tree_fd, status);
  if (rc < 0) return rc;
  const bool directory = (status.mode & kFileTypeMask) == kDirectory;
  rc =
      directory ? call(__NR_mkdirat, stage, arg(name), 0755) : call(__NR_mknodat, stage, arg(name), kRegular | 0600, 0);
  if (rc < 0) return rc;
  const long place = open_at(stage, name, kOpenPath | kOpenNofollow);
  if (place < 0) return place;
  rc = move_mount(tree_fd, static_cast<int>(place));
  close_fd(static_cast<int>(place));
  return rc;
}

// Order: the flags of its words too, before the kernel copies and locks them.
Fault stand_mounts(Context& context, int stage) {
  plan::Mount* mounts = mounts_of(context);
  for (unsigned i = 0; i < context.plan().mounts.count; ++i) {
    plan::Mount& mount = mounts[i];
    if (!is_outside(mount)) continue;
    CHILD_TRY(apply_attributes(context, mount, i, mount.fd));
    mount.attr_set = mount.attr_clr = mount.rec_set = mount.rec_clr = 0;
    mount.flags &= ~plan::kMountReplacesFlags;
    CHILD_TRY(check(stand(stage, Name('m', i).text, mount.fd), Step::mount_source, i));
  }
  return {};
}

// A node that the host has is bound; one that it has not is made here, where that can still be done.
Fault stand_devices(const Context& context, int stage) {
  const auto* devices = context.array<plan::DeviceNode>(context.plan().devices);
  for (unsigned i = 0; i < context.plan().devices.count; ++i) {
    const plan::DeviceNode& device = devices[i];
    const Name name('d', i);
    const long rc = device.bind_fd >= 0 ? stand(stage, name.text, device.bind_fd)
                    : device.stage != 0 ? make_node(stage, name.text, device)
                                        : 0;
    CHILD_TRY(check(rc, Step::make_device, i));
  }
  return {};
}

// What stands in the stage, as a detached tree.
long take(const char* name) {
  constexpr long kClone = 1;  // OPEN_TREE_CLONE
  return call(__NR_open_tree, kHere, arg(name), kClone | kOpenCloexec | kSymlinkNofollow | kRecursive);
}

long take_over(int& fd, const char* name) {
  const long tree = take(name);
  if (tree < 0) return tree;
  if (fd >= 0) close_fd(fd);
  fd = static_cast<int>(tree);
  return 0;
}

}  // namespace

Fault stage_own_copies(Context& context) {
  if (!context.has(plan::kOwnCopies)) return {};
  constexpr unsigned long kNewMounts = 0x00020000;  // CLONE_NEWNS
  CHILD_TRY(check(call(__NR_unshare, kNewMounts), Step::own_copies));
  // Order: before the first mount of ours, so that none can propagate to the host (attack A50).
  CHILD_TRY(make_mounts_private(context));
  int stage = -1;
  CHILD_TRY(make_stage(context, stage));
  CHILD_TRY(check(stand(stage, kRootName, context.plan().root_fd), Step::attach_root));
  CHILD_TRY(stand_mounts(context, stage));
  CHILD_TRY(stand_devices(context, stage));
  close_fd(stage);
  return {};
}

Fault take_own_copies(Context& context) {
  if (!context.has(plan::kOwnCopies)) return {};
  // Order: the working directory is the stage; clone(2) has put us into our own copy of it.
  context.root_fd = context.plan().root_fd;
  CHILD_TRY(check(take_over(context.root_fd, kRootName), Step::attach_root));
  plan::Mount* mounts = mounts_of(context);
  for (unsigned i = 0; i < context.plan().mounts.count; ++i)
    if (is_outside(mounts[i])) CHILD_TRY(check(take_over(mounts[i].fd, Name('m', i).text), Step::mount_source, i));
  auto* devices = reinterpret_cast<plan::DeviceNode*>(context.bytes(context.plan().devices.at));
  for (unsigned i = 0; i < context.plan().devices.count; ++i)
    if (devices[i].bind_fd >= 0 || devices[i].stage != 0)
      CHILD_TRY(check(take_over(devices[i].bind_fd, Name('d', i).text), Step::make_device, i));
  return check(call(__NR_chdir, arg("/")), Step::own_copies);
}

}  // namespace skink::child
