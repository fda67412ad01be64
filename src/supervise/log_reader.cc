// SPDX-License-Identifier: Apache-2.0
#include "supervise/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/durations.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::uint64_t kPiece = 64U << 10;

// Where the first byte from `from` on is that still exists: those that were given back are a hole. Without one, the
// end.
std::uint64_t first_data(int fd, std::uint64_t from) {
  const off_t at = ::lseek(fd, static_cast<off_t>(from), SEEK_DATA);
  if (at >= 0) return static_cast<std::uint64_t>(at);
  const off_t end = errno == ENXIO ? ::lseek(fd, 0, SEEK_END) : -1;
  return end < 0 ? from : std::max(static_cast<std::uint64_t>(end), from);
}

// Of bytes that have no entry: when the last of them was written.
std::int64_t write_time_of(const struct stat& status) {
  return status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec;
}

const PackedPart* part_with(const std::vector<PackedPart>& parts, std::uint64_t offset) {
  for (const auto& part : parts)
    if (offset >= part.from && offset < part.to) return &part;
  return nullptr;
}

Result<std::uint64_t> size_of(int fd, const char* name) {
  return static_cast<std::uint64_t>(TRY(sys::stat_fd(fd, name)).st_size);
}

}  // namespace

std::string gap_reason(Loss loss) { return loss == Loss::disk_full ? "the disk was full" : "no longer kept"; }

std::string gap_text(const LogPiece& gap) {
  return str(gap.missing, " bytes of output are missing here: ", gap_reason(gap.loss));
}

