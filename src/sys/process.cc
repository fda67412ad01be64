// SPDX-License-Identifier: Apache-2.0
#include "sys/process.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/text.h"
#include "sys/descriptors.h"
#include "sys/file.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace skink::sys {

int ExitStatus::shell_status() const { return code == CLD_EXITED ? status : 128 + status; }

Result<UniqueFd> open_pidfd(pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0 && errno == ESRCH) return Error::make(Code::not_found, "process ", pid, " is gone");
  if (fd < 0) return Error::from_errno(errno, "pidfd_open ", pid);
  return UniqueFd{static_cast<int>(fd)};
}

Result<void> signal_pidfd(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) return {};
  if (errno == ESRCH) return Error::make(Code::not_found, "the process is gone");
  return Error::from_errno(errno, "send signal ", signal);
}

Result<bool> wait_pidfd(int pidfd, ExitStatus& status, bool block) {
  siginfo_t info{};
  int rc = 0;
  do {
    rc = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | (block ? 0 : WNOHANG));
  } while (rc != 0 && errno == EINTR);
  if (rc != 0) return Error::from_errno(errno, "waitid");
  if (info.si_pid == 0) return false;
  status = {info.si_code, info.si_status};
  return true;
}

namespace {

// /proc/PID/stat. The name may hold spaces and parentheses, so it ends with the last one (man proc_pid_stat).
struct StatLine {
  std::string path, text;
  std::size_t name_end = 0;
};

Result<StatLine> read_stat(pid_t pid) {
  std::string path = str("/proc/", pid, "/stat");
  auto fd = open_at(AT_FDCWD, path.c_str(), O_RDONLY);
  if (!fd && fd.error().errnum() == ENOENT) return Error::make(Code::not_found, "process ", pid, " is gone");
  const UniqueFd file = TRY(std::move(fd));
  // One read has the whole line: about fifty numbers.
  std::array<char, 2048> buffer{};
  const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
  if (got < 0 && errno == ESRCH) return Error::make(Code::not_found, "process ", pid, " is gone");
  if (got < 0) return Error::from_errno(errno, "read ", path);
  std::string line(buffer.data(), static_cast<std::size_t>(got));
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 2 > line.size())
    return Error::make(Code::internal, path, ": no process name");
  return StatLine{std::move(path), std::move(line), name_end};
}

constexpr std::uint64_t kExiting = 4;  // PF_EXITING of include/linux/sched.h

}  // namespace

Result<LastName> last_name(pid_t pid) {
  const StatLine line = TRY(read_stat(pid));
  const auto fields = split(std::string_view(line.text).substr(line.name_end + 2), ' ');
  constexpr std::size_t kState = 0, kFlags = 6;  // counted from the state on
  const auto begin = line.text.find('(') + 1;
  LastName last{line.text.substr(begin, line.name_end - begin), fields[kState] == "Z" || fields[kState] == "X"};
  const auto flags = fields.size() > kFlags ? parse_int<std::uint64_t>(fields[kFlags]) : std::nullopt;
  last.ended = last.ended || (flags.value_or(0) & kExiting) != 0;
  return last;
}

Result<ProcessStat> process_stat(pid_t pid) {
  const StatLine line = TRY(read_stat(pid));
  const std::string& path = line.path;
  std::string_view fields = std::string_view(line.text).substr(line.name_end + 2);
  if (fields.starts_with("Z ") || fields.starts_with("X "))
    return Error::make(Code::not_found, "process ", pid, " has ended");
  ProcessStat stat;
  if (!fields.empty()) stat.state = fields[0];
  constexpr int kState = 3, kParent = 4, kFlags = 9, kUserTime = 14, kSystemTime = 15, kStartTime = 22;
  for (int field = kState; field <= kStartTime; ++field) {
    const auto end = std::min(fields.find(' '), fields.size());
    if (field == kParent || field == kFlags || field == kUserTime || field == kSystemTime || field == kStartTime) {
      const auto number = parse_int<std::uint64_t>(fields.substr(0, end));
      if (!number) return Error::make(Code::internal, path, ": field ", field, " is not a number");
      if (field == kParent) stat.parent = static_cast<pid_t>(*number);
      else if (field == kFlags) stat.exiting = (*number & kExiting) != 0;
      else if (field == kStartTime) stat.start_time = *number;
      else stat.cpu_ticks += *number;
    }
    fields.remove_prefix(std::min(end + 1, fields.size()));
  }
  return stat;
}

