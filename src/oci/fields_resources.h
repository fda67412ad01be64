// SPDX-License-Identifier: Apache-2.0
// The members of linux.resources, each object described once for Reader and Writer. Internal to oci/.
#pragma once

#include <utility>

#include "oci/fields_process.h"

namespace skink::oci {

template <typename Io>
void describe(Io& io, Ref<Io, DeviceRule> rule) {
  io.must("allow", rule.allow);
  io.may("type", rule.type, Letters{"acb"});
  // Engines write -1 for "all"; it is the same as no member.
  io.may("major", rule.major, Wildcard{});
  io.may("minor", rule.minor, Wildcard{});
  io.may("access", rule.access);
}

template <typename Io>
void describe(Io& io, Ref<Io, MemoryLimits> memory) {
  io.may("limit", memory.limit, kLimits);
  io.may("reservation", memory.reservation, kLimits);
  io.may("swap", memory.swap, kLimits);
  io.may("kernel", memory.kernel, kLimits);
  io.may("kernelTCP", memory.kernel_tcp, kLimits);
  io.may("swappiness", memory.swappiness, Range<std::uint64_t>{0, 100});
  io.may("disableOOMKiller", memory.disable_oom_killer);
  io.may("useHierarchy", memory.use_hierarchy);
  io.may("checkBeforeUpdate", memory.check_before_update);
}

template <typename Io>
void describe(Io& io, Ref<Io, CpuLimits> cpu) {
  io.may("shares", cpu.shares);
  io.may("quota", cpu.quota, kLimits);
  io.may("burst", cpu.burst);
  io.may("period", cpu.period);
  io.may("realtimeRuntime", cpu.realtime_runtime, kLimits);
  io.may("realtimePeriod", cpu.realtime_period);
  io.may("cpus", cpu.cpus);
  io.may("mems", cpu.mems);
  io.may("idle", cpu.idle, Range<std::int64_t>{0, 1});
}

template <typename Io>
void describe(Io& io, Ref<Io, WeightDevice> device) {
  io.must("major", device.major, kMajors);
  io.must("minor", device.minor, kMinors);
  io.may("weight", device.weight);
  io.may("leafWeight", device.leaf_weight);
}

template <typename Io>
void describe(Io& io, Ref<Io, ThrottleDevice> device) {
  io.must("major", device.major, kMajors);
  io.must("minor", device.minor, kMinors);
  io.must("rate", device.rate);
}

template <typename Io>
void describe(Io& io, Ref<Io, BlockIoLimits> limits) {
  io.may("weight", limits.weight);
  io.may("leafWeight", limits.leaf_weight);
  io.may("weightDevice", limits.weight_devices);
  io.may("throttleReadBpsDevice", limits.read_bps);
  io.may("throttleWriteBpsDevice", limits.write_bps);
  io.may("throttleReadIOPSDevice", limits.read_iops);
  io.may("throttleWriteIOPSDevice", limits.write_iops);
}

template <typename Io>
void describe(Io& io, Ref<Io, HugepageLimit> limit) {
  io.must("pageSize", limit.page_size);
  io.must("limit", limit.limit);
}

using InterfacePriority = std::pair<std::string, std::uint32_t>;

template <typename Io>
void describe(Io& io, Ref<Io, InterfacePriority> priority) {
  io.must("name", priority.first);
  io.must("priority", priority.second);
}

template <typename Io>
void describe(Io& io, Ref<Io, NetworkLimits> network) {
  io.may("classID", network.class_id);
  io.may("priorities", network.priorities);
}

template <typename Io>
void describe(Io& io, Ref<Io, RdmaLimit> limit) {
  io.may("hcaHandles", limit.hca_handles);
  io.may("hcaObjects", limit.hca_objects);
}

template <typename Io>
void describe(Io& io, Ref<Io, Resources> resources) {
  io.may("devices", resources.devices);
  io.may("memory", resources.memory);
  io.may("cpu", resources.cpu);
  io.may_in("pids", "limit", resources.pids_limit, kLimits);
  io.may("blockIO", resources.block_io);
  io.may("hugepageLimits", resources.hugepages);
  io.may("network", resources.network);
  io.may("rdma", resources.rdma);
  io.may("unified", resources.unified);
}

}  // namespace skink::oci
