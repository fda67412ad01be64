// SPDX-License-Identifier: Apache-2.0
// Spool: a container's output on disk. Bytes are moved from its pipe to the end of STORE/containers/ID/log.{stdout,
// stderr} by splice(2), so that the file's length is the cursor: a supervisor that is killed at any point loses and
// doubles nothing. `index` (log.index) says when which bytes came. Old bytes are given back by punching holes, so
// offsets never change (attack A85); what else a rotation would do is in packed_log.h.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

enum class Stream : std::uint32_t { out = 0, err = 1 };

/// One entry of the index: the bytes of `stream` up to `end` (from the end of its entry before) came at `time_ns`.
struct IndexEntry {
  static constexpr std::uint32_t kMagic = 0x676f6c73;
  /// The gap ends within a line: what comes first after it is no whole one.
  static constexpr std::uint16_t kCutsLine = 1;
  /// Of the bytes up to `end` the last `missing` are a hole in which nothing ever was.
  static constexpr std::uint16_t kPadding = 2;
  std::uint32_t magic = kMagic;
  std::uint16_t stream = 0;
  std::uint16_t flags = 0;
  std::int64_t time_ns = 0;   ///< Unix time
  std::uint64_t end = 0;      ///< offset in the stream's file
  std::uint64_t missing = 0;  ///< bytes dropped after `end` because the disk was full: a gap (fault F15)
};
static_assert(sizeof(IndexEntry) == 32);

inline constexpr std::array<const char*, 2> kStreamFiles = {"log.stdout", "log.stderr"};
inline constexpr const char* kIndexFile = "log.index";
/// What was dropped and is not in the index yet, for whoever comes after a supervisor that is killed while the disk is
/// full. It has its room from the beginning.
inline constexpr const char* kGapFile = "log.gap";

class Spool {
 public:
  /// Opens or makes the three files in `dir_fd`. Bytes that a killed supervisor moved without an entry get one.
  static Result<Spool> open(int dir_fd);
  /// Makes what is missing of them, for somebody who wants to read; whoever writes to them is not disturbed.
  static Result<void> make(int dir_fd);

  /// Moves what is in the pipe now, at most about a mebibyte, so that one flood does not keep the others waiting.
  /// Returns how many bytes left the pipe: 0 when it was empty (or, for a terminal, at its end).
  Result<std::uint64_t> pump(Stream stream, int from_fd, bool is_pipe);

  /// The greatest number of bytes kept of one stream; the index is bounded with it.
  void set_limit(std::uint64_t bytes) {
    limit_ = bytes;
    set_index_limit(bytes);
  }
  /// Bounds the index for streams of which so many bytes are kept: half of that, between 256 KiB and 64 MiB.
  void set_index_limit(std::uint64_t bytes);
  /// Gives back what is older than `upto`, to the page.
  void give_back(Stream stream, std::uint64_t upto);
  /// Whether output is kept at all. Else it is taken out of the pipe and thrown away, and so is what there was.
  Result<void> keep(bool wanted);
  /// pump() moves that much at most.
  void set_turn(std::uint64_t bytes) { turn_ = bytes; }
  [[nodiscard]] std::uint64_t end_of(Stream stream) const { return at(stream).end; }
  [[nodiscard]] std::array<std::uint64_t, 2> ends() const { return {channels_[0].end, channels_[1].end}; }

 private:
  // Of one stream in kGapFile.
  struct Pending {
    std::uint64_t missing = 0;
    std::uint64_t cuts_line = 0;
    std::uint64_t index_end = 0;  // where the index ended: an entry behind it may have told of the gap
  };
  struct Channel {
    UniqueFd file;
    std::uint64_t end = 0;
    std::uint64_t punched = 0;
    std::uint64_t missing = 0;  // dropped and not yet written down
    bool cuts_line = false;     // the last of them ended no line
  };
  Channel& at(Stream stream) { return channels_[static_cast<std::size_t>(stream)]; }
  [[nodiscard]] const Channel& at(Stream stream) const { return channels_[static_cast<std::size_t>(stream)]; }
  std::uint64_t move_once(Channel& channel, int from_fd, bool is_pipe, std::uint64_t most, bool& full);
  void drop(Channel& channel, int from_fd);
  Result<std::uint64_t> discard(int from_fd, bool is_pipe);
  void adopt_pending(int dir_fd);
  void save_pending();
  [[nodiscard]] bool is_told(Stream stream, const Pending& pending) const;
  bool note(Stream stream);
  bool write_entry(const IndexEntry& entry);
  void pad(Stream stream);
  void bound(Channel& channel);

  std::array<Channel, 2> channels_;
  UniqueFd index_, gap_;
  std::array<Pending, 2> pending_{};  // as it is in the file
  UniqueFd nowhere_;                  // /dev/null, while nothing is kept
  std::uint64_t index_end_ = 0;
  std::uint64_t index_punched_ = 0;
  std::uint64_t turn_ = 1ULL << 20;
  std::uint64_t limit_ = 128ULL << 20;
  std::uint64_t index_limit_ = 64ULL << 20;
};

}  // namespace skink::supervise
