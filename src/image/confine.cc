// SPDX-License-Identifier: Apache-2.0
#include "image/confine.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

namespace skink::image {
namespace {

constexpr unsigned kOther = 65534;  // the user whom nothing belongs to

#if defined(__x86_64__)
constexpr std::uint32_t kArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArch = AUDIT_ARCH_AARCH64;
#endif

constexpr std::array kCalls = {
    __NR_read,         __NR_write,           __NR_pread64,      __NR_pwrite64, __NR_ftruncate,
    __NR_close,        __NR_munmap,          __NR_mremap,       __NR_brk,      __NR_madvise,
    __NR_exit,         __NR_exit_group,      __NR_getrandom,    __NR_futex,    __NR_rt_sigaction,
    __NR_rt_sigreturn, __NR_restart_syscall, __NR_clock_gettime};
struct Never {
  std::size_t argument;
  std::uint32_t bits;
  std::uint32_t answer = SECCOMP_RET_KILL_PROCESS;
};
struct MemoryCall {
  long number;
  std::vector<Never> never;
};

// No memory that runs; and none that RLIMIT_DATA does not count: what is shared, what grows as a stack does
// (is_data_mapping() of the kernel's mm), and what is made writable later, which mprotect(2) lets pass once the address
// space is full. malloc() does that where the heap cannot grow any more, and takes no for an answer.
std::vector<MemoryCall> memory_calls() {
  return {{__NR_mmap, {{2, PROT_EXEC}, {3, MAP_SHARED | MAP_GROWSDOWN}}},
          {__NR_mprotect, {{2, PROT_EXEC}, {2, PROT_WRITE, SECCOMP_RET_ERRNO | ENOMEM}}}};
}

Result<void> close_others(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned from = 0;
  for (const int fd : keep) {
    const auto at = static_cast<unsigned>(fd);
    if (at > from && ::syscall(SYS_close_range, from, at - 1, 0) != 0) return Error::from_errno(errno, "close_range");
    from = std::max(from, at + 1);
  }
  if (::syscall(SYS_close_range, from, ~0U, 0) != 0) return Error::from_errno(errno, "close_range");
  return {};
}

// At the hard limit of processor time the kernel sends SIGKILL, which says nothing: the soft one comes first.
constexpr rlim_t kLastSeconds = 5;
static_assert(RLIM_INFINITY == ConfineLimits::kUnlimited);

// Lower limits stay: raising one takes a privilege that root in a container may not have.
Result<void> limit(const ConfineLimits& limits) {
  const std::pair<__rlimit_resource_t, rlim_t> all[] = {{RLIMIT_DATA, limits.memory},
                                                        {RLIMIT_AS, limits.mapped},
                                                        {RLIMIT_CPU, limits.seconds},
                                                        {RLIMIT_FSIZE, limits.file_size},
                                                        {RLIMIT_NOFILE, 0},
                                                        {RLIMIT_NPROC, 0},
                                                        {RLIMIT_CORE, 0},
                                                        {RLIMIT_MEMLOCK, 0}};
  for (const auto& [what, most] : all) {
    rlimit now{};
    if (::getrlimit(what, &now) != 0) return Error::from_errno(errno, "getrlimit");
    const bool warns = what == RLIMIT_CPU && most < RLIM_INFINITY - kLastSeconds;
    const rlimit both{std::min(most, now.rlim_cur), std::min(warns ? most + kLastSeconds : most, now.rlim_max)};
    if (::setrlimit(what, &both) != 0) return Error::from_errno(errno, "setrlimit");
  }
  return {};
}

Result<void> drop_identity() {
  if (::setgroups(0, nullptr) != 0) return Error::from_errno(errno, "setgroups");
  // In a user namespace that does not have this user, root without capabilities and calls has to do.
  const bool moved = ::setresgid(kOther, kOther, kOther) == 0 && ::setresuid(kOther, kOther, kOther) == 0;
  if (!moved && errno != EINVAL) return Error::from_errno(errno, "setresuid");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return Error::from_errno(errno, "capset");
  return {};
}

// A classic BPF program over struct seccomp_data: Documentation/userspace-api/seccomp_filter.rst.
std::vector<sock_filter> make_filter() {
  const auto load = [](std::size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
  };
  constexpr sock_filter kAllow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  constexpr sock_filter kKill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  std::vector<sock_filter> filter{load(offsetof(seccomp_data, arch)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArch, 1, 0),
                                  kKill, load(offsetof(seccomp_data, nr))};
  for (const long call : kCalls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1));
    filter.push_back(kAllow);
  }
  for (const MemoryCall& call : memory_calls()) {
    constexpr std::size_t kOfEach = 3;
    const auto past = static_cast<std::uint8_t>(kOfEach * call.never.size() + 1);
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call.number), 0, past));
    for (const Never& never : call.never) {
      filter.push_back(load(offsetof(seccomp_data, args) + never.argument * sizeof(std::uint64_t)));
      filter.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, never.bits, 0, 1));
      filter.push_back(BPF_STMT(BPF_RET | BPF_K, never.answer));
    }
    filter.push_back(kAllow);
  }
  filter.push_back(kKill);
  return filter;
}

}  // namespace

Result<void> confine(std::vector<int> keep, const ConfineLimits& limits) {
  TRY(close_others(std::move(keep)));
  if (!kIsWatched) TRY(limit(limits));
  TRY(drop_identity());
  // Order: a change of the user takes these back.
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return Error::from_errno(errno, "prctl");
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return Error::from_errno(errno, "prctl");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Error::from_errno(errno, "no_new_privs");
  if (kIsWatched) return {};
  auto filter = make_filter();
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return Error::from_errno(errno, "seccomp");
  return {};
}

}  // namespace skink::image
