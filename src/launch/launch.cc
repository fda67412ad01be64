// SPDX-License-Identifier: Apache-2.0
#include "launch/launch.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/text.h"
#include "fs/dir.h"
#include "launch/affinity.h"
#include "launch/channel.h"
#include "launch/delegation.h"
#include "launch/encode.h"
#include "launch/fault.h"
#include "launch/hooks.h"
#include "launch/host_bounds.h"
#include "launch/id_maps.h"
#include "launch/net_devices.h"
#include "launch/notify.h"
#include "launch/oom.h"
#include "launch/rootless.h"
#include "launch/seccomp_cache.h"
#include "launch/sources.h"
#include "launch/spawn.h"
#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::launch {
namespace {

// No process more: that is a limit far more often than the host.
Error with_pids_limit(Error error, const cgroup::Group* group) {
  const std::string limit = group != nullptr ? group->pids_limit_reached() : std::string();
  if (limit.empty()) return error;
  return Error::make(error.code(), error.text(), "; ", limit).numbered(error.errnum());
}

// The group knows the names of its hierarchies, the plan everything else.
Error fault_error(const plan::Message& fault, const plan::LaunchPlan& plan, const cgroup::Group* group, int output_fd) {
  if (fault.step == static_cast<plan::U32>(plan::Step::join_group) && group != nullptr)
    return group->join_failure(fault.err, fault.index);
  const bool refused = fault.err == EBUSY || fault.err == EOPNOTSUPP;
  if (fault.step == static_cast<plan::U32>(plan::Step::clone_inner) && refused && group != nullptr)
    return group->join_failure(fault.err, std::nullopt);
  if (fault.step == static_cast<plan::U32>(plan::Step::clone_inner) && fault.err == EAGAIN)
    return with_pids_limit(describe_fault(fault, plan, output_fd), group);
  return describe_fault(fault, plan, output_fd);
}

// A child that reported why it gave up says more than the failed send of ours that met its closed socket.
Error better_reason(int socket_fd, const plan::LaunchPlan& plan, const cgroup::Group* group, Error error) {
  if (error.code() != Code::not_found || socket_fd < 0) return error;
  // The step may have failed for a reason of ours while the child still waits for us: then it must see the end, or both
  // would wait for ever.
  ::shutdown(socket_fd, SHUT_WR);
  for (;;) {
    auto received = receive(socket_fd);
    if (!received || !*received) return error;
    const auto& message = (*received)->message;
    if (message.kind != static_cast<plan::U32>(plan::Kind::fault)) continue;
    // That the child missed us is only the echo of our own failure.
    if (message.step == static_cast<plan::U32>(plan::Step::protocol)) return error;
    return fault_error(message, plan, group, (*received)->fd.get());
  }
}

// One launch from clone to the answer of the child; the same for a container and for exec.
class Launch {
 public:
  Launch(plan::LaunchPlan plan, bool as_sibling) : plan_(std::move(plan)), as_sibling_(as_sibling) {}

  // What differs between the two callers.
  std::string id, bundle;
  const oci::Spec* spec = nullptr;
  const sys::ProcessIdentity* container = nullptr;  // exec: the init that it joins
  cgroup::Group* group = nullptr;
  std::function<Result<void>(pid_t)> attach;
  std::function<Result<void>()> complete_group;  // only if that comes after the process
  std::function<Result<void>(const sys::ProcessIdentity&)> record;
  bool waits_for_start = false;
  std::int64_t patience_ns = 0;
  Trace trace;

  Result<void> start(Descriptors& fds, const EncodeOptions& encoding, const Stdio& stdio);
  Result<void> follow();
  Result<Launched> finish();
  // Ends the process after a failure; reaps it unless the guard does.
  void abandon();
  Error reason_of(Error error) const {
    // Order: our copy of the child's end is closed when there is a child. Before that nobody would ever answer.
    if (sockets_.theirs) return error;
    return better_reason(sockets_.ours.get(), plan_, group, std::move(error));
  }

