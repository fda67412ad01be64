// SPDX-License-Identifier: Apache-2.0
// linux.resources.blockIO: blkio of cgroup v1, io of cgroup v2.
#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/convert.h"
#include "cgroup/limits.h"

namespace skink::cgroup {
namespace {

constexpr std::string_view kBlockIo = "linux.resources.blockIO.";

// Weights belong to an I/O scheduler: BFQ has files of its own, others (CFQ once, io.cost now) the plain ones.
std::string weight_file(const Target& target, bool leaf, bool device) {
  if (target.unified()) return has_control(target.fd, "io.bfq.weight") ? "io.bfq.weight" : "io.weight";
  if (leaf) return device ? "blkio.leaf_weight_device" : "blkio.leaf_weight";
  const char* const bfq = device ? "blkio.bfq.weight_device" : "blkio.bfq.weight";
  if (has_control(target.fd, bfq)) return bfq;
  return device ? "blkio.weight_device" : "blkio.weight";
}

Result<void> put_weight(const Target& target, const std::string& json, const std::string& device, bool leaf,
                        std::uint16_t weight) {
  if (weight == 0) return {};
  if (weight < 10 || weight > 1000)
    return Error::make(Code::invalid_config, json, ": ", weight, " is not from 10 to 1000");
  if (leaf && target.unified()) return only_v1(json);
  const std::string file = weight_file(target, leaf, !device.empty());
  const std::uint64_t value = file == "io.weight" ? io_weight_of_blkio(weight) : weight;
  return put(target, {json, file, device.empty() ? str(value) : str(device, " ", value)});
}

Result<std::string> device_of(std::int64_t major, std::int64_t minor, const std::string& json) {
  if (major < 0 || minor < 0 || major > 0xfff || minor > 0xfffff)
    return Error::make(Code::invalid_config, json, ": ", major, ":", minor, " is no device number");
  return str(major, ":", minor);
}

Result<void> weights(const Target& target, const oci::BlockIoLimits& io) {
  if (io.weight) TRY(put_weight(target, str(kBlockIo, "weight"), {}, false, *io.weight));
  if (io.leaf_weight) TRY(put_weight(target, str(kBlockIo, "leafWeight"), {}, true, *io.leaf_weight));
  for (std::size_t i = 0; i < io.weight_devices.size(); ++i) {
    const oci::WeightDevice& one = io.weight_devices[i];
    const std::string json = str(kBlockIo, "weightDevice[", i, "]");
    const std::string device = TRY(device_of(one.major, one.minor, json));
    if (one.weight) TRY(put_weight(target, json + ".weight", device, false, *one.weight));
    if (one.leaf_weight) TRY(put_weight(target, json + ".leafWeight", device, true, *one.leaf_weight));
  }
  return {};
}

struct Throttle {
  const char* member;
  const char* v1_file;
  const char* v2_key;
  const std::vector<oci::ThrottleDevice>& devices;
};

Result<void> throttle(const Target& target, const Throttle& kind) {
  for (std::size_t i = 0; i < kind.devices.size(); ++i) {
    const oci::ThrottleDevice& one = kind.devices[i];
    const std::string json = str(kBlockIo, kind.member, "[", i, "]");
    const std::string device = TRY(device_of(one.major, one.minor, json));
    if (!target.unified()) {
      TRY(put(target, {json, kind.v1_file, str(device, " ", one.rate)}));
      continue;
    }
    // v1 lifts a limit with 0; io.max has a word for that and refuses the number.
    TRY(put(target, {json, "io.max", str(device, " ", kind.v2_key, "=", one.rate == 0 ? "max" : str(one.rate))}));
  }
  return {};
}

// The member to name when the host has no controller for it; nullptr when nothing is asked.
const char* first_member(const oci::BlockIoLimits& io) {
  if (io.weight) return "weight";
  if (io.leaf_weight) return "leafWeight";
  if (!io.weight_devices.empty()) return "weightDevice";
  if (!io.read_bps.empty()) return "throttleReadBpsDevice";
  if (!io.write_bps.empty()) return "throttleWriteBpsDevice";
  if (!io.read_iops.empty()) return "throttleReadIOPSDevice";
  return io.write_iops.empty() ? nullptr : "throttleWriteIOPSDevice";
}

}  // namespace

Result<void> apply_block_io(const Targets& targets, const oci::BlockIoLimits& io) {
  const char* const member = first_member(io);
  if (member == nullptr) return {};
  const Target target = TRY(targets.need_either(str(kBlockIo, member), "blkio", "io"));
  TRY(weights(target, io));
  TRY(throttle(target, {"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", io.read_bps}));
  TRY(throttle(target, {"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", io.write_bps}));
  TRY(throttle(target, {"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", io.read_iops}));
  return throttle(target, {"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", io.write_iops});
}

}  // namespace skink::cgroup
