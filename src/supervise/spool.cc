// SPDX-License-Identifier: Apache-2.0
#include "supervise/spool.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::size_t kChunk = 64U << 10;
constexpr int kChunksAtOnce = 16;
// Holes are punched in steps, as each costs a journal transaction of the file system.
constexpr std::uint64_t kPunchStep = 4ULL << 20, kLeastPunchStep = 16ULL << 10;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLeastIndex = 256ULL << 10, kMostIndex = 64ULL << 20;

std::uint64_t round_up(std::uint64_t offset) { return (offset + kPage - 1) / kPage * kPage; }

bool disk_is_full(int errnum) { return errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG || errnum == EIO; }

Result<std::uint64_t> seek_end(int fd, const char* name) {
  const off_t end = ::lseek(fd, 0, SEEK_END);
  if (end < 0) return Error::from_errno(errno, "seek ", name);
  return static_cast<std::uint64_t>(end);
}

// What is in there by now; 0 when nothing is, since a container's pipe is one that waits.
ssize_t read_present(int from_fd, std::span<char> bytes) {
  pollfd ready{.fd = from_fd, .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, 0) <= 0) return 0;
  // EIO is how a terminal says that nobody has it open any more.
  return std::max<ssize_t>(::read(from_fd, bytes.data(), bytes.size()), 0);
}

// By splice(2), or -1: where the file system or a filter of system calls has none, read and write do.
ssize_t splice_some(int from_fd, int to_fd, loff_t* to, std::size_t most) {
  ssize_t moved = 0;
  do {
    moved = ::splice(from_fd, nullptr, to_fd, to, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
  } while (moved < 0 && errno == EINTR);
  return moved;
}

void punch(int fd, std::uint64_t& punched, std::uint64_t upto, std::uint64_t step) {
  if (upto < punched + step) return;
  const std::uint64_t to = upto - upto % kPage;
  // A file system without holes keeps the bytes; that is no reason to stop the container's output.
  (void)::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(punched),
                    static_cast<off_t>(to - punched));
  punched = to;
}

}  // namespace

Result<void> Spool::make(int dir_fd) {
  for (const char* name : {kStreamFiles[0], kStreamFiles[1], kIndexFile})
    TRY(sys::open_at(dir_fd, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600));
  return {};
}

