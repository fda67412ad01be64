// SPDX-License-Identifier: Apache-2.0
// make_spec: docker's `run` options and an image's configuration to config.json.
#include "plan/run_options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/text.h"
#include "plan/launch_plan.h"
#include "plan/run_mounts.h"
#include "security/security.h"

namespace skink::plan {
namespace {

constexpr std::size_t kHostNameLimit = 64;  // __NEW_UTS_LEN
constexpr std::size_t kShortId = 12;
constexpr std::int64_t kPidsLimit = 4096;
constexpr std::uint64_t kCpuPeriod = 100000;  // microseconds
constexpr double kLeastCpus = 0.01;           // the kernel's least quota, 1 ms, in a period
constexpr double kMostCpus = 1e6;
constexpr const char* kPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// docker's list (attack A49), and key-users, which tells of other containers' keys (attack A48). What a kernel does not
// have is skipped by the launcher.
constexpr const char* kMasked[] = {
    "/proc/acpi",      "/proc/asound",     "/proc/interrupts",    "/proc/kcore",
    "/proc/key-users", "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi",      "/proc/timer_list", "/proc/timer_stats",   "/sys/devices/virtual/powercap",
    "/sys/firmware",
};
constexpr const char* kReadonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

// ---- process ----

Result<oci::Strings> make_args(const RunOptions& options, const oci::ImageRun& image) {
  oci::Strings args;
  // An entrypoint of the caller's comes without the image's command, which was meant for another program.
  if (options.entrypoint) {
    args = *options.entrypoint;
    args.insert(args.end(), options.args.begin(), options.args.end());
  } else {
    args = image.entrypoint.value_or(oci::Strings{});
    const oci::Strings& rest = options.args.empty() ? image.cmd.value_or(oci::Strings{}) : options.args;
    args.insert(args.end(), rest.begin(), rest.end());
  }
  if (args.empty()) return Error::make(Code::invalid_config, "image has no command; give one after the image name");
  if (args.front().empty()) return Error::make(Code::invalid_config, "the command is an empty string");
  for (const std::string& arg : args)
    if (arg.find('\0') != std::string::npos)
      return Error::make(Code::invalid_config, "the command has a NUL byte in ", quoted(arg));
  return args;
}

/// Sets K=V in place of an earlier K; a K without a value removes it.
Result<void> set_env(oci::Strings& env, const std::string& entry, std::string_view whose) {
  const std::size_t equals = entry.find('=');
  const std::string name = entry.substr(0, equals);
  if (name.empty() || entry.find('\0') != std::string::npos)
    return Error::make(Code::invalid_config, whose, ' ', quoted(entry), ": expected NAME=VALUE");
  const auto same = [&](const std::string& other) {
    return other.size() > name.size() && other.starts_with(name) && other[name.size()] == '=';
  };
  const auto found = std::find_if(env.begin(), env.end(), same);
  if (equals == std::string::npos) {
    std::erase_if(env, same);
  } else if (found != env.end()) {
    *found = entry;
  } else {
    env.push_back(entry);
  }
  return {};
}

bool has_env(const oci::Strings& env, std::string_view name) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& entry) {
    return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
  });
}

Result<oci::Strings> make_env(const RunOptions& options, const ImageFacts& facts, const std::string& hostname) {
  oci::Strings env{kPath};
  if (!hostname.empty()) env.push_back("HOSTNAME=" + hostname);
  if (options.tty) env.emplace_back("TERM=xterm");
  for (const std::string& entry : facts.config->run.env) TRY(set_env(env, entry, "the image's environment"));
  for (const std::string& entry : options.env) TRY(set_env(env, entry, "--env"));
  if (!has_env(env, "HOME")) env.push_back("HOME=" + (facts.home.empty() ? std::string("/") : facts.home));
  return env;
}

Result<std::string> make_cwd(const RunOptions& options, const oci::ImageRun& image) {
  const bool own = !options.working_dir.empty();
  const std::string& cwd = own ? options.working_dir : image.working_dir;
  if (cwd.empty()) return std::string("/");
  if (!cwd.starts_with('/') || cwd.find('\0') != std::string::npos)
    return Error::make(Code::invalid_config, own ? "--workdir " : "the image's working directory ", quoted(cwd),
                       ": expected an absolute path");
  return cwd;
}

