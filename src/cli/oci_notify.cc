// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

constexpr const char* kDirectory = "notify";
constexpr const char* kSocket = "notify.sock";
constexpr const char* kInside = "/run/notify";
constexpr int kBarrierMilliseconds = 30'000;

struct Address {
  sockaddr_un name{};
  socklen_t size = 0;
};

Result<Address> make_address(const std::string& text) {
  Address address;
  address.name.sun_family = AF_UNIX;
  if (text.size() >= sizeof address.name.sun_path) return Error::from_errno(ENAMETOOLONG, printable(text));
  text.copy(address.name.sun_path, text.size());
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + 1);
  if (text.starts_with('@')) {
    address.name.sun_path[0] = '\0';
    --address.size;
  }
  return address;
}

Result<UniqueFd> make_socket() {
  UniqueFd made(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!made) return Error::from_errno(errno, "socket");
  return made;
}

Result<UniqueFd> connect_to(const std::string& path) {
  const Address address = TRY(make_address(path));
  UniqueFd made = TRY(make_socket());
  if (::connect(made.get(), reinterpret_cast<const sockaddr*>(&address.name), address.size) != 0)
    return Error::from_errno(errno, printable(path));
  return made;
}

// Through the descriptor: the path of the state directory may be longer than an address (attack A94).
Result<UniqueFd> listen_in(int directory_fd) {
  UniqueFd made = TRY(make_socket());
  // Of a `start` that was killed before it said start.
  (void)::unlinkat(directory_fd, kSocket, 0);
  const Address address = TRY(make_address(str("/proc/self/fd/", directory_fd, '/', std::string_view(kSocket))));
  if (::bind(made.get(), reinterpret_cast<const sockaddr*>(&address.name), address.size) != 0)
    return Error::from_errno(errno, "bind ", std::string_view(kSocket));
  // To send is to write to the file: the program may be any user, and of a user namespace.
  if (::fchmodat(directory_fd, kSocket, 0777, 0) != 0)
    return Error::from_errno(errno, "chmod ", std::string_view(kSocket));
  return made;
}

Result<void> send_text(int socket_fd, std::string_view text, int attached_fd = -1) {
  iovec vec{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  if (attached_fd >= 0) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(part), &attached_fd, sizeof(int));
  }
  ssize_t put = 0;
  do {
    put = ::sendmsg(socket_fd, &header, MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  if (put < 0) return Error::from_errno(errno, "NOTIFY_SOCKET: send");
  return {};
}

}  // namespace

std::string notify_address() {
  const char* const value = ::getenv("NOTIFY_SOCKET");
  return value != nullptr ? value : "";
}

void add_notify(oci::Spec& spec, const std::string& directory) {
  oci::Mount mount;
  mount.destination = kInside;
  mount.source = str(directory, '/', std::string_view(kDirectory));
  mount.options = {"bind", "nosuid", "noexec", "nodev", "ro"};
  spec.mounts.push_back(std::move(mount));
  auto& env = spec.process->env;
  std::erase_if(env, [](const std::string& entry) { return entry.starts_with("NOTIFY_SOCKET="); });
  env.push_back(str("NOTIFY_SOCKET=", std::string_view(kInside), '/', std::string_view(kSocket)));
}

Result<void> make_notify_directory(int container_fd) {
  TRY(sys::mkdir_at(container_fd, kDirectory, 0755));
  // Whatever our umask is.
  if (::fchmodat(container_fd, kDirectory, 0755, 0) != 0)
    return Error::from_errno(errno, "chmod ", std::string_view(kDirectory));
  return {};
}

bool has_notify_directory(int container_fd) {
  return sys::stat_at(container_fd, kDirectory, AT_SYMLINK_NOFOLLOW).has_value();
}

Result<NotifyRelay> NotifyRelay::open(const std::string& address, int container_fd) {
  const UniqueFd directory = TRY(sys::open_at(container_fd, kDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  NotifyRelay relay;
  relay.manager_ = TRY_CTX(connect_to(address), "NOTIFY_SOCKET: connect to the service manager");
  relay.socket_ = TRY_CTX(listen_in(directory.get()), "NOTIFY_SOCKET");
  return relay;
}

// Datagrams of several lines each. Nothing but the bytes is taken: descriptors that come along are dropped.
Result<void> NotifyRelay::take(pid_t main_pid) {
  constexpr int kMany = 64;  // whoever floods us does not keep us from all else
  std::array<char, 4096> buffer{};
  for (int i = 0; i < kMany; ++i) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN && errno != EINTR) return Error::from_errno(errno, "NOTIFY_SOCKET: receive");
    if (got < 0) return {};
    if (told_) continue;
    for (const std::string_view line : split({buffer.data(), static_cast<std::size_t>(got)}, '\n'))
      if (line.starts_with("READY=") && !told_) TRY(tell(line, main_pid));
  }
  return {};
}

// The barrier is the end of a pipe: the manager closes it when it has acted on all that came before, so that it does
// not lose us, who said it, before it knows whom to watch (man 3 sd_notify_barrier).
Result<void> NotifyRelay::tell(std::string_view ready, pid_t main_pid) {
  told_ = true;
  TRY(send_text(manager_.get(), str(ready, '\n')));
  TRY(send_text(manager_.get(), str("MAINPID=", main_pid, '\n')));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe2");
  barrier_ = UniqueFd(ends[0]);
  const UniqueFd given(ends[1]);
  return send_text(manager_.get(), "BARRIER=1", given.get());
}

Result<void> NotifyRelay::await_barrier() {
  pollfd closed{barrier_.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&closed, 1, kBarrierMilliseconds);
  } while (ready < 0 && errno == EINTR);
  settle();
  if (ready != 0) return {};
  return Error::make(Code::busy, "NOTIFY_SOCKET: the service manager did not take the barrier within ",
                     kBarrierMilliseconds / 1000, " s");
}

Result<void> NotifyRelay::wait(int pidfd, pid_t main_pid) {
  while (!told_) {
    std::array<pollfd, 2> fds{{{socket_.get(), POLLIN, 0}, {pidfd, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return Error::from_errno(errno, "poll");
    }
    if (fds[0].revents != 0) TRY(take(main_pid));
    else if (fds[1].revents != 0) return {};
  }
  return await_barrier();
}

}  // namespace skink::cli
