// SPDX-License-Identifier: Apache-2.0
#include "supervise/records.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "base/text.h"
#include "fs/dir.h"
#include "oci/json.h"
#include "security/security.h"
#include "supervise/probe.h"
#include "sys/descriptors.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

using oci::Json;
using oci::put;

constexpr int kFormat = 1;

Json policy_json(const RestartPolicy& policy) {
  const RestartPolicy usual;
  const auto percent = [](double part) { return static_cast<std::int64_t>(part * 100); };
  Json json = Json::object();
  put(json, "policy", to_text(policy), "");
  put(json, "first_delay_ns", policy.first_delay_ns, usual.first_delay_ns);
  put(json, "longest_delay_ns", policy.longest_delay_ns, usual.longest_delay_ns);
  put(json, "factor_percent", percent(policy.factor), percent(usual.factor));
  put(json, "reset_after_ns", policy.reset_after_ns, usual.reset_after_ns);
  put(json, "jitter_percent", percent(policy.jitter), percent(usual.jitter));
  put(json, "at_once", to_text(policy.at_once));
  put(json, "never", to_text(policy.never));
  put(json, "budget", policy.budget);
  put(json, "budget_ns", policy.budget_ns);
  return json;
}

Result<RestartPolicy> parse_policy(const Json* json) {
  if (json == nullptr) return RestartPolicy{};
  RestartPolicy policy = TRY(parse_restart_policy(oci::get_string(*json, "policy", "no")));
  policy.first_delay_ns = oci::get_int(*json, "first_delay_ns", policy.first_delay_ns);
  policy.longest_delay_ns = oci::get_int(*json, "longest_delay_ns", policy.longest_delay_ns);
  policy.factor = static_cast<double>(oci::get_int(*json, "factor_percent", 200)) / 100;
  policy.reset_after_ns = oci::get_int(*json, "reset_after_ns", policy.reset_after_ns);
  policy.jitter = static_cast<double>(oci::get_int(*json, "jitter_percent", 10)) / 100;
  policy.at_once = TRY(parse_status_ranges(oci::get_string(*json, "at_once")));
  policy.never = TRY(parse_status_ranges(oci::get_string(*json, "never")));
  policy.budget = static_cast<std::uint32_t>(oci::get_int(*json, "budget"));
  policy.budget_ns = oci::get_int(*json, "budget_ns");
  return policy;
}

std::array<std::pair<const char*, const Probe*>, 3> named_probes(const Probes& probes) {
  return {{{"startup", &probes.startup}, {"liveness", &probes.liveness}, {"readiness", &probes.readiness}}};
}

std::vector<std::string> strings_of(const Json& json, std::string_view key) {
  std::vector<std::string> strings;
  const Json* list = oci::find(json, key);
  if (list == nullptr || !list->is_array()) return strings;
  for (const Json& entry : *list)
    if (entry.is_string()) strings.push_back(entry.get<std::string>());
  return strings;
}

}  // namespace

std::string dump(const Container& c) {
  const Container usual;
  Json json{{"format", kFormat}, {"id", c.id}, {"name", c.name}};
  put(json, "image", c.image);
  put(json, "image_id", c.image_id);
  put(json, "bundle", c.bundle);
  put(json, "store", c.store);
  put(json, "run", c.run);
  put(json, "command", c.command);
  put(json, "created_ns", c.created_ns);
  json["restart"] = policy_json(c.restart);
  put(json, "stop_signal", c.stop_signal, SIGTERM);
  put(json, "stop_timeout_ns", c.stop_timeout_ns, usual.stop_timeout_ns);
  put(json, "remove_at_end", c.remove_at_end);
  put(json, "durable", c.durable, true);
  put(json, "tty", c.tty);
  put(json, "interactive", c.interactive);
  put(json, "writable", c.writable);
  put(json, "standby", c.standby);
  put(json, "hosts", c.hosts);
  put(json, "hostname", c.hostname);
  put(json, "dns", c.dns);
  put(json, "dns_search", c.dns_search);
  put(json, "host_network", c.host_network);
  put(json, "log_driver", c.log_driver);
  put(json, "default_seccomp", c.default_seccomp);
  if (!c.labels.empty()) json["labels"] = c.labels;
  if (c.storage_size) json["storage_size"] = *c.storage_size;
  for (const auto& [name, probe] : named_probes(c.probes))
    if (probe->kind != Probe::Kind::none) json[name] = probe_json(*probe);
  if (c.log_limits.max_size != 0)
    json["log_limits"] = Json::array({c.log_limits.max_size, c.log_limits.max_files, c.log_limits.compress ? 1 : 0});
  if (!c.cri_log.path.empty()) json["cri_log"] = Json::array({c.cri_log.path, c.cri_log.max_size, c.cri_log.max_files});
  if (c.ready_by != ReadyBy::conmon) json["sdnotify"] = to_text(c.ready_by);
  if (c.watchdog_ns != 0) json["watchdog_ns"] = c.watchdog_ns;
  if (c.starter) json["starter"] = Json::array({c.starter->pid, c.starter->start_time, c.starter->boot_id});
  return oci::dump_json(json);
}

