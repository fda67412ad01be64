// SPDX-License-Identifier: Apache-2.0
// skink images, tag, rmi: what is in the store and by which names.
#include "base/text.h"
#include "cli/human.h"
#include "cli/image_filter.h"
#include "cli/image_json.h"
#include "cli/image_verbs.h"
#include "cli/listing.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

// ---- images ----

struct ImagesCommand {
  bool quiet = false, whole = false, digests = false;
  Format format;
  std::vector<ImageFilter> filters;
};

constexpr Option<ImagesCommand> kImagesOptions[] = {
    {{"all", 'a', nullptr, nullptr}, set_nothing<ImagesCommand>},  // there are no intermediate images to hide
    {{"digests", 0, nullptr, "a column of the manifests' digests"}, set_switch<&ImagesCommand::digests>},
    {{"filter", 'f', "KEY=VALUE", "dangling=, reference=, label=, before=, since= or until=; may be repeated"},
     [](ImagesCommand& c, std::string_view v) -> Result<void> {
       c.filters.push_back(TRY(parse_image_filter(v, kListFilters)));
       return {};
     }},
    {{"format", 0, "FORMAT", "table, json, or a template such as '{{.Repository}}:{{.Tag}}'"},
     [](ImagesCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"no-trunc", 0, nullptr, "whole ids"}, set_switch<&ImagesCommand::whole>},
    {{"quiet", 'q', nullptr, "ids only"}, set_switch<&ImagesCommand::quiet>},
};

// `images web` shows every tag of web, `images web:1.1` that one.
bool name_fits(const std::string& name, const std::string& wanted) {
  return wanted.empty() || name == wanted || name_parts(name).first == wanted;
}

struct Line {
  const image::Image* image;
  std::string name;
};

// A line for each name of each image; an image without a name has one line.
std::vector<Line> lines_of(const std::vector<image::Image>& images, const std::string& wanted,
                           const ImageChoice& choice) {
  std::vector<Line> lines;
  for (const auto& image : images) {
    if (!choice.fits(image)) continue;
    for (const auto& name : image.names)
      if (name_fits(name, wanted) && choice.fits_name(name)) lines.push_back({&image, name});
    if (image.names.empty() && wanted.empty() && choice.fits_name("")) lines.push_back({&image, ""});
  }
  return lines;
}

Item describe(const Line& line, const ImagesCommand& command, std::int64_t now_ns) {
  Item item{image_json(*line.image, line.name), docker_images_json(*line.image, line.name, now_ns, command.whole), {}};
  for (const std::string_view cell : {"Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"})
    if (cell != "Digest" || command.digests) item.row.push_back(printable(oci::get_string(item.docker, cell)));
  return item;
}

// An image with several names is one id.
std::string ids_of(const std::vector<Line>& lines, bool whole) {
  std::string text;
  std::string last;
  for (const Line& line : lines) {
    const std::string id = line.image->id.text();
    if (id != last) text += str(whole ? id : short_id(id), '\n');
    last = id;
  }
  return text;
}

int run_images(Context& context, Arguments args) {
  ImagesCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<ImagesCommand>(context, kImagesOptions, args, command, names, {0, 1, "NAME"}))
    return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  std::vector<Error> damaged;
  auto images = engine->images().list(&damaged);
  if (!images) return context.fail(images.error());
  auto choice = ImageChoice::make(command.filters, engine->images(), fs::now_ns());
  if (!choice) return context.fail(choice.error().context("--filter"));
  const auto lines = lines_of(*images, names.empty() ? std::string() : names[0], *choice);
  int status = 0;
  for (const auto& error : damaged) status = context.fail(error);
  if (command.quiet) {
    context.out().print(ids_of(lines, command.whole));
    return status;
  }
  std::vector<Item> items;
  for (const Line& line : lines) items.push_back(describe(line, command, fs::now_ns()));
  Row heading{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"};
  if (command.digests) heading.insert(heading.begin() + 2, "DIGEST");
  auto text = render_list(command.format, heading, items);
  if (!text) return context.fail(text.error().context("--format"));
  context.out().print(*text);
  return status;
}

// ---- tag ----

