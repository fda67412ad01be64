// SPDX-License-Identifier: Apache-2.0
// One attempt of a probe over a socket: HTTP/1.1 (RFC 9112), gRPC health (grpc.health.v1 over HTTP/2, RFC 9113), or
// only the connection.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "supervise/probe.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::size_t kShown = 200;

ProbeResult failed(std::string text) { return {false, std::move(text)}; }

// A socket belongs to the namespace that it was made in, wherever its owner goes afterwards.
Result<UniqueFd> socket_inside(int init_pidfd, int family) {
  const UniqueFd own = TRY(sys::open_at(AT_FDCWD, "/proc/self/ns/net", O_RDONLY));
  if (::setns(init_pidfd, CLONE_NEWNET) != 0) return Error::from_errno(errno, "enter the container's network");
  UniqueFd made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int err = errno;
  // Whoever cannot come back must not go on: a successor starts where it belongs.
  if (::setns(own.get(), CLONE_NEWNET) != 0) std::abort();
  if (!made) return Error::from_errno(err, "socket");
  return made;
}

Result<UniqueFd> connect_tcp(const Probe& probe, int init_pidfd) {
  const bool six = probe.address.find(':') != std::string::npos;
  sockaddr_storage address{};
  socklen_t size = 0;
  if (six) {
    auto* to = reinterpret_cast<sockaddr_in6*>(&address);
    to->sin6_family = AF_INET6;
    to->sin6_port = htons(probe.port);
    size = ::inet_pton(AF_INET6, probe.address.c_str(), &to->sin6_addr) == 1 ? sizeof *to : 0;
  } else {
    auto* to = reinterpret_cast<sockaddr_in*>(&address);
    to->sin_family = AF_INET;
    to->sin_port = htons(probe.port);
    size = ::inet_pton(AF_INET, probe.address.c_str(), &to->sin_addr) == 1 ? sizeof *to : 0;
  }
  if (size == 0) return Error::make(Code::invalid_config, quoted(probe.address), " is no address");
  UniqueFd fd = TRY(socket_inside(init_pidfd, six ? AF_INET6 : AF_INET));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 && errno != EINPROGRESS)
    return Error::from_errno(errno, "connect");
  return fd;
}

// The path is the container's: resolved in its root, and what was found there is what is connected to.
Result<UniqueFd> connect_unix(const Probe& probe, pid_t init_pid) {
  const std::string root_path = str("/proc/", init_pid, "/root");
  const UniqueFd root = TRY(sys::open_at(AT_FDCWD, root_path.c_str(), O_PATH | O_DIRECTORY));
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd found(static_cast<int>(::syscall(SYS_openat2, root.get(), probe.path.c_str(), &how, sizeof how)));
  if (!found) return Error::from_errno(errno, printable(probe.path));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = str("/proc/self/fd/", found.get());
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS)
    return Error::from_errno(errno, "connect to ", printable(probe.path));
  return fd;
}

std::string host_of(const Probe& probe) {
  const bool six = probe.address.find(':') != std::string::npos;
  return str(six ? "[" : "", probe.address, six ? "]" : "", ':', probe.port);
}

// ---- gRPC: frames of HTTP/2 ----

enum class Frame : std::uint8_t { data = 0, headers = 1, reset = 3, settings = 4, ping = 6, away = 7 };
constexpr std::uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8;
constexpr std::size_t kFrameHead = 9;

std::string frame(Frame type, std::uint8_t flags, std::uint8_t stream, std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += static_cast<char>(payload.size() >> shift & 0xff);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  out.append(3, '\0');
  out += static_cast<char>(stream);
  return out.append(payload);
}

// HPACK: a literal without indexing, with a new name, neither part longer than 126 bytes (RFC 7541, 6.2.2).
std::string header(std::string_view name, std::string_view value) {
  return str('\0', static_cast<char>(name.size()), name, static_cast<char>(value.size()), value);
}

std::string grpc_request(const Probe& probe) {
  constexpr std::size_t kMostWord = 126;
  const std::string service = probe.path.size() > 1 ? probe.path.substr(1, kMostWord) : std::string();
  std::string message;  // HealthCheckRequest{service}
  if (!service.empty()) message = str('\x0a', static_cast<char>(service.size()), service);
  const std::string head = header(":method", "POST") + header(":scheme", "http") +
                           header(":path", "/grpc.health.v1.Health/Check") + header(":authority", host_of(probe)) +
                           header("content-type", "application/grpc") + header("te", "trailers");
  // Not compressed, and its length in four bytes.
  const std::string body = str(std::string(4, '\0'), static_cast<char>(message.size()), message);
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(Frame::settings, 0, 0, "") +
         frame(Frame::headers, kEndHeaders, 1, head) + frame(Frame::data, kEndStream, 1, body);
}

std::string_view serving_text(unsigned status) {
  constexpr std::array<std::string_view, 4> kNames{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
  return status < kNames.size() ? kNames[status] : "an unknown status";
}

}  // namespace

std::string http_request(const Probe& probe) {
  return str("GET ", probe.path.empty() ? "/" : probe.path, " HTTP/1.1\r\nHost: ", host_of(probe),
             "\r\nUser-Agent: skink-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n");
}

ProbeAttempt::ProbeAttempt(const Probe& probe) : kind_(probe.kind) {
  if (kind_ == Probe::Kind::http) request_ = http_request(probe);
  if (kind_ == Probe::Kind::grpc) request_ = grpc_request(probe);
}

