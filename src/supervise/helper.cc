// SPDX-License-Identifier: Apache-2.0
#include "supervise/helper.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "supervise/guard/protocol.h"
#include "sys/process.h"

namespace skink::supervise {
namespace {

void close_all_but(std::span<const int> keep) {
  unsigned from = 3;
  for (const int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (kept > from) ::syscall(SYS_close_range, from, kept - 1, 0);
    from = kept + 1;
  }
  ::syscall(SYS_close_range, from, ~0U, 0);
}

}  // namespace

Result<UniqueFd> start_helper(const char* name, std::span<const int> keep, const std::function<int()>& work) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno(errno, "fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Order: it may have died before that.
    if (::getppid() != parent) ::_exit(1);
    ::prctl(PR_SET_NAME, name);
    if (keep.empty()) ::close(kFdAlive);
    else close_all_but(keep);
    ::_exit(work());
  }
  auto pidfd = sys::open_pidfd(pid);
  if (pidfd) return pidfd;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  return pidfd;
}

}  // namespace skink::supervise
