// SPDX-License-Identifier: Apache-2.0
#include "supervise/exits.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

// <linux/pidfd.h> of Linux 6.15; Debian 12's headers are older.
struct PidfdInfo {
  std::uint64_t mask, cgroup_id;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr std::uint64_t kInfoExit = 1U << 3;
constexpr unsigned long kGetInfo = _IOWR(0xFF, 11, PidfdInfo);

}  // namespace

Result<std::int64_t> exits_end(int exits_fd) {
  const auto status = TRY(sys::stat_fd(exits_fd, "exits"));
  constexpr std::int64_t kSize = sizeof(ExitRecord);
  return status.st_size - status.st_size % kSize;
}

Result<std::optional<ExitRecord>> find_exit(int exits_fd, pid_t pid, std::int64_t from) {
  if (from < 0 || from > TRY(exits_end(exits_fd))) from = 0;
  // What was given back is a hole, and may be long.
  constexpr std::int64_t kSize = sizeof(ExitRecord);
  if (const off_t data = ::lseek(exits_fd, from, SEEK_DATA); data > from) from = data - data % kSize;
  std::array<ExitRecord, 64> records{};
  for (;;) {
    const ssize_t got = ::pread(exits_fd, records.data(), sizeof records, from);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read exits");
    const std::size_t count = static_cast<std::size_t>(got) / sizeof(ExitRecord);
    for (std::size_t i = 0; i < count; ++i)
      if (records[i].magic == kExitMagic && records[i].pid == pid) return std::optional(records[i]);
    if (count == 0) return std::optional<ExitRecord>{};
    from += static_cast<std::int64_t>(count * sizeof(ExitRecord));
  }
}

void add_exit(int exits_fd, const ExitRecord& record) { (void)!::write(exits_fd, &record, sizeof record); }

LastExit last_exit_of(const ExitRecord& record) {
  LastExit last;
  last.signal = record.code == CLD_EXITED ? 0 : record.status;
  last.status = record.code == CLD_EXITED ? record.status : 128 + record.status;
  last.at_ns = record.realtime_ns;
  return last;
}

LastExit unknown_exit() {
  LastExit last;
  last.known = false;
  last.status = 255;
  last.at_ns = fs::now_ns();
  return last;
}

namespace {

ExitRecord record_of(pid_t pid, int wait_status) {
  ExitRecord record{};
  record.pid = pid;
  record.magic = kExitMagic;
  record.code = WIFEXITED(wait_status) ? CLD_EXITED : CLD_KILLED;
  record.status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : WTERMSIG(wait_status);
  record.realtime_ns = fs::now_ns();
  record.boottime_ns = fs::monotonic_ns();
  return record;
}

}  // namespace

std::optional<ExitRecord> ask_kernel(int pidfd, pid_t pid) {
  PidfdInfo info{};
  info.mask = kInfoExit;
  if (::ioctl(pidfd, kGetInfo, &info) != 0 || (info.mask & kInfoExit) == 0) return std::nullopt;
  return record_of(pid, info.exit_code);
}

bool shows_group_status(int pidfd) {
  PidfdInfo info{};
  return ::ioctl(pidfd, kGetInfo, &info) == 0;
}

namespace {

// Whoever it belongs to, but for what a security module forbids.
bool may_read_all() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capget, &header, data) == 0 && (data[0].effective & (1U << CAP_SYS_PTRACE)) != 0;
}

}  // namespace

std::optional<Zombie> read_zombie(const sys::ProcessIdentity& identity) {
  const std::string path = str("/proc/", identity.pid, "/stat");
  const auto file = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY);
  if (!file) return std::nullopt;
  const auto line = sys::read_all(file->get(), 4096, path);
  if (!line) return std::nullopt;
  const auto name_end = line->rfind(')');
  if (name_end == std::string::npos || name_end + 2 > line->size()) return std::nullopt;
  std::string_view rest = std::string_view(*line).substr(name_end + 2);
  while (rest.ends_with('\n')) rest.remove_suffix(1);
  const auto fields = split(rest, ' ');
  // man proc_pid_stat: state is field 3, start time 22, exit code (as waitpid gives it, shown to root) 52.
  // "waits in the kernel" (35) is 1 of every zombie whose status is shown, since 5.16.
  constexpr std::size_t kStart = 22 - 3, kWaits = 35 - 3, kExitCode = 52 - 3;
  if (fields.size() <= kExitCode || fields[0] != "Z") return std::nullopt;
  const auto started = parse_int<std::uint64_t>(fields[kStart]);
  const auto code = parse_int<int>(fields[kExitCode]);
  if (!started || *started != identity.start_time || !code) return std::nullopt;
  return Zombie{record_of(identity.pid, *code), *code != 0 || fields[kWaits] == "1" || may_read_all()};
}

}  // namespace skink::supervise
