// SPDX-License-Identifier: Apache-2.0
#include "fs/dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>

#include "base/text.h"
#include "sys/interrupt.h"
#include "sys/process.h"

namespace skink::fs {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

Result<Dir> open_stream(UniqueFd fd) {
  DIR* dir = ::fdopendir(fd.get());
  if (dir == nullptr) return Error::from_errno(errno, "fdopendir");
  (void)fd.release();
  return Dir(dir);
}

unsigned char type_of(int dir_fd, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type;
  const auto status = sys::stat_at(dir_fd, entry.d_name, AT_SYMLINK_NOFOLLOW);
  return status ? static_cast<unsigned char>(IFTODT(status->st_mode)) : static_cast<unsigned char>(DT_UNKNOWN);
}

bool is_dot(std::string_view name) { return name == "." || name == ".."; }

}  // namespace

Result<std::vector<Entry>> list(int dir_fd) {
  // A second open gives a stream of its own: fdopendir takes the descriptor and moves its offset.
  const Dir dir = TRY(open_stream(TRY(sys::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY))));
  std::vector<Entry> entries;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) break;
    if (!is_dot(entry->d_name)) entries.push_back({entry->d_name, type_of(::dirfd(dir.get()), *entry)});
  }
  if (errno != 0) return Error::from_errno(errno, "readdir");
  return entries;
}

namespace {

Result<std::string> read_opened(const UniqueFd& file, const char* name, std::size_t most) {
  const auto status = TRY(sys::stat_fd(file.get(), name));
  if (!S_ISREG(status.st_mode)) return Error::make(Code::corrupt, std::string_view(name), ": not a regular file");
  // A regular file's read is short at its end only, so the usual small record takes one. (One without a size is made as
  // it is read, by procfs or a control group.)
  if (const auto size = static_cast<std::size_t>(status.st_size);
      size > 0 && size <= std::min<std::size_t>(most, 4096)) {
    std::string text(size + 1, '\0');
    const ssize_t got = ::read(file.get(), text.data(), text.size());
    if (got >= 0 && static_cast<std::size_t>(got) <= size) {
      text.resize(static_cast<std::size_t>(got));
      return text;
    }
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek ", std::string_view(name));
  }
  return sys::read_all(file.get(), most, name);
}

constexpr int kToRead = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

}  // namespace

Result<std::string> read_file(int dir_fd, const char* name, std::size_t most) {
  return read_opened(TRY(sys::open_at(dir_fd, name, kToRead)), name, most);
}

Result<std::string> read_file_beneath(int dir_fd, const char* path, std::size_t most) {
  return read_opened(TRY(sys::open_beneath(dir_fd, path, kToRead)), path, most);
}

namespace {

// ext4 writes a file to the disk before it is renamed over another one, so that a power cut leaves one of the two. What
// does not outlive the boot needs no such care: exchanged and unlinked, the change stays in memory.
Result<void> put_in_place(int dir_fd, const char* temporary, const char* name, Durability durability) {
  constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE
  if (durability == Durability::durable || !sys::rename_at(dir_fd, temporary, dir_fd, name, kExchange))
    return sys::rename_at(dir_fd, temporary, dir_fd, name);
  if (::unlinkat(dir_fd, temporary, 0) == 0 || errno == ENOENT) return {};
  // What stood there is no file that could be replaced.
  Error error = Error::from_errno(errno, "rename to ", std::string_view(name));
  if (auto back = sys::rename_at(dir_fd, temporary, dir_fd, name, kExchange); !back) error.also(back.error());
  return error;
}

}  // namespace

namespace {

struct Syncing {
  const std::vector<int>& fds;
  std::atomic<std::size_t> next{0};
  std::atomic<int> error{0};
  static void* work(void* of) {
    auto& all = *static_cast<Syncing*>(of);
    for (std::size_t i = all.next++; i < all.fds.size(); i = all.next++)
      if (::fsync(all.fds[i]) != 0) all.error = errno;
    return nullptr;
  }
};

// A thread that was joined shares the working directory with us for moments yet, and setns(2) into another mount
// namespace fails until it is gone. The links of this directory count the threads besides its own two.
void await_one_thread() {
  constexpr nlink_t kAlone = 3;
  struct stat tasks {};
  for (int i = 0; i < 1000 && ::stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > kAlone; ++i)
    ::usleep(i < 20 ? 0 : 1000);
}

}  // namespace

