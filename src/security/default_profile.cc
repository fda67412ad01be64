// SPDX-License-Identifier: Apache-2.0
// default_seccomp: the calls that a container may make when nobody says otherwise.
//
// What is not here answers ENOSYS, so that programs take the way that they have for an older kernel. Never here,
// whatever the capabilities: io_uring (its requests pass no filter), keyrings (they have no namespace, attack A48),
// userfaultfd, kexec, swap areas. Only the machine's own architecture is in the profile: a call by the numbers of
// another one (32-bit int 0x80, x32) ends the process, since socketcall(2) keeps its arguments behind a pointer where
// no filter can see them (attack A41). A 32-bit program therefore needs a profile of its own (--security-opt
// seccomp=FILE).
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <span>

#include "base/table_text.h"
#include "security/security.h"

namespace skink::security {
namespace {

using Name = TableText<24>;
using Names = std::initializer_list<const char*>;

constexpr Name kFiles[] = {
    "open",
    "openat",
    "openat2",
    "creat",
    "close",
    "close_range",
    "read",
    "pread64",
    "readv",
    "preadv",
    "preadv2",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "lseek",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "flock",
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "sync_file_range",
    "truncate",
    "ftruncate",
    "fallocate",
    "fadvise64",
    "readahead",
    "sendfile",
    "splice",
    "tee",
    "vmsplice",
    "copy_file_range",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "access",
    "faccessat",
    "faccessat2",
    "getdents",
    "getdents64",
    "getcwd",
    "chdir",
    "fchdir",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mknod",
    "mknodat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "readlink",
    "readlinkat",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "umask",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
    "file_getattr",
    "file_setattr",
    "name_to_handle_at",
    "inotify_init",
    "inotify_init1",
    "inotify_add_watch",
    "inotify_rm_watch",
    "fanotify_mark",
    "cachestat",
    "statmount",
    "listmount",
    "pipe",
    "pipe2",
    "memfd_create",
    "memfd_secret",
    "ioctl",
};

constexpr Name kMemory[] = {
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "madvise",
    "process_madvise",
    "process_mrelease",
    "mincore",
    "msync",
    "mlock",
    "mlock2",
    "mlockall",
    "munlock",
    "munlockall",
    "remap_file_pages",
    "mseal",
    "map_shadow_stack",
    "membarrier",
    "shmget",
    "shmat",
    "shmdt",
    "shmctl",
};

constexpr Name kProcesses[] = {
    "fork",
    "vfork",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "getpid",
    "getppid",
    "gettid",
    "getpgid",
    "getpgrp",
    "setpgid",
    "getsid",
    "setsid",
    "set_tid_address",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "futex",
    "futex_waitv",
    "futex_wake",
    "futex_wait",
    "futex_requeue",
    "prctl",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "pidfd_open",
    "pidfd_send_signal",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "getrlimit",
    "setrlimit",
    "prlimit64",
    "getrusage",
    "times",
    "getpriority",
    "setpriority",
    "ioprio_get",
    "ioprio_set",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_getattr",
    "sched_setattr",
    "sched_getparam",
    "sched_setparam",
    "sched_getscheduler",
    "sched_setscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_rr_get_interval",
    "getcpu",
    "uname",
    "sysinfo",
    "getrandom",
    "arch_prctl",
    "modify_ldt",
    "set_thread_area",
    "get_thread_area",
};

constexpr Name kIdentity[] = {
    "getuid",   "geteuid",  "getgid",    "getegid",   "getresuid", "getresgid", "getgroups", "setuid", "setgid",
    "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",  "setfsgid",  "setgroups", "capget", "capset",
};

constexpr Name kSignalsAndTime[] = {
    "kill",           "tkill",           "tgkill",          "rt_sigaction",
    "rt_sigprocmask", "rt_sigpending",   "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    "rt_sigreturn",   "rt_sigsuspend",   "rt_sigtimedwait", "restart_syscall",
    "sigaltstack",    "pause",           "alarm",           "signalfd",
    "signalfd4",      "nanosleep",       "clock_nanosleep", "clock_gettime",
    "clock_getres",   "clock_adjtime",   "adjtimex",        "gettimeofday",
    "time",           "getitimer",       "setitimer",       "timer_create",
    "timer_delete",   "timer_settime",   "timer_gettime",   "timer_getoverrun",
    "timerfd_create", "timerfd_settime", "timerfd_gettime",
};

constexpr Name kWaitingAndMessages[] = {
    "select",       "pselect6",      "poll",       "ppoll",          "epoll_create", "epoll_create1",
    "epoll_ctl",    "epoll_ctl_old", "epoll_wait", "epoll_wait_old", "epoll_pwait",  "epoll_pwait2",
    "eventfd",      "eventfd2",      "io_setup",   "io_destroy",     "io_submit",    "io_cancel",
    "io_getevents", "io_pgetevents", "mq_open",    "mq_unlink",      "mq_timedsend", "mq_timedreceive",
    "mq_notify",    "mq_getsetattr", "msgget",     "msgsnd",         "msgrcv",       "msgctl",
    "semget",       "semop",         "semtimedop", "semctl",
};

constexpr Name kSockets[] = {
    "socketpair", "bind",       "listen", "accept",   "accept4", "connect", "shutdown", "getsockname", "getpeername",
    "getsockopt", "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
};

// Calls of one architecture; on others libseccomp drops them.
constexpr Name kArchitecture[] = {"sync_file_range2", "riscv_flush_icache", "riscv_hwprobe"};

constexpr std::span<const Name> kAlways[] = {
    kFiles, kMemory, kProcesses, kIdentity, kSignalsAndTime, kWaitingAndMessages, kSockets, kArchitecture};

/// Calls that are let through with any of these capabilities. Without one they answer what the kernel would say to a
/// process that lacks it; NUMA placement is the exception, where libnuma looks for ENOSYS.
struct Privileged {
  std::uint64_t any_of;
  unsigned refusal;
  Names names;
};

constexpr Privileged kPrivileged[] = {
    {bit(CAP_SYS_ADMIN),
     EPERM,
     {"mount",          "umount",         "umount2",           "mount_setattr",     "move_mount",      "open_tree",
      "open_tree_attr", "fsopen",         "fsconfig",          "fsmount",           "fspick",          "pivot_root",
      "unshare",        "setns",          "sethostname",       "setdomainname",     "quotactl",        "quotactl_fd",
      "fanotify_init",  "lookup_dcookie", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules"}},
    {bit(CAP_SYS_ADMIN), ENOSYS, {"clone3"}},  // its flags are behind a pointer (attack A43); libc then takes clone
    {bit(CAP_SYS_ADMIN) | bit(CAP_BPF), EPERM, {"bpf"}},
    {bit(CAP_SYS_ADMIN) | bit(CAP_PERFMON), EPERM, {"perf_event_open"}},
    {bit(CAP_SYS_ADMIN) | bit(CAP_SYSLOG), EPERM, {"syslog"}},
    {bit(CAP_DAC_READ_SEARCH), EPERM, {"open_by_handle_at"}},
    {bit(CAP_SYS_BOOT), EPERM, {"reboot"}},
    {bit(CAP_SYS_CHROOT), EPERM, {"chroot"}},
    {bit(CAP_SYS_MODULE), EPERM, {"init_module", "finit_module", "delete_module"}},
    {bit(CAP_SYS_NICE),
     ENOSYS,
     {"get_mempolicy", "set_mempolicy", "mbind", "set_mempolicy_home_node", "migrate_pages", "move_pages"}},
    {bit(CAP_SYS_PACCT), EPERM, {"acct"}},
    {bit(CAP_SYS_PTRACE), EPERM, {"kcmp", "pidfd_getfd"}},
    {bit(CAP_SYS_RAWIO), EPERM, {"iopl", "ioperm"}},
    {bit(CAP_SYS_TIME), EPERM, {"settimeofday", "clock_settime"}},
    {bit(CAP_SYS_TTY_CONFIG), EPERM, {"vhangup"}},
};

constexpr const char* kAllow = "SCMP_ACT_ALLOW";
constexpr const char* kErrno = "SCMP_ACT_ERRNO";

// The kernel looks at 32 bits of these arguments and a filter at 64: every comparison is masked, or a caller sets a bit
// that only the filter sees (attack A42, CVE-2019-10063).
constexpr std::uint64_t kLow32 = 0xffffffff;

oci::SeccompArg masked(std::uint32_t index, std::uint64_t mask, std::uint64_t value) {
  return {index, mask, value, "SCMP_CMP_MASKED_EQ"};
}

oci::SeccompRule allow(oci::Strings names, std::vector<oci::SeccompArg> args = {}) {
  return {std::move(names), kAllow, std::nullopt, std::move(args)};
}

oci::SeccompRule refuse(oci::Strings names, unsigned answer, std::vector<oci::SeccompArg> args = {}) {
  return {std::move(names), kErrno, answer, std::move(args)};
}

void add_clone(oci::Seccomp& profile, std::uint64_t capabilities) {
  if ((capabilities & bit(CAP_SYS_ADMIN)) != 0) {
    profile.syscalls.push_back(allow({"clone"}));
    return;
  }
#if defined(__s390x__)
  constexpr std::uint32_t kFlags = 1;
#else
  constexpr std::uint32_t kFlags = 0;
#endif
  constexpr std::uint64_t kNew[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                    CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
  std::uint64_t all = 0;
  for (const std::uint64_t flag : kNew) {
    all |= flag;
    profile.syscalls.push_back(refuse({"clone"}, EPERM, {masked(kFlags, flag, flag)}));
  }
  profile.syscalls.push_back(allow({"clone"}, {masked(kFlags, all, 0)}));
}

void add_by_argument(oci::Seccomp& profile) {
  // AF_ALG is a door to the kernel's crypto code, AF_VSOCK one to the hypervisor; neither has a namespace (attack A43).
  profile.syscalls.push_back(allow({"socket"}));
  constexpr unsigned kFamilies[] = {AF_ALG, AF_VSOCK};
  for (const unsigned family : kFamilies)
    profile.syscalls.push_back(refuse({"socket"}, EAFNOSUPPORT, {masked(0, kLow32, family)}));
  // Typing on the terminal of whoever started the container (attack A40, CVE-2017-5226, CVE-2023-28100).
  constexpr std::uint64_t kTiocsti = 0x5412, kTioclinux = 0x541c;
  for (const std::uint64_t request : {kTiocsti, kTioclinux})
    profile.syscalls.push_back(refuse({"ioctl"}, EPERM, {masked(1, kLow32, request)}));
  // PER_LINUX, PER_LINUX32, each also with UNAME26, and the question what it is. READ_IMPLIES_EXEC and no address
  // randomisation are for attackers.
  for (const std::uint64_t domain : {0x0UL, 0x8UL, 0x20000UL, 0x20008UL, 0xffffffffUL})
    profile.syscalls.push_back(allow({"personality"}, {masked(0, kLow32, domain)}));
}

}  // namespace

oci::Seccomp default_seccomp(std::uint64_t capabilities) {
  oci::Seccomp profile;
  profile.default_action = kErrno;
  profile.default_errno_ret = ENOSYS;
  oci::Strings allowed, refused;
  for (const auto& names : kAlways) allowed.insert(allowed.end(), names.begin(), names.end());
  for (const Privileged& group : kPrivileged) {
    const bool has = (capabilities & group.any_of) != 0;
    if (has) allowed.insert(allowed.end(), group.names.begin(), group.names.end());
    if (!has && group.refusal == EPERM) refused.insert(refused.end(), group.names.begin(), group.names.end());
  }
  profile.syscalls.push_back(allow(std::move(allowed)));
  if (!refused.empty()) profile.syscalls.push_back(refuse(std::move(refused), EPERM));
  add_clone(profile, capabilities);
  add_by_argument(profile);
  return profile;
}

}  // namespace skink::security
