// SPDX-License-Identifier: Apache-2.0
// The members of "linux" in config.json, each object described once for Reader and Writer. Internal to oci/.
#pragma once

#include "oci/fields_process.h"
#include "oci/fields_resources.h"

namespace skink::oci {

template <typename Io>
void describe(Io& io, Ref<Io, Namespace> space) {
  io.must("type", space.type, NamedNumbers{words::kNamespaces});
  io.may("path", space.path);
}

template <typename Io>
void describe(Io& io, Ref<Io, Device> device) {
  io.must("type", device.type, Letters{"cbup"});
  io.must("path", device.path);
  if (device.type != 'p') {
    io.must("major", device.major, kMajors);
    io.must("minor", device.minor, kMinors);
  }
  io.may("fileMode", device.file_mode, ModeBits{});
  io.may("uid", device.uid, kIds);
  io.may("gid", device.gid, kIds);
}

template <typename Io>
void describe(Io& io, Ref<Io, TimeOffset> offset) {
  io.may("secs", offset.seconds);
  io.may("nanosecs", offset.nanoseconds, Range<std::uint32_t>{0, 999'999'999});
}

template <typename Io>
void describe(Io& io, Ref<Io, SeccompArg> arg) {
  io.must("index", arg.index, Range<std::uint32_t>{0, 5});
  io.must("value", arg.value);
  io.may("valueTwo", arg.value_two);
  io.must("op", arg.op, Words{words::kComparisons});
}

template <typename Io>
void describe(Io& io, Ref<Io, SeccompRule> rule) {
  io.must("names", rule.names);
  io.must("action", rule.action, Words{words::kActions});
  io.may("errnoRet", rule.errno_ret);
  io.may("args", rule.args);
}

template <typename Io>
void describe(Io& io, Ref<Io, Seccomp> seccomp) {
  io.must("defaultAction", seccomp.default_action, Words{words::kActions});
  io.may("defaultErrnoRet", seccomp.default_errno_ret);
  io.may("architectures", seccomp.architectures, Words{words::kArchitectures});
  io.may("flags", seccomp.flags, Words{words::kFilterFlags});
  io.may("listenerPath", seccomp.listener_path);
  io.may("listenerMetadata", seccomp.listener_metadata);
  io.may("syscalls", seccomp.syscalls);
}

template <typename Io>
void describe(Io& io, Ref<Io, IntelRdt> rdt) {
  io.may("closID", rdt.clos_id);
  io.may("schemata", rdt.schemata);
  io.may("l3CacheSchema", rdt.l3_cache_schema);
  io.may("memBwSchema", rdt.mem_bw_schema);
  io.may("enableMonitoring", rdt.enable_monitoring);
}

template <typename Io>
void describe(Io& io, Ref<Io, MemoryPolicy> policy) {
  io.must("mode", policy.mode, Words{words::kMemoryModes});
  io.may("nodes", policy.nodes);
  io.may("flags", policy.flags, Words{words::kMemoryFlags});
}

template <typename Io>
void describe(Io& io, Ref<Io, Linux> linux) {
  io.may("uidMappings", linux.uid_mappings);
  io.may("gidMappings", linux.gid_mappings);
  io.may("sysctl", linux.sysctl);
  io.may("resources", linux.resources);
  io.may("cgroupsPath", linux.cgroups_path);
  io.may("namespaces", linux.namespaces);
  io.may("devices", linux.devices);
  io.may("netDevices", linux.net_devices, MemberOfEach{"name"});
  io.may("seccomp", linux.seccomp);
  io.may("rootfsPropagation", linux.rootfs_propagation, Words{words::kPropagations});
  io.may("maskedPaths", linux.masked_paths);
  io.may("readonlyPaths", linux.readonly_paths);
  io.may("mountLabel", linux.mount_label);
  io.may("intelRdt", linux.intel_rdt);
  io.may("memoryPolicy", linux.memory_policy);
  io.may_in("personality", "domain", linux.personality_domain, Words{words::kPersonalities});
  io.none_in("personality", "flags");
  io.may("timeOffsets", linux.time_offsets);
}

}  // namespace skink::oci