Result<Spool> Spool::open(int dir_fd) {
  Spool spool;
  for (std::size_t i = 0; i < kStreamFiles.size(); ++i) {
    Channel& channel = spool.channels_[i];
    // No O_APPEND: splice(2) to such a file is EINVAL.
    channel.file = TRY(sys::open_at(dir_fd, kStreamFiles[i], O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    channel.end = TRY(seek_end(channel.file.get(), kStreamFiles[i]));
  }
  spool.index_ = TRY(sys::open_at(dir_fd, kIndexFile, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  std::uint64_t end = TRY(seek_end(spool.index_.get(), kIndexFile));
  // A torn entry at the end (a full disk) is overwritten.
  spool.index_end_ = end - end % sizeof(IndexEntry);

  // The newest entry of each stream says how far the index goes. Both are near the end unless one stream is silent.
  std::array<std::uint64_t, 2> known{};
  std::array<bool, 2> seen{};
  std::uint64_t at = spool.index_end_;
  for (int budget = 4096; at >= sizeof(IndexEntry) && budget > 0 && !(seen[0] && seen[1]); --budget) {
    at -= sizeof(IndexEntry);
    IndexEntry entry{};
    if (::pread(spool.index_.get(), &entry, sizeof entry, static_cast<off_t>(at)) != sizeof entry) break;
    if (entry.magic != IndexEntry::kMagic || entry.stream > 1 || seen[entry.stream]) continue;
    seen[entry.stream] = true;
    known[entry.stream] = entry.end;
  }
  // One that was silent for longer than was looked gets an entry too: should it be one too many, it tells of no bytes.
  for (const Stream stream : {Stream::out, Stream::err})
    if (known[static_cast<std::size_t>(stream)] < spool.at(stream).end) spool.note(stream);
  spool.adopt_pending(dir_fd);
  return spool;
}

// The gaps of a predecessor that had no room for them. Without this file they are lost with it.
void Spool::adopt_pending(int dir_fd) {
  auto file = sys::open_at(dir_fd, kGapFile, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (!file) return;
  gap_ = std::move(*file);
  std::array<Pending, 2> found{};
  const bool whole = ::pread(gap_.get(), found.data(), sizeof found, 0) == sizeof found;
  for (const Stream stream : {Stream::out, Stream::err}) {
    const Pending& pending = found[static_cast<std::size_t>(stream)];
    if (!whole || pending.missing == 0 || is_told(stream, pending)) continue;
    at(stream).missing = pending.missing;
    at(stream).cuts_line = pending.cuts_line != 0;
    (void)note(stream);
  }
  pending_.fill({.missing = 1, .cuts_line = 0, .index_end = 0});  // unlike anything, so that it is written
  save_pending();
}

bool Spool::is_told(Stream stream, const Pending& pending) const {
  IndexEntry entry{};
  for (std::uint64_t at = pending.index_end; at < index_end_; at += sizeof entry) {
    if (::pread(index_.get(), &entry, sizeof entry, static_cast<off_t>(at)) != sizeof entry) return true;
    if (entry.magic == IndexEntry::kMagic && entry.stream == static_cast<std::uint16_t>(stream) &&
        entry.missing >= pending.missing && (entry.flags & IndexEntry::kPadding) == 0)
      return true;
  }
  return false;
}

// One write of less than a page. Order: after the entry that tells of a gap; a gap that stands in both is told once.
void Spool::save_pending() {
  std::array<Pending, 2> now{};
  for (std::size_t i = 0; i < now.size(); ++i)
    if (channels_[i].missing != 0) now[i] = {channels_[i].missing, channels_[i].cuts_line ? 1U : 0U, index_end_};
  const auto is_same = [](const Pending& a, const Pending& b) {
    return a.missing == b.missing && a.cuts_line == b.cuts_line;
  };
  if (!gap_ || std::ranges::equal(now, pending_, is_same)) return;
  if (::pwrite(gap_.get(), now.data(), sizeof now, 0) == sizeof now) pending_ = now;
}

std::uint64_t Spool::move_once(Channel& channel, int from_fd, bool is_pipe, std::uint64_t most, bool& full) {
  full = false;
  if (is_pipe) {
    auto to = static_cast<loff_t>(channel.end);
    const ssize_t moved = splice_some(from_fd, channel.file.get(), &to, most);
    if (moved >= 0) return static_cast<std::uint64_t>(moved);
    if (errno == EAGAIN) return 0;
    full = disk_is_full(errno);
    if (full) return 0;
  }
  std::array<char, 16384> bytes;  // NOLINT: filled by read
  const ssize_t got = read_present(from_fd, std::span(bytes).first(std::min<std::uint64_t>(bytes.size(), most)));
  if (got == 0) return 0;
  std::size_t put = 0;
  while (put < static_cast<std::size_t>(got)) {
    const ssize_t wrote = ::pwrite(channel.file.get(), bytes.data() + put, static_cast<std::size_t>(got) - put,
                                   static_cast<off_t>(channel.end + put));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      channel.missing += static_cast<std::size_t>(got) - put;
      channel.cuts_line = bytes[static_cast<std::size_t>(got) - 1] != '\n';
      full = true;
      break;
    }
    put += static_cast<std::size_t>(wrote);
  }
  return static_cast<std::uint64_t>(put);
}

void Spool::drop(Channel& channel, int from_fd) {
  std::array<char, 16384> bytes;  // NOLINT: filled by read
  const ssize_t got = read_present(from_fd, bytes);
  if (got == 0) return;
  channel.missing += static_cast<std::uint64_t>(got);
  channel.cuts_line = bytes[static_cast<std::size_t>(got) - 1] != '\n';
}

Result<std::uint64_t> Spool::pump(Stream stream, int from_fd, bool is_pipe) {
  if (nowhere_) return discard(from_fd, is_pipe);
  Channel& channel = at(stream);
  std::uint64_t left_pipe = 0;
  bool moved_any = false;
  // Order: a gap is written down before anything comes behind it. While it cannot be, the disk is as good as full; and
  // once full it stays so to the end of this call, or the gap would stand behind what came after it.
  bool full = channel.missing > 0 && !note(stream);
  while (left_pipe < turn_) {
    const std::uint64_t missing_before = channel.missing;
    const std::uint64_t moved =
        full ? 0 : move_once(channel, from_fd, is_pipe, std::min<std::uint64_t>(kChunk, turn_ - left_pipe), full);
    channel.end += moved;
    moved_any = moved_any || moved > 0;
    // The container must not be stopped by a full disk, so its output is counted and thrown away.
    if (full && channel.missing == missing_before) drop(channel, from_fd);
    // At each step: who is killed here loses count of what one read(2) took.
    if (full) save_pending();
    const std::uint64_t left = moved + channel.missing - missing_before;
    left_pipe += left;
    if (left == 0) break;
  }
  if (moved_any || channel.missing > 0) note(stream);
  save_pending();
  if (moved_any) bound(channel);
  return left_pipe;
}

Result<std::uint64_t> Spool::discard(int from_fd, bool is_pipe) {
  std::uint64_t left_pipe = 0;
  for (int i = 0; i < kChunksAtOnce; ++i) {
    std::array<char, 16384> bytes;  // NOLINT: filled by read
    ssize_t moved = is_pipe ? splice_some(from_fd, nowhere_.get(), nullptr, kChunk) : -1;
    if (moved < 0 && !(is_pipe && errno == EAGAIN)) moved = read_present(from_fd, bytes);
    if (moved <= 0) break;
    left_pipe += static_cast<std::uint64_t>(moved);
  }
  return left_pipe;
}

void Spool::give_back(Stream stream, std::uint64_t upto) {
  punch(at(stream).file.get(), at(stream).punched, upto, kPage);
}

Result<void> Spool::keep(bool wanted) {
  if (wanted == !nowhere_) return {};
  if (wanted) {
    nowhere_.reset();
    // In a page of its own: before it there are holes alone.
    for (const Stream stream : {Stream::out, Stream::err}) pad(stream);
    return {};
  }
  nowhere_ = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_WRONLY));
  for (const Stream stream : {Stream::out, Stream::err}) give_back(stream, round_up(at(stream).end));
  punch(index_.get(), index_punched_, index_end_, kPage);
  return {};
}

void Spool::set_index_limit(std::uint64_t bytes) { index_limit_ = std::clamp(bytes / 2, kLeastIndex, kMostIndex); }

// What is written next begins a page. Who reads stands before or behind the hole that this makes, never in it.
void Spool::pad(Stream stream) {
  Channel& channel = at(stream);
  const std::uint64_t to = round_up(channel.end);
  const std::uint64_t hole = to - std::exchange(channel.end, to);
  // Order: the size first, as a reader looks at the index first (LogReader::skip_to_end).
  if (hole == 0 || ::ftruncate(channel.file.get(), static_cast<off_t>(to)) != 0) return;
  (void)write_entry({.stream = static_cast<std::uint16_t>(stream),
                     .flags = IndexEntry::kPadding,
                     .time_ns = fs::now_ns(),
                     .end = to,
                     .missing = hole});
}

bool Spool::write_entry(const IndexEntry& entry) {
  if (::pwrite(index_.get(), &entry, sizeof entry, static_cast<off_t>(index_end_)) != sizeof entry) return false;
  index_end_ += sizeof entry;
  return true;
}

// On a full disk a gap stays pending until an entry fits.
bool Spool::note(Stream stream) {
  Channel& channel = at(stream);
  const IndexEntry entry{.stream = static_cast<std::uint16_t>(stream),
                         .flags = channel.missing > 0 && channel.cuts_line ? IndexEntry::kCutsLine : std::uint16_t{0},
                         .time_ns = fs::now_ns(),
                         .end = channel.end,
                         .missing = channel.missing};
  if (!write_entry(entry)) return false;
  channel.missing = 0;
  return true;
}

void Spool::bound(Channel& channel) {
  const std::uint64_t step = std::clamp(limit_ / 4, kLeastPunchStep, kPunchStep);
  if (channel.end > limit_) punch(channel.file.get(), channel.punched, channel.end - limit_, step);
  // What has lost its entry is shown with the time of the next one that is there.
  if (index_end_ > index_limit_)
    punch(index_.get(), index_punched_, index_end_ - index_limit_,
          std::clamp(index_limit_ / 4, kLeastPunchStep, kPunchStep));
}

}  // namespace skink::supervise
