// SPDX-License-Identifier: Apache-2.0
// skink's engine: images and supervised containers of one machine, for the command line and for programs that embed it.
// There is no daemon behind it: state is in files below `store` and `run`, and each container has its own supervisor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/store.h"
#include "plan/run_options.h"

namespace skink {

namespace cgroup {
struct Location;
}

struct EngineOptions {
  std::string store = "/var/lib/skink";  ///< survives a reboot
  std::string run = "/run/skink";        ///< does not
};

/// What a container is doing. `unknown`: it should have a supervisor but nothing tells how it ended.
enum class Phase { created, running, paused, restarting, exited, unknown };
std::string_view to_text(Phase phase);

/// Exit statuses, both ends included; 128 + N is a death by signal N.
struct StatusRange {
  int first = 0, last = 0;
  bool operator==(const StatusRange&) const = default;
};
using StatusRanges = std::vector<StatusRange>;
Result<StatusRanges> parse_status_ranges(std::string_view text);  ///< "75,100-110"; "" for none
std::string to_text(const StatusRanges& ranges);

/// When a failed container is relaunched.
struct RestartPolicy {
  enum class Kind { no, on_failure, always, unless_stopped } kind = Kind::no;
  std::uint32_t most = 0;  ///< on_failure: give up after this many relaunches in a row; 0 is no limit
  std::int64_t first_delay_ns = 100'000'000;
  std::int64_t longest_delay_ns = 60'000'000'000;
  double factor = 2.0;
  std::int64_t reset_after_ns = 10'000'000'000;  ///< a run that lasted this long counts as stable
  double jitter = 0.1;         ///< each delay is longer or shorter by up to this part of it, so that many do not meet
  StatusRanges at_once;        ///< after these it is relaunched at once, whatever the policy says of success and delay
  StatusRanges never;          ///< after these it stays down
  std::uint32_t budget = 0;    ///< give up when it has ended so often ...
  std::int64_t budget_ns = 0;  ///< ... within this time; 0: as often as it likes
};
/// "5/1m": at most so many ends in a time; "0" takes the budget off.
Result<void> parse_restart_budget(std::string_view text, RestartPolicy& policy);
Result<RestartPolicy> parse_restart_policy(std::string_view text);  ///< docker's form: on-failure:3
std::string to_text(const RestartPolicy& policy);

/// A question about a container's health, asked again and again.
struct Probe {
  enum class Kind { none, http, tcp, unix_socket, grpc, exec, https } kind = Kind::none;
  std::string address = "127.0.0.1";  ///< http, https, tcp, grpc: in the container's network
  std::uint16_t port = 0;
  std::string path;                  ///< http, https: /path?query; grpc: /service; unix_socket: in the container's root
  std::vector<std::string> command;  ///< exec
  std::int64_t interval_ns = 10'000'000'000, timeout_ns = 5'000'000'000;
  std::int64_t delay_ns = 0;   ///< before the first attempt
  std::int64_t grace_ns = 0;   ///< failures count only after this time, or after the first success
  std::uint32_t failures = 3;  ///< so many in a row are a failure of the probe
  std::uint32_t successes = 1;
};
/// "http://:8080/health,interval=5s,failures=3", "https://:8443/", "tcp://:6379", "grpc://:50051",
/// "unix:///run/x.sock", "exec:COMMAND".
Result<Probe> parse_probe(std::string_view text);
/// The same without the numbers.
std::string to_text(const Probe& probe);

/// What makes a container ready, in podman's words of --sdnotify.
enum class ReadyBy {
  conmon,     ///< that its program runs
  container,  ///< that its program says READY=1, sd_notify(3); it is given a NOTIFY_SOCKET
  healthy,    ///< that its health is "healthy"
  ignore      ///< nobody is told
};
Result<ReadyBy> parse_ready_by(std::string_view text);
std::string_view to_text(ReadyBy by);

struct Probes {
  Probe startup;    ///< the others wait until it has succeeded; its failure ends the container
  Probe liveness;   ///< its failure ends the container, which its policy relaunches
  Probe readiness;  ///< is only told
};

/// How much of a container's output is kept: docker's --log-opt.
struct LogLimits {
  std::int64_t max_size = 0;    ///< of one file of one stream, a multiple of 4096; 0: 128 MiB in all
  std::uint32_t max_files = 1;  ///< so many of them
  bool compress = false;        ///< all but the newest, by gzip; then there are at least two
};

/// A file in Kubernetes' CRI logging format that follows the kept output, for agents that read those: --log-opt
/// cri=PATH.
struct CriLog {
  std::string path;                    ///< absolute; empty: none
  std::int64_t max_size = 10LL << 20;  ///< it is renamed to PATH.1 before it grows beyond, that to PATH.2, ...
  std::uint32_t max_files = 5;         ///< with PATH itself; at least 2
};

/// A container to be made: what it runs and how it is kept.
struct CreateRequest {
  std::string name;      ///< empty: one is made up
  std::string image;     ///< name, id or prefix in the store; empty with `bundle`
  std::string bundle;    ///< an OCI bundle's directory instead of an image
  plan::RunOptions run;  ///< what docker's options say
  RestartPolicy restart;
  Probes probes;                 ///< a liveness probe of none: `healthcheck`
  oci::Healthcheck healthcheck;  ///< what is not given here is as the image has it
  bool no_healthcheck = false;   ///< not even that
  ReadyBy ready_by = ReadyBy::conmon;
  std::int64_t watchdog_ns = 0;  ///< with `container`: longer without a WATCHDOG=1 is a failed liveness; 0: never
  /// Empty: the output is kept for skink logs; "journald": and goes to systemd's journal too; "none": whoever is
  /// attached sees it, and nobody keeps it; "passthrough": it goes to the starter's own standard output and error.
  std::string log_driver;
  LogLimits log_limits;
  CriLog cri_log;
  bool remove_at_end = false;  ///< --rm
  bool start_follows = false;  ///< this process starts it next: with remove_at_end it goes if the process dies before
  bool standby = false;        ///< make the next incarnation ahead, so that a relaunch is one message
  bool keep_durable = true;    ///< survives a reboot (fsync); false for `run --rm` in the foreground
  std::optional<int> stop_signal;
  std::int64_t stop_timeout_ns = 10'000'000'000;
};

/// How the last incarnation ended.
struct LastExit {
  int status = 0;          ///< exit status, or 128 + signal
  int signal = 0;          ///< 0 when it exited by itself
  bool oom = false;        ///< the kernel's OOM killer struck in its group
  bool known = true;       ///< false: nobody was there to see it
  std::string error;       ///< why it could not be launched, when it could not
  std::string cause;       ///< what is known of why it ended: whose memory limit, which probe, who sent the signal
  std::int64_t at_ns = 0;  ///< Unix time
};

/// One run of a container that is over.
struct PastRun {
  std::uint64_t incarnation = 0;  ///< 1 is the first since it was started
  std::int64_t started_ns = 0;    ///< Unix time; 0: not known, as it was cut off
  LastExit exit;
  std::string outcome;  ///< what came of it: "relaunched at once", "relaunched after 400ms", or why not
};

struct ContainerInfo {
  std::string id;  ///< 64 hex digits
  std::string name;
  std::string image;  ///< as given
  std::string image_id;
  std::vector<std::string> command;
  std::int64_t created_ns = 0;
  Phase phase = Phase::created;
  std::int64_t pid = 0;  ///< of the container's init on the host; 0 when stopped
  std::int64_t supervisor_pid = 0, guard_pid = 0;
  std::int64_t started_ns = 0, finished_ns = 0;
  std::uint64_t restarts = 0;
  std::int64_t next_try_ns = 0;  ///< Unix time of the next launch while restarting
  std::optional<LastExit> last_exit;
  Probes probes;
  std::string health;         ///< "", "starting", "healthy" or "unhealthy", while it runs
  std::optional<bool> ready;  ///< with a readiness probe or ReadyBy::container, while it runs
  ReadyBy ready_by = ReadyBy::conmon;
  std::int64_t watchdog_ns = 0;  ///< as it was given, or while it runs as the program has set it
  std::string log_driver;        ///< as CreateRequest has it
  LogLimits log_limits;
  CriLog cri_log;
  std::string said;              ///< the program's last STATUS=, while it runs
  std::string probe_texts;       ///< what the probes were answered last, a line each; of Engine::info() alone
  std::vector<PastRun> history;  ///< the latest ones, oldest first; of Engine::info() alone
  RestartPolicy restart;
  std::map<std::string, std::string> labels;
  bool standby = false;          ///< the next incarnation is made ahead
  std::int64_t standby_pid = 0;  ///< its process, which waits; 0: there is none just now
  std::string asked_to_end;      ///< it runs, but was sent this to end it, and is not relaunched after that
  bool remove_at_end = false;
  bool tty = false;
  std::string problem;  ///< not empty: its files are damaged, and how ("corrupt")
};

/// What `update` changes of a container; what is not given stays.
struct UpdateRequest {
  /// Changes the policy that the container has, which nobody else changes meanwhile; invalid_config for nonsense.
  std::function<Result<void>(RestartPolicy& policy)> restart;
  std::optional<std::int64_t> stop_timeout_ns;
  plan::RunOptions limits;  ///< those that plan::change_limits() names
};

/// Whether a container that is stopped stays so, or is one that heal() starts again when its policy says so.
enum class StopKind { for_good, for_reboot };

/// What heal() did about a container.
struct Healed {
  enum class Deed {
    adopted,   ///< it was running without guard or supervisor, and has both again
    started,   ///< it should run and did not
    removed,   ///< --rm: its run is over, and nobody was there to remove it
    recorded,  ///< it ran when the machine went down, and its policy does not bring it back: its end is on record
    cleaned,   ///< what an interrupted start had left is gone
    failed     ///< it should run and does not; or its files are damaged
  } deed = Deed::failed;
  std::string id, name;
  std::optional<Error> error;  ///< of failed
};
std::string_view to_text(Healed::Deed deed);

/// What diagnose() found. A problem is something broken or left over; a note tells what this host lacks, or what may
/// belong to somebody else, and with what consequence.
struct Finding {
  enum class Level { problem, note } level = Level::problem;
  std::string kind;    ///< one word for programs, as "half-made-container"; docs/json.md has all
  std::string where;   ///< a path, a container or a facility
  std::string what;    ///< what it is, and why it is there
  std::string advice;  ///< what fixing does about it, or what the user can do
  bool fixable = false, fixed = false;
  std::optional<Error> error;  ///< why it could not be fixed
};

/// What a program in the foreground is attached to.
struct AttachOptions {
  bool stdin_open = false;  ///< pass standard input on
  bool tty = false;         ///< the container has a terminal: raw mode, window size
  bool forward_signals = true;
  /// Called each time when the program runs: at once for one that already does, and after each relaunch.
  std::function<void()> on_running;
  /// Called when health, readiness or the STATUS= of what runs has changed.
  std::function<void()> on_change;
  /// With a terminal: these bytes in a row let go of the container, which goes on; the status is 0 then. Empty: none.
  std::string detach_keys;
  bool stopped_is_success = false;  ///< the status is 0 when it ended because skink was told to stop it
  bool only_running = false;        ///< busy when it does not run: nothing is started
};

struct ExecOptions {
  std::vector<std::string> args;
  std::string user, working_dir;
  std::vector<std::string> env;
  bool stdin_open = false, tty = false, detach = false, privileged = false;
};

struct LogOptions {
  bool follow = false, timestamps = false;
  std::optional<std::uint64_t> tail;
  std::optional<std::int64_t> since_ns, until_ns;
  bool out = true, err = true;
  bool json = false;  ///< an object a line instead of the bytes as they are
  bool cri = false;   ///< a line of Kubernetes' CRI logging format instead, all of it on standard output
};

class Engine {
 public:
  /// Opens or makes both directories (0700, the caller's own; else refused). Errors: denied when not root, unsupported
  /// when the kernel is older than 5.14, corrupt when there is no store but a container that runs by the record in one.
  static Result<Engine> open(const EngineOptions& options);
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  image::Store& images();

