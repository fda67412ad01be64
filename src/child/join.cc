// SPDX-License-Identifier: Apache-2.0
// Namespaces: joining those that exist, and the first stage that does so before the container process is cloned, so
// that no process of ours whose executable is a host file is ever visible inside (attack A01, A25).
#include <linux/sched.h>

#include "child/context.h"

namespace skink::child {

// Order: before anything of the container is made, so that all of it counts; and before the cgroup namespace, which
// takes the groups of its maker as its root. By the process itself, see Group::open_join_files.
Fault join_groups(Context& context) {
  const auto& groups = context.plan().groups_to_join;
  const auto* files = context.array<int>(groups);
  for (unsigned i = 0; i < groups.count; ++i) {
    CHILD_TRY(check(write_bytes(files[i], "0", 1), Step::join_group, i));
    close_fd(files[i]);
  }
  return {};
}

Fault join_namespaces(Context& context) {
  const auto& joins = context.plan().joins;
  const auto* list = context.array<plan::Namespace>(joins);
  for (unsigned i = 0; i < joins.count; ++i) {
    CHILD_TRY(check(call(__NR_setns, list[i].fd, list[i].flag), Step::join_namespace, i));
    close_fd(list[i].fd);
  }
  return {};
}

namespace {

Fault make_time_namespace(Context& context) {
  if (context.plan().time_offsets_fd < 0) return {};
  constexpr unsigned long kNewTime = 0x80;  // CLONE_NEWTIME: only by unshare, and it holds for the children
  CHILD_TRY(check(call(__NR_unshare, kNewTime), Step::time_offsets));
  if (context.plan().time_offsets == 0) return {};
  // Order: offsets are written after the unshare and before the first process is cloned into the namespace.
  const char* text = context.text(context.plan().time_offsets);
  const long fd = open_at(kHere, "/proc/self/timens_offsets", kOpenWrite);
  CHILD_TRY(check(fd, Step::time_offsets));
  return check(write_bytes(static_cast<int>(fd), text, length_of(text)), Step::time_offsets);
}

Fault clone_inner(Context& context, long& pid) {
  int pidfd = -1;
  clone_args args{};
  // CLONE_PARENT: the launcher (or its guard), not this short-lived stage, is the parent that reaps it. The exit signal
  // is then this process's own, and has to be 0 here (man 2 clone3).
  args.flags = context.plan().clone_flags | CLONE_PARENT | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<__u64>(&pidfd);
  if (context.plan().cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<__u64>(context.plan().cgroup_fd);
  }
  pid = call(__NR_clone3, arg(&args), sizeof args);
  CHILD_TRY(check(pid, Step::clone_inner));
  if (pid == 0) return {};
  plan::Message message{};
  message.kind = static_cast<unsigned>(plan::Kind::inner);
  message.arg = static_cast<int>(pid);
  return check(send_message(context, message, pidfd), Step::protocol);  // 1
}

}  // namespace

// Returns only in the second stage, by way of the caller: the first stage ends here.
Fault first_stage(Context& context, long& pid) {
  CHILD_TRY(join_namespaces(context));
  CHILD_TRY(make_time_namespace(context));
  return clone_inner(context, pid);
}

}  // namespace skink::child
