// SPDX-License-Identifier: Apache-2.0
#include "supervise/status.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/durations.h"
#include "fs/dir.h"
#include "oci/json.h"
#include "supervise/records.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

// Of an entry of `execs`, in status.json.
constexpr int kOfProbe = 1, kHalfMade = 2;

using oci::Json;
using oci::put;

constexpr int kStatusFormat = 1;
constexpr std::array<std::string_view, 5> kSteps = {"starting", "launching", "running", "waiting", "stopped"};

// The boot id is the document's own, so an identity is its number and its start time.
Json identity_json(const sys::ProcessIdentity& identity) { return Json::array({identity.pid, identity.start_time}); }

sys::ProcessIdentity identity_of(const Json* json, const std::string& boot_id) {
  if (json == nullptr || !json->is_array() || json->size() != 2 || !(*json)[0].is_number_integer() ||
      !(*json)[1].is_number_integer())
    return {};
  return {(*json)[0].get<pid_t>(), (*json)[1].get<std::uint64_t>(), boot_id};
}

std::uint64_t get_count(const Json& json, std::string_view key) {
  const std::int64_t value = oci::get_int(json, key);
  return value < 0 ? 0 : static_cast<std::uint64_t>(value);
}

Json said_json(const Said& said) {
  Json json = Json::object();
  put(json, "ready", said.ready);
  put(json, "stopping", said.stopping);
  put(json, "watched", said.watched);
  put(json, "missed", said.missed);
  put(json, "status", said.status);
  if (said.watchdog_ns) json["watchdog_ns"] = *said.watchdog_ns;
  return json;
}

Said said_of(const Json& json) {
  Said said{.ready = oci::get_bool(json, "ready"),
            .stopping = oci::get_bool(json, "stopping"),
            .watched = oci::get_bool(json, "watched"),
            .missed = oci::get_bool(json, "missed"),
            .status = oci::get_string(json, "status"),
            .watchdog_ns = {}};
  if (oci::find(json, "watchdog_ns") != nullptr)
    said.watchdog_ns = std::max<std::int64_t>(oci::get_int(json, "watchdog_ns"), 0);
  return said;
}

std::array<ProbeTally, 3> tallies_of(const Json* json) {
  std::array<ProbeTally, 3> tallies;
  if (json == nullptr || !json->is_array()) return tallies;
  for (std::size_t i = 0; i < std::min(tallies.size(), json->size()); ++i) {
    const Json& one = (*json)[i];
    const auto is_number = [](const Json& number) { return number.is_number_integer(); };
    if (!one.is_array() || one.size() != 3 || !std::ranges::all_of(one, is_number)) continue;
    tallies[i] = {one[0].get<std::uint32_t>(), one[1].get<std::uint32_t>(), one[2].get<std::int64_t>()};
  }
  return tallies;
}

}  // namespace

std::int64_t by_present_clock(std::int64_t unix_ns, std::int64_t boottime_ns) {
  if (unix_ns == 0 || boottime_ns == 0) return unix_ns;
  const std::int64_t present = fs::now_ns() - fs::monotonic_ns() + boottime_ns;
  return std::abs(present - unix_ns) < kSecond ? unix_ns : present;
}

