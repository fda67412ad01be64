// SPDX-License-Identifier: Apache-2.0
#include "supervise/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

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

const PackedPart* part_with(const std::vector<PackedPart>& parts, std::uint64_t offset) {
  for (const auto& part : parts)
    if (offset >= part.from && offset < part.to) return &part;
  return nullptr;
}

Result<std::uint64_t> size_of(int fd, const char* name) {
  return static_cast<std::uint64_t>(TRY(sys::stat_fd(fd, name)).st_size);
}

}  // namespace

Result<LogReader> LogReader::open(int dir_fd) {
  LogReader reader;
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i)
    reader.files_[i] = TRY(sys::open_at(dir_fd, kStreamFiles[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  reader.index_ = TRY(sys::open_at(dir_fd, kIndexFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  reader.dir_ = TRY(sys::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  const std::uint64_t first = first_data(reader.index_.get(), 0);
  reader.position_.index = first - first % sizeof(IndexEntry);
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i) {
    // Order: parts that are packed meanwhile are in both for a moment, never in neither.
    const std::uint64_t spooled = first_data(reader.files_[i].get(), 0);
    reader.packed_[i] = list_packed(dir_fd, static_cast<Stream>(i));
    reader.position_.at[i] = reader.packed_[i].empty() ? spooled : std::min(spooled, reader.packed_[i].front().from);
  }
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

std::uint64_t LogReader::skip_given_back(Stream stream) {
  const auto i = static_cast<std::size_t>(stream);
  auto first = first_data(files_[i].get(), position_.at[i]);
  if (first == position_.at[i]) return 0;
  look_for_packed();
  for (const auto& part : packed_[i])
    if (part.to > position_.at[i]) first = std::min(first, std::max(part.from, position_.at[i]));
  const std::uint64_t skipped = first - position_.at[i];
  position_.at[i] = first;
  // Entries that were given back too are zeros, which next() passes over.
  return skipped;
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

Result<std::optional<LogPiece>> LogReader::next() {
  for (;;) {
    IndexEntry entry{};
    if (!TRY(read_entry(position_.index, entry))) return std::optional<LogPiece>{};
    const bool ours = entry.magic == IndexEntry::kMagic && entry.stream < kStreamFiles.size();
    std::uint64_t& at = position_.at[ours ? entry.stream : 0];
    // Damaged entries, and those of bytes that were skipped or given back, have nothing to show.
    if (!ours || entry.end <= at) {
      position_.index += sizeof entry;
      if (ours && entry.missing > 0 && entry.end == at)
        return std::optional(LogPiece{static_cast<Stream>(entry.stream), entry.time_ns, {}, entry.missing});
      continue;
    }
    const std::string_view bytes = TRY(read_bytes(entry.stream, at, entry.end));
    if (bytes.empty()) {
      // Given back since, or the file is shorter than its index: damaged.
      if (skip_given_back(static_cast<Stream>(entry.stream)) == 0) at = entry.end;
      continue;
    }
    at += bytes.size();
    const bool whole = at == entry.end;
    if (whole) position_.index += sizeof entry;
    return std::optional(LogPiece{static_cast<Stream>(entry.stream), entry.time_ns, bytes, whole ? entry.missing : 0});
  }
}

Result<std::optional<LogPiece>> LogReader::rest() {
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i) {
    const auto status = TRY(sys::stat_fd(files_[i].get(), kStreamFiles[i]));
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size <= position_.at[i]) continue;
    const std::string_view bytes = TRY(read_bytes(i, position_.at[i], size));
    if (bytes.empty()) continue;
    position_.at[i] += bytes.size();
    const std::int64_t time = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
    return std::optional(LogPiece{static_cast<Stream>(i), time, bytes, 0});
  }
  return std::optional<LogPiece>{};
}

Result<void> LogReader::skip_to_tail(std::uint64_t lines, bool out, bool err) {
  struct Part {
    std::size_t stream;
    std::uint64_t index, from, to;
    std::array<std::uint64_t, 2> before;  // where both streams stood
  };
  if (lines == 0) return skip_to_end();
  std::vector<Part> parts;
  auto at = position_.at;
  IndexEntry entry{};
  for (std::uint64_t offset = position_.index; TRY(read_entry(offset, entry)); offset += sizeof entry) {
    if (entry.magic != IndexEntry::kMagic || entry.stream > 1 || entry.end <= at[entry.stream]) continue;
    if (entry.stream == 0 ? out : err) parts.push_back({entry.stream, offset, at[entry.stream], entry.end, at});
    at[entry.stream] = entry.end;
  }
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
