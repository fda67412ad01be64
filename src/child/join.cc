// SPDX-License-Identifier: Apache-2.0
// Namespaces: joining those that exist, and the first stage that does so before the container process is cloned, so
// that no process of ours whose executable is a host file is ever visible inside (attack A01, A25).
#include <linux/sched.h>

#include "child/context.h"

namespace skink::child {

// Order: before anything of the container is made, so that all of it counts; and before the cgroup namespace, which
// takes the groups of its maker as its root. By the process itself, see Group::open_join_files.
Fault join_groups(Context& context) {
  if (context.grouped) return {};
  context.grouped = true;
  const auto& groups = context.plan().groups_to_join;
  return enter_groups(context.array<int>(groups), groups.count);
}

Fault enter_groups(const int* files, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    CHILD_TRY(check(write_bytes(files[i], "0", 1), Step::join_group, i));
    close_fd(files[i]);
  }
  return {};
}

// Order: on cgroup v1 the namespace takes the groups of its maker as its root, so we have to be in ours by then; the
// mounts of cgroup file systems come after it. Not before they are due: until then the launcher, which records us, and
// we work side by side.
Fault make_cgroup_namespace(Context& context) {
  CHILD_TRY(ensure_placed(context));
  if (!context.has(plan::kNewCgroupNamespace) || context.in_cgroup_namespace) return {};
  context.in_cgroup_namespace = true;
  constexpr unsigned long kNewCgroup = 0x02000000;  // CLONE_NEWCGROUP
  return check(call(__NR_unshare, kNewCgroup), Step::cgroup_namespace);
}

// Order: after the groups, whose cpuset bounds it and, on old kernels, replaces it.
Fault set_cpus(const Context& context) {
  const auto& cpus = context.plan().cpus;
  if (cpus.count == 0) return {};
  const long size = static_cast<long>(cpus.count * sizeof(plan::U64));
  return check(call(__NR_sched_setaffinity, 0, size, arg(context.array<plan::U64>(cpus))), Step::set_cpus);
}

namespace {

constexpr unsigned kNewUser = 0x10000000;  // CLONE_NEWUSER

// One pass over the list: only the user namespace, or all others. Entries that are done have the descriptor -1.
Fault join_some(plan::Namespace* list, unsigned count, bool user, bool may_wait) {
  for (unsigned i = 0; i < count; ++i) {
    if (list[i].fd < 0 || (list[i].flag == kNewUser) != user) continue;
    const long rc = call(__NR_setns, list[i].fd, list[i].flag);
    if (rc == -EPERM && may_wait) continue;
    CHILD_TRY(check(rc, Step::join_namespace, i));
    close_fd(list[i].fd);
    list[i].fd = -1;
  }
  return {};
}

}  // namespace

// Order: a namespace is joined with the privilege over its owner. Those of the host's need ours, so they come before
// the user namespace, which costs us that; those that belong to the user namespace may need it first (a caller without
// privilege), so what was refused is tried again in it.
Fault join_namespaces(Context& context) {
  const auto& joins = context.plan().joins;
  auto* list = reinterpret_cast<plan::Namespace*>(context.bytes(joins.at));
  bool user = false;
  for (unsigned i = 0; i < joins.count; ++i) user = user || list[i].flag == kNewUser;
  CHILD_TRY(join_some(list, joins.count, false, user));
  CHILD_TRY(join_some(list, joins.count, true, false));
  return join_some(list, joins.count, false, false);
}

namespace {

// Order: opened before a mount namespace is joined, in which "/proc" could be anything.
long open_time_offsets(const Context& context) {
  if (context.plan().time_offsets_fd < 0 || context.plan().time_offsets == 0) return 0;
  return open_at(kHere, "/proc/self/timens_offsets", kOpenWrite);
}

Fault make_time_namespace(Context& context, int offsets_fd) {
  if (context.plan().time_offsets_fd < 0) return {};
  constexpr unsigned long kNewTime = 0x80;  // CLONE_NEWTIME: only by unshare, and it holds for the children
  CHILD_TRY(check(call(__NR_unshare, kNewTime), Step::time_offsets));
  if (context.plan().time_offsets == 0) return {};
  // Order: offsets are written after the unshare and before the first process is cloned into the namespace.
  const char* text = context.text(context.plan().time_offsets);
  const long rc = write_bytes(offsets_fd, text, length_of(text));
  close_fd(offsets_fd);
  return check(rc, Step::time_offsets);
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
  const long offsets = open_time_offsets(context);
  CHILD_TRY(check(offsets, Step::time_offsets));
  CHILD_TRY(join_namespaces(context));
  CHILD_TRY(make_time_namespace(context, static_cast<int>(offsets)));
  return clone_inner(context, pid);
}

}  // namespace skink::child
