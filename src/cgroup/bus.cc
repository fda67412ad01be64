// SPDX-License-Identifier: Apache-2.0
#include "cgroup/bus.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/text.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::cgroup::bus {
namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kObject = "/org/freedesktop/systemd1";
constexpr const char* kManagerInterface = "org.freedesktop.systemd1.Manager";
// A nameless EXTERNAL asks the other side to take who we are from the socket: a number of ours would be one of our user
// namespace, which the bus does not know.
constexpr char kAuthenticationBytes[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
constexpr std::string_view kAuthentication{kAuthenticationBytes, sizeof kAuthenticationBytes - 1};

std::string environment(const char* name) {
  const char* value = ::secure_getenv(name);
  return value == nullptr ? "" : value;
}

// "unix:path=/run/user/1000/bus,guid=...;..." (D-Bus Specification, "Server Addresses"); other transports are not for
// us.
std::string socket_path(std::string_view addresses) {
  constexpr std::string_view kPrefix = "unix:path=";
  for (const std::string_view address : split(addresses, ';'))
    if (address.starts_with(kPrefix)) {
      const std::string_view path = address.substr(kPrefix.size());
      return std::string(path.substr(0, path.find(',')));
    }
  return "";
}

struct Address {
  std::string path;
  bool direct = false;
};

// A bus that the environment names; else systemd's own socket, which systemctl takes too: half the time is the bus's;
// and the bus where it always is, for a container into which only that was mounted.
std::vector<Address> addresses_of(Manager manager) {
  const bool system = manager == Manager::system;
  std::string directory = environment("XDG_RUNTIME_DIR");
  if (directory.empty()) directory = str("/run/user/", ::geteuid());
  const std::string named = socket_path(environment(system ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS"));
  std::vector<Address> out;
  if (!named.empty()) out.push_back({named, false});
  out.push_back({system ? "/run/systemd/private" : directory + "/systemd/private", true});
  out.push_back({system ? "/run/dbus/system_bus_socket" : directory + "/bus", false});
  return out;
}

Result<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error::make(Code::invalid_config, "the path of the bus is too long: ", printable(path));
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "socket");
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    if (errno != EINTR) return Error::from_errno(errno, "connect to ", printable(path));
  return socket;
}

Error no_manager(Manager manager, const std::string& tried) {
  if (manager == Manager::system)
    return Error::make(Code::unsupported, "systemd does not answer (", tried,
                       "); is it pid 1 here? Without it leave --systemd-cgroup out");
  return Error::make(Code::unsupported, "the systemd of this user's session does not answer (", tried,
                     "); log in with a session (loginctl enable-linger keeps one), set XDG_RUNTIME_DIR, or leave "
                     "--systemd-cgroup out");
}

}  // namespace

Manager callers_manager() {
  if (::geteuid() != 0) return Manager::user;
  if (!sys::in_user_namespace()) return Manager::system;
  // Root of a container that was booted has a systemd of its own, whose directory is root's; the host's is nobody's.
  const auto own = sys::stat_at(AT_FDCWD, "/run/systemd/system", AT_SYMLINK_NOFOLLOW);
  return own && own->st_uid == 0 ? Manager::system : Manager::user;
}

Result<Connection> Connection::open(Manager manager, std::chrono::milliseconds patience) {
  std::string tried;
  for (const Address& address : addresses_of(manager)) {
    auto socket = connect_to(address.path);
    if (!socket) {
      tried += str(tried.empty() ? "" : "; ", socket.error().text());
      continue;
    }
    Connection connection(*std::move(socket), address.direct, patience);
    connection.out_ = kAuthentication;
    if (!address.direct)
      connection.queue({"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", {}});
    return connection;
  }
  return no_manager(manager, tried);
}

std::uint32_t Connection::queue(Call call) {
  if (direct_) call.destination.clear();
  out_ += encode_call(call, ++serial_);
  return serial_;
}

std::uint32_t Connection::send(std::string member, std::vector<Value> arguments) {
  return queue({kService, kObject, kManagerInterface, std::move(member), std::move(arguments)});
}