  /// Writes the container's record; nothing runs. Warnings (a VOLUME that becomes a tmpfs, ...) are appended to
  /// `notes`.
  Result<std::string> create(const CreateRequest& request, std::vector<std::string>& notes);
  /// Starts guard and supervisor and waits until the first incarnation has executed its program. For a container that
  /// is already running this is success. Returns the error of the launch, with its code, when it failed.
  Result<void> start(const std::string& id);
  /// As start, but stays attached to the container's streams until its policy gives up or the client detaches: returns
  /// the exit status of the last incarnation. Signals that arrive are passed on.
  Result<int> start_attached(const std::string& id, const AttachOptions& options);
  /// Stops: records the wish, sends the stop signal, SIGKILL after `timeout_ns` (negative: the container's own).
  Result<void> stop(const std::string& id, std::int64_t timeout_ns, StopKind kind = StopKind::for_good);
  Result<void> restart(const std::string& id, std::int64_t timeout_ns);
  Result<void> kill(const std::string& id, int signal);
  /// Changes the restart policy and limits, whether it runs or not; what runs has them at once. All or nothing: limits
  /// that the kernel refuses leave everything as it was.
  Result<void> update(const std::string& id, const UpdateRequest& request);
  Result<void> pause(const std::string& id);
  Result<void> unpause(const std::string& id);
  /// Removes a container that is not running; `force` kills it first. Works from any half state that a crash left.
  Result<void> remove(const std::string& id, bool force);
  /// Brings back what should run, after a boot or when guards and supervisors were killed, and clears away what
  /// interrupted commands and a former boot left. Safe at any time, in any state, any number of times at once. Wanted
  /// are containers that have lost their keepers, and those of policy always and unless-stopped that were running, or
  /// (always) were stopped in an earlier boot. Answers what was done, the oldest container first; one that cannot be
  /// brought back does not keep the others.
  Result<std::vector<Healed>> heal();
  /// Looks for what crashes, kills and other programs have left in both directories and on the host, and for what the
  /// host lacks. Nothing is changed without `fix`; with it what is certainly ours and certainly unused is removed or
  /// repaired, under the locks of the other verbs. Safe at any time. Needs no whole directories: an engine that cannot
  /// be opened is a finding. Errors: denied when not root, and what makes looking impossible.
  static Result<std::vector<Finding>> diagnose(const EngineOptions& options, bool fix);
  /// Blocks until the container has stopped for good; its exit status. Errors: busy when it was never started;
  /// not_found when it was removed before it could be asked, or nobody saw how it ended.
  Result<int> wait(const std::string& id);
  /// Runs a program in the container: its exit status (0 at once with detach). The supervisor is its parent's partner,
  /// not this process.
  Result<int> exec(const std::string& id, const ExecOptions& options);
  /// Writes the container's output to standard output and standard error.
  Result<void> logs(const std::string& id, const LogOptions& options);

