// SPDX-License-Identifier: Apache-2.0
// Making and destroying a container for skink-oci, with every step undone when a later one fails.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "cli/oci_foreground.h"
#include "cli/oci_groups.h"
#include "cli/oci_host_root.h"
#include "cli/oci_rootless.h"
#include "cli/oci_unit.h"
#include "cli/oci_verbs.h"
#include "launch/hooks.h"
#include "launch/id_maps.h"
#include "launch/launch.h"
#include "launch/rootless.h"
#include "oci/json.h"
#include "plan/launch_plan.h"
#include "sys/interrupt.h"

namespace skink::cli {
namespace {

constexpr std::chrono::milliseconds kKillDeadline{10'000};

Result<std::string> absolute(const char* what, const std::string& path) {
  char resolved[PATH_MAX];
  const char* from = path.empty() ? "." : path.c_str();
  if (::realpath(from, resolved) == nullptr) return Error::from_errno(errno, what, ' ', printable(from));
  return std::string(resolved);
}

struct Bundle {
  std::string path, json;
  oci::Spec spec;
};

// Opened once, not a FIFO, bounded (attack A82); checked whole before anything is made.
Result<Bundle> read_bundle(const CreateOptions& given) {
  Bundle bundle;
  bundle.path = TRY(absolute("bundle", given.bundle));
  const UniqueFd dir = TRY(sys::open_at(AT_FDCWD, bundle.path.c_str(), O_RDONLY | O_DIRECTORY));
  // Another configuration is named from where the caller stands, not from the bundle; it may be a symlink.
  const std::string file = given.config.empty() ? "config.json" : TRY(absolute("--config", given.config));
  bundle.json = TRY_CTX(fs::read_file(dir.get(), file.c_str(), oci::kConfigLimit), "bundle ", printable(bundle.path));
  bundle.spec = TRY_CTX(oci::parse_spec(bundle.json), printable(file));
  auto findings = oci::check_spec(bundle.spec);
  if (!findings.empty()) return std::move(findings.front().context(printable(file)));
  return bundle;
}

Result<UniqueFd> listen_for_start(int dir_fd) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!listener) return Error::from_errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Through the descriptor: the state directory's own path may be longer than an address (attack A94).
  const std::string path = str("/proc/self/fd/", dir_fd, '/', std::string_view(state::kUnreadySocket));
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "bind ", state::kUnreadySocket);
  if (::listen(listener.get(), 16) != 0) return Error::from_errno(errno, "listen");
  return listener;
}

// In a user namespace no node can be made, so there is nothing to be denied, and no program for it can be loaded.
oci::Resources limits_of(const oci::Spec& spec) {
  oci::Resources resources = spec.linux.resources.value_or(oci::Resources{});
  if (sys::in_user_namespace()) resources.devices.clear();
  else resources.devices = plan::with_default_devices(std::move(resources.devices));
  return resources;
}

// Order: off the record before anything is undone. What could not be made has undone itself, and what is there belongs
// to somebody, whose processes must not be ended with us.
Error forget_groups(Made& made, bool unified_too, Error error) {
  made.spare.release();
  state::Record without = made.container.record();
  std::erase_if(without.cgroup->places,
                [&](const cgroup::Place& place) { return unified_too || !place.hierarchy.unified; });
  if (without.cgroup->places.empty()) without.cgroup.reset();
  auto saved = made.container.save(without);
  if (!saved) return std::move(saved).error();
  return std::move(error.context("linux.cgroupsPath"));
}

// What the process is made in; the others follow with complete_group().
Result<std::optional<cgroup::Group>> begin_group(Made& made) {
  const auto& location = made.container.record().cgroup;
  if (!location) return std::optional<cgroup::Group>{};
  auto begun = cgroup::Group::begin(*location);
  if (!begun) return forget_groups(made, true, std::move(begun).error());
  return std::optional<cgroup::Group>(*std::move(begun));
}

Result<void> complete_group(Made& made, cgroup::Group& group) {
  auto completed = group.complete(*made.container.record().cgroup);
  if (!completed) return forget_groups(made, false, std::move(completed).error());
  return group.apply(limits_of(made.spec));
}

