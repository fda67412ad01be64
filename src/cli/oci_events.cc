// SPDX-License-Identifier: Apache-2.0
// events of skink-oci: what a container uses, now or again and again, and that it is out of memory or short of it.
#include <poll.h>

#include <cerrno>

#include "base/text.h"
#include "cgroup/usage.h"
#include "cgroup/watch.h"
#include "cli/oci_stats.h"
#include "cli/oci_verbs.h"

namespace skink::cli {
namespace {

constexpr std::int64_t kMillion = 1'000'000;

struct EventOptions {
  bool stats = false;
  std::int64_t interval_ns = 5'000 * kMillion;
};

Result<void> set_interval(EventOptions& options, std::string_view value) {
  options.interval_ns = TRY(parse_duration_ns(value));
  if (options.interval_ns >= kMillion) return {};
  return Error::make(Code::invalid_config, quoted(value), " is less than 1ms");
}

constexpr Option<EventOptions> kEventOptions[] = {
    {{"stats", 0, nullptr, "what it uses now, and no more"}, set_switch<&EventOptions::stats>},
    {{"interval", 0, "TIME", "how often to tell what it uses (default 5s)"}, set_interval},
};

Result<void> print_line(const std::string& line) { return sys::write_all(1, line, "standard output"); }

std::string event_line(const std::string& id, const cgroup::Happening& happening) {
  // An id needs no escaping.
  if (happening.kind == cgroup::Happening::Kind::out_of_memory) return str("{\"type\":\"oom\",\"id\":\"", id, "\"}\n");
  return str("{\"type\":\"memory-pressure\",\"id\":\"", id, "\",\"data\":{\"level\":\"", happening.level, "\"}}\n");
}

// Until the container's first process has ended.
class EventLoop {
 public:
  EventLoop(const state::Record& record, cgroup::Watch watch, int init_fd, std::int64_t interval_ns)
      : record_(record), watch_(std::move(watch)), interval_ns_(interval_ns) {
    polled_.reserve(watch_.sources().size() + 1);
    for (const auto& source : watch_.sources()) polled_.push_back({source.fd.get(), source.events, 0});
    polled_.push_back({init_fd, POLLIN, 0});
  }

  Result<void> run() {
    for (;;) {
      TRY(print_line(stats_event(record_.id, TRY(cgroup::usage_of(*record_.cgroup)))));
      const std::int64_t next = fs::monotonic_ns() + interval_ns_;
      while (fs::monotonic_ns() < next) {
        TRY(wait(next - fs::monotonic_ns()));
        for (const auto& happening : watch_.take(polled_)) TRY(print_line(event_line(record_.id, happening)));
        // Order: a process that died for want of memory has told so before.
        if (polled_.back().revents != 0) return {};
      }
    }
  }

 private:
  Result<void> wait(std::int64_t ns) {
    const int ms = static_cast<int>(std::clamp<std::int64_t>(ns / kMillion + 1, 1, 60'000));
    for (pollfd& entry : polled_) entry.revents = 0;
    if (::poll(polled_.data(), polled_.size(), ms) < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    return {};
  }

  const state::Record& record_;
  cgroup::Watch watch_;
  std::vector<pollfd> polled_;
  std::int64_t interval_ns_;
};

}  // namespace

Result<int> oci_events(const OciGlobals& globals, Arguments args) {
  EventOptions options;
  const auto line = TRY(read_verb(std::span<const Option<EventOptions>>(kEventOptions), args, options,
                                  "events [--stats] [--interval TIME] ID"));
  if (line.help) return 0;
  const auto [root, container] = TRY(look_at_container(globals, line.operands[0]));
  const auto& record = container.record();
  auto init = container.open_init();
  if (!init) return not_running(record.id);
  if (!record.cgroup)
    return Error::make(Code::unsupported, "container ", quoted(record.id),
                       " was made without control groups, which count what it uses");
  if (options.stats) {
    TRY(print_line(stats_event(record.id, TRY(cgroup::usage_of(*record.cgroup)))));
    return 0;
  }
  const auto group = TRY(cgroup::Group::open(*record.cgroup));
  EventLoop loop(record, TRY(cgroup::Watch::open(group)), init->get(), options.interval_ns);
  TRY(loop.run());
  return 0;
}

}  // namespace skink::cli
