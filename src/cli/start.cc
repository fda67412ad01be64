// SPDX-License-Identifier: Apache-2.0
// skink start: containers that were created or have stopped.
#include "cli/attach.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct StartCommand {
  bool attach = false;
  bool interactive = false;
};

constexpr Option<StartCommand> kOptions[] = {
    {{"attach", 'a', nullptr, "stay attached to its output and exit with its status"},
     set_switch<&StartCommand::attach>},
    {{"interactive", 'i', nullptr, "pass standard input on; implies --attach"}, set_switch<&StartCommand::interactive>},
};

int start_attached(Context& context, const StartCommand& command, const std::string& name) {
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto id = engine->resolve(name);
  if (!id) return context.fail(id.error());
  auto info = engine->info(*id);
  if (!info) return context.fail(info.error());
  const Foreground foreground{
      *id, name, {.stdin_open = command.interactive, .tty = info->tty, .forward_signals = true}};
  return run_in_foreground(context, *engine, foreground);
}

int run(Context& context, Arguments args) {
  StartCommand command;
  std::vector<std::string> names;
  const Count count{1, kAnyNumber};
  if (auto status = read_arguments<StartCommand>(context, kOptions, args, command, names, count)) return *status;
  if (!command.attach && !command.interactive)
    return for_each_container(context, names, [](Engine& engine, const std::string& id) { return engine.start(id); });
  if (names.size() > 1)
    return context.misuse(Error::make(Code::invalid_config, "--attach takes one container, not ", names.size()));
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
container's own, or 125, 126, 127 as for skink run.

Examples:
  skink start web
  skink start -ai shell
)",
    kOwnFailure,
    run,
};

}  // namespace skink::cli