Result<Container> parse_container(std::string_view text) {
  const Json json = TRY(oci::parse_json(text, kRecordLimit));
  if (oci::get_int(json, "format") != kFormat)
    return Error::make(Code::corrupt, "format ", oci::get_int(json, "format"), " is not one that this skink reads (",
                       kFormat, ")");
  Container c;
  c.id = oci::get_string(json, "id");
  c.name = oci::get_string(json, "name");
  c.image = oci::get_string(json, "image");
  c.image_id = oci::get_string(json, "image_id");
  c.bundle = oci::get_string(json, "bundle");
  c.store = oci::get_string(json, "store");
  c.run = oci::get_string(json, "run");
  c.command = strings_of(json, "command");
  c.created_ns = oci::get_int(json, "created_ns");
  c.restart = TRY(parse_policy(oci::find(json, "restart")));
  c.stop_signal = static_cast<int>(oci::get_int(json, "stop_signal", SIGTERM));
  c.stop_timeout_ns = oci::get_int(json, "stop_timeout_ns", c.stop_timeout_ns);
  c.remove_at_end = oci::get_bool(json, "remove_at_end");
  c.durable = oci::get_bool(json, "durable", true);
  c.tty = oci::get_bool(json, "tty");
  c.interactive = oci::get_bool(json, "interactive");
  c.writable = oci::get_bool(json, "writable");
  c.standby = oci::get_bool(json, "standby");
  c.hosts = oci::get_string(json, "hosts");
  c.hostname = oci::get_string(json, "hostname");
  c.dns = strings_of(json, "dns");
  c.dns_search = strings_of(json, "dns_search");
  c.host_network = oci::get_bool(json, "host_network");
  c.log_driver = oci::get_string(json, "log_driver");
  c.default_seccomp = oci::get_bool(json, "default_seccomp");
  c.probes = {probe_of(oci::find(json, "startup")), probe_of(oci::find(json, "liveness")),
              probe_of(oci::find(json, "readiness"))};
  if (const Json* limits = oci::find(json, "log_limits"); limits != nullptr && limits->is_array() &&
                                                          limits->size() == 3 && (*limits)[0].is_number_integer() &&
                                                          (*limits)[1].is_number_integer())
    c.log_limits = {std::max<std::int64_t>((*limits)[0].get<std::int64_t>(), 0),
                    std::max<std::uint32_t>((*limits)[1].get<std::uint32_t>(), 1), (*limits)[2] == 1};
  if (const Json* log = oci::find(json, "cri_log"); log != nullptr && log->is_array() && log->size() == 3 &&
                                                    (*log)[0].is_string() && (*log)[1].is_number_integer() &&
                                                    (*log)[2].is_number_integer())
    c.cri_log = {(*log)[0].get<std::string>(), std::max<std::int64_t>((*log)[1].get<std::int64_t>(), 1),
                 std::max<std::uint32_t>((*log)[2].get<std::uint32_t>(), 2)};
  if (auto by = parse_ready_by(oci::get_string(json, "sdnotify", "conmon"))) c.ready_by = *by;
  c.watchdog_ns = std::max<std::int64_t>(oci::get_int(json, "watchdog_ns"), 0);
  if (oci::find(json, "storage_size") != nullptr) c.storage_size = oci::get_int(json, "storage_size");
  if (const Json* starter = oci::find(json, "starter"); starter != nullptr && starter->is_array() &&
                                                        starter->size() == 3 && (*starter)[0].is_number_integer() &&
                                                        (*starter)[1].is_number_integer() && (*starter)[2].is_string())
    c.starter = {(*starter)[0].get<pid_t>(), (*starter)[1].get<std::uint64_t>(), (*starter)[2].get<std::string>()};
  if (const Json* labels = oci::find(json, "labels"); labels != nullptr && labels->is_object())
    for (const auto& [key, value] : labels->items())
      if (value.is_string()) c.labels[key] = value.get<std::string>();
  if (!is_id(c.id) || (!c.name.empty() && !is_name(c.name)) || c.stop_signal < 1 || c.stop_signal > 64)
    return Error::make(Code::corrupt, "id, name or stop_signal is not one that skink writes");
  return c;
}

