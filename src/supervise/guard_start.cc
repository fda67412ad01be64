// SPDX-License-Identifier: Apache-2.0
#include "supervise/guard_start.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <string_view>
#include <vector>

#include "cgroup/cgroup.h"
#include "supervise/guard/protocol.h"
#include "supervise/records.h"
#include "sys/file.h"

extern const unsigned char skink_guard_image[];
extern const unsigned long skink_guard_image_size;

namespace skink::supervise {
namespace {

using Numbers = std::array<int, kFdEnd>;  // by GuardFd: which of our descriptors goes there

// posix_spawn's records, freed on every way out.
struct SpawnPlan {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
};

Result<UniqueFd> guard_image() {
  return sys::sealed_memfd("skink-guard", {reinterpret_cast<const char*>(skink_guard_image), skink_guard_image_size},
                           true);
}

// Every number in `from` is outside 0..kFdEnd-1, or in its own place; those of `homes` are beyond all that are made.
Result<void> spawn_guard(const Numbers& from, const std::string& container, std::span<const UniqueFd> homes) {
  SpawnPlan plan;
  int rc = 0;
  int to = 0;
  for (; to < kFdEnd && rc == 0; ++to)
    rc = ::posix_spawn_file_actions_adddup2(&plan.actions, from[static_cast<std::size_t>(to)], to);
  for (std::size_t i = 0; i < homes.size() && rc == 0; ++i, ++to)
    rc = ::posix_spawn_file_actions_adddup2(&plan.actions, homes[i].get(), to);
  if (rc == 0) rc = ::posix_spawn_file_actions_addclosefrom_np(&plan.actions, to);
  sigset_t every;
  sigfillset(&every);
  // Signals stay blocked from the start: the guard has no handler, and a stray one must not end it.
  if (rc == 0) rc = ::posix_spawnattr_setsigmask(&plan.attributes, &every);
  if (rc == 0) rc = ::posix_spawnattr_setsigdefault(&plan.attributes, &every);
  if (rc == 0) rc = ::posix_spawnattr_setflags(&plan.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const std::string path = str("/proc/self/fd/", static_cast<int>(kFdGuardImage));
  std::string name = "skink-guard", argument = container;
  const std::array<char*, 3> argv = {name.data(), argument.data(), nullptr};
  const std::array<char*, 1> environment = {nullptr};
  pid_t pid = -1;
  if (rc == 0) rc = ::posix_spawn(&pid, path.c_str(), &plan.actions, &plan.attributes, argv.data(), environment.data());
  if (rc != 0) return Error::from_errno(rc, "start the guard");
  // The process that we started leaves at once and the guard is its child.
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) break;  // an embedder's handler may have reaped it
  return {};
}

struct Pair {
  UniqueFd first, second;
};

// A FIFO, made when there is none. The end that the container gets is open for both: it is then a reader of its own
// pipe, so that it blocks, instead of being killed by SIGPIPE, while guard and supervisor are dead; who comes after
// them opens the FIFO by its name.
Result<Pair> output_fifo(int run_dir, const char* name) {
  if (::mkfifoat(run_dir, name, 0600) != 0 && errno != EEXIST)
    return Error::from_errno(errno, "mkfifo ", std::string_view(name));
  Pair fifo;
  fifo.first = TRY(sys::open_at(run_dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW));
  fifo.second = TRY(sys::open_at(run_dir, name, O_RDWR | O_NOFOLLOW));
  return fifo;
}

Result<Pair> queue() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Error::from_errno(errno, "socketpair");
  return Pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<UniqueFd> locked_alive_file(int store_dir) {
  UniqueFd file = TRY(sys::open_at(store_dir, kAliveFile, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) == 0) return file;
  if (errno == EAGAIN || errno == EACCES) return Error::make(Code::busy, "the container has a supervisor already");
  return Error::from_errno(errno, "lock ", std::string_view(kAliveFile));
}

// Moves every descriptor out of the way of the guard's numbers; the copies close themselves.
Result<void> spawn_from_anywhere(Numbers numbers, const GuardStart& start) {
  constexpr int kBeyond = kFdEnd + kMostHomes;
  std::array<UniqueFd, kFdEnd> copies;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    copies[i] = TRY(sys::dup_fd(numbers[i], kBeyond));
    numbers[i] = copies[i].get();
  }
  cgroup::Home home = TRY(cgroup::open_home());
  UniqueFd unified;
  if (home.unified && start.group < 0) {
    unified = TRY(sys::dup_fd(home.unified.get(), kBeyond));
    numbers[kFdGroup] = unified.get();
  }
  if (home.join_files.size() > kMostHomes) home.join_files.resize(kMostHomes);
  for (auto& file : home.join_files) file = TRY(sys::dup_fd(file.get(), kBeyond));
  return spawn_guard(numbers, start.name, home.join_files);
}

}  // namespace