 private:
  Result<void> place();
  Result<void> place_living();
  Result<void> take_inner(Received& received);
  Result<void> give_net_devices();
  Result<void> on_hooks();
  Result<void> on_map(Received& received);
  Result<void> on_listener(Received& received);
  Result<bool> on_message(Received& received);
  Error died_early();
  Error on_fault(const Received& received);
  [[nodiscard]] Error with_limit(Error error) const;

  plan::LaunchPlan plan_;
  bool as_sibling_;
  SocketPair sockets_;
  Spawned process_;
  UniqueFd first_stage_;  // pidfd of the stage that only joins
  Launched launched_;
  OomWatch oom_;
  bool ready_ = false;
};

// Others see the second stage as soon as it exists, before it has run: the first one is put into the groups then and
// hands them down, and no descriptor of them (attack A25). Elsewhere it stays outside, for it counts in pids.max.
bool is_watched(const plan::LaunchPlan& plan) { return (plan.clone_flags & CLONE_NEWPID) == 0; }

bool has_clone_fd(const cgroup::Group* group) { return group != nullptr && group->clone_fd() >= 0; }

// Until it executes skink-init, a process that we make shares our memory, and who runs out of the group's then is
// killed with all that share it. The kernel spares a child of ours in that state, but not one that is made as our
// sibling. So where the limit may not do for an execve, the process enters the group by itself afterwards.
bool is_cramped(const oci::Spec* spec) {
  constexpr std::int64_t kEnough = 4 << 20;
  if (spec == nullptr || !spec->linux.resources) return false;
  const auto& resources = *spec->linux.resources;
  const bool limited = resources.memory && resources.memory->limit && *resources.memory->limit >= 0;
  return (limited && *resources.memory->limit < kEnough) || resources.unified.contains("memory.max");
}

Result<void> Launch::start(Descriptors& fds, const EncodeOptions& encoding, const Stdio& stdio) {
  sockets_ = TRY(make_socket_pair());
  sockets_.theirs = TRY(above(std::move(sockets_.theirs), fds.preserve));
  fds.sync = sockets_.theirs.get();
  if (group != nullptr) oom_ = OomWatch(group->location());
  const bool two_stages = (plan_.flags & plan::kTwoStages) != 0;
  const bool joins = as_sibling_ && is_cramped(spec);
  UniqueFd cgroup_fd;
  if (group != nullptr && !complete_group)
    for (auto& file : TRY(group->open_join_files(joins)))
      fds.groups.push_back(TRY(above(std::move(file), fds.preserve)));
  if (attach && (group == nullptr || group->lets_in())) attach = nullptr;
  if (has_clone_fd(group) && !joins && !attach) {
    cgroup_fd = TRY(sys::dup_fd(group->clone_fd(), 3 + static_cast<int>(fds.preserve)));
    if (two_stages && !is_watched(plan_)) fds.cgroup = cgroup_fd.get();
  }
  const UniqueFd plan_file =
      TRY(above(TRY(sys::sealed_memfd("skink-plan", encode(plan_, fds, encoding), false)), fds.preserve));
  SpawnRequest request;
  request.clone_flags = two_stages ? 0 : plan_.clone_flags;
  request.cgroup_fd = fds.cgroup >= 0 ? -1 : cgroup_fd.get();
  request.as_sibling = as_sibling_;
  request.stdio[0] = stdio.in;
  request.stdio[1] = stdio.out;
  request.stdio[2] = stdio.err;
  request.keep = numbers(fds);
  request.keep.push_back(plan_file.get());
  request.preserve = fds.preserve;
  request.plan_fd = plan_file.get();
  auto spawned = spawn(request);
  if (!spawned && request.cgroup_fd >= 0 &&
      (spawned.error().errnum() == EBUSY || spawned.error().errnum() == EOPNOTSUPP))
    return group->join_failure(spawned.error().errnum(), std::nullopt);
  // For want of memory in its group, execve has no place even for a few arguments.
  if (!spawned && request.cgroup_fd >= 0 && (spawned.error().errnum() == E2BIG || spawned.error().errnum() == ENOMEM))
    return with_limit(Error::from_errno(ENOMEM, "execute skink-init"));
  if (!spawned && spawned.error().errnum() == EAGAIN) return with_pids_limit(std::move(spawned).error(), group);
  process_ = TRY(std::move(spawned));
  // Order: our copy of the child's end is closed at once, so that end of file means its death or its execve.
  sockets_.theirs.reset();
  tell(trace, "skink-init is process ", process_.pid,
       two_stages ? ", which joins namespaces and clones the container's process" : "");
  if (!two_stages) return place();
  first_stage_ = std::move(process_.pidfd);
  return {};
}

// One that is killed meanwhile (its memory limit is too small) is missed by whatever looks at it next.
Result<void> Launch::place() {
  auto placed = place_living();
  pollfd ended{process_.pidfd.get(), POLLIN, 0};
  // Its socket is closed a little before it has ended.
  const int patience_ms = !placed && was_killed(placed.error()) ? 1000 : 0;
  if (placed || ::poll(&ended, 1, patience_ms) <= 0) return placed;
  // Order: what it has said itself comes first, see better_reason().
  return died_early().as(Code::not_found);
}

// Order: recorded before it is let go. It has put itself into its groups by then or will before anything else (A46).
Result<void> Launch::place_living() {
  auto identity = sys::identify(process_.pid);
  if (!identity) return Error::make(Code::not_found, "the container's process ended at once");
  launched_.identity = *std::move(identity);
  std::vector<UniqueFd> files;
  int joins = 0;
  if (complete_group) {
    TRY(complete_group());
    oom_ = OomWatch(group->location());
    files = TRY(group->open_join_files(false));
    joins = static_cast<int>(files.size());
    TRY(open_group_sources(plan_, files));
  }
  if (record) TRY(record(launched_.identity));
  // Order: before its cgroup namespace, which it makes once it is placed.
  if (attach) TRY(attach(process_.pid));
  TRY(write_id_maps(process_.pid, plan_));
  if (!plan_.net_devices.empty()) TRY(give_net_devices());
  raise_hard_limits(process_.pid, plan_);
  if (plan_.oom_score_adj) TRY(write_oom_score(process_.pid, *plan_.oom_score_adj));
  tell(trace, "process ", process_.pid, " is on record; it may set itself up");
  return send(sockets_.ours.get(), plan::Kind::placed, files, joins);
}

Result<void> Launch::give_net_devices() {
  std::string path = str("/proc/", process_.pid, "/ns/net");
  for (const auto& join : plan_.joins)
    if (join.type == oci::NamespaceType::network) path = join.path;
  const UniqueFd network = TRY_CTX(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY), "linux.netDevices");
  return move_net_devices(plan_.net_devices, network.get());
}

