// SPDX-License-Identifier: Apache-2.0
// create, start, state, kill and delete of skink-oci.
#include <unistd.h>

#include <csignal>

#include "base/text.h"
#include "cli/oci_verbs.h"
#include "launch/hooks.h"
#include "launch/launch.h"

namespace skink::cli {
namespace {

using state::Status;

constexpr Option<CreateOptions> kCreateOptions[] = {
    {{"bundle", 'b', "DIR", "the bundle (default: here)"}, set_text<&CreateOptions::bundle>},
    {{"pid-file", 0, "FILE", "write the process id there"}, set_text<&CreateOptions::pid_file>},
    {{"console-socket", 0, "PATH", "send the terminal to this socket"}, set_text<&CreateOptions::console_socket>},
    {{"no-pivot", 0, nullptr, "chroot instead of pivot_root"}, set_switch<&CreateOptions::no_pivot>},
    {{"no-new-keyring", 0, nullptr, "keep the caller's session keyring"}, set_switch<&CreateOptions::no_new_keyring>},
    {{"preserve-fds", 0, "N", "pass descriptors 3 to 2+N on"}, set_count<&CreateOptions::preserve_fds>},
    {{"pidfd-socket", 0, "PATH", "send a pidfd of the process to this socket"}, set_text<&CreateOptions::pidfd_socket>},
};

struct NoOptions {};
constexpr std::span<const Option<NoOptions>> kNoOptions;

struct Opened {
  state::Root root;
  state::Container container;
};
Result<Opened> open_container(const OciGlobals& globals, const std::string& text) {
  const auto id = TRY(state::ContainerId::parse(text));
  state::Root root = TRY(state::Root::open(globals.root));
  auto container = TRY(root.find(id));
  return Opened{std::move(root), std::move(container)};
}

}  // namespace

Result<int> oci_create(const OciGlobals& globals, Arguments args) {
  CreateOptions options;
  const auto id = TRY(read_id(std::span<const Option<CreateOptions>>(kCreateOptions), args, options,
                              "create [--bundle DIR] [--pid-file FILE] ID"));
  state::Root root = TRY(state::Root::open(globals.root));
  TRY(make_container(root, globals, options, id, true));
  return 0;
}

Result<int> oci_start(const OciGlobals& globals, Arguments args) {
  NoOptions none;
  auto [root, container] = TRY(open_container(globals, TRY(read_id(kNoOptions, args, none, "start ID"))));
  const Status status = container.status();
  if (status != Status::created)
    return Error::make(Code::busy, "container ", quoted(container.record().id), ": cannot start a container that is ",
                       to_text(status));
  const oci::Spec spec = TRY(container.spec());
  launch::StartRequest request;
  request.dir_fd = container.dir_fd();
  request.socket_name = state::kStartSocket;
  request.spec = &spec;
  request.id = container.record().id;
  request.bundle = container.record().bundle;
  request.init = container.record().init;
  TRY(launch::start_container(request));
  launch::HookState hook_state;
  hook_state.id = container.record().id;
  hook_state.status = "running";
  hook_state.bundle = container.record().bundle;
  hook_state.pid = container.record().init.pid;
  hook_state.annotations = &spec.annotations;
  const auto ran = launch::run_hooks(spec.hooks.poststart, "poststart", hook_state);
  if (ran) return 0;
  // Runtime-spec 1.3: a failing poststart hook stops the container; it stays until it is deleted.
  end_init(container);
  return ran.error();
}

Result<int> oci_state(const OciGlobals& globals, Arguments args) {
  NoOptions none;
  const auto [root, container] = TRY(open_container(globals, TRY(read_id(kNoOptions, args, none, "state ID"))));
  const auto spec = container.spec();
  const std::string text =
      state::dump_state(container.record(), container.status(), spec ? spec->annotations : oci::Annotations{});
  TRY(sys::write_all(1, text + "\n", "standard output"));
  return 0;
}

namespace {

struct KillOptions {
  bool all = false;
};
constexpr Option<KillOptions> kKillOptions[] = {
    {{"all", 'a', nullptr, "every process of the container"}, set_switch<&KillOptions::all>},
};

Result<void> signal_group(const state::Record& record, int signal) {
  if (!record.cgroup) return {};
  auto group = TRY(cgroup::Group::open(*record.cgroup));
  if (signal == SIGKILL) return group.kill_all(std::chrono::milliseconds(10'000));
  for (const pid_t pid : TRY(group.processes())) {
    const auto pidfd = sys::open_pidfd(pid);
    if (pidfd) (void)sys::signal_pidfd(pidfd->get(), signal);
  }
  return {};
}

bool shares_pids(const state::Container& container) {
  const auto spec = container.spec();
  if (!spec) return false;
  const auto* ns = spec->find_namespace(oci::NamespaceType::pid);
  return ns == nullptr || !ns->path.empty();
}

}  // namespace

Result<int> oci_kill(const OciGlobals& globals, Arguments args) {
  KillOptions options;
  const auto line =
      TRY(parse_options(std::span<const Option<KillOptions>>(kKillOptions), args, Operands::anywhere, options));
  if (line.operands.empty() || line.operands.size() > 2)
    return Error::make(Code::invalid_config, "usage: skink-oci kill [--all] ID [SIGNAL]");
  const std::string word = line.operands.size() == 2 ? line.operands[1] : "TERM";
  const int signal = sys::parse_signal(word);
  if (signal < 0)
    return Error::make(Code::invalid_config, "signal ", quoted(word),
                       ": use a number from 1 to 64 or a name such as TERM");
  const auto [root, container] = TRY(open_container(globals, line.operands[0]));
  // A container that shares its pid namespace does not end with its init: its group does.
  const bool whole = options.all || (signal == SIGKILL && shares_pids(container));
  const auto init = container.open_init();
  if (whole) TRY(signal_group(container.record(), signal));
  if (!init) {
    if (whole) return 0;
    return Error::make(Code::not_found, "container ", quoted(container.record().id), ": container not running");
  }
  if (!options.all || signal == SIGKILL) {
    const auto sent = sys::signal_pidfd(init->get(), signal);
    if (!sent && !whole)
      return Error::make(Code::not_found, "container ", quoted(container.record().id), ": container not running");
  }
  return 0;
}

namespace {
struct DeleteOptions {
  bool force = false;
};
constexpr Option<DeleteOptions> kDeleteOptions[] = {
    {{"force", 'f', nullptr, "end it first if it runs; an unknown container is no error"},
     set_switch<&DeleteOptions::force>},
};
}  // namespace

Result<int> oci_delete(const OciGlobals& globals, Arguments args) {
  DeleteOptions options;
  const auto text =
      TRY(read_id(std::span<const Option<DeleteOptions>>(kDeleteOptions), args, options, "delete [--force] ID"));
  const auto id = TRY(state::ContainerId::parse(text));
  state::Root root = TRY(state::Root::open(globals.root));
  auto container = root.find(id);
  if (!container && options.force && container.error().code() == Code::not_found) return 0;
  state::Container found = TRY(std::move(container));
  const Status status = found.status();
  if (!options.force && (status == Status::running || status == Status::paused))
    return Error::make(Code::busy, "container ", quoted(id.text()), ": cannot delete a container that is ",
                       to_text(status), "; kill it first or use --force");
  TRY(destroy_container(root, std::move(found)));
  return 0;
}

}  // namespace skink::cli
