// SPDX-License-Identifier: Apache-2.0
// A container's groups: making, opening, joining and removing them.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <span>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/control_file.h"
#include "cgroup/controllers.h"
#include "cgroup/detect.h"
#include "cgroup/tree.h"
#include "cgroup/wait.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

Result<void> refuse_members(const Place& place, int dir_fd) {
  std::vector<pid_t> pids;
  TRY_CTX(read_tree(dir_fd, pids), show(place));
  if (pids.empty()) return {};
  return Error::make(Code::busy, "control group ", show(place),
                     " exists and has processes (container's cgroup is not empty), the first is ", pids.front());
}

// A group that was there before: with processes it is somebody's. One by a name that we choose is nobody's but ours and
// made anew, so that no limit of its former life stays behind (removing fails for a group in use, so a race with its
// owner is lost safely); what an administrator has named stays as it is.
Result<void> take_over(const Place& place, bool named_by_us, Made& made) {
  TRY(refuse_members(place, made.fd.get()));
  if (!named_by_us && split_path(place.path).parent != kOwnParent) return {};
  made.fd.reset();
  TRY(Group::remove(Location{Layout::v1, {place}, false}, std::chrono::milliseconds(5000)));
  made = TRY(make_place(place));
  return refuse_members(place, made.fd.get());
}

// A process that joins a frozen group hangs (attack A90), and one in an invalid domain cannot join at all.
Result<void> check_usable(const Place& place, int dir_fd) {
  std::string text;
  if (has_word(place.hierarchy.controllers, "freezer") && read_control(dir_fd, "freezer.state", text) == 0 &&
      chomp(text) != "THAWED")
    return Error::make(Code::busy, "control group ", show(place),
                       " is frozen, by itself or by a parent (container's cgroup unexpectedly frozen); thaw it first");
  if (!place.hierarchy.unified) return {};
  if (read_control(dir_fd, "cgroup.events", text) == 0 && keyed(text, "frozen") == "1")
    return Error::make(Code::busy, "control group ", show(place),
                       " is frozen, by itself or by a parent (container's cgroup unexpectedly frozen); thaw it first");
  if (read_control(dir_fd, "cgroup.type", text) == 0 && chomp(text) != "domain" && chomp(text) != "domain threaded")
    return Error::make(Code::unsupported, "control group ", show(place), " is of type ", quoted(chomp(text)),
                       " because a group above it is threaded; choose another linux.cgroupsPath");
  return {};
}

Result<Made> make_usable(const Place& place, bool named_by_us) {
  Made made = TRY(make_place(place));
  const bool fresh = !made.paths.empty() && place.path.ends_with(made.paths.back());
  Result<void> good;
  if (!fresh) good = take_over(place, named_by_us, made);
  if (good) good = check_usable(place, made.fd.get());
  if (good) return made;
  undo_place(place, made.paths);
  return std::move(good).error();
}

Error join_error(int errnum, pid_t pid, const Place& place) {
  const std::string who = pid > 0 ? str("process ", pid) : "the process";
  Error error = Error::from_errno(errnum, "move ", who, " into control group ", show(place));
  if (errnum == ESRCH) return std::move(error).as(Code::not_found);
  if (place.hierarchy.unified && errnum == EBUSY)
    return Error::make(Code::busy, error.text(),
                       ": it gives controllers to groups below it, so it can have no processes of its own");
  if (place.hierarchy.unified && errnum == EOPNOTSUPP)
    return Error::make(Code::unsupported, error.text(), ": a group above it is threaded");
  if (errnum == EAGAIN) return Error::make(Code::busy, error.text(), ": a limit of the group is reached");
  return error;
}

// Removes one place as far as that is possible now. 0, EBUSY, or another number of the kernel's.
Result<int> remove_once(int parent_fd, const std::string& name) {
  const int err = remove_group(parent_fd, name.c_str());
  if (err != EBUSY && err != ENOTEMPTY) return err;
  const Result<UniqueFd> dir = open_below(parent_fd, name);
  if (!dir) return dir.error().errnum() == ENOENT ? 0 : EBUSY;
  Visitor visitor;
  visitor.leave = [](int above_fd, const char* child) { (void)remove_group(above_fd, child); };
  // A walk that something moved under is only a reason to try again.
  (void)walk_groups(dir->get(), visitor);
  return remove_group(parent_fd, name.c_str());
}

