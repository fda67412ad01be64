// SPDX-License-Identifier: Apache-2.0
// skink ps: containers and what they are doing.
#include "cli/ps.h"

#include "base/text.h"
#include "cli/container_json.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

struct PsCommand {
  bool all = false, quiet = false, whole = false, latest = false;
  std::vector<Filter> filters;
  Format format;
  std::optional<std::size_t> last;
};

constexpr Option<PsCommand> kPsOptions[] = {
    {{"all", 'a', nullptr, "also those that were only created or have exited"}, set_switch<&PsCommand::all>},
    {{"filter", 'f', "KEY=VALUE", "name=, status=, label=, ancestor=, id= or exited=; may be repeated"},
     [](PsCommand& c, std::string_view v) -> Result<void> {
       c.filters.push_back(TRY(parse_filter(v)));
       return {};
     }},
    {{"format", 0, "FORMAT", "table, json, or a template such as '{{.ID}}\\t{{.Names}}'"},
     [](PsCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"last", 'n', "N", "the N newest, in any state"},
     [](PsCommand& c, std::string_view v) -> Result<void> {
       c.last = parse_int<std::size_t>(v);
       if (!c.last) return Error::make(Code::invalid_config, skink::quoted(v), " is not a number");
       return {};
     }},
    {{"latest", 'l', nullptr, "the newest, in any state"}, set_switch<&PsCommand::latest>},
    {{"no-trunc", 0, nullptr, "whole ids and commands"}, set_switch<&PsCommand::whole>},
    {{"quiet", 'q', nullptr, "ids only"}, set_switch<&PsCommand::quiet>},
};

bool asks_for_state(const std::vector<Filter>& filters) {
  for (const Filter& filter : filters)
    if (filter.key == Filter::Key::status || filter.key == Filter::Key::exited) return true;
  return false;
}

std::vector<ContainerInfo> choose(const PsCommand& command, std::vector<ContainerInfo> containers, Engine& engine) {
  const auto image_id_of = [&engine](const std::string& name) {
    const auto image = engine.images().find(name);
    return image ? image->id.text() : std::string();
  };
  const std::size_t most = command.latest ? 1 : command.last.value_or(containers.size());
  const bool any_state = command.all || command.latest || command.last || asks_for_state(command.filters);
  std::vector<ContainerInfo> chosen;
  for (auto& container : containers) {
    if (chosen.size() == most) break;
    if ((any_state || is_active(container)) && fits(container, command.filters, image_id_of))
      chosen.push_back(std::move(container));
  }
  return chosen;
}

// Only what the format shows is made: a thousand containers are listed in no time.
Item describe(const ContainerInfo& container, const PsCommand& command, std::int64_t now_ns) {
  Item item;
  if (command.format.kind != Format::Kind::table) item.json = container_json(container, now_ns);
  if (command.format.lines) item.docker = docker_ps_json(container, now_ns, command.whole);
  if (command.format.kind != Format::Kind::table) return item;
  item.row = {command.whole ? printable(container.id) : short_id(container.id),
              shortened(container.name, 0),
              shortened(container.image, command.whole ? 0 : 40),
              command_text(container.command, command.whole ? 0 : 20),
              human_ago(container.created_ns, now_ns),
              status_text(container, now_ns),
              str(container.restarts)};
  return item;
}

int run_ps(Context& context, Arguments args) {
  PsCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<PsCommand>(context, kPsOptions, args, command, none, {0, 0})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto containers = engine->list();
  if (!containers) return context.fail(containers.error());
  // A list without what runs is none that a script should go by.
  const std::string strays = engine->strays();
  if (!strays.empty()) context.note(strays);
  const int status = strays.empty() ? 0 : 1;
  const auto chosen = choose(command, std::move(*containers), *engine);
  if (command.quiet) {
    std::string ids;
    for (const auto& container : chosen)
      ids += str(command.whole ? printable(container.id) : short_id(container.id), '\n');
    context.out().print(ids);
    return status;
  }
  std::vector<Item> items;
  const std::int64_t now_ns = fs::now_ns();
  for (const auto& container : chosen) items.push_back(describe(container, command, now_ns));
  const Row heading{"CONTAINER ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "RESTARTS"};
  auto text = render_list(command.format, heading, items);
  if (!text) return context.fail(text.error().context("--format"));
  context.out().print(*text);
  return status;
}

}  // namespace

const Verb kPsVerb{
    "ps",
    "[OPTIONS]",
    "List containers",
    R"(Shows what runs, is paused or waits for its next try; -a shows all. Newest first.

STATUS is one of: Created; Up TIME; Up TIME (Paused); Restarting (STATUS), next try in TIME;
Exited (STATUS) TIME ago, with the reason where it is known; Unknown: nobody was there to see
how it ended; Corrupt: its files are damaged (skink rm -f removes it).

A container that fails because it cannot write ("Read-only file system") needs --tmpfs PATH
for that place, or --writable: see skink run --help.

Templates know docker's names (.ID .Names .Image .Command .CreatedAt .RunningFor .State
.Status .Labels) and those of --format json, which skink-json(5) describes.

Exit status: 0; 1 on failure, and when a container runs whose record cannot be reached, as
when the store's file system was unmounted below it: the list lacks it, and a line says so.

Examples:
  skink ps -a
  skink ps --filter label=app=web --format '{{.Names}}\t{{.Status}}'
  skink ps -aq --filter status=exited
)",
    1,
    run_ps,
};

}  // namespace skink::cli
