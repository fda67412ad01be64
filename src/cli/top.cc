// SPDX-License-Identifier: Apache-2.0
// skink top: the processes of a container, out of /proc. No `ps` is run, neither the host's nor the container's.
#include <fcntl.h>
#include <sys/sysinfo.h>

#include <algorithm>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cli/listing.h"
#include "cli/top_table.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "security/security.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

constexpr std::string_view kUsual = "uid,pid,ppid,%cpu,start,tty,time,cmd";
constexpr std::string_view kOfUser = "user,pid,%cpu,%mem,vsz,rss,tty,stat,start,time,cmd";

struct TopCommand {
  std::vector<const TopColumn*> columns;
  Format format;
  TopOrder order = TopOrder::tree;
};

Result<void> set_columns(TopCommand& command, std::string_view names) {
  command.columns = TRY(parse_columns(names));
  return {};
}

constexpr Option<TopCommand> kTopOptions[] = {
    {{"columns", 'o', "LIST", "what to show: columns with commas between them, see below"}, set_columns},
    {{"format", 0, "FORMAT", "table, json, or a template such as '{{.pid}} {{.comm}}'"},
     [](TopCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"sort", 0, "ORDER", "tree: children after their parent (the default); or pid"},
     [](TopCommand& c, std::string_view v) -> Result<void> {
       if (v != "tree" && v != "pid")
         return Error::make(Code::invalid_config, skink::quoted(v), " is neither tree nor pid");
       c.order = v == "tree" ? TopOrder::tree : TopOrder::pid;
       return {};
     }},
    // ps -ef, ps -eo LIST: the processes are the container's in any case, and all of their words are shown.
    {{"every", 'e', nullptr, nullptr}, set_nothing<TopCommand>},
    {{"full", 'f', nullptr, nullptr}, set_nothing<TopCommand>},
};

// What may stand after CONTAINER for those who are used to `docker top web aux`.
Result<void> take_ps_word(TopCommand& command, const std::string& word) {
  if (word.empty() || word.find_first_not_of("auxwef") != std::string::npos)
    return Error::make(Code::unsupported, skink::quoted(word),
                       " is an option of ps that is not known here; choose columns with -o, or use --format json");
  if (word.find('u') != std::string::npos && command.columns.empty()) command.columns = TRY(parse_columns(kOfUser));
  return {};
}

Error not_running(const Engine& engine, const std::string& id, const std::string& name) {
  const auto info = engine.info(id);
  if (info && info->phase == Phase::restarting)
    return Error::make(Code::busy, name, ": it is not running: it waits for its relaunch (skink ps)");
  return Error::make(Code::busy, name, ": it is not running; skink start ", name);
}

// Those in the container's groups; none when it does not run. A number that had gone to a process elsewhere by the time
// we read it is not in the groups afterwards.
Result<std::vector<Process>> processes_of(const Engine& engine, const std::string& id) {
  std::vector<Process> processes;
  const auto location = engine.groups(id);
  if (!location && location.error().code() == Code::not_found) return processes;
  const auto group = TRY(cgroup::Group::open(TRY(location)));
  // Thousands of processes with long command lines are no reason to grow without an end.
  constexpr std::size_t kMostBytes = 16U << 20, kWord = 64;
  std::size_t left = kMostBytes;
  for (const pid_t pid : TRY(group.processes())) {
    auto process = read_process(pid, left);
    if (!process) continue;
    for (const auto& word : process->args) left -= std::min(left, word.size() + kWord);
    processes.push_back(std::move(*process));
  }
  auto still = TRY(group.processes());
  std::ranges::sort(still);
  std::erase_if(processes, [&](const Process& process) { return !std::ranges::binary_search(still, process.pid); });
  return processes;
}

TopFacts facts_for(const std::vector<Process>& processes) {
  TopFacts facts;
  facts.now_ns = fs::now_ns();
  facts.since_boot_ns = fs::monotonic_ns();
  struct sysinfo host {};
  if (::sysinfo(&host) == 0) facts.host_memory = static_cast<std::uint64_t>(host.totalram) * host.mem_unit;
  constexpr const char* kUsers = "/etc/passwd";
  const auto file = sys::open_at(AT_FDCWD, kUsers, O_RDONLY);
  const auto text = file ? security::read_user_file(file->get(), kUsers) : Result<std::string>(file.error());
  if (!text) return facts;
  const security::UserFiles files{*text, ""};
  for (const Process& process : processes) {
    if (facts.users.contains(process.uid)) continue;
    const auto user = security::resolve_user(files, str(process.uid), {});
    if (user && !user->name.empty()) facts.users.emplace(process.uid, printable(user->name));
  }
  return facts;
}

Result<std::string> render(const TopCommand& command, std::vector<Process> processes) {
  sort_processes(processes, command.order);
  const TopFacts facts = facts_for(processes);
  std::vector<Item> items;
  for (const Process& process : processes) {
    Item item;
    if (command.format.kind == Format::Kind::table) item.row = top_row(command.columns, process, facts);
    else item.json = process_json(process, facts);
    items.push_back(std::move(item));
  }
  return render_list(command.format, top_heading(command.columns), items);
}

int run_top(Context& context, Arguments args) {
  TopCommand command;
  std::vector<std::string> words;
  if (auto status = read_arguments<TopCommand>(context, kTopOptions, args, command, words, {1, kAnyNumber}))
    return *status;
  for (std::size_t i = 1; i < words.size(); ++i)
    if (auto taken = take_ps_word(command, words[i]); !taken) return context.misuse(taken.error());
  if (command.columns.empty()) command.columns = *parse_columns(kUsual);
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  const auto id = engine->resolve(words[0]);
  if (!id) return context.fail(id.error());
  auto processes = processes_of(*engine, *id);
  if (!processes) return context.fail(processes.error().context(words[0]));
  if (processes->empty()) return context.fail(not_running(*engine, *id, words[0]));
  auto text = render(command, std::move(*processes));
  if (!text) return context.fail(text.error().context("--format"));
  context.out().print(*text);
  return 0;
}

}  // namespace

const Verb kTopVerb{
    "top",
    "[OPTIONS] CONTAINER [PS-OPTIONS]",
    "Show the processes of a container",
    R"(Those in its control groups, out of /proc: no ps is needed, neither here nor in the container,
and programs that skink exec started are there too. PID and PPID are the host's numbers, NSPID
is the number in the container; %CPU is over a process's whole life, UID a number and USER the
name that this host has for it.

Columns for -o: user, uid, pid, nspid, ppid, %cpu, %mem, vsz, rss, ni, nlwp, stat, start, tty,
time, comm, cmd, and ps's other words for them (pcpu, args, ...). Of ps's options -e, -f, -ef,
-eo LIST and aux are understood. Templates know the fields of --format json: skink-json(5).

Exit status: 0; 1 on failure or when the container does not run.

Examples:
  skink top web
  skink top web -o pid,nspid,rss,cmd
  skink top web aux
)",
    1,
    run_top,
};

}  // namespace skink::cli
