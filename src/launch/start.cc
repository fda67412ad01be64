// SPDX-License-Identifier: Apache-2.0
// The start of a container that waits for it: one message, and what the process answers until its program is executed.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>

#include "base/text.h"
#include "launch/channel.h"
#include "launch/fault.h"
#include "launch/hooks.h"
#include "launch/launch.h"
#include "launch/notify.h"
#include "launch/oom.h"

namespace skink::launch {

// A socket address of at most 108 bytes for a file below a directory of any length: through the descriptor.
Result<UniqueFd> connect_to_start(int dir_fd, const char* name) {
  UniqueFd socket_fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket_fd) return Error::from_errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = str("/proc/self/fd/", dir_fd, '/', std::string_view(name));
  if (path.size() >= sizeof address.sun_path) return Error::from_errno(ENAMETOOLONG, "connect to ", name);
  path.copy(address.sun_path, path.size());
  if (::connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "connect to ", name);
  return socket_fd;
}

namespace {

// A zombie still takes a signal.
bool is_buried(int pidfd) {
  const auto answered = sys::signal_pidfd(pidfd, 0);
  return !answered && answered.error().code() == Code::not_found;
}

}  // namespace

bool awaits_start(int dir_fd, const char* socket_name) { return connect_to_start(dir_fd, socket_name).has_value(); }

Result<void> start_container(const StartRequest& request) {
  UniqueFd found;
  if (request.init_pidfd < 0) found = TRY(sys::open_identified(request.init));
  const int init_pidfd = found ? found.get() : request.init_pidfd;
  const OomWatch oom = request.location != nullptr ? OomWatch(*request.location) : OomWatch();
  UniqueFd connected;
  if (request.connected_fd < 0) {
    auto made = connect_to_start(request.dir_fd, request.socket_name);
    if (!made) return Error::make(Code::busy, "the container is not waiting to be started");
    connected = *std::move(made);
  }
  const int peer = connected ? connected.get() : request.connected_fd;
  TRY(send(peer, plan::Kind::start));
  tell(request.trace, "process ", request.init.pid, " has been told to go on");
  for (bool goes_on = false;;) {
    auto received = TRY(receive(peer));
    if (!received && oom.has_killed_init(request.init.pid))
      return Error::make(Code::internal, "process ", request.init.pid,
                         " was killed before it executed its program: ", oom.words());
    // Its parent has buried it already: of a process that is gone nothing says how far it had come.
    if (!received && goes_on && is_buried(init_pidfd) && oom.has_killed())
      return Error::make(Code::internal, "process ", request.init.pid,
                         " was killed before it executed its program, or as soon as it did: ", oom.words());
    if (!received && !goes_on)
      return Error::make(Code::busy, "process ", request.init.pid, " ended before it could be told to go on");
    // Close-on-exec: the program has been executed.
    if (!received) {
      tell(request.trace, "process ", request.init.pid, " has executed its program");
      return {};
    }
    goes_on = goes_on || received->message.kind == static_cast<plan::U32>(plan::Kind::going);
    if (received->message.kind == static_cast<plan::U32>(plan::Kind::going)) {
      if (request.aside_ms > 0) ::poll(nullptr, 0, request.aside_ms);
      continue;
    }
    const oci::Spec spec = TRY(request.spec());
    if (received->message.kind != static_cast<plan::U32>(plan::Kind::listener) || !spec.linux.seccomp) {
      plan::LaunchPlan words;
      if (spec.process) words.process = *spec.process;
      words.start_container = spec.hooks.start_container;
      return describe_fault(received->message, words, received->fd.get());
    }
    const HookState state = state_of(request.id, request.bundle, spec, "created", request.init.pid);
    TRY(hand_listener_over(*spec.linux.seccomp, state, request.init.pid, init_pidfd, *received));
    TRY(send(peer, plan::Kind::proceed));
  }
}

}  // namespace skink::launch
