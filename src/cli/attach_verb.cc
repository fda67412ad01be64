// SPDX-License-Identifier: Apache-2.0
// skink attach: back to the streams of a container that runs.
#include "base/text.h"
#include "cli/attach.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct AttachCommand {
  bool no_stdin = false;
  bool forward_signals = true;
  std::string detach_keys = std::string(kUsualDetachKeys);
};

constexpr Option<AttachCommand> kAttachOptions[] = {
    {{"no-stdin", 0, nullptr, "do not pass standard input on"}, set_switch<&AttachCommand::no_stdin>},
    {{"sig-proxy", 0, nullptr, "pass signals on (default true)"}, set_switch<&AttachCommand::forward_signals>},
    {{"detach-keys", 0, "KEYS", "what lets go of it (default ctrl-p,ctrl-q)"},
     [](AttachCommand& c, std::string_view v) -> Result<void> {
       c.detach_keys = TRY(parse_detach_keys(v));
       return {};
     }},
};

int run_attach(Context& context, Arguments args) {
  AttachCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<AttachCommand>(context, kAttachOptions, args, command, names, {1, 1}))
    return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error(), kOwnFailure);
  auto id = engine->resolve(names[0]);
  if (!id) return context.fail(id.error(), kOwnFailure);
  auto info = engine->info(*id);
  if (!info) return context.fail(info.error(), kOwnFailure);
  if (info->phase != Phase::running && info->phase != Phase::paused && info->phase != Phase::restarting)
    return context.fail(
        Error::make(Code::busy, "container ", printable(names[0]), " is not running; skink start -a starts it"),
        kOwnFailure);
  const AttachOptions attach{.stdin_open = !command.no_stdin,
                             .tty = info->tty,
                             .forward_signals = command.forward_signals,
                             .on_running = {},
                             .on_change = {},
                             .detach_keys = command.detach_keys,
                             .stopped_is_success = false,
                             .only_running = true};
  if (auto fine = check_terminal(attach); !fine) return context.fail(fine.error(), kOwnFailure);
  return run_in_foreground(context, *engine, {*id, names[0], attach});
}

}  // namespace

const Verb kAttachVerb{
    "attach",
    "[OPTIONS] CONTAINER",
    "Show what a running container writes, and type to it",
    R"(What it has written before is in skink logs. Several can be attached at once; one that does
not read is not waited for. Standard input goes to a container that was made with -i, as
long as nobody else has it; a terminal takes it from everybody. Signals go to the program.
With a terminal the keys ctrl-p ctrl-q let go of the container, which goes on.

Exit status: the program's, when it has ended; 0 when it was let go of; 125 when skink itself
failed.

Examples:
  skink attach web
  skink attach --no-stdin --sig-proxy=false web
)",
    kOwnFailure,
    run_attach,
};

}  // namespace skink::cli
