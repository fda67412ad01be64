// SPDX-License-Identifier: Apache-2.0
// Spec: config.json of the OCI runtime-spec 1.3 as plain types, parsed and checked, with no side effects.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink::oci {

/// The runtime-spec version that skink implements.
inline constexpr std::string_view kSpecVersion = "1.3.0";

using Strings = std::vector<std::string>;
using Annotations = std::map<std::string, std::string>;

struct IdMapping {
  std::uint32_t container_id = 0;
  std::uint32_t host_id = 0;
  std::uint32_t size = 0;
  bool operator==(const IdMapping&) const = default;
};

// ---- process (config.md "Process") ----

struct Rlimit {
  int resource = 0;  ///< RLIMIT_*, from "RLIMIT_NOFILE" and the like
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

/// In a set of capabilities: a name was there that skink does not know. It gives nothing.
inline constexpr std::uint64_t kUnknownCapability = std::uint64_t{1} << 63;

/// Capability sets as masks: bit N is capability number N (man 7 capabilities).
struct Capabilities {
  std::uint64_t bounding = 0;
  std::uint64_t effective = 0;
  std::uint64_t inheritable = 0;
  std::uint64_t permitted = 0;
  std::uint64_t ambient = 0;
  bool operator==(const Capabilities&) const = default;
};

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::optional<std::uint32_t> umask;
  std::vector<std::uint32_t> additional_gids;
};

struct ConsoleSize {
  std::uint16_t height = 0;
  std::uint16_t width = 0;
};

struct Scheduler {
  int policy = 0;  ///< SCHED_*
  std::int32_t nice = 0;
  std::int32_t priority = 0;
  std::uint64_t flags = 0;                              ///< SCHED_FLAG_*
  std::uint64_t runtime = 0, deadline = 0, period = 0;  ///< nanoseconds
};

struct IoPriority {
  int io_class = 0;  ///< IOPRIO_CLASS_*
  int priority = 0;
};

struct ExecCpuAffinity {
  std::optional<std::string> initial;
  std::optional<std::string> final;
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  Strings args;
  Strings env;
  std::string cwd;
  std::optional<Capabilities> capabilities;  ///< absent: all sets empty, as runc does
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<int> oom_score_adj;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<ExecCpuAffinity> exec_cpu_affinity;
};

struct Root {
  std::string path;
  bool readonly = false;
};

/// One entry of "mounts", as written; plan/ turns option words into flags.
struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  Strings options;
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
};

struct Hook {
  std::string path;
  Strings args;
  Strings env;
  std::optional<int> timeout_seconds;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
  [[nodiscard]] bool empty() const {
    return prestart.empty() && create_runtime.empty() && create_container.empty() && start_container.empty() &&
           poststart.empty() && poststop.empty();
  }
};

// ---- linux (config-linux.md) ----

enum class NamespaceType { pid, network, mount, ipc, uts, user, cgroup, time };

struct Namespace {
  NamespaceType type{};
  std::string path;  ///< empty: a new one
};

struct Device {
  char type = 'c';  ///< c, u, b or p
  std::string path;
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::optional<std::uint32_t> file_mode;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';  ///< a, c or b
  std::optional<std::int64_t> major;
  std::optional<std::int64_t> minor;
  std::string access;  ///< of r, w, m; empty: all

  /// Of a rule that denies all devices, other runtimes do not look at `access`, and people write all kinds of letters.
  [[nodiscard]] bool denies_whatever_it_says() const {
    return !allow && type == 'a' && !major && !minor && access.find_first_not_of("rwm") != std::string::npos;
  }
};

struct MemoryLimits {
  std::optional<std::int64_t> limit, reservation, swap, kernel, kernel_tcp;  ///< bytes; -1 is no limit
  std::optional<std::uint64_t> swappiness;
  std::optional<bool> disable_oom_killer, use_hierarchy, check_before_update;
};

struct CpuLimits {
  std::optional<std::uint64_t> shares;
  std::optional<std::int64_t> quota;           ///< microseconds; -1 is no limit
  std::optional<std::uint64_t> burst, period;  ///< microseconds
  std::optional<std::int64_t> realtime_runtime;
  std::optional<std::uint64_t> realtime_period;
  std::string cpus, mems;
  std::optional<std::int64_t> idle;
};

struct WeightDevice {
  std::int64_t major = 0, minor = 0;
  std::optional<std::uint16_t> weight, leaf_weight;
};

struct ThrottleDevice {
  std::int64_t major = 0, minor = 0;
  std::uint64_t rate = 0;
};

struct BlockIoLimits {
  std::optional<std::uint16_t> weight, leaf_weight;
  std::vector<WeightDevice> weight_devices;
  std::vector<ThrottleDevice> read_bps, write_bps, read_iops, write_iops;
};

struct HugepageLimit {
  std::string page_size;
  std::uint64_t limit = 0;
};

struct NetworkLimits {
  std::optional<std::uint32_t> class_id;
  std::vector<std::pair<std::string, std::uint32_t>> priorities;
};

