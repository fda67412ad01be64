// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_host_root.h"

#include <fcntl.h>
#include <linux/mount.h>

#include "base/text.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::cli {
namespace {

constexpr std::uint64_t kMsPrivate = 1U << 18;

Result<void> make_private(const HostRoot& root, std::string_view what) {
  sys::MountChange change;
  change.propagation = kMsPrivate;
  change.recursive = true;
  return sys::change_mount(root.mount.get(), change, what);
}

}  // namespace

bool lives_in_host_mounts(const oci::Spec& spec) { return spec.find_namespace(oci::NamespaceType::mount) == nullptr; }

Result<HostRoot> open_host_root(const std::string& rootfs) {
  const auto what = str("root.path: ", printable(rootfs));
  const UniqueFd dir = TRY_CTX(sys::open_at(AT_FDCWD, rootfs.c_str(), O_PATH | O_DIRECTORY), "root.path");
  HostRoot root;
  root.mount = TRY(sys::open_tree(dir.get(), "",
                                  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | unsigned{AT_RECURSIVE}, what));
  TRY(make_private(root, what));
  root.id = TRY(sys::mount_id(root.mount.get()));
  return root;
}

Result<void> attach_host_root(const HostRoot& root, const std::string& rootfs) {
  const auto what = str("root.path: ", printable(rootfs));
  const UniqueFd dir = TRY_CTX(sys::open_at(AT_FDCWD, rootfs.c_str(), O_PATH | O_DIRECTORY), "root.path");
  TRY(sys::attach_mount(root.mount.get(), dir.get(), what));
  // Order: a mount on a shared one becomes shared itself (Documentation/filesystems/sharedsubtree.rst, 5d).
  return make_private(root, what);
}

Result<void> detach_host_root(const std::string& rootfs, std::uint64_t id) {
  const auto dir = sys::open_at(AT_FDCWD, rootfs.c_str(), O_PATH | O_DIRECTORY);
  // What is mounted there may be an engine's: only the recorded mount is ours to take off.
  if (!dir || sys::mount_id(dir->get()).value_or(0) != id) return {};
  constexpr int kDetach = 2;  // MNT_DETACH: its processes are dead, but not always reaped
  return sys::unmount(rootfs.c_str(), kDetach);
}

}  // namespace skink::cli
