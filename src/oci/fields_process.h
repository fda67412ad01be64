// SPDX-License-Identifier: Apache-2.0
// The members of config.json outside "linux", each object described once for Reader and Writer. Internal to oci/.
#pragma once

#include <limits>

#include "oci/rules.h"
#include "oci/spec.h"
#include "oci/spec_words.h"

namespace skink::oci {

/// T& for a Reader, const T& for a Writer.
template <typename Io, typename T>
using Ref = typename Io::template Ref<T>;

template <typename Io>
void describe(Io& io, Ref<Io, IdMapping> mapping) {
  io.must("containerID", mapping.container_id, kIds);
  io.must("hostID", mapping.host_id, kIds);
  io.must("size", mapping.size);
}

template <typename Io>
void describe(Io& io, Ref<Io, ConsoleSize> size) {
  io.must("height", size.height);
  io.must("width", size.width);
}

template <typename Io>
void describe(Io& io, Ref<Io, User> user) {
  io.keep("uid", user.uid, kIds);
  io.keep("gid", user.gid, kIds);
  io.may("umask", user.umask, Range<std::uint32_t>{0, 0777});
  io.may("additionalGids", user.additional_gids, kIds);
}

template <typename Io>
void describe(Io& io, Ref<Io, Capabilities> sets) {
  io.may("bounding", sets.bounding, CapabilityNames{});
  io.may("effective", sets.effective, CapabilityNames{});
  io.may("inheritable", sets.inheritable, CapabilityNames{});
  io.may("permitted", sets.permitted, CapabilityNames{});
  io.may("ambient", sets.ambient, CapabilityNames{});
}

template <typename Io>
void describe(Io& io, Ref<Io, Rlimit> limit) {
  io.must("type", limit.resource, RlimitNames{});
  io.must("hard", limit.hard);
  io.must("soft", limit.soft);
}

template <typename Io>
void describe(Io& io, Ref<Io, Scheduler> scheduler) {
  io.must("policy", scheduler.policy, NamedNumbers{words::kPolicies});
  io.may("nice", scheduler.nice, Range<std::int32_t>{-20, 19});
  io.may("priority", scheduler.priority, Range<std::int32_t>{0, 99});
  io.may("flags", scheduler.flags, NamedBits{words::kSchedFlags});
  io.may("runtime", scheduler.runtime);
  io.may("deadline", scheduler.deadline);
  io.may("period", scheduler.period);
}

template <typename Io>
void describe(Io& io, Ref<Io, IoPriority> priority) {
  io.must("class", priority.io_class, NamedNumbers{words::kIoClasses});
  io.may("priority", priority.priority, Range<int>{0, 7});
}

template <typename Io>
void describe(Io& io, Ref<Io, ExecCpuAffinity> affinity) {
  io.may("initial", affinity.initial);
  io.may("final", affinity.final);
}

template <typename Io>
void describe(Io& io, Ref<Io, Process> process) {
  io.may("terminal", process.terminal);
  io.may("consoleSize", process.console_size);
  io.keep("user", process.user);
  io.may("args", process.args);
  io.may("env", process.env);
  io.may("cwd", process.cwd);
  io.may("capabilities", process.capabilities);
  io.may("rlimits", process.rlimits);
  io.may("noNewPrivileges", process.no_new_privileges);
  io.may("apparmorProfile", process.apparmor_profile);
  io.may("oomScoreAdj", process.oom_score_adj, Range<int>{-1000, 1000});
  io.may("scheduler", process.scheduler);
  io.may("selinuxLabel", process.selinux_label);
  io.may("ioPriority", process.io_priority);
  io.may("execCPUAffinity", process.exec_cpu_affinity);
}

template <typename Io>
void describe(Io& io, Ref<Io, Root> root) {
  io.must("path", root.path);
  io.may("readonly", root.readonly);
}

template <typename Io>
void describe(Io& io, Ref<Io, Mount> mount) {
  io.must("destination", mount.destination);
  io.may("type", mount.type);
  io.may("source", mount.source);
  io.may("options", mount.options);
  io.may("uidMappings", mount.uid_mappings);
  io.may("gidMappings", mount.gid_mappings);
}

template <typename Io>
void describe(Io& io, Ref<Io, Hook> hook) {
  io.must("path", hook.path);
  io.may("args", hook.args);
  io.may("env", hook.env);
  io.may("timeout", hook.timeout_seconds, Range<int>{1, std::numeric_limits<int>::max()});
}

template <typename Io>
void describe(Io& io, Ref<Io, Hooks> hooks) {
  io.may("prestart", hooks.prestart);
  io.may("createRuntime", hooks.create_runtime);
  io.may("createContainer", hooks.create_container);
  io.may("startContainer", hooks.start_container);
  io.may("poststart", hooks.poststart);
  io.may("poststop", hooks.poststop);
}

template <typename Io>
void describe(Io& io, Ref<Io, Spec> spec) {
  io.must("ociVersion", spec.oci_version);
  io.may("process", spec.process);
  io.may("root", spec.root);
  io.may("hostname", spec.hostname);
  io.may("domainname", spec.domainname);
  io.may("mounts", spec.mounts);
  io.may("hooks", spec.hooks);
  io.may("annotations", spec.annotations);
  io.may("linux", spec.linux);
}

}  // namespace skink::oci
