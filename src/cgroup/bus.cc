// SPDX-License-Identifier: Apache-2.0
#include "cgroup/bus.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"
#include "sys/interrupt.h"
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

// Other bytes than letters, digits and some signs are written as %XX there.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto byte = text[at] == '%' ? parse_int<unsigned char>(text.substr(at + 1, 2), 16) : std::nullopt;
    out += byte ? static_cast<char>(*byte) : text[at];
    if (byte) at += 2;
  }
  return out;
}

// "unix:path=/run/user/1000/bus,guid=...;..." (D-Bus Specification, "Server Addresses"); other transports are not for
// us.
std::string socket_path(std::string_view addresses) {
  constexpr std::string_view kPrefix = "unix:path=";
  for (const std::string_view address : split(addresses, ';'))
    if (address.starts_with(kPrefix)) {
      const std::string_view path = address.substr(kPrefix.size());
      return unescaped(path.substr(0, path.find(',')));
    }
  return "";
}

struct Address {
  std::string path;
  bool direct = false;
};

// As the host knows us: root of a user namespace that a user made is that user ("0 1000 1", man 7 user_namespaces).
std::uint64_t outer_user() {
  const std::uint64_t own = ::geteuid();
  const auto map = fs::read_file(AT_FDCWD, "/proc/self/uid_map", 65536);
  for (const auto line : split(map ? std::string_view(*map) : std::string_view{}, '\n')) {
    std::uint64_t numbers[3] = {};  // first inside, first outside, how many
    std::size_t count = 0;
    for (const auto word : split(line, ' '))
      if (!word.empty() && count < std::size(numbers)) numbers[count++] = parse_int<std::uint64_t>(word).value_or(0);
    if (own >= numbers[0] && own - numbers[0] < numbers[2]) return numbers[1] + (own - numbers[0]);
  }
  return own;
}

// A bus that the environment names; else systemd's own socket, which systemctl takes too: half the time is the bus's;
// and the bus where it always is, for a container into which only that was mounted.
std::vector<Address> addresses_of(Manager manager) {
  const bool system = manager == Manager::system;
  std::string directory = environment("XDG_RUNTIME_DIR");
  if (directory.empty()) directory = str("/run/user/", outer_user());
  const std::string named = socket_path(environment(system ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS"));
  std::vector<Address> out;
  if (!named.empty()) out.push_back({named, false});
  out.push_back({system ? "/run/systemd/private" : directory + "/systemd/private", true});
  out.push_back({system ? "/run/dbus/system_bus_socket" : directory + "/bus", false});
  return out;
}

// A bus that hangs has a full queue sooner or later: neither connecting nor sending waits for ever.
Result<void> bound_waiting(int socket_fd, std::chrono::milliseconds patience) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(patience);
  timeval limit{};
  limit.tv_sec = seconds.count();
  limit.tv_usec = std::chrono::microseconds(patience - seconds).count();
  if (::setsockopt(socket_fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0) return {};
  return Error::from_errno(errno, "SO_SNDTIMEO");
}

Error too_late() { return Error::make(Code::busy, "systemd did not answer in time; `systemctl list-jobs` tells why"); }

Result<UniqueFd> connect_to(const std::string& path, std::chrono::milliseconds patience) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error::make(Code::invalid_config, "the path of the bus is too long: ", printable(path));
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "socket");
  TRY(bound_waiting(socket.get(), patience));
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EAGAIN) return too_late();
    if (!sys::must_retry()) return Error::from_errno(errno, "connect to ", printable(path));
  }
  return socket;
}

// We name processes to systemd by numbers. In another PID namespace these are other processes, which it would move and
// kill; the kernel shows that by giving us no number for the other side.
Result<void> check_same_pids(int socket_fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return Error::from_errno(errno, "SO_PEERCRED");
  if (peer.pid > 0) return {};
  return Error::make(Code::unsupported,
                     "systemd is in another PID namespace, where the numbers of our processes mean others; run in its "
                     "own one, or leave --systemd-cgroup out");
}

