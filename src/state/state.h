// SPDX-License-Identifier: Apache-2.0
// State of skink-oci's containers: ROOT/ID/{state.json, config.json, start.sock}, one directory a container, locked by
// flock on the directory itself. runtime.md "State". Written before each thing exists, so that delete works from any
// prefix of it. Whoever only looks takes no lock: files are replaced whole.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cgroup/cgroup.h"
#include "cgroup/resctrl.h"
#include "cgroup/unit.h"
#include "fs/dir.h"
#include "oci/spec.h"
#include "sys/process.h"

namespace skink::state {

/// The name of a container: 1 to 255 of letters, digits, '_', '+', '-', '.'; not "." or "..". So it can be a
/// directory's.
class ContainerId {
 public:
  static Result<ContainerId> parse(std::string_view text);
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  explicit ContainerId(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

enum class Status { creating, created, running, paused, stopped };
std::string_view to_text(Status status);

/// What state.json holds: with it, config.json need not be read for most commands.
struct Record {
  std::string id;
  std::string bundle;         ///< absolute
  std::string rootfs;         ///< absolute
  std::string created;        ///< RFC 3339
  sys::ProcessIdentity init;  ///< pid 0 until the process exists
  std::optional<cgroup::Location> cgroup;
  /// The unit of systemd that its groups belong to. It exists once `cgroup` is known.
  std::optional<cgroup::Unit> unit;
  std::optional<cgroup::ResctrlGroup> resctrl;
  /// The id of the mount that is the root of a container without a mount namespace; 0 with one.
  std::uint64_t host_root = 0;
  std::uint64_t group_id = 0;  ///< cgroup::identity_of() what was made, from the first process on
  /// Who made its control groups: "cgroupfs", "systemd" or "disabled". Decided at create: engines repeat the flag on
  /// some of the later commands and forget it on others.
  std::string manager = "cgroupfs";
  oci::Annotations annotations;
  bool shares_pids = false;                          ///< it has no pid namespace of its own
  bool has_poststart = false, has_poststop = false;  ///< hooks
};

/// Where init waits for `start`. The socket has the second name until create is done: so `state` can tell creating from
/// created.
inline constexpr const char* kStartSocket = "start.sock";
inline constexpr const char* kUnreadySocket = "creating.sock";

/// One container's directory, open and, unless it is only looked at, locked for as long as the object lives.
class Container {
 public:
  [[nodiscard]] int dir_fd() const { return dir_.get(); }
  [[nodiscard]] const Record& record() const { return record_; }
  /// Replaces state.json.
  Result<void> save(const Record& record);
  Result<void> save_config(std::string_view json);
  /// The configuration as it was at create; the bundle is never read again (attack A82).
  Result<oci::Spec> spec() const;
  /// Its bytes.
  Result<std::string> config() const;
  [[nodiscard]] Status status() const;
  /// Its program runs, or has been told to: so Root::glance() need not look whether it waits. Only ever a shortcut.
  void mark_started() const;
  /// A pidfd of the container's init; not_found when it has ended.
  [[nodiscard]] Result<UniqueFd> open_init() const { return sys::open_identified(record_.init); }

 private:
  friend class Root;
  Container(fs::Lock lock, Record record) : dir_(std::move(lock).release()), record_(std::move(record)) {}
  Container(UniqueFd dir, Record record) : dir_(std::move(dir)), locked_(false), record_(std::move(record)) {}
  [[nodiscard]] bool is_worked_on() const;
  UniqueFd dir_;  // flock(2) is a property of the open file
  bool locked_ = true;
  Record record_;
};

/// What a list tells of a container; the record may be without its groups.
struct Listed {
  Record record;
  Status status = Status::stopped;
  std::string owner;
};

/// The state directory of skink-oci (--root).
class Root {
 public:
  /// Opens or makes it; it has to be ours alone (attack A36).
  static Result<Root> open(const std::string& path);
  /// exists: "container with given ID already exists".
  Result<void> check_free(const ContainerId& id) const;
  /// Makes the directory of a new container. exists: "container with given ID already exists".
  Result<Container> create(const ContainerId& id, const Record& record);
  /// not_found: "container does not exist". A directory without a record (its maker was killed) has an empty one.
  /// Waits for a command that works on it, but not for ever: busy.
  Result<Container> find(const ContainerId& id) const;
  /// As if it had no record: one whose record cannot be read (fault F26).
  Result<Container> find_damaged(const ContainerId& id) const;
  /// find without the lock.
  Result<Container> look(const ContainerId& id) const;
  /// As look(), status() and owner_of() of what that finds, for many containers: with few system calls.
  Result<Listed> glance(const ContainerId& id) const;
  /// Removes the container's directory; what it describes is gone already.
  Result<void> remove(Container container);
  /// The ids of all containers, sorted.
  Result<std::vector<std::string>> list() const;
  /// Where compiled seccomp programs are kept.
  [[nodiscard]] Result<UniqueFd> open_cache() const;

 private:
  explicit Root(UniqueFd dir) : dir_(std::move(dir)) {}
  UniqueFd dir_;
};

/// A container's state as runtime.md has it, and who owns it; for people on several lines.
std::string dump_state(const Record& record, Status status, std::string_view owner, bool pretty);

/// The user that owns a container's directory: its name on the host, or "#UID".
std::string owner_of(const Container& container);

}  // namespace skink::state
