// SPDX-License-Identifier: Apache-2.0
// Records: where a container's files are below STORE and RUN, and the one that never changes (container.json).
//
//   STORE/containers/ID/container.json  written last by create: without it the container does not exist
//                       config.json     the OCI configuration, everything resolved
//                       desired         what the user wants, see Wish; not there: never started
//                       exit.json       how the last incarnation ended
//                       alive           locked (OFD) while a guard or supervisor lives
//                       log.stdout, log.stderr, log.index, log.gap
//                       log.journal, log.cri    how far the journal, and a file in CRI format, have come
//                       upper.N/        the writable layer of the running incarnation (--writable)
//   STORE/container-names/NAME -> the id, see name_target()
//   RUN/events, events.old  what happened, see event_log.h
//   RUN/containers/ID/status.json, control.sock, standby.sock, exits, cgroup.json, hosts, hostname, resolv.conf
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"
#include "skink/engine.h"
#include "sys/process.h"

namespace skink::supervise {

inline constexpr std::size_t kRecordLimit = 1U << 20;
inline constexpr const char* kContainers = "containers";
inline constexpr const char* kNames = "container-names";
inline constexpr const char* kContainerFile = "container.json";
inline constexpr const char* kConfigFile = "config.json";
inline constexpr const char* kDesiredFile = "desired";
inline constexpr const char* kExitFile = "exit.json";
inline constexpr const char* kAliveFile = "alive";
inline constexpr const char* kStatusFile = "status.json";
inline constexpr const char* kControlSocket = "control.sock";
inline constexpr const char* kStandbySocket = "standby.sock";
inline constexpr const char* kExitsFile = "exits";
inline constexpr const char* kCgroupFile = "cgroup.json";
inline constexpr const char* kComplaintsFile = "supervisor.log";
inline constexpr const char* kHealthFile = "health";
/// And a number: the process that a helper of the supervisor is starting, as `PID START-TIME`.
inline constexpr std::string_view kHalfMadePrefix = "half-made.";
inline constexpr const char* kOutFifo = "stdout.fifo";
inline constexpr const char* kErrFifo = "stderr.fifo";

/// container.json: what create was asked for, as far as config.json does not say it.
struct Container {
  std::string id;
  std::string name;
  std::string image;       ///< as given
  std::string image_id;    ///< "sha256:..." or empty (bundle)
  std::string bundle;      ///< absolute, or empty
  std::string store, run;  ///< absolute paths of both roots, for texts and for opening the image store again
  std::vector<std::string> command;
  std::map<std::string, std::string> labels;
  std::int64_t created_ns = 0;
  RestartPolicy restart;
  Probes probes;
  ReadyBy ready_by = ReadyBy::conmon;
  std::int64_t watchdog_ns = 0;
  int stop_signal = 15;
  std::int64_t stop_timeout_ns = 10'000'000'000;
  std::optional<std::int64_t> storage_size;
  std::string hosts, hostname;               ///< contents of the files bound into the container (images only)
  std::vector<std::string> dns, dns_search;  ///< resolv.conf is made from these and the host's at each start
  bool host_network = false;
  std::string log_driver;  ///< as CreateRequest has it
  LogLimits log_limits;
  CriLog cri_log;
  /// Its output comes to the supervisor by pipes.
  [[nodiscard]] bool is_piped() const { return !tty && log_driver != "passthrough"; }
  /// config.json is without linux.seccomp and the built-in profile is meant: two thirds of the file would be its names.
  bool default_seccomp = false;
  /// With remove_at_end: the process that is going to start it. If that dies before, nobody will, and the record goes.
  std::optional<sys::ProcessIdentity> starter;
  bool remove_at_end = false, durable = true, tty = false, interactive = false, writable = false;
  bool standby = false;  ///< the next incarnation is made ahead
};
std::string dump(const Container& container);
Result<Container> parse_container(std::string_view json);
/// The container's configuration: config.json, with the built-in seccomp profile where that is the one.
Result<oci::Spec> read_spec(int store_dir_fd, const Container& container);

std::string dump(const LastExit& last);
Result<LastExit> parse_last_exit(std::string_view json);

/// exit.json: what is known of the runs of a container that nobody supervises now.
struct RunRecord {
  LastExit last;
  std::uint64_t order = 0;  ///< of which order to start this tells, see Wish
  bool final = true;        ///< that order is done with: nothing of it runs any more
  std::string given_up;     ///< mark_of_boot() when its policy has ended it, and nobody's stop; else empty
  std::int64_t started_ns = 0, finished_ns = 0;
  std::uint64_t restarts = 0;
  std::vector<PastRun> history;  ///< the latest kMostPastRuns, oldest first
};
inline constexpr std::size_t kMostPastRuns = 20;
/// Adds a run; one that is there already (a successor decides again) is replaced, if it is known when it was started.
void add_past_run(std::vector<PastRun>& history, PastRun run);
std::string dump(const RunRecord& record);
Result<RunRecord> parse_run_record(std::string_view json);
/// The last exit of a container that nobody supervises, from exit.json; nothing when it never ran.
std::optional<RunRecord> read_run_record(int store_dir_fd);

/// Both roots of an engine, open. Everything below them is reached through these descriptors (fault F28).
struct Roots {
  UniqueFd store, run;
  UniqueFd store_containers, run_containers, names;
};

/// True for a name that a container may have: letters, digits, '_', '.', '+', '-', at most 255, neither '.' nor '-'
/// first (attack A37).
bool is_name(std::string_view name);
/// True for 64 lower-case hex digits.
bool is_id(std::string_view text);

/// The mode of STORE/containers/ID when no fsync protects the container (yet): it is not to outlive the machine's run,
/// or nobody was told that it exists.
inline constexpr mode_t kPassingMode = 01700;
/// Whether it is such a one.
bool is_passing(int store_dir_fd);

/// STORE/containers/ID; not_found when there is none.
Result<UniqueFd> open_container(const Roots& roots, const std::string& id);
/// RUN/containers/ID, likewise.
Result<UniqueFd> open_run_dir(const Roots& roots, const std::string& id);
/// container.json of a container. corrupt when it is damaged or names another id (fault F26).
Result<Container> read_container(int store_dir_fd, const std::string& id);

/// Whether a guard or supervisor of the container lives: asks for the lock on `alive`, never takes it.
bool is_alive(int store_dir_fd);

/// What the link of a name says: the id's 256 bits in base64url (RFC 4648). A link of at most 59 bytes is kept in the
/// inode; one of the 64 hex digits would take ext4 a block, which it has to find, journal and give back.
std::string name_target(const std::string& id);
std::optional<std::string> id_of_target(std::string_view target);

/// The name's id, if there is such a link.
std::optional<std::string> find_name(const Roots& roots, const std::string& name);

/// What the user wants of the container: the file `desired`, "running 3" or "stopped 3 BOOT" (mark_of_boot).
struct Wish {
  bool running = false;
  std::uint64_t order = 0;         ///< how often it was ordered to start; 0: never
  std::string stopped_boot;        ///< the boot in which it was stopped
  std::uint64_t stopped_init = 0;  ///< when process 1 had started then: containers share the boot of their host
  std::string text;                ///< the file as it is, for restore_wish
};
Wish read_wish(int store_dir_fd);
/// Whether it was stopped since this machine, or the container that we are in, has booted.
bool was_stopped_in_this_boot(const Wish& wish);
bool wants_running(int store_dir_fd);
/// Records a new order to start, or that it shall be stopped (nothing happens when it already is, in this boot).
Result<void> record_wish(int store_dir_fd, bool running, bool durable);
/// Takes an order back that came to nothing: `text` is what the file said before.
Result<void> restore_wish(int store_dir_fd, const std::string& text, bool durable);
/// Whether it was to run and nothing tells that its last run has ended: the machine went down under it, or everything
/// that kept it was killed.
bool was_cut_off(int store_dir_fd);
/// Whether the policy has ended the present order, in this boot.
bool has_given_up(int store_dir_fd);
/// This boot, as a record names it: its id and when process 1 started, "BOOT 12345".
std::string mark_of_boot();

}  // namespace skink::supervise