// man 3 sd_booted: whether there is one that can come back.
bool is_systemd_here() { return sys::is_there(AT_FDCWD, "/run/systemd/system"); }

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
  bool refused = false;
  for (const Address& address : addresses_of(manager)) {
    auto socket = connect_to(address.path, patience);
    if (!socket) {
      refused = refused || socket.error().errnum() == ECONNREFUSED;
      tried += str(tried.empty() ? "" : "; ", socket.error().text());
      continue;
    }
    TRY(check_same_pids(socket->get()));
    Connection connection(*std::move(socket), address.direct, patience);
    connection.out_ = kAuthentication;
    connection.ask_bus("Hello", {});
    return connection;
  }
  if (refused && is_systemd_here())  // it listened a moment ago, and will again
    return Error::from_errno(ECONNREFUSED, "systemd has stopped to listen (", tried, ")").as(Code::unsupported);
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

// Without a bus between there is nothing to ask it.
void Connection::ask_bus(std::string member, std::vector<Value> arguments) {
  constexpr const char* kBus = "org.freedesktop.DBus";
  if (!direct_)
    needed_.push_back(queue({kBus, "/org/freedesktop/DBus", kBus, std::move(member), std::move(arguments)}));
}

void Connection::watch_jobs() {
  ask_bus("AddMatch", {text(str("type='signal',sender='", kService, "',interface='", kManagerInterface,
                                "',member='JobRemoved',path='", kObject, "'"))});
  // systemd that executes itself anew leaves the bus, and what it says of our job later comes under another name.
  ask_bus("AddMatch", {text(str("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                                "member='NameOwnerChanged',arg0='",
                                kService, "'"))});
  // Without a subscriber the manager sends no signals. Its answer is of no interest: it says so when we are one
  // already.
  send("Subscribe", {});
}

Result<void> Connection::flush() {
  while (!out_.empty()) {
    const ssize_t sent = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (sent < 0 && sys::must_retry()) continue;
    if (sent < 0 && errno == EAGAIN) return too_late();
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
    if (ready < 0 && sys::must_retry()) continue;
    if (ready < 0) return Error::from_errno(errno, "poll");
    if (ready == 0) return too_late();
    char buffer[4096];
    const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (count < 0 && sys::must_retry()) continue;
    if (count < 0) return Error::from_errno(errno, "receive from systemd");
    if (count == 0 && authenticated_) return Error::from_errno(ECONNRESET, "systemd closed the connection");
    if (count == 0) return Error::make(Code::denied, "systemd closed the connection");
    in_.append(buffer, static_cast<std::size_t>(count));
    return static_cast<std::size_t>(count);
  }
}

Result<std::string> Connection::line() {
  for (;; TRY(receive())) {
    const std::size_t end = in_.find("\r\n");
    constexpr std::size_t kLongest = 16384;
    if (end == std::string::npos && in_.size() < kLongest) continue;
    if (end == std::string::npos) return Error::make(Code::corrupt, "the bus answers with something else than D-Bus");
    std::string line = in_.substr(0, end);
    in_.erase(0, end + 2);
    return line;
  }
}

// "Authentication Protocol": AUTH is answered by "DATA", which asks for what we have sent already, and that by "OK" and
// a GUID. Some let us in for each.
Result<void> Connection::authenticate() {
  constexpr int kAnswers = 2;
  bool let_in = false;
  for (int count = 0; count < kAnswers; ++count) {
    const std::string said = TRY(line());
    if (said.starts_with("OK")) let_in = true;
    else if (!let_in && said != "DATA")
      return Error::make(Code::denied, "the bus of systemd does not let this user in: ", printable(said));
  }
  if (!let_in) return Error::make(Code::denied, "the bus of systemd does not let this user in");
  authenticated_ = true;
  return {};
}