Result<std::uint64_t> capability_mask(const oci::Strings& names, std::uint64_t all, std::string_view option) {
  std::uint64_t mask = 0;
  for (const std::string& name : names) {
    if (name == "ALL" || name == "all" || name == "CAP_ALL") {
      mask |= all;
      continue;
    }
    const int number = oci::capability_number(name);
    if (number < 0)
      return Error::make(Code::invalid_config, option, ' ', quoted(name),
                         ": no such capability; expected a name such as ", "NET_ADMIN, or ALL");
    const std::uint64_t bit = std::uint64_t{1} << static_cast<unsigned>(number);
    if ((all & bit) == 0)
      return Error::make(Code::unsupported, option, ' ', quoted(name),
                         ": this kernel or skink itself does not have it");
    mask |= bit;
  }
  return mask;
}

bool names_all(const oci::Strings& names) {
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name == "ALL" || name == "all" || name == "CAP_ALL"; });
}

/// docker's rule: ALL on one side makes the other side's names the exceptions.
Result<std::uint64_t> bounding_set(const RunOptions& options, std::uint64_t all) {
  if (options.privileged) return all;
  const std::uint64_t add = TRY(capability_mask(options.cap_add, all, "--cap-add"));
  const std::uint64_t drop = TRY(capability_mask(options.cap_drop, all, "--cap-drop"));
  const std::uint64_t base = security::default_capabilities() & all;
  if (names_all(options.cap_add)) return names_all(options.cap_drop) ? all : all & ~drop;
  if (names_all(options.cap_drop)) return add;
  return (base | add) & ~drop;
}

oci::Capabilities capability_sets(std::uint64_t bounding, std::uint32_t uid) {
  oci::Capabilities sets;
  sets.bounding = bounding;
  // A process that is not root has none, not even added ones, as with docker; inheritable and ambient are empty for all
  // (attacks A27, A28). Files with capabilities and, without no_new_privs, setuid programs gain up to the bounding set.
  if (uid == 0) sets.effective = sets.permitted = bounding;
  return sets;
}

// ---- host name ----

Result<std::string> make_hostname(const RunOptions& options, const ImageFacts& facts) {
  if (options.host_uts) {
    if (options.hostname.empty()) return std::string();
    return Error::make(Code::invalid_config, "--hostname ", quoted(options.hostname),
                       ": would rename the host; leave out --uts host");
  }
  if (options.hostname.empty()) return facts.container_id.substr(0, kShortId);
  const bool plain = std::all_of(options.hostname.begin(), options.hostname.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
           c == '_';
  });
  if (!plain || options.hostname.size() > kHostNameLimit || options.hostname.front() == '-' ||
      options.hostname.front() == '.')
    return Error::make(Code::invalid_config, "--hostname ", quoted(options.hostname),
                       ": expected at most 64 letters, digits, '-', '.' and '_'");
  return options.hostname;
}

// ---- limits ----

Result<std::optional<oci::MemoryLimits>> make_memory(const RunOptions& options) {
  const std::int64_t limit = options.memory.value_or(0);
  const std::int64_t swap = options.memory_swap.value_or(0);
  const std::int64_t reservation = options.memory_reservation.value_or(0);
  if (limit < 0) return Error::make(Code::invalid_config, "--memory ", limit, ": expected a size, or 0 for no limit");
  if (swap < -1)
    return Error::make(Code::invalid_config, "--memory-swap ", swap, ": expected a size, or -1 for no limit");
  if (reservation < 0)
    return Error::make(Code::invalid_config, "--memory-reservation ", reservation, ": expected a size");
  if (limit == 0 && swap > 0)
    return Error::make(Code::invalid_config, "--memory-swap ", swap,
                       ": is memory and swap together, so it needs --memory");
  if (limit > 0 && swap > 0 && swap < limit)
    return Error::make(Code::invalid_config, "--memory-swap ", swap,
                       ": is memory and swap together, so it cannot be less than ", "--memory ", limit);
  if (limit > 0 && reservation > limit)
    return Error::make(Code::invalid_config, "--memory-reservation ", reservation, ": is more than --memory ", limit);
  if (limit == 0 && reservation == 0) return std::optional<oci::MemoryLimits>();
  oci::MemoryLimits memory;
  if (limit > 0) {
    memory.limit = limit;
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
    // As much swap again as memory when nothing is said.
    memory.swap = swap != 0 ? swap : limit > kMost / 2 ? -1 : limit * 2;
  }
  if (reservation > 0) memory.reservation = reservation;
  return std::optional(memory);
}

