// SPDX-License-Identifier: Apache-2.0
// The texts of `run` options to values, each by itself. Every error names the value and the form that was expected; the
// command line puts the option's name in front.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"
#include "plan/run_options.h"

namespace skink::plan {

// ---- mounts ----

/// -v SRC:DST[:OPTION,...] with an absolute SRC.
Result<VolumeOption> parse_volume(std::string_view text);
/// --mount type=bind|tmpfs,source=..,target=..,readonly,bind-propagation=..,tmpfs-size=..,tmpfs-mode=..
Result<VolumeOption> parse_mount(std::string_view text);
/// --tmpfs DST[:OPTION,...]
Result<VolumeOption> parse_tmpfs(std::string_view text);

// ---- limits and devices ----

/// --ulimit NAME=SOFT[:HARD]; -1 is unlimited.
Result<oci::Rlimit> parse_ulimit(std::string_view text);
/// --cpus: a decimal number.
Result<double> parse_cpus(std::string_view text);
/// --cpuset-cpus, --cpuset-mems: numbers and ranges, "0-3,7".
Result<std::string> parse_cpuset(std::string_view text);
/// A whole number from `least` to `most`.
Result<std::int64_t> parse_number(std::string_view text, std::int64_t least, std::int64_t most);
/// --storage-opt size=BYTES
Result<std::int64_t> parse_storage_opt(std::string_view text);

struct DeviceOption {
  std::string host_path, container_path;
  std::string access;  ///< of r, w and m
};
/// --device /dev/x[:/dev/y[:rwm]]; the caller looks up what the device is.
Result<DeviceOption> parse_device(std::string_view text);
/// --device-cgroup-rule "c 10:200 rwm"; * is any number.
Result<oci::DeviceRule> parse_device_rule(std::string_view text);

// ---- security ----

/// One --security-opt, applied to `options`. The file of seccomp=FILE is left in `seccomp_file` for the caller to read.
Result<void> apply_security_opt(std::string_view text, RunOptions& options, std::string& seccomp_file);
/// --cap-add, --cap-drop: a capability's name, with CAP_, or ALL.
Result<std::string> parse_capability(std::string_view text);
/// --sysctl KEY=VALUE
Result<std::pair<std::string, std::string>> parse_sysctl(std::string_view text);

// ---- names and network ----

/// --add-host NAME:IP or NAME=IP, given back as NAME:IP.
Result<std::string> parse_add_host(std::string_view text);
/// --dns: an IP address.
Result<std::string> parse_dns(std::string_view text);
/// --dns-search: a domain, or "." for none.
Result<std::string> parse_dns_search(std::string_view text);
/// --network none|host; true is host.
Result<bool> parse_network(std::string_view text);
/// --pid, --ipc, --uts: true for host, false for private or empty.
Result<bool> parse_namespace_mode(std::string_view text);
/// -p: always an error that says what to do instead.
Error publish_error(std::string_view text);

// ---- environment and labels ----

/// -e NAME=VALUE, or NAME alone, which the caller completes from its own environment.
Result<std::string> parse_env(std::string_view text);
/// --label, --annotation KEY[=VALUE]
Result<std::pair<std::string, std::string>> parse_label(std::string_view text);
/// The lines of an --env-file: NAME=VALUE or NAME, '#' comments. `file` names it in errors.
Result<oci::Strings> parse_env_file(std::string_view text, std::string_view file);
/// The lines of a --label-file.
Result<std::vector<std::pair<std::string, std::string>>> parse_label_file(std::string_view text, std::string_view file);

}  // namespace skink::plan
