// SPDX-License-Identifier: Apache-2.0
// Control groups: one container's group on cgroup v1, v2 and hybrid hosts. man 7 cgroups; kernel cgroup-v2.rst,
// cgroup-v1/.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace skink::cgroup {

class Deadline;

/// The parent of the groups that `skink` names itself; it goes with the last of them.
inline constexpr std::string_view kOwnParent = "skink";
enum class Layout { v1, v2, hybrid };

/// One mounted hierarchy: where, and which controllers (v1) or "" for the unified one.
struct Hierarchy {
  std::string mount_point;  ///< /sys/fs/cgroup/memory
  std::string controllers;  ///< "cpu,cpuacct", "name=systemd"; empty for cgroup v2
  bool unified = false;
  bool operator==(const Hierarchy&) const = default;
};

/// What this host has.
struct Host {
  Layout layout = Layout::v2;
  std::vector<Hierarchy> hierarchies;
  std::vector<std::string>
      roots;  ///< for each: the group that is mounted there, "/" for the whole; empty: not asked yet
};
/// By a look at /sys/fs/cgroup, and at mountinfo only where that is not enough: a host of many containers has thousands
/// of mounts. Errors: unsupported when no hierarchy is mounted.
Result<Host> detect();

/// One directory of a container's group.
struct Place {
  Hierarchy hierarchy;
  std::string path;  ///< below the mount point, "/skink/0123", never with ".."
};

/// Where a container's processes live, on every hierarchy. Pure data, kept in the state file BEFORE anything is made.
struct Location {
  Layout layout = Layout::v2;
  std::vector<Place> places;
  bool named_by_us = false;  ///< by no configuration: what is left there of a former life is made anew; not kept
};
/// The number of the location's first directory, which no other directory of that hierarchy has had or will have until
/// the host boots anew (kernfs). 0: it is not there.
std::uint64_t identity_of(const Location& location);
/// Whether all of its directories are there.
[[nodiscard]] bool is_whole(const Location& location);

/// The places that `cgroups_path` (linux.cgroupsPath; absolute, or relative to the caller's own group, where v2 is
/// alone to that group's parent, as runc has it) means on this host. Each component is checked; ".." is refused (attack
/// A47).
Result<Location> locate(const Host& host, const std::string& cgroups_path);

/// Statistics, in bytes, nanoseconds and counts; absent where the host does not tell.
struct Stats {
  std::optional<std::uint64_t> cpu_ns, memory_bytes, memory_limit, pids, pids_limit;
  std::uint64_t oom_kills = 0;
};

/// A container's groups, made. Holds descriptors of its directories; nothing is removed by the destructor.
class Group {
 public:
  /// Makes every directory of `location` (parents too), empty. A leftover of ours that has no process is reused; one
  /// with processes is busy. On failure what was made is removed again.
  static Result<Group> create(const Location& location);
  /// The first half of create(): the unified hierarchy's, which a process is made in. On v2 that is all of it.
  static Result<Group> begin(const Location& location);
  /// The other half: those of v1, which a process enters by itself and so may be made while it is at work already. On
  /// failure what was made here is removed again; what begin() has made stays.
  Result<void> complete(const Location& location);
  /// busy when a group of `location` exists and has processes: to be asked before the location goes on record, since
  /// from then on whoever cleans up ends what is in it.
  static Result<void> check_unused(const Location& location);
  /// For groups of a unit that systemd has just started: takes what is there as ours, processes and all, and makes
  /// the rest.
  static Result<Group> adopt(const Location& location);
  /// Opens what is there; directories that are gone are left out.
  static Result<Group> open(const Location& location);

  /// Writes the limits, with v1 to v2 conversion as runc documents it (cpu.shares to cpu.weight, swap minus memory,
  /// ...). Device rules: v1 devices.deny/allow, v2 an eBPF program replaced atomically. Values that this host cannot
  /// apply are an error that names the JSON path and the file. Errors never leave a weaker limit than asked in silence.
  Result<void> apply(const oci::Resources& resources);
  /// Moves a process in, on every hierarchy. Slow: the kernel waits for a grace period before it moves a process that
  /// is not the writer. A process that is about to be made gets in by clone_fd() and open_join_files().
  Result<void> add(pid_t pid);
  /// Whether the kernel lets the caller put a process of its own into the unified hierarchy's group: it asks for write
  /// permission on the group that both are below, which a user in a login session has not (cgroup-v2.rst, "Delegation
  /// Containment").
  [[nodiscard]] bool lets_in() const;
  /// A descriptor of the unified hierarchy's group for CLONE_INTO_CGROUP; -1 on v1.
  [[nodiscard]] int clone_fd() const;
  /// One file for each v1 hierarchy, open for writing: a process with one thread that writes "0" into each has moved
  /// itself in, without any lock that others wait for. With `unified` that hierarchy's follows, for a process that is
  /// not made in it; its lock others do wait for.
  [[nodiscard]] Result<std::vector<UniqueFd>> open_join_files(bool unified) const;
  /// Why a write into file `index` of those failed, or with no index, why CLONE_INTO_CGROUP did.
  [[nodiscard]] Error join_failure(int errnum, std::optional<std::size_t> index) const;

  /// Where it is.
  [[nodiscard]] Location location() const {
    Location location{layout_, {}, false};
    for (const auto& dir : dirs_) location.places.push_back(dir.place);
    return location;
  }

  /// Calls `step(place, dir_fd)` for each of its directories.
  template <typename Step>
  void each(Step step) const {
    for (const Dir& dir : dirs_) step(dir.place, dir.fd.get());
  }

