// SPDX-License-Identifier: Apache-2.0
// skink pull: images of registries, which skopeo fetches.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/text.h"
#include "cli/load.h"
#include "cli/load_progress.h"
#include "cli/verbs.h"
#include "image/transfer.h"

namespace skink::cli {

namespace {

struct PullCommand {
  std::optional<oci::Platform> platform;
  bool quiet = false;
};

constexpr Option<PullCommand> kPullOptions[] = {
    {{"platform", 0, "P", "which image of several platforms (default: this host's)"},
     [](PullCommand& c, std::string_view v) -> Result<void> {
       c.platform = TRY(oci::parse_platform(v));
       return {};
     }},
    {{"quiet", 'q', nullptr, "print only the image's id"}, set_switch<&PullCommand::quiet>},
};

constexpr std::string_view kDocker = "docker://";
// Other sources that skopeo knows; what follows is its own matter, so the names come from what it fetches.
constexpr std::array<std::string_view, 6> kTransports{
    "oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "containers-storage:", "dir:"};

struct Source {
  std::string text;                      // as skopeo takes it
  std::optional<image::Reference> name;  // that the image gets
};

// The end of "oci:DIRECTORY:NAME" is a name, if it can be one.
std::optional<image::Reference> name_in(std::string_view text) {
  const std::size_t colon = text.find(':', text.find(':') + 1);
  if (colon == text.npos) return std::nullopt;
  auto name = image::parse_reference(text.substr(colon + 1));
  if (!name || !name->digest.empty()) return std::nullopt;
  return std::move(*name);
}

Result<Source> parse_source(std::string_view text) {
  for (const std::string_view transport : kTransports)
    if (text.starts_with(transport)) return Source{std::string(text), name_in(text)};
  if (text.starts_with(kDocker)) text.remove_prefix(kDocker.size());
  image::Reference name = TRY(image::parse_reference(text));
  // Docker's own short names, as skopeo takes them too; what has a digest goes without a tag.
  return Source{str(kDocker, name.text()), std::move(name)};
}

// Where skopeo makes the manifest itself, it says of layers that it hands out unpacked that they are packed, and has to
// change it.
bool has_manifest_of_its_own(std::string_view source) {
  constexpr std::array<std::string_view, 4> kWithManifest{kDocker, "oci:", "oci-archive:", "dir:"};
  return std::any_of(kWithManifest.begin(), kWithManifest.end(),
                     [&](std::string_view transport) { return source.starts_with(transport); });
}

std::vector<std::string> command_for(const Source& source, const PullCommand& command, const std::string& directory) {
  const oci::Platform platform = command.platform.value_or(oci::host_platform());
  std::vector<std::string> words{"skopeo", "--override-os", platform.os, "--override-arch", platform.architecture};
  if (!platform.variant.empty()) words.insert(words.end(), {"--override-variant", platform.variant});
  words.emplace_back("copy");
  if (command.quiet) words.emplace_back("--quiet");
  if (has_manifest_of_its_own(source.text)) words.emplace_back("--preserve-digests");
  // Signatures are checked as skopeo's policy says; a directory with a layout has no place for them.
  words.insert(words.end(), {"--remove-signatures", "--", source.text, "oci:" + directory});
  return words;
}

// Its words go to where ours go; standard output is for ours alone.
Result<void> run_skopeo(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed == ENOENT)
    return Error::make(
        Code::unsupported,
        "skink leaves registries to skopeo, which is not installed: apt install skopeo; or load an archive "
        "from where the image is: docker save IMAGE | skink load");
  if (failed != 0) return Error::from_errno(failed, "skopeo");
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFSIGNALED(status)) return Error::make(Code::os, "skopeo was killed by signal ", WTERMSIG(status));
  return Error::make(Code::os, "skopeo failed with status ", WEXITSTATUS(status),
                     " and has said why; skopeo login gives it credentials");
}

int run_pull(Context& context, Arguments args) {
  PullCommand command;
  std::vector<std::string> words;
  if (auto status = read_arguments<PullCommand>(context, kPullOptions, args, command, words, {1, 1, "NAME"}))
    return *status;
  const auto source = parse_source(words[0]);
  if (!source) return context.misuse(source.error());
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  LoadProgress progress;
  image::LoadOptions options{.platform = command.platform};
  if (source->name) options.names = {*source->name};
  if (!command.quiet) options.progress = progress.function();
  if (!command.quiet) options.waits = progress.waits(context);
  auto loaded = image::fetch_image(
      engine->images(),
      [&](const std::string& directory) { return run_skopeo(command_for(*source, command, directory)); }, options);
  progress.clear();
  if (!loaded) return context.fail(loaded.error().context(quoted(words[0])));
  tell_loaded(*engine, *loaded);
  for (const auto& note : loaded->notes) context.note(note);
  for (const auto& image : loaded->images) context.say(command.quiet ? image.id.text() : handle_of(image));
  return 0;
}

}  // namespace

const Verb kPullVerb{
    "pull",
    "[OPTIONS] [docker://]NAME",
    "Fetch an image from a registry with skopeo",
    R"(skopeo, which has to be installed, fetches the image into the store's temporary directory, from
where it is loaded as by skink load. Credentials, mirrors and policies are skopeo's own: see
skopeo(1) and containers-policy.json(5). NAME@sha256:DIGEST gets that as its name. Other
sources of skopeo's (oci:, oci-archive:, docker-archive:, docker-daemon:, containers-storage:,
dir:) are taken as they are. Digests stay what they are, but of docker-archive:, docker-daemon:
and containers-storage:, where skopeo makes the manifest. Signatures are checked as
containers-policy.json(5) says, and not kept.

Exit status: 0; 1 on failure.

Examples:
  skink pull quay.io/team/web:1.1
  skink pull --platform linux/arm64 busybox
)",
    1,
    run_pull,
};

}  // namespace skink::cli
