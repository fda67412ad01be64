// SPDX-License-Identifier: Apache-2.0
#include "sys/mount_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "sys/file.h"
#include "sys/mount.h"

namespace skink::sys {

namespace {

// PIDFD_GET_MNT_NAMESPACE (6.11), which Debian 12's headers lack: a third of the time that /proc takes to show a
// process.
Result<UniqueFd> open_own_namespace() {
  constexpr unsigned long kGetMountNamespace = _IO(0xFF, 3);
  const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (self)
    if (const int space = ::ioctl(self.get(), kGetMountNamespace, 0); space >= 0) return UniqueFd(space);
  return open_at(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY);
}

}  // namespace

Result<MountPlace> MountPlace::current() {
  MountPlace here;
  here.space_ = TRY(open_own_namespace());
  here.root_ = TRY(open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  here.directory_ = TRY(open_at(AT_FDCWD, ".", O_PATH | O_DIRECTORY));
  return here;
}

Result<void> MountPlace::enter(int namespace_fd) {
  if (::setns(namespace_fd, CLONE_NEWNS) != 0) return Error::from_errno(errno, "setns to a mount namespace");
  return {};
}

Result<void> MountPlace::go_back() const {
  TRY(enter(space_.get()));
  const UniqueFd top = TRY(open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  const auto was = TRY(stat_fd(root_.get(), "/"));
  const auto is = TRY(stat_fd(top.get(), "/"));
  // A process in a chroot comes out at the namespace's root.
  if (was.st_dev != is.st_dev || was.st_ino != is.st_ino || TRY(mount_id(root_.get())) != TRY(mount_id(top.get()))) {
    if (::fchdir(root_.get()) != 0 || ::chroot(".") != 0) return Error::from_errno(errno, "chroot");
  }
  if (::fchdir(directory_.get()) != 0) return Error::from_errno(errno, "fchdir");
  return {};
}

}  // namespace skink::sys
