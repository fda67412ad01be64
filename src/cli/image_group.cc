// SPDX-License-Identifier: Apache-2.0
// skink image and skink system: groups of verbs, by docker's long names. Each member is a verb of its own, most of them
// known by a short name as well.
#include "base/text.h"
#include "cli/image_verbs.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

const std::vector<GroupMember>& image_members() {
  static const std::vector<GroupMember> kMembers = {
      {"ls", &kImagesVerb},
      {"rm", &kRmiVerb},
      {"inspect", &kImageInspectVerb},
      {"history", &kHistoryVerb},
      {"verify", &kImageVerifyVerb},
      {"prune", &kImagePruneVerb},
      {"exists", &kImageExistsVerb},
      {"df", &kDfVerb},
      {"tag", &kTagVerb},
      {"load", &kLoadVerb},
      {"import", &kImportVerb},
      {"pull", &kPullVerb},
      {"save", &kSaveVerb},
  };
  return kMembers;
}

const std::vector<GroupMember>& system_members() {
  static const std::vector<GroupMember> kMembers = {{"df", &kDfVerb}, {"events", &kEventsVerb}, {"info", &kInfoVerb}};
  return kMembers;
}

// Names that docker and podman know beside these.
std::string_view unabbreviated(std::string_view name) {
  if (name == "list") return "ls";
  if (name == "remove") return "rm";
  return name;
}

int show_group(Context& context, const std::vector<GroupMember>& members) {
  const Verb& group = context.verb();
  std::string text = str("Usage: skink ", group.name, ' ', group.usage, "\n\n", group.summary, ".\n\nVerbs:\n");
  for (const auto& [name, verb] : members) {
    constexpr std::size_t kColumn = 15;
    const bool is_short = std::string_view(verb->name) != str(group.name, ' ', name);
    text += str("  ", name, std::string(kColumn - std::string_view(name).size(), ' '), verb->summary,
                is_short ? str(" (skink ", verb->name, ')') : "", '\n');
  }
  context.out().print(str(text, '\n', group.details));
  return 0;
}

struct NoOptions {};

int run_group(Context& context, Arguments args) {
  const auto members = members_of(context.verb());
  NoOptions none;
  auto line = parse_options(std::span<const Option<NoOptions>>{}, args, Operands::first_ends_options, none);
  if (!line) return context.misuse(line.error());
  if (line->help) return show_group(context, members);
  if (line->operands.empty()) return context.misuse(Error::make(Code::invalid_config, "a verb is missing"));
  const std::string_view wanted = unabbreviated(line->operands[0]);
  for (const auto& [name, verb] : members) {
    if (wanted != name) continue;
    Context inner(context.directories(), verb);
    const int status = verb->run(inner, args.last(line->operands.size() - 1));
    const auto& trouble = inner.out().trouble();
    return trouble && status == 0 ? inner.fail(*trouble) : status;
  }
  return context.misuse(Error::make(Code::invalid_config, "there is no verb ", quoted(line->operands[0])));
}

// ---- image exists ----

int run_exists(Context& context, Arguments args) {
  NoOptions none;
  std::vector<std::string> names;
  if (auto status = read_arguments<NoOptions>(context, {}, args, none, names, {1, 1, "IMAGE"})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error(), kOwnFailure);
  const auto found = engine->images().find(names[0]);
  if (found) return 0;
  return found.error().code() == Code::not_found ? 1 : context.fail(found.error(), kOwnFailure);
}

}  // namespace

std::vector<GroupMember> members_of(const Verb& group) {
  if (&group == &kImageVerb) return image_members();
  return &group == &kSystemVerb ? system_members() : std::vector<GroupMember>{};
}

const Verb kImageVerb{
    "image",
    "VERB ...",
    "Everything about images, by docker's long names",
    R"(skink image VERB --help tells more of one verb.

Exit status: that of the verb; 1 when there is none of that name.

Examples:
  skink image ls
  skink image prune --all
)",
    1,
    run_group,
};

const Verb kSystemVerb{
    "system",
    "VERB ...",
    "Everything about the whole, by docker's long names",
    R"(skink system VERB --help tells more of one verb.

Exit status: that of the verb; 1 when there is none of that name.

Example:
  skink system df
)",
    1,
    run_group,
};

const Verb kImageExistsVerb{
    "image exists",
    "IMAGE",
    "Tell by the exit status whether an image is there",
    R"(IMAGE is a name, a digest, an id or the beginning of one. Nothing is printed.

Exit status: 0 when it is there; 1 when it is not; 125 when skink could not look, for a
beginning that several ids have, and for a wrong option.

Example:
  skink image exists web:1.1 || skink load web.tar
)",
    kOwnFailure,
    run_exists,
};

}  // namespace skink::cli
