// SPDX-License-Identifier: Apache-2.0
// Who the process is: names, limits, label, capabilities, users and the seccomp filter. A security step that fails is a
// fault.
#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "child/context.h"

namespace skink::child {
namespace {

constexpr long kSigkill = 9;

Fault prctl(long option, long a, long b, Step step, unsigned index = 0) {
  return check(call(__NR_prctl, option, a, b, 0, 0), step, index);
}

}  // namespace

// Again after every change of uid: the kernel then clears the death signal and decides dumpable anew (man 2 prctl).
Fault protect_self(const Context& context) {
  CHILD_TRY(prctl(PR_SET_DUMPABLE, 0, 0, Step::protect_self));
  if (!context.has(plan::kDeathSignal)) return {};
  // A parent that died before this is seen by the end of the socket: every way from here passes a message.
  return prctl(PR_SET_PDEATHSIG, kSigkill, 0, Step::set_death_signal);
}

Fault set_names_and_limits(Context& context) {
  const auto& plan = context.plan();
  if (plan.hostname != 0) {
    const char* name = context.text(plan.hostname);
    CHILD_TRY(check(call(__NR_sethostname, arg(name), static_cast<long>(length_of(name))), Step::set_hostname));
  }
  if (plan.domainname != 0) {
    const char* name = context.text(plan.domainname);
    CHILD_TRY(check(call(__NR_setdomainname, arg(name), static_cast<long>(length_of(name))), Step::set_domainname));
  }
  if (context.has(plan::kNewKeyring)) {
    constexpr long kJoinSession = 1;  // KEYCTL_JOIN_SESSION_KEYRING: the caller's keys stay outside (attack A48)
    const long rc = call(__NR_keyctl, kJoinSession, arg(context.text(plan.keyring)));
    if (rc != -ENOSYS) CHILD_TRY(check(rc, Step::join_keyring));
  }
  const auto* limits = context.array<plan::Rlimit>(plan.rlimits);
  for (unsigned i = 0; i < plan.rlimits.count; ++i) {
    const __u64 pair[2] = {limits[i].soft, limits[i].hard};
    CHILD_TRY(check(call(__NR_prlimit64, 0, limits[i].resource, arg(pair), 0), Step::set_rlimit, i));
  }
  if (context.has(plan::kSetScheduler)) {
    struct {
      __u32 size, policy;
      __u64 flags;
      __s32 nice;
      __u32 priority;
      __u64 runtime, deadline, period;
      __u32 least, most;  // of SCHED_FLAG_UTIL_CLAMP_*, for which the spec has no values
    } attr{56,
           plan.sched_policy,
           plan.sched_flags,
           plan.sched_nice,
           static_cast<__u32>(plan.sched_priority),
           plan.sched_runtime,
           plan.sched_deadline,
           plan.sched_period,
           0,
           0};
    CHILD_TRY(check(call(__NR_sched_setattr, 0, arg(&attr), 0), Step::set_scheduler));
  }
  if (context.has(plan::kSetIoPriority))
    CHILD_TRY(check(call(__NR_ioprio_set, 1, 0, plan.io_priority), Step::set_io_priority));
  if (context.has(plan::kSetMemoryPolicy)) {
    // Order: in our group by now, since its cpuset decides which nodes there are. The kernel reads one bit less than
    // it is told.
    const auto words = plan.memory_nodes.count;
    const long mask = words == 0 ? 0 : arg(context.array<plan::U64>(plan.memory_nodes));
    CHILD_TRY(check(call(__NR_set_mempolicy, plan.memory_mode, mask, words == 0 ? 0 : words * 64L + 1),
                    Step::set_memory_policy));
  }
  if (context.has(plan::kSetPersonality))
    CHILD_TRY(check(call(__NR_personality, plan.personality), Step::set_personality));
  return {};
}

// Through a procfs of our own: a container's /proc could be anything (CVE-2019-16884).
Fault write_label(Context& context) {
  const auto& plan = context.plan();
  if (plan.label == 0) return {};
  const long proc = open_private_procfs();
  CHILD_TRY(check(proc, Step::security_label));
  const long self = open_at(static_cast<int>(proc), "thread-self", kOpenPath | kOpenDirectory);
  CHILD_TRY(check(self, Step::security_label));
  const long fd = open_at(static_cast<int>(self), context.text(plan.label_path), kOpenWrite | kOpenNofollow);
  CHILD_TRY(check(fd, Step::security_label));
  const char* text = context.text(plan.label);
  const long rc = write_bytes(static_cast<int>(fd), text, length_of(text));
  close_fd(static_cast<int>(fd));
  close_fd(static_cast<int>(self));
  close_fd(static_cast<int>(proc));
  return check(rc, Step::security_label);
}

namespace {

Fault drop_bounding(const plan::Plan& plan) {
  for (unsigned number = 0; number <= plan.last_capability; ++number)
    if ((plan.bounding >> number & 1) == 0) CHILD_TRY(prctl(PR_CAPBSET_DROP, number, 0, Step::drop_bounding, number));
  return {};
}

Fault set_users(const Context& context) {
  const auto& plan = context.plan();
  // The list is set even when it is empty: the caller's groups must not come along (CVE-2022-36109).
  if (!context.has(plan::kSetgroupsDenied))
    CHILD_TRY(
        check(call(__NR_setgroups, plan.groups.count, arg(context.array<plan::U32>(plan.groups))), Step::set_groups));
  CHILD_TRY(check(call(__NR_setresgid, plan.gid, plan.gid, plan.gid), Step::set_gid));
  CHILD_TRY(check(call(__NR_setresuid, plan.uid, plan.uid, plan.uid), Step::set_uid));
  // setresuid(-1, -1, -1) succeeds and changes nothing: believe only what the kernel says (attack A30).
  unsigned ids[6] = {};
  call(__NR_getresuid, arg(&ids[0]), arg(&ids[1]), arg(&ids[2]));
  call(__NR_getresgid, arg(&ids[3]), arg(&ids[4]), arg(&ids[5]));
  for (unsigned i = 0; i < 6; ++i)
    if (ids[i] != (i < 3 ? plan.uid : plan.gid)) return {Step::verify_ids, i, EPERM};
  return {};
}

// Without no_new_privs a filter can be loaded only with CAP_SYS_ADMIN, and it is loaded last, since it may forbid any
// of the steps before (attack A44). So that capability is kept until execve, which computes permitted and effective
// anew from the bounding, inheritable and ambient sets: the program never has it by this.
bool keeps_admin_for_filter(const Context& context) {
  return context.plan().seccomp != 0 && !context.has(plan::kNoNewPrivileges);
}

Fault set_capabilities(const Context& context) {
  const auto& plan = context.plan();
  constexpr __u64 kSysAdmin = 1ULL << 21;
  const __u64 extra = keeps_admin_for_filter(context) ? kSysAdmin : 0;
  struct {
    __u32 version;
    int pid;
  } header{_LINUX_CAPABILITY_VERSION_3, 0};
  struct {
    __u32 effective, permitted, inheritable;
  } data[2] = {};
  for (unsigned half = 0; half < 2; ++half) {
    data[half].effective = static_cast<__u32>((plan.effective | extra) >> (32 * half));
    data[half].permitted = static_cast<__u32>((plan.permitted | extra) >> (32 * half));
    data[half].inheritable = static_cast<__u32>(plan.inheritable >> (32 * half));
  }
  CHILD_TRY(check(call(__NR_capset, arg(&header), arg(data)), Step::set_capabilities));
  CHILD_TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, Step::raise_ambient));
  for (unsigned number = 0; number <= plan.last_capability; ++number)
    if ((plan.ambient >> number & 1) != 0)
      CHILD_TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, Step::raise_ambient, number));
  return {};
}

}  // namespace