Result<oci::Spec> read_spec(int store_dir_fd, const Container& container) {
  oci::Spec spec = TRY_CTX(oci::parse_spec(TRY(fs::read_file(store_dir_fd, kConfigFile, oci::kConfigLimit))),
                           std::string_view(kConfigFile));
  if (container.default_seccomp && spec.process && spec.process->capabilities)
    spec.linux.seccomp = security::default_seccomp(spec.process->capabilities->bounding);
  return spec;
}

std::string dump(const LastExit& last) {
  // Twenty of them have to fit a record.
  constexpr std::size_t kMostText = 8192;
  return oci::dump_json(Json{{"status", last.status},
                             {"signal", last.signal},
                             {"oom", last.oom},
                             {"known", last.known},
                             {"error", last.error.substr(0, kMostText)},
                             {"cause", last.cause.substr(0, kMostText)},
                             {"at_ns", last.at_ns}});
}

Result<LastExit> parse_last_exit(std::string_view text) {
  const Json json = TRY(oci::parse_json(text, kRecordLimit));
  LastExit last;
  last.status = static_cast<int>(oci::get_int(json, "status"));
  last.signal = static_cast<int>(oci::get_int(json, "signal"));
  last.oom = oci::get_bool(json, "oom");
  last.known = oci::get_bool(json, "known", true);
  last.error = oci::get_string(json, "error");
  last.cause = oci::get_string(json, "cause");
  last.at_ns = oci::get_int(json, "at_ns");
  return last;
}

void add_past_run(std::vector<PastRun>& history, PastRun run) {
  std::erase_if(history, [&run](const PastRun& other) {
    return run.started_ns != 0 && other.incarnation == run.incarnation && other.started_ns == run.started_ns;
  });
  history.push_back(std::move(run));
  if (history.size() > kMostPastRuns) history.erase(history.begin());
}

std::string dump(const RunRecord& record) {
  Json json{{"last", dump(record.last)},
            {"order", record.order},
            {"final", record.final},
            {"started_ns", record.started_ns},
            {"finished_ns", record.finished_ns},
            {"restarts", record.restarts}};
  put(json, "given_up", record.given_up);
  Json& history = json["history"] = Json::array();
  for (const auto& run : record.history)
    history.push_back(Json::array({run.incarnation, run.started_ns, dump(run.exit), run.outcome}));
  return oci::dump_json(json);
}

