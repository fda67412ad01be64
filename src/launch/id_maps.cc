// SPDX-License-Identifier: Apache-2.0
#include "launch/id_maps.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/text.h"
#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::launch {
namespace {

Result<void> write_proc(pid_t pid, std::string_view file, const std::string& text) {
  const std::string path = str("/proc/", pid, '/', file);
  const UniqueFd fd = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_WRONLY));
  return sys::write_all(fd.get(), text, path);
}

std::string map_text(const std::vector<oci::IdMapping>& mappings) {
  std::string text;
  for (const auto& map : mappings) text += str(map.container_id, ' ', map.host_id, ' ', map.size, '\n');
  return text;
}

}  // namespace

void map_own_ids(oci::Spec& spec) {
  const auto* space = spec.find_namespace(oci::NamespaceType::user);
  if (space == nullptr || !space->path.empty()) return;
  if (!spec.linux.uid_mappings.empty() || !spec.linux.gid_mappings.empty()) return;
  spec.linux.uid_mappings = {{0, ::geteuid(), 1}};
  spec.linux.gid_mappings = {{0, ::getegid(), 1}};
}

Result<void> write_id_maps(pid_t pid, const plan::LaunchPlan& plan) {
  if ((plan.clone_flags & CLONE_NEWUSER) == 0) return {};
  TRY_CTX(write_proc(pid, "uid_map", map_text(plan.uid_mappings)), "linux.uidMappings");
  // Order: an unprivileged writer has to deny setgroups before gid_map, else a group that denies access could be
  // dropped (CVE-2014-8989).
  if (::geteuid() != 0) TRY_CTX(write_proc(pid, "setgroups", "deny"), "linux.gidMappings");
  TRY_CTX(write_proc(pid, "gid_map", map_text(plan.gid_mappings)), "linux.gidMappings");
  return {};
}

namespace {

// The one process that a user namespace has to have until its maps are written, or that shows us those of another: it
// waits for our end of a socket to close.
class Placeholder {
 public:
  // In a new user namespace, or in that of `join_fd`.
  Result<void> start(int join_fd = -1) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
      return Error::from_errno(errno, "socketpair");
    const UniqueFd theirs(ends[0]);
    ours_ = UniqueFd(ends[1]);
    const unsigned long flags = join_fd < 0 ? CLONE_NEWUSER | SIGCHLD : SIGCHLD;
    pid_ = static_cast<pid_t>(::syscall(SYS_clone, flags, 0, 0, 0, 0));
    if (pid_ < 0) return Error::from_errno(errno, "clone a user namespace");
    if (pid_ == 0) serve(theirs.get(), ours_.get(), join_fd);
    if (join_fd < 0) return {};
    int err = EPIPE;
    while (::recv(ours_.get(), &err, sizeof err, 0) < 0 && sys::must_retry()) {
    }
    if (err != 0) return Error::from_errno(err, "join the user namespace");
    return {};
  }
  ~Placeholder() {
    ours_.reset();
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  }
  Placeholder() = default;
  Placeholder(const Placeholder&) = delete;
  Placeholder& operator=(const Placeholder&) = delete;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  // System calls only, as after every clone here.
  [[noreturn]] static void serve(int socket_fd, int other_end, int join_fd) {
    ::syscall(SYS_close, other_end);
    int err = 0;
    if (join_fd >= 0) {
      if (::syscall(SYS_setns, join_fd, CLONE_NEWUSER) != 0) err = errno;
      ::syscall(SYS_write, socket_fd, &err, sizeof err);
    }
    ::syscall(SYS_read, socket_fd, &err, sizeof err);
    for (;;) ::syscall(SYS_exit_group, 0);
  }

  UniqueFd ours_;
  pid_t pid_ = -1;
};

// user_namespaces(7): lines of three numbers, the second one as the reader's namespace has it.
Result<std::vector<oci::IdMapping>> read_map(pid_t pid, std::string_view file) {
  const std::string path = str("/proc/", pid, '/', file);
  constexpr std::size_t kMost = 64 << 10;  // 340 lines
  const UniqueFd fd = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY));
  const std::string text = TRY(sys::read_all(fd.get(), kMost, path));
  std::vector<oci::IdMapping> maps;
  for (const auto line : split(text, '\n')) {
    std::vector<std::uint32_t> numbers;
    for (const auto word : split(line, ' '))
      if (const auto number = parse_int<std::uint32_t>(word); number) numbers.push_back(*number);
    if (numbers.size() == 3) maps.push_back({numbers[0], numbers[1], numbers[2]});
  }
  return maps;
}

}  // namespace

Result<UniqueFd> make_user_namespace(const std::vector<oci::IdMapping>& uids, const std::vector<oci::IdMapping>& gids) {
  Placeholder process;
  TRY(process.start());
  TRY_CTX(write_proc(process.pid(), "uid_map", map_text(uids)), "uidMappings");
  if (::geteuid() != 0) TRY_CTX(write_proc(process.pid(), "setgroups", "deny"), "gidMappings");
  TRY_CTX(write_proc(process.pid(), "gid_map", map_text(gids)), "gidMappings");
  return sys::open_at(AT_FDCWD, str("/proc/", process.pid(), "/ns/user").c_str(), O_RDONLY);
}

Result<IdMaps> maps_of(const plan::LaunchPlan& plan) {
  for (const auto& join : plan.joins) {
    if (join.type != oci::NamespaceType::user) continue;
    const UniqueFd space = TRY_CTX(sys::open_at(AT_FDCWD, join.path.c_str(), O_RDONLY), "linux.namespaces user");
    Placeholder process;
    TRY_CTX(process.start(space.get()), "linux.namespaces user: ", join.path);
    return IdMaps{TRY(read_map(process.pid(), "uid_map")), TRY(read_map(process.pid(), "gid_map"))};
  }
  return IdMaps{plan.uid_mappings, plan.gid_mappings};
}

std::optional<std::uint32_t> host_id(const std::vector<oci::IdMapping>& maps, std::uint32_t id) {
  for (const auto& map : maps)
    if (id >= map.container_id && id - map.container_id < map.size) return map.host_id + (id - map.container_id);
  return std::nullopt;
}

void raise_hard_limits(pid_t pid, const plan::LaunchPlan& plan) {
  for (const auto& wanted : plan.process.rlimits) {
    rlimit now{};
    const auto resource = static_cast<__rlimit_resource>(wanted.resource);
    if (::getrlimit(resource, &now) != 0 || wanted.hard <= now.rlim_max) continue;
    now.rlim_max = wanted.hard;
    // Refused: then the process is refused too, and says so.
    (void)::prlimit(pid, resource, &now, nullptr);
  }
}

Result<void> write_oom_score(pid_t pid, int value) {
  auto written = write_proc(pid, "oom_score_adj", str(value));
  if (!written && (written.error().errnum() == EACCES || written.error().errnum() == EPERM))
    return Error::make(Code::denied, "process.oomScoreAdj: ", value,
                       ": lowering it below the caller's needs CAP_SYS_RESOURCE");
  return written;
}

}  // namespace skink::launch