std::string dump(const Status& s) {
  Json json{{"format", kStatusFormat}, {"boot", s.boot_id}, {"step", kSteps[static_cast<std::size_t>(s.step)]}};
  put(json, "paused", s.paused);
  put(json, "orphaned", s.orphaned);
  put(json, "stop_wanted", s.stop_wanted);
  put(json, "kill_at_ns", s.kill_at_ns);
  if (s.init.pid != 0) json["init"] = identity_json(s.init);
  if (s.supervisor.pid != 0) json["supervisor"] = identity_json(s.supervisor);
  if (s.guard.pid != 0) json["guard"] = identity_json(s.guard);
  put(json, "order", s.order);
  put(json, "wish_before", s.wish_before);
  put(json, "by_heal", s.by_heal);
  put(json, "incarnation", s.incarnation);
  put(json, "restarts", s.restarts);
  put(json, "failures_in_row", s.streak.failures_in_row);
  put(json, "started_ns", s.started_ns);
  put(json, "started_mono_ns", s.started_mono_ns);
  put(json, "finished_ns", s.finished_ns);
  put(json, "next_try_ns", s.next_try_ns);
  put(json, "next_try_mono_ns", s.next_try_mono_ns);
  put(json, "exits_from", s.exits_from);
  put(json, "oom_base", s.oom_base);
  for (const auto& limit : s.limits_base)
    json["limits_base"].push_back(Json::array({limit.path, limit.counter, limit.hits}));
  if (s.last_exit) json["last_exit"] = dump(*s.last_exit);
  put(json, "health", s.health);
  if (s.ready) json["ready"] = *s.ready;
  put(json, "probe_health", s.probe_health);
  put(json, "probe_ready", s.probe_ready);
  if (Json said = said_json(s.said); !said.empty()) json["said"] = std::move(said);
  put(json, "startup_passed", s.startup_passed);
  put(json, "probes_from_ns", s.probes_from_ns);
  if (s.probe_tallies != decltype(s.probe_tallies){}) {
    Json& tallies = json["probe_tallies"] = Json::array();
    for (const auto& one : s.probe_tallies) tallies.push_back(Json::array({one.failures, one.successes, one.next_ns}));
  }
  put(json, "probe_failure", s.probe_failure);
  put(json, "sender", s.sender);
  put(json, "sent_signal", s.sent_signal);
  if (s.standby.pid != 0) {
    json["standby"] = identity_json(s.standby);
    json["standby_sources"] = s.standby_sources;
  }
  put(json, "ends_ns", s.streak.ends_ns);
  Json execs = Json::array();
  for (const auto& exec : s.execs)
    execs.push_back(Json::array({exec.identity.pid, exec.identity.start_time, exec.exits_from,
                                 (exec.of_probe ? kOfProbe : 0) | (exec.half_made ? kHalfMade : 0), exec.token}));
  if (!execs.empty()) json["execs"] = std::move(execs);
  return oci::dump_json(json);
}

Result<Status> parse_status(std::string_view text) {
  const Json json = TRY(oci::parse_json(text, kRecordLimit));
  if (oci::get_int(json, "format") != kStatusFormat)
    return Error::make(Code::corrupt, "not a format that this skink reads");
  Status s;
  s.boot_id = oci::get_string(json, "boot");
  const std::string step = oci::get_string(json, "step");
  std::size_t at = 0;
  while (at < kSteps.size() && kSteps[at] != step) ++at;
  if (at == kSteps.size() || s.boot_id.empty()) return Error::make(Code::corrupt, "no step or no boot id");
  s.step = static_cast<Step>(at);
  s.paused = oci::get_bool(json, "paused");
  s.orphaned = oci::get_bool(json, "orphaned");
  s.stop_wanted = oci::get_bool(json, "stop_wanted");
  s.kill_at_ns = oci::get_int(json, "kill_at_ns");
  s.init = identity_of(oci::find(json, "init"), s.boot_id);
  s.supervisor = identity_of(oci::find(json, "supervisor"), s.boot_id);
  s.guard = identity_of(oci::find(json, "guard"), s.boot_id);
  s.order = get_count(json, "order");
  s.wish_before = oci::get_string(json, "wish_before");
  s.by_heal = oci::get_bool(json, "by_heal");
  s.incarnation = get_count(json, "incarnation");
  s.restarts = get_count(json, "restarts");
  s.streak.failures_in_row = get_count(json, "failures_in_row");
  if (const Json* ends = oci::find(json, "ends_ns"); ends != nullptr && ends->is_array())
    for (const Json& end : *ends)
      if (end.is_number_integer()) s.streak.ends_ns.push_back(end.get<std::int64_t>());
  s.started_ns = oci::get_int(json, "started_ns");
  s.started_mono_ns = oci::get_int(json, "started_mono_ns");
  s.finished_ns = oci::get_int(json, "finished_ns");
  s.next_try_ns = oci::get_int(json, "next_try_ns");
  s.next_try_mono_ns = oci::get_int(json, "next_try_mono_ns");
  s.exits_from = oci::get_int(json, "exits_from");
  s.health = oci::get_string(json, "health");
  if (oci::find(json, "ready") != nullptr) s.ready = oci::get_bool(json, "ready");
  s.probe_health = oci::get_string(json, "probe_health");
  s.probe_ready = oci::get_bool(json, "probe_ready");
  if (const Json* said = oci::find(json, "said"); said != nullptr && said->is_object()) s.said = said_of(*said);
  s.startup_passed = oci::get_bool(json, "startup_passed");
  s.probes_from_ns = oci::get_int(json, "probes_from_ns");
  s.probe_tallies = tallies_of(oci::find(json, "probe_tallies"));
  s.probe_failure = oci::get_string(json, "probe_failure");
  s.sender = oci::get_string(json, "sender");
  s.standby = identity_of(oci::find(json, "standby"), s.boot_id);
  if (const Json* sources = oci::find(json, "standby_sources"); sources != nullptr && sources->is_number_unsigned())
    s.standby_sources = sources->get<std::uint64_t>();
  s.sent_signal = static_cast<int>(oci::get_int(json, "sent_signal"));
  s.oom_base = get_count(json, "oom_base");
  if (const Json* limits = oci::find(json, "limits_base"); limits != nullptr && limits->is_array())
    for (const Json& limit : *limits)
      if (limit.is_array() && limit.size() == 3 && limit[0].is_string() && limit[1].is_string() &&
          limit[2].is_number_unsigned())
        s.limits_base.push_back({.path = limit[0].get<std::string>(),
                                 .bytes = 0,
                                 .hits = limit[2].get<std::uint64_t>(),
                                 .counter = limit[1].get<std::string>()});
  if (const std::string last = oci::get_string(json, "last_exit"); !last.empty())
    s.last_exit = TRY(parse_last_exit(last));
  if (const Json* execs = oci::find(json, "execs"); execs != nullptr && execs->is_array())
    for (const Json& exec : *execs) {
      if (!exec.is_array() || exec.size() < 3 || !exec[0].is_number_integer() || !exec[1].is_number_integer() ||
          !exec[2].is_number_integer())
        return Error::make(Code::corrupt, "execs: not a list of processes");
      const int what = exec.size() > 3 && exec[3].is_number_integer() ? exec[3].get<int>() : 0;
      s.execs.push_back({{exec[0].get<pid_t>(), exec[1].get<std::uint64_t>(), s.boot_id},
                         exec[2].get<std::int64_t>(),
                         (what & kOfProbe) != 0,
                         (what & kHalfMade) != 0,
                         exec.size() > 4 && exec[4].is_string() ? exec[4].get<std::string>() : std::string()});
    }
  return s;
}