Fault change_identity(Context& context) {
  const auto& plan = context.plan();
  CHILD_TRY(drop_bounding(plan));
  // Order: capabilities are kept over the change of uid, so that exactly the configured ones can be set after it; the
  // flag is cleared by execve.
  CHILD_TRY(prctl(PR_SET_KEEPCAPS, 1, 0, Step::set_uid));
  CHILD_TRY(set_users(context));
  CHILD_TRY(protect_self(context));
  CHILD_TRY(set_capabilities(context));
  CHILD_TRY(prctl(PR_SET_KEEPCAPS, 0, 0, Step::set_uid));
  call(__NR_umask, plan.umask);
  if (context.has(plan::kNoNewPrivileges))
    CHILD_TRY(check(call(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Step::no_new_privileges));
  return {};
}

namespace {

// Newer than the headers that we build with (man 2 seccomp).
constexpr unsigned kFlagTsyncEsrch = 16, kFlagWaitKillable = 32;

long load_filter(const Context& context, unsigned flags) {
  const auto& plan = context.plan();
  struct {
    unsigned short count;
    const void* filter;
  } program{static_cast<unsigned short>(plan.seccomp_count), context.bytes(plan.seccomp)};
  return call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, static_cast<long>(flags), arg(&program));
}

}  // namespace

Fault load_seccomp(Context& context) {
  const auto& plan = context.plan();
  if (plan.seccomp == 0) return {};
  const long rc = load_filter(context, plan.seccomp_flags);
  CHILD_TRY(check(rc, Step::seccomp));
  if (plan.seccomp_listener == 0) return {};
  const int listener = static_cast<int>(rc);
  plan::Message message{};
  message.kind = static_cast<unsigned>(plan::Kind::listener);
  message.arg = listener;
  // The filter is on: write(2) is the call that it is known not to hold back, so the launcher takes the descriptor out
  // of this process by its number. Below a PID 1 of ours it is in a process that the launcher has no descriptor of.
  const long sent =
      context.has(plan::kInit) ? send_message(context, message, listener) : write_message(context, message);  // 7
  CHILD_TRY(check(sent, Step::protocol));
  // Order: only when the supervisor has it, since it may be asked about the very next call.
  CHILD_TRY(check(await_message(context, plan::Kind::proceed), Step::protocol));  // 5
  close_fd(listener);
  return {};
}

Fault load_seccomp_for_hook(const Context& context) {
  if (context.plan().seccomp == 0) return {};
  const unsigned listening = SECCOMP_FILTER_FLAG_NEW_LISTENER | kFlagTsyncEsrch | kFlagWaitKillable;
  return check(load_filter(context, context.plan().seccomp_flags & ~listening), Step::seccomp);
}

}  // namespace skink::child
