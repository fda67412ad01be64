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

/// Why output is not there any more.
enum class Loss {
  none,
  disk_full,  ///< it was never written
  outrun      ///< it was given back (or dropped with its part) before it was read
};

/// A piece of output or, without bytes, a gap: a line that it cuts has no end, and what comes next of this stream
/// begins a line (where there are lines at all). `bytes` is valid until the next call.
struct LogPiece {
  Stream stream = Stream::out;
  std::int64_t time_ns = 0;
  std::string_view bytes;
  std::uint64_t missing = 0;  ///< that many bytes are missing here
  Loss loss = Loss::none;     ///< and why
};

/// What people are told about a gap.
std::string gap_reason(Loss loss);
std::string gap_text(const LogPiece& gap);

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
  /// Goes to the last `lines` lines of the streams asked for, of those that were written until `until_ns`.
  /// `with_rest`: of what rest() will give, too.
  Result<void> skip_to_tail(std::uint64_t lines, bool out, bool err, bool with_rest,
                            std::optional<std::int64_t> until_ns = std::nullopt);
  /// The next piece, or nothing at the present end.
  Result<std::optional<LogPiece>> next();
  /// What was spooled but has no index entry yet, once nobody writes any more.
  Result<std::optional<LogPiece>> rest();
  /// Where it stands, and to stand there again.
  [[nodiscard]] const LogPosition& position() const { return position_; }
  void seek(const LogPosition& position) {
    position_ = position;
    cut_ = {};
  }
  /// Gives its buffer back; the last piece is not valid any more.
  void shed() { buffer_ = std::string(); }
  /// inotify watches this file to learn of new output.
  [[nodiscard]] int index_fd() const { return index_.get(); }

 private:
  // The bytes of an entry, behind those of the one before.
  struct Part {
    std::size_t stream;
    std::uint64_t index, from, to;
    std::array<std::uint64_t, 2> before;  // where both streams stood
  };
  Result<std::vector<Part>> list_parts(bool out, bool err, bool with_rest, std::optional<std::int64_t> until_ns);
  std::uint64_t first_kept(std::size_t stream, std::uint64_t from);
  std::uint64_t skip_given_back(std::size_t stream);
  std::uint64_t skip_cut_line(std::size_t stream, Loss loss);
  LogPiece without_cut_line(LogPiece piece);
  Result<std::optional<LogPiece>> gap_at(const IndexEntry& entry);
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
  std::array<Loss, 2> cut_{};  // behind a gap in a line, and the rest of that line is still to come
  std::string buffer_;
};

}  // namespace skink::supervise
