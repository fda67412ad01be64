// SPDX-License-Identifier: Apache-2.0
#include "supervise/cri_lines.h"

#include <algorithm>

#include "base/text.h"
#include "fs/dir.h"

namespace skink::supervise {
namespace {

void put_line(std::string& text, Stream stream, std::int64_t time_ns, bool partial, std::string_view content) {
  text += fs::rfc3339(time_ns);
  text += stream == Stream::out ? " stdout " : " stderr ";
  text += partial ? "P " : "F ";
  text += content;
  text += '\n';
}

}  // namespace

void CriLines::put(Stream stream, bool partial, std::string& text) {
  Line& line = at(stream);
  put_line(text, stream, line.time_ns, partial, line.text);
  line.text.clear();
  line.part_ns = partial ? line.time_ns : 0;
}

std::size_t CriLines::take(Stream stream, std::int64_t time_ns, std::string_view bytes, std::string& text) {
  Line& line = at(stream);
  line.time_ns = time_ns;
  const std::string_view most = bytes.substr(0, longest_ - line.text.size());
  const std::size_t newline = most.find('\n');
  line.text += most.substr(0, newline);
  if (newline != std::string_view::npos) {
    put(stream, false, text);
    return newline + 1;
  }
  if (line.text.size() == longest_) put(stream, true, text);
  return most.size();
}

void CriLines::cut(Stream stream, std::string& text) {
  if (held(stream) != 0 || part_ns(stream) != 0) put(stream, false, text);
}

void CriLines::finish(std::string& text) {
  for (const Stream stream : {Stream::out, Stream::err})
    if (!at(stream).text.empty()) put(stream, true, text);
}

void CriLines::gap(const LogPiece& gap, std::string& text) {
  cut(gap.stream, text);
  put_line(text, Stream::err, gap.time_ns, false, str("skink: ", gap_text(gap)));
}

}  // namespace skink::supervise
