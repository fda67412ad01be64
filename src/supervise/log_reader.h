// SPDX-License-Identifier: Apache-2.0
// LogReader: the spooled output of a container in the order in which it came, both streams merged by the index.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervise/packed_log.h"
#include "supervise/spool.h"

namespace skink::supervise {

/// A piece of output; `bytes` is valid until the next call.
struct LogPiece {
  Stream stream = Stream::out;
  std::int64_t time_ns = 0;
  std::string_view bytes;
  std::uint64_t missing = 0;  ///< that many bytes are missing after these
};

/// Where a reader stands: the next index entry, and the next byte of each stream.
struct LogPosition {
  std::uint64_t index = 0;
  std::array<std::uint64_t, 2> at{};
};

class LogReader {
 public:
  /// Opens what is there. not_found when the container never wrote a log.
  static Result<LogReader> open(int dir_fd);

  /// From here on only what comes later.
  Result<void> skip_to_end();
  /// Goes to the last `lines` lines of the streams asked for.
  Result<void> skip_to_tail(std::uint64_t lines, bool out, bool err);
  /// The next piece, or nothing at the present end.
  Result<std::optional<LogPiece>> next();
  /// What was spooled but has no index entry yet, once nobody writes any more.
  Result<std::optional<LogPiece>> rest();
  /// Where it stands, and to stand there again.
  [[nodiscard]] const LogPosition& position() const { return position_; }
  void seek(const LogPosition& position) { position_ = position; }
  /// Goes on behind what the spool has given back (its oldest bytes) since: how many bytes of the stream that were.
  std::uint64_t skip_given_back(Stream stream);
  /// inotify watches this file to learn of new output.
  [[nodiscard]] int index_fd() const { return index_.get(); }

 private:
  Result<bool> read_entry(std::uint64_t offset, IndexEntry& entry);
  Result<std::string_view> read_bytes(std::size_t stream, std::uint64_t from, std::uint64_t to);
  Result<std::string_view> read_packed(std::size_t stream, std::uint64_t from, std::uint64_t to);
  Result<std::string> read_range(std::size_t stream, std::uint64_t from, std::uint64_t to);
  void look_for_packed();

  UniqueFd dir_;  // where new packed parts appear
  std::array<UniqueFd, 2> files_;
  std::array<std::vector<PackedPart>, 2> packed_;
  std::array<std::optional<PackedReader>, 2> open_part_;
  UniqueFd index_;
  LogPosition position_;
  std::string buffer_;
};

}  // namespace skink::supervise
