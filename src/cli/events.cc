// SPDX-License-Identifier: Apache-2.0
// skink events: what happens to containers and images.
#include <array>

#include "base/text.h"
#include "cli/event_json.h"
#include "cli/listing.h"
#include "cli/times.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "supervise/event_reader.h"

namespace skink::cli {

namespace {

using supervise::Event;

struct EventsCommand {
  std::optional<std::int64_t> since_ns, until_ns;
  std::vector<EventFilter> filters;
  Format format;
  bool no_follow = false;
};

constexpr Option<EventsCommand> kEventsOptions[] = {
    {{"filter", 'f', "KEY=VALUE", "container=, event=, type=, image= or label=; may be repeated"},
     [](EventsCommand& c, std::string_view v) -> Result<void> {
       c.filters.push_back(TRY(parse_event_filter(v)));
       return {};
     }},
    {{"format", 0, "FORMAT", "json (an object a line), or a template such as '{{.Action}} {{.name}}'"},
     [](EventsCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       if (c.format.kind == Format::Kind::table_of_lines)
         return Error::make(Code::invalid_config, "a table has no end to wait for; leave the word table away");
       return {};
     }},
    {{"no-follow", 0, nullptr, "end after what is on record"}, set_switch<&EventsCommand::no_follow>},
    {{"since", 0, "T", "from then on: 10m (ago), 2026-11-23T03:34:23Z (no zone: UTC), Unix seconds"},
     [](EventsCommand& c, std::string_view v) -> Result<void> {
       c.since_ns = TRY(parse_time(v, fs::now_ns()));
       return {};
     }},
    {{"until", 0, "T", "up to a time, in the same forms; one that has passed ends at once"},
     [](EventsCommand& c, std::string_view v) -> Result<void> {
       c.until_ns = TRY(parse_time(v, fs::now_ns()));
       return {};
     }},
};

class Printer {
 public:
  Printer(Context& context, const EventsCommand& command, std::int64_t since_ns)
      : context_(context), command_(command), since_ns_(since_ns) {}

  void operator()(const Event& event) {
    if (trouble_ || event.time_ns < since_ns_) return;
    if (command_.until_ns && event.time_ns > *command_.until_ns) return;
    if (!fits(event, command_.filters)) return;
    auto line = render(event);
    if (line) context_.say(*line);
    else trouble_ = std::move(line.error());
  }
  /// All from now on: what comes is new, whatever time it was given when the clock was set back.
  void forget_since() { since_ns_ = 0; }
  [[nodiscard]] const std::optional<Error>& trouble() const { return trouble_; }

 private:
  Result<std::string> render(const Event& event) const {
    if (command_.format.kind == Format::Kind::table) return event_line(event);
    const oci::Json json = event_json(event);
    if (command_.format.kind == Format::Kind::json) return json_line(json);
    const oci::Json docker = docker_event_json(event);
    return command_.format.lines->render(std::array<const oci::Json*, 2>{&json, &docker});
  }

  Context& context_;
  const EventsCommand& command_;
  std::int64_t since_ns_;
  std::optional<Error> trouble_;
};

Result<void> show(supervise::EventReader& reader, Printer& printer, const EventsCommand& command, Context& context) {
  const bool follows = !command.no_follow && (!command.until_ns || *command.until_ns > fs::now_ns());
  for (bool more = true;;) {
    reader.read([&](const Event& event) { printer(event); });
    if (!command.since_ns) printer.forget_since();
    if (printer.trouble()) return Error(*printer.trouble()).context("--format");
    // Order: looked once more after the end has come, for what was written until then.
    if (!follows || !more || context.out().trouble()) return {};
    more = TRY(reader.wait(command.until_ns.value_or(0), 1));
  }
}

int run_events(Context& context, Arguments args) {
  EventsCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<EventsCommand>(context, kEventsOptions, args, command, none, {0, 0})) return *status;
  // As docker: who only follows is not told of what was before.
  const bool from_now = !command.since_ns && !command.until_ns && !command.no_follow;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  const std::int64_t since_ns = from_now ? fs::now_ns() : command.since_ns.value_or(0);
  auto reader = supervise::EventReader::open(engine->options().run);
  if (!reader) return context.fail(reader.error());
  Printer printer(context, command, since_ns);
  const auto shown = show(*reader, printer, command, context);
  return shown ? 0 : context.fail(shown.error());
}

}  // namespace

const Verb kEventsVerb{
    "events",
    "[OPTIONS]",
    "Follow what happens to containers and images",
    R"(Prints each event as it happens, until the reader goes away or --until has come. With --since,
--until or --no-follow also what is on record: the latest some thousand events since the boot,
those of containers that are removed too.

Of containers: create, start, restart (a relaunch; its number and the delay before it), die
(exit_code, signal, oom), oom, fail (it could not be launched), waiting (for the next try),
give_up (why it is not relaunched), stop, kill (signal), pause, unpause, update,
health_status (healthy or unhealthy), ready, exec_create, exec_start, exec_die,
supervisor_replaced, guard_replaced, cri_log_behind, destroy. Of images: load, tag, untag,
delete. More may come.

Filters with the same key: any of them; with different keys, and labels: all of them.
container= is a name or the beginning of an id; image= a name, with or without its tag.

Templates know docker's names (.Type .Action .Actor.ID .Actor.Attributes .timeNano) and those
of --format json, which skink-json(5) describes.

Exit status: 0; 1 on failure.

Examples:
  skink events --filter event=die --format '{{.name}} {{json .attributes}}'
  skink events --since 10m --no-follow --filter container=web
)",
    1,
    run_events,
};

}  // namespace skink::cli