Result<void> Launch::take_inner(Received& received) {
  process_.pid = received.message.arg;
  process_.pidfd = std::move(received.fd);
  if (!process_.pidfd) return Error::make(Code::internal, "no descriptor of the container's process");
  if (!as_sibling_ && first_stage_) {
    sys::ExitStatus ignored;
    TRY(sys::wait_pidfd(first_stage_.get(), ignored, true));
  }
  first_stage_.reset();
  return place();
}

Result<void> Launch::on_hooks() {
  HookState state = state_of(id, bundle, *spec, "creating", process_.pid);
  // Whoever deletes a half-made container by force must not have to wait for a hook that hangs.
  state.process_pidfd = process_.pidfd.get();
  TRY(run_hooks(spec->hooks.prestart, "prestart", state));
  TRY(run_hooks(spec->hooks.create_runtime, "createRuntime", state));
  tell(trace, "hooks have run: ", spec->hooks.prestart.size(), " prestart, ", spec->hooks.create_runtime.size(),
       " createRuntime");
  return send(sockets_.ours.get(), plan::Kind::proceed);
}

// The child may be in a user namespace, where it has no right to map what the host's file systems hold.
Result<void> Launch::on_map(Received& received) {
  const auto index = static_cast<std::size_t>(received.message.arg);
  if (index >= plan_.mounts.size() || !received.fd) return Error::make(Code::internal, "no tree to map");
  const auto& step = plan_.mounts[index];
  TRY(map_tree(received.fd.get(), step,
               str("mounts[", step.config_index, "]: ", printable(step.source), " inside the root on ",
                   printable(step.destination))));
  return send(sockets_.ours.get(), plan::Kind::proceed);
}

