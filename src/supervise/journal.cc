// SPDX-License-Identifier: Apache-2.0
#include "supervise/journal.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/durations.h"
#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::int64_t kBusyPause = 50 * kMillisecond, kAbsentPause = 1'000 * kMillisecond;
// Of the spool at one time: the supervisor has other things to see to.
constexpr std::uint64_t kMostAtOnce = 128U << 10;
constexpr int kSendBuffer = 8 << 20;  // as sd-journal has it; only root gets that much
constexpr const char* kPriorityOfOutput = "6";
constexpr const char* kPriorityOfErrors = "3";

}  // namespace

void append_field(std::string& message, std::string_view name, std::string_view value) {
  message += name;
  if (value.find('\n') == value.npos) {
    message += str('=', value, '\n');
    return;
  }
  message += '\n';
  const std::uint64_t size = value.size();
  for (unsigned shift = 0; shift < 64; shift += 8)
    message += static_cast<char>(size >> shift & 0xffU);  // little-endian
  message += str(value, '\n');
}

JournalSocket::Outcome JournalSocket::connect() {
  socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_) return Outcome::busy;
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer, sizeof kSendBuffer);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, kJournalSocket);  // NOLINT: a constant that fits
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return Outcome::sent;
  socket_.reset();
  return Outcome::absent;
}

JournalSocket::Outcome JournalSocket::send_in_memfd(std::string_view message) {
  const auto file = sys::sealed_memfd("journal", message, false);
  if (!file) return Outcome::busy;
  const int fd = file->get();
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fd)> room{};
  msghdr header{};
  header.msg_control = room.data();
  header.msg_controllen = room.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  return ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL) >= 0 ? Outcome::sent : Outcome::busy;
}

JournalSocket::Outcome JournalSocket::send(std::string_view message) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!socket_)
      if (const Outcome connected = connect(); connected != Outcome::sent) return connected;
    if (::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL) >= 0) return Outcome::sent;
    if (errno == EMSGSIZE || errno == ENOBUFS) return send_in_memfd(message);
    if (errno == EAGAIN || errno == EINTR) return Outcome::busy;
    socket_.reset();  // the other end is another one now
  }
  return Outcome::absent;
}

Result<JournalForwarder> JournalForwarder::open(int dir_fd, JournalFields fields) {
  JournalForwarder forwarder;
  forwarder.fields_ = std::move(fields);
  forwarder.reader_ = TRY(LogReader::open(dir_fd));
  forwarder.cursor_.position = forwarder.reader_->position();
  forwarder.file_ = TRY(sys::open_at(dir_fd, kJournalCursorFile, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  Cursor stored;
  if (::pread(forwarder.file_.get(), &stored, sizeof stored, 0) == sizeof stored && stored.magic == Cursor::kMagic)
    forwarder.cursor_ = stored;
  forwarder.go_back();
  return forwarder;
}

void JournalForwarder::go_back() {
  for (Line& line : lines_) line = Line{};
  reader_->seek(cursor_.position);
}

// `here`: how far the reader had come with what is sent or in a line.
void JournalForwarder::save(const LogPosition& here) {
  cursor_.position.index = here.index;
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    cursor_.position.at[i] = here.at[i] - lines_[i].text.size();
    if (!lines_[i].text.empty()) cursor_.position.index = std::min(cursor_.position.index, lines_[i].index);
  }
  (void)!::pwrite(file_.get(), &cursor_, sizeof cursor_, 0);
}

bool JournalForwarder::send(Stream stream, std::string_view text, std::int64_t time_ns, bool partial) {
  std::string message;
  append_field(message, "MESSAGE", text);
  append_field(message, "PRIORITY", stream == Stream::out ? kPriorityOfOutput : kPriorityOfErrors);
  append_field(message, "SYSLOG_TIMESTAMP", fs::rfc3339(time_ns));
  if (partial) append_field(message, "CONTAINER_PARTIAL_MESSAGE", "true");
  for (const auto& [name, value] : fields_) append_field(message, name, value);
  const auto outcome = socket_.send(message);
  if (outcome == JournalSocket::Outcome::sent) return true;
  again_at_ns_ = fs::monotonic_ns() + (outcome == JournalSocket::Outcome::busy ? kBusyPause : kAbsentPause);
  return false;
}

// A line, or with `partial` what there is of it.
bool JournalForwarder::finish(Stream stream, bool partial) {
  const auto i = static_cast<std::size_t>(stream);
  std::string_view text = lines_[i].text;
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.ends_with('\r')) text.remove_suffix(1);  // of a terminal
  // The end of a line whose parts are all sent is no message.
  if (!(text.empty() && continues_[i]) && !send(stream, text, lines_[i].time_ns, partial)) return false;
  continues_[i] = partial;
  lines_[i] = Line{};
  return true;
}

bool JournalForwarder::take(const LogPiece& piece, std::uint64_t index) {
  Line& line = lines_[static_cast<std::size_t>(piece.stream)];
  // The reader stands behind the whole piece; what of it is not in a line yet counts as not read.
  std::string_view rest = piece.bytes;
  const LogPosition behind = reader_->position();
  while (!rest.empty()) {
    const std::size_t most = std::min(rest.size(), kLongestLine - line.text.size());
    const std::size_t newline = rest.substr(0, most).find('\n');
    const std::size_t length = newline == rest.npos ? most : newline + 1;
    if (line.text.empty()) line.index = index;
    line.text += rest.substr(0, length);
    line.time_ns = piece.time_ns;
    rest.remove_prefix(length);
    const bool whole = newline != rest.npos;
    if (!whole && line.text.size() < kLongestLine) break;
    if (!finish(piece.stream, !whole)) return false;
    LogPosition here = behind;
    here.at[static_cast<std::size_t>(piece.stream)] -= rest.size();
    if (!rest.empty()) here.index = std::min(here.index, index);
    save(here);
  }
  return true;
}

// The line that a gap cuts ends there.
bool JournalForwarder::take_gap(const LogPiece& gap, const LogPosition& before) {
  const auto i = static_cast<std::size_t>(gap.stream);
  if (!lines_[i].text.empty()) {
    if (!finish(gap.stream, false)) return false;
    save(before);
  }
  continues_[i] = false;
  return send(gap.stream, str("skink: ", gap_text(gap)), gap.time_ns, false);
}

// One piece of the spool: how many bytes it had; nothing when there is none, or the journal did not take it.
std::optional<std::uint64_t> JournalForwarder::step() {
  const LogPosition before = reader_->position();
  auto piece = reader_->next();
  if (!piece || !*piece) return std::nullopt;
  const std::uint64_t bytes = (*piece)->bytes.size() + 1;
  if (!((*piece)->missing != 0 ? take_gap(**piece, before) : take(**piece, before.index))) {
    go_back();
    return std::nullopt;
  }
  save(reader_->position());
  return bytes;
}

void JournalForwarder::forward() {
  if (again_at_ns_ != 0 && fs::monotonic_ns() < again_at_ns_) return;
  again_at_ns_ = 0;
  for (std::uint64_t moved = 0; moved < kMostAtOnce;) {
    const auto bytes = step();
    if (!bytes) return;
    moved += *bytes;
  }
  again_at_ns_ = fs::monotonic_ns();  // more, after the others had their turn
}

void JournalForwarder::end_line() {
  for (const Stream stream : {Stream::out, Stream::err}) {
    const bool open = !lines_[static_cast<std::size_t>(stream)].text.empty();
    if (open && again_at_ns_ == 0 && finish(stream, false)) save(reader_->position());
    continues_[static_cast<std::size_t>(stream)] = false;
  }
}

}  // namespace skink::supervise
