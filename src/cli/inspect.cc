// SPDX-License-Identifier: Apache-2.0
// skink inspect: everything about containers and images, as JSON.
#include <array>

#include "base/text.h"
#include "cli/container_json.h"
#include "cli/image_json.h"
#include "cli/listing.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

struct InspectCommand {
  enum class Kind { any, container, image } kind = Kind::any;
  bool compact = false;
  std::optional<Template> lines;
};

constexpr Option<InspectCommand> kInspectOptions[] = {
    {{"format", 'f', "FORMAT", "json (one line), or a template such as '{{.State.Pid}}'"},
     [](InspectCommand& c, std::string_view v) -> Result<void> {
       c.compact = v == "json";
       c.lines = std::nullopt;
       if (!c.compact && !v.empty()) c.lines = TRY(Template::parse(v));
       return {};
     }},
    {{"type", 0, "TYPE", "container or image; default: a container, else an image"},
     [](InspectCommand& c, std::string_view v) -> Result<void> {
       if (v != "container" && v != "image")
         return Error::make(Code::invalid_config, skink::quoted(v), " is neither container nor image");
       c.kind = v == "image" ? InspectCommand::Kind::image : InspectCommand::Kind::container;
       return {};
     }},
};

// Ours, then docker's, for templates.
using Documents = std::array<oci::Json, 2>;

Result<Documents> inspect_container(const Engine& engine, const std::string& id) {
  const ContainerInfo info = TRY(engine.info(id));
  oci::Json spec = nullptr;
  if (const auto text = engine.spec_json(id))
    if (auto parsed = oci::parse_json(*text, oci::kConfigLimit)) spec = std::move(*parsed);
  return Documents{inspect_json(info, spec, fs::now_ns()), docker_inspect_json(info, spec)};
}

Result<Documents> inspect_one(Engine& engine, InspectCommand::Kind kind, const std::string& name) {
  std::optional<Error> missing;
  if (kind != InspectCommand::Kind::image) {
    const auto id = engine.resolve(name);
    if (id) return TRY_CTX(inspect_container(engine, *id), name);
    if (kind == InspectCommand::Kind::container || id.error().code() != Code::not_found) return id.error();
  }
  auto image = engine.images().find(name);
  if (!image && kind == InspectCommand::Kind::any && image.error().code() == Code::not_found)
    return Error::make(Code::not_found, "there is no container or image ", skink::quoted(name));
  if (!image) return std::move(image).error();
  return Documents{inspect_image_json(*image), docker_inspect_image_json(*image)};
}

std::string render_all(const InspectCommand& command, const std::vector<oci::Json>& found, bool several) {
  if (!several) return found.empty() ? "" : (command.compact ? json_line(found[0]) : json_pretty(found[0])) + '\n';
  return command.compact ? json_array(found) : json_pretty(oci::Json(found)) + '\n';
}

int run_for(InspectCommand command, Context& context, std::span<const Option<InspectCommand>> options, Arguments args) {
  std::vector<std::string> names;
  const Count count{1, kAnyNumber, command.kind == InspectCommand::Kind::image ? "IMAGE" : "CONTAINER or IMAGE"};
  if (auto status = read_arguments<InspectCommand>(context, options, args, command, names, count)) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  int status = 0;
  std::vector<oci::Json> found;
  for (const auto& name : names) {
    auto documents = inspect_one(*engine, command.kind, name);
    if (!documents) {
      status = context.fail(documents.error());
      continue;
    }
    if (!command.lines) {
      found.push_back(std::move((*documents)[0]));
      continue;
    }
    auto line = command.lines->render(std::array<const oci::Json*, 2>{&(*documents)[0], &(*documents)[1]});
    if (line) context.say(*line);
    else status = context.fail(line.error().context("--format"));
  }
  if (!command.lines) context.out().print(render_all(command, found, names.size() > 1));
  return status;
}

int run_inspect(Context& context, Arguments args) { return run_for({}, context, kInspectOptions, args); }

int run_image(Context& context, Arguments args) {
  return run_for({.kind = InspectCommand::Kind::image, .lines = {}}, context, std::span(kInspectOptions).first(1),
                 args);
}

}  // namespace

const Verb kImageInspectVerb{
    "image inspect",
    "[OPTIONS] IMAGE...",
    "Print everything about images as JSON",
    R"(As skink inspect --type image: one argument gives one object, several give an array.
skink-json(5) describes every field.

Exit status: 0; 1 if any of them does not exist (the others are printed).

Example:
  skink image inspect -f '{{.Config.Cmd}}' web:1.1
)",
    1,
    run_image,
};

const Verb kInspectVerb{
    "inspect",
    "[OPTIONS] CONTAINER|IMAGE...",
    "Print everything about containers and images as JSON",
    R"(One argument gives one object, several give an array. skink-json(5) describes every field.
Templates know those fields and docker's usual paths (.State.Pid, .State.ExitCode, .Id,
.Config.Labels, ...).

Exit status: 0; 1 if any of them does not exist (the others are printed).

Examples:
  skink inspect web
  skink inspect -f '{{.pid}}' web
)",
    1,
    run_inspect,
};

}  // namespace skink::cli