int run_tag(Context& context, Arguments args) {
  NoOptions none;
  std::vector<std::string> names;
  if (auto status = read_arguments<NoOptions>(context, {}, args, none, names, {2, 2, "IMAGE or NAME"})) return *status;
  const auto tagged = [&]() -> Result<void> {
    const image::Reference reference = TRY(image::parse_reference(names[1]));
    if (!reference.digest.empty())
      return Error::make(Code::invalid_config, quoted(names[1]), ": a digest cannot be chosen; give a tag");
    Engine engine = TRY(context.open_engine());
    const image::Image image = TRY(engine.images().find(names[0]));
    TRY(engine.images().tag(image, reference));
    engine.tell_image("tag", image.id.text(), reference.text());
    return {};
  }();
  return tagged ? 0 : context.fail(tagged.error());
}

// ---- rmi ----

struct RmiCommand {
  bool force = false;
  image::RemoveOptions options;
};

constexpr Option<RmiCommand> kRmiOptions[] = {
    {{"force", 'f', nullptr, "remove all names of an image; one that does not exist is no failure"},
     set_switch<&RmiCommand::force>},
    {{"no-prune", 0, nullptr, "keep layers that no image needs any more, for one that has them and comes next"},
     [](RmiCommand& c, std::string_view v) -> Result<void> {
       c.options.keep_layers = v == "true";
       return {};
     }},
};

int run_rmi(Context& context, Arguments args) {
  RmiCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<RmiCommand>(context, kRmiOptions, args, command, names, {1, kAnyNumber, "IMAGE"}))
    return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  command.options.force = command.force;
  int status = 0;
  for (const auto& name : names) {
    const auto image = engine->images().find(name);
    auto removed = engine->images().remove(name, command.options, engine->image_users());
    if (removed) {
      if (image) tell_removed(*engine, image->id.text(), *removed);
      for (const auto& line : *removed) context.say(printable(line));
      continue;
    }
    context.fail(removed.error());
    if (!command.force || removed.error().code() != Code::not_found) status = 1;
  }
  return status;
}

}  // namespace

void tell_removed(const Engine& engine, const std::string& id, const std::vector<std::string>& lines) {
  for (const std::string_view line : lines) {
    const auto said = [&](std::string_view word) { return line.starts_with(word) ? line.substr(word.size()) : ""; };
    if (const auto name = said("Untagged: "); !name.empty()) engine.tell_image("untag", id, name);
    if (!said("Deleted: ").empty()) engine.tell_image("delete", id, "");
  }
}

const Verb kImagesVerb{
    "images",
    "[OPTIONS] [NAME]",
    "List images",
    R"(One line for each name of an image. NAME shows the tags of one repository or one name.

Filters: dangling=true shows images without a name; reference=PATTERN names that fit a shell
pattern, with or without their tags, in which * does not go beyond a slash; label=KEY or
label=KEY=VALUE; before=IMAGE and since=IMAGE those made before or after another one, by what
they say; until=TIME as in skink events. Of several reference= one has to fit, of the others
all.

Templates know docker's names (.Repository .Tag .ID .Digest .CreatedAt .CreatedSince .Size)
and those of --format json, which skink-json(5) describes.

Exit status: 0; 1 on failure.

Examples:
  skink images
  skink images --format json
  skink images -q --filter dangling=true
)",
    1,
    run_images,
};

const Verb kTagVerb{
    "tag",
    "IMAGE NAME",
    "Give an image another name",
    R"(IMAGE is a name, an id or the beginning of an id. NAME is repository[:tag], the tag latest
when there is none. An image that had the name loses it.

Exit status: 0; 1 on failure.

Example:
  skink tag web:1.1 web:stable
)",
    1,
    run_tag,
};

const Verb kRmiVerb{
    "rmi",
    "[OPTIONS] IMAGE...",
    "Remove names of images, and images with their last name",
    R"(IMAGE is a name, a digest, an id or the beginning of one. An image that a container uses, in
whatever state it is, is kept, with all its layers, also with --force. Layers go with the last
image that has them; one whose documents are damaged goes by --force alone, and leaves them,
as nobody knows which they are. What was removed is printed.

Exit status: 0; 1 if any could not be removed (the others are).

Example:
  skink rmi web:1.0
)",
    1,
    run_rmi,
};

}  // namespace skink::cli