Result<void> sync_all(const std::vector<int>& fds) {
  constexpr std::size_t kMost = 8;
  // Signals are for the thread that knows of them.
  sigset_t every, before;
  ::sigfillset(&every);
  ::pthread_sigmask(SIG_SETMASK, &every, &before);
  Syncing syncing{.fds = fds};
  std::vector<pthread_t> helpers;
  helpers.reserve(kMost);
  // Without threads (a limit of processes) it only takes longer.
  while (helpers.size() + 1 < std::min(fds.size(), kMost)) {
    pthread_t helper{};
    if (::pthread_create(&helper, nullptr, Syncing::work, &syncing) != 0) break;
    helpers.push_back(helper);
  }
  Syncing::work(&syncing);
  for (const pthread_t helper : helpers) ::pthread_join(helper, nullptr);
  if (!helpers.empty()) await_one_thread();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (syncing.error != 0) return Error::from_errno(syncing.error, "fsync");
  return {};
}

Result<void> write_file_atomic(int dir_fd, const char* name, std::string_view text, mode_t mode,
                               Durability durability) {
  const std::string temporary = str(".", std::string_view(name), ".", random_hex(8), ".tmp");
  const UniqueFd file = TRY(sys::open_at(dir_fd, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  const auto finish = [&]() -> Result<void> {
    TRY(sys::write_all(file.get(), text, name));
    if (durability == Durability::durable && ::fsync(file.get()) != 0) return Error::from_errno(errno, "fsync ", name);
    TRY(put_in_place(dir_fd, temporary.c_str(), name, durability));
    if (durability == Durability::durable && ::fsync(dir_fd) != 0)
      return Error::from_errno(errno, "fsync directory of ", name);
    return {};
  };
  auto done = finish();
  if (!done) ::unlinkat(dir_fd, temporary.c_str(), 0);
  return done;
}

Result<UniqueFd> make_dirs(const std::string& path, mode_t mode) {
  auto whole = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY);
  if (whole || whole.error().errnum() != ENOENT) return whole;
  UniqueFd at = TRY(sys::open_at(AT_FDCWD, path.starts_with('/') ? "/" : ".", O_RDONLY | O_DIRECTORY));
  for (const auto component : split(path, '/')) {
    if (component.empty()) continue;
    const std::string name(component);
    auto made = sys::mkdir_at(at.get(), name.c_str(), mode);
    if (!made && made.error().errnum() != EEXIST) return std::move(made.error().context(path));
    at = TRY_CTX(sys::open_at(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY), path);
  }
  return at;
}

namespace {

Result<void> check_owner(const struct stat& status, std::string_view path) {
  if (status.st_uid != ::geteuid())
    return Error::make(Code::denied, path, ": owned by uid ", status.st_uid, ", not by ", ::geteuid(),
                       "; chown it or choose another directory");
  if ((status.st_mode & 022U) != 0)
    return Error::make(Code::denied, path, ": writable by others; chmod go-w it or choose another directory");
  return {};
}

}  // namespace

Result<void> check_private(int dir_fd, std::string_view path) {
  const auto status = TRY(sys::stat_fd(dir_fd, path));
  if (!S_ISDIR(status.st_mode)) return Error::make(Code::denied, path, ": not a directory");
  return check_owner(status, path);
}

Result<std::string> read_private_file(int dir_fd, const char* name, std::size_t most) {
  TRY(check_private(dir_fd, "its directory"));
  const auto status = sys::stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  if (status && S_ISREG(status->st_mode)) TRY(check_owner(*status, name));
  return read_file(dir_fd, name, most);
}

namespace {

bool is_trusted(uid_t owner) {
  constexpr uid_t kOverflow = 65534;  // in a user namespace, whoever has no number there: the host's root too
  return owner == 0 || owner == ::geteuid() || (owner == kOverflow && sys::in_user_namespace());
}

Result<void> check_step(const struct stat& status, std::string_view path) {
  const bool is_link = S_ISLNK(status.st_mode);
  if (!is_trusted(status.st_uid))
    return Error::make(Code::denied, printable(path), ": this ", is_link ? "link" : "directory above",
                       " is owned by uid ", status.st_uid,
                       ", who can put another in its place; chown it or choose another directory");
  if (!is_link && (status.st_mode & 022U) != 0 && (status.st_mode & S_ISVTX) == 0)
    return Error::make(Code::denied, printable(path),
                       ": others can write to this directory above; chmod go-w it or choose another directory");
  return {};
}

// What the name leads through, as far as it is there: what is made below is ours.
Result<void> check_names(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    const auto status = sys::stat_at(AT_FDCWD, part.c_str(), AT_SYMLINK_NOFOLLOW);
    if (!status && status.error().errnum() == ENOENT) return {};
    if (!status) return status.error();
    if (end != path.npos || S_ISLNK(status->st_mode)) TRY(check_step(*status, part));
    if (end == path.npos) return {};
  }
}

// Where links led: up to the root of the file tree, which is its own "..".
Result<void> check_above(int dir_fd, const std::string& path) {
  auto below = TRY(sys::stat_fd(dir_fd, path));
  for (std::string up = "..";; up += "/..") {
    const auto status = TRY(sys::stat_at(dir_fd, up.c_str(), AT_SYMLINK_NOFOLLOW));
    if (status.st_ino == below.st_ino && status.st_dev == below.st_dev) return {};
    TRY(check_step(status, str(path, '/', up)));
    below = status;
  }
}

}  // namespace

