// SPDX-License-Identifier: Apache-2.0
// Writing limits: which directory has the controller of a limit, and errors that name the JSON path and the file.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cgroup/cgroup.h"

namespace skink::cgroup {

/// A group's directory on one hierarchy, borrowed.
struct Target {
  int fd = -1;
  const Place* place = nullptr;
  [[nodiscard]] bool unified() const { return place->hierarchy.unified; }
};

/// One value to be written.
struct Setting {
  std::string json;  ///< "linux.resources.memory.limit"
  std::string file;
  std::string value;
};

/// The directories of a group, by controller.
class Targets {
 public:
  explicit Targets(std::vector<Target> all) : all_(std::move(all)) {}
  /// Where `controller` is: a v1 hierarchy, or the unified one, on which it is switched on. An error (unsupported) that
  /// names `json` when this host has it nowhere.
  Result<Target> need(std::string_view json, const std::string& controller) const {
    return need_either(json, controller, controller);
  }
  /// As need(), for a controller that has another name on the unified hierarchy.
  Result<Target> need_either(std::string_view json, const std::string& v1_name, const std::string& v2_name) const;
  /// The v1 directory with `controller`, or nullptr.
  [[nodiscard]] const Target* v1(std::string_view controller) const;
  /// The unified directory; nullptr on v1.
  [[nodiscard]] const Target* unified() const;
  /// True on v2 hosts.
  [[nodiscard]] bool unified_only() const;

 private:
  std::vector<Target> all_;
};

/// Writes one value.
Result<void> put(const Target& target, const Setting& setting);
/// Writes values whose order depends on what is set now (a limit may not pass its neighbour, and which one has to move
/// first depends on the direction): what the kernel refuses with EINVAL is tried again after the others.
Result<void> settle(const Target& target, std::vector<Setting> settings);
/// The error for a limit that only v1 knows.
[[nodiscard]] Error only_v1(std::string_view json);

Result<void> apply_memory(const Targets& targets, const oci::MemoryLimits& memory);
Result<void> apply_cpu(const Targets& targets, const oci::CpuLimits& cpu);
Result<void> apply_block_io(const Targets& targets, const oci::BlockIoLimits& block_io);
Result<void> apply_devices(const Targets& targets, const std::vector<oci::DeviceRule>& rules);
Result<void> apply_unified(const Targets& targets, const std::map<std::string, std::string>& unified);
/// All of it. Group::apply() and tests with directories of their own come here.
Result<void> apply_resources(const Targets& targets, const oci::Resources& resources);

}  // namespace skink::cgroup