Result<void> start_guard(const GuardStart& start) {
  const UniqueFd alive = TRY(locked_alive_file(start.store_dir));
  const UniqueFd null = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_RDWR));
  const UniqueFd complaints =
      TRY(sys::open_at(start.run_dir, kComplaintsFile, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  const UniqueFd program = TRY(sys::open_at(AT_FDCWD, "/proc/self/exe", O_PATH));
  const UniqueFd exits = TRY(sys::open_at(
      start.run_dir, kExitsFile, O_RDWR | O_CREAT | (start.revive ? 0 : O_TRUNC) | O_APPEND | O_NOFOLLOW, 0600));
  // Room for the record of the end, should the disk be full by then; best effort, as not every file system has this.
  constexpr off_t kRoomForExits = 4096;
  (void)::fallocate(exits.get(), FALLOC_FL_KEEP_SIZE, 0, kRoomForExits);
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return Error::from_errno(errno, "eventfd");
  const Pair park = TRY(queue());
  const UniqueFd image = TRY(guard_image());
  Pair out, err;
  if (!start.terminal && start.out < 0) {
    out = TRY(output_fifo(start.run_dir, kOutFifo));
    err = TRY(output_fifo(start.run_dir, kErrFifo));
  }
  const auto or_null = [&](const UniqueFd& fd) { return fd ? fd.get() : null.get(); };

  Numbers numbers{};
  numbers[kFdNull] = numbers[1] = null.get();
  numbers[kFdComplaints] = complaints.get();
  numbers[kFdProgram] = program.get();
  numbers[kFdListener] = start.listener;
  numbers[kFdRunDir] = start.run_dir;
  numbers[kFdStoreDir] = start.store_dir;
  numbers[kFdExits] = exits.get();
  numbers[kFdExitEvent] = event.get();
  numbers[kFdParkIn] = park.first.get();
  numbers[kFdParkOut] = park.second.get();
  numbers[kFdOutRead] = or_null(out.first);
  numbers[kFdOutWrite] = start.out >= 0 ? start.out : or_null(out.second);
  numbers[kFdErrRead] = or_null(err.first);
  numbers[kFdErrWrite] = start.err >= 0 ? start.err : or_null(err.second);
  numbers[kFdAlive] = alive.get();
  numbers[kFdRunRoot] = start.run_root;
  numbers[kFdStoreRoot] = start.store_root;
  numbers[kFdGuardImage] = image.get();
  numbers[kFdGroup] = start.group >= 0 ? start.group : null.get();
  return spawn_from_anywhere(numbers, start);
}

Result<void> replace_guard(const std::string& name) {
  const UniqueFd made = TRY(guard_image());
  const UniqueFd image = TRY(sys::dup_fd(made.get(), kFdEnd));
  Numbers numbers{};
  for (int i = 0; i < kFdEnd; ++i) numbers[static_cast<std::size_t>(i)] = i;
  numbers[kFdGuardImage] = image.get();
  return spawn_guard(numbers, name, {});  // it is born where we are
}

}  // namespace skink::supervise