Result<UniqueFd> open_private(const std::string& path) {
  TRY(check_names(path));
  UniqueFd dir = TRY(make_dirs(path));
  TRY(check_private(dir.get(), path));
  TRY(check_above(dir.get(), path));
  return dir;
}

Result<UniqueFd> open_trusted(const std::string& path) {
  UniqueFd at = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const std::string part = path.substr(0, end);
    begin = end + 1;
    if (name.empty()) continue;
    at = TRY_CTX(sys::open_at(at.get(), name.c_str(), O_PATH | O_NOFOLLOW), printable(part));
    const auto status = TRY(sys::stat_fd(at.get(), part));
    if (S_ISLNK(status.st_mode))
      return Error::make(Code::denied, printable(part), ": a link, which may lead elsewhere by tomorrow; name the ",
                         "directory it leads to (readlink -f ", quoted(part), ")");
    if (!S_ISDIR(status.st_mode)) return Error::from_errno(ENOTDIR, "open ", printable(part));
    TRY(check_step(status, part));
  }
  return at;
}

namespace {

// One level of a removal in progress. Depth is bounded by memory, not by the stack.
struct Level {
  Dir dir;
  std::string name;  // in its parent
};

Result<void> open_level(int parent_fd, const std::string& name, dev_t device, std::vector<Level>& levels) {
  UniqueFd fd = TRY(sys::open_at(parent_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const auto status = TRY(sys::stat_fd(fd.get(), name));
  if (status.st_dev != device)
    return Error::make(Code::busy, printable(name), ": something is mounted there; unmount it first");
  levels.push_back({TRY(open_stream(std::move(fd))), name});
  return {};
}

}  // namespace

Result<void> remove_tree(int dir_fd, const char* name) {
  const auto gone = [](const Error& error) { return error.errnum() == ENOENT; };
  auto status = sys::stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  if (!status) return gone(status.error()) ? Result<void>{} : std::move(status).error();
  if (!S_ISDIR(status->st_mode)) return sys::unlink_at(dir_fd, name);

  // A deep tree must not cost one descriptor a level (RLIMIT_NOFILE), so from this depth on a subtree is first moved up
  // beside the top, where it is shallow again.
  constexpr std::size_t kDeep = 64;
  std::vector<Level> levels;
  const std::string top(name);
  TRY(open_level(dir_fd, top, status->st_dev, levels));
  std::uint64_t moved = 0;
  while (!levels.empty()) {
    DIR* dir = levels.back().dir.get();
    errno = 0;
    const dirent* entry = ::readdir(dir);
    if (entry == nullptr && errno != 0) return Error::from_errno(errno, "readdir ", printable(levels.back().name));
    if (entry == nullptr) {
      const std::string done = levels.back().name;
      levels.pop_back();
      const int parent = levels.empty() ? dir_fd : ::dirfd(levels.back().dir.get());
      if (::unlinkat(parent, done.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
      if (errno != ENOTEMPTY && errno != EEXIST) return Error::from_errno(errno, "rmdir ", printable(done));
      // Something appeared in it since it was read (a subtree moved up, or another writer): read it again.
      TRY(open_level(parent, done, status->st_dev, levels));
      continue;
    }
    const std::string child(entry->d_name);
    if (is_dot(child)) continue;
    if (type_of(::dirfd(dir), *entry) != DT_DIR) {
      if (::unlinkat(::dirfd(dir), child.c_str(), 0) != 0 && errno != ENOENT && errno != EISDIR)
        return Error::from_errno(errno, "unlink ", printable(child));
      continue;
    }
    if (::unlinkat(::dirfd(dir), child.c_str(), AT_REMOVEDIR) == 0) continue;
    if (levels.size() >= kDeep) {
      const std::string up = str(".skink-removing-", ++moved);
      if (::renameat(::dirfd(dir), child.c_str(), ::dirfd(levels.front().dir.get()), up.c_str()) == 0) continue;
    }
    auto opened = open_level(::dirfd(dir), child, status->st_dev, levels);
    if (!opened && !gone(opened.error())) return opened;
  }
  return {};
}

Result<UniqueFd> make_dir_in_root(int root_fd, const std::string& path, mode_t mode) {
  std::string done;
  UniqueFd at = TRY(sys::open_in_root(root_fd, "/", O_PATH | O_DIRECTORY));
  for (const auto component : split(path, '/')) {
    if (component.empty() || component == ".") continue;
    const std::string next = str(done, "/", component);
    auto opened = sys::open_in_root(root_fd, next.c_str(), O_PATH | O_DIRECTORY);
    if (!opened && opened.error().errnum() == ENOENT) {
      const std::string name(component);
      auto made = sys::mkdir_at(at.get(), name.c_str(), mode);
      if (!made && made.error().errnum() != EEXIST) return std::move(made.error().context(printable(path)));
      opened = sys::open_in_root(root_fd, next.c_str(), O_PATH | O_DIRECTORY);
    }
    at = TRY_CTX(std::move(opened), printable(path));
    done = next;
  }
  return at;
}

namespace {
Result<bool> same_file_mode(int fd, int operation, std::string_view what) {
  for (;;) {
    if (::flock(fd, operation) == 0) return true;
    if (errno == EWOULDBLOCK) return false;
    if (!sys::must_retry()) return Error::from_errno(errno, "lock ", what);
  }
}
}  // namespace

Result<Lock> Lock::take(UniqueFd fd, Mode mode, std::string_view what) {
  TRY(same_file_mode(fd.get(), mode == Mode::shared ? LOCK_SH : LOCK_EX, what));
  return Lock(std::move(fd));
}

Result<Lock> Lock::try_take(UniqueFd fd, Mode mode, std::string_view what) {
  const bool mine = TRY(same_file_mode(fd.get(), (mode == Mode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB, what));
  if (!mine) return Error::make(Code::busy, what, ": another command holds it");
  return Lock(std::move(fd));
}

Result<Lock> Lock::take_within(std::int64_t patience_ns, UniqueFd fd, Mode mode, std::string_view what) {
  constexpr long kLongestUs = 20'000;
  const std::int64_t deadline = monotonic_ns() + patience_ns;
  for (long wait_us = 1'000;; wait_us = std::min(wait_us * 2, kLongestUs)) {
    if (TRY(same_file_mode(fd.get(), (mode == Mode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB, what)))
      return Lock(std::move(fd));
    if (monotonic_ns() >= deadline) return Error::make(Code::busy, what, ": another command holds it");
    const timespec pause{.tv_sec = 0, .tv_nsec = wait_us * 1'000};
    ::nanosleep(&pause, nullptr);
  }
}

// Lines of /proc/locks (man proc_locks) are "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF".
std::vector<pid_t> lock_holders(const struct stat& file) {
  constexpr std::size_t kMost = 16U << 20, kHolder = 4, kFile = 5;
  std::vector<pid_t> holders;
  const auto locks = read_file(AT_FDCWD, "/proc/locks", kMost);
  if (!locks) return holders;
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%02x:%02x:%llu", ::major(file.st_dev), ::minor(file.st_dev),
                static_cast<unsigned long long>(file.st_ino));
  for (const std::string_view line : split(*locks, '\n')) {
    std::vector<std::string_view> words = split(line, ' ');
    std::erase(words, std::string_view());
    if (words.size() <= kFile || words[1] != "FLOCK" || words[kFile] != name.data()) continue;
    if (const auto holder = parse_int<pid_t>(words[kHolder])) holders.push_back(*holder);
  }
  return holders;
}

std::string random_hex(std::size_t count) {
  std::string bytes(count, '\0');
  std::size_t used = 0;
  while (used < count) {
    const ssize_t got = ::getrandom(bytes.data() + used, count - used, 0);
    if (got < 0 && errno != EINTR) std::abort();  // only possible before the kernel's pool is seeded and with bad flags
    if (got > 0) used += static_cast<std::size_t>(got);
  }
  return to_hex(reinterpret_cast<const std::uint8_t*>(bytes.data()), count);
}

namespace {
constexpr std::int64_t kSecond = 1'000'000'000;
std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}
}  // namespace

std::int64_t now_ns() { return clock_ns(CLOCK_REALTIME); }
std::int64_t monotonic_ns() { return clock_ns(CLOCK_BOOTTIME); }
std::string rfc3339_now() { return rfc3339(now_ns()); }

std::string rfc3339(std::int64_t unix_ns) {
  std::int64_t seconds = unix_ns / kSecond;
  std::int64_t rest = unix_ns % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  // Not gmtime_r: it reads the host's /etc/localtime first.
  const std::chrono::sys_seconds whole{std::chrono::seconds(seconds)};
  const auto midnight = std::chrono::floor<std::chrono::days>(whole);
  const std::chrono::year_month_day date{midnight};
  const std::chrono::hh_mm_ss<std::chrono::seconds> time{whole - midnight};
  const auto digits = [](auto value, std::size_t width) {
    std::string number = std::to_string(value);
    return std::string(width - std::min(width, number.size()), '0') + number;
  };
  return str(digits(static_cast<int>(date.year()), 4), '-', digits(static_cast<unsigned>(date.month()), 2), '-',
             digits(static_cast<unsigned>(date.day()), 2), 'T', digits(time.hours().count(), 2), ':',
             digits(time.minutes().count(), 2), ':', digits(time.seconds().count(), 2), '.', digits(rest, 9), 'Z');
}

std::optional<std::int64_t> parse_rfc3339(std::string_view text) {
  const auto number = [&](std::size_t at, std::size_t length) -> std::optional<int> {
    if (at + length > text.size()) return std::nullopt;
    for (std::size_t i = at; i < at + length; ++i)
      if (text[i] < '0' || text[i] > '9') return std::nullopt;
    return parse_int<int>(text.substr(at, length));
  };
  const auto is = [&](std::size_t at, std::string_view any) {
    return at < text.size() && any.find(text[at]) != any.npos;
  };
  const auto year = number(0, 4), month = number(5, 2), day = number(8, 2);
  const auto hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  if (!is(4, "-") || !is(7, "-") || !is(10, "Tt ") || !is(13, ":") || !is(16, ":")) return std::nullopt;
  if (*month < 1 || *month > 12 || *day < 1 || *day > 31 || *hour > 23 || *minute > 59 || *second > 60)
    return std::nullopt;
  std::size_t at = 19;
  std::int64_t fraction = 0;
  if (is(at, ".")) {
    std::int64_t unit = kSecond / 10;
    const std::size_t first = ++at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10)
      fraction += unit * (text[at] - '0');
    if (at == first) return std::nullopt;
  }
  std::int64_t offset = 0;
  if (is(at, "Zz") && at + 1 == text.size()) {
    offset = 0;
  } else if (is(at, "+-") && at + 6 == text.size() && text[at + 3] == ':') {
    const auto hours = number(at + 1, 2), minutes = number(at + 4, 2);
    if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
    offset = (*hours * 3600 + *minutes * 60) * (text[at] == '+' ? 1 : -1);
  } else {
    return std::nullopt;
  }
  const std::chrono::year_month_day date = std::chrono::year(*year) /
                                           std::chrono::month(static_cast<unsigned>(*month)) /
                                           std::chrono::day(static_cast<unsigned>(*day));
  // What nanoseconds in 64 bits can say: 1678 to 2261.
  if (!date.ok() || *year < 1678 || *year > 2261) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  const std::int64_t seconds = ((days * 24 + *hour) * 60 + *minute) * 60 + *second;
  return (seconds - offset) * kSecond + fraction;
}

}  // namespace skink::fs
