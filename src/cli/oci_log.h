// SPDX-License-Identifier: Apache-2.0
// What skink-oci tells besides its result: records for --log, in the form that engines parse, and standard error.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::cli {

/// By weight; a log takes its own level and what is graver.
enum class LogLevel { error, warning, info, debug };

struct LogOptions {
  std::string target;  ///< FILE, file:FILE, journald:NAME or syslog:NAME; empty: none
  bool json = false;
  LogLevel level = LogLevel::info;
};

/// "error", "warn", "warning", "info", "debug" and logrus' other words, in any case.
Result<LogLevel> parse_log_level(std::string_view word);

class OciLog {
 public:
  /// Opens or makes the file. A log that is not a file (journald) is only an address: that nobody listens there is no
  /// failure, as everything grave is on standard error too.
  static Result<OciLog> open(const LogOptions& options);
  OciLog() = default;

  /// One failure: on standard error, in one write (conmon reads once), and one record in the log (podman decodes one).
  void error(std::string_view text) const;
  /// Anything else: in the log, or on standard error when there is none and it is a warning.
  void warning(std::string_view text) const;
  /// A step that was taken, only with --debug or --log-level debug: in the log, or on standard error when there is
  /// none. The pieces are put together only then.
  template <typename... Pieces>
  void debug(const Pieces&... pieces) const {
    if (debugs()) write_debug(str(pieces...));
  }
  [[nodiscard]] bool debugs() const { return takes(LogLevel::debug); }

 private:
  [[nodiscard]] bool takes(LogLevel level) const { return level <= options_.level; }
  [[nodiscard]] std::string record(LogLevel level, std::string_view text) const;
  void write(LogLevel level, std::string_view text) const;
  void write_debug(std::string_view raw) const;

  LogOptions options_;
  UniqueFd file_;
  std::string socket_, name_;  ///< of a log that is no file
};

}  // namespace skink::cli
