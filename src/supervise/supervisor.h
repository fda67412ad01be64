// SPDX-License-Identifier: Apache-2.0
// Supervisor: the process that keeps one container running. It is started by the guard, with the guard's descriptors,
// does everything in one epoll loop, and can be killed at any time: its successor reads status.json, the guard's
// records and the parked descriptors, and goes on with the same container.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cgroup/cgroup.h"
#include "cgroup/watch.h"
#include "image/store.h"
#include "launch/launch.h"
#include "oci/spec.h"
#include "supervise/control.h"
#include "supervise/cri_file.h"
#include "supervise/diet.h"
#include "supervise/event_log.h"
#include "supervise/guard/protocol.h"
#include "supervise/journal.h"
#include "supervise/notices.h"
#include "supervise/probe.h"
#include "supervise/records.h"
#include "supervise/spool.h"
#include "supervise/status.h"
#include "supervise/watches.h"

namespace skink::supervise {

class Supervisor {
 public:
  /// The whole life of a supervisor; its exit code (see guard/protocol.h).
  static int run(pid_t guard_pid);

 private:
  // What an event is about.
  enum class Source : std::uint32_t {
    listener,
    exit_event,
    guard,
    init,
    out,
    err,
    terminal,
    client,
    exec,
    signal,
    probe,
    standby,
    notify,
    helper,
    memory
  };

  struct Client {
    UniqueFd socket;
    bool has_asked = false;
    bool awaits_start = false;  // wants to know whether the first launch worked
    bool awaits_end = false;    // wants "done"
    bool awaits_stop = false;   // wants "ok" when it has stopped
    bool attached = false;      // wants "started" at each incarnation
    bool wants_stdin = false;
    UniqueFd output_event;  // an eventfd of its own, written when there is more output
  };
  struct Exec {
    ExecProcess process;
    UniqueFd pidfd;
    std::int64_t ended_ns = 0;  // when its pidfd said so; the record is awaited
  };

  // A short-lived child of ours; `done` hears its exit status, and is taken away when nobody wants to know any more.
  struct Helper {
    UniqueFd pidfd;
    std::function<void(int status)> done;
  };

  struct ExecStart {
    const oci::Process* process = nullptr;
    launch::Stdio stdio;
    bool of_probe = false;
    std::int64_t patience_ns = 0;
    std::string token;
    std::optional<cgroup::Group> group;  // where it is put
    UniqueFd console;                    // its terminal, if it has one
    std::int64_t exits_from = 0;         // where in `exits` its end will be
  };

  // One of the container's probes, in this run.
  struct ProbeState {
    const Probe* probe = nullptr;
    std::int64_t next_ns = 0;      // CLOCK_BOOTTIME: when to ask; 0: not now
    std::int64_t deadline_ns = 0;  // of the attempt that is under way
    std::optional<ProbeAttempt> attempt;
    UniqueFd output;  // of an exec that is under way
    pid_t pid = 0;
    int helper = -1;       // the pidfd of one that asks for us
    int launching = 0;     // of a process that a helper is starting, which number it is; 0: none
    int launcher = 0;      // that helper's number, until it is reaped, whether its process is still wanted or not
    bool held_up = false;  // the attempt waits for that
    std::string printed, told;
    std::uint32_t failures = 0, successes = 0;
    bool passed = false;  // has succeeded in this run
  };

  // supervisor.cc: set-up, loop, files
  Result<void> set_up(pid_t guard_pid);
  Result<void> loop();
  Result<void> watch(int fd, Source source, std::uint32_t events);
  void close_watched(UniqueFd& fd);
  void handle(const Watches::Event& event);
  [[nodiscard]] int timeout_ms() const;
  Result<void> run_timers();
  Result<void> watch_termination();
  void save();
  void park_all();
  Result<std::optional<ExitRecord>> find_record(pid_t pid, std::int64_t from) const;
  [[nodiscard]] std::optional<LastExit> end_of(const sys::ProcessIdentity& process, const UniqueFd& pidfd,
                                               std::int64_t from, std::int64_t ended_ns) const;
  static LastExit note_end(const ExitRecord& record);