Result<std::optional<oci::CpuLimits>> make_cpu(const RunOptions& options) {
  oci::CpuLimits cpu;
  if (const double cpus = options.cpus.value_or(0); cpus != 0) {
    if (!(cpus >= kLeastCpus && cpus <= kMostCpus))
      return Error::make(Code::invalid_config, "--cpus: expected a number of at least 0.01, or 0 for no limit");
    cpu.quota = std::llround(cpus * static_cast<double>(kCpuPeriod));
    cpu.period = kCpuPeriod;
  }
  if (const std::int64_t shares = options.cpu_shares.value_or(0); shares != 0) {
    if (shares < 2 || shares > 262144)
      return Error::make(Code::invalid_config, "--cpu-shares ", shares, ": expected a number from 2 to 262144");
    cpu.shares = static_cast<std::uint64_t>(shares);
  }
  cpu.cpus = options.cpuset_cpus;
  cpu.mems = options.cpuset_mems;
  if (!cpu.quota && !cpu.shares && cpu.cpus.empty() && cpu.mems.empty()) return std::optional<oci::CpuLimits>();
  return std::optional(cpu);
}

// What a container has now, in the words of the command line. What is no limit has none.
RunOptions words_of(const oci::Resources& now) {
  RunOptions words;
  const auto positive = [](const std::optional<std::int64_t>& value) {
    return value && *value > 0 ? value : std::optional<std::int64_t>();
  };
  if (now.memory) {
    words.memory = positive(now.memory->limit);
    words.memory_swap = words.memory ? now.memory->swap : std::optional<std::int64_t>();
    words.memory_reservation = positive(now.memory->reservation);
  }
  if (!now.cpu) return words;
  if (positive(now.cpu->quota) && now.cpu->period.value_or(0) != 0)
    words.cpus = static_cast<double>(*now.cpu->quota) / static_cast<double>(*now.cpu->period);
  if (now.cpu->shares) words.cpu_shares = static_cast<std::int64_t>(*now.cpu->shares);
  return words;
}

oci::DeviceRule allow(char type, std::optional<std::int64_t> major, std::optional<std::int64_t> minor,
                      const char* access) {
  return {true, type, major, minor, access};
}

std::vector<oci::DeviceRule> make_device_rules(const RunOptions& options) {
  if (options.privileged) return {allow('a', {}, {}, "rwm")};
  // Making a node is harmless; opening it is what the rules are about.
  std::vector<oci::DeviceRule> rules{{false, 'a', {}, {}, "rwm"}, allow('c', {}, {}, "m"), allow('b', {}, {}, "m")};
  for (const std::int64_t minor : {3, 5, 7, 8, 9}) rules.push_back(allow('c', 1, minor, "rwm"));  // null .. urandom
  for (const std::int64_t minor : {0, 1, 2}) rules.push_back(allow('c', 5, minor, "rwm"));        // tty, console, ptmx
  rules.push_back(allow('c', 136, {}, "rwm"));                                                    // pts
  for (const oci::Device& device : options.devices) {
    const char type = device.type == 'b' ? 'b' : 'c';
    const bool ruled = std::any_of(options.device_rules.begin(), options.device_rules.end(), [&](const auto& rule) {
      return rule.type == type && rule.major == device.major && rule.minor == device.minor;
    });
    if (device.type != 'p' && !ruled) rules.push_back(allow(type, device.major, device.minor, "rwm"));
  }
  rules.insert(rules.end(), options.device_rules.begin(), options.device_rules.end());
  return rules;
}

Result<std::int64_t> make_pids(std::int64_t most) {
  if (most < -1)
    return Error::make(Code::invalid_config, "--pids-limit ", most, ": expected a number, or -1 for no limit");
  return most == 0 ? -1 : most;
}