Result<LogReader> LogReader::open(int dir_fd) {
  LogReader reader;
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i)
    reader.files_[i] = TRY(sys::open_at(dir_fd, kStreamFiles[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  reader.index_ = TRY(sys::open_at(dir_fd, kIndexFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  reader.dir_ = TRY(sys::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  const std::uint64_t first = first_data(reader.index_.get(), 0);
  reader.position_.index = first - first % sizeof(IndexEntry);
  // The streams are read from their very beginning on: what of that is no longer kept is a gap.
  reader.look_for_packed();
  return reader;
}

void LogReader::look_for_packed() {
  for (std::size_t i = 0; i < packed_.size(); ++i) packed_[i] = list_packed(dir_.get(), static_cast<Stream>(i));
}

Result<void> LogReader::skip_to_end() {
  const std::uint64_t size = TRY(size_of(index_.get(), kIndexFile));
  position_.index = size - size % sizeof(IndexEntry);
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i)
    position_.at[i] = TRY(size_of(files_[i].get(), kStreamFiles[i]));
  return {};
}

// Where the first byte from `from` on is that is spooled or packed.
std::uint64_t LogReader::first_kept(std::size_t stream, std::uint64_t from) {
  // Order: parts that are packed meanwhile are in both for a moment, never in neither.
  auto first = first_data(files_[stream].get(), from);
  if (first == from) return first;
  look_for_packed();
  for (const auto& part : packed_[stream])
    if (part.to > from) first = std::min(first, std::max(part.from, from));
  return first;
}

// Goes on behind what the spool has given back (its oldest bytes) since: how many bytes that were. Entries that were
// given back too are zeros, which next() passes over.
std::uint64_t LogReader::skip_given_back(std::size_t stream) {
  const std::uint64_t from = position_.at[stream];
  const std::uint64_t first = first_kept(stream, from);
  if (first == from) return 0;
  position_.at[stream] = first;
  return first - from + skip_cut_line(stream, Loss::outrun);
}

// The rest of a line whose beginning is missing would look like a line that nobody wrote. Where it has no end it is
// shown, as the output may have no lines at all.
std::uint64_t LogReader::skip_cut_line(std::size_t stream, Loss loss) {
  std::uint64_t& at = position_.at[stream];
  const auto bytes = read_range(stream, at, at + kPiece);
  if (!bytes || bytes->empty()) cut_[stream] = loss;
  const auto newline = bytes ? bytes->find('\n') : std::string::npos;
  if (newline == std::string::npos) return 0;
  at += newline + 1;
  return newline + 1;
}

LogPiece LogReader::without_cut_line(LogPiece piece) {
  const Loss loss = std::exchange(cut_[static_cast<std::size_t>(piece.stream)], Loss::none);
  const auto newline = loss == Loss::none ? std::string_view::npos : piece.bytes.find('\n');
  if (newline == std::string_view::npos) return piece;
  return {piece.stream, piece.time_ns, {}, newline + 1, loss};
}

Result<bool> LogReader::read_entry(std::uint64_t offset, IndexEntry& entry) {
  const ssize_t got = ::pread(index_.get(), &entry, sizeof entry, static_cast<off_t>(offset));
  if (got < 0) return Error::from_errno(errno, "read ", std::string_view(kIndexFile));
  return got == static_cast<ssize_t>(sizeof entry);
}

Result<std::string_view> LogReader::read_packed(std::size_t stream, std::uint64_t from, std::uint64_t to) {
  auto& open = open_part_[stream];
  if (!open || !open->covers(from)) {
    open.reset();
    const PackedPart* const part = part_with(packed_[stream], from);
    if (part == nullptr) return std::string_view();
    auto opened = PackedReader::open(dir_.get(), *part);
    if (!opened && opened.error().errnum() == ENOENT) return std::string_view();  // too old by now
    open = TRY(std::move(opened));
  }
  const std::string_view bytes = TRY(open->read(from));
  return bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(to - from, bytes.size())));
}

// Nothing when these bytes were given back.
Result<std::string_view> LogReader::read_bytes(std::size_t stream, std::uint64_t from, std::uint64_t to) {
  if (const auto packed = TRY(read_packed(stream, from, to)); !packed.empty()) return packed;
  buffer_.resize(std::min(to - from, kPiece));
  const ssize_t got = ::pread(files_[stream].get(), buffer_.data(), buffer_.size(), static_cast<off_t>(from));
  if (got < 0) return Error::from_errno(errno, "read ", std::string_view(kStreamFiles[stream]));
  // Order: asked after the read. What is given back is so from its beginning on, so these are not zeros of a hole.
  if (first_data(files_[stream].get(), from) == from)
    return std::string_view(buffer_).substr(0, static_cast<std::size_t>(got));
  look_for_packed();
  return read_packed(stream, from, to);
}

// All of it, as far as it is there.
Result<std::string> LogReader::read_range(std::size_t stream, std::uint64_t from, std::uint64_t to) {
  std::string bytes;
  while (from + bytes.size() < to) {
    const std::string_view more = TRY(read_bytes(stream, from + bytes.size(), to));
    if (more.empty()) break;
    bytes += more;
  }
  return bytes;
}

// The gap that stands at the end of an entry whose bytes are all read. While a disk is full there is one entry after
// another, all of them one gap.
Result<std::optional<LogPiece>> LogReader::gap_at(const IndexEntry& entry) {
  const std::uint64_t at = position_.at[entry.stream];
  const auto is_gap = [&](const IndexEntry& one) {
    return one.magic == IndexEntry::kMagic && one.stream == entry.stream && one.missing != 0 && one.end == at &&
           (one.flags & IndexEntry::kPadding) == 0;
  };
  if (!is_gap(entry)) return std::optional<LogPiece>{};
  LogPiece gap{static_cast<Stream>(entry.stream), entry.time_ns, {}, entry.missing, Loss::disk_full};
  IndexEntry last = entry, more{};
  for (; TRY(read_entry(position_.index, more)) && is_gap(more); position_.index += sizeof more) {
    gap.missing += more.missing;
    last = more;
  }
  if ((last.flags & IndexEntry::kCutsLine) != 0) gap.missing += skip_cut_line(entry.stream, Loss::disk_full);
  return std::optional(gap);
}

Result<std::optional<LogPiece>> LogReader::next() {
  for (;;) {
    IndexEntry entry{};
    if (!TRY(read_entry(position_.index, entry))) return std::optional<LogPiece>{};
    const bool ours = entry.magic == IndexEntry::kMagic && entry.stream < kStreamFiles.size();
    std::uint64_t& at = position_.at[ours ? entry.stream : 0];
    // Damaged entries, and those of bytes that were skipped or given back, have nothing to show.
    if (!ours || entry.end <= at) {
      position_.index += sizeof entry;
      if (!ours) continue;
      if (const auto gap = TRY(gap_at(entry))) return gap;
      continue;
    }
    LogPiece piece{static_cast<Stream>(entry.stream), entry.time_ns, {}};
    if ((entry.flags & IndexEntry::kPadding) != 0) {
      const std::uint64_t ahead = entry.end - std::exchange(at, entry.end);
      if (ahead > entry.missing) piece.missing = ahead - entry.missing;
    } else {
      piece.bytes = TRY(read_bytes(entry.stream, at, entry.end));
      if (piece.bytes.empty()) piece.missing = skip_given_back(entry.stream);
      if (piece.bytes.empty() && piece.missing == 0) at = entry.end;  // the file is shorter than its index: damaged
    }
    if (piece.missing > 0) {
      piece.loss = Loss::outrun;
      return std::optional(piece);
    }
    if (piece.bytes.empty()) continue;
    piece = without_cut_line(piece);
    at += piece.bytes.size() + piece.missing;
    // A gap is the next piece.
    if (at == entry.end && entry.missing == 0) position_.index += sizeof entry;
    return std::optional(piece);
  }
}

Result<std::optional<LogPiece>> LogReader::rest() {
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i) {
    const auto status = TRY(sys::stat_fd(files_[i].get(), kStreamFiles[i]));
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size <= position_.at[i]) continue;
    LogPiece piece{static_cast<Stream>(i), write_time_of(status), TRY(read_bytes(i, position_.at[i], size))};
    if (piece.bytes.empty()) {
      piece.missing = skip_given_back(i);
      if (piece.missing == 0) continue;
      piece.loss = Loss::outrun;
    } else {
      piece = without_cut_line(piece);
      position_.at[i] += piece.bytes.size() + piece.missing;
    }
    return std::optional(piece);
  }
  return std::optional<LogPiece>{};
}

