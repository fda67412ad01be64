// SPDX-License-Identifier: Apache-2.0
#include "cgroup/controllers.h"

#include <cerrno>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/tree.h"

namespace skink::cgroup {
namespace {

std::string why_refused(int errnum, const std::string& group) {
  switch (errnum) {
    case EBUSY:
      return str(
          "group ", group,
          " has processes of its own, and such a group cannot give controllers to groups below it; move them into "
          "a sub-group or choose another linux.cgroupsPath");
    case EOPNOTSUPP: return str("group ", group, " is threaded, and the controller does not work in threaded groups");
    default: return str("group ", group, " refuses it: ", errno_text(errnum));
  }
}

// Calls `step` with a descriptor and the name of each group from the mount point down to the parent of `place`.
template <typename Step>
Result<void> from_the_top(const Place& place, Step step) {
  UniqueFd here = TRY(open_mount(place.hierarchy));
  std::string shown = printable(place.hierarchy.mount_point);
  TRY(step(here.get(), shown));
  const PathParts parts = split_path(place.path);
  if (parts.parent.empty()) return {};
  for (const std::string_view name : split(parts.parent, '/')) {
    here = TRY(open_below(here.get(), std::string(name)));
    shown += "/" + printable(name);
    TRY(step(here.get(), shown));
  }
  return {};
}

// A group with processes of its own may still give controllers that know threads (cpu, pids), and the kernel takes it
// for the root of a threaded subtree from then on: groups below it can have no processes any more. Only the root of
// the hierarchy, which has no type, may have both.
bool would_become_threaded(int dir_fd) {
  std::string type, processes;
  return read_control(dir_fd, "cgroup.type", type) == 0 && chomp(type) == "domain" &&
         read_control(dir_fd, "cgroup.procs", processes) == 0 && !processes.empty();
}

int give(int dir_fd, const std::string& controllers) {
  return would_become_threaded(dir_fd) ? EBUSY : write_control(dir_fd, "cgroup.subtree_control", controllers);
}

// One group gives what it has to its children: together, or one by one when one of them is refused.
void give_all(int dir_fd) {
  std::string has, gives;
  if (read_control(dir_fd, "cgroup.controllers", has) != 0) return;
  if (read_control(dir_fd, "cgroup.subtree_control", gives) != 0) return;
  std::string wanted;
  for (const std::string_view name : split(chomp(has), ' '))
    if (!name.empty() && !has_word(gives, name)) wanted += str(wanted.empty() ? "+" : " +", name);
  if (wanted.empty()) return;
  if (const int err = give(dir_fd, wanted); err == 0 || err == EBUSY) return;
  for (const std::string_view one : split(wanted, ' ')) (void)write_control(dir_fd, "cgroup.subtree_control", one);
}

}  // namespace

void enable_all(const Place& place, int dir_fd) {
  std::string offered, present;
  const Result<UniqueFd> mount = open_mount(place.hierarchy);
  if (!mount || read_control(mount->get(), "cgroup.controllers", offered) != 0) return;
  if (read_control(dir_fd, "cgroup.controllers", present) != 0 || present == offered) return;
  (void)from_the_top(place, [](int group_fd, const std::string&) -> Result<void> {
    give_all(group_fd);
    return {};
  });
}

Result<bool> enable(const Place& place, int dir_fd, const std::string& controller) {
  std::string present;
  if (const int err = read_control(dir_fd, "cgroup.controllers", present); err != 0)
    return Error::from_errno(err, "read ", show(place), "/cgroup.controllers");
  if (has_word(present, controller)) return true;
  bool offered = true;
  const std::string on = "+" + controller;
  TRY(from_the_top(place, [&](int group_fd, const std::string& group) -> Result<void> {
    std::string text;
    if (!offered) return {};
    if (const int err = read_control(group_fd, "cgroup.controllers", text); err != 0)
      return Error::from_errno(err, "read ", group, "/cgroup.controllers");
    offered = has_word(text, controller);
    if (!offered) return {};
    if (const int err = give(group_fd, on); err != 0)
      return Error::make(Code::unsupported, "switch on controller ", controller, ": ", why_refused(err, group));
    return {};
  }));
  return offered;
}

}  // namespace skink::cgroup
