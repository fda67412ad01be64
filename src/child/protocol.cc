// SPDX-License-Identifier: Apache-2.0
// The child's end of the SEQPACKET protocol of plan/child_plan.h. Message numbers in comments are those of that page.
#include "child/context.h"

namespace skink::child {
namespace {

// struct msghdr and friends as the kernel lays them out for 64-bit callers (man 2 sendmsg, cmsg(3)).
struct IoVec {
  void* base;
  Size length;
};
struct MsgHdr {
  void* name;
  int name_length;
  IoVec* vec;
  Size vec_count;
  void* control;
  Size control_length;
  unsigned flags;
};
struct FdControl {
  Size length;
  int level;
  int type;
  int fd;
  int padding;
};
constexpr int kSolSocket = 1;
constexpr int kScmRights = 1;
constexpr int kNoSignal = 0x4000;          // MSG_NOSIGNAL
constexpr int kCloseOnExec = 0x40000000;   // MSG_CMSG_CLOEXEC
constexpr unsigned kControlTruncated = 8;  // MSG_CTRUNC

long send_on(int socket_fd, const plan::Message& message, int fd) {
  IoVec vec{const_cast<plan::Message*>(&message), sizeof message};
  FdControl control{sizeof(Size) + 2 * sizeof(int) + sizeof(int), kSolSocket, kScmRights, fd, 0};
  MsgHdr header{};
  header.vec = &vec;
  header.vec_count = 1;
  if (fd >= 0) {
    header.control = &control;
    header.control_length = sizeof control;
  }
  long rc = 0;
  do {
    rc = call(__NR_sendmsg, socket_fd, arg(&header), kNoSignal);
  } while (rc == -EINTR);
  return rc;
}

}  // namespace

long send_message(const Context& context, const plan::Message& message, int fd) {
  return send_on(context.plan().sync_fd, message, fd);
}

long await_message(const Context& context, plan::Kind kind) {
  plan::Message message{};
  long got = 0;
  do {
    got = read_bytes(context.plan().sync_fd, &message, sizeof message);
  } while (got == -EINTR);
  if (got < 0) return got;
  if (got == 0) return -EPIPE;
  if (got != sizeof message || message.kind != static_cast<unsigned>(kind)) return -EPROTO;
  return 0;
}

// write(2), not sendmsg(2): a seccomp profile that lets a program run lets it write.
long write_message(const Context& context, const plan::Message& message) {
  return write_bytes(context.plan().sync_fd, &message, sizeof message);
}

// 8: likewise, but a hook's output can only be sent.
void send_fault(int socket_fd, const Fault& fault) {
  plan::Message message{};
  message.kind = static_cast<unsigned>(plan::Kind::fault);
  message.step = static_cast<unsigned>(fault.step);
  message.index = fault.index;
  message.detail = fault.detail;
  message.err = fault.err;
  if (fault.output_fd >= 0) send_on(socket_fd, message, fault.output_fd);
  else write_bytes(socket_fd, &message, sizeof message);
}

namespace {

// In the order of the mounts that bind them.
void take_group_sources(const Context& context, const int* fds, unsigned count) {
  auto* mounts = reinterpret_cast<plan::Mount*>(context.bytes(context.plan().mounts.at));
  for (unsigned i = 0; i < context.plan().mounts.count && count > 0; ++i) {
    if (mounts[i].kind != static_cast<unsigned>(plan::MountKind::tree) || mounts[i].fd >= 0) continue;
    if ((mounts[i].flags & plan::kMountNeedsCgroup) == 0) continue;
    mounts[i].fd = *fds++;
    --count;
  }
}

// The files of the groups, which were made while we were at work.
Fault receive_groups(const Context& context) {
  plan::Message message{};
  IoVec vec{&message, sizeof message};
  struct {
    Size length;
    int level, type;
    int fds[plan::kMostGroups];
  } control{};
  MsgHdr header{};
  header.vec = &vec;
  header.vec_count = 1;
  header.control = &control;
  header.control_length = sizeof control;
  long got = 0;
  do {
    got = call(__NR_recvmsg, context.plan().sync_fd, arg(&header), kCloseOnExec);
  } while (got == -EINTR);
  if (got == 0) got = -EPIPE;
  CHILD_TRY(check(got, Step::protocol));
  if (got != sizeof message || message.kind != static_cast<unsigned>(plan::Kind::placed) ||
      (header.flags & kControlTruncated) != 0)
    return {Step::protocol, 0, EPROTO};
  constexpr Size kHead = sizeof(Size) + 2 * sizeof(int);
  if (header.control_length < kHead) return {};
  const auto count = static_cast<unsigned>((control.length - kHead) / sizeof(int));
  const auto joins = static_cast<unsigned>(message.arg);
  if (joins > count) return {Step::protocol, 0, EPROTO};
  CHILD_TRY(enter_groups(control.fds, joins));
  take_group_sources(context, control.fds + joins, count - joins);
  return {};
}

}  // namespace

// 2
Fault ensure_placed(Context& context) {
  if (context.placed) return {};
  if (context.has(plan::kGroupsFollow)) {
    CHILD_TRY(receive_groups(context));
    CHILD_TRY(set_cpus(context));
  } else {
    CHILD_TRY(check(await_message(context, plan::Kind::placed), Step::protocol));
  }
  context.placed = true;
  return {};
}

}  // namespace skink::child
