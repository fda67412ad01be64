// SPDX-License-Identifier: Apache-2.0
#include "image/layout.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "fs/usage.h"
#include "sys/file.h"

namespace skink::image {

Result<void> check_case(int store_fd) {
  int flags = 0;
  // A file system without such flags folds nothing, as far as anybody can know.
  if (::ioctl(store_fd, FS_IOC_GETFLAGS, &flags) != 0 || (flags & FS_CASEFOLD_FL) == 0) return {};
  return Error::make(
      Code::unsupported,
      "the directory folds case, and names that differ in nothing else would be one (\"web:V1\" takes the "
      "place of \"web:v1\"); chattr -F it while it is empty, or choose another directory");
}

Result<void> make_layout(int store_fd) {
  if (TRY(exists(store_fd, kMarks))) return {};  // made last
  TRY(check_case(store_fd));
  for (const char* path :
       {"layers", kLayers, "images", kImages, "scaffolds", kScaffolds, kNames, kLocks, kTemporary, kMarks}) {
    auto made = sys::mkdir_at(store_fd, path, 0700);
    if (!made && made.error().errnum() != EEXIST) return made;
  }
  return {};
}

Result<UniqueFd> open_part(int store_fd, const std::string& path) {
  return sys::open_beneath(store_fd, path.c_str(), O_RDONLY | O_DIRECTORY);
}

Result<bool> exists(int dir_fd, const std::string& name) {
  const auto status = sys::stat_at(dir_fd, name.c_str(), AT_SYMLINK_NOFOLLOW);
  if (status) return true;
  if (status.error().errnum() == ENOENT) return false;
  return status.error();
}

Result<bool> is_still(int fd, int dir_fd, const std::string& name) {
  const auto mine = TRY(sys::stat_fd(fd, name));
  const auto there = sys::stat_at(dir_fd, name.c_str(), AT_SYMLINK_NOFOLLOW);
  return there && there->st_ino == mine.st_ino && there->st_dev == mine.st_dev;
}

namespace {

// For people: where a directory is.
std::string path_of(int dir_fd) {
  const auto path = sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", dir_fd).c_str());
  return path ? printable(*path) : std::string("the store");
}

}  // namespace

Result<Session> Session::begin(int store_fd) {
  const UniqueFd all = TRY(open_part(store_fd, kTemporary));
  for (;;) {
    std::string name = str(fs::random_hex(16), '.', ::getpid());
    if (auto made = sys::mkdir_at(all.get(), name.c_str(), 0700); !made)
      return std::move(made).error().context(path_of(all.get()));
    auto opened = sys::open_beneath(all.get(), name.c_str(), O_RDONLY | O_DIRECTORY);
    if (!opened && opened.error().errnum() == ENOENT) continue;  // swept before it was locked
    auto lock = fs::Lock::try_take(TRY(std::move(opened)), fs::Lock::Mode::exclusive, "temporary directory");
    if (!lock && lock.error().code() == Code::busy) continue;
    Session session(store_fd, std::move(name), TRY(std::move(lock)));
    if (TRY(is_still(session.fd(), all.get(), session.name_))) return session;
  }
}

Result<void> Session::take(int from_fd, const std::string& name) {
  const std::string hidden = fs::random_hex(8);
  auto moved = sys::rename_at(from_fd, name.c_str(), fd(), hidden.c_str());
  if (!moved && moved.error().errnum() == ENOENT) return {};
  return moved;
}

Result<void> Session::end() {
  const UniqueFd all = TRY(open_part(store_fd_, kTemporary));
  return fs::remove_tree(all.get(), name_.c_str());
}

Result<UniqueFd> make_unnamed_file(int dir_fd) {
  auto unnamed = sys::open_at(dir_fd, ".", O_RDWR | O_TMPFILE, 0600);
  if (unnamed || unnamed.error().errnum() != EOPNOTSUPP) return unnamed;
  const std::string name = "unnamed-" + fs::random_hex(8);
  UniqueFd file = TRY(sys::open_beneath(dir_fd, name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  TRY(sys::unlink_at(dir_fd, name.c_str()));
  return file;
}

namespace {

// The lock of a session that nobody needs any more. A process that a killed command had just forked holds it for a
// moment, until it has closed what it does not need: that is waited for.
Result<fs::Lock> take_over(int all_fd, const std::string& name) {
  constexpr int kTries = 2000;
  constexpr useconds_t kPause = 1000;
  const auto point = name.rfind('.');
  const auto owner = point == name.npos ? std::nullopt : parse_int<pid_t>(std::string_view(name).substr(point + 1));
  for (int i = 0;; ++i) {
    auto opened = sys::open_beneath(all_fd, name.c_str(), O_RDONLY | O_DIRECTORY);
    if (!opened) return std::move(opened).error();  // it ended by itself
    auto lock = fs::Lock::try_take(std::move(opened).value(), fs::Lock::Mode::exclusive, name);
    const bool dead = owner && *owner > 0 && ::kill(*owner, 0) != 0 && errno == ESRCH;
    if (lock || !dead || i == kTries) return lock;
    ::usleep(kPause);
  }
}

}  // namespace

Result<Swept> sweep_sessions(int store_fd) {
  const UniqueFd all = TRY(open_part(store_fd, kTemporary));
  Swept swept;
  for (const auto& entry : TRY(fs::list(all.get()))) {
    const auto lock = take_over(all.get(), entry.name);
    if (!lock) continue;  // its command lives
    swept.bytes += TRY(fs::disk_usage(all.get(), entry.name.c_str()));
    TRY(fs::remove_tree(all.get(), entry.name.c_str()));
    ++swept.count;
  }
  return swept;
}

Result<fs::Lock> lock_store(int store_fd, bool waits) {
  UniqueFd file = TRY(sys::open_beneath(store_fd, "lock", O_RDWR | O_CREAT, 0600));
  return (waits ? fs::Lock::take : fs::Lock::try_take)(std::move(file), fs::Lock::Mode::exclusive, "image store");
}

Result<fs::Lock> lock_layer(int store_fd, const std::string& hex, LayerLock how) {
  const UniqueFd locks = TRY(open_part(store_fd, kLocks));
  const bool writes = how == LayerLock::write || how == LayerLock::try_write;
  const bool waits = how == LayerLock::use || how == LayerLock::write;
  const std::string name = hex + (writes ? ".write" : ".use");
  for (;;) {
    UniqueFd file = TRY(sys::open_beneath(locks.get(), name.c_str(), O_RDWR | O_CREAT, 0600));
    const auto mode = how == LayerLock::use ? fs::Lock::Mode::shared : fs::Lock::Mode::exclusive;
    auto lock = waits ? fs::Lock::take(std::move(file), mode, "layer " + hex)
                      : fs::Lock::try_take(std::move(file), mode, "layer " + hex);
    if (!lock) return lock;
    if (TRY(is_still(lock->fd(), locks.get(), name))) return lock;
  }
}

// "1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF" (man 5 proc_locks).
std::optional<pid_t> writer_of_layer(int store_fd, const std::string& hex) {
  constexpr std::size_t kLocksMost = 4U << 20;
  const auto file = sys::stat_at(store_fd, str(std::string_view(kLocks), '/', hex, ".write").c_str(), 0);
  const auto proc = sys::open_at(AT_FDCWD, "/proc/locks", O_RDONLY);
  if (!file || !proc) return std::nullopt;
  const auto locks = sys::read_all(proc->get(), kLocksMost, "locks");
  const std::string inode = str(':', file->st_ino);
  for (const auto& line : locks ? split(*locks, '\n') : std::vector<std::string_view>()) {
    std::vector<std::string_view> words = split(line, ' ');
    std::erase(words, std::string_view());
    const bool is_it = words.size() > 5 && words[1] == "FLOCK" && words[3] == "WRITE" && words[5].ends_with(inode);
    const auto pid = is_it ? parse_int<pid_t>(words[4]) : std::nullopt;
    if (pid && *pid > 0) return pid;
  }
  return std::nullopt;
}

std::string encode_name(std::string_view reference) {
  std::string file(reference);
  std::replace(file.begin(), file.end(), '/', ',');
  std::replace(file.begin(), file.end(), '@', '%');
  std::replace(file.begin(), file.end(), ':', '@');
  return file;
}

std::string decode_name(std::string_view file) {
  std::string reference(file);
  std::replace(reference.begin(), reference.end(), ',', '/');
  std::replace(reference.begin(), reference.end(), '@', ':');
  std::replace(reference.begin(), reference.end(), '%', '@');
  return reference;
}

}  // namespace skink::image
