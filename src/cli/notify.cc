// SPDX-License-Identifier: Apache-2.0
#include "cli/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/text.h"
#include "base/unique_fd.h"

namespace skink::cli {

Result<void> notify_service(const std::string& state) {
  const char* given = std::getenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe): one thread
  if (given == nullptr || *given == 0) return {};
  const std::string_view name(given);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((name[0] != '/' && name[0] != '@') || name.size() >= sizeof address.sun_path)
    return Error::make(Code::invalid_config, "NOTIFY_SOCKET: ", quoted(name), " is no address of a socket");
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = 0;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "socket");
  const auto sent = ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address), length);
  if (sent < 0) return Error::from_errno(errno, "tell NOTIFY_SOCKET ", quoted(name));
  return {};
}

}  // namespace skink::cli