void Connection::watch_jobs() {
  if (!direct_)
    queue({"org.freedesktop.DBus",
           "/org/freedesktop/DBus",
           "org.freedesktop.DBus",
           "AddMatch",
           {text(str("type='signal',sender='", kService, "',interface='", kManagerInterface,
                     "',member='JobRemoved',path='", kObject, "'"))}});
  // Without a subscriber the manager sends no signals. Its answer is of no interest: it says so when we are one
  // already.
  send("Subscribe", {});
}

Result<void> Connection::flush() {
  while (!out_.empty()) {
    const ssize_t sent = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Error::from_errno(errno, "send to systemd");
    out_.erase(0, static_cast<std::size_t>(sent));
  }
  return {};
}

// Adds what there is to `in_`; how much.
Result<std::size_t> Connection::receive() {
  TRY(flush());
  for (;;) {
    pollfd entry{socket_.get(), POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_.left()).count();
    const int ready = ::poll(&entry, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return Error::from_errno(errno, "poll");
    if (ready == 0) return Error::make(Code::busy, "systemd did not answer in time; `systemctl list-jobs` tells why");
    char buffer[4096];
    const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Error::from_errno(errno, "receive from systemd");
    if (count == 0) return Error::make(Code::denied, "systemd closed the connection");
    in_.append(buffer, static_cast<std::size_t>(count));
    return static_cast<std::size_t>(count);
  }
}

// "Authentication Protocol": "DATA" asks for more, which we have sent already; "OK" and a GUID lets us in.
Result<void> Connection::authenticated() {
  while (!authenticated_) {
    const std::size_t end = in_.find("\r\n");
    if (end == std::string::npos) {
      constexpr std::size_t kLongestLine = 16384;
      if (in_.size() > kLongestLine)
        return Error::make(Code::corrupt, "the bus answers with something else than D-Bus");
      TRY(receive());
      continue;
    }
    const std::string line = in_.substr(0, end);
    in_.erase(0, end + 2);
    if (line.starts_with("OK")) authenticated_ = true;
    else if (line != "DATA")
      return Error::make(Code::denied, "the bus of systemd does not let this user in: ", printable(line));
  }
  return {};
}

Result<Message> Connection::next() {
  TRY(flush());
  TRY(authenticated());
  for (;;) {
    const auto length = TRY(message_length(in_));
    if (length && in_.size() >= *length) {
      Message message = TRY(decode(std::string_view(in_).substr(0, *length)));
      in_.erase(0, *length);
      return message;
    }
    TRY(receive());
  }
}

Result<Message> Connection::answer(std::uint32_t serial) {
  for (;;) {
    Message message = TRY(next());
    if (message.kind == Kind::signal) kept_.push_back(std::move(message));
    else if (message.answers == serial && message.kind == Kind::answer) return message;
    else if (message.answers == serial && message.kind == Kind::error) {
      error_name_ = message.error;
      const auto words = message.signature.starts_with('s') ? Reader(message.body).text() : std::nullopt;
      return Error::make(Code::os, words ? printable(*words) : "", words ? " (" : "(", printable(message.error), ")");
    }
  }
}

Result<Message> Connection::call(std::string member, std::vector<Value> arguments) {
  return answer(send(std::move(member), std::move(arguments)));
}

Result<std::string> Connection::manager_property(std::string name) {
  const Message message = TRY(answer(queue({kService,
                                            kObject,
                                            "org.freedesktop.DBus.Properties",
                                            "Get",
                                            {text(kManagerInterface), text(std::move(name))}})));
  Reader body(message.body);
  const auto type = body.signature();
  auto value = type && *type == "s" ? body.text() : std::nullopt;
  if (!value) return Error::make(Code::corrupt, "systemd answers with something else than a text");
  return *std::move(value);
}

// JobRemoved: number, object path, unit and result.
Result<std::string> Connection::wait_for_job(const std::string& job) {
  for (;;) {
    Message message;
    if (kept_.empty()) {
      message = TRY(next());
    } else {
      message = std::move(kept_.front());
      kept_.pop_front();
    }
    if (message.kind != Kind::signal || message.member != "JobRemoved" || message.interface != kManagerInterface)
      continue;
    Reader body(message.body);
    const auto number = body.u32();
    const auto path = body.text();
    const auto unit = body.text();
    const auto result = body.text();
    if (number && path && unit && result && *path == job) return *result;
  }
}

}  // namespace skink::cgroup::bus
