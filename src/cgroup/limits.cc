// SPDX-License-Identifier: Apache-2.0
#include "cgroup/limits.h"

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/controllers.h"
#include "cgroup/convert.h"
#include "cgroup/tree.h"

namespace skink::cgroup {
namespace {

Error refused(int errnum, const Target& target, const Setting& setting) {
  const std::string path = show(*target.place) + "/" + printable(setting.file);
  if (errnum == ENOENT) return Error::make(Code::unsupported, setting.json, ": this kernel has no ", path);
  Error error = Error::from_errno(errnum, setting.json, ": write ", quoted(setting.value), " to ", path);
  if (errnum == EBUSY && setting.json.starts_with("linux.resources.memory"))
    return Error::make(Code::busy, error.text(), ": the container uses more than that now");
  if (errnum == EINVAL || errnum == ERANGE) return std::move(error).as(Code::invalid_config);
  if (errnum == EOPNOTSUPP) return std::move(error).as(Code::unsupported);
  return error;
}

Result<void> apply_pids(const Targets& targets, std::int64_t limit) {
  const std::string json = "linux.resources.pids.limit";
  // 0 is a limit (config-linux.md "PIDs"), but a process cannot even be made in a group that has it; 1 is the same for
  // the container, whose first process counts.
  const std::string value = limit < 0 ? "max" : limit == 0 ? "1" : str(limit);
  auto target = targets.need(json, "pids");
  if (!target && limit < 0) return {};
  if (!target) return Error::make(target.error().code(), target.error().text(), "; -1 is none (--pids-limit -1)");
  return put(*target, {json, "pids.max", value});
}

bool is_page_size(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view unit = text.substr(digits);
  return digits > 0 && digits < 8 && (unit == "KB" || unit == "MB" || unit == "GB");
}

Result<void> apply_hugepages(const Targets& targets, const std::vector<oci::HugepageLimit>& limits) {
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const std::string json = str("linux.resources.hugepageLimits[", i, "]");
    if (!is_page_size(limits[i].page_size))
      return Error::make(Code::invalid_config, json, ".pageSize: ", quoted(limits[i].page_size),
                         " is not a size such as 2MB");
    const Target target = TRY(targets.need(json, "hugetlb"));
    const std::string stem = "hugetlb." + limits[i].page_size, value = str(limits[i].limit);
    const char* const tail = target.unified() ? "max" : "limit_in_bytes";
    TRY(put(target, {json, str(stem, ".", tail), value}));
    // Without this one a program reserves past the limit and dies by SIGBUS when it touches the page. Kernels
    // before 5.7 do not have it, and the specification falls back on the other.
    const std::string reserved = str(stem, ".rsvd.", tail);
    if (has_control(target.fd, reserved.c_str())) TRY(put(target, {json, reserved, value}));
  }
  return {};
}

Result<void> check_interface(std::string_view name, const std::string& json) {
  TRY(check_component(name, json));
  // The control file has one "NAME NUMBER" per write; IFNAMSIZ is 16 with its end.
  if (name.size() > 15 || name.find(' ') != std::string_view::npos)
    return Error::make(Code::invalid_config, json, ": ", quoted(name), " is not an interface name");
  return {};
}

Result<void> apply_network(const Targets& targets, const oci::NetworkLimits& network) {
  if (network.class_id) {
    const std::string json = "linux.resources.network.classID";
    if (targets.unified_only()) return only_v1(json);
    TRY(put(TRY(targets.need(json, "net_cls")), {json, "net_cls.classid", str(*network.class_id)}));
  }
  for (std::size_t i = 0; i < network.priorities.size(); ++i) {
    const std::string json = str("linux.resources.network.priorities[", i, "]");
    const auto& [name, priority] = network.priorities[i];
    TRY(check_interface(name, json + ".name"));
    if (targets.unified_only()) return only_v1(json);
    TRY(put(TRY(targets.need(json, "net_prio")), {json, "net_prio.ifpriomap", str(name, " ", priority)}));
  }
  return {};
}

Result<void> apply_rdma(const Targets& targets, const std::map<std::string, oci::RdmaLimit>& limits) {
  for (const auto& [device, limit] : limits) {
    const std::string json = str("linux.resources.rdma[", quoted(device), "]");
    TRY(check_component(device, json));
    if (device.size() > 63 || device.find(' ') != std::string::npos)
      return Error::make(Code::invalid_config, json, ": not a device name");
    const Target target = TRY(targets.need(json, "rdma"));
    std::string value = device;
    if (limit.hca_handles) value += str(" hca_handle=", *limit.hca_handles);
    if (limit.hca_objects) value += str(" hca_object=", *limit.hca_objects);
    if (value.size() > device.size()) TRY(put(target, {json, "rdma.max", value}));
  }
  return {};
}

// cgroup.* is the group itself, not a limit: a member list or a switch there would be the container's doing.
Result<void> check_unified_key(const std::string& key, const std::string& json) {
  TRY(check_component(key, json));
  const bool allowed = key == "cgroup.max.depth" || key == "cgroup.max.descendants" || key == "cgroup.pressure";
  if (key.find('.') == std::string::npos || key.front() == '.' || (key.starts_with("cgroup.") && !allowed))
    return Error::make(Code::invalid_config, json, ": not the name of a control file that sets a limit");
  return {};
}

}  // namespace