// A container that is being made has the status of the spec's example; one that runs already is what exec joins.
Result<void> Launch::on_listener(Received& received) {
  const HookState state = container != nullptr ? state_of(id, bundle, *spec, "running", container->pid)
                                               : state_of(id, bundle, *spec, "creating", process_.pid);
  TRY(hand_listener_over(*spec->linux.seccomp, state, process_.pid, process_.pidfd.get(), received));
  return send(sockets_.ours.get(), plan::Kind::proceed);
}

// True when nothing more is to be waited for.
Result<bool> Launch::on_message(Received& received) {
  switch (static_cast<plan::Kind>(received.message.kind)) {
    case plan::Kind::inner: TRY(take_inner(received)); return false;
    case plan::Kind::console: launched_.console = std::move(received.fd); return false;
    case plan::Kind::hooks: TRY(on_hooks()); return false;
    case plan::Kind::map: TRY(on_map(received)); return false;
    case plan::Kind::listener: TRY(on_listener(received)); return false;
    case plan::Kind::ready:
      ready_ = true;
      tell(trace, "process ", process_.pid, " is set up", waits_for_start ? " and waits for start" : "");
      return waits_for_start;
    case plan::Kind::fault: return on_fault(received);
    default: return Error::make(Code::internal, "message ", received.message.kind, " from skink-init");
  }
}

Error Launch::on_fault(const Received& received) {
  Error error = fault_error(received.message, plan_, group, received.fd.get());
  return received.message.err == ENOMEM ? with_limit(std::move(error)) : error;
}

Error Launch::with_limit(Error error) const {
  const std::string limit = oom_.limit();
  return limit.empty() ? error : Error::make(error.code(), error.text(), "; ", limit);
}

Error Launch::died_early() {
  constexpr std::string_view kKilled = "the container's process was killed while it was being set up";
  if (oom_.has_killed()) return Error::make(Code::internal, kKilled, ": ", oom_.words());
  return Error::make(Code::internal, kKilled).numbered(kKilledNumber);
}

Result<void> Launch::follow() {
  const std::int64_t end = patience_ns == 0 ? 0 : fs::monotonic_ns() + patience_ns;
  for (;;) {
    if (end != 0) TRY(await_message(sockets_.ours.get(), end));
    auto received = TRY(receive(sockets_.ours.get()));
    // End of file: after ready the program has been executed, before it the process has died.
    if (!received) {
      if (!ready_) return died_early();
      // An init of ours keeps its name when the program runs: of its end nobody can tell when it came.
      if ((plan_.flags & plan::kInit) == 0 && oom_.has_killed_init(process_.pid))
        return Error::make(Code::internal,
                           "the container's process was killed before it executed its program: ", oom_.words());
      tell(trace, "process ", process_.pid, " has executed its program");
      return {};
    }
    if (TRY(on_message(*received))) return {};
  }
}

Result<Launched> Launch::finish() {
  launched_.withheld_capabilities = plan_.withheld_capabilities;
  launched_.withheld_ambient = plan_.withheld_ambient;
  launched_.pidfd = std::move(process_.pidfd);
  return std::move(launched_);
}