Error still_there(int errnum, const Place& place) {
  std::vector<pid_t> pids;
  if (const auto fd = open_place(place)) (void)read_tree(fd->get(), pids);
  const Error error = Error::from_errno(errnum, "remove control group ", show(place));
  if (pids.empty()) return error;
  return Error::make(Code::busy, error.text(), ": it still has ", describe_processes(pids));
}

// Our own parent goes with its last group; while it has others (st_nlink counts them) that need not be tried.
void drop_own_parent(const Place& place, int parent_fd) {
  const PathParts parts = split_path(place.path);
  const std::string own(kOwnParent);
  if (parts.parent != own && !parts.parent.starts_with(own + "/")) return;
  const auto st = sys::stat_fd(parent_fd, own);
  if (parts.parent == own && st && st->st_nlink > 2) return;
  if (const auto mount = open_mount(place.hierarchy)) (void)remove_group(mount->get(), own.c_str());
}

Result<void> remove_place(const Place& place, const Deadline& deadline) {
  const Result<UniqueFd> parent = open_parent(place);
  // Gone, or the whole hierarchy is and the group with it.
  if (!parent && parent.error().code() == Code::not_found) return {};
  if (!parent) return Error::make(parent.error().code(), show(place), ": ", parent.error().text());
  const std::string name = split_path(place.path).name;
  for (Pause pause;; pause.sleep(deadline)) {
    const int err = TRY(remove_once(parent->get(), name));
    if (err == 0) break;
    if ((err != EBUSY && err != ENOTEMPTY) || deadline.passed()) return still_there(err, place);
  }
  drop_own_parent(place, parent->get());
  return {};
}

}  // namespace

void Group::undo(std::span<const Place* const> places, const MadePaths& made) {
  for (std::size_t i = made.size(); i-- > 0;) undo_place(*places[i], made[i]);
}

// In the order of the location, in which the kernel has the unified one last.
Result<Group::MadePaths> Group::make_places(const Location& location, bool unified) {
  std::vector<const Place*> places;
  for (const Place& place : location.places)
    if (place.hierarchy.unified == unified) places.push_back(&place);
  MadePaths made_paths;
  std::vector<Dir> dirs;
  for (const Place* place : places) {
    Result<Made> made = make_usable(*place, location.named_by_us);
    if (!made) {
      undo(places, made_paths);
      return std::move(made).error().context("make control group");
    }
    made_paths.push_back(std::move(made->paths));
    // On hybrid hosts the unified one has little or nothing, and a limit that needs it asks for it.
    if (location.layout == Layout::v2) enable_all(*place, made->fd.get());
    dirs.push_back({*place, std::move(made->fd)});
  }
  dirs_.insert(unified ? dirs_.end() : dirs_.begin(), std::make_move_iterator(dirs.begin()),
               std::make_move_iterator(dirs.end()));
  return made_paths;
}

Result<Group> Group::begin(const Location& location) {
  Group group;
  group.layout_ = location.layout;
  TRY(group.make_places(location, true));
  // That none can be made at all, as without openat2(2), is told before there is a process.
  if (group.dirs_.empty() && !location.places.empty())
    TRY_CTX(open_mount(location.places.front().hierarchy), "make control group");
  return group;
}

Result<void> Group::complete(const Location& location) {
  TRY(make_places(location, false));
  return {};
}

Result<Group> Group::create(const Location& location) {
  Group group;
  group.layout_ = location.layout;
  const MadePaths unified = TRY(group.make_places(location, true));
  auto completed = group.complete(location);
  if (completed) return group;
  std::vector<const Place*> places;
  for (const Dir& dir : group.dirs_) places.push_back(&dir.place);
  undo(places, unified);
  return std::move(completed).error();
}

Result<Group> Group::adopt(const Location& location) {
  Group group;
  group.layout_ = location.layout;
  for (const Place& place : location.places)
    group.dirs_.push_back({place, std::move(TRY_CTX(make_place(place), "make control group").fd)});
  return group;
}

Result<void> Group::check_unused(const Location& location) {
  for (const Place& place : location.places)
    if (const auto dir = open_place(place)) TRY(refuse_members(place, dir->get()));
  return {};
}

std::uint64_t identity_of(const Location& location) {
  if (location.places.empty()) return 0;
  const auto dir = open_place(location.places.front());
  const auto status = dir ? sys::stat_fd(dir->get(), "control group") : Result<struct stat>(dir.error());
  return status ? status->st_ino : 0;
}

bool is_whole(const Location& location) {
  return std::ranges::all_of(location.places, [](const Place& place) { return open_place(place).has_value(); });
}