Result<std::vector<LogReader::Part>> LogReader::list_parts(bool out, bool err, bool with_rest,
                                                           std::optional<std::int64_t> until_ns) {
  std::vector<Part> parts;
  std::array<std::uint64_t, 2> at{};
  for (std::size_t i = 0; i < at.size(); ++i) at[i] = first_kept(i, position_.at[i]);
  const auto add = [&](std::size_t stream, std::uint64_t index, std::uint64_t end, std::int64_t time_ns) {
    const bool wanted = (stream == 0 ? out : err) && (!until_ns || time_ns <= *until_ns);
    if (wanted) parts.push_back({stream, index, at[stream], end, at});
    at[stream] = end;
  };
  IndexEntry entry{};
  std::uint64_t offset = position_.index;
  for (; TRY(read_entry(offset, entry)); offset += sizeof entry) {
    const bool ours = entry.magic == IndexEntry::kMagic && entry.stream < at.size();
    if (ours && entry.end > at[entry.stream]) add(entry.stream, offset, entry.end, entry.time_ns);
  }
  for (std::size_t i = 0; with_rest && i < at.size(); ++i) {
    const auto status = TRY(sys::stat_fd(files_[i].get(), kStreamFiles[i]));
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > at[i]) add(i, offset, size, write_time_of(status));
  }
  return parts;
}

Result<void> LogReader::skip_to_tail(std::uint64_t lines, bool out, bool err, bool with_rest,
                                     std::optional<std::int64_t> until_ns) {
  if (lines == 0) return skip_to_end();
  const auto parts = TRY(list_parts(out, err, with_rest, until_ns));
  // Backwards: the last byte of a stream begins a line to count, and so does each newline before it, as it ends an
  // earlier line. The first one too many is where the tail begins.
  std::uint64_t found = 0;
  std::array<bool, 2> seen{};
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    for (std::uint64_t to = part->to; to > part->from;) {
      const std::uint64_t from = to - std::min(to - part->from, kPiece);
      const std::string bytes = TRY(read_range(part->stream, from, to));
      for (std::size_t i = bytes.size(); i > 0; --i) {
        const bool ends_line = !std::exchange(seen[part->stream], true) || bytes[i - 1] == '\n';
        if (!ends_line || ++found <= lines) continue;
        position_ = {part->index, part->before};
        position_.at[part->stream] = from + i;
        return {};
      }
      to = from;
    }
  }
  return {};
}

}  // namespace skink::supervise