Result<oci::Resources> make_resources(const RunOptions& options) {
  oci::Resources resources;
  resources.devices = make_device_rules(options);
  resources.memory = TRY(make_memory(options));
  resources.cpu = TRY(make_cpu(options));
  // A bomb that forks must not take the host's process numbers (attack A88), so there is a limit when nobody asks.
  resources.pids_limit = TRY(make_pids(options.pids_limit.value_or(kPidsLimit)));
  return resources;
}

// ---- changes of limits ----

// Only the members that are named change; the others of a bundle's configuration stay as they are.
Result<void> change_memory(const RunOptions& given, const RunOptions& now, ChangedLimits& limits) {
  if (!given.memory && !given.memory_swap && !given.memory_reservation) return {};
  RunOptions both = now;
  // Swap is counted with memory: without a word about it a new limit has its own.
  if (given.memory) both.memory_swap.reset();
  for (const auto member : {&RunOptions::memory, &RunOptions::memory_swap, &RunOptions::memory_reservation})
    if (given.*member) both.*member = given.*member;
  const oci::MemoryLimits wanted = TRY(make_memory(both)).value_or(oci::MemoryLimits{});
  oci::MemoryLimits& whole = limits.whole.memory.emplace(limits.whole.memory.value_or(oci::MemoryLimits{}));
  oci::MemoryLimits& change = limits.change.memory.emplace();
  oci::MemoryLimits& undo = limits.undo.memory.emplace();
  constexpr std::int64_t kNone = -1;
  if (given.memory || given.memory_swap) {
    undo.limit = whole.limit.value_or(kNone);
    undo.swap = whole.swap.value_or(kNone);
    whole.limit = wanted.limit;
    whole.swap = wanted.swap;
    change.limit = wanted.limit.value_or(kNone);
    change.swap = wanted.swap.value_or(kNone);
  }
  if (given.memory_reservation) {
    undo.reservation = whole.reservation.value_or(kNone);
    whole.reservation = wanted.reservation;
    change.reservation = wanted.reservation.value_or(kNone);
  }
  return {};
}

Result<void> change_cpu(const RunOptions& given, const RunOptions& now, ChangedLimits& limits) {
  const bool sets = !given.cpuset_cpus.empty() || !given.cpuset_mems.empty();
  if (!given.cpus && !given.cpu_shares && !sets) return {};
  RunOptions both = now;
  if (given.cpus) both.cpus = given.cpus;
  if (given.cpu_shares) both.cpu_shares = given.cpu_shares;
  const oci::CpuLimits wanted = TRY(make_cpu(both)).value_or(oci::CpuLimits{});
  oci::CpuLimits& whole = limits.whole.cpu.emplace(limits.whole.cpu.value_or(oci::CpuLimits{}));
  oci::CpuLimits& change = limits.change.cpu.emplace();
  oci::CpuLimits& undo = limits.undo.cpu.emplace();
  constexpr std::uint64_t kUsualShares = 1024;
  if (given.cpus) {
    undo.quota = whole.quota.value_or(-1);
    undo.period = whole.period;
    whole.quota = wanted.quota;
    whole.period = wanted.period;
    change.quota = wanted.quota.value_or(-1);
    change.period = wanted.period;
  }
  if (given.cpu_shares) {
    undo.shares = whole.shares.value_or(kUsualShares);
    whole.shares = wanted.shares;
    change.shares = wanted.shares.value_or(kUsualShares);
  }
  const auto take_set = [](const std::string& given_set, std::string& w, std::string& c, std::string& u) {
    if (given_set.empty()) return;
    u = w;
    w = c = given_set;
  };
  take_set(given.cpuset_cpus, whole.cpus, change.cpus, undo.cpus);
  take_set(given.cpuset_mems, whole.mems, change.mems, undo.mems);
  return {};
}

// ---- the parts of the spec ----

