// SPDX-License-Identifier: Apache-2.0
#include "supervise/own_filter.h"

#include <gtest/gtest.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace skink::supervise {
namespace {

oci::Spec filtered(const oci::Strings& allowed = {}) {
  oci::Spec spec;
  oci::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_ERRNO";
  oci::SeccompRule rule;
  rule.names = allowed;
  rule.action = "SCMP_ACT_ALLOW";
  seccomp.syscalls.push_back(rule);
  spec.linux.seccomp = seccomp;
  return spec;
}

// What `look` answers in a process that has given up the calls for good.
template <typename Look>
int in_filtered_child(const oci::Spec& spec, Look look) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!give_up_calls(own_filter(spec))) ::_exit(200);
    ::_exit(look());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int error_of_call(long number, long first = 0) { return ::syscall(number, first, 0, 0, 0, 0, 0) < 0 ? errno : 0; }

int filters() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.starts_with("Seccomp_filters:")) return std::stoi(line.substr(16));
  return -1;
}

TEST(OwnFilter, RefusesWhatTheContainersFilterRefuses) {
  EXPECT_EQ(in_filtered_child(filtered(), [] { return error_of_call(SYS_kexec_load); }), EPERM);
  EXPECT_EQ(in_filtered_child(filtered(), [] { return error_of_call(SYS_ptrace, PTRACE_TRACEME); }), EPERM);
  EXPECT_EQ(in_filtered_child(filtered(), [] { return error_of_call(SYS_keyctl, KEYCTL_CLEAR); }), EPERM);
}

TEST(OwnFilter, LeavesALaunchWhatItNeeds) {
  EXPECT_EQ(in_filtered_child(filtered(), [] { return error_of_call(SYS_setns, -1); }), EBADF);
  // The keyring that every container gets: whatever the kernel answers, it is asked.
  EXPECT_EQ(in_filtered_child(filtered(),
                              [] {
                                const int with = error_of_call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING);
                                return with == EPERM ? 1 : 0;
                              }),
            0);
}

TEST(OwnFilter, LeavesWhatTheContainerMayCall) {
  EXPECT_EQ(in_filtered_child(filtered({"ptrace"}), [] { return error_of_call(SYS_ptrace, PTRACE_TRACEME); }), 0);
  EXPECT_EQ(in_filtered_child(filtered({"ptrace"}), [] { return error_of_call(SYS_kexec_load); }), EPERM);
}

TEST(OwnFilter, StandsOnceHoweverManySupervisorsComeAfterOneAnother) {
  const oci::Spec spec = filtered();
  const int once = in_filtered_child(spec, filters);

  const int again = in_filtered_child(spec, [&spec] {
    const bool stands = give_up_calls(own_filter(spec)) && give_up_calls(own_filter(spec));
    return stands ? filters() : -1;
  });

  EXPECT_EQ(again, once);
}

TEST(OwnFilter, IsNoneForWhoHasNoFilterOrHasHooks) {
  EXPECT_TRUE(own_filter(oci::Spec{}).empty());
  oci::Spec open = filtered();
  open.linux.seccomp->default_action = "SCMP_ACT_ALLOW";
  EXPECT_TRUE(own_filter(open).empty());
  oci::Spec watched = filtered();
  watched.linux.seccomp->default_action = "SCMP_ACT_NOTIFY";
  EXPECT_TRUE(own_filter(watched).empty());
  oci::Spec hooked = filtered();
  hooked.hooks.poststop.emplace_back();
  EXPECT_TRUE(own_filter(hooked).empty());
}

}  // namespace
}  // namespace skink::supervise