// A process that is frozen dies when it is let go, and is nobody's child of ours then: who is to end does not wait.
void reap_killed(int pidfd) {
  constexpr std::int64_t kPatience = 2'000'000'000;
  const std::int64_t end = fs::monotonic_ns() + kPatience;
  while (sys::interrupted()) {
    pollfd ended{pidfd, POLLIN, 0};
    constexpr int kMilliseconds = 100;
    if (::poll(&ended, 1, kMilliseconds) > 0) break;
    if (fs::monotonic_ns() >= end) return;
  }
  sys::ExitStatus ignored;
  (void)sys::wait_pidfd(pidfd, ignored, true);
}

void Launch::abandon() {
  for (UniqueFd* pidfd : {&process_.pidfd, &first_stage_}) {
    if (!*pidfd) continue;
    (void)sys::signal_pidfd(pidfd->get(), SIGKILL);
    if (!as_sibling_) reap_killed(pidfd->get());
    pidfd->reset();
  }
}

Result<Launched> run(Launch& launch, Descriptors& fds, const EncodeOptions& encoding, const Stdio& stdio) {
  auto done = launch.start(fds, encoding, stdio);
  if (done) done = launch.follow();
  if (done) return launch.finish();
  Error reason = launch.reason_of(std::move(done).error());
  launch.abandon();
  return reason;
}

Result<void> compile_filter(const std::optional<oci::Seccomp>& profile, int cache_fd, plan::LaunchPlan& plan) {
  if (!profile) return {};
  plan.seccomp = TRY_CTX(cached_seccomp(*profile, cache_fd), "linux.seccomp");
  if (!plan.seccomp->needs_listener) return {};
  // Asked early: the supervisor itself is needed only once the filter is on, and then nothing can be taken back.
  return check_listener_path(profile->listener_path);
}

void prepare_hooks(const ContainerRequest& request, std::uint32_t plan_flags, EncodeOptions& encoding) {
  const oci::Hooks& hooks = request.spec->hooks;
  const bool joined = (plan_flags & plan::kJoinedMounts) != 0;
  if (hooks.empty() && !joined) return;
  // A root without a place on the host (an image's) lies over "/": its containers have no hooks of their own.
  const bool early = !hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty();
  if ((joined || early) && request.root_mount_fd < 0)
    encoding.attach_path = host_path(request.spec->root.path, request.bundle);
  encoding.creating = state_around_pid(state_of(request.id, request.bundle, *request.spec, "creating", 0));
  encoding.created = state_around_pid(state_of(request.id, request.bundle, *request.spec, "created", 0));
}

Result<UniqueFd> lift_listener(const ContainerRequest& request, Descriptors& fds) {
  if (request.start_listener_fd < 0) return UniqueFd{};
  UniqueFd copy = TRY(sys::dup_fd(request.start_listener_fd, 3 + static_cast<int>(request.preserve_fds)));
  fds.listener = copy.get();
  return copy;
}

std::string initial_cpus(const oci::Process& process) {
  const auto& affinity = process.exec_cpu_affinity;
  return affinity ? affinity->initial.value_or("") : "";
}

// Without a final list what the initial one left stays (config.md).
Result<CpuMask> final_cpus(const ExecRequest& request) {
  const auto& affinity = request.process->exec_cpu_affinity;
  const std::string list = affinity ? affinity->final.value_or("") : "";
  if (!list.empty()) return parse_cpus(list, "process.execCPUAffinity.final");
  return request.reset_affinity && initial_cpus(*request.process).empty() ? all_cpus() : CpuMask{};
}

// As the kernel shows a mask, the highest CPUs first.
std::string as_hex(const CpuMask& mask) {
  std::string text = "0x";
  for (std::size_t i = mask.size(); i-- > 0;)
    for (int shift = 60; shift >= 0; shift -= 4)
      if (const auto digit = mask[i] >> shift & 15U; digit != 0 || text.size() > 2) text += "0123456789abcdef"[digit];
  return text;
}

