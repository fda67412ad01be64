// SPDX-License-Identifier: Apache-2.0
#include "supervise/control.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "fs/dir.h"
#include "supervise/records.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

// A path of a socket has at most 107 bytes, a run directory may be deeper: the descriptor's own link is always short.
sockaddr_un address_in(int dir_fd, const char* name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = str("/proc/self/fd/", dir_fd, "/", std::string_view(name));
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<UniqueFd> new_socket(int flags) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!fd) return Error::from_errno(errno, "socket");
  return fd;
}

constexpr std::size_t kControlSpace = CMSG_SPACE(sizeof(int) * kMostMessageFds);

// Takes the descriptors of a received message; more than fit were closed by the kernel (MSG_CTRUNC).
std::vector<UniqueFd> take_fds(msghdr& header) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

Result<UniqueFd> listen_below(int run_dir_fd, const char* name, Listener kind) {
  UniqueFd listener = TRY(new_socket(kind == Listener::does_not_block ? SOCK_NONBLOCK : 0));
  // The socket's own mode becomes the file's: there is no moment in which others could connect.
  if (::fchmod(listener.get(), 0600) != 0) return Error::from_errno(errno, "chmod of the socket ", name);
  if (::unlinkat(run_dir_fd, name, 0) != 0 && errno != ENOENT) return Error::from_errno(errno, "unlink ", name);
  const sockaddr_un address = address_in(run_dir_fd, name);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "bind ", name);
  if (::listen(listener.get(), 128) != 0) return Error::from_errno(errno, "listen");
  return listener;
}

Result<UniqueFd> listen_control(int run_dir_fd) {
  return listen_below(run_dir_fd, kControlSocket, Listener::does_not_block);
}

Result<UniqueFd> connect_control(int run_dir_fd) {
  UniqueFd socket = TRY(new_socket(0));
  const sockaddr_un address = address_in(run_dir_fd, kControlSocket);
  // A full backlog makes connect block; a stopped supervisor must not hold us for ever (fault F24).
  timeval patience{.tv_sec = 0, .tv_usec = 200'000};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  int rc = 0;
  do {
    rc = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (rc != 0 && errno == EINTR);
  if (rc != 0 && (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR))
    return Error::make(Code::not_found, "no supervisor answers");
  if (rc != 0 && errno == EAGAIN) return Error::make(Code::busy, "too many others wait for the supervisor");
  if (rc != 0) return Error::from_errno(errno, "connect to the supervisor");
  return socket;
}

bool is_own_peer(int socket_fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

Result<void> send_message(int socket_fd, const oci::Json& json, std::span<const int> fds) {
  std::string text = oci::dump_json(json);
  if (text.size() > kMessageLimit || fds.size() > kMostMessageFds)
    return Error::make(Code::invalid_config, "message to the supervisor is too large");
  iovec part{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, kControlSpace> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {};
  if (errno == EAGAIN) return Error::make(Code::busy, "the other end does not read");
  if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return Error::make(Code::not_found, kHangUp);
  return Error::from_errno(errno, "sendmsg");
}

Result<Message> receive_message(int socket_fd) {
  std::string text(kMessageLimit, '\0');
  iovec part{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, kControlSpace> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket_fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return Error::make(Code::busy, "no message");
  if (got < 0 && errno != ECONNRESET) return Error::from_errno(errno, "recvmsg");
  if (got <= 0) return Error::make(Code::not_found, kHangUp);
  Message message;
  message.fds = take_fds(header);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return Error::make(Code::corrupt, "message is too large");
  text.resize(static_cast<std::size_t>(got));
  auto json = oci::parse_json(text, kMessageLimit);
  if (!json || !json->is_object()) return Error::make(Code::corrupt, "message is not a JSON object");
  message.json = std::move(*json);
  return message;
}

Result<Message> await_message(int socket_fd, std::int64_t deadline_ns) {
  for (;;) {
    auto message = receive_message(socket_fd);
    if (message || message.error().code() != Code::busy) return message;
    int timeout = -1;
    if (deadline_ns != 0) {
      const std::int64_t left = deadline_ns - fs::monotonic_ns();
      if (left <= 0) return Error::make(Code::busy, "the supervisor does not answer in time");
      timeout = static_cast<int>(std::min<std::int64_t>(left / 1'000'000 + 1, 1'000'000));
    }
    pollfd ready{.fd = socket_fd, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, timeout) < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
  }
}

oci::Json error_json(const Error& error) {
  // The kernel's cap on one message must never swallow an error.
  constexpr std::size_t kLongestText = 8192;
  return oci::Json{{"error", error.text().substr(0, kLongestText)},
                   {"code", static_cast<int>(error.code())},
                   {"errno", error.errnum()}};
}

Error error_of(const oci::Json& json) {
  const std::int64_t code = oci::get_int(json, "code", static_cast<int>(Code::internal));
  const bool known = code >= 0 && code <= static_cast<int>(Code::not_executable);
  Error error = Error::make(known ? static_cast<Code>(code) : Code::internal,
                            oci::get_string(json, "error", "no reason was given"));
  // Others mean something to the caller about what it has called itself.
  const std::int64_t errnum = oci::get_int(json, "errno", 0);
  const bool tells_of_host = errnum == EPERM || errnum == EACCES || errnum == ENOSYS;
  return std::move(error).numbered(tells_of_host ? static_cast<int>(errnum) : 0);
}

}  // namespace skink::supervise
