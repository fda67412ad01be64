// SPDX-License-Identifier: Apache-2.0
// skink stop, restart, kill, pause, unpause, rm: one act on each of the containers named.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "cgroup/unit.h"
#include "cli/notify.h"
#include "cli/verbs.h"
#include "sys/process.h"

namespace skink::cli {

namespace {

// ---- stop and restart ----

struct StopCommand {
  std::int64_t timeout_ns = -1;  // the container's own
  bool all = false, for_reboot = false, for_unit = false;
};

Result<void> set_timeout(StopCommand& command, std::string_view value) {
  command.timeout_ns = TRY(parse_duration_ns(value));
  return {};
}

constexpr Option<StopCommand> kStopOptions[] = {
    {{"timeout", 't', "S", "seconds before SIGKILL (default: the container's --stop-timeout)"}, set_timeout},
    {{"time", 0, "S", nullptr}, set_timeout},
    {{"all", 'a', nullptr, "every container that runs"}, set_switch<&StopCommand::all>},
    {{"for-reboot", 0, nullptr, "it stays wanted: skink heal starts it again, if its policy says so"},
     set_switch<&StopCommand::for_reboot>},
    {{"for-unit", 0, nullptr, "for good, but as with --for-reboot while systemd takes the machine down"},
     set_switch<&StopCommand::for_unit>},
};
constexpr std::size_t kOfRestart = 2;  // the first entries, which restart has too

// Side by side, so that a machine that goes down waits for the slowest and not for the sum. What fails is told in the
// order of the list; a child carries no more than one bit back, so it tells its own failure.
int stop_all(Context& context, const StopCommand& command, StopKind kind) {
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto containers = engine->list();
  if (!containers) return context.fail(containers.error());
  std::vector<std::pair<pid_t, std::string>> children;
  for (const auto& container : *containers) {
    if (container.supervisor_pid == 0) continue;
    const pid_t child = ::fork();
    if (child < 0) return context.fail(Error::from_errno(errno, "fork"));
    if (child != 0) {
      children.emplace_back(child, container.name);
      continue;
    }
    const auto stopped = engine->stop(container.id, command.timeout_ns, kind);
    if (!stopped) context.fail(Error(stopped.error()).context(container.name));
    ::_exit(stopped ? 0 : 1);
  }
  int status = 0;
  for (const auto& [child, name] : children) {
    int ended = 0;
    while (::waitpid(child, &ended, 0) < 0 && errno == EINTR) {
    }
    if (ended == 0) context.say(name);
    else status = 1;
  }
  return status;
}

// systemd runs the same ExecStop for `systemctl stop`, which is somebody's wish, and at the machine's end, which is
// not.
StopKind kind_of(Context& context, const StopCommand& command) {
  if (command.for_reboot) return StopKind::for_reboot;
  if (!command.for_unit) return StopKind::for_good;
  const auto down = cgroup::is_going_down();
  if (!down)
    context.note(str("--for-unit: whether the machine goes down cannot be told, so it is a stop for good: ",
                     down.error().text()));
  return down && *down ? StopKind::for_reboot : StopKind::for_good;
}

int run_stop(Context& context, Arguments args) {
  StopCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<StopCommand>(context, kStopOptions, args, command, names, {0, kAnyNumber}))
    return *status;
  if (command.all && !names.empty())
    return context.misuse(Error::make(Code::invalid_config, "--all takes no CONTAINER"));
  if (!command.all)
    if (auto fits = check_count(names, {1, kAnyNumber}); !fits) return context.misuse(fits.error());
  const StopKind kind = kind_of(context, command);
  // A container may take as long as it was given, and no stop is without an end. man 3 sd_notify.
  if (command.for_unit)
    if (auto told = notify_service("EXTEND_TIMEOUT_USEC=31622400000000"); !told) context.note(told.error().text());
  if (command.all) return stop_all(context, command, kind);
  return for_each_container(
      context, names, [&](Engine& engine, const std::string& id) { return engine.stop(id, command.timeout_ns, kind); });
}

int run_restart(Context& context, Arguments args) {
  StopCommand command;
  std::vector<std::string> names;
  const auto options = std::span(kStopOptions).first<kOfRestart>();
  if (auto status = read_arguments<StopCommand>(context, options, args, command, names, {1, kAnyNumber}))
    return *status;
  return for_each_container(
      context, names, [&](Engine& engine, const std::string& id) { return engine.restart(id, command.timeout_ns); });
}

// ---- kill ----

struct KillCommand {
  int signal = 9;
};

constexpr Option<KillCommand> kKillOptions[] = {
    {{"signal", 's', "SIG", "name or number (default SIGKILL)"},
     [](KillCommand& command, std::string_view value) -> Result<void> {
       command.signal = sys::parse_signal(value);
       if (command.signal > 0) return {};
       return Error::make(Code::invalid_config, quoted(value), " is not a signal");
     }},
};

int run_kill(Context& context, Arguments args) {
  KillCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<KillCommand>(context, kKillOptions, args, command, names, {1, kAnyNumber}))
    return *status;
  return for_each_container(context, names,
                            [&](Engine& engine, const std::string& id) { return engine.kill(id, command.signal); });
}