// Only the namespaces that the container has of its own; joining a user namespace that is ours already fails.
Result<std::uint32_t> namespaces_to_join(const oci::Spec& spec, pid_t target) {
  std::uint32_t flags = 0;
  for (const auto& ns : spec.linux.namespaces) flags |= plan::namespace_flag(ns.type);
  if ((flags & CLONE_NEWUSER) == 0) return flags;
  const auto theirs = TRY(sys::stat_at(AT_FDCWD, str("/proc/", target, "/ns/user").c_str(), 0));
  const auto ours = TRY(sys::stat_at(AT_FDCWD, "/proc/self/ns/user", 0));
  if (theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev) flags &= ~std::uint32_t{CLONE_NEWUSER};
  return flags;
}

}  // namespace

namespace {

// Groups of v1 can be made while the process is at work, which enters them by itself: unless that makes another one of
// it first, or takes them into the container before it is there.
bool can_follow(const plan::LaunchPlan& plan, const ContainerRequest& request) {
  const auto binds = [](const plan::MountStep& mount) {
    return binds_group(mount) && (mount.flags & plan::kMountOfHost) == 0;
  };
  if (request.as_sibling || (plan.flags & plan::kTwoStages) != 0 || std::ranges::any_of(plan.mounts, binds))
    return false;
  const auto sources = static_cast<std::size_t>(std::ranges::count_if(plan.mounts, binds_group));
  return request.location != nullptr && request.location->places.size() + sources <= plan::kMostGroups;
}

}  // namespace

Result<Launched> launch_container(const ContainerRequest& request) {
  std::optional<cgroup::Location> location;
  if (request.location != nullptr) location = *request.location;
  else if (request.group != nullptr) location = request.group->location();
  plan::LaunchPlan plan = TRY(plan::make_plan(*request.spec, TRY(host_facts(location ? &*location : nullptr))));
  const bool follows = request.complete_group && can_follow(plan, request);
  if (request.complete_group && !follows) TRY(request.complete_group());
  if (request.group != nullptr) TRY(delegate_group(plan, *request.group));
  if ((plan.flags & plan::kHostMounts) != 0 && !request.root_is_attached)
    return Error::make(Code::unsupported,
                       "linux.namespaces: a container without a mount namespace would change the host's mounts; add "
                       "{\"type\": \"mount\"}");
  TRY(compile_filter(request.spec->linux.seccomp, request.seccomp_cache_fd, plan));
  TRY(copy_symlinks(plan, request.bundle));
  TRY(check_net_devices(plan.net_devices));
  UniqueFd root;
  Descriptors fds = TRY(open_sources(plan, request, root, follows));
  tell(request.trace, "the plan has ", plan.mounts.size(), " mounts, ", plan.devices.size(), " devices, ",
       plan.masked.size(), " masked and ", plan.readonly.size(), " read-only paths, ",
       plan.seccomp ? "a seccomp filter" : "no seccomp filter", "; all sources are open");
  const UniqueFd listener = TRY(lift_listener(request, fds));
  EncodeOptions encoding;
  encoding.no_pivot = request.no_pivot;
  encoding.plain_output = request.plain_output;
  encoding.groups_follow = follows;
  if (request.reset_affinity) encoding.cpus = all_cpus();
  if (request.new_keyring) encoding.keyring = str("_ses.", request.id);
  prepare_hooks(request, plan.flags, encoding);
  // Not over "/": to make a user namespace the kernel wants a process whose root is that of its mounts.
  encoding.stage_path = encoding.attach_path.empty() ? request.bundle : encoding.attach_path;

  Launch launch(std::move(plan), request.as_sibling);
  launch.id = request.id;
  launch.bundle = request.bundle;
  launch.spec = request.spec;
  launch.group = request.group;
  if (follows) launch.complete_group = request.complete_group;
  launch.attach = request.attach;
  launch.record = request.record;
  launch.waits_for_start = request.start_listener_fd >= 0;
  launch.patience_ns = request.patience_ns;
  launch.trace = request.trace;
  return run(launch, fds, encoding, request.stdio);
}