  // adopt.cc: a successor's first steps, and what happens when the guard dies
  Result<void> adopt(const Status& before);
  [[nodiscard]] bool is_in_history(std::uint64_t incarnation) const;
  void remember_last_run();
  void take_parked();
  void adopt_execs();
  void open_group();
  Result<void> adopt_running();
  [[nodiscard]] bool guard_is_gone() const;
  void guard_died();

  // incarnation.cc: from launch to the end of one run
  Result<void> begin();
  Result<void> begin_again();
  Result<void> launch_or_again();
  Result<void> launch();
  void undo_launch();
  Result<UniqueFd> make_incarnation_root(std::uint64_t incarnation);
  [[nodiscard]] UniqueFd root_again(const std::string& key) const;
  void keep_root(int root_fd, std::string key);
  Result<std::int64_t> begin_exits();
  launch::ContainerRequest request_for(int root_fd);
  Result<void> prepare_group();
  Result<void> drop_group();
  Result<void> prepare_input();
  void started();
  void hold_namespaces();
  void let_namespaces_go();
  [[nodiscard]] bool may_overlap() const;
  void run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind, std::string_view state);
  static void trim_complaints();
  static void complain(const Error& error);
  void clear_group();
  void check_init();
  void init_ended(LastExit last);
  void drain_output();
  void output_came();
  void pump(Stream stream, int fd);
  void follow_logs();
  void flush_logs();
  void relaunch_or_give_up(const LastExit& last, std::int64_t ran_ns);
  [[nodiscard]] std::string cause_of(const LastExit& last) const;

  // standby.cc: the next incarnation, made ahead
  void plan_standby();
  void plan_standby(std::int64_t after_ns);
  void prepare_standby();
  Result<void> make_standby();
  Result<void> tell_standby();
  bool use_standby();
  void drop_standby();
  void standby_ended();
  void adopt_standby(bool same_guard);
  [[nodiscard]] bool is_standby_alone(const std::vector<pid_t>& processes) const;

  // out_of_memory.cc: what the kernel's OOM killer does in the container
  void watch_memory();
  void arm_memory_watch();
  void disarm_memory_watch();
  void forget_memory_watch();
  void memory_ran_out();
  void look_for_oom_kills();
  void judge_oom(LastExit& last);

  // finish.cc: the end
  void give_up(const LastExit& last);
  void tell_last_execs();
  void take_relaunch_back();
  void await_question();
  void hear_latecomers(const LastExit& last);
  void hear_connected(const LastExit& last, std::int64_t patience_ns);
  void first_launch_failed(const Error& error);
  Result<void> write_exit(const LastExit& last, bool final, std::string given_up = {});
  bool remove_groups();
  Result<void> finish_removal();
  bool remove_run_state(bool with_directory);  // whether the directory is gone, if it was to go
  void remove_container();
  void tell_end(const LastExit& last);

  // serve.cc: clients
  void accept_clients();
  void serve(int fd);
  void answer(Client& client, Message message);
  void reply(Client& client, oci::Json json, std::span<const int> fds = {});
  void reply_result(Client& client, const Result<void>& result);
  void drop(int fd);
  bool tell_unhealed(Client& client);
  void tell_started(Client& client);
  void tell_all_started();
  void handle_attach(Client& client, Message& message);
  void tell_output();
  void handle_stop(Client& client, const oci::Json& json);
  void check_termination();
  [[nodiscard]] bool was_told_to_guard() const;
  void obey_termination();
  void stop_within(std::int64_t timeout_ns);
  Result<void> handle_kill(int signal, bool ends);
  Result<void> handle_pause(bool pause);
  Result<void> signal_init(int signal);
  Result<void> want_stop();
  Result<void> want_running();
  Result<void> handle_update(const oci::Json& json);

  // health.cc: the probes of the run, and what they say
  void begin_probes();
  void end_probes();
  void put_off_launches();
  void resume_probes();
  void probe_done(ProbeState& state, const ProbeResult& result);
  void keep_tally(const ProbeState& state);
  void probe_changed(ProbeState& state, bool good);
  void probe_failed(const ProbeState& state);
  void fail_run(std::string why);
  void show_health(bool tell);
  void tell_health();
  [[nodiscard]] bool is_ending() const;
  void write_probe_texts();
  [[nodiscard]] std::string_view name_of(const ProbeState& state) const;

