// SPDX-License-Identifier: Apache-2.0
// RunOptions: what docker's `run` options say, and the pure step from them and an image's configuration to a Spec.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image.h"
#include "oci/spec.h"

namespace skink::plan {

struct VolumeOption {
  enum class Kind { bind, tmpfs } kind = Kind::bind;
  std::string source;       ///< absolute host path (bind)
  std::string destination;  ///< absolute, clean
  oci::Strings options;     ///< mount options as config.json has them: ro, rro, rw, noexec, size=..., rprivate ...
  bool from_image = false;  ///< an image's VOLUME
};

/// Every member is already parsed and checked by itself; combinations are checked by make_spec.
struct RunOptions {
  oci::Strings args;                       ///< after IMAGE
  std::optional<oci::Strings> entrypoint;  ///< --entrypoint; {} clears the image's
  oci::Strings env;                        ///< K=V, in order; the caller has merged --env-file and bare K
  std::string working_dir, user, hostname;
  oci::Strings group_add, add_host, dns, dns_search;
  std::vector<VolumeOption> volumes;  ///< -v, --mount, --tmpfs
  bool writable = false;
  bool interactive = false, tty = false, init = false, privileged = false;
  std::optional<std::int64_t> shm_size, memory, memory_swap, memory_reservation, pids_limit, cpu_shares;
  std::optional<double> cpus;
  std::string cpuset_cpus, cpuset_mems;
  std::vector<oci::Rlimit> ulimits;
  std::map<std::string, std::string> sysctl;
  std::vector<oci::Device> devices;  ///< --device, stat'ed by the caller
  std::vector<oci::DeviceRule> device_rules;
  oci::Strings cap_add, cap_drop;  ///< names or ALL
  bool seccomp_unconfined = false;
  std::optional<oci::Seccomp> seccomp;  ///< --security-opt seccomp=FILE
  bool no_new_privileges = true;        ///< --security-opt no-new-privileges=false turns it off
  bool unmask_all = false;              ///< --security-opt systempaths=unconfined
  std::string apparmor_profile, selinux_label;
  bool host_pid = false, host_ipc = false, host_uts = false, host_network = false;
  std::optional<int> oom_score_adj;
  std::map<std::string, std::string> labels;
  oci::Annotations annotations;
  std::optional<std::int64_t> storage_size;  ///< --storage-opt size=
};

/// Limits that were changed: all of them, those that a running container's groups have to be told, and those that take
/// that back.
struct ChangedLimits {
  oci::Resources whole, change, undo;
};
/// `now` with the limits that `given` names (memory, memory_swap, memory_reservation, cpus, cpu_shares, cpuset_cpus,
/// cpuset_mems, pids_limit); 0 takes one off. Combinations are checked as for a new container.
Result<ChangedLimits> change_limits(const RunOptions& given, const oci::Resources& now);

/// What make_spec needs to know of the world, looked up by the caller beforehand.
struct ImageFacts {
  const oci::ImageConfig* config = nullptr;
  oci::User user;            ///< the resolved user, groups included
  std::string home;          ///< for HOME when the environment has none
  std::string container_id;  ///< 64 hex; the default host name is its first 12
  std::string files_dir;     ///< absolute: holds hosts, hostname, resolv.conf to bind
  std::uint64_t all_capabilities = 0;
  oci::Strings masked_paths;  ///< of this host, beyond the usual ones: thermal_throttle of each CPU
};

/// The OCI spec of a container of this image with these options; root.path is "rootfs" and root.readonly follows
/// --writable. Pure. Warnings for people are appended to `notes`. Errors name the option.
Result<oci::Spec> make_spec(const RunOptions& options, const ImageFacts& facts, std::vector<std::string>& notes);

/// Text of the container's /etc/hosts and /etc/resolv.conf. `host_resolv` is the host's file.
std::string make_hosts(const RunOptions& options, const std::string& hostname);
Result<std::string> make_resolv_conf(const RunOptions& options, const std::string& host_resolv);

}  // namespace skink::plan
