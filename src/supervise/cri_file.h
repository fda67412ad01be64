// SPDX-License-Identifier: Apache-2.0
// CriFile: a file in Kubernetes' CRI logging format that follows a container's spool, for agents of a node that read
// those. What it says is derived from the spool alone, byte for byte, and how far it has come is in a small file
// (log.cri) that is written after each batch. So whoever follows a killed supervisor makes the same bytes again and
// sees which of them are there: by a kill nothing is lost or doubled, also for who reads along. The spool does not
// depend on it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "skink/engine.h"
#include "supervise/cri_lines.h"
#include "supervise/log_reader.h"

namespace skink::supervise {

/// STORE/containers/ID/log.cri: how far the spool has been followed.
inline constexpr const char* kCriCursorFile = "log.cri";

class CriFile {
 public:
  /// Goes on where the cursor in `dir_fd` stands, from the beginning when there is none. `kept`: so many bytes of each
  /// stream the spool keeps.
  static Result<CriFile> open(int dir_fd, const CriLog& log, std::uint64_t kept);

  /// Writes what is there, a bounded amount of it. An error is the first since things went well: it is to be told once.
  /// It is tried again at again_at_ns().
  Result<void> forward();
  /// The program has ended, and its streams here: a last line without a newline ends too. It is tried at once, whatever
  /// again_at_ns() says.
  Result<void> end_lines(const std::array<std::uint64_t, 2>& ends);
  /// All that is there, as it is the last time: at once, and until then as long as somebody else has the file. An error
  /// is told whatever was told before.
  Result<void> finish(const std::array<std::uint64_t, 2>& ends, std::int64_t deadline_ns);
  /// How many bytes of the spool, which ends there, are not in it.
  [[nodiscard]] std::uint64_t missing(const std::array<std::uint64_t, 2>& ends) const;
  /// CLOCK_BOOTTIME at which forward() should be called again, 0 when all was taken.
  [[nodiscard]] std::int64_t again_at_ns() const { return again_at_ns_; }
  /// The spool, which ends there, should wait with more, or it gives back what is not written here yet. Never so while
  /// nothing can be written.
  [[nodiscard]] bool is_behind(const std::array<std::uint64_t, 2>& ends) const;

 private:
  struct Cursor {
    static constexpr std::uint64_t kMagic = 0x31726f7375637263ULL;
    std::uint64_t magic = kMagic;
    LogPosition position;
    std::array<std::uint64_t, 2> told{};    // of each stream, the place in the index behind the last gap that was told
    std::array<std::uint64_t, 2> cut{};     // where a line ends although there is no newline; 0: nowhere
    std::array<std::int64_t, 2> part_ns{};  // see CriLines
    std::uint64_t inode = 0;                // the file
    std::uint64_t length = 0;               // and how much of it that is
  };
  Result<void> follow();
  Result<void> gather();
  void take();
  void take_gap(const LogPiece& gap);
  void cut_ended();
  [[nodiscard]] std::uint64_t place(Stream stream) const;
  void note_place();
  Result<void> flush();
  Result<void> ensure_dir();
  Result<UniqueFd> open_existing() const;
  Result<void> ensure_file();
  Result<void> make_room();
  Result<void> rotate();
  Result<std::size_t> skip_what_is_there();
  Result<void> begin_at_end();
  Result<void> write(std::string_view bytes, std::uint64_t at);
  Result<void> save(const Cursor& cursor);
  Result<void> later(Error error);
  [[nodiscard]] std::string numbered(std::uint32_t number) const;

  CriLog log_;
  std::string directory_, name_;  // of its path
  std::uint64_t kept_ = 0;
  LogReader reader_;
  CriLines lines_;
  LogPiece piece_;  // what of the last one is not taken yet
  std::uint64_t piece_index_ = 0;
  std::array<std::uint64_t, 2> line_index_{};  // where in the index the beginning of a held line is
  std::string text_;                           // not written yet, or not all of it
  UniqueFd cursor_file_;
  // Of the directory, as its path is followed once: a container may have a hand in what that leads through.
  UniqueFd dir_, file_;
  Cursor cursor_;            // as it is on record
  Cursor next_;              // as it will be with text_
  std::uint64_t there_ = 0;  // bytes in the file beyond the cursor
  std::int64_t again_at_ns_ = 0;
  unsigned failures_ = 0;   // in a row
  unsigned handovers_ = 0;  // likewise, while somebody else has the file
};

}  // namespace skink::supervise
