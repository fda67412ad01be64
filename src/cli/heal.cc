// SPDX-License-Identifier: Apache-2.0
// skink heal: brings back what should run.
#include "base/text.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct HealCommand {
  bool quiet = false;
  Format format;
};

constexpr Option<HealCommand> kHealOptions[] = {
    {{"format", 0, "FORMAT", "json, or a template such as '{{.Name}} {{.Action}}'"},
     [](HealCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"quiet", 'q', nullptr, "say nothing of what went well"}, set_switch<&HealCommand::quiet>},
};

// A damaged container may have lost its name.
std::string name_of(const Healed& healed) { return healed.name.empty() ? short_id(healed.id) : healed.name; }

std::string words_for(Healed::Deed deed) {
  switch (deed) {
    case Healed::Deed::adopted: return "is under supervision again";
    case Healed::Deed::started: return "was started";
    case Healed::Deed::removed: return "was removed (--rm), as its run is over";
    case Healed::Deed::recorded: return "ended unseen; its restart policy does not bring it back";
    case Healed::Deed::cleaned: return "was cleared of what an interrupted run had left";
    case Healed::Deed::failed: break;
  }
  return "could not be brought back";
}

Item describe(const Healed& healed) {
  const std::string error = healed.error ? printable(healed.error->text()) : "";
  Item item;
  item.json = oci::Json{{"id", healed.id}, {"name", healed.name}, {"action", to_text(healed.deed)}};
  if (healed.error) item.json["error"] = error;
  item.docker = oci::Json{
      {"ID", short_id(healed.id)}, {"Name", name_of(healed)}, {"Action", to_text(healed.deed)}, {"Error", error}};
  item.row = {short_id(healed.id), name_of(healed), std::string(to_text(healed.deed))};
  return item;
}

int run_heal(Context& context, Arguments args) {
  HealCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<HealCommand>(context, kHealOptions, args, command, none, {0, 0})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto report = engine->heal();
  if (!report) return context.fail(report.error());
  int status = 0;
  std::vector<Item> items;
  for (const Healed& healed : *report) {
    items.push_back(describe(healed));
    if (healed.error) status = context.fail(Error(*healed.error).context(printable(name_of(healed))));
    else if (command.format.kind == Format::Kind::table && !command.quiet)
      context.say(str(printable(name_of(healed)), ' ', words_for(healed.deed)));
  }
  if (command.format.kind == Format::Kind::table) return status;
  auto text = render_list(command.format, {"CONTAINER ID", "NAME", "ACTION"}, items);
  if (!text) return context.fail(text.error().context("--format"));
  context.out().print(*text);
  return status;
}

}  // namespace

const Verb kHealVerb{
    "heal",
    "[OPTIONS]",
    "Bring back the containers that should run",
    R"(For after a boot, and for whenever guards and supervisors were killed; it can be run at any
time, and where nothing is wrong it does nothing. skink-heal.service runs it at boot.

A container that runs without its guard and supervisor gets both again and is not disturbed.
One that ran when the machine went down is started by the policies always and unless-stopped,
not by on-failure and no. One that was stopped with skink stop stays stopped; with always only
until the next boot; and so does what its own policy has given up (--restart-budget,
--restart-never-on), until it is started or the next boot. What a former boot or an
interrupted command has left is cleared away, and a container of --rm whose run is over is
removed. Process numbers of a former boot are never used.

A line is printed for each container that something was done about. --format json has id,
name, action (adopted, started, removed, recorded, cleaned, failed) and error.

Exit status: 0 when everything runs that should; 1 if any container could not be brought back
or has damaged files (the others are seen to, and each failure has its line).

Examples:
  skink heal
  skink heal --format json
)",
    1,
    run_heal,
};

}  // namespace skink::cli
