// SPDX-License-Identifier: Apache-2.0
// skink wait: blocks until containers have stopped for good.
#include "cli/verbs.h"

namespace skink::cli {

namespace {

int run_wait(Context& context, Arguments args) {
  NoOptions none;
  std::vector<std::string> names;
  if (auto status = read_arguments<NoOptions>(context, {}, args, none, names, {1, kAnyNumber})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  int status = 0;
  for (const auto& name : names) {
    const auto ended = [&]() -> Result<int> {
      const std::string id = TRY(engine->resolve(name));
      return TRY_CTX(engine->wait(id), name);
    }();
    if (ended) context.say(str(*ended));
    else status = context.fail(ended.error());
  }
  return status;
}

}  // namespace

const Verb kWaitVerb{
    "wait",
    "CONTAINER...",
    "Wait until containers have stopped and print their exit statuses",
    R"(A container that its policy relaunches has not stopped. One exit status a line, in the
order of the arguments; 128 + N for a container that signal N ended. A status that nobody
saw is not made up: of a container that was never started, that was removed (rm, run --rm)
before it could be asked, or whose guard and supervisor died together, there is none.

Exit status: 0; 1 if of any container there is no exit status, or it could not be waited for.

Example:
  skink wait job
)",
    1,
    run_wait,
};

}  // namespace skink::cli