namespace {

// One write(2) of as many bytes as are there or as have a place reserved, so that it needs nothing of the disk.
Result<void> overwrite(int run_dir_fd, std::string text) {
  const UniqueFd file = TRY(sys::open_at(run_dir_fd, kStatusFile, O_WRONLY | O_NOFOLLOW));
  const auto there = TRY(sys::stat_fd(file.get(), kStatusFile));
  constexpr off_t kBlock = 512;  // the unit of st_blocks, whatever the file system's is
  const auto room = static_cast<std::size_t>(std::max<off_t>(there.st_size, there.st_blocks * kBlock));
  if (text.size() > room) return Error::from_errno(ENOSPC, "write ", std::string_view(kStatusFile));
  // What was longer before ends in blanks.
  text.resize(std::max(text.size(), static_cast<std::size_t>(there.st_size)), ' ');
  if (::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return Error::from_errno(errno, "write ", std::string_view(kStatusFile));
  return {};
}

Result<Status> read_once(int run_dir_fd) {
  auto text = fs::read_file(run_dir_fd, kStatusFile, kRecordLimit);
  if (!text && text.error().errnum() == ENOENT)
    return Error::make(Code::not_found, std::string_view(kStatusFile), " is missing");
  auto status = parse_status(TRY(std::move(text)));
  if (!status) return std::move(status.error().context(std::string_view(kStatusFile))).as(Code::corrupt);
  return status;
}

}  // namespace

Result<void> write_status(int run_dir_fd, const Status& status) {
  auto written = fs::write_file_atomic(run_dir_fd, kStatusFile, dump(status), 0600);
  if (written || (written.error().errnum() != ENOSPC && written.error().errnum() != EDQUOT)) return written;
  return overwrite(run_dir_fd, dump(status)) ? Result<void>{} : written;
}

Result<Status> read_status(int run_dir_fd) {
  auto status = read_once(run_dir_fd);
  if (!status && status.error().code() == Code::corrupt) status = read_once(run_dir_fd);
  if (!status) return status;
  // Numbers of processes from before a reboot name strangers now.
  if (status->boot_id != TRY(sys::boot_id()))
    return Error::make(Code::not_found, std::string_view(kStatusFile), " is of another boot");
  return status;
}

}  // namespace skink::supervise
