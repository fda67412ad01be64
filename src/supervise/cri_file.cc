// SPDX-License-Identifier: Apache-2.0
#include "supervise/cri_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>

#include "base/durations.h"
#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

// Of text at one time: the supervisor has other things to see to, and keeps a batch in memory.
constexpr std::uint64_t kMostText = 1U << 20;
constexpr std::uint64_t kBatch = 64U << 10;
constexpr std::uint64_t kMostBehind = 4U << 20;
constexpr std::size_t kLeastLine = 1024;
constexpr unsigned kMostDoublings = 6;
constexpr std::int64_t kHandover = 20 * kMillisecond;
constexpr unsigned kMostHandovers = 50;
constexpr mode_t kMode = 0640;  // as kubelet's runtimes have it

}  // namespace

Result<CriFile> CriFile::open(int dir_fd, const CriLog& log, std::uint64_t kept) {
  CriFile cri;
  cri.log_ = log;
  const std::size_t slash = log.path.rfind('/') + 1;
  cri.directory_ = log.path.substr(0, slash);
  cri.name_ = log.path.substr(slash);
  cri.kept_ = kept;
  cri.reader_ = TRY(LogReader::open(dir_fd));
  // Of a line that is held for its end the beginning has to stay in the spool, and a batch with the end of a line of
  // either stream has to fit the file.
  const std::uint64_t most = std::min(kept, static_cast<std::uint64_t>(log.max_size)) / 4;
  cri.lines_ = CriLines(std::clamp<std::size_t>(most, kLeastLine, CriLines::kLongest));
  cri.cursor_.position = cri.reader_.position();
  cri.cursor_file_ = TRY(sys::open_at(dir_fd, kCriCursorFile, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  Cursor stored;
  if (::pread(cri.cursor_file_.get(), &stored, sizeof stored, 0) == sizeof stored && stored.magic == Cursor::kMagic)
    cri.cursor_ = stored;
  else TRY(cri.save(cri.cursor_));
  cri.next_ = cri.cursor_;
  cri.reader_.seek(cri.cursor_.position);
  for (const Stream stream : {Stream::out, Stream::err})
    cri.lines_.restore(stream, cri.cursor_.part_ns[static_cast<std::size_t>(stream)]);
  return cri;
}

std::string CriFile::numbered(std::uint32_t number) const { return str(name_, '.', number); }

// One write of less than a page: it is there whole, or not.
Result<void> CriFile::save(const Cursor& cursor) {
  const ssize_t wrote = ::pwrite(cursor_file_.get(), &cursor, sizeof cursor, 0);
  if (wrote == sizeof cursor) return {};
  return Error::from_errno(wrote < 0 ? errno : ENOSPC, "write ", std::string_view(kCriCursorFile));
}

Result<void> CriFile::later(Error error) {
  // A predecessor that has found a new guard is about to be gone, and has the file until then.
  if (error.code() == Code::busy && failures_ == 0 && ++handovers_ < kMostHandovers) {
    again_at_ns_ = fs::monotonic_ns() + kHandover;
    return {};
  }
  again_at_ns_ = fs::monotonic_ns() + (kSecond << std::min(failures_, kMostDoublings));
  if (failures_++ > 0) return {};
  return std::move(error).context("the CRI log, which is tried again after a while");
}

Result<void> CriFile::forward() {
  if (again_at_ns_ != 0 && fs::monotonic_ns() < again_at_ns_) return {};
  again_at_ns_ = 0;
  auto followed = follow();
  return followed ? followed : later(followed.error());
}

Result<void> CriFile::follow() {
  for (std::uint64_t written = 0; written < kMostText;) {
    if (text_.empty()) TRY(gather());
    if (text_.empty()) {
      reader_.shed();
      text_ = std::string();
      return {};
    }
    written += text_.size();
    TRY(flush());
  }
  again_at_ns_ = fs::monotonic_ns();  // more, after the others had their turn
  return {};
}

// Where in the stream's file the next byte to be taken is.
std::uint64_t CriFile::place(Stream stream) const {
  const std::uint64_t read = reader_.position().at[static_cast<std::size_t>(stream)];
  return stream == piece_.stream ? read - piece_.bytes.size() : read;
}

// What text_ is made of is always the same from one place on, in whatever batches: a successor relies on that.
Result<void> CriFile::gather() {
  const std::uint64_t enough = std::min<std::uint64_t>(kBatch, static_cast<std::uint64_t>(log_.max_size) / 4);
  while (text_.size() < enough) {
    cut_ended();
    if (text_.size() >= enough) break;
    if (!piece_.bytes.empty()) {
      take();
      continue;
    }
    piece_index_ = reader_.position().index;
    const auto piece = TRY(reader_.next());
    if (!piece) break;
    if (piece->missing != 0) take_gap(*piece);
    else piece_ = *piece;
  }
  note_place();
  return {};
}

void CriFile::take() {
  const auto i = static_cast<std::size_t>(piece_.stream);
  std::string_view bytes = piece_.bytes;
  if (const std::uint64_t at = place(piece_.stream); cursor_.cut[i] > at) bytes = bytes.substr(0, cursor_.cut[i] - at);
  if (lines_.held(piece_.stream) == 0) line_index_[i] = piece_index_;
  piece_.bytes.remove_prefix(lines_.take(piece_.stream, piece_.time_ns, bytes, text_));
}

// Read again with the beginning of a line of the other stream, it was told before.
void CriFile::take_gap(const LogPiece& gap) {
  auto& told = next_.told[static_cast<std::size_t>(gap.stream)];
  const std::uint64_t behind = reader_.position().index;
  if (gap.loss == Loss::disk_full && behind <= told) return;
  if (gap.loss == Loss::disk_full) told = behind;
  lines_.gap(gap, text_);
}

// Both at the place where they ended: what comes next is of another run.
void CriFile::cut_ended() {
  for (const Stream stream : {Stream::out, Stream::err})
    if (place(stream) != cursor_.cut[static_cast<std::size_t>(stream)]) return;
  for (const Stream stream : {Stream::out, Stream::err}) lines_.cut(stream, text_);
}

void CriFile::note_place() {
  next_.position.index = piece_.bytes.empty() ? reader_.position().index : piece_index_;
  for (const Stream stream : {Stream::out, Stream::err}) {
    const auto i = static_cast<std::size_t>(stream);
    next_.position.at[i] = place(stream) - lines_.held(stream);
    if (lines_.held(stream) != 0) next_.position.index = std::min(next_.position.index, line_index_[i]);
    next_.part_ns[i] = lines_.part_ns(stream);
  }
}

Result<void> CriFile::flush() {
  TRY(ensure_file());
  TRY(make_room());
  const std::size_t there = TRY(skip_what_is_there());
  TRY(write(std::string_view(text_).substr(there), cursor_.length + there));
  // Order: the cursor last. What it does not tell of yet would be found in the file.
  Cursor done = next_;
  done.cut = cursor_.cut;
  done.inode = cursor_.inode;
  done.length = cursor_.length + text_.size();
  TRY(save(done));
  cursor_ = next_ = done;
  text_.clear();
  failures_ = handovers_ = 0;
  return {};
}

// The directory that has the name now, when that is another one. Order: what is followed blindly here is compared with
// what was checked, and used for nothing else.
Result<void> CriFile::ensure_dir() {
  struct stat named {
  }, held{};
  if (dir_ && (::stat(directory_.c_str(), &named) != 0 || ::fstat(dir_.get(), &held) != 0 ||
               named.st_ino != held.st_ino || named.st_dev != held.st_dev)) {
    file_.reset();
    dir_.reset();
  }
  if (!dir_) dir_ = TRY(fs::open_trusted(directory_));
  return {};
}

// Looked at before it is opened: to open a device may do something, and what is somebody else's too is not for us to
// write.
Result<UniqueFd> CriFile::open_existing() const {
  const UniqueFd found = TRY(sys::open_at(dir_.get(), name_.c_str(), O_PATH | O_NOFOLLOW));
  const auto status = TRY(sys::stat_fd(found.get(), name_));
  if (!S_ISREG(status.st_mode)) return Error::make(Code::invalid_config, name_, ": not a regular file; move it away");
  if (status.st_uid != ::geteuid())
    return Error::make(Code::denied, name_, ": owned by uid ", status.st_uid, ", not by ", ::geteuid(),
                       "; chown it or move it away");
  if (status.st_nlink > 1)
    return Error::make(Code::denied, name_, ": it has ", status.st_nlink, " names, the others may be of something ",
                       "else; move it away");
  return sys::open_at(AT_FDCWD, str("/proc/self/fd/", found.get()).c_str(), O_RDWR | O_NONBLOCK | O_NOCTTY);
}

// The file that has the name now: somebody else may rotate it too, by renaming or by truncating it.
Result<void> CriFile::ensure_file() {
  TRY(ensure_dir());
  struct stat named {
  }, held{};
  if (file_ && (::fstatat(dir_.get(), name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
                ::fstat(file_.get(), &held) != 0 || named.st_ino != held.st_ino || named.st_dev != held.st_dev))
    file_.reset();
  if (!file_) {
    auto file = open_existing();
    if (!file && file.error().errnum() == ENOENT) {
      file = sys::open_at(dir_.get(), name_.c_str(), O_RDWR | O_NOFOLLOW | O_CREAT | O_EXCL, 0600);
      if (file) (void)::fchmod(file->get(), kMode);
    }
    file_ = TRY_CTX(std::move(file), directory_);
    // Of a process alone, and gone with it. A file system that has no locks is no reason to write nothing.
    struct flock lock {};
    lock.l_type = F_WRLCK;
    if (::fcntl(file_.get(), F_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
      file_.reset();
      return Error::make(Code::busy, log_.path, ": another process writes to it, perhaps for another container");
    }
  }
  held = TRY(sys::stat_fd(file_.get(), log_.path));
  const auto size = static_cast<std::uint64_t>(held.st_size);
  if (held.st_ino != cursor_.inode || size < cursor_.length) return begin_at_end();
  there_ = size - cursor_.length;
  return {};
}

// Another file, or another's words in it: we go on behind them, in a line of our own.
Result<void> CriFile::begin_at_end() {
  const auto status = TRY(sys::stat_fd(file_.get(), log_.path));
  Cursor here = cursor_;
  here.inode = status.st_ino;
  here.length = static_cast<std::uint64_t>(status.st_size);
  char last = '\n';
  if (here.length > 0 && ::pread(file_.get(), &last, 1, status.st_size - 1) == 1 && last != '\n') {
    TRY(write("\n", here.length));
    ++here.length;
  }
  TRY(save(here));
  cursor_ = here;
  there_ = 0;
  return {};
}

Result<void> CriFile::make_room() {
  const auto most = static_cast<std::uint64_t>(log_.max_size);
  if (there_ != 0 || cursor_.length == 0 || cursor_.length + text_.size() <= most) return {};
  TRY(rotate());
  return ensure_file();
}

// PATH to PATH.1, that to PATH.2 and so on, the last of them goes. Whoever was killed on the way has left a number
// free: only what is below that moves, and nothing goes.
Result<void> CriFile::rotate() {
  std::uint32_t free = 1;
  while (free + 1 < log_.max_files && sys::is_there(dir_.get(), numbered(free).c_str())) ++free;
  for (std::uint32_t number = free; number > 0; --number) {
    const std::string from = number > 1 ? numbered(number - 1) : name_;
    TRY_CTX(sys::rename_at(dir_.get(), from.c_str(), dir_.get(), numbered(number).c_str()), directory_);
  }
  return {};
}

// How much of text_ the file has already, of a predecessor or of a disk that was full.
Result<std::size_t> CriFile::skip_what_is_there() {
  if (there_ == 0) return std::size_t{0};
  std::string found(static_cast<std::size_t>(std::min<std::uint64_t>(there_, text_.size())), '\0');
  const ssize_t got = ::pread(file_.get(), found.data(), found.size(), static_cast<off_t>(cursor_.length));
  if (got < 0) return Error::from_errno(errno, "read ", log_.path);
  if (static_cast<std::size_t>(got) == found.size() && text_.starts_with(found)) return found.size();
  TRY(begin_at_end());
  return std::size_t{0};
}

Result<void> CriFile::write(std::string_view bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return Error::from_errno(wrote < 0 ? errno : ENOSPC, "write ", log_.path);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
    at += static_cast<std::uint64_t>(wrote);
  }
  return {};
}

// Order: on record before a line ends by it, as nothing in the spool tells of it.
Result<void> CriFile::end_lines(const std::array<std::uint64_t, 2>& ends) {
  if (cursor_.cut != ends) {
    Cursor here = cursor_;
    here.cut = ends;
    if (auto saved = save(here); !saved) return later(saved.error());
    cursor_ = here;
  }
  again_at_ns_ = 0;
  return forward();
}

Result<void> CriFile::finish(const std::array<std::uint64_t, 2>& ends, std::int64_t deadline_ns) {
  std::optional<Error> error;
  do {
    again_at_ns_ = 0;
    auto followed = follow();
    if (followed && again_at_ns_ == 0) return {};
    error = followed ? std::nullopt : std::optional(std::move(followed).error());
    if (error && error->code() != Code::busy) break;
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = kHandover};
    if (error) ::nanosleep(&kPause, nullptr);
  } while (fs::monotonic_ns() < deadline_ns);
  if (!error) error = Error::make(Code::busy, log_.path, ": it is slow");
  return std::move(*error).context("the CRI log, whose last ", missing(ends),
                                   " bytes of output are not written before the container is started again");
}

std::uint64_t CriFile::missing(const std::array<std::uint64_t, 2>& ends) const {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) bytes += ends[i] - std::min(cursor_.position.at[i], ends[i]);
  return bytes;
}

bool CriFile::is_behind(const std::array<std::uint64_t, 2>& ends) const {
  if (failures_ > 0 || again_at_ns_ == 0) return false;
  std::uint64_t behind = 0;
  for (const Stream stream : {Stream::out, Stream::err})
    behind += ends[static_cast<std::size_t>(stream)] - std::min(place(stream), ends[static_cast<std::size_t>(stream)]);
  return behind > std::min(kept_ / 8, kMostBehind);
}

}  // namespace skink::supervise