Result<Group> Group::open(const Location& location) {
  Group group;
  group.layout_ = location.layout;
  for (const Place& place : location.places) {
    Result<UniqueFd> fd = open_place(place);
    if (fd) group.dirs_.push_back({place, std::move(*fd)});
    else if (fd.error().code() == Code::not_found) group.gone_ = show(place);
    else return std::move(fd).error().context("open control group ", show(place));
  }
  return group;
}

// A host without a controller, or a container that is just being deleted?
Error Group::lacks(std::string_view what) const {
  if (gone_.empty()) return Error::make(Code::unsupported, "this host has no ", what, " controller");
  return Error::make(Code::not_found, "control group ", gone_,
                     " is not there any more: the container is being deleted, or somebody has removed it");
}

Result<void> Group::add(pid_t pid) {
  const std::string number = str(pid);
  for (const Dir& dir : dirs_)
    if (const int err = write_control(dir.fd.get(), "cgroup.procs", number); err != 0)
      return join_error(err, pid, dir.place);
  return {};
}

int Group::clone_fd() const {
  const auto unified = std::find_if(dirs_.begin(), dirs_.end(), [](const Dir& d) { return d.place.hierarchy.unified; });
  return unified == dirs_.end() ? -1 : unified->fd.get();
}

bool Group::lets_in() const {
  std::string groups;
  if (read_control(AT_FDCWD, "/proc/self/cgroup", groups) != 0) return true;
  const auto own = own_group(groups, "");
  for (const Dir& dir : dirs_) {
    const Place& place = dir.place;
    if (!place.hierarchy.unified || !own) continue;
    // Up to the last "/" that both have at the same place, with the same before it.
    const std::string here = str(*own, '/'), there = place.path + "/";
    std::size_t common = 0;
    for (std::size_t at = 0; at < here.size() && at < there.size() && here[at] == there[at]; ++at)
      if (here[at] == '/') common = at;
    const std::string file = str(place.hierarchy.mount_point, there.substr(0, common), "/cgroup.procs");
    return ::faccessat(AT_FDCWD, file.c_str(), W_OK, AT_EACCESS) == 0;
  }
  return true;
}

// "tasks" and not "cgroup.procs": for one thread that moves itself the kernel takes no lock that keeps every fork and
// exit of the machine waiting, and so no RCU grace period either (10 ms on an idle machine).
Result<std::vector<UniqueFd>> Group::open_join_files(bool unified) const {
  std::vector<UniqueFd> files;
  for (const Dir& dir : dirs_)
    if (!dir.place.hierarchy.unified)
      files.push_back(TRY_CTX(sys::open_at(dir.fd.get(), "tasks", O_WRONLY), "control group ", show(dir.place)));
  for (const Dir& dir : dirs_)
    if (unified && dir.place.hierarchy.unified)
      files.push_back(TRY_CTX(sys::open_at(dir.fd.get(), "cgroup.procs", O_WRONLY), "control group ", show(dir.place)));
  return files;
}

Error Group::join_failure(int errnum, std::optional<std::size_t> index) const {
  std::size_t at = 0;
  for (const Dir& dir : dirs_)
    if (index && !dir.place.hierarchy.unified && at++ == *index) return join_error(errnum, 0, dir.place);
  for (const Dir& dir : dirs_)
    if (dir.place.hierarchy.unified) return join_error(errnum, 0, dir.place);
  return Error::from_errno(errnum, "move the process into its control groups");
}

bool Group::remove_if_empty(const Location& location) {
  for (auto place = location.places.rbegin(); place != location.places.rend(); ++place) {
    const Result<UniqueFd> parent = open_parent(*place);
    if (!parent && parent.error().code() == Code::not_found) continue;
    if (!parent || remove_group(parent->get(), split_path(place->path).name.c_str()) != 0) return false;
    drop_own_parent(*place, parent->get());
  }
  return true;
}

Result<void> Group::remove(const Location& location, std::chrono::milliseconds deadline) {
  const Deadline end(deadline);
  std::optional<Error> first;
  // In reverse: the unified one, which the kernel lists last, goes first and shows at once what is in use.
  for (auto place = location.places.rbegin(); place != location.places.rend(); ++place) {
    Result<void> removed = remove_place(*place, end);
    if (removed) continue;
    if (first) first->also(removed.error());
    else first = std::move(removed).error();
  }
  if (first) return std::move(*first);
  return {};
}

}  // namespace skink::cgroup
