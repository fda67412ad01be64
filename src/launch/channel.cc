// SPDX-License-Identifier: Apache-2.0
#include "launch/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "fs/dir.h"
#include "sys/interrupt.h"

namespace skink::launch {

Result<SocketPair> make_socket_pair() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0)
    return Error::from_errno(errno, "socketpair");
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<void> send(int socket_fd, plan::Kind kind, const std::vector<UniqueFd>& files, int arg) {
  plan::Message message{};
  message.kind = static_cast<plan::U32>(kind);
  message.arg = arg;
  iovec vec{&message, sizeof message};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(plan::kMostGroups * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  if (files.size() > plan::kMostGroups) return Error::from_errno(E2BIG, "send to the container's process");
  if (!files.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
    for (std::size_t i = 0; i < files.size(); ++i) {
      const int fd = files[i].get();
      std::memcpy(CMSG_DATA(part) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  ssize_t put = 0;
  do {
    put = ::sendmsg(socket_fd, &header, MSG_NOSIGNAL);
  } while (put < 0 && sys::must_retry());
  if (put < 0 && (errno == EPIPE || errno == ECONNRESET))
    return Error::make(Code::not_found, "the container's process is gone").numbered(kKilledNumber);
  if (put < 0) return Error::from_errno(errno, "send to the container's process");
  return {};
}

Result<void> await_message(int socket_fd, std::int64_t end_ns) {
  for (;;) {
    const std::int64_t left = end_ns - fs::monotonic_ns();
    pollfd ready{socket_fd, POLLIN, 0};
    const int count = ::poll(&ready, 1, left <= 0 ? 0 : static_cast<int>(left / 1'000'000 + 1));
    if (count > 0) return {};
    if (count < 0 && !sys::must_retry()) return Error::from_errno(errno, "poll");
    if (left <= 0)
      return Error::make(Code::busy,
                         "the process does not get to its program: something in the container has stopped it, or its "
                         "control group is frozen or has no CPU time");
  }
}

Result<std::optional<Received>> receive(int socket_fd) {
  Received received;
  iovec vec{&received.message, sizeof received.message};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = 0;
  // ECONNRESET: the other side died without reading what we sent. That is told once, before the fault that it sent.
  do {
    got = ::recvmsg(socket_fd, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && (sys::must_retry() || errno == ECONNRESET));
  if (got < 0) return Error::from_errno(errno, "receive from the container's process");
  const cmsghdr* part = CMSG_FIRSTHDR(&header);
  if (part != nullptr && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
    received.fd = UniqueFd(fd);
  }
  // What came with it is lost: there was no number for it here.
  if ((header.msg_flags & MSG_CTRUNC) != 0)
    return Error::from_errno(EMFILE, "receive a descriptor from the container's process");
  if (got == 0) return std::optional<Received>{};
  if (static_cast<std::size_t>(got) != sizeof received.message)
    return Error::make(Code::internal, "a message of ", got, " bytes from the container's process");
  return std::optional<Received>(std::move(received));
}

}  // namespace skink::launch
