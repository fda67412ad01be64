// SPDX-License-Identifier: Apache-2.0
#include "cgroup/unit.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/detect.h"
#include "cgroup/tree.h"

namespace skink::cgroup {
namespace {

using bus::Value;

// systemd itself gives a unit 90 s to come or go; whoever has to wait longer is told.
constexpr std::chrono::seconds kPatience{100};
constexpr std::string_view kForm =
    "with systemd it has the form SLICE:PREFIX:NAME, such as \"machine.slice:skink:web\"";

// man 5 systemd.unit: what a unit's name can be made of. "@" would make it an instance of a template.
Result<void> check_name(std::string_view name, std::string_view what) {
  constexpr std::size_t kLongest = 255;
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(":-_.\\").find(c) != std::string_view::npos;
  };
  if (!name.empty() && name.size() <= kLongest && std::ranges::all_of(name, good)) return {};
  return Error::make(Code::invalid_config, "linux.cgroupsPath: ", what, ' ', quoted(name),
                     " is no name of a unit: letters, digits and :-_.\\ up to 255");
}

Result<void> check_slice(std::string_view slice) {
  if (slice == "-.slice") return {};
  TRY(check_name(slice, "slice"));
  const std::string_view stem = slice.ends_with(".slice") ? slice.substr(0, slice.size() - 6) : std::string_view{};
  const bool dashes = stem.starts_with('-') || stem.ends_with('-') || stem.find("--") != std::string_view::npos;
  if (!stem.empty() && !dashes) return {};
  return Error::make(Code::invalid_config, "linux.cgroupsPath: ", quoted(slice),
                     " is no slice: it ends in .slice, and its dashes stand between names");
}

// systemd-escape(1), for the one sign that container ids have and units have not.
std::string unit_text_of(std::string_view id) {
  std::string out;
  for (const char c : id) out += c == '+' ? std::string("\\x2b") : std::string(1, c);
  return out;
}

Result<bus::Connection> connect(bus::Manager manager) {
  return bus::Connection::open(manager, std::chrono::milliseconds(kPatience));
}

bool is_lost(const Error& error) {
  return error.errnum() == ECONNRESET || error.errnum() == EPIPE || error.errnum() == ECONNREFUSED;
}

// systemd drops its connections while it executes itself anew (daemon-reexec, as at each of its updates), and for a
// moment is not there. What was asked for has been done by then or never will be: `work` is told that it is not the
// first time.
template <typename Work>
auto through_reexec(const Work& work) {
  constexpr std::chrono::seconds kReexec{10};
  std::optional<Deadline> deadline;  // from when it was lost: a job may take longer
  for (bool again = false;; again = true) {
    auto result = work(again);
    if (result || (deadline && deadline->passed())) return result;
    const Code code = result.error().code();
    // A unit that systemd was asked for before is there, and its job is not done yet.
    const bool may_pass = is_lost(result.error()) || (again && (code == Code::unsupported || code == Code::exists));
    if (!may_pass) return result;
    if (!deadline) deadline.emplace(kReexec);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

Value property_value(const Property& property) {
  return bus::structure({bus::text(property.first), bus::variant(property.second)});
}

Value property_list(const std::vector<Property>& properties) {
  std::vector<Value> items;
  items.reserve(properties.size());
  for (const Property& property : properties) items.push_back(property_value(property));
  return bus::array("(sv)", std::move(items));
}

void put_if_missing(std::vector<Property>& properties, std::string name, Value value) {
  if (std::ranges::none_of(properties, [&](const Property& one) { return one.first == name; }))
    properties.emplace_back(std::move(name), std::move(value));
}

// As little as makes it ours; what the operator said by annotations stands.
std::vector<Property> complete(const Unit& unit, pid_t pid, std::string_view description,
                               std::vector<Property> properties) {
  std::vector<Property> all = {{"Description", bus::text(std::string(description))}};
  if (unit.is_slice()) {
    all.emplace_back("Wants", bus::array("s", {bus::text(unit.slice)}));
  } else {
    all.emplace_back("Slice", bus::text(unit.slice));
    all.emplace_back("PIDs", bus::array("u", {bus::u32(static_cast<std::uint32_t>(pid))}));
    all.emplace_back("Delegate", bus::boolean(true));
  }
  for (const char* const accounting : {"MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"})
    all.emplace_back(accounting, bus::boolean(true));
  // Without it everything is stopped before our supervisors and the engines above us can be.
  put_if_missing(properties, "DefaultDependencies", bus::boolean(false));
  // A container that ran out of memory leaves a scope that failed; nobody but us would ever forget it.
  put_if_missing(properties, "CollectMode", bus::text("inactive-or-failed"));
  all.insert(all.end(), std::make_move_iterator(properties.begin()), std::make_move_iterator(properties.end()));
  return all;
}

Result<std::string> job_of(const bus::Message& answer) {
  if (auto path = bus::Reader(answer.body).text()) return *std::move(path);
  return Error::make(Code::corrupt, "systemd's answer names no job");
}

// The arguments of StartTransientUnit: name, mode, properties, auxiliary units.
std::vector<Value> start_arguments(const Unit& unit, const std::vector<Property>& properties) {
  return {bus::text(unit.name), bus::text("fail"), property_list(properties), bus::array("(sa(sv))", {})};
}

// Where systemd has put the process, on each hierarchy. Those that it leaves alone (cpuset and freezer on v1) get the
// same path as the one that it keeps for itself.
Result<Location> location_of(const Unit& unit, pid_t pid) {
  const Host host = TRY(detect());
  std::string groups;
  const std::string file = str("/proc/", pid, "/cgroup");
  if (const int err = read_control(AT_FDCWD, file.c_str(), groups); err != 0)
    return Error::from_errno(err, "read ", file);
  auto own = own_group(groups, host.layout == Layout::v2 ? "" : "name=systemd");
  if (!own) own = own_group(groups, "");
  // systemd puts a "_" before what could be a control file's name, or looks as if it had one (its cg_escape).
  if (!own || !(own->ends_with("/" + unit.name) || own->ends_with("/_" + unit.name)))
    return Error::make(Code::internal, "systemd started ", quoted(unit.name), " but has not put process ", pid,
                       " into it");
  return locate_below(host, std::string(*own), {});
}

// It is systemd that knows, since it escapes names, each version in its own way.
Result<std::string> group_of_slice(const Unit& unit, bus::Connection& connection) {
  auto group = TRY(connection.slice_group(unit.name));
  if (group.empty())
    return Error::make(Code::internal, "systemd started ", quoted(unit.name), " but has no control group for it");
  return group;
}

Error job_failed(const Unit& unit, std::string_view result) {
  return Error::make(Code::os, "start ", quoted(unit.name), ": systemd says ", quoted(result), "; `systemctl status ",
                     unit.name, "` tells more");
}

}  // namespace

Result<Unit> parse_unit(std::string_view cgroups_path, std::string_view id, bus::Manager manager) {
  const std::string name_of_id = unit_text_of(id);
  std::vector<std::string_view> parts = {"", "skink", name_of_id};
  if (!cgroups_path.empty()) parts = split(cgroups_path, ':');
  if (parts.size() != 3 || parts[2].empty())
    return Error::make(Code::invalid_config, "linux.cgroupsPath: ", quoted(cgroups_path), ": ", kForm);
  Unit unit;
  unit.manager = manager;
  unit.slice = parts[0] == "-" ? std::string("-.slice") : std::string(parts[0]);
  if (unit.slice.empty()) unit.slice = manager == bus::Manager::system ? "system.slice" : "user.slice";
  TRY(check_slice(unit.slice));
  unit.name = parts[2];
  if (unit.is_slice()) {
    TRY(check_slice(unit.name));
    return unit;
  }
  unit.name = str(parts[1], parts[1].empty() ? "" : "-", parts[2], ".scope");
  TRY(check_name(unit.name, "scope"));
  return unit;
}

namespace {

// Whether the unit that is there is the one that was asked for before the connection was lost.
Result<bool> is_started(const Unit& unit, pid_t pid, std::string_view description) {
  if (unit.is_slice()) {
    bus::Connection connection = TRY(connect(unit.manager));
    const auto described = connection.unit_property(unit.name, "Description");
    const auto state = connection.unit_property(unit.name, "ActiveState");
    return described && state && *described == description && *state == "active";
  }
  const Result<Location> there = location_of(unit, pid);
  return there.has_value();
}

// Waits for the job too.
Result<void> start_once(bus::Connection& connection, const Unit& unit, const std::vector<Property>& properties) {
  connection.watch_jobs();
  auto answer = connection.call("StartTransientUnit", start_arguments(unit, properties));
  if (!answer && connection.error_name().ends_with(".UnitExists")) {
    // One that failed is only remembered. One that lives stays what it is, and the second try says so.
    (void)connection.call("ResetFailedUnit", {bus::text(unit.name)});
    answer = connection.call("StartTransientUnit", start_arguments(unit, properties));
    if (!answer && connection.error_name().ends_with(".UnitExists"))
      return Error::make(Code::exists, "unit ", quoted(unit.name),
                         " exists already: a container of another name uses it; `systemctl status ", unit.name,
                         "` shows it");
  }
  if (!answer) return std::move(answer).error().context("start ", quoted(unit.name));
  const std::string result = TRY(connection.wait_for_job(TRY(job_of(*answer))));
  return result == "done" ? Result<void>{} : job_failed(unit, result);
}

}  // namespace

Result<Location> start_unit(const Unit& unit, pid_t pid, std::string_view description,
                            std::vector<Property> properties) {
  const auto all = complete(unit, pid, description, std::move(properties));
  return through_reexec([&](bool again) -> Result<Location> {
    bus::Connection connection = TRY(connect(unit.manager));
    if (!again || !TRY(is_started(unit, pid, description))) TRY(start_once(connection, unit, all));
    if (!unit.is_slice()) return location_of(unit, pid);
    return locate_below(TRY(detect()), TRY(group_of_slice(unit, connection)), {});
  });
}

Result<void> move_into_unit(const Unit& unit, std::string_view below, pid_t pid) {
  return through_reexec([&](bool) -> Result<void> {
    bus::Connection connection = TRY(connect(unit.manager));
    TRY_CTX(connection.call("AttachProcessesToUnit", {bus::text(unit.name), bus::text(std::string(below)),
                                                      bus::array("u", {bus::u32(static_cast<std::uint32_t>(pid))})}),
            "move process ", pid, " into ", quoted(unit.name));
    return {};
  });
}

Result<void> change_unit(const Unit& unit, std::vector<Property> properties) {
  if (properties.empty()) return {};
  return through_reexec([&](bool) -> Result<void> {
    bus::Connection connection = TRY(connect(unit.manager));
    constexpr bool kUntilItEnds = true;
    TRY_CTX(connection.call("SetUnitProperties",
                            {bus::text(unit.name), bus::boolean(kUntilItEnds), property_list(properties)}),
            "change ", quoted(unit.name));
    return {};
  });
}

Result<void> stop_unit(const Unit& unit) {
  return through_reexec([&](bool) -> Result<void> {
    bus::Connection connection = TRY(connect(unit.manager));
    connection.watch_jobs();
    // Order: killed before it is stopped, which would say SIGTERM first and wait. Nothing is in it, or it is not there.
    if (!unit.is_slice()) connection.send("KillUnit", {bus::text(unit.name), bus::text("all"), bus::i32(SIGKILL)});
    const auto answer = connection.call("StopUnit", {bus::text(unit.name), bus::text("replace")});
    if (!answer && connection.error_name().ends_with(".NoSuchUnit")) return {};
    if (!answer) return Error(answer.error()).context("stop ", quoted(unit.name));
    TRY(connection.wait_for_job(TRY(job_of(*answer))));
    return {};
  });
}

Result<bool> is_described(const Unit& unit, std::string_view description) {
  return through_reexec([&](bool) -> Result<bool> {
    bus::Connection connection = TRY(connect(unit.manager));
    auto found = connection.unit_property(unit.name, "Description");
    if (!found && found.error().code() == Code::not_found) return false;
    return TRY_CTX(std::move(found), quoted(unit.name)) == description;
  });
}

Result<std::vector<std::string>> active_of(const std::vector<std::string>& units) {
  return through_reexec([&](bool) -> Result<std::vector<std::string>> {
    bus::Connection connection = TRY(connect(bus::Manager::system));
    std::vector<std::string> active;
    for (const std::string& unit : units) {
      auto state = connection.unit_property(unit, "ActiveState");
      if (!state && state.error().code() == Code::not_found) continue;
      if (const std::string text = TRY_CTX(std::move(state), quoted(unit)); text != "inactive" && text != "failed")
        active.push_back(unit);
    }
    return active;
  });
}

void drop_empty_slices(const Location& location) {
  // cgroup.c of systemd: these it has, with all of their groups; and the unified one and name=systemd.
  constexpr std::string_view kManaged[] = {"cpu", "cpuacct", "memory", "blkio", "devices", "pids", "name=systemd"};
  for (const Place& place : location.places) {
    const Hierarchy& hierarchy = place.hierarchy;
    if (hierarchy.unified ||
        std::ranges::any_of(kManaged, [&](std::string_view one) { return has_word(hierarchy.controllers, one); }))
      continue;
    const Result<UniqueFd> mount = open_mount(hierarchy);
    if (!mount) continue;
    std::string path = split_path(place.path).parent;
    while (path.ends_with(".slice") && remove_group(mount->get(), path.c_str()) == 0)
      path = split_path(str('/', path)).parent;
  }
}

namespace {

Result<std::string> manager_property(bus::Manager manager, const char* name) {
  return through_reexec([&](bool) -> Result<std::string> {
    bus::Connection connection = TRY(connect(manager));
    return connection.manager_property(name);
  });
}

}  // namespace

// man 1 systemctl, is-system-running.
Result<bool> is_going_down() { return TRY(manager_property(bus::Manager::system, "SystemState")) == "stopping"; }

Result<unsigned> systemd_version(bus::Manager manager) {
  const std::string text = TRY(manager_property(manager, "Version"));  // "252 (252.30-1~deb12u2)", "v256.1"
  const std::size_t start = std::min(text.find_first_of("0123456789"), text.size());
  const std::size_t end = std::min(text.find_first_not_of("0123456789", start), text.size());
  const auto number = parse_int<unsigned>(std::string_view(text).substr(start, end - start));
  if (!number) return Error::make(Code::corrupt, "systemd's version ", quoted(text), " has no number");
  return *number;
}

Result<Placeholder> Placeholder::start(int group_fd) {
  const pid_t parent = ::getpid();
  clone_args args{};
  args.exit_signal = SIGCHLD;
  if (group_fd >= 0) {
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = static_cast<__u64>(group_fd);
  }
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
  if (pid < 0) return Error::from_errno(errno, "clone3");
  if (pid > 0) return Placeholder(pid);
  // Nothing of the caller's stays open in it, and it never outlives the caller.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  ::close_range(0, ~0U, 0);
  for (;;) ::pause();
}

Placeholder& Placeholder::operator=(Placeholder&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
  }
  return *this;
}

void Placeholder::end() {
  if (pid_ <= 0) return;
  (void)::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace skink::cgroup
