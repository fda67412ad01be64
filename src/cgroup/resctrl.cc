// SPDX-License-Identifier: Apache-2.0
#include "cgroup/resctrl.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/tree.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

constexpr std::string_view kIntelRdt = "linux.intelRdt";

// The kernel says in words why the last write or mkdir failed.
Error explained(int root_fd, Error error) {
  std::string why;
  if (read_control(root_fd, "info/last_cmd_status", why) != 0 || chomp(why).empty() || chomp(why) == "ok") return error;
  return Error::make(error.code(), error.text(), " (", printable(chomp(why)), ")");
}

Result<UniqueFd> open_class(int root_fd, const std::string& name) {
  if (name == "/") return sys::dup_fd(root_fd, 3);
  return open_below(root_fd, name);
}

bool has_values(const oci::IntelRdt& rdt) { return rdt.l3_cache_schema || rdt.mem_bw_schema || !rdt.schemata.empty(); }

std::string_view without_zeros(std::string_view number) {
  while (number.size() > 1 && number.front() == '0') number.remove_prefix(1);
  return number;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool same_number(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  a = without_zeros(trimmed(a)), b = without_zeros(trimmed(b));
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

// The value that `line`, the part after "L3:", has for a cache.
std::string_view value_of(std::string_view line, std::string_view cache) {
  for (const std::string_view piece : split(line, ';')) {
    const auto pair = split_once(piece, '=');
    if (pair && same_number(pair->first, cache)) return pair->second;
  }
  return {};
}

// A class that was there belongs to somebody else too: it has to be as the configuration says.
Result<void> compare(int class_fd, const oci::IntelRdt& rdt, const std::string& name) {
  std::string now;
  if (!rdt.l3_cache_schema && !rdt.mem_bw_schema) return {};
  if (const int err = read_control(class_fd, "schemata", now); err != 0)
    return Error::from_errno(err, kIntelRdt, ": read schemata of ", printable(name));
  const std::pair<const char*, const std::optional<std::string>*> lines[] = {{"l3CacheSchema", &rdt.l3_cache_schema},
                                                                             {"memBwSchema", &rdt.mem_bw_schema}};
  for (const auto& [member, line] : lines)
    if (*line && !schema_holds(**line, now))
      return Error::make(Code::invalid_config, kIntelRdt, ".", member, ": ", quoted(**line), " is not what the class ",
                         quoted(name), " has already: ", quoted(chomp(now)));
  return {};
}

// One write with all lines, in the order of the specification: the kernel takes it as a whole or up to the bad line.
Result<void> write_schemata(int root_fd, int class_fd, const oci::IntelRdt& rdt, const std::string& name) {
  std::string text;
  for (const auto* line : {&rdt.l3_cache_schema, &rdt.mem_bw_schema})
    if (*line) text += **line + "\n";
  for (const auto& line : rdt.schemata) text += line + "\n";
  if (text.empty()) return {};
  const int err = write_control(class_fd, "schemata", text);
  if (err == 0) return {};
  return explained(
      root_fd, Error::from_errno(err, kIntelRdt, ": write ", quoted(chomp(text)), " to schemata of ", printable(name)));
}

Result<UniqueFd> open_monitors(int class_fd, const std::string& name) {
  return TRY_CTX(open_below(class_fd, "mon_groups"), kIntelRdt, ".enableMonitoring: class ", printable(name));
}

Result<void> write_task(int root_fd, int dir_fd, pid_t pid, const std::string& name) {
  const int err = write_control(dir_fd, "tasks", str(pid));
  if (err == 0) return {};
  return explained(root_fd, Error::from_errno(err, kIntelRdt, ": move process ", pid, " into ", printable(name)));
}

}  // namespace

bool schema_holds(std::string_view wanted, std::string_view schemata) {
  const auto parts = split_once(wanted, ':');
  if (!parts) return false;
  for (const std::string_view line : split(schemata, '\n')) {
    const auto have = split_once(line, ':');
    if (!have || trimmed(have->first) != trimmed(parts->first)) continue;
    for (const std::string_view piece : split(parts->second, ';')) {
      const auto pair = split_once(piece, '=');
      if (!pair || !same_number(pair->second, value_of(have->second, pair->first))) return false;
    }
    return true;
  }
  return false;
}

Result<UniqueFd> open_resctrl() {
  std::string mounts;
  if (const int err = read_control(AT_FDCWD, "/proc/self/mountinfo", mounts); err != 0)
    return Error::from_errno(err, "read /proc/self/mountinfo");
  for (const std::string_view line : split(mounts, '\n')) {
    if (line.find(" - resctrl ") == std::string_view::npos) continue;
    const auto fields = split(line, ' ');
    const std::string point(fields[4]);
    return TRY_CTX(sys::open_at(AT_FDCWD, point.c_str(), O_PATH | O_DIRECTORY), kIntelRdt);
  }
  return Error::make(Code::unsupported, kIntelRdt,
                     ": no resctrl file system is mounted; mount one with: mount -t resctrl resctrl /sys/fs/resctrl");
}

Result<ResctrlGroup> Resctrl::plan(const oci::IntelRdt& rdt, const std::string& id) const {
  ResctrlGroup group;
  group.name = rdt.clos_id.empty() ? id : rdt.clos_id;
  if (rdt.enable_monitoring) group.monitor = id;
  const auto there = open_class(root_fd, group.name);
  if (!there && there.error().errnum() != ENOENT) return Error(there.error()).context(kIntelRdt, ".closID");
  if (!there && !rdt.clos_id.empty() && !has_values(rdt))
    return Error::make(Code::invalid_config, kIntelRdt, ".closID: there is no class of service ", quoted(group.name),
                       "; make it first, or give schemata");
  if (there && !rdt.clos_id.empty()) TRY(compare(there->get(), rdt, group.name));
  group.made_by_us = !there && rdt.clos_id.empty();
  return group;
}

Result<void> Resctrl::make(const ResctrlGroup& group, const oci::IntelRdt& rdt) const {
  auto dir = open_class(root_fd, group.name);
  if (!dir) {
    if (make_directory(root_fd, group.name.c_str(), 0755) != 0)
      return explained(root_fd, Error::from_errno(errno, kIntelRdt, ": make class of service ", printable(group.name)));
    dir = open_class(root_fd, group.name);
    if (!dir) return Error(dir.error()).context(kIntelRdt);
  }
  TRY(write_schemata(root_fd, dir->get(), rdt, group.name));
  if (group.monitor.empty()) return {};
  const UniqueFd monitors = TRY(open_monitors(dir->get(), group.name));
  if (make_directory(monitors.get(), group.monitor.c_str(), 0755) != 0 && errno != EEXIST)
    return explained(root_fd, Error::from_errno(errno, kIntelRdt, ".enableMonitoring: make monitoring group ",
                                                printable(group.monitor)));
  return {};
}

Result<void> Resctrl::change(const ResctrlGroup& group, const oci::IntelRdt& rdt) const {
  const UniqueFd dir = TRY_CTX(open_class(root_fd, group.name), kIntelRdt);
  return write_schemata(root_fd, dir.get(), rdt, group.name);
}

Result<void> Resctrl::add(const ResctrlGroup& group, pid_t pid) const {
  const UniqueFd dir = TRY_CTX(open_class(root_fd, group.name), kIntelRdt);
  TRY(write_task(root_fd, dir.get(), pid, group.name));
  if (group.monitor.empty()) return {};
  const UniqueFd monitors = TRY(open_monitors(dir.get(), group.name));
  const UniqueFd monitor = TRY_CTX(open_below(monitors.get(), group.monitor), kIntelRdt, ".enableMonitoring");
  return write_task(root_fd, monitor.get(), pid, group.monitor);
}

Result<void> Resctrl::remove(const ResctrlGroup& group) const {
  // The monitoring groups of a class go with it.
  if (group.made_by_us) {
    const int err = remove_group(root_fd, group.name.c_str());
    if (err != 0) return Error::from_errno(err, kIntelRdt, ": remove class of service ", printable(group.name));
    return {};
  }
  if (group.monitor.empty()) return {};
  const auto dir = open_class(root_fd, group.name);
  if (!dir) return {};
  const auto monitors = open_below(dir->get(), "mon_groups");
  if (!monitors) return {};
  const int err = remove_group(monitors->get(), group.monitor.c_str());
  if (err != 0) return Error::from_errno(err, kIntelRdt, ": remove monitoring group ", printable(group.monitor));
  return {};
}

}  // namespace skink::cgroup