Result<std::uint64_t> start_time(pid_t pid) { return TRY(process_stat(pid)).start_time; }

bool in_user_namespace() {
  constexpr ino_t kFirst = 0xEFFFFFFD;  // PROC_USER_INIT_INO of include/linux/proc_ns.h
  struct stat status {};
  return ::stat("/proc/self/ns/user", &status) == 0 && status.st_ino != kFirst;
}

Result<std::string> boot_id() {
  constexpr const char* kPath = "/proc/sys/kernel/random/boot_id";
  // It cannot change while we live, and a list of containers asks for each.
  static std::string known;
  if (!known.empty()) return known;
  const UniqueFd file = TRY(open_at(AT_FDCWD, kPath, O_RDONLY));
  std::string text = TRY(read_all(file.get(), 64, kPath));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  known = text;
  return text;
}

Result<int> thread_count() {
  // The link count of /proc/self/task is the number of threads plus 2, as for any directory of directories.
  const auto status = TRY(stat_at(AT_FDCWD, "/proc/self/task", 0));
  return static_cast<int>(status.st_nlink) - 2;
}

Result<ProcessIdentity> identify(pid_t pid) {
  ProcessIdentity identity;
  identity.pid = pid;
  identity.start_time = TRY(start_time(pid));
  identity.boot_id = TRY(boot_id());
  return identity;
}

Result<UniqueFd> open_identified(const ProcessIdentity& identity) {
  const auto gone = [&] { return Error::make(Code::not_found, "process ", identity.pid, " is gone"); };
  if (identity.pid <= 0 || identity.boot_id != TRY(boot_id())) return gone();
  // Order: pidfd first, then the start time. The descriptor keeps naming the process that the check then confirms.
  UniqueFd pidfd = TRY(open_pidfd(identity.pid));
  const auto started = start_time(identity.pid);
  // Want of descriptors, and the like, is no end of a process.
  if (!started && is_want_of_descriptors(started.error())) return started.error();
  if (!started || *started != identity.start_time) return gone();
  return pidfd;
}

Result<Activity> activity(const ProcessIdentity& identity) {
  const auto gone = [&] { return Error::make(Code::not_found, "process ", identity.pid, " is gone"); };
  if (identity.pid <= 0 || identity.boot_id != TRY(boot_id())) return gone();
  const ProcessStat stat = TRY(process_stat(identity.pid));
  if (stat.start_time != identity.start_time) return gone();
  return Activity{.state = stat.state, .cpu_ticks = stat.cpu_ticks, .exiting = stat.exiting};
}

int parse_signal(std::string_view text) {
  constexpr int kMost = 64;
  if (const auto number = parse_int<int>(text)) return *number >= 1 && *number <= kMost ? *number : -1;
  std::string name;
  for (const char c : text) name += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  if (name.starts_with("SIG")) name.erase(0, 3);
  const auto realtime = [&](std::string_view prefix, int base, int sign) -> int {
    std::string_view rest = std::string_view(name).substr(prefix.size());
    if (rest.empty()) return base;
    if (rest[0] != (sign > 0 ? '+' : '-')) return -1;
    const auto offset = parse_int<int>(rest.substr(1));
    if (!offset || *offset < 0 || *offset > 30) return -1;
    return base + sign * *offset;
  };
  // glibc keeps 32 and 33 for itself, so its SIGRTMIN is 34, as in kill -l.
  if (name.starts_with("RTMIN")) return realtime("RTMIN", 34, 1);
  if (name.starts_with("RTMAX")) return realtime("RTMAX", 64, -1);
  if (name == "CLD") return SIGCHLD;
  if (name == "POLL") return SIGIO;
  if (name == "IOT") return SIGABRT;
  for (int signal = 1; signal < 32; ++signal) {
    const char* known = sigabbrev_np(signal);
    if (known != nullptr && name == known) return signal;
  }
  return -1;
}

std::string signal_name(int signal) {
  const char* known = signal > 0 && signal < 32 ? sigabbrev_np(signal) : nullptr;
  return known != nullptr ? str("SIG", std::string_view(known)) : str(signal);
}

}  // namespace skink::sys