// Order: systemd itself (sd-bus) takes up to 256 bytes as authentication, and does not look at a message that came with
// them before more comes. Where that is all, the message has to be sent later.
Result<void> Connection::begin() {
  constexpr std::size_t kTaken = 256;
  std::string later;
  if (direct_ && out_.size() <= kTaken) {
    later = out_.substr(kAuthentication.size());
    out_.resize(kAuthentication.size());
  }
  TRY(authenticate());
  out_ += later;
  return {};
}

Result<Message> Connection::next() {
  if (!authenticated_) TRY(begin());
  TRY(flush());
  for (;;) {
    const auto length = TRY(message_length(in_));
    if (length && in_.size() >= *length) {
      Message message = TRY(decode(std::string_view(in_).substr(0, *length)));
      in_.erase(0, *length);
      // Only the bus itself can have this sender.
      if (message.kind == Kind::signal && message.member == "NameOwnerChanged" &&
          message.sender == "org.freedesktop.DBus")
        return Error::from_errno(ECONNRESET, "systemd has left the bus");
      return message;
    }
    TRY(receive());
  }
}

Result<Message> Connection::answer(std::uint32_t serial) {
  for (;;) {
    Message message = TRY(next());
    const bool ours = message.answers == serial;
    if (message.kind == Kind::signal && message.member == "JobRemoved") kept_.push_back(std::move(message));
    else if (message.kind == Kind::answer && ours) {
      manager_ = message.sender;
      return message;
    } else if (message.kind == Kind::error && (ours || std::ranges::count(needed_, message.answers) != 0)) {
      error_name_ = message.error;
      const auto words = message.signature.starts_with('s') ? Reader(message.body).text() : std::nullopt;
      const std::string said = str(words ? printable(*words) : "", words ? " (" : "(", printable(message.error), ")");
      // The bus, of a systemd that left it before it answered, or that is not there just now.
      constexpr std::string_view kGone[] = {
          "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Spawn.ChildExited",
          "org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown"};
      if (std::ranges::find(kGone, message.error) != std::end(kGone) && is_systemd_here())
        return Error::from_errno(ECONNRESET, said);
      return Error::make(Code::os, said);
    }
  }
}

Result<Message> Connection::call(std::string member, std::vector<Value> arguments) {
  return answer(send(std::move(member), std::move(arguments)));
}

Result<std::string> Connection::property(std::string path, std::string interface, std::string name) {
  const Message message = TRY(answer(queue({kService,
                                            std::move(path),
                                            "org.freedesktop.DBus.Properties",
                                            "Get",
                                            {text(std::move(interface)), text(std::move(name))}})));
  Reader body(message.body);
  const auto type = body.signature();
  auto value = type && *type == "s" ? body.text() : std::nullopt;
  if (!value) return Error::make(Code::corrupt, "systemd answers with something else than a text");
  return *std::move(value);
}

Result<std::string> Connection::manager_property(std::string name) {
  return property(kObject, kManagerInterface, std::move(name));
}

Result<std::string> Connection::property_of_unit(std::string unit, std::string interface, std::string name) {
  auto found = call("GetUnit", {text(std::move(unit))});
  if (!found && error_name_.ends_with(".NoSuchUnit")) return std::move(found).error().as(Code::not_found);
  const Message message = TRY(std::move(found));
  auto path = Reader(message.body).text();
  if (!path) return Error::make(Code::corrupt, "systemd's answer names no unit");
  return property(*std::move(path), std::move(interface), std::move(name));
}

Result<std::string> Connection::unit_property(std::string unit, std::string name) {
  return property_of_unit(std::move(unit), "org.freedesktop.systemd1.Unit", std::move(name));
}

Result<std::string> Connection::slice_group(std::string slice) {
  return property_of_unit(std::move(slice), "org.freedesktop.systemd1.Slice", "ControlGroup");
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
    // The bus lets every user send signals to us, under the sender's own name.
    if (message.kind != Kind::signal || message.member != "JobRemoved" || message.interface != kManagerInterface ||
        (!direct_ && message.sender != manager_))
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