  // probe_ask.cc: how they are asked
  void ask(ProbeState& state);
  Result<void> ask_by_exec(ProbeState& state);
  Result<void> launch_by_helper(ProbeState& state, ExecStart& start);
  bool probe_launched(ProbeState& state, bool wanted, int from_fd, std::int64_t exits_from);
  Result<void> ask_by_helper(ProbeState& state);
  Result<UniqueFd> open_probe_output(ProbeState& state);
  void end_asking(ProbeState& state);
  void close_attempt(ProbeState& state);
  void read_probe_output(ProbeState& state);
  void probe_event(int fd);
  void check_probes(std::int64_t now);
  void probe_process_ended(pid_t pid, const LastExit& last);
  void trim_exits();

  // notified.cc: what the program says by sd_notify, and its watchdog
  Result<void> open_notify();
  void begin_said();
  void notices_came();
  bool take_notice(const Notice& notice);
  void pay_notices(std::int64_t now, std::int64_t price_ns);
  void drop_by_helper();
  void pause_notices(std::int64_t until_ns);
  void check_notices(std::int64_t now);
  void arm_watchdog();
  void watchdog_missed(std::string why);
  [[nodiscard]] std::int64_t watchdog_ns() const;
  [[nodiscard]] std::int64_t watchdog_at() const;
  [[nodiscard]] std::string_view watchdog_health() const;
  void tell_changed();
  Result<int> add_helper(const char* name, std::span<const int> keep, const std::function<int()>& work,
                         std::function<void(int)> done);
  void helper_event(int pidfd);
  void drop_helper(int& pidfd);

  // logs_kept.cc: how much of the output is kept, and for how long
  void open_cri_log();
  void open_logs();
  void rotate_logs();
  void pack_next(Stream stream);
  void pack_later(const Error* error);
  void drop_old(Stream stream, std::uint64_t before);
  void check_logs(std::int64_t now);
  void choose_keeping();
  static void forget_logs();

  // exec_serve.cc
  Result<launch::ExecRequest> request_of(ExecStart& start);
  Result<pid_t> start_process(ExecStart& start);
  Result<void> take_exec(Exec exec);
  [[nodiscard]] bool is_relaunching() const;
  [[nodiscard]] bool is_dying() const;
  [[nodiscard]] bool init_is_over(int patience_ms) const;
  void serve_waiting_execs();
  void handle_exec_cancel(Client& client, const oci::Json& json);
  void end_half_made(const char* name) const;
  void end_all_half_made() const;
  [[nodiscard]] std::optional<ExitRecord> reap_own(pid_t pid, const UniqueFd& pidfd) const;
  static void end_exec(const Exec& exec);
  Result<void> handle_exec(Client& client, Message& message);
  void handle_exec_wait(Client& client, const oci::Json& json);
  Result<void> handle_exec_signal(const oci::Json& json);
  void check_execs();

  // supervisor_events.cc: the event log; tell_run is of this run and comes once, however often it is told
  void tell_event(std::string_view action, const oci::Json& attributes = oci::Json::object());
  void tell_run(std::string_view action, const oci::Json& attributes = oci::Json::object());
  [[nodiscard]] Event event_of_run(std::string_view action, const oci::Json& attributes) const;
  void tell_launched();
  void tell_failed(const Error& error);
  void tell_died(const LastExit& last);
  void tell_untold();
  void tell_waiting(std::int64_t delay_ns);
  void tell_given_up(const LastExit& last, bool waited);
  void tell_signalled(int signal);
  void note_sender(int signal, std::string_view who);
  void tell_replaced(const Status& before);
  void tell_exec(std::string_view action, const oci::Process& process, pid_t pid);
  void tell_exec_died(pid_t pid, const LastExit& last);

