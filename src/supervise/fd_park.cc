// SPDX-License-Identifier: Apache-2.0
#include "supervise/fd_park.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace skink::supervise {
namespace {

struct Header {
  std::uint32_t magic, count;
};
struct Label {
  Parked::Kind kind;
  std::uint32_t pid;
};
constexpr std::uint32_t kMagic = 0x6b726170;
constexpr std::size_t kMessageSize = sizeof(Header) + sizeof(Label) * kMostParked;

struct Received {
  std::array<char, kMessageSize> bytes{};
  std::size_t size = 0;
  std::vector<UniqueFd> fds;
};

// One message; nothing when the queue is empty (or, peeking, when the end was reached).
Result<bool> receive(int fd, int flags, Received& into) {
  iovec part{.iov_base = into.bytes.data(), .iov_len = into.bytes.size()};
  std::vector<char> control(CMSG_SPACE(sizeof(int) * kMostParked));
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd, &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && errno == EAGAIN) return false;
  if (got < 0) return Error::from_errno(errno, "recvmsg of parked descriptors");
  into.size = static_cast<std::size_t>(got);
  into.fds.clear();
  for (cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr; rights = CMSG_NXTHDR(&header, rights)) {
    if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(rights) + i * sizeof(int), sizeof number);
      into.fds.emplace_back(number);
    }
  }
  return true;
}

// How many messages wait, and a copy of the last one. SO_PEEK_OFF makes each peek go on where the last one stopped.
Result<std::size_t> peek_last(int out_fd, Received& last) {
  int offset = 0;
  if (::setsockopt(out_fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) != 0)
    return Error::from_errno(errno, "SO_PEEK_OFF");
  std::size_t count = 0;
  for (;;) {
    Received next;
    if (!TRY(receive(out_fd, MSG_PEEK, next))) break;
    last = std::move(next);
    ++count;
  }
  return count;
}

}  // namespace

Result<void> park(int in_fd, int out_fd, std::span<const Parked> parked) {
  if (parked.size() > kMostParked) return Error::make(Code::busy, "too many descriptors to keep");
  Received before;
  const std::size_t old = TRY(peek_last(out_fd, before));

  std::array<char, kMessageSize> bytes{};
  const Header head{kMagic, static_cast<std::uint32_t>(parked.size())};
  std::memcpy(bytes.data(), &head, sizeof head);
  std::vector<int> fds;
  for (std::size_t i = 0; i < parked.size(); ++i) {
    const Label label{parked[i].kind, parked[i].pid};
    std::memcpy(bytes.data() + sizeof head + i * sizeof label, &label, sizeof label);
    fds.push_back(parked[i].fd);
  }
  iovec part{.iov_base = bytes.data(), .iov_len = sizeof head + sizeof(Label) * parked.size()};
  std::vector<char> control(CMSG_SPACE(sizeof(int) * std::max<std::size_t>(fds.size(), 1)));
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  if (::sendmsg(in_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    return Error::from_errno(errno, "sendmsg of descriptors to keep");
  for (std::size_t i = 0; i < old; ++i) {
    Received dropped;
    TRY(receive(out_fd, 0, dropped));
  }
  return {};
}

Result<std::vector<Unparked>> look_parked(int out_fd) {
  Received last;
  std::vector<Unparked> found;
  if (TRY(peek_last(out_fd, last)) == 0) return found;
  Header head{};
  if (last.size < sizeof head) return Error::make(Code::corrupt, "kept descriptors: short message");
  std::memcpy(&head, last.bytes.data(), sizeof head);
  if (head.magic != kMagic || head.count != last.fds.size() || last.size != sizeof head + head.count * sizeof(Label))
    return Error::make(Code::corrupt, "kept descriptors: not a message of ours");
  for (std::size_t i = 0; i < last.fds.size(); ++i) {
    Label label{};
    std::memcpy(&label, last.bytes.data() + sizeof head + i * sizeof label, sizeof label);
    found.push_back({label.kind, label.pid, std::move(last.fds[i])});
  }
  return found;
}

}  // namespace skink::supervise
