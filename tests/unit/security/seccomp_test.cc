// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>

#include "probe.h"

namespace skink::security {
namespace {

oci::Seccomp profile_of(std::string action, std::optional<std::uint32_t> errno_ret = {}) {
  oci::Seccomp profile;
  profile.default_action = std::move(action);
  profile.default_errno_ret = errno_ret;
  return profile;
}

oci::SeccompRule rule(oci::Strings names, std::string action, std::optional<std::uint32_t> errno_ret = {},
                      std::vector<oci::SeccompArg> args = {}) {
  return {std::move(names), std::move(action), errno_ret, std::move(args)};
}

std::string refusal(const oci::Seccomp& profile) {
  const auto program = compile_seccomp(profile);
  return program ? "accepted" : program.error().text();
}

/// An errno profile under which a child can still end.
oci::Seccomp errno_profile() {
  oci::Seccomp profile = profile_of("SCMP_ACT_ERRNO");
  profile.syscalls.push_back(rule({"exit_group", "exit", "getppid"}, "SCMP_ACT_ALLOW"));
  return profile;
}

TEST(CompileSeccomp, AnswersEachActionAsTheKernelDefinesIt) {
  oci::Seccomp profile = profile_of("SCMP_ACT_ALLOW");
  profile.syscalls.push_back(rule({"getppid"}, "SCMP_ACT_ERRNO"));
  profile.syscalls.push_back(rule({"getuid"}, "SCMP_ACT_ERRNO", 77));
  profile.syscalls.push_back(rule({"getgid"}, "SCMP_ACT_KILL"));
  profile.syscalls.push_back(rule({"geteuid"}, "SCMP_ACT_KILL_PROCESS"));
  profile.syscalls.push_back(rule({"getegid"}, "SCMP_ACT_KILL_THREAD"));
  profile.syscalls.push_back(rule({"getpgrp", "getpgid"}, "SCMP_ACT_TRAP"));
  profile.syscalls.push_back(rule({"umask"}, "SCMP_ACT_TRACE", 5));
  profile.syscalls.push_back(rule({"gettid"}, "SCMP_ACT_LOG"));
  profile.flags = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"};

  const SeccompProgram program = compiled(profile);
  const std::vector<long> answers = probe_all(
      program, {{SYS_getppid}, {SYS_getuid}, {SYS_getgid}, {SYS_geteuid}, {SYS_getegid}, {SYS_getpgid}, {SYS_umask}});

  EXPECT_EQ(program.flags, 0b111U);
  EXPECT_FALSE(program.needs_listener);
  EXPECT_EQ(answers, (std::vector<long>{-EPERM, -77, kKilledBy + SIGSYS, kKilledBy + SIGSYS, kKilledBy + SIGSYS,
                                        kKilledBy + SIGSYS, -ENOSYS}));
  EXPECT_GT(probe(program, {SYS_gettid}), 0);
}

TEST(CompileSeccomp, ComparesArgumentsByEveryOperator) {
  struct Case {
    const char* op;
    std::uint64_t value, two;
    long refused, allowed;
  };
  const Case cases[] = {{"SCMP_CMP_NE", 5, 0, 6, 5},
                        {"SCMP_CMP_LT", 5, 0, 4, 5},
                        {"SCMP_CMP_LE", 5, 0, 5, 6},
                        {"SCMP_CMP_EQ", 5, 0, 5, 6},
                        {"SCMP_CMP_GE", 5, 0, 5, 4},
                        {"SCMP_CMP_GT", 5, 0, 6, 5},
                        {"SCMP_CMP_MASKED_EQ", 0xf, 5, 0x15, 0x16}};
  for (const Case& c : cases) {
    oci::Seccomp profile = profile_of("SCMP_ACT_ALLOW");
    profile.syscalls.push_back(rule({"umask"}, "SCMP_ACT_ERRNO", 99, {{0, c.value, c.two, c.op}}));

    const SeccompProgram program = compiled(profile);

    EXPECT_EQ(probe(program, {SYS_umask, {c.refused}}), -99) << c.op;
    EXPECT_GE(probe(program, {SYS_umask, {c.allowed}}), 0) << c.op;
  }
}

TEST(CompileSeccomp, SeveralArgumentsAllCountAndOneArgumentTwiceMeansEither) {
  oci::Seccomp profile = profile_of("SCMP_ACT_ALLOW");
  profile.syscalls.push_back(
      rule({"setpgid"}, "SCMP_ACT_ERRNO", 99, {{0, 7, 0, "SCMP_CMP_EQ"}, {1, 8, 0, "SCMP_CMP_EQ"}}));
  profile.syscalls.push_back(
      rule({"umask"}, "SCMP_ACT_ERRNO", 99, {{0, 7, 0, "SCMP_CMP_EQ"}, {0, 8, 0, "SCMP_CMP_EQ"}}));

  const SeccompProgram program = compiled(profile);

  EXPECT_EQ(probe(program, {SYS_setpgid, {7, 8}}), -99);
  EXPECT_NE(probe(program, {SYS_setpgid, {7, 9}}), -99);
  EXPECT_EQ(probe(program, {SYS_umask, {7}}), -99);
  EXPECT_EQ(probe(program, {SYS_umask, {8}}), -99);
  EXPECT_GE(probe(program, {SYS_umask, {9}}), 0);
}

TEST(CompileSeccomp, KeepsAConditionalRefusalBesideAnUnconditionalPermission) {
  for (const bool permission_first : {true, false}) {
    oci::Seccomp profile = profile_of("SCMP_ACT_ERRNO", ENOSYS);
    const auto all = rule({"umask", "exit_group"}, "SCMP_ACT_ALLOW");
    const auto one = rule({"umask"}, "SCMP_ACT_ERRNO", EPERM, {{0, 0xffffffff, 5, "SCMP_CMP_MASKED_EQ"}});
    profile.syscalls = permission_first ? std::vector{all, one} : std::vector{one, all};

    const SeccompProgram program = compiled(profile);

    EXPECT_EQ(probe(program, {SYS_umask, {5}}), -EPERM);
    EXPECT_EQ(probe(program, {SYS_umask, {5 | 1L << 32}}), -EPERM);
    EXPECT_GE(probe(program, {SYS_umask, {6}}), 0);
  }
}

TEST(CompileSeccomp, AnUnconditionalRefusalOverridesAConditionalPermission) {
  oci::Seccomp profile = profile_of("SCMP_ACT_ERRNO", ENOSYS);
  profile.syscalls = {rule({"exit_group"}, "SCMP_ACT_ALLOW"),
                      rule({"umask"}, "SCMP_ACT_ALLOW", {}, {{0, 5, 0, "SCMP_CMP_EQ"}}),
                      rule({"umask"}, "SCMP_ACT_ERRNO", EACCES)};

  EXPECT_EQ(probe(compiled(profile), {SYS_umask, {5}}), -EACCES);
}

TEST(CompileSeccomp, AnswersEnosysToCallsNewerThanAnyNamedUnderAnErrnoDefault) {
  oci::Seccomp profile = errno_profile();
  profile.syscalls.push_back(rule({"openat2"}, "SCMP_ACT_ALLOW"));  // 437

  const SeccompProgram program = compiled(profile);

  EXPECT_EQ(probe(program, {SYS_umask}), -EPERM) << "unlisted, but older";
  EXPECT_EQ(probe(program, {437}), -EINVAL) << "listed: the kernel's own answer";
  EXPECT_EQ(probe(program, {438}), -ENOSYS);
  EXPECT_EQ(probe(program, {999}), -ENOSYS);
}

TEST(CompileSeccomp, LeavesNewerCallsAloneUnderOtherDefaults) {
  oci::Seccomp profile = profile_of("SCMP_ACT_KILL_PROCESS");
  profile.syscalls.push_back(rule({"exit_group", "getppid"}, "SCMP_ACT_ALLOW"));

  EXPECT_EQ(probe(compiled(profile), {999}), kKilledBy + SIGSYS);
}

TEST(CompileSeccomp, KnowsCallsThatLibseccompDoesNot) {
  oci::Seccomp profile = errno_profile();
  profile.syscalls.push_back(rule({"mseal"}, "SCMP_ACT_ERRNO", 77));
  profile.syscalls.push_back(rule({"futex_wake"}, "SCMP_ACT_ERRNO", 78, {{1, 3, 0, "SCMP_CMP_EQ"}}));
  profile.syscalls.push_back(rule({"futex_wake"}, "SCMP_ACT_ALLOW"));

  const SeccompProgram program = compiled(profile);

  EXPECT_EQ(probe(program, {462}), -77);
  EXPECT_EQ(probe(program, {454, {0, 3}}), -78);
  EXPECT_EQ(probe(program, {454, {0, 4, 1, 99}}), -EINVAL);
  EXPECT_EQ(probe(program, {455}), -EPERM);
  EXPECT_EQ(probe(program, {463}), -ENOSYS);
}

TEST(CompileSeccomp, IgnoresNamesThatNobodyKnows) {
  oci::Seccomp profile = errno_profile();
  profile.syscalls.push_back(rule({"no_such_call", ""}, "SCMP_ACT_KILL"));

  EXPECT_GT(probe(compiled(profile), {SYS_getppid}), 0);
}

#if defined(__x86_64__)
TEST(CompileSeccomp, EndsTheProcessOnCallsByAnotherArchitecture) {
  const SeccompProgram program = compiled(errno_profile());

  EXPECT_EQ(probe(program, {64 /* getppid */, {}, Entry::int80}), kKilledBy + SIGSYS);
  EXPECT_EQ(probe(program, {SYS_getppid | 0x40000000}), kKilledBy + SIGSYS);
}

TEST(CompileSeccomp, TakesFurtherArchitecturesAndForeignOnes) {
  oci::Seccomp profile = errno_profile();
  profile.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X",
                           "SCMP_ARCH_LOONGARCH64"};
  profile.syscalls.push_back(rule({"umask"}, "SCMP_ACT_ERRNO", 77));
  profile.syscalls.push_back(rule({"waitpid"}, "SCMP_ACT_ERRNO", 78));  // i386 only
  profile.syscalls.push_back(rule({"socket"}, "SCMP_ACT_ERRNO", 79, {{0, 38, 0, "SCMP_CMP_EQ"}}));

