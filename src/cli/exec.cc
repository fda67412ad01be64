// SPDX-License-Identifier: Apache-2.0
// skink exec: one more program in a running container.
#include "cli/attach.h"
#include "cli/environment.h"
#include "cli/verbs.h"
#include "plan/parse_options.h"

namespace skink::cli {

namespace {

struct ExecCommand {
  ExecOptions exec;
  std::vector<std::string> env, env_files;
};

constexpr Option<ExecCommand> kExecOptions[] = {
    {{"detach", 'd', nullptr, "do not wait for it"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.exec.detach = v == "true";
       return {};
     }},
    {{"env", 'e', "K=V", "a variable more; K alone takes the caller's value"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.env.push_back(TRY(plan::parse_env(v)));
       return {};
     }},
    {{"env-file", 0, "FILE", "variables from a file"}, add_text<&ExecCommand::env_files>},
    {{"interactive", 'i', nullptr, "pass standard input on"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.exec.stdin_open = v == "true";
       return {};
     }},
    {{"privileged", 0, nullptr, "with every capability and without the seccomp filter"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.exec.privileged = v == "true";
       return {};
     }},
    {{"tty", 't', nullptr, "give it a terminal"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.exec.tty = v == "true";
       return {};
     }},
    {{"user", 'u', "USER[:GROUP]", "names or numbers, looked up in the container"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.exec.user = std::string(v);
       return {};
     }},
    {{"workdir", 'w', "DIR", "where it starts"},
     [](ExecCommand& c, std::string_view v) -> Result<void> {
       c.exec.working_dir = std::string(v);
       return {};
     }},
};

// Everything after CONTAINER is the program's.
Result<CommandLine> parse(Arguments args, ExecCommand& command) {
  CommandLine line = TRY(
      parse_options(std::span<const Option<ExecCommand>>(kExecOptions), args, Operands::first_ends_options, command));
  if (line.help) return line;
  TRY(check_count(line.operands, {1, kAnyNumber, "CONTAINER"}));
  if (line.operands.size() < 2) return Error::make(Code::invalid_config, "the program to run is missing");
  command.exec.args.assign(line.operands.begin() + 1, line.operands.end());
  command.exec.env = TRY(merge_environment(command.env_files, command.env, real_surroundings()));
  return line;
}

int run_exec(Context& context, Arguments args) {
  ExecCommand command;
  const auto line = parse(args, command);
  if (!line) return context.misuse(line.error());
  if (line->help) return context.show_help(words_of(std::span<const Option<ExecCommand>>(kExecOptions)));
  const AttachOptions attach{.stdin_open = command.exec.stdin_open, .tty = command.exec.tty, .forward_signals = true};
  if (!command.exec.detach)
    if (auto fine = check_terminal(attach); !fine) return context.fail(fine.error(), kOwnFailure);
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error(), kOwnFailure);
  auto id = engine->resolve(line->operands[0]);
  if (!id) return context.fail(id.error(), kOwnFailure);
  auto status = engine->exec(*id, command.exec);
  if (!status) return launch_failure(context, status.error().context(line->operands[0]));
  return *status;
}

}  // namespace

const Verb kExecVerb{
    "exec",
    "[OPTIONS] CONTAINER PROGRAM [ARG...]",
    "Run one more program in a running container",
    R"(The program gets the container's namespaces, limits, capabilities and seccomp filter.

Exit status: the program's; 128 + N when signal N ended it; 125 when skink itself failed,
126 when the program cannot be executed, 127 when it is not there.

Examples:
  skink exec web cat /etc/hostname
  skink exec -it web sh
)",
    kOwnFailure,
    run_exec,
};

}  // namespace skink::cli
