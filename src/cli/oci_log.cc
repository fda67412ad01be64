// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

constexpr std::array<std::string_view, 4> kNames{"error", "warning", "info", "debug"};
// syslog(3): LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG.
constexpr std::array<int, 4> kPriorities{3, 4, 6, 7};
constexpr int kLogDaemon = 3 << 3;

// One datagram to a socket of the host's; whether anybody takes it is not ours to wait for.
void send_datagram(const std::string& path, std::string_view text) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return;
  path.copy(address.sun_path, path.size());
  const UniqueFd socket_fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  (void)::sendto(socket_fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                 reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view word) {
  std::string lower(word);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  constexpr std::array<std::pair<std::string_view, LogLevel>, 8> kWords{{{"panic", LogLevel::error},
                                                                         {"fatal", LogLevel::error},
                                                                         {"error", LogLevel::error},
                                                                         {"warn", LogLevel::warning},
                                                                         {"warning", LogLevel::warning},
                                                                         {"info", LogLevel::info},
                                                                         {"debug", LogLevel::debug},
                                                                         {"trace", LogLevel::debug}}};
  for (const auto& [name, level] : kWords)
    if (lower == name) return level;
  return Error::make(Code::invalid_config, quoted(word), " is none of error, warning, info, debug");
}

Result<OciLog> OciLog::open(const LogOptions& options) {
  OciLog log;
  log.options_ = options;
  std::string_view target = options.target;
  if (target.starts_with("journald:")) {
    log.socket_ = "/run/systemd/journal/socket";
    log.name_ = std::string(target.substr(9));
    return log;
  }
  if (target.starts_with("syslog:")) {
    log.socket_ = "/dev/log";
    log.name_ = std::string(target.substr(7));
    return log;
  }
  if (target.starts_with("file:")) target.remove_prefix(5);
  if (target.empty()) return log;
  // Names of what is open already; no other link is followed (attack A38).
  constexpr std::string_view kStreams[] = {"/dev/stdout", "/dev/stderr"};
  for (int i = 0; i < 2; ++i)
    if (target == kStreams[i]) {
      log.file_ = TRY(sys::dup_fd(i + 1, 3));
      return log;
    }
  log.file_ = TRY(sys::open_at(AT_FDCWD, std::string(target).c_str(),
                               O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0644));
  return log;
}

std::string OciLog::record(LogLevel level, std::string_view text) const {
  const std::string_view name = kNames[static_cast<std::size_t>(level)];
  if (!options_.json) return str("time=\"", fs::rfc3339_now(), "\" level=", name, " msg=", quoted(text), "\n");
  oci::Json json;
  json["level"] = name;
  json["msg"] = text;
  json["time"] = fs::rfc3339_now();
  return oci::dump_json(json) + "\n";
}

void OciLog::write(LogLevel level, std::string_view text) const {
  if (!takes(level)) return;
  if (file_) (void)sys::write_all(file_.get(), record(level, text), "log");
  if (socket_.empty()) return;
  const int priority = kPriorities[static_cast<std::size_t>(level)];
  if (options_.target.starts_with("journald:"))
    send_datagram(socket_,
                  str("MESSAGE=", text, "\nPRIORITY=", priority, "\nSYSLOG_IDENTIFIER=", printable(name_), "\n"));
  else send_datagram(socket_, str("<", kLogDaemon | priority, ">", printable(name_), ": ", text));
}

void OciLog::error(std::string_view raw) const {
  const std::string text = printable(raw);
  const bool json = options_.json && !file_;
  (void)sys::write_all(2, json ? record(LogLevel::error, text) : str("skink-oci: error: ", text, "\n"),
                       "standard error");
  write(LogLevel::error, text);
}

void OciLog::warning(std::string_view raw) const {
  const std::string text = printable(raw);
  write(LogLevel::warning, text);
  if (file_ || !socket_.empty() || !takes(LogLevel::warning)) return;
  const std::string line = options_.json ? record(LogLevel::warning, text) : str("skink-oci: warning: ", text, "\n");
  (void)sys::write_all(2, line, "standard error");
}

// As runc, in the form of the log: what people search for is level=debug.
void OciLog::write_debug(std::string_view raw) const {
  const std::string text = printable(raw);
  write(LogLevel::debug, text);
  if (!file_ && socket_.empty()) (void)sys::write_all(2, record(LogLevel::debug, text), "standard error");
}

}  // namespace skink::cli
