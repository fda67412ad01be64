// SPDX-License-Identifier: Apache-2.0
// skink history: by which steps an image was made.
#include "base/text.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

struct HistoryCommand {
  bool quiet = false, whole = false, human = true;
  Format format;
};

constexpr Option<HistoryCommand> kHistoryOptions[] = {
    {{"format", 0, "FORMAT", "table, json, or a template such as '{{.CreatedBy}}'"},
     [](HistoryCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"human", 'H', nullptr, "sizes and times for people (the default; --human=false)"},
     set_switch<&HistoryCommand::human>},
    {{"no-trunc", 0, nullptr, "whole ids and instructions"}, set_switch<&HistoryCommand::whole>},
    {{"quiet", 'q', nullptr, "ids only"}, set_switch<&HistoryCommand::quiet>},
};

// One row: a step, or a layer that no step tells of.
struct Step {
  oci::HistoryEntry entry;
  std::optional<oci::Digest> layer;
  std::int64_t size = 0;  // bytes of the layer's files
};

// Newest first. A step that is not empty has made the next layer; a history that tells of fewer leaves the rest without
// words.
std::vector<Step> steps_of(std::vector<oci::HistoryEntry> history, const std::vector<oci::Digest>& layers) {
  std::vector<Step> steps;
  auto layer = layers.begin();
  for (auto& entry : history) {
    Step step{.entry = std::move(entry), .layer = {}};
    if (!step.entry.empty_layer && layer != layers.end()) step.layer = *layer++;
    steps.push_back(std::move(step));
  }
  for (; layer != layers.end(); ++layer) steps.push_back({.entry = {}, .layer = *layer});
  return {steps.rbegin(), steps.rend()};
}

Item describe(const Step& step, const std::string& id, const HistoryCommand& command, std::int64_t now_ns) {
  const std::int64_t created = fs::parse_rfc3339(step.entry.created).value_or(0);
  const std::string shown = id.empty() ? "<missing>" : command.whole ? id : short_id(id);
  Item item;
  item.json = {{"id", id.empty() ? oci::Json(nullptr) : oci::Json(id)},
               {"created", step.entry.created.empty() ? oci::Json(nullptr) : oci::Json(step.entry.created)},
               {"created_by", step.entry.created_by},
               {"author", step.entry.author},
               {"comment", step.entry.comment},
               {"layer", step.layer ? oci::Json(step.layer->text()) : oci::Json(nullptr)},
               {"size", step.size}};
  item.docker = {{"ID", shown},
                 {"CreatedAt", step.entry.created},
                 {"CreatedSince", human_ago(created, now_ns)},
                 {"CreatedBy", shortened(step.entry.created_by, command.whole ? 0 : 45)},
                 {"Size", command.human ? human_size(step.size) : str(step.size)},
                 {"Comment", step.entry.comment}};
  const char* when = command.human ? "CreatedSince" : "CreatedAt";
  for (const char* cell : {"ID", when, "CreatedBy", "Size", "Comment"})
    item.row.push_back(printable(oci::get_string(item.docker, cell)));
  return item;
}

Result<std::string> render(Engine& engine, const HistoryCommand& command, const std::string& name) {
  const image::Store& store = engine.images();
  const image::Image image = TRY(store.find(name));
  const auto history = TRY_CTX(oci::parse_history(TRY(store.read_config(image.id))), "image ", image.id.text());
  auto steps = steps_of(history, image.config.diff_ids);
  std::string ids;
  std::vector<Item> items;
  for (auto& step : steps) {
    if (step.layer) step.size = TRY(store.size_of_layer(*step.layer));
    // The image itself is its last step; of those before it there are no images here.
    const std::string id = items.empty() ? image.id.text() : "";
    items.push_back(describe(step, id, command, fs::now_ns()));
    ids += str(oci::get_string(items.back().docker, "ID"), '\n');
  }
  if (command.quiet) return ids;
  return TRY_CTX(render_list(command.format, {"IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"}, items), "--format");
}

int run_history(Context& context, Arguments args) {
  HistoryCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<HistoryCommand>(context, kHistoryOptions, args, command, names, {1, 1, "IMAGE"}))
    return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  const auto text = render(*engine, command, names[0]);
  if (!text) return context.fail(text.error());
  context.out().print(*text);
  return 0;
}

}  // namespace

const Verb kHistoryVerb{
    "history",
    "[OPTIONS] IMAGE",
    "Show by which steps an image was made",
    R"(The newest step first, as the image's configuration tells them, with the size of the files
in the layer that it made. What an image does not tell is <missing>.

Templates know docker's names (.ID .CreatedAt .CreatedSince .CreatedBy .Size .Comment) and
those of --format json, which skink-json(5) describes.

Exit status: 0; 1 on failure.

Example:
  skink history --no-trunc web:1.1
)",
    1,
    run_history,
};

}  // namespace skink::cli
