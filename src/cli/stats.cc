// SPDX-License-Identifier: Apache-2.0
// skink stats: what containers use, once or again and again.
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>

#include "base/text.h"
#include "cli/listing.h"
#include "cli/ps.h"
#include "cli/stats_json.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

constexpr std::int64_t kMillion = 1'000'000;
constexpr std::int64_t kLeastInterval = 100 * kMillion, kMostInterval = 24 * 3'600'000 * kMillion;
// Between the two samples that the first CPU % is made of.
constexpr std::int64_t kFirstPause = 500 * kMillion;

struct StatsCommand {
  bool all = false, once = false, whole = false;
  Format format;
  std::int64_t interval_ns = 1'000 * kMillion;
};

constexpr Option<StatsCommand> kStatsOptions[] = {
    {{"all", 'a', nullptr, "also containers that do not run"}, set_switch<&StatsCommand::all>},
    {{"format", 0, "FORMAT", "table, json, or a template such as '{{.Name}}\\t{{.CPUPerc}}'"},
     [](StatsCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"interval", 0, "T", "between two tables, from 100ms to 24h (default 1s)"},
     [](StatsCommand& c, std::string_view v) -> Result<void> {
       c.interval_ns = TRY(parse_duration_ns(v));
       if (c.interval_ns >= kLeastInterval && c.interval_ns <= kMostInterval) return {};
       return Error::make(Code::invalid_config, skink::quoted(v), " is not from 100ms to 24h");
     }},
    {{"no-stream", 0, nullptr, "one table, and the end"}, set_switch<&StatsCommand::once>},
    {{"no-trunc", 0, nullptr, "whole ids"}, set_switch<&StatsCommand::whole>},
};

enum class Woken { in_time, interrupted, unread };

// Sleeps until it is time again, somebody presses ^C, or nobody reads what we print.
class Pause {
 public:
  static Result<Pause> make() {
    Pause pause;
    // A shell's background job has SIGINT ignored, and shall go on.
    struct sigaction now {};
    if (::sigaction(SIGINT, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) return pause;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return Error::from_errno(errno, "sigprocmask");
    pause.interrupt_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!pause.interrupt_) return Error::from_errno(errno, "signalfd");
    return pause;
  }