Result<state::Record> new_record(const OciGlobals& globals, const Bundle& bundle, const std::string& id) {
  state::Record record;
  record.id = id;
  record.bundle = bundle.path;
  const std::string& root = bundle.spec.root.path;
  record.rootfs = root.starts_with('/') ? root : str(bundle.path, '/', root);
  record.created = fs::rfc3339_now();
  if (bundle.spec.linux.intel_rdt) {
    const UniqueFd resctrl = TRY(cgroup::open_resctrl());
    record.resctrl = TRY(cgroup::Resctrl{resctrl.get()}.plan(*bundle.spec.linux.intel_rdt, id));
  }
  record.annotations = bundle.spec.annotations;
  const auto* pids = bundle.spec.find_namespace(oci::NamespaceType::pid);
  record.shares_pids = pids == nullptr || !pids->path.empty();
  record.has_poststart = !bundle.spec.hooks.poststart.empty();
  record.has_poststop = !bundle.spec.hooks.poststop.empty();
  record.manager = globals.no_cgroup ? "disabled" : globals.systemd_cgroup ? "systemd" : "cgroupfs";
  if (globals.no_cgroup) return record;
  if (globals.systemd_cgroup) {
    record.unit = TRY(unit_of(bundle.spec.linux.cgroups_path, id));
    return record;
  }
  const auto& resources = bundle.spec.linux.resources;
  record.cgroup = TRY(place_for_caller(bundle.spec.linux.cgroups_path, id, resources ? &*resources : nullptr));
  if (record.cgroup) TRY_CTX(cgroup::Group::check_unused(*record.cgroup), "linux.cgroupsPath");
  return record;
}

Result<UniqueFd> make_resctrl(const state::Record& record, const oci::Spec& spec) {
  if (!record.resctrl) return UniqueFd{};
  UniqueFd root = TRY(cgroup::open_resctrl());
  TRY(cgroup::Resctrl{root.get()}.make(*record.resctrl, *spec.linux.intel_rdt));
  return root;
}

// Order: on record before it is attached, so that delete knows it whenever this ends.
Result<HostRoot> mount_on_host(Made& made, state::Record record) {
  if (!lives_in_host_mounts(made.spec)) return HostRoot{};
  HostRoot root = TRY(open_host_root(record.rootfs));
  record.host_root = root.id;
  TRY(made.container.save(record));
  TRY(attach_host_root(root, record.rootfs));
  return root;
}

Result<launch::Launched> launch_recorded(state::Root& root, Made& made, const state::Record& record,
                                         const CreateOptions& options, bool wait_for_start, const OciLog& log) {
  UniqueFd listener;
  if (wait_for_start) listener = TRY(listen_for_start(made.container.dir_fd()));
  std::optional<UnitGroup> unit;
  if (record.unit) unit = TRY(make_unit_group(made.container, made.spec, limits_of(made.spec)));
  auto group = unit ? std::optional(std::move(unit->group)) : TRY(begin_group(made));
  const UniqueFd resctrl = TRY(make_resctrl(record, made.spec));
  const auto cache = root.open_cache();
  const HostRoot host_root = TRY(mount_on_host(made, record));
  launch::ContainerRequest request;
  request.spec = &made.spec;
  request.id = record.id;
  request.bundle = record.bundle;
  request.group = group ? &*group : nullptr;
  const auto complete = [&]() -> Result<void> {
    TRY(complete_group(made, *group));
    log.debug("control groups are made and limited");
    return {};
  };
  const auto& place = made.container.record().cgroup;
  // Where v2 is alone there is nothing to follow: the process is made in a group that is limited.
  if (group && !unit && place->layout == cgroup::Layout::v2) TRY(complete());
  else if (group && !unit) request.complete_group = complete;
  if (group && !unit) request.location = &*place;
  if (!group) log.debug("the container has no control groups");
  if (group) request.attach = attach_by_systemd(made.container.record(), *group);
  request.preserve_fds = options.preserve_fds;
  request.plain_output = options.relays && wants_plain_output();
  request.reset_affinity = true;
  request.start_listener_fd = listener.get();
  request.no_pivot = options.no_pivot;
  request.new_keyring = !options.no_new_keyring;
  request.seccomp_cache_fd = cache ? cache->get() : -1;
  request.root_mount_fd = host_root.mount.get();
  request.root_is_attached = host_root.id != 0;
  request.trace = trace_to(log);
  request.record = [&](const sys::ProcessIdentity& identity) -> Result<void> {
    state::Record with_pid = made.container.record();
    with_pid.init = identity;
    if (with_pid.cgroup) with_pid.group_id = cgroup::identity_of(*with_pid.cgroup);
    TRY(made.container.save(with_pid));
    if (record.resctrl) TRY(cgroup::Resctrl{resctrl.get()}.add(*record.resctrl, identity.pid));
    return {};
  };
  auto launched = launch::launch_container(request);
  // Order: only now, when the container's own process keeps the unit alive, or has failed.
  if (unit && launched) TRY(leave_to_container(*unit, *group, *record.unit));
  return launched;
}