Error only_v1(std::string_view json) {
  return Error::make(Code::unsupported, json, ": only cgroup v1 has this, and this host uses cgroup v2; leave it out");
}

const Target* Targets::unified() const {
  const auto found = std::ranges::find_if(all_, [](const Target& target) { return target.unified(); });
  return found == all_.end() ? nullptr : &*found;
}

const Target* Targets::v1(std::string_view controller) const {
  const auto found = std::ranges::find_if(all_, [&](const Target& target) {
    return !target.unified() && has_word(target.place->hierarchy.controllers, controller);
  });
  return found == all_.end() ? nullptr : &*found;
}

bool Targets::unified_only() const {
  return !all_.empty() && std::ranges::all_of(all_, [](const Target& target) { return target.unified(); });
}

Result<Target> Targets::need_either(std::string_view json, const std::string& v1_name,
                                    const std::string& v2_name) const {
  if (const Target* const target = v1(v1_name)) return *target;
  if (const Target* const target = unified())
    if (TRY_CTX(enable(*target->place, target->fd, v2_name), json)) return *target;
  return Error::make(Code::unsupported, json, ": this host has no ", unified_only() ? v2_name : v1_name, " controller");
}

Result<void> put(const Target& target, const Setting& setting) {
  const int err = write_control(target.fd, setting.file.c_str(), setting.value);
  if (err != 0) return refused(err, target, setting);
  return {};
}

Result<void> settle(const Target& target, std::vector<Setting> settings) {
  while (!settings.empty()) {
    int last = 0;
    std::vector<Setting> again;
    for (Setting& setting : settings) {
      const int err = write_control(target.fd, setting.file.c_str(), setting.value);
      if (err != 0 && err != EINVAL) return refused(err, target, setting);
      if (err == EINVAL) {
        last = err;
        again.push_back(std::move(setting));
      }
    }
    if (again.size() == settings.size()) return refused(last, target, again.front());
    settings = std::move(again);
  }
  return {};
}

Result<void> apply_unified(const Targets& targets, const std::map<std::string, std::string>& unified) {
  for (const auto& [key, value] : unified) {
    const std::string json = str("linux.resources.unified[", quoted(key), "]");
    TRY(check_unified_key(key, json));
    const Target* const target = targets.unified();
    if (target == nullptr)
      return Error::make(Code::unsupported, json, ": invalid configuration: this host has no cgroup v2 hierarchy");
    const std::string controller = key.substr(0, key.find('.'));
    if (controller != "cgroup" && !TRY_CTX(enable(*target->place, target->fd, controller), json))
      return Error::make(Code::unsupported, json, ": invalid configuration: the cgroup v2 hierarchy at ",
                         printable(target->place->hierarchy.mount_point), " has no ", controller, " controller");
    // Files such as io.max take one line per write.
    for (const std::string_view line : split(value, '\n'))
      if (!line.empty()) TRY(put(*target, {json, key, std::string(line)}));
  }
  return {};
}

Result<void> apply_resources(const Targets& targets, const oci::Resources& resources) {
  if (!resources.devices.empty()) TRY(apply_devices(targets, resources.devices));
  if (resources.memory) TRY(apply_memory(targets, *resources.memory));
  if (resources.cpu) TRY(apply_cpu(targets, *resources.cpu));
  if (resources.pids_limit) TRY(apply_pids(targets, *resources.pids_limit));
  if (resources.block_io) TRY(apply_block_io(targets, *resources.block_io));
  TRY(apply_hugepages(targets, resources.hugepages));
  if (resources.network) TRY(apply_network(targets, *resources.network));
  TRY(apply_rdma(targets, resources.rdma));
  return apply_unified(targets, resources.unified);
}

Result<void> Group::apply(const oci::Resources& resources) {
  std::vector<Target> targets;
  targets.reserve(dirs_.size());
  for (const Dir& dir : dirs_) targets.push_back({dir.fd.get(), &dir.place});
  auto applied = apply_resources(Targets(std::move(targets)), resources);
  const bool lacking = !applied && applied.error().code() == Code::unsupported && !gone_.empty();
  return lacking ? Result<void>(lacks("")) : applied;
}

}  // namespace skink::cgroup