  [[nodiscard]] Woken until(std::int64_t deadline_ns) const {
    for (;;) {
      // A pipe without a reader and a terminal that hung up are told without being asked for.
      pollfd polled[] = {{interrupt_ ? interrupt_.get() : -1, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
      const std::int64_t left = std::max<std::int64_t>(deadline_ns - fs::monotonic_ns(), 0);
      const int ms = static_cast<int>(std::min<std::int64_t>((left + kMillion - 1) / kMillion, 60'000));
      if (::poll(polled, 2, ms) < 0) continue;
      if (polled[0].revents != 0) return Woken::interrupted;
      if ((polled[1].revents & (POLLERR | POLLHUP)) != 0) return Woken::unread;
      if (fs::monotonic_ns() >= deadline_ns) return Woken::in_time;
    }
  }

 private:
  UniqueFd interrupt_;
};

// Takes round after round of samples, and keeps of each what the next one's CPU % is made with.
class Sampler {
 public:
  /// `ids`: the containers to look at; empty: those that run, or with `all` every one.
  Sampler(const Engine& engine, std::vector<std::string> ids, bool all)
      : engine_(engine), ids_(std::move(ids)), all_(all) {
    struct sysinfo host {};
    if (::sysinfo(&host) == 0) host_memory_ = static_cast<std::uint64_t>(host.totalram) * host.mem_unit;
  }

  Result<std::vector<StatsEntry>> round() {
    std::vector<StatsEntry> entries;
    std::map<std::string, cgroup::Sample> now;
    for (ContainerInfo& info : TRY(choose())) {
      StatsEntry entry{sample_container(engine_, std::move(info)), {}, host_memory_};
      if (const auto& use = entry.sample.use) {
        const auto before = before_.find(entry.sample.info.id);
        if (before != before_.end()) entry.cpu_percent = cgroup::cpu_percent(before->second, *use);
        now.emplace(entry.sample.info.id, *use);
      }
      entries.push_back(std::move(entry));
    }
    before_ = std::move(now);
    return entries;
  }

 private:
  Result<std::vector<ContainerInfo>> choose() const {
    if (!ids_.empty()) return infos_of(engine_, ids_);
    auto infos = TRY(engine_.list());
    if (!all_) std::erase_if(infos, [](const ContainerInfo& info) { return !is_active(info); });
    return infos;
  }

  const Engine& engine_;
  std::vector<std::string> ids_;
  bool all_;
  std::uint64_t host_memory_ = 0;
  std::map<std::string, cgroup::Sample> before_;
};

Result<std::string> render(const StatsCommand& command, const std::vector<StatsEntry>& entries) {
  std::vector<Item> items;
  for (const StatsEntry& entry : entries) {
    Item item;
    if (command.format.kind == Format::Kind::table) item.row = stats_row(entry, command.whole);
    else item.json = stats_json(entry, Absent::left_out);
    if (command.format.lines) item.docker = docker_stats_json(entry, command.whole);
    items.push_back(std::move(item));
  }
  return render_list(command.format, stats_heading(), items);
}

// Over what is on the screen, without a moment in which it is empty (man 4 console_codes).
std::string redrawn(std::string_view text, bool first) {
  constexpr std::string_view kClear = "\x1b[2J", kHome = "\x1b[H", kEndOfLine = "\x1b[K", kBelow = "\x1b[J";
  std::string out = str(first ? kClear : "", kHome);
  for (const char c : text) {
    if (c == '\n') out += kEndOfLine;
    out += c;
  }
  return out += kBelow;
}

// Until there is nothing more to show, or nobody to show it to.
int show(Context& context, const StatsCommand& command, Sampler& sampler, bool named) {
  constexpr int kInterrupted = 128 + SIGINT;
  const auto pause = Pause::make();
  if (!pause) return context.fail(pause.error());
  const bool redraws = !command.once && command.format.kind != Format::Kind::json && ::isatty(STDOUT_FILENO) == 1;
  std::int64_t next = fs::monotonic_ns() + std::min(kFirstPause, command.interval_ns);
  if (auto first = sampler.round(); !first) return context.fail(first.error());
  for (bool first = true;; first = false) {
    const Woken woken = pause->until(next);
    if (woken != Woken::in_time) return woken == Woken::interrupted ? kInterrupted : 0;
    next = fs::monotonic_ns() + command.interval_ns;
    const auto entries = sampler.round();
    if (!entries) return context.fail(entries.error());
    if (named && entries->empty() && !first) return 0;  // all of them were removed
    auto text = render(command, *entries);
    if (!text) return context.fail(text.error().context("--format"));
    context.out().print(redraws ? redrawn(*text, first) : *text);
    if (command.once || context.out().is_done()) return 0;
  }
}

int run_stats(Context& context, Arguments args) {
  StatsCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<StatsCommand>(context, kStatsOptions, args, command, names, {0, kAnyNumber}))
    return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  int status = 0;
  auto ids = resolve_each(context, *engine, names, status);
  // Nobody would see the error under tables that go on and on.
  if (status != 0 && (ids.empty() || !command.once)) return status;
  Sampler sampler(*engine, std::move(ids), command.all);
  const int shown = show(context, command, sampler, !names.empty());
  return shown != 0 ? shown : status;
}

}  // namespace

const Verb kStatsVerb{
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Show what containers use, again and again",
    R"(Without CONTAINER all that run, with -a every one. A terminal is drawn anew each time, a pipe
gets table after table. A container that ends is gone from the next table, or with -a or by its
name stays with -- in its row. -- is also what this host does not tell.

CPU % is 100 for each processor that was busy all the time since the table before. MEM USAGE
is without the file cache that the kernel takes back first, LIMIT the host's memory where there
is none, and ANON / FILE / KERNEL what is charged to programs, files (shared memory and tmpfs
too) and the kernel. NET I/O is received and sent, without loopback; -- with --network host,
where nobody counts it by container. PIDS counts threads, with the limit if there is one. PSI
is the share of the last 10 s in % in which some task waited for want of a CPU, of memory, or
of a disk (Linux's pressure stall information; it needs cgroup v2 or a hybrid host).

--format json has an array each time, with bytes, nanoseconds and counts, and nothing that is
not known: skink-json(5). Templates know those fields and docker's (.ID .Name .CPUPerc
.MemUsage .MemPerc .NetIO .BlockIO .PIDs).

Exit status: 0; 1 on failure or when a CONTAINER does not exist; 130 after ^C.

Examples:
  skink stats
  skink stats --no-stream --format json web
  skink stats --no-stream --format '{{.Name}} {{.memory.anon}}'
)",
    1,
    run_stats,
};

}  // namespace skink::cli
