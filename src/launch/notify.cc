// SPDX-License-Identifier: Apache-2.0
#include "launch/notify.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "oci/json.h"
#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::launch {
namespace {

std::string process_state(const oci::Seccomp& seccomp, const HookState& state, pid_t pid) {
  oci::Json json;
  json["ociVersion"] = oci::kSpecVersion;
  json["fds"] = oci::Strings{"seccompFd"};
  json["pid"] = pid;
  if (!seccomp.listener_metadata.empty()) json["metadata"] = seccomp.listener_metadata;
  std::string text = oci::dump_json(json);
  text.pop_back();
  return str(text, R"(,"state":)", state_json(state), '}');
}

// Through the directory's descriptor when the path is longer than an address takes.
Result<UniqueFd> connect_to(const std::string& path) {
  UniqueFd socket_fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return Error::from_errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  UniqueFd directory;
  std::string name = path;
  if (name.size() >= sizeof address.sun_path) {
    const auto slash = path.rfind('/');
    directory = TRY(sys::open_at(AT_FDCWD, path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY));
    name = str("/proc/self/fd/", directory.get(), '/', path.substr(slash + 1));
    if (name.size() >= sizeof address.sun_path) return Error::from_errno(ENAMETOOLONG, "connect");
  }
  name.copy(address.sun_path, name.size());
  if (::connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "connect");
  return socket_fd;
}

// The descriptor goes with the first byte; a long state may take several calls.
Result<void> send_with_fd(int socket_fd, std::string_view text, int fd) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  bool first = true;
  while (!text.empty()) {
    iovec vec{const_cast<char*>(text.data()), text.size()};
    msghdr header{};
    header.msg_iov = &vec;
    header.msg_iovlen = 1;
    if (first) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
    }
    const ssize_t put = ::sendmsg(socket_fd, &header, MSG_NOSIGNAL);
    if (put < 0 && sys::must_retry()) continue;
    if (put < 0) return Error::from_errno(errno, "send");
    text.remove_prefix(static_cast<std::size_t>(put));
    first = false;
  }
  return {};
}

// The number comes from skink-init, which is sealed and undumpable, and what it names must be a listener.
Result<UniqueFd> take_listener(int pidfd, Received& received) {
  UniqueFd listener = std::move(received.fd);
  if (!listener) {
    // Declared by hand: glibc 2.36 has no wrapper in every build that we support.
    constexpr long kPidfdGetfd = 438;
    listener = UniqueFd(static_cast<int>(::syscall(kPidfdGetfd, pidfd, received.message.arg, 0)));
    if (!listener) return Error::from_errno(errno, "take the listener from the container's process: pidfd_getfd");
  }
  std::array<char, 64> target{};
  const std::string path = str("/proc/self/fd/", listener.get());
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  if (length <= 0 || std::string_view(target.data(), static_cast<std::size_t>(length)) != "anon_inode:seccomp notify")
    return Error::make(Code::internal, "what the container's process offers is no seccomp listener");
  return listener;
}

}  // namespace

Result<void> check_listener_path(const std::string& path) {
  // With runc's words, which its users look for.
  const auto status = TRY_CTX(sys::stat_at(AT_FDCWD, path.c_str(), 0),
                              "linux.seccomp.listenerPath: failed to connect with seccomp agent");
  if (!S_ISSOCK(status.st_mode))
    return Error::make(Code::invalid_config, "linux.seccomp.listenerPath: ", printable(path), " is no socket");
  return {};
}

Result<void> hand_listener_over(const oci::Seccomp& seccomp, const HookState& state, pid_t pid, int pidfd,
                                Received& received) {
  const UniqueFd listener = TRY(take_listener(pidfd, received));
  const auto what = str("linux.seccomp.listenerPath: ", printable(seccomp.listener_path));
  const UniqueFd socket_fd = TRY_CTX(connect_to(seccomp.listener_path), what);
  TRY_CTX(send_with_fd(socket_fd.get(), process_state(seccomp, state, pid), listener.get()), what);
  return {};
}

}  // namespace skink::launch