// What the command line and the caller's descriptors mean for the process.
Result<void> adapt(oci::Process& process, CreateOptions& options, bool wait_for_start) {
  const bool detached = wait_for_start || options.detach;
  TRY(check_terminal(options, process.terminal, detached));
  options.relays = process.terminal && !detached && options.console_socket.empty();
  if (options.relays) add_window_size(process);
  options.preserve_fds = TRY(preserved_descriptors(options.preserve_fds, &process.env));
  return {};
}

// Without control groups nothing else tells that it is over. A pidfd polls readable when its process is a zombie: who
// reaps it is not ours to wait for.
Result<void> wait_for_end(int pidfd, pid_t pid) {
  pollfd entry{pidfd, POLLIN, 0};
  if (::poll(&entry, 1, static_cast<int>(kKillDeadline.count())) != 0) return {};
  return Error::make(Code::busy, "the container's process ", pid, " did not die within ", kKillDeadline.count(), " ms");
}

// The service manager, where one has started us, learns from the program when it is ready. That it cannot be told is no
// reason not to run it.
Result<void> prepare_notify(Made& made, const OciGlobals& globals, bool wait_for_start) {
  const std::string address = notify_address();
  if (address.empty()) return {};
  const int dir_fd = made.container.dir_fd();
  TRY(make_notify_directory(dir_fd));
  add_notify(made.spec, str(globals.root, '/', made.container.record().id));
  if (wait_for_start) return {};
  auto relay = NotifyRelay::open(address, dir_fd);
  if (relay) made.notify = *std::move(relay);
  else globals.log.warning(relay.error().text());
  return {};
}

}  // namespace

launch::Trace trace_to(const OciLog& log) {
  if (!log.debugs()) return {};
  return [&log](const std::string& text) { log.debug(text); };
}

Result<Made> make_container(state::Root& root, const OciGlobals& globals, const CreateOptions& given,
                            const std::string& text, bool wait_for_start) {
  const auto id = TRY(state::ContainerId::parse(text));
  Bundle bundle = TRY(read_bundle(given));
  if (!bundle.spec.process) return Error::make(Code::invalid_config, "config.json: process: is missing");
  CreateOptions options = given;
  TRY(adapt(*bundle.spec.process, options, wait_for_start));
  launch::map_own_ids(bundle.spec);
  launch::share_sysfs(bundle.spec);
  TRY(launch::check_launch(bundle.spec));
  globals.log.debug("bundle ", bundle.path, ": the configuration is valid");
  TRY(launch::become_root_of_own_namespace(bundle.spec));
  TRY(root.check_free(id));
  const state::Record record = TRY(new_record(globals, bundle, id.text()));
  auto spare = TRY(hold_for_undoing(record));
  Made made{TRY(root.create(id, record)), std::move(bundle.spec), {}, {}, {}, std::move(spare)};
  const auto finish = [&]() -> Result<void> {
    TRY(made.container.save_config(bundle.json));
    globals.log.debug("state is in ", globals.root, '/', record.id,
                      record.cgroup ? str(", control groups will be at ", record.cgroup->places.front().path) : "");
    add_home(*made.spec.process, record.rootfs);
    TRY(prepare_notify(made, globals, wait_for_start));
    warn_of_unknown_capabilities(*made.spec.process, bundle.json, globals.log);
    warn_of_what_is_ignored(made.spec, globals);
    auto launched = TRY(launch_recorded(root, made, record, options, wait_for_start, globals.log));
    warn_of_capabilities(launched, globals.log, wait_for_start);
    made.pidfd = std::move(launched.pidfd);
    made.console = std::move(launched.console);
    TRY(hand_over(options, launched.identity.pid, made.pidfd.get(), made.console.get()));
    if (sys::interrupted()) return Error::from_errno(EINTR, "hand the container over");
    // Order: last of all. From here on it can be started.
    const int dir_fd = made.container.dir_fd();
    if (wait_for_start) TRY(sys::rename_at(dir_fd, state::kUnreadySocket, dir_fd, state::kStartSocket));
    else made.container.mark_started();
    return {};
  };
  auto done = finish();
  if (done) return made;
  Error error = std::move(done).error();
  made.spare.release();
  (void)sys::take_interrupt();
  globals.log.debug("taking back what was made, since: ", error.text());
  auto undone = destroy_container(root, std::move(made.container), globals);
  if (!undone) error.also(undone.error());
  return error;
}

