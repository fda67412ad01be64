// SPDX-License-Identifier: Apache-2.0
// CriLines: output as lines of Kubernetes' CRI logging format, `TIME STREAM TAG TEXT`: TIME is when the last byte came,
// TAG is F for a line or its end, P for a part of one that is too long or has no end yet. Bytes are as they were
// written.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "supervise/log_reader.h"

namespace skink::supervise {

class CriLines {
 public:
  /// What kubelet's own readers take at once, and containerd writes.
  static constexpr std::size_t kLongest = 16U << 10;
  explicit CriLines(std::size_t longest = kLongest) : longest_(longest) {}

  /// Takes the beginning of `bytes`, to the end of a line at most, and appends to `text` what is complete by that. How
  /// many bytes it has taken.
  std::size_t take(Stream stream, std::int64_t time_ns, std::string_view bytes, std::string& text);
  /// The line ends here, without a newline.
  void cut(Stream stream, std::string& text);
  /// What there is of lines without an end.
  void finish(std::string& text);
  /// A line of standard error that tells of it. The line that it cuts ends.
  void gap(const LogPiece& gap, std::string& text);

  /// How many bytes of an unfinished line it holds.
  [[nodiscard]] std::size_t held(Stream stream) const { return at(stream).text.size(); }
  /// When the last part of an unfinished line was put into the text; 0: there is none, a line begins.
  [[nodiscard]] std::int64_t part_ns(Stream stream) const { return at(stream).part_ns; }
  /// Back to a place where no byte is held.
  void restore(Stream stream, std::int64_t part_ns) {
    at(stream) = {.text = {}, .time_ns = part_ns, .part_ns = part_ns};
  }

 private:
  struct Line {
    std::string text;
    std::int64_t time_ns = 0;  // of its last byte
    std::int64_t part_ns = 0;
  };
  Line& at(Stream stream) { return lines_[static_cast<std::size_t>(stream)]; }
  [[nodiscard]] const Line& at(Stream stream) const { return lines_[static_cast<std::size_t>(stream)]; }
  void put(Stream stream, bool partial, std::string& text);

  std::size_t longest_;
  std::array<Line, 2> lines_;
};

}  // namespace skink::supervise
