// SPDX-License-Identifier: Apache-2.0
#include "launch/id_maps.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "sys/file.h"

namespace skink::launch {
namespace {

Result<void> write_proc(pid_t pid, std::string_view file, const std::string& text) {
  const std::string path = str("/proc/", pid, '/', file);
  const UniqueFd fd = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_WRONLY));
  return sys::write_all(fd.get(), text, path);
}

std::string map_text(const std::vector<oci::IdMapping>& mappings) {
  std::string text;
  for (const auto& map : mappings) text += str(map.container_id, ' ', map.host_id, ' ', map.size, '\n');
  return text;
}

}  // namespace

Result<void> write_id_maps(pid_t pid, const plan::LaunchPlan& plan) {
  if ((plan.flags & plan::kHasUserNamespace) == 0) return {};
  TRY_CTX(write_proc(pid, "uid_map", map_text(plan.uid_mappings)), "linux.uidMappings");
  // Order: an unprivileged writer has to deny setgroups before gid_map, else a group that denies access could be
  // dropped (CVE-2014-8989).
  if (::geteuid() != 0) TRY_CTX(write_proc(pid, "setgroups", "deny"), "linux.gidMappings");
  TRY_CTX(write_proc(pid, "gid_map", map_text(plan.gid_mappings)), "linux.gidMappings");
  return {};
}

Result<void> write_oom_score(pid_t pid, int value) {
  auto written = write_proc(pid, "oom_score_adj", str(value));
  if (!written && (written.error().errnum() == EACCES || written.error().errnum() == EPERM))
    return Error::make(Code::denied, "process.oomScoreAdj: ", value,
                       ": lowering it below the caller's needs CAP_SYS_RESOURCE");
  return written;
}

}  // namespace skink::launch
