// SPDX-License-Identifier: Apache-2.0
// skink image prune: removes images that nothing needs, and what was left over.
#include "image/prune.h"

#include "base/text.h"
#include "cli/human.h"
#include "cli/image_filter.h"
#include "cli/image_json.h"
#include "cli/image_verbs.h"
#include "cli/template.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

struct PruneCommand {
  bool all = false, json = false;
  std::vector<ImageFilter> filters;
};

constexpr Option<PruneCommand> kPruneOptions[] = {
    {{"all", 'a', nullptr, "images with names too, unless a container uses them"}, set_switch<&PruneCommand::all>},
    {{"filter", 0, "KEY=VALUE", "only images that fit: label=, label!= or until=; may be repeated"},
     [](PruneCommand& c, std::string_view v) -> Result<void> {
       c.filters.push_back(TRY(parse_image_filter(v, kPruneFilters)));
       return {};
     }},
    {{"force", 'f', nullptr, nullptr}, set_nothing<PruneCommand>},  // nothing is asked here
    {{"format", 0, "json", "one object, for programs"},
     [](PruneCommand& c, std::string_view v) -> Result<void> {
       c.json = v == "json";
       return c.json ? Result<void>() : Error::make(Code::invalid_config, quoted(v), " is not json");
     }},
};

// What Store::remove() would have said.
std::vector<std::string> lines_of(const image::Image& image) {
  std::vector<std::string> lines;
  for (const auto& name : image.names) lines.push_back("Untagged: " + name);
  lines.push_back("Deleted: " + image.id.text());
  return lines;
}

oci::Json json_of(const image::Pruned& pruned) {
  oci::Json images = oci::Json::array();
  for (const auto& image : pruned.images) {
    oci::Json one = image_json(image, image.names.empty() ? std::string() : image.names.front());
    one["names"] = image.names;
    images.push_back(std::move(one));
  }
  return {{"images", images}, {"layers", pruned.layers}, {"leftovers", pruned.leftovers}, {"bytes", pruned.bytes}};
}

int run_prune(Context& context, Arguments args) {
  PruneCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<PruneCommand>(context, kPruneOptions, args, command, none, {0, 0})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto choice = ImageChoice::make(command.filters, engine->images(), fs::now_ns());
  if (!choice) return context.fail(choice.error().context("--filter"));
  const auto pruned =
      image::prune_store(engine->images(), {.all = command.all,
                                            .fits = [&](const image::Image& image) { return choice->fits(image); },
                                            .users = engine->image_users()});
  if (!pruned) return context.fail(pruned.error());
  for (const auto& image : pruned->images) {
    const auto lines = lines_of(image);
    tell_removed(*engine, image.id.text(), lines);
    for (const auto& line : lines)
      if (!command.json) context.say(printable(line));
  }
  if (command.json) {
    context.say(json_line(json_of(*pruned)));
    return 0;
  }
  const auto count = [](std::size_t n, const char* what) { return str(n, ' ', what, n == 1 ? "" : "s"); };
  context.say(str("Removed ", count(pruned->images.size(), "image"), ", ", count(pruned->layers, "layer"), " and ",
                  count(pruned->leftovers, "leftover")));
  context.say(str("Total reclaimed space: ", human_size(pruned->bytes)));
  return 0;
}

}  // namespace

const Verb kImagePruneVerb{
    "image prune",
    "[OPTIONS]",
    "Remove images that nothing needs, and what was left over",
    R"(Removes images without a name, with --all every image that no container uses; then layers and
their files that no image needs, and what loads and removals left that were killed. It is
safe at any time: what a container needs, running or not, stays, and so does what a load
counts on. Nothing is asked. --filter chooses among the images; until=TIME are those made
before that time.

Exit status: 0; 1 on failure.

Examples:
  skink image prune
  skink image prune --all --filter until=240h
)",
    1,
    run_prune,
};

}  // namespace skink::cli
