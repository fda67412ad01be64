// SPDX-License-Identifier: Apache-2.0
// The standby (--standby): the next incarnation, made while the present one runs and waiting before its execve, so
// that a relaunch is one message. It is in the container's group, under its limits, and has namespaces, mounts and
// everything else of its own; what makes it wait is what makes `skink-oci create` wait.
#include "supervise/standby.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "cgroup/sample.h"
#include "fs/dir.h"
#include "launch/launch.h"
#include "supervise/control.h"
#include "supervise/exits.h"
#include "supervise/supervisor.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

// The program that has just been launched has the processor first.
constexpr std::int64_t kAfterStartNs = 100'000'000;
// After a failure to make one; doubled with each.
constexpr std::int64_t kFirstPauseNs = 1'000'000'000, kLongestPauseNs = 300'000'000'000;
// It takes milliseconds, but within the container's share of the processors; meanwhile nobody is served.
constexpr std::int64_t kPatienceNs = 1'000'000'000;
// What one takes of the memory that the container may have, amply.
constexpr std::uint64_t kRoom = 2U << 20;

// What is left to do then is for later: woken by the execve the supervisor would often take the program's processor.
constexpr int kAsideMs = 2;

bool has_launch_hooks(const oci::Hooks& hooks) {
  return !hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty() ||
         !hooks.start_container.empty();
}

bool has_path(const oci::Spec& spec) {
  return std::ranges::any_of(spec.linux.namespaces, [](const oci::Namespace& one) { return !one.path.empty(); });
}

// With one a program may make groups below its own, and in a group that has such the kernel suffers no process.
bool may_make_groups(const oci::Spec& spec) {
  return std::ranges::any_of(spec.mounts, [](const oci::Mount& mount) {
    const bool of_groups = mount.type.starts_with("cgroup") || mount.source.starts_with("/sys/fs/cgroup");
    return of_groups && std::ranges::find(mount.options, "ro") == mount.options.end();
  });
}

// Whether a standby fits beside what the program has. File cache is given back.
bool has_room(const cgroup::Group& group) {
  const auto sample = cgroup::take_sample(group);
  if (!sample || !sample->memory.limit || !sample->memory.usage) return true;
  const std::uint64_t held = *sample->memory.usage - std::min(*sample->memory.usage, sample->memory.file.value_or(0));
  return held + kRoom <= *sample->memory.limit;
}

// What stands at the paths of the host that a standby has taken in: a file that was replaced since is another one.
std::uint64_t host_sources(const oci::Spec& spec) {
  std::uint64_t sum = 14695981039346656037U;  // FNV-1a
  const auto add = [&sum](std::uint64_t value) { sum = (sum ^ value) * 1099511628211U; };
  const auto look = [&add](const std::string& path) {
    const auto status = sys::stat_at(AT_FDCWD, path.c_str(), 0);
    add(status ? status->st_ino : 0);
    add(status ? status->st_dev : 0);
    add(status ? status->st_rdev : 0);
  };
  for (const auto& mount : spec.mounts)
    if (mount.source.starts_with('/')) look(mount.source);
  for (const auto& device : spec.linux.devices) look(device.path);
  if (spec.root.path.starts_with('/')) look(spec.root.path);
  return sum;
}

bool is_over(int pidfd) {
  pollfd look{pidfd, POLLIN, 0};
  return ::poll(&look, 1, 0) != 0;
}

}  // namespace

bool has_own_pids(const oci::Spec& spec) {
  return std::ranges::any_of(spec.linux.namespaces, [](const oci::Namespace& one) {
    return one.type == oci::NamespaceType::pid && one.path.empty();
  });
}

std::string_view why_no_standby(const oci::Spec& spec, bool tty) {
  if (tty) return "the container has a terminal, which is its own in each run";
  // Without that nobody could tell the processes of the run that is over from the standby's.
  if (!has_own_pids(spec)) return "the container has no pid namespace of its own";
  if (has_path(spec)) return "the bundle names namespaces, which may be others at the next start";
  if (may_make_groups(spec)) return "the container may make control groups of its own";
  if (has_launch_hooks(spec.hooks)) return "the bundle has hooks, which belong to the moment of a start";
  if (!spec.linux.net_devices.empty()) return "the bundle moves network devices in, which can be in one place only";
  if (spec.linux.seccomp && !spec.linux.seccomp->listener_path.empty()) return "the bundle has a seccomp listener";
  return {};
}

void Supervisor::plan_standby(std::int64_t after_ns) {
  const bool wanted = container_.standby && !container_.remove_at_end &&
                      container_.restart.kind != RestartPolicy::Kind::no &&
                      why_no_standby(spec_, container_.tty).empty();
  standby_at_ns_ = wanted && !standby_pidfd_ ? fs::monotonic_ns() + after_ns : 0;
}

void Supervisor::plan_standby() { plan_standby(kAfterStartNs); }

void Supervisor::prepare_standby() {
  standby_at_ns_ = 0;
  auto made = make_standby();
  if (made) {
    standby_failures_ = 0;
    return;
  }
  // Not in silence, but the container runs, and a relaunch without one works.
  complain(made.error().context("standby"));
  drop_standby();
  save();
  plan_standby(std::min(kFirstPauseNs << std::min(standby_failures_++, 20U), kLongestPauseNs));
}

