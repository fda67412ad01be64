// SPDX-License-Identifier: Apache-2.0
// skink load: images from archives into the store.
#include "cli/load.h"

#include <unistd.h>

#include <algorithm>

#include "base/text.h"
#include "cli/archive_name.h"
#include "cli/image_json.h"
#include "cli/load_progress.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct LoadCommand {
  std::vector<std::string> inputs;
  std::optional<oci::Platform> platform;
  bool all_platforms = false, quiet = false, json = false;
};

constexpr Option<LoadCommand> kLoadOptions[] = {
    {{"all-platforms", 0, nullptr, "the images of all platforms; tags of the others end with theirs"},
     set_switch<&LoadCommand::all_platforms>},
    {{"format", 0, "json", "an object a line for each FILE, for programs"},
     [](LoadCommand& c, std::string_view v) -> Result<void> {
       c.json = v == "json";
       return c.json ? Result<void>() : Error::make(Code::invalid_config, quoted(v), " is not json");
     }},
    {{"input", 'i', "FILE", "the same as an argument"}, add_text<&LoadCommand::inputs>},
    {{"platform", 0, "P", "which image of several platforms (default: this host's)"},
     [](LoadCommand& c, std::string_view v) -> Result<void> {
       c.platform = TRY(oci::parse_platform(v));
       return {};
     }},
    {{"quiet", 'q', nullptr, "print nothing"}, set_switch<&LoadCommand::quiet>},
};

std::string words_for(const image::Loaded& loaded) {
  std::string text;
  for (const auto& image : loaded.images) {
    if (image.names.empty()) text += str("Loaded image ID: ", image.id.text(), '\n');
    for (const auto& name : image.names) text += str("Loaded image: ", printable(name), '\n');
  }
  return text;
}

oci::Json json_of(const std::string& file, const Result<image::Loaded>& loaded) {
  oci::Json json{{"file", file}, {"images", oci::Json::array()}, {"error", nullptr}};
  if (!loaded) {
    json["error"] = loaded.error().text();
    return json;
  }
  for (const auto& image : loaded->images) {
    oci::Json one = image_json(image, image.names.empty() ? std::string() : image.names.front());
    one["names"] = image.names;
    json["images"].push_back(std::move(one));
  }
  json["layers_written"] = loaded->layers_written;
  json["layers_reused"] = loaded->layers_reused;
  json["mended"] = loaded->mended;
  json["notes"] = loaded->notes;
  return json;
}

// Status 0 when it is loaded.
int load_file(Context& context, Engine& engine, const LoadCommand& command, const std::string& file) {
  LoadProgress progress;
  image::LoadOptions options{.platform = command.platform, .all_platforms = command.all_platforms};
  if (!command.quiet && !command.json) options.progress = progress.function();
  if (!command.quiet) options.waits = progress.waits(context);
  const auto loaded = engine.images().load(file, options);
  progress.clear();
  if (loaded) tell_loaded(engine, *loaded);
  if (command.json) context.say(oci::dump_json(json_of(file, loaded)));
  if (!loaded) return context.fail(loaded.error());
  if (command.quiet || command.json) return 0;
  for (const auto& note : loaded->notes) context.note(note);
  context.out().print(words_for(*loaded));
  return 0;
}

int run_load(Context& context, Arguments args) {
  LoadCommand command;
  std::vector<std::string> files;
  if (auto status = read_arguments<LoadCommand>(context, kLoadOptions, args, command, files, {0, kAnyNumber, "FILE"}))
    return *status;
  files.insert(files.begin(), command.inputs.begin(), command.inputs.end());
  if (files.empty() && ::isatty(0) != 0)
    return context.misuse(Error::make(Code::invalid_config, "FILE is missing and standard input is a terminal"));
  if (files.empty()) files.emplace_back("-");
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  int status = 0;
  for (const auto& file : files) status = std::max(status, load_file(context, *engine, command, file));
  return status;
}

Result<image::Image> only_image(image::Loaded loaded, const std::string& file) {
  if (loaded.images.empty()) return Error::make(Code::invalid_config, quoted(file), " holds no image");
  if (loaded.images.size() == 1) return std::move(loaded.images.front());
  std::string names;
  for (const auto& image : loaded.images) names += str(names.empty() ? "" : ", ", printable(handle_of(image)));
  return Error::make(Code::invalid_config, quoted(file), " holds several images, which are loaded now: ", names,
                     "; run one of them by its name");
}

}  // namespace

void tell_loaded(const Engine& engine, const image::Loaded& loaded) {
  for (const auto& image : loaded.images) {
    if (image.names.empty()) engine.tell_image("load", image.id.text(), "");
    for (const auto& name : image.names) engine.tell_image("load", image.id.text(), name);
  }
}

std::string handle_of(const image::Image& image) { return image.names.empty() ? image.id.text() : image.names.front(); }

Result<image::Image> load_for_run(Context& context, Engine& engine, const std::string& file,
                                  const std::optional<oci::Platform>& platform) {
  LoadProgress progress;
  image::LoadOptions options{.platform = platform, .name = name_from_file(file)};
  options.waits = progress.waits(context);
  // A file must not take the name away from another image only by what it is called.
  if (!options.name.empty() && engine.images().find(options.name)) options.name.clear();
  image::Loaded loaded = TRY(engine.images().load(file, options));
  tell_loaded(engine, loaded);
  return only_image(std::move(loaded), file);
}

const Verb kLoadVerb{
    "load",
    "[OPTIONS] [FILE...]",
    "Load images from archives into the store",
    R"(FILE is an oci-archive or a docker-archive as skopeo, umoci, buildah, podman and docker write
them, plain or packed, or a directory with an OCI layout; - or no FILE is standard input. Every
digest and size is verified before anything of it can be seen; layers that are stored already
are not stored again, unless a glance at them shows damage: then they are written anew, and the
load says so. Of an image for several platforms the one that fits best is loaded, by
containerd's rules: linux/arm/v6 does where linux/arm/v7 is asked for.

Exit status: 0; 1 if any file could not be loaded (the others are).

Examples:
  skink load web.tar
  docker save web | skink load
  skink load --all-platforms ./layout
)",
    1,
    run_load,
};

}  // namespace skink::cli
