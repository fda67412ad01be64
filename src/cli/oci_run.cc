// SPDX-License-Identifier: Apache-2.0
// run of skink-oci: create, start, wait and delete in one; signals are passed on and a terminal is relayed.
#include <optional>

#include "cli/oci_foreground.h"
#include "cli/oci_verbs.h"
#include "launch/hooks.h"
#include "sys/interrupt.h"

namespace skink::cli {
namespace {

constexpr Option<CreateOptions> kRunOptions[] = {
    {{"bundle", 'b', "DIR", "the bundle (default: here)"}, set_text<&CreateOptions::bundle>},
    {{"config", 'f', "FILE", "instead of the bundle's config.json"}, set_text<&CreateOptions::config>},
    {{"pid-file", 0, "FILE", "write the process id there"}, set_text<&CreateOptions::pid_file>},
    {{"console-socket", 0, "PATH", "send the terminal to this socket"}, set_text<&CreateOptions::console_socket>},
    {{"detach", 'd', nullptr, "do not wait for its end"}, set_switch<&CreateOptions::detach>},
    {{"keep", 0, nullptr, "leave the container for delete"}, set_switch<&CreateOptions::keep>},
    {{"no-pivot", 0, nullptr, "chroot instead of pivot_root"}, set_switch<&CreateOptions::no_pivot>},
    {{"no-new-keyring", 0, nullptr, "keep the caller's session keyring"}, set_switch<&CreateOptions::no_new_keyring>},
    {{"preserve-fds", 0, "N", "pass descriptors 3 to 2+N on"}, set_count<&CreateOptions::preserve_fds>},
    {{"pidfd-socket", 0, "PATH", "send a pidfd of the process to this socket"}, set_text<&CreateOptions::pidfd_socket>},
    {{"no-subreaper", 0, nullptr, "accepted; the container is a child of this process"}, set_nothing<CreateOptions>},
};

// The lock is not held while the program runs, so that state, kill and exec work meanwhile.
Result<int> wait_and_delete(state::Root& root, const state::ContainerId& id, Made made, const CreateOptions& options,
                            Foreground& foreground, const OciGlobals& globals) {
  UniqueFd console;
  if (options.console_socket.empty()) console = std::move(made.console);
  const sys::ExitStatus status =
      TRY(foreground.wait(made.pidfd.get(), std::move(console), made.notify ? &*made.notify : nullptr));
  if (!options.keep) {
    auto container = root.find(id);
    if (container) TRY(destroy_container(root, *std::move(container), globals));
  }
  return status.shell_status();
}

// The container outlives us: the manager is to watch its process. The lock is not held while that is waited for.
Result<int> wait_until_ready(Made made, pid_t pid, const OciGlobals& globals) {
  if (!made.notify) return 0;
  const auto waited = made.notify->wait(made.pidfd.get(), pid);
  if (!waited) globals.log.warning(waited.error().text());
  return 0;
}

}  // namespace

Result<int> oci_run(const OciGlobals& globals, Arguments args) {
  CreateOptions options;
  const auto line =
      TRY(read_verb(std::span<const Option<CreateOptions>>(kRunOptions), args, options, "run [OPTION...] ID"));
  if (line.help) return 0;
  const std::string& id = line.operands[0];
  // Until it runs, what is to end it ends us, and it is taken back: nothing that hangs on the way holds a signal up.
  std::optional<sys::Interrupt> interrupt(std::in_place);
  state::Root root = TRY(state::Root::open(globals.root));
  // Order: signals are kept back before there is a process that they are meant for.
  std::optional<Foreground> foreground;
  if (!options.detach) TRY(foreground.emplace().check());
  Made made = TRY(make_container(root, globals, options, id, false));
  const pid_t pid = made.container.record().init.pid;
  TRY(run_poststart(root, std::move(made.container), made.spec, options.keep, made.spare, globals));
  made.spare.release();
  if (options.detach) interrupt.reset();
  if (options.detach) return wait_until_ready(std::move(made), pid, globals);
  return wait_and_delete(root, TRY(state::ContainerId::parse(id)), std::move(made), options, *foreground, globals);
}

}  // namespace skink::cli