  /// Name, id or unique id prefix to the full id.
  Result<std::string> resolve(std::string_view name_or_prefix) const;
  Result<ContainerInfo> info(const std::string& id) const;
  /// All containers, newest first. Damaged ones are listed with `problem` set.
  Result<std::vector<ContainerInfo>> list() const;
  /// What to say of containers that run although their records cannot be reached, as when the store's file system was
  /// unmounted below them: neither list() nor resolve() knows these. Empty when there are none.
  [[nodiscard]] std::string strays() const;
  /// The container's OCI configuration (config.json) for inspect.
  Result<std::string> spec_json(const std::string& id) const;
  /// Where the container's control groups are (src/cgroup/cgroup.h), which tell what it uses and who is in it. Errors:
  /// not_found when it has none, as it does not run.
  Result<cgroup::Location> groups(const std::string& id) const;
  /// Tells the event log (`skink events`) of an image: "load", "tag", "untag" or "delete". `name` may be empty. For
  /// whoever has changed images().
  void tell_image(std::string_view action, const std::string& id, std::string_view name) const;
  /// Which containers use which images, stopped ones and those that are being made too, for images().remove() and
  /// prune. A container whose record cannot be read is an error: it may need any.
  [[nodiscard]] image::ImageUsers image_users() const;
  /// Bytes that the container's files take in the store: records, output, and what a writable root has on the disk.
  Result<std::int64_t> disk_usage(const std::string& id) const;
  [[nodiscard]] const EngineOptions& options() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Entry points of the helper roles that skink's own program plays: main() calls this first. `skink supervise-internal`
/// is the supervisor. Returns nothing when argv is an ordinary command line.
std::optional<int> run_internal_role(int argc, char** argv);

}  // namespace skink
