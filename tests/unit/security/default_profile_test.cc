// SPDX-License-Identifier: Apache-2.0
// The default profile, asked on the real kernel: what attacks A40 to A43 try, and that ordinary programs work.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <set>

#include "base/text.h"
#include "probe.h"

namespace skink::security {
namespace {

constexpr long kHigh = 1L << 32;

SeccompProgram usual() { return compiled(default_seccomp(default_capabilities())); }
SeccompProgram with(std::uint64_t more) { return compiled(default_seccomp(default_capabilities() | more)); }

TEST(DefaultSeccomp, RefusesToTypeOnTheCallersTerminalWhateverTheHighBitsSay) {
  for (const SeccompProgram& program : {usual(), with(all_capabilities())}) {
    for (const long request : {0x5412L, 0x541cL}) {
      EXPECT_EQ(probe(program, {SYS_ioctl, {0, request}}), -EPERM);
      EXPECT_EQ(probe(program, {SYS_ioctl, {0, request | kHigh}}), -EPERM);
      EXPECT_EQ(probe(program, {SYS_ioctl, {0, request | (0xffffffffL << 32)}}), -EPERM);
    }
    EXPECT_EQ(probe(program, {SYS_ioctl, {-1, 0x5413 /* TIOCGWINSZ */}}), -EBADF);
    EXPECT_EQ(probe(program, {SYS_ioctl, {-1, 0x5401 /* TCGETS */}}), -EBADF);
  }
}

TEST(DefaultSeccomp, RefusesSocketFamiliesWithoutANamespace) {
  const SeccompProgram program = usual();
  for (const long family : {38L, 40L}) {
    EXPECT_EQ(probe(program, {SYS_socket, {family, 5, 0}}), -EAFNOSUPPORT);
    EXPECT_EQ(probe(program, {SYS_socket, {family | kHigh, 5, 0}}), -EAFNOSUPPORT);
  }
  EXPECT_GE(probe(program, {SYS_socket, {1, 1, 0}}), 0);
  EXPECT_GE(probe(program, {SYS_socket, {2, 1, 0}}), 0);
}

TEST(DefaultSeccomp, MakesNoNamespacesWithoutSysAdmin) {
  const SeccompProgram program = usual();
  for (const long flag : {0x20000L, 0x2000000L, 0x4000000L, 0x8000000L, 0x10000000L, 0x20000000L, 0x40000000L}) {
    EXPECT_EQ(probe(program, {SYS_clone, {flag | SIGCHLD}}), -EPERM) << flag;
    EXPECT_EQ(probe(program, {SYS_unshare, {flag}}), -EPERM) << flag;
  }
  EXPECT_EQ(probe(program, {SYS_clone3, {0, 88}}), -ENOSYS);
  EXPECT_EQ(probe(program, {SYS_setns, {-1, 0}}), -EPERM);
}

TEST(DefaultSeccomp, GivesBackWithACapabilityWhatItTakesWithout) {
  struct Case {
    unsigned capability;
    Call call;
    long refused;
  };
  const Case cases[] = {{CAP_SYS_ADMIN, {SYS_mount, {0, 0, 0, 0, 0}}, -EPERM},
                        {CAP_SYS_ADMIN, {SYS_clone3, {0, 0}}, -ENOSYS},
                        {CAP_SYS_ADMIN, {SYS_setns, {-1, 0}}, -EPERM},
                        {CAP_SYS_ADMIN, {SYS_fsopen, {0, 0}}, -EPERM},
                        {CAP_BPF, {SYS_bpf, {-1, 0, 0}}, -EPERM},
                        {CAP_PERFMON, {SYS_perf_event_open, {0, 0, -1, -1, 0}}, -EPERM},
                        {CAP_SYSLOG, {SYS_syslog, {99, 0, 0}}, -EPERM},
                        {CAP_DAC_READ_SEARCH, {SYS_open_by_handle_at, {-1, 0, 0}}, -EPERM},
                        {CAP_SYS_BOOT, {SYS_reboot, {0, 0, 0, 0}}, -EPERM},
                        {CAP_SYS_MODULE, {SYS_finit_module, {-1, 0, 0}}, -EPERM},
                        {CAP_SYS_NICE, {SYS_mbind, {0, 0, 99, 0, 0, 0}}, -ENOSYS},
                        {CAP_SYS_PACCT, {SYS_acct, {1, 0, 0}}, -EPERM},
                        {CAP_SYS_PTRACE, {SYS_pidfd_getfd, {-1, 0, 0}}, -EPERM},
                        {CAP_SYS_TIME, {SYS_settimeofday, {1, 0}}, -EPERM}};
  const SeccompProgram without = usual();
  for (const Case& c : cases) {
    EXPECT_EQ(probe(without, c.call), c.refused) << c.call.number;
    EXPECT_NE(probe(with(bit(c.capability)), c.call), c.refused) << c.call.number;
  }
}

TEST(DefaultSeccomp, TakesChrootAwayWithItsCapability) {
  EXPECT_EQ(probe(usual(), {SYS_chroot, {0}}), -EFAULT);
  EXPECT_EQ(probe(compiled(default_seccomp(0)), {SYS_chroot, {0}}), -EPERM);
}

TEST(DefaultSeccomp, NeverHasWhatNoCapabilityMakesSafe) {
  const SeccompProgram program = with(all_capabilities());
  for (const long number :
       {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_keyctl, SYS_add_key, SYS_request_key,
        SYS_userfaultfd, SYS_kexec_load, SYS_kexec_file_load, SYS_swapon, SYS_swapoff})
    EXPECT_EQ(probe(program, {number, {-1, -1, -1}}), -ENOSYS) << number;
}

#if defined(__x86_64__)
TEST(DefaultSeccomp, EndsAProcessThatSpeaksAnotherAbi) {
  const SeccompProgram program = usual();

  EXPECT_EQ(probe(program, {102 /* socketcall */, {1, 0}, Entry::int80}), kKilledBy + SIGSYS);
  EXPECT_EQ(probe(program, {20 /* getpid */, {}, Entry::int80}), kKilledBy + SIGSYS);
  EXPECT_EQ(probe(program, {SYS_getpid | 0x40000000}), kKilledBy + SIGSYS);
  EXPECT_EQ(probe(program, {SYS_ioctl | 0x40000000, {0, 0x5412}}), kKilledBy + SIGSYS);
}
#endif

TEST(DefaultSeccomp, LetsPersonalityAskAndSetTheUsualDomainsOnly) {
  const SeccompProgram program = usual();

  EXPECT_GE(probe(program, {SYS_personality, {0xffffffff}}), 0);
  EXPECT_GE(probe(program, {SYS_personality, {0}}), 0);
  EXPECT_EQ(probe(program, {SYS_personality, {0x0040000 /* ADDR_NO_RANDOMIZE */}}), -ENOSYS);
}

TEST(DefaultSeccomp, NumbersBeyondTheKnownOnesAreUnknownToThisKernel) {
  const SeccompProgram program = usual();
  for (const long number : {470L, 500L, 1000L, 0x3fffffffL}) EXPECT_EQ(probe(program, {number}), -ENOSYS);
}

/// The calls that no capability is needed for and that programs of today make.
TEST(DefaultSeccomp, LetsTheCallsOfNewProgramsThrough) {
  const SeccompProgram program = usual();
  // With these arguments the kernel itself says EINVAL, EBADF, EFAULT or the like: never ENOSYS, never EPERM.
  const Call calls[] = {{SYS_rseq, {0, 0, 99, 0}},
                        {SYS_membarrier, {0, 0, 0}},
                        {SYS_openat2, {-100, 0, 0, 0}},
                        {SYS_statx, {-1, 0, 0, 0, 0}},
                        {SYS_faccessat2, {-1, 0, 0, 0}},
                        {SYS_close_range, {5, 4, 0}},
                        {449 /* futex_waitv */, {0, 0, 0, 0, 0}},
                        {SYS_epoll_pwait2, {-1, 0, 0, 0, 0, 0}},
                        {451 /* cachestat */, {-1, 0, 0, 0}},
                        {452 /* fchmodat2 */, {-1, 0, 0, 0}},
                        {SYS_pidfd_open, {-1, 0}},
                        {SYS_memfd_create, {0, 0}},
                        {SYS_copy_file_range, {-1, 0, -1, 0, 0, 0}},
                        {SYS_process_madvise, {-1, 0, 0, 0, 0}},
                        {SYS_landlock_restrict_self, {-1, 0}},
                        {SYS_execveat, {-1, 0, 0, 0, 0}},
                        {454 /* futex_wake */, {0, 0, 1, 99}},
                        {462 /* mseal */, {1, 0, 0}}};
  for (const Call& call : calls) {
    const long answer = probe(program, call);
    const long bare = probe(compiled({.default_action = "SCMP_ACT_ALLOW"}), call);
    EXPECT_EQ(answer < 0 ? answer : 0, bare < 0 ? bare : 0) << "call " << call.number;
  }
}

TEST(DefaultSeccomp, LetsRealProgramsRun) {
  const char* const programs[][4] = {
      {"/bin/sh", "-c", "set -e; ls / >/dev/null; (sleep 0.01 & wait); echo x | cat >/dev/null", nullptr},
      {"/usr/bin/python3", "-c",
       "import threading, socket, subprocess, tempfile, select, multiprocessing as m\n"
       "t=threading.Thread(target=lambda: 1); t.start(); t.join()\n"
       "s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(); s.close()\n"
       "subprocess.run(['/bin/true'],check=True); select.epoll().close()\n"
       "tempfile.TemporaryFile().write(b'x')\n",
       nullptr}};
  const SeccompProgram program = usual();
  for (const auto& argv : programs) {
    if (::access(argv[0], X_OK) != 0) continue;
    const pid_t child = ::fork();
    if (child == 0) {
      struct {
        unsigned short length;
        const char* filter;
      } filter{static_cast<unsigned short>(program.bpf.size() / 8), program.bpf.data()};
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      if (::syscall(SYS_seccomp, 1, program.flags, &filter) != 0) ::_exit(99);
      ::execv(argv[0], const_cast<char* const*>(argv));
      ::_exit(98);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << argv[0];
  }
}

std::set<std::string> names_with_action(const oci::Seccomp& profile, std::string_view action) {
  std::set<std::string> names;
  for (const auto& rule : profile.syscalls)
    if (rule.action == action) names.insert(rule.names.begin(), rule.names.end());
  return names;
}

TEST(DefaultSeccomp, NamesEachCallOnceAndOnlyCallsThatExist) {
  const oci::Seccomp profile = default_seccomp(all_capabilities());
  std::multiset<std::string> names;
  for (const auto& rule : profile.syscalls)
    if (rule.args.empty()) names.insert(rule.names.begin(), rule.names.end());

  const std::set<std::string> newer{
      "futex_wake",        "futex_wait",       "futex_requeue", "statmount",    "listmount",    "lsm_get_self_attr",
      "lsm_set_self_attr", "lsm_list_modules", "mseal",         "setxattrat",   "getxattrat",   "listxattrat",
      "removexattrat",     "open_tree_attr",   "file_getattr",  "file_setattr", "riscv_hwprobe"};
  for (const std::string& name : names) {
    EXPECT_EQ(names.count(name), 1U) << name;
    if (!newer.contains(name)) {
      EXPECT_NE(seccomp_syscall_resolve_name(name.c_str()), __NR_SCMP_ERROR) << name;
    }
  }
}

TEST(DefaultSeccomp, AllowsWhatTheGoldenListSays) {
  const oci::Seccomp profile = default_seccomp(default_capabilities());
  const auto refused = names_with_action(profile, "SCMP_ACT_ERRNO");

  EXPECT_EQ(profile.default_action, "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile.default_errno_ret, 38U);
  EXPECT_TRUE(profile.architectures.empty()) << "the machine's own";
  for (const char* name : {"mount", "umount2", "unshare", "setns", "bpf", "perf_event_open", "reboot", "syslog", "kcmp",
                           "init_module", "open_by_handle_at", "pidfd_getfd", "move_mount", "open_tree"})
    EXPECT_TRUE(refused.contains(name)) << name;
  EXPECT_TRUE(names_with_action(profile, "SCMP_ACT_ALLOW").contains("chroot"));
}

}  // namespace
}  // namespace skink::security
