// SPDX-License-Identifier: Apache-2.0
// skink why: one page on why a container does not run, or was relaunched, as somebody reads it at night.
#include "base/text.h"
#include "cli/container_json.h"
#include "cli/hints.h"
#include "cli/human.h"
#include "cli/template.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "sys/process.h"

namespace skink::cli {

namespace {

struct WhyCommand {
  bool json = false;
};

constexpr Option<WhyCommand> kWhyOptions[] = {
    {{"format", 'f', "json", "the same for programs"},
     [](WhyCommand& c, std::string_view v) -> Result<void> {
       if (v != "json") return Error::make(Code::invalid_config, quoted(v), ": only json is there");
       c.json = true;
       return {};
     }},
};

// The statuses that shells and skink give a meaning (docs/exit-codes.md).
std::string_view meaning_of(int status) {
  switch (status) {
    case 0: return ", which means success";
    case 125: return ", which skink itself uses when it fails";
    case 126: return ", which mostly means that the program cannot be executed";
    case 127: return ", which mostly means that a program is not there";
    default: return "";
  }
}

std::string end_text(const LastExit& last) {
  if (!last.error.empty()) return str("it could not be launched: ", printable(last.error));
  if (!last.known) return "nobody saw how: skink was killed or the machine went down under it";
  std::string text = last.signal != 0
                         ? str("signal ", last.signal, " (", sys::signal_name(last.signal), ") ended it")
                         : str("it ended by itself with exit status ", last.status, meaning_of(last.status));
  if (!last.cause.empty()) text += str("; ", printable(last.cause));
  else if (last.oom) text += "; the kernel's OOM killer struck";
  else if (last.signal != 0) text += "; not sent by skink, so by itself, a process inside or somebody on the host";
  return text;
}

class Page {
 public:
  void line(std::string_view title, std::string_view text) {
    text_ += str(title, std::string(title.size() < kColumn ? kColumn - title.size() : 1, ' '), text, '\n');
  }
  void raw(std::string_view text) { text_ += text; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  static constexpr std::size_t kColumn = 13;
  std::string text_;
};

std::string policy_text(const RestartPolicy& policy) {
  std::string text = to_text(policy);
  if (!policy.at_once.empty()) text += str("; at once after status ", to_text(policy.at_once));
  if (!policy.never.empty()) text += str("; never after status ", to_text(policy.never));
  if (policy.budget != 0) text += str("; at most ", policy.budget, " ends within ", duration_text(policy.budget_ns));
  return text;
}

void add_history(const ContainerInfo& info, std::int64_t now, Page& page) {
  if (info.history.size() < 2) return;
  page.raw("\nIts last runs, the latest first:\n");
  for (auto run = info.history.rbegin(); run != info.history.rend(); ++run) {
    const std::int64_t ran = run->exit.at_ns > run->started_ns ? run->exit.at_ns - run->started_ns : 0;
    const std::string status = run->exit.known ? str(run->exit.status) : std::string("?");
    const std::string length = !run->exit.error.empty() ? ", it was not launched"
                               : run->started_ns == 0   ? ""
                                                        : str(" after ", duration_text(ran));
    const std::string when = run->exit.at_ns == 0 ? "not known when" : human_ago(run->exit.at_ns, now);
    page.raw(str("  ", when, ": status ", status, run->exit.oom ? " (out of memory)" : "", length, "; ",
                 printable(run->outcome), '\n'));
  }
}

std::string indented(std::string_view output) {
  std::string text;
  for (const auto line : split(output.ends_with('\n') ? output.substr(0, output.size() - 1) : output, '\n'))
    text += str("  ", printable(line), '\n');
  return text;
}

// What to type next, by what is known.
std::vector<std::string> next_steps(const ContainerInfo& info, const std::string& output) {
  const std::string name = info.name.empty() ? short_id(info.id) : info.name;
  std::vector<std::string> steps;
  const bool down = info.phase != Phase::running && info.phase != Phase::paused;
  if (info.phase == Phase::paused) steps.push_back(str("skink unpause ", name));
  if (info.last_exit && info.last_exit->oom) steps.push_back(str("skink update -m SIZE ", name, "   # more memory"));
  if (down && tells_of_read_only_root(output))
    steps.emplace_back("make it anew with --tmpfs PATH or --writable: its root is read-only");
  if (info.last_exit && (info.last_exit->status == 126 || info.last_exit->status == 127) && !info.image.empty())
    steps.push_back(str("skink run --rm -it --entrypoint sh ", info.image, "   # look around in the image"));
  if (!info.asked_to_end.empty()) steps.push_back(str("skink start ", name, "   # it shall go on after all"));
  if (info.phase == Phase::unknown) steps.emplace_back("skink heal");
  if (info.phase == Phase::restarting) steps.push_back(str("skink stop ", name, "   # ends the relaunching"));
  if (info.phase == Phase::created || info.phase == Phase::exited) steps.push_back(str("skink start ", name));
  steps.push_back(str("skink logs ", name));
  return steps;
}

std::string page_of(const ContainerInfo& info, const std::string& output, std::int64_t now) {
  Page page;
  page.line("Container:", str(printable(info.name), " (", short_id(info.id), "), image ", printable(info.image)));
  page.line("State:", status_text(info, now));
  if (info.phase == Phase::running || info.phase == Phase::paused)
    page.line("Process:", str(info.pid, relaunches_text(info.restarts)));
  if (!info.asked_to_end.empty())
    page.line("Ending:", str(printable(info.asked_to_end), "; when it has ended it is not started again"));
  if (!info.said.empty()) page.line("It says:", printable(info.said));
  for (const auto line : split(info.probe_texts, '\n'))
    if (!line.empty()) page.line("Probe:", printable(line));
  if (!info.problem.empty()) page.line("Damaged:", printable(info.problem));
  if (info.phase == Phase::created && !info.last_exit) page.line("Because:", "nobody has started it");
  if (info.last_exit) {
    page.line("Last end:", info.last_exit->at_ns == 0 ? "not known when" : human_ago(info.last_exit->at_ns, now));
    page.line("Because:", end_text(*info.last_exit));
  }
  if (!info.history.empty()) page.line("Then:", printable(info.history.back().outcome));
  page.line("Policy:", policy_text(info.restart));
  add_history(info, now, page);
  if (!output.empty()) page.raw(str("\nThe last lines of its output:\n", indented(output)));
  page.raw("\nNext:\n");
  for (const auto& step : next_steps(info, output)) page.raw(str("  ", step, '\n'));
  return page.text();
}

int run_why(Context& context, Arguments args) {
  WhyCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<WhyCommand>(context, kWhyOptions, args, command, names, {1, kAnyNumber}))
    return *status;
  bool first = true;
  return for_each_container(
      context, names,
      [&](Engine& engine, const std::string& id) -> Result<void> {
        const ContainerInfo info = TRY(engine.info(id));
        const std::string output = LastOutput::of(engine, id).read();
        if (command.json) {
          oci::Json json = container_json(info, fs::now_ns());
          json["because"] = info.last_exit ? end_text(*info.last_exit) : std::string();
          json["output"] = output;
          json["next"] = next_steps(info, output);
          context.say(json_line(json));
        } else {
          context.out().print(str(first ? "" : "\n", page_of(info, output, fs::now_ns())));
        }
        first = false;
        return {};
      },
      Echo::nothing);
}

}  // namespace

const Verb kWhyVerb{
    "why",
    "[OPTIONS] CONTAINER...",
    "Tell why a container does not run or was relaunched",
    R"(One page: its state, how its last run ended (exit status, signal and who sent it, whose
memory limit was hit), what the restart policy made of that, the runs before, the last lines
of its output, and what to type next.

Exit status: 0; 1 if any of them does not exist (the others are told).

Examples:
  skink why web
  skink why --format json web
)",
    1,
    run_why,
};

}  // namespace skink::cli