Result<ProbeAttempt> ProbeAttempt::begin(const Probe& probe, int init_pidfd, pid_t init_pid) {
  ProbeAttempt attempt(probe);
  attempt.socket_ =
      probe.kind == Probe::Kind::unix_socket ? TRY(connect_unix(probe, init_pid)) : TRY(connect_tcp(probe, init_pidfd));
  return attempt;
}

std::uint32_t ProbeAttempt::events() const { return connected_ && request_.empty() ? EPOLLIN : EPOLLOUT; }

std::optional<ProbeResult> ProbeAttempt::advance() {
  if (!connected_) {
    int err = 0;
    socklen_t size = sizeof err;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &err, &size) != 0) err = errno;
    if (err != 0) return failed(Error::from_errno(err, "connect").text());
    connected_ = true;
    if (request_.empty()) return ProbeResult{true, "connected"};
  }
  if (!request_.empty())
    if (auto result = send(); result || !request_.empty()) return result;
  return receive();
}

std::optional<ProbeResult> ProbeAttempt::send() {
  const ssize_t put = ::send(socket_.get(), request_.data(), request_.size(), MSG_NOSIGNAL);
  if (put < 0 && errno != EAGAIN && errno != EINTR) return failed(Error::from_errno(errno, "send").text());
  if (put > 0) request_.erase(0, static_cast<std::size_t>(put));
  return std::nullopt;
}

std::optional<ProbeResult> ProbeAttempt::receive() {
  for (;;) {
    std::array<char, 2048> bytes;  // NOLINT: filled by recv
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return judge(false);
    if (got < 0) return failed(Error::from_errno(errno, "receive").text());
    answer_.append(bytes.data(), static_cast<std::size_t>(got));
    if (got == 0 || answer_.size() >= kMostAnswer) return judge(true);
  }
}

std::optional<ProbeResult> ProbeAttempt::judge(bool over) {
  return kind_ == Probe::Kind::grpc ? judge_grpc(over) : judge_http(answer_, over);
}

namespace {

// Before the answer there may be interim ones (100, 103), which have no body: RFC 9110, 15.2.
std::string_view without_interim(std::string_view answer) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  for (;;) {
    const bool interim = answer.starts_with("HTTP/1.") && answer.size() >= 12 && answer.substr(9).starts_with('1') &&
                         answer.substr(9, 3) != "101";
    const auto end = interim ? answer.find(kEnd) : std::string_view::npos;
    if (end == std::string_view::npos) return answer;
    answer.remove_prefix(end + kEnd.size());
  }
}

}  // namespace

std::optional<ProbeResult> judge_http(std::string_view answer, bool over) {
  answer = without_interim(answer);
  const auto end = answer.find("\r\n");
  if (end == std::string_view::npos && !over) return std::nullopt;
  const std::string_view line = answer.substr(0, std::min(end, kShown));
  const auto status =
      line.starts_with("HTTP/1.") && line.size() >= 12 ? parse_int<int>(line.substr(9, 3)) : std::nullopt;
  if (!status)
    return failed(answer.empty() ? "no answer: the connection was closed" : str("no HTTP answer: ", printable(line)));
  if (*status < 200 && *status != 101 && !over) return std::nullopt;
  const bool good = *status >= 200 && *status < 400;
  return ProbeResult{good, str("HTTP ", printable(line.substr(9)))};
}

std::optional<ProbeResult> ProbeAttempt::judge_grpc(bool over) {
  while (answer_.size() - frames_at_ >= kFrameHead) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(answer_[frames_at_ + i]); };
    const std::size_t length = std::size_t{byte(0)} << 16 | std::size_t{byte(1)} << 8 | byte(2);
    if (answer_.size() - frames_at_ - kFrameHead < length) break;
    std::string_view payload = std::string_view(answer_).substr(frames_at_ + kFrameHead, length);
    const auto type = static_cast<Frame>(byte(3));
    const unsigned char flags = byte(4);
    frames_at_ += kFrameHead + length;
    if (type == Frame::settings && (flags & kAck) == 0) request_ += frame(Frame::settings, kAck, 0, "");
    if (type == Frame::ping && (flags & kAck) == 0) request_ += frame(Frame::ping, kAck, 0, payload);
    if (type == Frame::reset || type == Frame::away) return failed("the gRPC server broke the call off");
    if (type == Frame::data) {
      if ((flags & kPadded) != 0 && !payload.empty()) {
        const auto padding = static_cast<unsigned char>(payload[0]);
        payload = payload.substr(1, payload.size() - 1 > padding ? payload.size() - 1 - padding : 0);
      }
      message_ += payload;
    }
    // HealthCheckResponse{status}: five bytes of gRPC before it; a status of 0 is left out.
    if (message_.size() >= 7 && message_[5] == '\x08') {
      const auto status = static_cast<unsigned char>(message_[6]);
      return ProbeResult{status == 1, str("gRPC ", serving_text(status))};
    }
    if ((type == Frame::headers || type == Frame::data) && (flags & kEndStream) != 0)
      return failed(message_.size() >= 5 ? "gRPC UNKNOWN" : "no answer by grpc.health.v1: is it served there?");
  }
  return over ? std::optional(failed("no gRPC answer")) : std::nullopt;
}

}  // namespace skink::supervise