  Result<void> freeze();
  Result<void> thaw();
  [[nodiscard]] Result<bool> frozen() const;
  /// Whether it was told to stand still itself, and is not only held by a group above it.
  [[nodiscard]] bool is_told_to_freeze() const;
  /// Every process in the group and below, as the caller sees the numbers.
  [[nodiscard]] Result<std::vector<pid_t>> processes() const;
  /// Likewise, asked of one hierarchy alone: the unified one, or the one that a process enters first. What is on the
  /// others and not on this one has been put there from outside.
  [[nodiscard]] Result<std::vector<pid_t>> processes_of_one() const;
  /// SIGKILLs everything in the group and below until it is empty or none of it has died for `deadline` (cgroup.kill;
  /// on v1 freeze, kill, thaw, again). Works on frozen groups. Processes that will not die are named in the error.
  Result<void> kill_all(std::chrono::milliseconds deadline);
  /// Whether kill_all() has used cgroup.kill. Linux kills what is made by CLONE_INTO_CGROUP in such a group too, if its
  /// maker is in another one (seen with 6.18: it compares how often both were killed); so it has to be made anew.
  [[nodiscard]] bool was_struck() const { return struck_; }
  /// Removes the directories depth first, children that the container made too, retrying EBUSY within `deadline`; then
  /// parents named "skink" at the top if they are empty. Idempotent. Never outside `location`.
  static Result<void> remove(const Location& location, std::chrono::milliseconds deadline);
  /// The usual end: removes groups that nobody is in and that have none below them, by one call each. False when one is
  /// not like that; then kill_all() and remove() have work to do.
  static bool remove_if_empty(const Location& location);
  [[nodiscard]] Result<Stats> stats() const;
  /// How often the kernel's OOM killer has ended a process of the group (memory.events oom_kill; v1
  /// memory.oom_control).
  [[nodiscard]] std::uint64_t oom_kills() const;
  struct MemoryLimit {
    std::string path;  ///< below the mount point
    std::uint64_t bytes = 0;
    std::uint64_t hits = 0;  ///< how often it was hit
    std::string counter;     ///< by which file
  };
  /// The limits of this group and of those above it that have ever been hit, the nearest first; one that is hit
  /// without being counted, as some kernels have it, comes last.
  [[nodiscard]] std::vector<MemoryLimit> memory_limits_hit() const;
  /// The nearest limit that was hit since `before` was asked, or ever; nothing when none was.
  [[nodiscard]] std::optional<MemoryLimit> memory_limit_hit(std::span<const MemoryLimit> before = {}) const;
  /// In words for people: the nearest group, likewise, that may have hardly any process more; empty when there is none.
  [[nodiscard]] std::string pids_limit_reached() const;

 private:
  struct Dir {
    Place place;
    UniqueFd fd;
  };
  using MadePaths = std::vector<std::vector<std::string>>;  // of each place, as tree.h has it
  Result<MadePaths> make_places(const Location& location, bool unified);
  static void undo(std::span<const Place* const> places, const MadePaths& made);
  static Result<void> read_members_of(const Dir& dir, std::vector<pid_t>& pids);
  void thaw_quietly();
  bool strike_unified();
  void take_back(const std::vector<pid_t>& members);
  void strike_members();
  void wait_for_deaths(const Deadline& end) const;
  [[nodiscard]] Error lacks(std::string_view what) const;
  Layout layout_ = Layout::v2;
  bool struck_ = false;
  std::vector<Dir> dirs_;
  std::string gone_;  // one that open() did not find
};

/// Whether the group is frozen, by itself or by one above it; looks only where a freezer is. False for one that is
/// gone.
[[nodiscard]] bool is_frozen(const Location& location);
/// The same of what dump_location() has written; what of it is no place is passed over.
[[nodiscard]] bool is_frozen(std::string_view location);
/// Whether it is worth asking, of a member whose state in /proc/PID/stat is `state`.
[[nodiscard]] bool may_be_frozen(std::string_view location, char state);

/// Group::oom_kills() of these groups without those below them, by path: in three system calls.
[[nodiscard]] std::uint64_t oom_kills_in(const Location& location);

/// Where to put a process that joins `member` in the container at `base`: in `base`; but beside the member on a
/// hierarchy where `base` is gone, and on the unified one when the container gave controllers to groups below its own
/// (systemd does), for then the kernel lets nobody join `base` itself.
Result<Location> beside(const Location& base, pid_t member);

/// Whether a process is in the groups of `location` or below them: told by the unified hierarchy where the location has
/// it, else by its first. One that is gone is not.
[[nodiscard]] bool holds(const Location& location, pid_t pid);

/// Groups below a container's own that somebody named for a process: a path, for each controller or ("") for all.
struct SubGroup {
  std::string controller, path;
};
/// `base` with these below it; "/" is `base` itself. They have to exist. ".." is refused, as is an unknown controller.
Result<Location> below(const Location& base, const std::vector<SubGroup>& groups);

/// The groups for a process that shall outlive the session, service or container of its caller: at the top of each
/// hierarchy, where the caller is not there itself; on cgroup v2 not at the top of a container's own namespace.
struct Home {
  UniqueFd unified;                  ///< the group's directory, for CLONE_INTO_CGROUP
  std::vector<UniqueFd> join_files;  ///< as Group::open_join_files
};
Result<Home> open_home();

/// The state file's form of a location, and back.
std::string dump_location(const Location& location);
Result<Location> parse_location(std::string_view json);

}  // namespace skink::cgroup
