// SPDX-License-Identifier: Apache-2.0
// skink update: limits and restart policy of containers that are there.
#include "base/text.h"
#include "cli/run_command.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

constexpr std::int64_t kNotGiven = -1;

Result<RunCommand> read_over(const RestartPolicy& policy, Arguments args) {
  RunCommand command;
  command.request.restart = policy;
  command.request.stop_timeout_ns = kNotGiven;
  TRY(parse_options(update_options(), args, Operands::anywhere, command));
  return command;
}

// The options over what the container has: of a policy only what is named changes.
Result<void> change_policy(RestartPolicy& policy, Arguments args) {
  policy = TRY(read_over(policy, args)).request.restart;
  if (policy.longest_delay_ns < policy.first_delay_ns)
    return Error::make(Code::invalid_config, "--restart-max-delay is shorter than --restart-delay");
  return {};
}

Result<void> update(Engine& engine, const std::string& id, Arguments args) {
  const RunCommand command = TRY(read_over({}, args));
  UpdateRequest request;
  request.restart = [&](RestartPolicy& policy) { return change_policy(policy, args); };
  if (command.request.stop_timeout_ns != kNotGiven) request.stop_timeout_ns = command.request.stop_timeout_ns;
  request.limits = command.request.run;
  return engine.update(id, request);
}

int run_update(Context& context, Arguments args) {
  RunCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<RunCommand>(context, update_options(), args, command, names, {1, kAnyNumber}))
    return *status;
  if (names.size() == args.size())
    return context.misuse(Error::make(Code::invalid_config, "nothing to change is named; skink update --help"));
  return for_each_container(context, names,
                            [&](Engine& engine, const std::string& id) { return update(engine, id, args); });
}

}  // namespace

const Verb kUpdateVerb{
    "update",
    "[OPTIONS] CONTAINER...",
    "Change limits and restart policy",
    R"(What is not named stays as it is. A container that runs has the new limits at once and
the new policy at its next end; both are kept for later starts. When the kernel refuses a
limit, nothing changes. 0 takes a limit off. The name is printed as given.

Exit status: 0; 1 if any container could not be changed (the others are).

Examples:
  skink update -m 512m --cpus 2 web
  skink update --restart on-failure:5 --restart-budget 10/1h web db
)",
    1,
    run_update,
};

}  // namespace skink::cli
