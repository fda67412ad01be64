// SPDX-License-Identifier: Apache-2.0
// Doctor: control groups /skink/ID that no container has any more. All stores of a host share that parent, so a group
// is ours only when this store or its event log knows the id; and it is unused only when nobody is in it and no guard
// or supervisor of the host, whose ever, has that container open.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <set>

#include "base/durations.h"
#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/tree.h"
#include "fs/dir.h"
#include "supervise/doctor.h"
#include "supervise/event_reader.h"
#include "supervise/guard/protocol.h"
#include "supervise/removal.h"
#include "supervise/scope.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

using Names = std::map<std::string, std::string>;  // of groups, with the first path of each

// The groups right below `parent` on every hierarchy.
Names groups_below(const cgroup::Host& host, const std::string& parent) {
  Names names;
  for (const auto& hierarchy : host.hierarchies) {
    const std::string path = str(hierarchy.mount_point, parent);
    const auto dir = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    const auto entries = dir ? fs::list(dir->get()) : Result<std::vector<fs::Entry>>(dir.error());
    if (!entries) continue;
    for (const auto& entry : *entries)
      if (entry.type == DT_DIR) names.emplace(entry.name, str(path, '/', entry.name));
  }
  return names;
}

// The containers that a process of the host has as its own, in any store: guards and supervisors hold the directory
// by a number that is known.
std::set<std::string> kept_ids() {
  std::set<std::string> ids;
  const auto proc = sys::open_at(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY);
  const auto entries = proc ? fs::list(proc->get()) : Result<std::vector<fs::Entry>>(proc.error());
  if (!entries) return ids;
  for (const auto& entry : *entries) {
    if (!parse_int<pid_t>(entry.name)) continue;
    const auto link = sys::readlink_at(proc->get(), str(entry.name, "/fd/", static_cast<int>(kFdStoreDir)).c_str());
    if (!link) continue;
    const std::string name = link->substr(link->rfind('/') + 1);
    if (is_id(name)) ids.insert(name);
  }
  return ids;
}

// The containers that the event log knows, and of each whether it tells that it was removed.
std::map<std::string, bool> told_ids(const std::string& run) {
  std::map<std::string, bool> ids;
  if (auto reader = EventReader::open(run))
    reader->read([&](const Event& event) { ids[event.id] = event.action == "destroy"; });
  return ids;
}

// A container of another --root with the same --run may be starting in it just now: nobody is in a group before the
// first process is made there.
bool is_new(const std::string& path) {
  constexpr std::int64_t kStarting = 60;
  const auto status = sys::stat_at(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW);
  return status && fs::now_ns() / kSecond - status->st_mtim.tv_sec < kStarting;
}

bool is_on_record(const Roots& roots, const std::string& id) {
  const int containers = roots.store_containers.get();
  return sys::is_there(containers, str(kNewPrefix, id).c_str()) || sys::is_there(containers, id.c_str());
}

bool is_empty(const cgroup::Location& location) {
  const auto group = cgroup::Group::open(location);
  const auto processes = group ? group->processes() : Result<std::vector<pid_t>>(group.error());
  return processes && processes->empty();
}

Result<void> remove_group(const Roots& roots, const std::string& id) {
  const auto location = TRY(plan_plain_groups(id));
  if (is_on_record(roots, id) || kept_ids().contains(id) || !is_empty(location))
    return Error::make(Code::busy, "somebody has it in use by now");
  return cgroup::Group::remove(location, std::chrono::seconds(1));
}

void check_group(Ward& ward, const std::string& id, const std::string& path, bool ours) {
  const auto location = plan_plain_groups(id);
  const bool empty = location && is_empty(*location);
  const Roots& roots = ward.roots();
  if (ours && empty)
    ward.problem("group", path, "a control group of a container that is gone, without processes", "--fix removes it",
                 [&roots, id] { return remove_group(roots, id); });
  else if (ours)
    ward.problem("group", path, "processes of a container that is gone still run in this control group",
                 str("see what they are: cat ", path, "/cgroup.procs"));
  else
    ward.note(
        "stray-group", path,
        str("a control group of a container that this store does not know, ", empty ? "without" : "with", " processes"),
        "it may be of another --root; skink never touches it");
}

void check_plain_groups(Ward& ward, const cgroup::Host& host) {
  // Order: groups before keepers. Who makes a group lives before and while it is there.
  const auto groups = groups_below(host, str('/', cgroup::kOwnParent));
  if (groups.empty()) return;
  const auto kept = kept_ids();
  std::optional<std::map<std::string, bool>> told;
  for (const auto& [id, path] : groups) {
    if (!is_id(id) || kept.contains(id) || is_on_record(ward.roots(), id)) continue;
    if (!told) told = told_ids(ward.options().run);
    const auto known = told->find(id);
    const bool removed = known != told->end() && known->second;
    const bool ours = known != told->end() || open_run_dir(ward.roots(), id).has_value();
    check_group(ward, id, path, ours && (removed || !is_new(path)));
  }
}

void check_scopes(Ward& ward, const cgroup::Host& host) {
  constexpr std::string_view kStart = "skink-", kEnd = ".scope";
  for (const auto& [name, path] : groups_below(host, "/skink.slice")) {
    if (!name.starts_with(kStart) || !name.ends_with(kEnd)) continue;
    const std::string id = name.substr(kStart.size(), name.size() - kStart.size() - kEnd.size());
    if (is_id(id) && !is_on_record(ward.roots(), id) && !kept_ids().contains(id))
      ward.note("stray-group", path, "a scope of a container that this store does not know",
                str("if no other --root has it: systemctl stop ", name));
  }
}

// Containers of skink-oci are looked after by another program. One that is only created has a process already.
void check_oci_groups(Ward& ward, const cgroup::Host& host) {
  for (const auto& [name, path] : groups_below(host, "")) {
    if (!name.starts_with("skink-")) continue;
    const auto location = cgroup::locate(host, str('/', name));
    if (location && is_empty(*location))
      ward.note("stray-group", path, "a control group of skink-oci without processes, as a killed runtime leaves it",
                str("if its container is gone (skink-oci list): rmdir ", quoted(path)));
  }
}

}  // namespace

void check_groups(Ward& ward) {
  const auto host = cgroup::detect();
  if (!host) return;  // told by check_kernel
  check_plain_groups(ward, *host);
  check_scopes(ward, *host);
  check_oci_groups(ward, *host);
}

}  // namespace skink::supervise
