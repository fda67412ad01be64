// SPDX-License-Identifier: Apache-2.0
// create, start, state, kill and delete of skink-oci.
#include <regex.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "base/text.h"
#include "cli/oci_groups.h"
#include "cli/oci_verbs.h"
#include "launch/hooks.h"
#include "launch/launch.h"
#include "sys/interrupt.h"

namespace skink::cli {
namespace {

using state::Status;

constexpr Option<CreateOptions> kCreateOptions[] = {
    {{"bundle", 'b', "DIR", "the bundle (default: here)"}, set_text<&CreateOptions::bundle>},
    {{"config", 'f', "FILE", "instead of the bundle's config.json"}, set_text<&CreateOptions::config>},
    {{"pid-file", 0, "FILE", "write the process id there"}, set_text<&CreateOptions::pid_file>},
    {{"console-socket", 0, "PATH", "send the terminal to this socket"}, set_text<&CreateOptions::console_socket>},
    {{"no-pivot", 0, nullptr, "chroot instead of pivot_root"}, set_switch<&CreateOptions::no_pivot>},
    {{"no-new-keyring", 0, nullptr, "keep the caller's session keyring"}, set_switch<&CreateOptions::no_new_keyring>},
    {{"preserve-fds", 0, "N", "pass descriptors 3 to 2+N on"}, set_count<&CreateOptions::preserve_fds>},
    {{"pidfd-socket", 0, "PATH", "send a pidfd of the process to this socket"}, set_text<&CreateOptions::pidfd_socket>},
    {{"no-subreaper", 0, nullptr, "accepted, without effect"}, set_nothing<CreateOptions>},
};

}  // namespace

Result<int> oci_create(const OciGlobals& globals, Arguments args) {
  CreateOptions options;
  const auto line =
      TRY(read_verb(std::span<const Option<CreateOptions>>(kCreateOptions), args, options, "create [OPTION...] ID"));
  if (line.help) return 0;
  const sys::Interrupt interrupt;
  state::Root root = TRY(state::Root::open(globals.root));
  TRY(make_container(root, globals, options, line.operands[0], true));
  return 0;
}

namespace {}  // namespace

namespace {

// Whom the program tells that it is ready, where a service manager has started us. Asked for before it is started: that
// the manager cannot be reached is told while nothing has happened yet.
Result<std::optional<NotifyRelay>> open_notify(const state::Container& container, const OciLog& log) {
  const std::string address = notify_address();
  if (address.empty()) return std::optional<NotifyRelay>{};
  if (has_notify_directory(container.dir_fd()))
    return std::optional<NotifyRelay>(TRY(NotifyRelay::open(address, container.dir_fd())));
  log.warning("NOTIFY_SOCKET: the container was made without it, so it cannot tell that it is ready");
  return std::optional<NotifyRelay>{};
}

Result<void> check_created(const state::Container& container) {
  const Status status = container.status();
  if (status == Status::created) return {};
  return Error::make(Code::busy, "container ", quoted(container.record().id), ": cannot start a container that is ",
                     to_text(status));
}

Result<void> start_opened(const state::Container& container, const OciLog& log) {
  launch::StartRequest request;
  request.dir_fd = container.dir_fd();
  request.socket_name = state::kStartSocket;
  request.spec = [&container] { return container.spec(); };
  request.id = container.record().id;
  request.bundle = container.record().bundle;
  request.init = container.record().init;
  if (container.record().cgroup) request.location = &*container.record().cgroup;
  request.trace = trace_to(log);
  TRY(launch::start_container(request));
  // Its absence says "started"; where we die before this, that nobody listens there says the same.
  (void)sys::unlink_at(container.dir_fd(), state::kStartSocket);
  container.mark_started();
  return {};
}

}  // namespace

Result<void> run_poststart(state::Root& root, state::Container container, const oci::Spec& spec, bool keep,
                           sys::SpareDescriptors& spare, const OciGlobals& globals) {
  if (spec.hooks.poststart.empty()) return {};
  const state::Record record = container.record();
  { const state::Container unlocked = std::move(container); }
  auto ran = launch::run_hooks(spec.hooks.poststart, "poststart",
                               launch::state_of(record.id, record.bundle, spec, "running", record.init.pid));
  if (ran) return {};
  spare.release();
  (void)sys::take_interrupt();
  auto found = root.find(TRY(state::ContainerId::parse(record.id)));
  // Somebody may have deleted it meanwhile, and even have made another one.
  const bool ours =
      found && found->record().init.pid == record.init.pid && found->record().init.start_time == record.init.start_time;
  if (ours && keep) end_init(*found);
  auto undone = ours && !keep ? destroy_container(root, *std::move(found), globals) : Result<void>{};
  if (!undone) ran.error().also(undone.error());
  return ran;
}

Result<int> oci_start(const OciGlobals& globals, Arguments args) {
  const auto line = TRY(read_verb(args, "start ID"));
  if (line.help) return 0;
  std::optional<NotifyRelay> notify;
  sys::ProcessIdentity init;
  UniqueFd pidfd;
  {
    auto [root, container] = TRY(open_container(globals, line.operands[0]));
    TRY(check_created(container));
    notify = TRY(open_notify(container, globals.log));
    init = container.record().init;
    // A poststart hook that fails ends the container.
    sys::SpareDescriptors spare;
    std::optional<oci::Spec> hooked;
    if (container.record().has_poststart) {
      spare = TRY(hold_for_undoing(container.record()));
      // Order: read before the program runs, as without it the hooks could not.
      hooked = TRY(container.spec());
    }
    if (notify) pidfd = TRY(container.open_init());
    TRY(start_opened(container, globals.log));
    if (hooked) TRY(run_poststart(root, std::move(container), *hooked, false, spare, globals));
  }
  // Order: without the lock, since a service may take as long as it likes, and then others must be able to end it.
  if (!notify) return 0;
  const auto waited = notify->wait(pidfd.get(), init.pid);
  if (!waited) globals.log.warning(waited.error().text());
  return 0;
}

Result<int> oci_state(const OciGlobals& globals, Arguments args) {
  const auto line = TRY(read_verb(args, "state ID"));
  if (line.help) return 0;
  const auto [root, container] = TRY(look_at_container(globals, line.operands[0]));
  const std::string text = state::dump_state(container.record(), container.status(), state::owner_of(container), true);
  TRY(sys::write_all(1, text + "\n", "standard output"));
  return 0;
}

namespace {

constexpr std::chrono::milliseconds kEndDeadline{10'000};

struct KillOptions {
  bool all = false;
};
constexpr Option<KillOptions> kKillOptions[] = {
    {{"all", 'a', nullptr, "every process of the container, also when its first one has ended"},
     set_switch<&KillOptions::all>},
};

// 0 sends nothing and only looks whether the process is there (kill(2)).
Result<int> signal_of(const VerbLine& line) {
  const std::string word = line.operands.size() == 2 ? line.operands[1] : "TERM";
  const int signal = word == "0" ? 0 : sys::parse_signal(word);
  if (signal >= 0) return signal;
  return Error::make(Code::invalid_config, "signal ", quoted(word),
                     ": use a number from 0 to 64 or a name such as TERM");
}

// How many processes there were.
Result<std::size_t> signal_group(const state::Record& record, int signal) {
  if (!record.cgroup) return std::size_t{0};
  auto group = TRY(cgroup::Group::open(*record.cgroup));
  const auto pids = TRY(group.processes());
  if (signal == SIGKILL) {
    TRY(group.kill_all(kEndDeadline));
    return pids.size();
  }
  for (const pid_t pid : pids) {
    const auto pidfd = sys::open_pidfd(pid);
    if (pidfd) (void)sys::signal_pidfd(pidfd->get(), signal);
    else if (sys::is_want_of_descriptors(pidfd.error())) return pidfd.error();
  }
  return pids.size();
}

// A frozen process takes its death only when it is let go (cgroup v1; attack A90).
void thaw(const state::Record& record) {
  if (!record.cgroup || !cgroup::is_frozen(*record.cgroup)) return;
  auto group = cgroup::Group::open(*record.cgroup);
  if (group) (void)group->thaw();
}

Result<void> kill_all(const state::Root& root, const state::Container& container, int signal) {
  const auto& record = container.record();
  const auto init = TRY(found_init(container));
  if (has_processes(record) && TRY(owns_its_groups(root, record, static_cast<bool>(init))))
    (void)TRY(signal_group(record, signal));
  // Without control groups its first process is all that is known of it.
  if (init && (!record.cgroup || signal == SIGKILL)) (void)sys::signal_pidfd(init.get(), signal);
  return {};
}

Result<void> kill_init(const state::Root& root, const state::Container& container, int signal) {
  const auto& record = container.record();
  const auto init = TRY(found_init(container));
  // A container that shares its pid namespace does not end with its first process: its group does.
  if (signal == SIGKILL && record.shares_pids && record.cgroup) {
    const bool owns = has_processes(record) && TRY(owns_its_groups(root, record, static_cast<bool>(init)));
    const std::size_t count = owns ? TRY(signal_group(record, signal)) : 0;
    if (count == 0 && !init) return not_running(record.id);
    return {};
  }
  if (!init || !sys::signal_pidfd(init.get(), signal)) return not_running(record.id);
  if (signal == SIGKILL) thaw(record);
  return {};
}

}  // namespace

// Without the lock: a command that hangs must not keep its container from being killed.
Result<int> oci_kill(const OciGlobals& globals, Arguments args) {
  KillOptions options;
  const auto line = TRY(read_verb(std::span<const Option<KillOptions>>(kKillOptions), args, options,
                                  "kill [--all] ID [SIGNAL]", {1, 2, Operands::first_ends_options}));
  if (line.help) return 0;
  const auto [root, container] = TRY(look_at_container(globals, line.operands[0]));
  const int signal = TRY(signal_of(line));
  TRY(options.all ? kill_all(root, container, signal) : kill_init(root, container, signal));
  return 0;
}

namespace {

struct DeleteOptions {
  bool force = false;
  bool regex = false;
};
constexpr Option<DeleteOptions> kDeleteOptions[] = {
    {{"force", 'f', nullptr, "end it first if it runs; an unknown container is no error"},
     set_switch<&DeleteOptions::force>},
    {{"regex", 'r', nullptr, "ID is an extended regular expression: every container that has a match"},
     set_switch<&DeleteOptions::regex>},
};

// Whatever works on the container and waits for its process (start, create) goes on when that is dead, and lets go of
// the lock. Whether that process was alive.
bool end_without_lock(const state::Root& root, const state::ContainerId& id, const OciLog& log) {
  const auto container = root.look(id);
  if (!container) return false;
  const auto init = container->open_init();
  if (!init || !sys::signal_pidfd(init->get(), SIGKILL)) return false;
  log.debug("process ", container->record().init.pid, " has been sent KILL");
  thaw(container->record());
  return true;
}

// Of a record that cannot be read, unlike one that must not be or is in use.
bool is_damage(const Error& error) {
  if (sys::is_want_of_descriptors(error)) return false;
  return error.code() != Code::not_found && error.code() != Code::denied && error.code() != Code::busy;
}

Result<void> delete_one(state::Root& root, const OciGlobals& globals, const std::string& text, bool force) {
  const auto id = TRY(state::ContainerId::parse(text));
  // All of it can be done, or nothing is.
  if (const auto looked = root.look(id)) (void)TRY(hold_for_undoing(looked->record()));
  const bool lived = force && end_without_lock(root, id, globals.log);
  auto container = root.find(id);
  if (!container && force && container.error().code() == Code::not_found) return {};
  if (!container && force && is_damage(container.error())) container = root.find_damaged(id);
  state::Container found = TRY(std::move(container));
  const Status status = found.status();
  if (!force && (status == Status::running || status == Status::paused))
    return Error::make(Code::busy, "container ", quoted(id.text()), ": cannot delete a container that is ",
                       to_text(status), "; kill it first or use --force");
  return destroy_container(root, std::move(found), globals, lived);
}

Result<std::vector<std::string>> matching(const state::Root& root, const std::string& expression) {
  regex_t compiled;
  if (::regcomp(&compiled, expression.c_str(), REG_EXTENDED | REG_NOSUB) != 0)
    return Error::make(Code::invalid_config, "--regex: ", quoted(expression), " is not an extended regular expression");
  auto names = root.list();
  if (names)
    std::erase_if(*names,
                  [&](const std::string& name) { return ::regexec(&compiled, name.c_str(), 0, nullptr, 0) != 0; });
  ::regfree(&compiled);
  return names;
}

}  // namespace

Result<int> oci_delete(const OciGlobals& globals, Arguments args) {
  DeleteOptions options;
  const auto line = TRY(read_verb(std::span<const Option<DeleteOptions>>(kDeleteOptions), args, options,
                                  "delete [--force] [--regex] ID"));
  if (line.help) return 0;
  // Order: a name that is none is said before the root is opened, which makes it.
  const std::string& text = line.operands[0];
  if (!options.regex) TRY(state::ContainerId::parse(text));
  state::Root root = TRY(state::Root::open(globals.root));
  if (!options.regex) {
    TRY(delete_one(root, globals, text, options.force));
    return 0;
  }
  // One that cannot be deleted does not keep the others.
  std::optional<Error> first;
  const auto names = TRY(matching(root, text));
  for (const auto& name : names) {
    auto deleted = delete_one(root, globals, name, options.force);
    if (deleted) continue;
    if (first) first->also(deleted.error());
    else first = std::move(deleted).error();
  }
  if (first) return *std::move(first);
  return 0;
}

}  // namespace skink::cli