Result<oci::Process> make_process(const RunOptions& options, const ImageFacts& facts, const std::string& hostname) {
  oci::Process process;
  process.terminal = options.tty;
  process.user = facts.user;
  process.args = TRY(make_args(options, facts.config->run));
  process.env = TRY(make_env(options, facts, hostname));
  process.cwd = TRY(make_cwd(options, facts.config->run));
  const std::uint64_t bounding = TRY(bounding_set(options, facts.all_capabilities));
  process.capabilities = capability_sets(bounding, facts.user.uid);
  process.rlimits = options.ulimits;
  process.no_new_privileges = options.no_new_privileges;
  process.apparmor_profile = options.apparmor_profile;
  process.selinux_label = options.selinux_label;
  process.oom_score_adj = options.oom_score_adj;
  return process;
}

std::vector<oci::Namespace> make_namespaces(const RunOptions& options) {
  using Type = oci::NamespaceType;
  std::vector<oci::Namespace> namespaces{{Type::mount, {}}, {Type::cgroup, {}}};
  if (!options.host_pid) namespaces.push_back({Type::pid, {}});
  if (!options.host_uts) namespaces.push_back({Type::uts, {}});
  if (!options.host_ipc) namespaces.push_back({Type::ipc, {}});
  if (!options.host_network) namespaces.push_back({Type::network, {}});
  return namespaces;
}

void add_security(const RunOptions& options, const ImageFacts& facts, std::uint64_t bounding, oci::Linux& linux_part) {
  // A profile that was named is put on in any case; privileged takes away what nobody named.
  if (options.seccomp) {
    linux_part.seccomp = options.seccomp;
  } else if (!options.seccomp_unconfined && !options.privileged) {
    linux_part.seccomp = security::default_seccomp(bounding);
  }
  if (options.unmask_all || options.privileged) return;
  linux_part.masked_paths.assign(std::begin(kMasked), std::end(kMasked));
  linux_part.masked_paths.insert(linux_part.masked_paths.end(), facts.masked_paths.begin(), facts.masked_paths.end());
  linux_part.readonly_paths.assign(std::begin(kReadonly), std::end(kReadonly));
}

void add_notes(const RunOptions& options, std::vector<std::string>& notes) {
  if (options.host_network)
    notes.emplace_back(
        "--network host: the container reaches everything that listens on this host, abstract sockets included");
  if (options.privileged) notes.emplace_back("--privileged: the container can do what root on this host can do");
}

}  // namespace

Result<oci::Spec> make_spec(const RunOptions& options, const ImageFacts& facts, std::vector<std::string>& notes) {
  if (facts.config == nullptr) return Error::make(Code::internal, "make_spec: no image configuration");
  oci::Spec spec;
  spec.oci_version = std::string(oci::kSpecVersion);
  spec.root = {"rootfs", !options.writable};
  spec.hostname = TRY(make_hostname(options, facts));
  spec.process = TRY(make_process(options, facts, spec.hostname));
  spec.mounts = TRY(make_mounts(options, facts, notes));
  // The operator's annotations only: what an image says of itself steers nothing (attack A18, CVE-2026-53488).
  spec.annotations = options.annotations;
  if (options.init) spec.annotations[kInitAnnotation] = "true";
  spec.linux.namespaces = make_namespaces(options);
  spec.linux.devices = options.devices;
  spec.linux.cgroups_path = "/skink/" + facts.container_id;
  spec.linux.resources = TRY(make_resources(options));
  spec.linux.sysctl = options.sysctl;
  add_security(options, facts, spec.process->capabilities->bounding, spec.linux);
  // What only the whole can tell: a sysctl of a namespace that is the host's (attack A19), a cpuset, a rule.
  if (auto findings = oci::check_spec(spec); !findings.empty()) return std::move(findings.front());
  add_notes(options, notes);
  return spec;
}

Result<ChangedLimits> change_limits(const RunOptions& given, const oci::Resources& now) {
  ChangedLimits limits{.whole = now, .change = {}, .undo = {}};
  const RunOptions words = words_of(now);
  TRY(change_memory(given, words, limits));
  TRY(change_cpu(given, words, limits));
  if (!given.pids_limit) return limits;
  limits.undo.pids_limit = now.pids_limit.value_or(-1);
  limits.whole.pids_limit = limits.change.pids_limit = TRY(make_pids(*given.pids_limit));
  return limits;
}

}  // namespace skink::plan
