// SPDX-License-Identifier: Apache-2.0
#include "launch/id_maps.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "sys/file.h"

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

// The one process that a user namespace has to have until its maps are written: it waits for our end of a pipe to
// close.
class Placeholder {
 public:
  Result<void> start() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe2");
    const UniqueFd theirs(ends[0]);
    ours_ = UniqueFd(ends[1]);
    pid_ = static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    if (pid_ < 0) return Error::from_errno(errno, "clone a user namespace");
    if (pid_ != 0) return {};
    // System calls only, as after every clone here.
    char byte = 0;
    ::syscall(SYS_close, ends[1]);
    ::syscall(SYS_read, ends[0], &byte, 1);
    for (;;) ::syscall(SYS_exit_group, 0);
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
  UniqueFd ours_;
  pid_t pid_ = -1;
};

}  // namespace

Result<UniqueFd> make_user_namespace(const std::vector<oci::IdMapping>& uids, const std::vector<oci::IdMapping>& gids) {
  Placeholder process;
  TRY(process.start());
  TRY_CTX(write_proc(process.pid(), "uid_map", map_text(uids)), "uidMappings");
  if (::geteuid() != 0) TRY_CTX(write_proc(process.pid(), "setgroups", "deny"), "gidMappings");
  TRY_CTX(write_proc(process.pid(), "gid_map", map_text(gids)), "gidMappings");
  return sys::open_at(AT_FDCWD, str("/proc/", process.pid(), "/ns/user").c_str(), O_RDONLY);
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