Result<void> Supervisor::make_standby() {
  // What is made in a group that was struck is killed by some kernels (Group::was_struck), and one that somebody is in
  // cannot be made anew.
  if (!group_ || group_->was_struck()) return Error::make(Code::busy, "its control group was killed once");
  // Frozen by somebody else: the new process would stand still in the middle, and we with it.
  if (TRY(group_->frozen())) return Error::make(Code::busy, "its control group is frozen");
  if (!has_room(*group_)) return Error::make(Code::busy, "its memory limit leaves no room for one");
  status_.standby_sources = host_sources(spec_);
  const UniqueFd listener = TRY(listen_below(kFdRunDir, kStandbySocket, Listener::blocks));
  const UniqueFd root = TRY(make_incarnation_root(status_.incarnation + 1));
  launch::ContainerRequest request = request_for(root.get());
  request.start_listener_fd = listener.get();
  request.patience_ns = kPatienceNs;
  request.record = [this](const sys::ProcessIdentity& identity) -> Result<void> {
    status_.standby = identity;
    save();
    return {};
  };
  auto launched = TRY(launch::launch_container(request));
  status_.standby = launched.identity;
  standby_pidfd_ = std::move(launched.pidfd);
  standby_line_ = TRY(launch::connect_to_start(kFdRunDir, kStandbySocket));
  return watch(standby_pidfd_.get(), Source::standby, EPOLLIN);
}

// What a run needs that was made ahead. What there is to tell and to write down comes after the message, as the
// program need not wait for it: the file says that this process is the standby. A successor that finds it so, and
// nobody waiting at its socket, knows that it has gone on (adopt_standby).
Result<void> Supervisor::tell_standby() {
  if (standby_went_on_) return {};
  launch::StartRequest start;
  start.dir_fd = kFdRunDir;
  start.socket_name = kStandbySocket;
  start.connected_fd = standby_line_.get();
  start.spec = [this]() -> Result<oci::Spec> { return spec_; };
  start.id = container_.id;
  start.init = status_.standby;
  start.init_pidfd = standby_pidfd_.get();
  start.aside_ms = kAsideMs;
  // The group has had its limits since the standby was made, and each update of them since.
  return launch::start_container(start);
}

// False when there is none that can be used: then it is made as if there never was one.
bool Supervisor::use_standby() {
  if (!standby_pidfd_) return false;
  const auto from = begin_exits();
  // Order: looked at after that, so that the record of its end comes behind.
  if (!from || !group_ || group_->was_struck() || is_over(standby_pidfd_.get()) ||
      (!standby_went_on_ && status_.standby_sources != host_sources(spec_))) {
    drop_standby();
    return false;
  }
  (void)open_notify();
  if (auto started = tell_standby(); !started) {
    complain(started.error().context("standby"));
    drop_standby();
    return false;
  }
  // From here on it is this run, however short that is.
  status_.exits_from = *from;
  status_.init = std::exchange(status_.standby, {});
  watches_.forget(standby_pidfd_.get());
  init_pidfd_ = std::move(standby_pidfd_);
  standby_line_.reset();
  standby_went_on_ = false;
  return true;
}

// Its end is not awaited: who needs the group empty waits for that.
void Supervisor::drop_standby() {
  standby_at_ns_ = 0;
  if (standby_pidfd_) {
    watches_.forget(standby_pidfd_.get());
    (void)sys::signal_pidfd(standby_pidfd_.get(), SIGKILL);
  } else if (const auto process = sys::open_identified(status_.standby); process) {
    (void)sys::signal_pidfd(process->get(), SIGKILL);
  }
  standby_pidfd_.reset();
  standby_line_.reset();
  standby_went_on_ = false;
  status_.standby = {};
  ::unlinkat(kFdRunDir, kStandbySocket, 0);
}

// Killed by somebody, or by the kernel with the whole group.
void Supervisor::standby_ended() {
  drop_standby();
  save();
  if (status_.step == Step::running) plan_standby(kFirstPauseNs << std::min(standby_failures_++, 20U));
}

// Under a new guard it would be nobody's child of ours; but what runs already goes on, whoever its parent is.
void Supervisor::adopt_standby(bool same_guard) {
  if (status_.standby.pid == 0) return;
  auto process = sys::open_identified(status_.standby);
  auto line = launch::connect_to_start(kFdRunDir, kStandbySocket);
  const bool went_on = !line && line.error().errnum() == ECONNREFUSED;
  if (!process || is_over(process->get()) || (line ? !same_guard : !went_on)) {
    drop_standby();
    return;
  }
  standby_pidfd_ = std::move(*process);
  if (line) standby_line_ = std::move(*line);
  standby_went_on_ = went_on;
  (void)watch(standby_pidfd_.get(), Source::standby, EPOLLIN);
}

bool Supervisor::is_standby_alone(const std::vector<pid_t>& processes) const {
  return std::ranges::all_of(processes, [this](pid_t pid) { return standby_pidfd_ && pid == status_.standby.pid; });
}

}  // namespace skink::supervise
