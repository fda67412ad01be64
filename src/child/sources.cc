// SPDX-License-Identifier: Apache-2.0
// Sources of binds that are cloned when it is their turn in the list of mounts: those of the host, which the launcher
// has opened, and those inside the root, where earlier mounts of the list are by then.
#include "child/context.h"

namespace skink::child {
namespace {

constexpr int kMountNamespace = 0x00020000;  // CLONE_NEWNS
constexpr __u64 kPrivate = 1U << 18;         // MS_PRIVATE

plan::Mount* mounts_of(const Context& context) {
  return reinterpret_cast<plan::Mount*>(context.bytes(context.plan().mounts.at));
}

// A detached copy of what `source_fd` is open on takes its place in the list.
long clone_source(plan::Mount& mount, int source_fd) {
  const int recursive = (mount.flags & plan::kMountRecursive) != 0 ? kRecursive : 0;
  const long tree =
      call(__NR_open_tree, source_fd, arg(""), 1 /* OPEN_TREE_CLONE */ | kOpenCloexec | kEmptyPath | recursive);
  close_fd(source_fd);
  if (tree >= 0) mount.fd = static_cast<int>(tree);
  return tree;
}

// Without a word on propagation it is private, and all that came with it.
long set_propagation(plan::Mount& mount) {
  const bool recursive = mount.propagation == 0 || mount.propagation_recursive != 0;
  const __u64 propagation = mount.propagation != 0 ? mount.propagation : kPrivate;
  mount.propagation = 0;
  return set_attributes(mount.fd, recursive ? static_cast<unsigned>(kRecursive) : 0, 0, 0, propagation);
}

// setns(2) has put us at the top of what is mounted on "/", which may be the container's root already. What is still
// to be taken from the host's tree is not to be taken from there (attack A11).
long return_to_own_mounts(const Context& context) {
  long rc = call(__NR_setns, context.own_mounts_fd, kMountNamespace);
  if (rc >= 0) rc = call(__NR_fchdir, context.old_root_fd);
  if (rc >= 0) rc = call(__NR_chroot, arg("."));
  return rc;
}

}  // namespace

Fault remember_own_mounts(Context& context) {
  if (context.plan().host_mounts_fd < 0) return {};
  const long mounts = open_at(kHere, "/proc/self/ns/mnt", kOpenRead);
  CHILD_TRY(check(mounts, Step::propagation));
  context.own_mounts_fd = static_cast<int>(mounts);
  const long root = open_at(kHere, "/", kOpenPath | kOpenDirectory);
  CHILD_TRY(check(root, Step::propagation));
  context.old_root_fd = static_cast<int>(root);
  return {};
}

void forget_own_mounts(Context& context) {
  if (context.old_root_fd < 0) return;
  close_fd(context.plan().host_mounts_fd);
  close_fd(context.own_mounts_fd);
  close_fd(context.old_root_fd);
  context.own_mounts_fd = context.old_root_fd = -1;
}

// Only what belongs to the mount namespace that one is in can be cloned (man 2 open_tree), and what the launcher has
// opened is in the launcher's. Nothing is looked up there, and nothing is done there but this.
Fault clone_host_sources(Context& context, unsigned first) {
  plan::Mount* mounts = mounts_of(context);
  CHILD_TRY(check(call(__NR_setns, context.plan().host_mounts_fd, kMountNamespace), Step::mount_source, first));
  for (unsigned i = first; i < context.plan().mounts.count; ++i) {
    // Order: what makes a mount of its own at its turn has to have its number before those behind it.
    if (mounts[i].kind == static_cast<unsigned>(plan::MountKind::fs) || (mounts[i].flags & plan::kMountOfRoot) != 0)
      break;
    if ((mounts[i].flags & plan::kMountOfHost) == 0) continue;
    // A group that is not made yet.
    if (mounts[i].fd < 0) break;
    mounts[i].flags &= ~plan::kMountOfHost;
    CHILD_TRY(check(clone_source(mounts[i], mounts[i].fd), Step::mount_source, i));
    CHILD_TRY(check(set_propagation(mounts[i]), Step::mount_propagation, i));
  }
  return check(return_to_own_mounts(context), Step::mount_source, first);
}

Fault clone_root_source(Context& context, unsigned index) {
  plan::Mount& mount = mounts_of(context)[index];
  const int nofollow = (mount.flags & plan::kMountSourceNofollow) != 0 ? kOpenNofollow : 0;
  const int root = context.covered_root_fd >= 0 ? context.covered_root_fd : context.root_fd;
  const long source = open_in_root(root, context.text(mount.source), kOpenPath | nofollow);
  CHILD_TRY(check(source, Step::mount_source, index));
  FileStatus status;
  CHILD_TRY(check(stat_fd(static_cast<int>(source), status), Step::mount_source, index));
  if ((status.mode & kFileTypeMask) != kDirectory) mount.flags |= plan::kMountTargetIsFile;
  CHILD_TRY(check(clone_source(mount, static_cast<int>(source)), Step::mount_source, index));
  CHILD_TRY(check(set_propagation(mount), Step::mount_propagation, index));
  if ((mount.flags & plan::kMountMapped) == 0) return {};
  CHILD_TRY(ensure_placed(context));
  plan::Message message{};
  message.kind = static_cast<unsigned>(plan::Kind::map);
  message.arg = static_cast<int>(index);
  CHILD_TRY(check(send_message(context, message, mount.fd), Step::protocol));  // 9
  return check(await_message(context, plan::Kind::proceed), Step::protocol);   // 5
}

}  // namespace skink::child