struct RdmaLimit {
  std::optional<std::uint32_t> hca_handles, hca_objects;
};

struct Resources {
  std::vector<DeviceRule> devices;
  std::optional<MemoryLimits> memory;
  std::optional<CpuLimits> cpu;
  std::optional<std::int64_t> pids_limit;  ///< -1 is no limit; of 0 see settle_pids_limit()
  std::optional<BlockIoLimits> block_io;
  std::vector<HugepageLimit> hugepages;
  std::optional<NetworkLimits> network;
  std::map<std::string, RdmaLimit> rdma;
  std::map<std::string, std::string> unified;
};

struct SeccompArg {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
  std::string op;  ///< SCMP_CMP_*
};

struct SeccompRule {
  Strings names;
  std::string action;  ///< SCMP_ACT_*
  std::optional<std::uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};

struct Seccomp {
  std::string default_action;
  std::optional<std::uint32_t> default_errno_ret;
  Strings architectures;  ///< SCMP_ARCH_*
  Strings flags;          ///< SECCOMP_FILTER_FLAG_*
  std::string listener_path, listener_metadata;
  std::vector<SeccompRule> syscalls;
};

struct IntelRdt {
  std::string clos_id;
  Strings schemata;
  std::optional<std::string> l3_cache_schema, mem_bw_schema;
  bool enable_monitoring = false;
};

struct MemoryPolicy {
  std::string mode;
  std::string nodes;
  Strings flags;
};

struct TimeOffset {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};

struct Linux {
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::map<std::string, TimeOffset> time_offsets;  ///< "monotonic", "boottime"
  std::vector<Device> devices;
  std::map<std::string, std::string> net_devices;  ///< host name to name inside (the same when absent)
  std::string cgroups_path;
  std::optional<Resources> resources;
  std::optional<IntelRdt> intel_rdt;
  std::optional<MemoryPolicy> memory_policy;
  std::map<std::string, std::string> sysctl;
  std::optional<Seccomp> seccomp;
  std::string rootfs_propagation;  ///< "", shared, slave, private, unbindable (each also with an r in front)
  Strings masked_paths, readonly_paths;
  std::string mount_label;
  std::optional<std::string> personality_domain;  ///< LINUX or LINUX32
};

struct Spec {
  std::string oci_version;
  std::optional<Process> process;
  Root root;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  Annotations annotations;
  Linux linux;

  /// The namespace of this type that the container gets: nullptr when it shares the caller's.
  [[nodiscard]] const Namespace* find_namespace(NamespaceType type) const;
};

/// Reads config.json. Unknown fields are ignored, ill-typed or out-of-range values refused; the error names the JSON
/// path, the value found and what was expected ("process.user.uid: -1 is not a number from 0 to 4294967294").
Result<Spec> parse_spec(std::string_view json);

/// A pids.limit of 0 in a document of `oci_version` ("" when it names none): a limit since 1.3, which made the member a
/// pointer. Until then it was none, and podman writes it for --pids-limit -1.
void settle_pids_limit(std::string_view oci_version, Resources& resources);

/// One process object, as `exec --process` takes it. Every member except args may be absent.
Result<Process> parse_process(std::string_view json);

/// A LinuxResources object, as `update --resources` takes it. Absent members mean "leave alone".
Result<Resources> parse_resources(std::string_view json);

/// Everything in the spec that contradicts itself or the specification, all findings, each with its JSON path:
/// config.md and config-linux.md of the runtime-spec. Empty when there is nothing.
std::vector<Error> check_spec(const Spec& spec);

/// The same for one process (paths begin with "process"; a missing cwd is fine, as exec takes the container's) and for
/// one LinuxResources object. parse_process and parse_resources have done it and return the first finding.
std::vector<Error> check_process(const Process& process);
std::vector<Error> check_resources(const Resources& resources);

/// The spec as config.json, members in the order of the specification, absent ones left out. parse_spec(dump_spec(s))
/// gives s again.
std::string dump_spec(const Spec& spec, bool pretty = false);

/// "CAP_NET_ADMIN" or "net_admin" to its number, in any case; -1 when there is none.
int capability_number(std::string_view name);
/// The name with CAP_, or "" beyond the last one.
std::string_view capability_name(int number);
/// The capabilities of a mask by name, with ", " between.
std::string capability_names(std::uint64_t mask);
/// The names that are no capabilities, in the "capabilities" of a process (process.json, or config.json's "process").
std::vector<std::string> unknown_capabilities(std::string_view json);
/// How many capabilities skink knows by name.
int capability_count();

/// The numbers of a list such as "0-3,7" as bits: number N is bit N % 64 of word N / 64. Nothing when it is no such
/// list or has a number above `most`.
std::optional<std::vector<std::uint64_t>> number_list_bits(std::string_view text, std::uint32_t most);

/// RLIMIT_* number of "RLIMIT_NOFILE" or "nofile"; -1 when there is none.
int rlimit_number(std::string_view name);
/// "RLIMIT_NOFILE" for a number; "" when there is none.
std::string_view rlimit_name(int resource);

}  // namespace skink::oci