Result<RunRecord> parse_run_record(std::string_view text) {
  const Json json = TRY(oci::parse_json(text, kRecordLimit));
  RunRecord record;
  record.last = TRY(parse_last_exit(oci::get_string(json, "last", "{}")));
  record.order = static_cast<std::uint64_t>(std::max<std::int64_t>(oci::get_int(json, "order"), 0));
  record.final = oci::get_bool(json, "final", true);
  record.given_up = oci::get_string(json, "given_up");
  record.started_ns = oci::get_int(json, "started_ns");
  record.finished_ns = oci::get_int(json, "finished_ns");
  record.restarts = static_cast<std::uint64_t>(std::max<std::int64_t>(oci::get_int(json, "restarts"), 0));
  const Json* history = oci::find(json, "history");
  if (history == nullptr || !history->is_array()) return record;
  for (const Json& run : *history) {
    if (!run.is_array() || run.size() != 4 || !run[0].is_number_unsigned() || !run[1].is_number_integer() ||
        !run[2].is_string() || !run[3].is_string())
      continue;
    auto exit = parse_last_exit(run[2].get<std::string>());
    if (!exit) continue;
    add_past_run(record.history, {run[0].get<std::uint64_t>(), run[1].get<std::int64_t>(), std::move(*exit),
                                  run[3].get<std::string>()});
  }
  return record;
}

bool is_name(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '+' || c == '-';
  };
  return !name.empty() && name.size() <= 255 && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), plain);
}

bool is_id(std::string_view text) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), hex);
}

namespace {
Result<UniqueFd> open_sub_dir(int dir_fd, const std::string& id) {
  auto dir = sys::open_at(dir_fd, id.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!dir && dir.error().errnum() == ENOENT)
    return Error::make(Code::not_found, "no such container: ", skink::quoted(id));
  return dir;
}
}  // namespace

bool is_passing(int store_dir_fd) {
  const auto status = sys::stat_fd(store_dir_fd, kContainers);
  return status && (status->st_mode & S_ISVTX) != 0;
}

Result<UniqueFd> open_container(const Roots& roots, const std::string& id) {
  return open_sub_dir(roots.store_containers.get(), id);
}

Result<UniqueFd> open_run_dir(const Roots& roots, const std::string& id) {
  return open_sub_dir(roots.run_containers.get(), id);
}

Result<Container> read_container(int store_dir_fd, const std::string& id) {
  auto text = fs::read_file(store_dir_fd, kContainerFile, kRecordLimit);
  if (!text && text.error().errnum() == ENOENT)
    return Error::make(Code::corrupt, std::string_view(kContainerFile), " is missing");
  auto container = parse_container(TRY(std::move(text)));
  if (!container) return std::move(container.error().context(std::string_view(kContainerFile))).as(Code::corrupt);
  if (container->id != id)
    return Error::make(Code::corrupt, std::string_view(kContainerFile), ": it is of container ", container->id);
  return container;
}

