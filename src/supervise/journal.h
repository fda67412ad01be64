// SPDX-License-Identifier: Apache-2.0
// The journal of systemd: messages in its native protocol (systemd, docs/JOURNAL_NATIVE_PROTOCOL.md), and a forwarder
// that follows a container's spool. The spool stays the log: what the journal does not take in time waits there.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervise/log_reader.h"

namespace skink::supervise {

inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";
/// STORE/containers/ID/log.journal: how far the spool has been forwarded.
inline constexpr const char* kJournalCursorFile = "log.journal";

using JournalFields = std::vector<std::pair<std::string, std::string>>;

/// Appends one field to a message. A value with a newline is written with its length.
void append_field(std::string& message, std::string_view name, std::string_view value);

/// Sends without ever waiting.
class JournalSocket {
 public:
  enum class Outcome { sent, busy, absent };
  /// `message` as one datagram, or in a sealed memfd when it is too large for that. busy: the journal is behind;
  /// absent: nobody listens there.
  Outcome send(std::string_view message);

 private:
  Outcome connect();
  Outcome send_in_memfd(std::string_view message);
  UniqueFd socket_;
};

/// Lines of both streams, each a message with the fields given and MESSAGE, PRIORITY (6 for standard output, 3 for
/// standard error) and SYSLOG_TIMESTAMP, when it was written. A line longer than kLongestLine is several messages, all
/// but the last with CONTAINER_PARTIAL_MESSAGE=true, as docker has it. What is missing in the spool is a message of its
/// own.
class JournalForwarder {
 public:
  static constexpr std::size_t kLongestLine = 256U << 10;

  /// Goes on where the cursor in `dir_fd` stands, from the beginning when there is none.
  static Result<JournalForwarder> open(int dir_fd, JournalFields fields);

  /// Forwards what is there, a bounded amount of it. Never waits.
  void forward();
  /// The program has ended: a last line without a newline is a line too.
  void end_line();
  /// CLOCK_BOOTTIME at which forward() should be called again, 0 when all was taken.
  [[nodiscard]] std::int64_t again_at_ns() const { return again_at_ns_; }

 private:
  // What of the spool the journal has: kept in the file after each message, so that at most one is sent twice.
  struct Cursor {
    static constexpr std::uint64_t kMagic = 0x31726f737275636aULL;
    std::uint64_t magic = kMagic;
    LogPosition position;
  };
  // An unfinished line. Its beginning keeps the cursor back.
  struct Line {
    std::string text;
    std::uint64_t index = 0;
    std::int64_t time_ns = 0;
  };
  std::optional<std::uint64_t> step();
  bool take(const LogPiece& piece, std::uint64_t index);
  bool take_gap(const LogPiece& gap, const LogPosition& before);
  bool finish(Stream stream, bool partial);
  bool send(Stream stream, std::string_view text, std::int64_t time_ns, bool partial);
  void save(const LogPosition& here);
  void go_back();

  JournalFields fields_;
  JournalSocket socket_;
  std::optional<LogReader> reader_;
  UniqueFd file_;
  Cursor cursor_;
  std::array<Line, 2> lines_;
  std::array<bool, 2> continues_{};  // an earlier part of the present line was sent
  std::int64_t again_at_ns_ = 0;
};

}  // namespace skink::supervise
