// SPDX-License-Identifier: Apache-2.0
#include "supervise/notices.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "skink/engine.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink {
namespace {

constexpr std::array<std::string_view, 4> kReadyWords = {"conmon", "container", "healthy", "ignore"};

}  // namespace

Result<ReadyBy> parse_ready_by(std::string_view text) {
  const auto* const found = std::ranges::find(kReadyWords, text);
  if (found != kReadyWords.end()) return static_cast<ReadyBy>(found - kReadyWords.begin());
  return Error::make(Code::invalid_config, quoted(text), ": expected container, conmon, healthy or ignore");
}

std::string_view to_text(ReadyBy by) { return kReadyWords[static_cast<std::size_t>(by)]; }

}  // namespace skink

namespace skink::supervise {
namespace {

constexpr const char* kSocket = "notify.sock";
constexpr std::string_view kInside = "/run/notify";
constexpr std::size_t kMostStatus = 512;
constexpr std::size_t kMostDatagram = 4096;
// Of Linux 6.5; Debian 12's headers are older.
constexpr int kPassPidfd = 76, kScmPidfd = 4;
constexpr std::size_t kMostRights = 253;  // SCM_MAX_FD

bool passes_pidfd(int socket_fd) {
  int on = 0;
  socklen_t size = sizeof on;
  return ::getsockopt(socket_fd, SOL_SOCKET, kPassPidfd, &on, &size) == 0 && on != 0;
}

void set_env(oci::Strings& env, std::string_view name, std::string_view value) {
  const std::string start = str(name, '=');
  std::erase_if(env, [&](const std::string& entry) { return entry.starts_with(start); });
  env.push_back(str(start, value));
}

}  // namespace

Notice parse_notice(std::string_view datagram) {
  constexpr std::int64_t kLongestUs = 365LL * 24 * 3600 * 1'000'000;
  Notice notice;
  for (const std::string_view line : split(datagram, '\n')) {
    const auto parts = split_once(line, '=');
    if (!parts) continue;
    const auto& [key, value] = *parts;
    if (key == "READY") notice.ready = notice.ready || value == "1";
    else if (key == "STOPPING") notice.stopping = notice.stopping || value == "1";
    else if (key == "STATUS") notice.status = std::string(value.substr(0, kMostStatus));
    else if (key == "WATCHDOG" && value == "trigger") notice.trigger = true;
    else if (key == "WATCHDOG") notice.alive = notice.alive || value == "1";
    else if (key == "WATCHDOG_USEC")
      if (const auto us = parse_int<std::int64_t>(value); us && *us >= 0)
        notice.watchdog_ns = std::min(*us, kLongestUs) * 1000;
  }
  return notice;
}

Result<void> add_notify(oci::Spec& spec, const std::string& run_dir, std::int64_t watchdog_ns) {
  if (!spec.process) return Error::make(Code::invalid_config, "--sdnotify container: there is no process");
  for (const auto& mount : spec.mounts)
    if (mount.destination == kInside)
      return Error::make(Code::invalid_config, "--sdnotify container: something else is mounted on ", kInside,
                         "; mount that elsewhere");
  oci::Mount mount;
  mount.destination = kInside;
  mount.type = "bind";
  mount.source = str(run_dir, '/', std::string_view(kNotifyDirectory));
  mount.options = {"bind", "nosuid", "noexec", "nodev", "ro", "rprivate"};
  spec.mounts.push_back(std::move(mount));
  set_env(spec.process->env, "NOTIFY_SOCKET", str(kInside, '/', std::string_view(kSocket)));
  if (watchdog_ns > 0) set_env(spec.process->env, "WATCHDOG_USEC", str(std::max<std::int64_t>(watchdog_ns / 1000, 1)));
  return {};
}

Result<UniqueFd> listen_notices(int run_dir_fd) {
  if (::mkdirat(run_dir_fd, kNotifyDirectory, 0755) != 0 && errno != EEXIST)
    return Error::from_errno(errno, "mkdir ", std::string_view(kNotifyDirectory));
  const UniqueFd dir = TRY(sys::open_at(run_dir_fd, kNotifyDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  // Whatever our umask is.
  if (::fchmod(dir.get(), 0755) != 0) return Error::from_errno(errno, "chmod ", std::string_view(kNotifyDirectory));
  UniqueFd made(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return Error::from_errno(errno, "socket");
  const int on = 1;
  if (::setsockopt(made.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return Error::from_errno(errno, "SO_PASSCRED");
  (void)::setsockopt(made.get(), SOL_SOCKET, kPassPidfd, &on, sizeof on);
  (void)::unlinkat(dir.get(), kSocket, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // By the descriptor: the run directory's path may be longer than an address.
  str("/proc/self/fd/", dir.get(), '/', std::string_view(kSocket)).copy(address.sun_path, sizeof address.sun_path - 1);
  if (::bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "bind ", std::string_view(kSocket));
  // To send is to write to the file, as any user of the container.
  if (::fchmodat(dir.get(), kSocket, 0777, 0) != 0)
    return Error::from_errno(errno, "chmod ", std::string_view(kSocket));
  return made;
}

std::optional<Datagram> peek_notice(int socket_fd) {
  Datagram datagram;
  std::array<char, kMostDatagram> bytes;  // NOLINT: filled by recvmsg
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  // Room for what the kernel adds and for nothing else: a descriptor that does not fit is none of ours.
  constexpr std::size_t kForCredentials = CMSG_SPACE(sizeof(ucred));
  alignas(cmsghdr) std::array<char, kForCredentials + CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = passes_pidfd(socket_fd) ? control.size() : kForCredentials;
  const ssize_t got = ::recvmsg(socket_fd, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return std::nullopt;
  datagram.has_descriptors = (header.msg_flags & MSG_CTRUNC) != 0;
  if ((header.msg_flags & MSG_TRUNC) == 0) datagram.text.assign(bytes.data(), static_cast<std::size_t>(got));
  for (cmsghdr* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
    if (one->cmsg_level != SOL_SOCKET) continue;
    if (one->cmsg_type == SCM_CREDENTIALS && one->cmsg_len >= CMSG_LEN(sizeof(ucred))) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(one), sizeof sender);
      datagram.sender = sender.pid;
    }
    if ((one->cmsg_type == kScmPidfd || one->cmsg_type == SCM_RIGHTS) && one->cmsg_len >= CMSG_LEN(sizeof(int))) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(one), sizeof fd);
      UniqueFd taken(fd);  // the queue has another of each, so this close is nobody's last
      if (one->cmsg_type == kScmPidfd) datagram.sender_pidfd = std::move(taken);
      else datagram.has_descriptors = true;
    }
  }
  return datagram;
}

void drop_notice(int socket_fd) {
  char byte = 0;
  (void)!::recv(socket_fd, &byte, sizeof byte, MSG_DONTWAIT);
}

int drop_notice_and_exit(int socket_fd) {
  char byte = 0;
  iovec part{.iov_base = &byte, .iov_len = sizeof byte};
  alignas(cmsghdr) std::array<char, 128 + CMSG_SPACE(sizeof(int) * kMostRights)> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  (void)::recvmsg(socket_fd, &header, MSG_DONTWAIT);
  return 0;
}

bool is_sender_inside(const Datagram& datagram, const std::function<bool(pid_t)>& inside) {
  if (datagram.sender <= 0) return false;
  UniqueFd opened;
  if (!datagram.sender_pidfd) {
    auto found = sys::open_pidfd(datagram.sender);
    if (!found) return false;
    opened = std::move(*found);
  }
  const int pidfd = datagram.sender_pidfd ? datagram.sender_pidfd.get() : opened.get();
  if (!inside(datagram.sender)) return false;
  // Order: asked last. The number was not another's while it was looked up. A zombie still has its number.
  return sys::signal_pidfd(pidfd, 0).has_value();
}

}  // namespace skink::supervise
