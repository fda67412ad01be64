// SPDX-License-Identifier: Apache-2.0
// skink: the command line of the engine; finds the verb and runs it.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>

#include "base/text.h"
#include "cli/terminate.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct GlobalOptions {
  EngineOptions directories;
  bool version = false;
};

Result<void> set_directory(std::string& target, std::string_view value) {
  if (value.empty()) return Error::make(Code::invalid_config, "a directory is missing");
  if (value[0] == '/') {
    target = std::string(value);
    return {};
  }
  std::array<char, 4096> here{};
  if (::getcwd(here.data(), here.size()) == nullptr) return Error::from_errno(errno, "getcwd");
  target = str(here.data(), '/', value);
  return {};
}

constexpr Option<GlobalOptions> kGlobalOptions[] = {
    {{"root", 0, "STORE", "images and what survives a reboot (default /var/lib/skink)"},
     [](GlobalOptions& o, std::string_view v) { return set_directory(o.directories.store, v); }},
    {{"run", 0, "RUN", "state of running containers (default /run/skink)"},
     [](GlobalOptions& o, std::string_view v) { return set_directory(o.directories.run, v); }},
    {{"version", 'v', nullptr, "print the version and exit"}, set_switch<&GlobalOptions::version>},
};

std::string overview() {
  std::string text =
      "Usage: skink [--root STORE] [--run RUN] VERB ...\n\n"
      "Runs OCI images as immutable containers under supervision, without a daemon.\n\n"
      "Verbs:\n";
  for (const Verb* verb : all_verbs())
    text += str("  ", verb->name, std::string(15 - std::string_view(verb->name).size(), ' '), verb->summary, '\n');
  text += "\nGlobal options, before the verb:\n";
  for (const auto& option : kGlobalOptions) {
    const std::string value = option.words.value == nullptr ? "" : str(' ', option.words.value);
    std::string line = str("  --", option.words.name, value);
    line.append(line.size() < 17 ? 17 - line.size() : 1, ' ');
    text += str(line, option.words.help, '\n');
  }
  return text + "  --help         this text; skink VERB --help tells more of one verb\n";
}

// A number below 3 must never become a state file that messages are written to (fault F17).
bool open_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    const int opened = ::open("/dev/null", O_RDWR);  // the lowest free number, which is `fd`
    if (opened != fd) return false;
  }
  return true;
}

int run_verb(const GlobalOptions& globals, std::vector<std::string>& words, Arguments args) {
  if (words[0] == "help" && words.size() > 1) {  // skink help image ls: as skink image ls --help
    const Verb* about = find_verb(words[1]);
    if (about != nullptr) {
      Context context(globals.directories, about);
      std::vector<const char*> rest;
      for (std::size_t i = 2; i < words.size(); ++i) rest.push_back(words[i].c_str());
      rest.push_back("--help");
      return about->run(context, rest);
    }
    words.erase(words.begin());
  }
  const Verb* verb = find_verb(words[0]);
  if (verb == nullptr) {
    Context context(globals.directories, nullptr);
    return context.misuse(Error::make(Code::invalid_config, "there is no verb ", quoted(words[0])));
  }
  Context context(globals.directories, verb);
  const int status = verb->run(context, args.last(words.size() - 1));
  const auto& trouble = context.out().trouble();
  return trouble && status == 0 ? context.fail(*trouble) : status;
}

int run_command_line(Arguments args) {
  GlobalOptions globals;
  Context context(globals.directories, nullptr);
  auto line = parse_options(std::span<const Option<GlobalOptions>>(kGlobalOptions), args, Operands::first_ends_options,
                            globals);
  if (!line) return context.misuse(line.error());
  const bool help = line->help || (line->operands.size() == 1 && line->operands[0] == "help");
  if (globals.version) context.say("skink version " SKINK_VERSION);
  else if (help) context.out().print(overview());
  else if (line->operands.empty()) return context.misuse(Error::make(Code::invalid_config, "a verb is missing"));
  else return run_verb(globals, line->operands, args);
  return context.out().trouble() ? context.fail(*context.out().trouble()) : 0;
}

}  // namespace

}  // namespace skink::cli

int main(int argc, char** argv) {
  // A caller that ignores it hands that on, and the kernel would reap all children before anybody has waited for them.
  ::signal(SIGCHLD, SIG_DFL);
  skink::cli::give_up_without_memory(skink::cli::kOwnFailure);
  if (!skink::cli::open_standard_descriptors()) return skink::cli::kOwnFailure;
  if (const auto status = skink::run_internal_role(argc, argv)) return *status;
  // A reader that goes away is an EPIPE, which the writers here know how to take quietly (fault F23).
  ::signal(SIGPIPE, SIG_IGN);
  // So is a limit on the size of files (EFBIG): a command is not ended in the middle of a step.
  ::signal(SIGXFSZ, SIG_IGN);
  const skink::cli::Arguments all(argv, static_cast<std::size_t>(argc));
  return skink::cli::run_command_line(argc > 0 ? all.subspan(1) : all);
}