bool is_alive(int store_dir_fd) {
  const auto file = sys::open_at(store_dir_fd, kAliveFile, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  // Who cannot look does not know, and takes nothing away from one that may live.
  if (!file) return sys::is_want_of_descriptors(file.error());
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(file->get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr unsigned kIdBits = 256, kDigitBits = 6, kNibbleBits = 4;

unsigned nibble_of(char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); }

}  // namespace

std::string name_target(const std::string& id) {
  std::string target;
  unsigned bits = 0, count = 0;
  for (const char c : id) {
    bits = bits << kNibbleBits | nibble_of(c);
    count += kNibbleBits;
    if (count < kDigitBits) continue;
    count -= kDigitBits;
    target += kDigits[bits >> count & 63U];
  }
  if (count > 0) target += kDigits[bits << (kDigitBits - count) & 63U];
  return target;
}

std::optional<std::string> id_of_target(std::string_view target) {
  if (target.size() != (kIdBits + kDigitBits - 1) / kDigitBits) return std::nullopt;
  std::string id;
  unsigned bits = 0, count = 0;
  for (const char c : target) {
    const auto digit = kDigits.find(c);
    if (digit == kDigits.npos) return std::nullopt;
    bits = bits << kDigitBits | static_cast<unsigned>(digit);
    for (count += kDigitBits; count >= kNibbleBits && id.size() < kIdBits / kNibbleBits; count -= kNibbleBits)
      id += "0123456789abcdef"[bits >> (count - kNibbleBits) & 15U];
  }
  return id;
}

std::optional<std::string> find_name(const Roots& roots, const std::string& name) {
  if (!is_name(name)) return std::nullopt;
  const auto target = sys::readlink_at(roots.names.get(), name.c_str());
  return target ? id_of_target(*target) : std::nullopt;
}

namespace {

// The longest is "stopped", two numbers of twenty digits and a boot id.
constexpr std::size_t kWishLimit = 128;

Result<void> write_wish(int store_dir_fd, const std::string& text, bool durable) {
  return fs::write_file_atomic(store_dir_fd, kDesiredFile, text, 0600,
                               durable ? fs::Durability::durable : fs::Durability::volatile_state);
}

}  // namespace

Wish read_wish(int store_dir_fd) {
  Wish wish;
  auto text = fs::read_file(store_dir_fd, kDesiredFile, kWishLimit);
  if (!text) return wish;
  wish.text = std::move(*text);
  const auto words = split(std::string_view(wish.text).substr(0, wish.text.find('\n')), ' ');
  wish.running = words[0] == "running";
  // Before there were numbers: it was started at least once.
  wish.order = words.size() > 1 ? parse_int<std::uint64_t>(words[1]).value_or(1) : 1;
  if (words.size() > 2) wish.stopped_boot = std::string(words[2]);
  if (words.size() > 3) wish.stopped_init = parse_int<std::uint64_t>(words[3]).value_or(0);
  return wish;
}

namespace {

// Containers share the boot id of their host, so there the start of process 1 tells boots apart.
bool is_this_boot(std::string_view boot_id, std::uint64_t init_started) {
  const auto boot = sys::boot_id();
  if (!boot || boot_id != *boot) return false;
  const std::uint64_t init = sys::start_time(1).value_or(0);
  // Not told by a former version, or not known.
  return init_started == 0 || init == 0 || init_started == init;
}

}  // namespace

bool was_stopped_in_this_boot(const Wish& wish) {
  return !wish.running && is_this_boot(wish.stopped_boot, wish.stopped_init);
}

bool wants_running(int store_dir_fd) { return read_wish(store_dir_fd).running; }

Result<void> record_wish(int store_dir_fd, bool running, bool durable) {
  const Wish before = read_wish(store_dir_fd);
  if (running) return write_wish(store_dir_fd, str("running ", before.order + 1, '\n'), durable);
  if (before.order == 0) return {};
  if (was_stopped_in_this_boot(before)) return {};
  return write_wish(store_dir_fd, str("stopped ", before.order, ' ', mark_of_boot(), '\n'), durable);
}

Result<void> restore_wish(int store_dir_fd, const std::string& text, bool durable) {
  if (!text.empty()) return write_wish(store_dir_fd, text, durable);
  if (::unlinkat(store_dir_fd, kDesiredFile, 0) == 0 || errno == ENOENT) return {};
  return Error::from_errno(errno, "unlink ", std::string_view(kDesiredFile));
}

bool was_cut_off(int store_dir_fd) {
  const Wish wish = read_wish(store_dir_fd);
  if (!wish.running) return false;
  const auto record = read_run_record(store_dir_fd);
  return !record || !record->final || record->order < wish.order;
}

bool has_given_up(int store_dir_fd) {
  const auto record = read_run_record(store_dir_fd);
  if (!record || record->given_up.empty() || record->order != read_wish(store_dir_fd).order) return false;
  const auto words = split(record->given_up, ' ');
  return is_this_boot(words[0], words.size() > 1 ? parse_int<std::uint64_t>(words[1]).value_or(0) : 0);
}

std::string mark_of_boot() {
  const auto boot = sys::boot_id();
  return boot ? str(*boot, ' ', sys::start_time(1).value_or(0)) : std::string();
}

std::optional<RunRecord> read_run_record(int store_dir_fd) {
  const auto text = fs::read_file(store_dir_fd, kExitFile, kRecordLimit);
  if (!text) return std::nullopt;
  auto record = parse_run_record(*text);
  if (!record) return std::nullopt;
  return std::move(*record);
}

}  // namespace skink::supervise
