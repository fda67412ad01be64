// SPDX-License-Identifier: Apache-2.0
// skink start: containers that were created or have stopped.
#include "base/text.h"
#include "cli/attach.h"
#include "cli/human.h"
#include "cli/notify.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct StartCommand {
  bool attach = false;
  bool interactive = false;
  bool notify = false;
};

constexpr Option<StartCommand> kStartOptions[] = {
    {{"attach", 'a', nullptr, "stay attached to its output and exit with its status"},
     set_switch<&StartCommand::attach>},
    {{"interactive", 'i', nullptr, "pass standard input on; implies --attach"}, set_switch<&StartCommand::interactive>},
    {{"notify", 0, nullptr, "attach, and tell systemd when it runs (sd_notify); for skink@.service"},
     set_switch<&StartCommand::notify>},
};

bool is_ready(const ContainerInfo& info) {
  switch (info.ready_by) {
    case ReadyBy::conmon: return info.phase == Phase::running || info.phase == Phase::paused;
    case ReadyBy::container: return info.ready.value_or(false);
    case ReadyBy::healthy: return info.health == "healthy";
    case ReadyBy::ignore: break;
  }
  return false;
}

// READY once it is, and what systemctl status shows as Status.
std::string state_for_service(const ContainerInfo& info) {
  return str(is_ready(info) ? "READY=1\n" : "", "STATUS=", printable(info.image), " as process ", info.pid,
             relaunches_text(info.restarts), info.said.empty() ? "" : ": ", printable(info.said));
}

// What comes after READY=1 of an earlier run changes nothing for systemd but the text.
void tell_service(Context& context, const Engine& engine, const std::string& id) {
  const auto info = engine.info(id);
  if (!info || info->ready_by == ReadyBy::ignore || info->pid == 0) return;
  if (auto told = notify_service(state_for_service(*info)); !told) context.note(told.error().text());
}

int start_attached(Context& context, const StartCommand& command, const std::string& name) {
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto id = engine->resolve(name);
  if (!id) return context.fail(id.error());
  auto info = engine->info(*id);
  if (!info) return context.fail(info.error());
  Foreground foreground{*id,
                        name,
                        {.stdin_open = command.interactive,
                         .tty = info->tty,
                         .forward_signals = true,
                         .on_running = {},
                         .on_change = {},
                         .detach_keys = std::string(command.notify ? "" : kUsualDetachKeys)}};
  if (command.notify) {
    foreground.attach.stopped_is_success = true;
    foreground.attach.on_running = foreground.attach.on_change = [&] { tell_service(context, *engine, *id); };
  }
  return run_in_foreground(context, *engine, foreground);
}

int run_start(Context& context, Arguments args) {
  StartCommand command;
  std::vector<std::string> names;
  const Count count{1, kAnyNumber};
  if (auto status = read_arguments<StartCommand>(context, kStartOptions, args, command, names, count)) return *status;
  if (!command.attach && !command.interactive && !command.notify)
    return for_each_container(context, names, [](Engine& engine, const std::string& id) { return engine.start(id); });
  if (names.size() > 1)
    return context.misuse(
        Error::make(Code::invalid_config, "--attach and --notify take one container, not ", names.size()));
  return start_attached(context, command, names[0]);
}

}  // namespace

const Verb kStartVerb{
    "start",
    "[OPTIONS] CONTAINER...",
    "Start containers that were created or have stopped",
    R"(Each starts from its image again; nothing of an earlier run is left in its root file
system. A container that is already running is left alone. The name is printed as given.

Exit status: 0; 1 if any container could not be started (the others are); with --attach the
container's own, or 125, 126, 127 as for skink run. With --notify also 0 when it was stopped;
when systemd hears READY=1 is for the container's --sdnotify to say.

Examples:
  skink start web
  skink start -ai shell
)",
    kOwnFailure,
    run_start,
};

}  // namespace skink::cli