  Container container_;
  oci::Spec spec_;
  PackedCalls packed_calls_;  // of spec_, between launches: see request_for
  bool shed_ = true;          // what only a start needed is to be given back
  Status status_;
  cgroup::Location location_;
  std::optional<cgroup::Group> group_;
  bool group_is_new_ = false;                  // made for the launch that is under way
  std::optional<cgroup::Watch> memory_watch_;  // of group_
  bool memory_watch_armed_ = false;
  std::int64_t memory_again_ns_ = 0;  // CLOCK_BOOTTIME: when to look for kills, or to listen again; 0: not
  int memory_looks_ = 0;              // in vain, since it was heard of
  bool oom_told_ = false;             // of this run, by this supervisor
  bool oom_untold_ = false;           // to be told with its end
  std::optional<Spool> spool_;
  std::optional<JournalForwarder> journal_;
  std::optional<CriFile> cri_;
  Watches watches_;
  UniqueFd guard_pidfd_, init_pidfd_, terminal_, standby_pidfd_;
  UniqueFd standby_line_;                    // connected to it, so that a relaunch need not do that
  bool standby_went_on_ = false;             // a predecessor had told it to, and was killed before it wrote that down
  UniqueFd root_;                            // what every run's root is a clone of, where it can be
  std::string root_key_;                     // what that was made of
  std::array<UniqueFd, 3> held_namespaces_;  // of the run, so that its end is told before they are undone
  std::int64_t standby_at_ns_ = 0;           // CLOCK_BOOTTIME: when to make one; 0: not
  unsigned standby_failures_ = 0;            // in a row
  UniqueFd stdin_read_, stdin_write_;
  UniqueFd null_, seccomp_cache_, termination_;
  UniqueFd notify_;                    // the container's NOTIFY_SOCKET
  std::int64_t notices_paid_ns_ = 0;   // until when the datagrams that were read use up what may come
  std::int64_t notices_again_ns_ = 0;  // it is not looked at until then; -1: until a helper is done
  std::int64_t watchdog_at_ns_ = 0;    // CLOCK_MONOTONIC, so that a sleep of the host does not count; 0: not armed
  std::string watchdog_told_;
  std::string health_told_;           // by an event
  std::int64_t health_paid_ns_ = 0;   // until when the events that were told use up what may be told
  std::int64_t health_again_ns_ = 0;  // when to tell what is not told yet; 0: nothing
  std::map<int, Helper> helpers_;     // by their pidfds
  std::array<std::uint64_t, 2> packed_to_{}, dropped_to_{};  // of each stream, with --log-opt compress
  int packing_ = -1;                                         // the helper's pidfd
  Stream packing_stream_ = Stream::out;
  std::int64_t pack_again_ns_ = 0;  // after a failure: when it is tried again
  unsigned pack_failures_ = 0;      // in a row
  std::int64_t keep_until_ns_ = 0;  // --log-driver none: who is attached has until then to come back
  std::map<int, Client> clients_;
  std::map<pid_t, Exec> execs_;
  std::map<pid_t, int> exec_clients_;                   // who waits for which exec
  std::vector<std::pair<int, Message>> waiting_execs_;  // of clients, until the relaunch that is under way is done
  bool init_gone_ = false;                              // its pidfd said so; the record is awaited
  std::int64_t init_gone_ns_ = 0;                       // since when
  std::optional<Error> first_failure_;                  // to be told to who started it
  std::optional<LastExit> relaunched_after_;            // to be written down once the next incarnation runs
  std::optional<Event> died_untold_;                    // told once the next incarnation runs, before all else
  std::vector<PastRun> history_;                        // written with exit.json
  std::uint64_t restarts_told_ = 0;                     // so many relaunches are in what was written of it
  std::array<ProbeState, 3> probes_;                    // startup, liveness, readiness
  bool start_heard_ = false;                            // who started us has asked how it went
  std::optional<LastExit> end_untold_;                  // it ended before that question; kept until it is put
  std::int64_t untold_until_ns_ = 0;                    // for how long a client may keep us that does not ask
  std::int64_t relaunch_delay_ns_ = -1;  // before the relaunch that is to come; -1: a predecessor decided it
  int launches_ = 0;                     // by helpers, so far
  int exit_code_ = -1;                   // set: the loop ends
};

}  // namespace skink::supervise