// ---- pause and unpause ----

int act_plainly(Context& context, Arguments args, Result<void> (Engine::*act)(const std::string&)) {
  NoOptions none;
  std::vector<std::string> names;
  if (auto status = read_arguments<NoOptions>(context, {}, args, none, names, {1, kAnyNumber})) return *status;
  return for_each_container(context, names, [&](Engine& engine, const std::string& id) { return (engine.*act)(id); });
}

int run_pause(Context& context, Arguments args) { return act_plainly(context, args, &Engine::pause); }
int run_unpause(Context& context, Arguments args) { return act_plainly(context, args, &Engine::unpause); }

// ---- rm ----

struct RmCommand {
  bool force = false;
};

constexpr Option<RmCommand> kRmOptions[] = {
    {{"force", 'f', nullptr, "kill it first; one that does not exist is no failure"}, set_switch<&RmCommand::force>},
    {{"volumes", 'v', nullptr, nullptr}, set_nothing<RmCommand>},  // an image's volumes die with the container anyway
};

// With --force, one that went by itself in the meantime (--rm, another rm) is as good as removed.
Result<void> remove_whole(Engine& engine, const std::string& id, bool force) {
  auto removed = engine.remove(id, force);
  if (removed || !force || removed.error().code() != Code::not_found) return removed;
  const auto still = engine.resolve(id);
  return still ? std::move(removed) : Result<void>{};
}

int run_rm(Context& context, Arguments args) {
  RmCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<RmCommand>(context, kRmOptions, args, command, names, {1, kAnyNumber}))
    return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  int status = 0;
  for (const auto& name : names) {
    const auto id = engine->resolve(name);
    if (!id) {
      context.fail(id.error());
      // One whose record cannot be reached is not gone.
      if (!command.force || id.error().code() != Code::not_found || !engine->strays().empty()) status = 1;
    } else if (auto removed = remove_whole(*engine, *id, command.force); !removed) {
      status = context.fail(removed.error().context(name));
    } else {
      context.say(name);
    }
  }
  return status;
}

}  // namespace

const Verb kStopVerb{
    "stop",
    "[OPTIONS] CONTAINER...",
    "Stop containers",
    R"(Sends the container's stop signal, waits, and kills what is left. A container that is
stopped stays stopped, whatever its restart policy, until skink start; with the policy always,
until the next boot. One that is being launched and does not get on with that for 10 s, since
a hook or a mount hangs, is ended in it. The name is printed as given.

With --for-reboot it only stops for now: skink heal, which runs at boot, starts it again by
the policies always and unless-stopped. skink-shutdown.service does that for all. With --for-unit
a stop is for good, but while systemd takes the machine down it is as with --for-reboot:
skink@.service asks so, as systemctl stop is somebody's wish and the machine's end is not; it is
told to wait as long as that takes (NOTIFY_SOCKET).

Exit status: 0; 1 if any container could not be stopped (the others are).

Examples:
  skink stop -t 3 web
  skink stop --all --for-reboot
)",
    1,
    run_stop,
};

const Verb kRestartVerb{
    "restart",
    "[OPTIONS] CONTAINER...",
    "Stop containers and start them again",
    R"(The new run starts from the image again. The name is printed as given.

Exit status: 0; 1 if any container could not be restarted (the others are).

Example:
  skink restart web
)",
    1,
    run_restart,
};

const Verb kKillVerb{
    "kill",
    "[OPTIONS] CONTAINER...",
    "Send a signal to containers",
    R"(The signal goes to the container's first process. SIGKILL and the container's stop signal
mean that it shall end: it is not relaunched, whatever its restart policy. After any other
signal that ends it the policy decides. The name is printed as given.

Exit status: 0; 1 if any container could not be signalled (the others are).

Examples:
  skink kill web
  skink kill -s HUP web
)",
    1,
    run_kill,
};

const Verb kPauseVerb{
    "pause",
    "CONTAINER...",
    "Freeze every process of containers",
    R"(The name is printed as given. skink unpause thaws them; skink stop and skink kill work on
paused containers too.

Exit status: 0; 1 if any container could not be paused (the others are).
)",
    1,
    run_pause,
};

const Verb kUnpauseVerb{
    "unpause",
    "CONTAINER...",
    "Thaw paused containers",
    R"(The name is printed as given.

Exit status: 0; 1 if any container could not be thawed (the others are).
)",
    1,
    run_unpause,
};

const Verb kRmVerb{
    "rm",
    "[OPTIONS] CONTAINER...",
    "Remove containers",
    R"(Removes the record, the logs and whatever a crash may have left of a container that is not
running. The name is printed as given.

Exit status: 0; 1 if any container could not be removed (the others are). One that does not
exist is no failure with --force, unless a container runs whose record cannot be reached.

Examples:
  skink rm web
  skink rm -f $(skink ps -aq)
)",
    1,
    run_rm,
};

}  // namespace skink::cli