// One for each of its groups, which are all open while what is in them is killed; some for walking them, for files of
// its own and of its processes. A unit's groups are known once systemd has made them.
Result<sys::SpareDescriptors> hold_for_undoing(const state::Record& record) {
  constexpr std::size_t kOthers = 6, kMostHierarchies = 16;
  const bool known = record.cgroup && !record.cgroup->places.empty();
  const std::size_t groups = known ? record.cgroup->places.size() : record.unit ? kMostHierarchies : 0;
  return sys::SpareDescriptors::hold(groups + kOthers);
}

Result<UniqueFd> found_init(const state::Container& container) {
  auto init = container.open_init();
  if (init || !sys::is_want_of_descriptors(init.error())) return init ? *std::move(init) : UniqueFd{};
  return init;
}

void end_init(const state::Container& container) {
  const auto init = container.open_init();
  if (!init) return;
  (void)sys::signal_pidfd(init->get(), SIGKILL);
  pollfd ended{init->get(), POLLIN, 0};
  (void)::poll(&ended, 1, static_cast<int>(kKillDeadline.count()));
}

namespace {

// The record, or what can be known without one: the groups, by the configuration where that is there (faults F26, F27).
Result<state::Record> known(const state::Container& container, const OciGlobals& globals) {
  state::Record record = container.record();
  if (!record.created.empty() || globals.no_cgroup) return record;
  const auto spec = container.spec();
  if (spec && is_unit_path(spec->linux.cgroups_path)) {
    record.unit = TRY(unit_of(spec->linux.cgroups_path, record.id));
    record.cgroup = cgroup::Location{};
    return record;
  }
  record.cgroup = TRY(place_for_caller(spec ? spec->linux.cgroups_path : "", record.id, nullptr));
  record.has_poststop = spec && !spec->hooks.poststop.empty();
  return record;
}

Result<void> remove_groups(const state::Root& root, const state::Container& container, const state::Record& record,
                           bool lived, const OciLog& log) {
  if (record.cgroup && !record.unit && cgroup::Group::remove_if_empty(*record.cgroup)) return {};
  if (!TRY(owns_its_groups(root, record, lived))) {
    log.debug("what is in the container's control groups is another container's, and stays");
    return {};
  }
  if (record.cgroup && record.unit) return end_unit(record);
  if (container.record().unit) return end_unrecorded_unit(container);
  if (!record.cgroup) return {};
  // Everything that is left, by the groups and not by the process: it may have died before its children (attack A89).
  auto group = cgroup::Group::open(*record.cgroup);
  if (!group && sys::is_want_of_descriptors(group.error())) return std::move(group).error();
  if (group) TRY(group->kill_all(kKillDeadline));
  return cgroup::Group::remove(*record.cgroup, kKillDeadline);
}

}  // namespace

Result<void> destroy_container(state::Root& root, state::Container container, const OciGlobals& globals, bool lived) {
  const state::Record record = TRY(known(container, globals));
  std::optional<oci::Spec> spec;
  if (record.has_poststop)
    if (auto parsed = container.spec()) spec = *std::move(parsed);
  const auto init = TRY(found_init(container));
  if (init) (void)sys::signal_pidfd(init.get(), SIGKILL);
  if (init) globals.log.debug("process ", record.init.pid, " has been sent KILL");
  TRY(remove_groups(root, container, record, lived || static_cast<bool>(init), globals.log));
  if (init) TRY(wait_for_end(init.get(), record.init.pid));
  if (record.resctrl) {
    // Unmounted since: then its groups are gone with it.
    const auto resctrl = cgroup::open_resctrl();
    if (resctrl) TRY(cgroup::Resctrl{resctrl->get()}.remove(*record.resctrl));
  }
  if (record.host_root != 0) TRY(detach_host_root(record.rootfs, record.host_root));
  TRY(root.remove(std::move(container)));
  globals.log.debug("control groups and state are removed");
  if (!spec) return {};
  launch::HookState state;
  state.id = record.id;
  state.status = "stopped";
  state.bundle = record.bundle;
  state.annotations = &spec->annotations;
  // A failing poststop hook is told and does not stop the others (runtime.md "Lifecycle").
  for (const auto& hook : spec->hooks.poststop) {
    const auto ran = launch::run_hooks({hook}, "poststop", state);
    if (!ran) globals.log.warning(ran.error().text());
  }
  return {};
}

}  // namespace skink::cli