  const SeccompProgram program = compiled(profile);

  EXPECT_EQ(probe(program, {SYS_umask}), -77);
  EXPECT_EQ(probe(program, {60 /* umask */, {}, Entry::int80}), -77);
  EXPECT_EQ(probe(program, {7 /* waitpid */, {}, Entry::int80}), -78);
  EXPECT_EQ(probe(program, {20 /* getpid */, {}, Entry::int80}), -EPERM);
  EXPECT_EQ(probe(program, {999, {}, Entry::int80}), -ENOSYS);
  EXPECT_EQ(probe(program, {SYS_umask | 0x40000000}), -77);
  EXPECT_EQ(probe(program, {SYS_getpid | 0x40000000}), -EPERM);
  EXPECT_EQ(probe(program, {SYS_socket, {38}}), -79);
}
#endif

TEST(CompileSeccomp, MarksAProfileThatNotifies) {
  oci::Seccomp profile = profile_of("SCMP_ACT_ALLOW");
  profile.listener_path = "/run/agent";
  profile.flags = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  profile.syscalls.push_back(rule({"mkdir"}, "SCMP_ACT_NOTIFY"));

  const SeccompProgram program = compiled(profile);

  EXPECT_TRUE(program.needs_listener);
  EXPECT_EQ(program.flags, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER |
                               SECCOMP_FILTER_FLAG_TSYNC_ESRCH | 32U /* WAIT_KILLABLE_RECV */);
}

TEST(CompileSeccomp, RefusesWhatItDoesNotUnderstandAndNamesThePlace) {
  EXPECT_EQ(refusal(profile_of("SCMP_ACT_MAYBE")),
            "linux.seccomp.defaultAction: \"SCMP_ACT_MAYBE\" is not an action that skink knows");
  EXPECT_EQ(refusal(profile_of("SCMP_ACT_ALLOW", 1)),
            "linux.seccomp.defaultAction: SCMP_ACT_ALLOW has no errno to return");
  EXPECT_EQ(refusal(profile_of("SCMP_ACT_ERRNO", 70000)),
            "linux.seccomp.defaultAction: errno 70000 is not a number from 0 to 65535");
  EXPECT_EQ(refusal(profile_of("SCMP_ACT_NOTIFY")),
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action");

  oci::Seccomp profile = profile_of("SCMP_ACT_ALLOW");
  profile.syscalls.push_back(rule({"read"}, "SCMP_ACT_ERRNO", 1, {{0, 0, 0, "SCMP_CMP_EQUAL"}}));
  EXPECT_EQ(refusal(profile), "linux.seccomp.syscalls[0].args[0].op: \"SCMP_CMP_EQUAL\" is not an operator");
  profile.syscalls[0].args = {{6, 0, 0, "SCMP_CMP_EQ"}};
  EXPECT_EQ(refusal(profile), "linux.seccomp.syscalls[0].args[0].index: 6 is not a number from 0 to 5");
  profile.syscalls = {rule({"write"}, "SCMP_ACT_NOTIFY")};
  EXPECT_EQ(refusal(profile), "linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall");
  profile.syscalls = {rule({"read"}, "SCMP_ACT_NOTIFY")};
  EXPECT_EQ(refusal(profile), "linux.seccomp.listenerPath: missing, and a rule has SCMP_ACT_NOTIFY");

  profile.syscalls.clear();
  profile.architectures = {"SCMP_ARCH_Z80"};
  EXPECT_EQ(refusal(profile), "linux.seccomp.architectures[0]: \"SCMP_ARCH_Z80\" is not an architecture");
  profile.architectures.clear();
  profile.flags = {"SECCOMP_FILTER_FLAG_FAST"};
  EXPECT_EQ(refusal(profile), "linux.seccomp.flags[0]: \"SECCOMP_FILTER_FLAG_FAST\" is not a flag that skink knows");
}

TEST(CompileSeccomp, RefusesAProgramThatTheKernelWouldNotTake) {
  oci::Seccomp profile = profile_of("SCMP_ACT_ALLOW");
  for (std::uint64_t i = 0; i < 2000; ++i)
    profile.syscalls.push_back(rule({"umask"}, "SCMP_ACT_ERRNO", 1, {{0, i * 0x100000001, 0, "SCMP_CMP_EQ"}}));

  const auto program = compile_seccomp(profile);

  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().code(), Code::unsupported);
  EXPECT_NE(program.error().text().find("instructions, and the kernel takes 4096"), std::string::npos);
}

}  // namespace
}  // namespace skink::security
