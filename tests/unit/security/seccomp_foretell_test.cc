// SPDX-License-Identifier: Apache-2.0
// What is foretold of compiled profiles; that the kernel decides so too is seccomp_test.cc's.
#include "security/seccomp_foretell.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstddef>
#include <vector>

#include "probe.h"

namespace skink::security {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kNative = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kNative = AUDIT_ARCH_AARCH64;
#endif

bool allows(const std::string& bpf, std::uint32_t number) { return always_allows(bpf, kNative, {{number}}); }

std::string bytes(const std::vector<sock_filter>& program) {
  return {reinterpret_cast<const char*>(program.data()), program.size() * sizeof(sock_filter)};
}

oci::Seccomp profile(const char* action, std::initializer_list<const char*> names, const char* rule_action) {
  oci::Seccomp profile;
  profile.default_action = action;
  oci::SeccompRule rule;
  for (const char* name : names) rule.names.push_back(name);
  rule.action = rule_action;
  profile.syscalls.push_back(rule);
  return profile;
}

TEST(Foretell, AnAllowListAllowsWhatItNames) {
  const auto program = compiled(profile("SCMP_ACT_ERRNO", {"read", "close", "execve"}, "SCMP_ACT_ALLOW"));

  EXPECT_TRUE(allows(program.bpf, SYS_read));
  EXPECT_TRUE(allows(program.bpf, SYS_execve));
  EXPECT_FALSE(allows(program.bpf, SYS_write));
  EXPECT_FALSE(always_allows(program.bpf, kNative, {{SYS_read, SYS_write}})) << "one is enough";
}

TEST(Foretell, ACallThatIsLoggedOrAskedAboutIsNotAllowed) {
  const auto program = compiled(profile("SCMP_ACT_ALLOW", {"read"}, "SCMP_ACT_LOG"));

  EXPECT_FALSE(allows(program.bpf, SYS_read));
  EXPECT_TRUE(allows(program.bpf, SYS_write));
}

TEST(Foretell, WhatDependsOnAnArgumentIsNotAllowed) {
  auto given = profile("SCMP_ACT_ALLOW", {"dup3"}, "SCMP_ACT_ERRNO");
  given.syscalls[0].args.push_back({0, 7, 0, "SCMP_CMP_EQ"});
  const auto program = compiled(given);

  EXPECT_FALSE(allows(program.bpf, SYS_dup3));
  EXPECT_TRUE(allows(program.bpf, SYS_close));
}

TEST(Foretell, AnotherArchitecturesCallsAreNotAllowed) {
  const auto program = compiled(profile("SCMP_ACT_ALLOW", {"chmod"}, "SCMP_ACT_ERRNO"));

  EXPECT_FALSE(always_allows(program.bpf, AUDIT_ARCH_S390X, {{SYS_read}}));
}

TEST(Foretell, ValuesThatComeTogetherFromTwoWaysAreUnknown) {
  // if (nr == 1) A = 5 else A = 6; allow when A == 5: only what leads there is allowed.
  const std::vector<sock_filter> program{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 2),
      BPF_STMT(BPF_LD | BPF_IMM, 5),
      BPF_STMT(BPF_JMP | BPF_JA, 1),
      BPF_STMT(BPF_LD | BPF_IMM, 6),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };

  EXPECT_FALSE(allows(bytes(program), 1));
}

TEST(Foretell, NothingIsToldOfWhatIsNoProgram) {
  EXPECT_FALSE(allows("", SYS_read));
  EXPECT_FALSE(allows(bytes({BPF_STMT(BPF_JMP | BPF_JA, 9)}), SYS_read)) << "jumps out of itself";
  EXPECT_FALSE(allows(bytes({BPF_STMT(BPF_LD | BPF_IMM, 0)}), SYS_read)) << "has no end";
  EXPECT_FALSE(allows(bytes({BPF_STMT(BPF_RET | BPF_A, 0)}), SYS_read)) << "answers with a computed value";
}

TEST(Foretell, TheDefaultProfileLetsAContainerWaitUnderIt) {
  EXPECT_TRUE(compiled(default_seccomp(default_capabilities())).lets_start);
  EXPECT_FALSE(compiled(profile("SCMP_ACT_ALLOW", {"execve"}, "SCMP_ACT_ERRNO")).lets_start);
  EXPECT_FALSE(compiled(profile("SCMP_ACT_ALLOW", {"accept4"}, "SCMP_ACT_ERRNO")).lets_start);
}

}  // namespace
}  // namespace skink::security
