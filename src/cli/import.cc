// SPDX-License-Identifier: Apache-2.0
// skink import: an image of a root file system's tar.
#include <unistd.h>

#include "base/text.h"
#include "cli/changes.h"
#include "cli/load.h"
#include "cli/load_progress.h"
#include "cli/verbs.h"
#include "image/transfer.h"

namespace skink::cli {

namespace {

struct ImportCommand {
  image::ImportOptions options{.platform = oci::host_platform()};
  bool quiet = false;
};

constexpr Option<ImportCommand> kImportOptions[] = {
    {{"change", 'c', "WORDS", "a Dockerfile's instruction, such as 'CMD [\"sh\"]'; may be repeated"},
     [](ImportCommand& c, std::string_view v) { return apply_change(c.options.config, v); }},
    {{"message", 'm', "TEXT", "a comment for the image's history"},
     [](ImportCommand& c, std::string_view v) -> Result<void> {
       c.options.message = std::string(v);
       return {};
     }},
    {{"platform", 0, "P", "what it is made for (default: this host's)"},
     [](ImportCommand& c, std::string_view v) -> Result<void> {
       c.options.platform = TRY(oci::parse_platform(v));
       return {};
     }},
    {{"quiet", 'q', nullptr, "print only the image's id"}, set_switch<&ImportCommand::quiet>},
};

int run_import(Context& context, Arguments args) {
  ImportCommand command;
  std::vector<std::string> words;
  if (auto status =
          read_arguments<ImportCommand>(context, kImportOptions, args, command, words, {1, 2, "FILE or NAME"}))
    return *status;
  if (words[0] == "-" && ::isatty(STDIN_FILENO) != 0)
    return context.misuse(Error::make(Code::invalid_config, "standard input is a terminal"));
  if (words.size() == 2) {
    auto name = image::parse_reference(words[1]);
    if (!name) return context.misuse(name.error());
    if (!name->digest.empty())
      return context.misuse(Error::make(Code::invalid_config, quoted(words[1]), ": a digest cannot be chosen"));
    command.options.name = std::move(*name);
  }
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  LoadProgress progress;
  if (!command.quiet) command.options.progress = progress.function();
  auto loaded = image::import_image(engine->images(), words[0], command.options);
  progress.clear();
  if (!loaded) return context.fail(loaded.error());
  tell_loaded(*engine, *loaded);
  for (const auto& note : loaded->notes) context.note(note);
  context.say(loaded->images.front().id.text());
  return 0;
}

}  // namespace

const Verb kImportVerb{
    "import",
    "[OPTIONS] FILE|- [NAME[:TAG]]",
    "Make an image of the tar of a root file system",
    R"(FILE is a tar, plain or packed with gzip or zstd; - is standard input. The image has it as its
only layer. --change takes CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD (kept for
builders, never run here), STOPSIGNAL, USER, VOLUME and WORKDIR. The image's id is printed.

Exit status: 0; 1 on failure.

Examples:
  skink import rootfs.tar.gz base:1 --change 'CMD ["/bin/sh"]'
  mmdebstrap bookworm | skink import - debian:12
)",
    1,
    run_import,
};

}  // namespace skink::cli