namespace {

// The root of a container that is not the root of a mount namespace of its own has to be entered by itself.
Result<UniqueFd> root_to_enter(const ExecRequest& request) {
  const auto* ns = request.spec->find_namespace(oci::NamespaceType::mount);
  if (ns != nullptr && ns->path.empty()) return UniqueFd{};
  const std::string path = str("/proc/", request.target.pid, "/root");
  return above(TRY(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY)), request.preserve_fds);
}

}  // namespace

Result<Launched> exec_in_container(const ExecRequest& request) {
  auto facts = TRY(host_facts(nullptr));
  // Of a namespace that belongs to the caller, a plain user.
  if (request.spec->find_namespace(oci::NamespaceType::user) != nullptr)
    facts.setgroups_denied = setgroups_denied(str(request.target.pid));
  TRY(check_host_bounds(*request.process));
  plan::LaunchPlan plan = TRY(plan::make_exec_plan(*request.spec, *request.process, facts));
  TRY(compile_filter(request.spec->linux.seccomp, request.seccomp_cache_fd, plan));
  const UniqueFd target = TRY(above(TRY(sys::open_identified(request.target)), request.preserve_fds));
  Descriptors fds;
  fds.preserve = request.preserve_fds;
  fds.pidfd_to_join = target.get();
  // Order: a pidfd that still answers shows that the number meant the container all the time.
  const UniqueFd root = TRY(root_to_enter(request));
  TRY(sys::signal_pidfd(target.get(), 0));
  fds.root = root.get();
  fds.pidfd_flags = TRY(namespaces_to_join(*request.spec, request.target.pid));
  EncodeOptions encoding;
  encoding.plain_output = request.plain_output;
  encoding.cpus = TRY(final_cpus(request));
  if (request.new_keyring) encoding.keyring = str("_ses.", request.target.pid);

  Launch launch(std::move(plan), request.as_sibling);
  launch.id = request.id;
  launch.bundle = request.bundle;
  launch.container = &request.target;
  launch.spec = request.spec;
  launch.group = request.group;
  launch.patience_ns = request.patience_ns;
  launch.attach = request.attach;
  launch.record = request.record;
  launch.trace = request.trace;
  const std::string initial = initial_cpus(*request.process);
  if (initial.empty()) return run(launch, fds, encoding, request.stdio);
  // config.md: the runtime itself is to run there until the process is in the container's groups.
  const KeptAffinity kept;
  TRY(set_own_affinity(initial, "process.execCPUAffinity.initial"));
  if (const auto mask = parse_cpus(initial, "process.execCPUAffinity.initial"); mask)
    tell(request.trace, "until it is in its groups it runs on CPUs ", printable(initial),
         ", affinity: ", as_hex(*mask));
  return run(launch, fds, encoding, request.stdio);
}

int exit_status_of(const Error& error) {
  constexpr int kOwnFailure = 125, kNotExecutable = 126, kNotFound = 127;
  if (error.code() == Code::no_program) return kNotFound;
  return error.code() == Code::not_executable ? kNotExecutable : kOwnFailure;
}

bool was_killed(const Error& error) { return error.errnum() == kKilledNumber; }

Result<void> check_launch(const oci::Spec& spec) {
  TRY(plan::make_plan(spec, TRY(host_facts(nullptr))));
  if (spec.process) TRY(check_host_bounds(*spec.process));
  return check_net_devices(spec.linux.net_devices);
}

Result<std::string> describe_plan(const oci::Spec& spec) {
  return plan::describe(TRY(plan::make_plan(spec, TRY(host_facts(nullptr)))));
}

}  // namespace skink::launch
