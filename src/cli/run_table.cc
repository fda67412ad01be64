// SPDX-License-Identifier: Apache-2.0
// The options of `run` and `create`.
#include <algorithm>

#include "cli/run_command.h"
#include "cli/run_setters.h"

namespace skink::cli {

namespace {

using C = RunCommand;
using R = plan::RunOptions;
using V = std::string_view;

// In the order of the help: what it is, what it runs, files, limits, rights, network and names, supervision.
constexpr Option<C> kTable[] = {
    {{"name", 0, "NAME", "a name for the container (default: one is made up)"},
     [](C& c, V v) { return set_name(c, v); }},
    {{"rm", 0, nullptr, "remove the container when it has ended"},
     [](C& c, V v) { return set(c.request.remove_at_end, v == "true"); }},
    {{"interactive", 'i', nullptr, "pass standard input on"},
     [](C& c, V v) { return set(c.request.run.interactive, v == "true"); }},
    {{"tty", 't', nullptr, "give it a terminal"}, [](C& c, V v) { return set(c.request.run.tty, v == "true"); }},
    {{"env", 'e', "K=V", "an environment variable; K alone takes the caller's value"},
     [](C& c, V v) -> Result<void> {
       c.env.push_back(TRY(plan::parse_env(v)));
       return {};
     }},
    {{"env-file", 0, "FILE", "environment variables from a file"}, add_text<&C::env_files>},
    {{"workdir", 'w', "DIR", "working directory"}, [](C& c, V v) { return set(c.request.run.working_dir, v); }},
    {{"user", 'u', "USER[:GROUP]", "names or numbers, looked up in the image"},
     [](C& c, V v) { return set(c.request.run.user, v); }},
    {{"group-add", 0, "GROUP", "a supplementary group more"},
     [](C& c, V v) { return add(c.request.run.group_add, v); }},
    {{"entrypoint", 0, "PROGRAM", "instead of the image's entrypoint; \"\" for none"}, set_entrypoint},
    {{"init", 0, nullptr, "run a small init that passes signals on and reaps"},
     [](C& c, V v) { return set(c.request.run.init, v == "true"); }},
    {{"label", 'l', "K=V", "a label"}, put_parsed<&R::labels, plan::parse_label>},
    {{"label-file", 0, "FILE", "labels from a file"}, add_text<&C::label_files>},
    {{"annotation", 0, "K=V", "an annotation of the OCI configuration"},
     put_parsed<&R::annotations, plan::parse_label>},
    {{"platform", 0, "P", "which image of several platforms (default: this host's)"}, set_platform},
    {{"bundle", 0, "DIR", "run an OCI bundle instead of an image"}, [](C& c, V v) { return set(c.request.bundle, v); }},
    {{"cidfile", 0, "FILE", "write the container's id to a new file"}, set_text<&C::cidfile>},

    {{"volume", 'v', "SRC:DST[:ro,...]", "bind a directory or file of the host"}, add_volume},
    {{"mount", 0, "type=bind|tmpfs,...", "a mount, in docker's long form"}, add_parsed<&R::volumes, plan::parse_mount>},
    {{"tmpfs", 0, "DST[:OPTIONS]", "an empty writable directory in memory (64m unless size= says more)"},
     add_parsed<&R::volumes, plan::parse_tmpfs>},
    {{"writable", 0, nullptr, "a writable root; what is written dies with the run"},
     [](C& c, V v) { return set(c.request.run.writable, v == "true"); }},
    {{"read-only", 0, nullptr, "a read-only root, which is the default"},
     [](C& c, V v) -> Result<void> {
       c.read_only = v == "true";
       return {};
     }},
    {{"storage-opt", 0, "size=B", "most bytes that --writable may take"}, set_storage_option},
    {{"shm-size", 0, "B", "size of /dev/shm (default 64m)"}, set_size<&R::shm_size>},

    {{"memory", 'm', "B", "memory limit, as in 64m"}, set_size<&R::memory>},
    {{"memory-swap", 0, "B", "memory and swap together; -1: no limit for swap"}, set_size<&R::memory_swap>},
    {{"memory-reservation", 0, "B", "memory that is kept when the host runs short"}, set_size<&R::memory_reservation>},
    {{"cpus", 0, "N", "processors, as in 1.5"}, set_cpus},
    {{"cpu-shares", 'c', "N", "weight against other containers (default 1024)"}, set_number<&R::cpu_shares>},
    {{"cpuset-cpus", 0, "LIST", "processors that it may use, as in 0-2,4"}, set_cpuset<&R::cpuset_cpus>},
    {{"cpuset-mems", 0, "LIST", "memory nodes that it may use"}, set_cpuset<&R::cpuset_mems>},
    {{"pids-limit", 0, "N", "most processes (default 4096); -1: no limit"}, set_number<&R::pids_limit>},
    {{"ulimit", 0, "NAME=SOFT[:HARD]", "a resource limit, as in nofile=1024"},
     add_parsed<&R::ulimits, plan::parse_ulimit>},
    {{"oom-score-adj", 0, "N", "-1000 to 1000: who goes first when memory runs out"}, set_oom_score},

    {{"cap-add", 0, "CAP", "a capability more, or ALL"}, add_parsed<&R::cap_add, plan::parse_capability>},
    {{"cap-drop", 0, "CAP", "a capability less, or ALL"}, add_parsed<&R::cap_drop, plan::parse_capability>},
    {{"privileged", 0, nullptr, "all capabilities and devices, no seccomp filter"},
     [](C& c, V v) { return set(c.request.run.privileged, v == "true"); }},
    {{"security-opt", 0, "OPT", "seccomp=unconfined|FILE, no-new-privileges[=BOOL], ..."}, add_security_option},
    {{"device", 0, "HOST[:PATH[:rwm]]", "a device node of the host"},
     [](C& c, V v) -> Result<void> {
       c.devices.push_back(TRY(plan::parse_device(v)));
       return {};
     }},
    {{"device-cgroup-rule", 0, "RULE", "a rule such as 'c 13:* rwm'"},
     add_parsed<&R::device_rules, plan::parse_device_rule>},
    {{"sysctl", 0, "K=V", "a kernel parameter of its namespaces"}, put_parsed<&R::sysctl, plan::parse_sysctl>},

    {{"network", 0, "none|host", "its own network with loopback alone (default), or the host's"}, set_network},
    {{"net", 0, "none|host", nullptr}, set_network},
    {{"hostname", 'h', "NAME", "host name (default: the first 12 digits of the id)"},
     [](C& c, V v) { return set(c.request.run.hostname, v); }},
    {{"add-host", 0, "HOST:IP", "a line more in /etc/hosts"}, add_parsed<&R::add_host, plan::parse_add_host>},
    {{"dns", 0, "IP", "a name server in /etc/resolv.conf"}, add_parsed<&R::dns, plan::parse_dns>},
    {{"dns-search", 0, "DOMAIN", "a search domain"}, add_parsed<&R::dns_search, plan::parse_dns_search>},
    {{"pid", 0, "host", "see and signal the host's processes"}, set_shared<&R::host_pid>},
    {{"ipc", 0, "host", "the host's shared memory and queues"}, set_shared<&R::host_ipc>},
    {{"uts", 0, "host", "the host's name"}, set_shared<&R::host_uts>},

    {{"restart", 0, "POLICY", "no, on-failure[:N], always, unless-stopped (default: no; with -d on-failure)"},
     set_restart},
    {{"restart-delay", 0, "T", "before the second relaunch in a row (default 100ms)"},
     set_policy_time<&RestartPolicy::first_delay_ns>},
    {{"restart-factor", 0, "N", "what each further delay is multiplied by (default 2)"}, set_restart_factor},
    {{"restart-max-delay", 0, "T", "the longest delay (default 1m)"},
     set_policy_time<&RestartPolicy::longest_delay_ns>},
    {{"restart-reset", 0, "T", "a run this long is stable: delays start anew (default 10s)"},
     set_policy_time<&RestartPolicy::reset_after_ns>},
    {{"restart-jitter", 0, "PART", "delays vary by up to this part of them, 0 to 1 (default 0.1)"}, set_restart_jitter},
    {{"restart-now-on", 0, "CODES", "exit statuses that are relaunched at once, as in 75,100-110"},
     set_statuses<&RestartPolicy::at_once>},
    {{"restart-never-on", 0, "CODES", "exit statuses after which it stays down"}, set_statuses<&RestartPolicy::never>},
    {{"restart-budget", 0, "N/T", "give up when it has ended N times within T, as in 5/1m (default 0: never)"},
     [](C& c, V v) { return parse_restart_budget(v, c.request.restart); }},
    {{"standby", 0, nullptr, "make the next run ahead: a relaunch takes a fraction of the time"},
     [](C& c, V v) { return set(c.request.standby, v == "true"); }},
    {{"liveness", 0, "PROBE", "ask whether it lives: http[s]://:PORT/PATH, tcp://:PORT, grpc:, unix:, exec:CMD"},
     set_probe<&Probes::liveness>},
    {{"readiness", 0, "PROBE", "ask whether it is ready, in the same words; only told"}, set_probe<&Probes::readiness>},
    {{"startup", 0, "PROBE", "ask whether it has started; the others wait for that"}, set_probe<&Probes::startup>},
    {{"health-cmd", 0, "CMD", "liveness by a shell command, as docker has it"},
     [](C& c, V v) -> Result<void> {
       c.request.healthcheck.test = {"CMD-SHELL", std::string(v)};
       return {};
     }},
    {{"health-interval", 0, "T", "between two of them (default 30s)"}, set_health_time<&oci::Healthcheck::interval_ns>},
    {{"health-timeout", 0, "T", "for each (default 30s)"}, set_health_time<&oci::Healthcheck::timeout_ns>},
    {{"health-start-period", 0, "T", "failures do not count for so long (default 0)"},
     set_health_time<&oci::Healthcheck::start_period_ns>},
    {{"health-retries", 0, "N", "failures in a row that make it unhealthy (default 3)"}, set_health_retries},
    {{"health-start-interval", 0, "T", nullptr}, set_nothing<C>},
    {{"no-healthcheck", 0, nullptr, "not even the image's HEALTHCHECK"},
     [](C& c, V v) { return set(c.request.no_healthcheck, v == "true"); }},
    {{"sdnotify", 0, "WHO", "what makes it ready: container (its READY=1), healthy, or conmon: that it runs"},
     [](C& c, V v) -> Result<void> {
       c.request.ready_by = TRY(parse_ready_by(v));
       c.ready_by_given = true;
       return {};
     }},
    {{"watchdog", 0, "T", "a failed liveness when its program says no WATCHDOG=1 for so long (sd_notify)"},
     [](C& c, V v) -> Result<void> {
       c.request.watchdog_ns = TRY(parse_duration_ns(v));
       return {};
     }},
    {{"log-driver", 0, "NAME", "where the output goes: spool (default), journald (too), none, passthrough"},
     set_log_driver},
    {{"log-opt", 0, "KEY=VALUE", "max-size=B, max-file=N, compress=true: what is kept; cri=PATH: a CRI file too"},
     set_log_option},
    {{"stop-signal", 0, "SIG", "what stop sends (default: the image's, else SIGTERM)"}, set_stop_signal},
    {{"stop-timeout", 0, "S", "seconds before stop sends SIGKILL (default 10)"}, set_stop_timeout},

    // Of docker's, not there yet: an error that names the way is better than "unknown option".
    {{"publish", 'p', "PORTS", nullptr}, not_published},
    {{"publish-all", 'P', nullptr, nullptr}, not_published},
    {{"ip", 0, "IP", nullptr}, not_yet<kNoLinks>},
    {{"link", 0, "CONTAINER", nullptr}, not_yet<kNoLinks>},
    {{"network-alias", 0, "NAME", nullptr}, not_yet<kNoLinks>},
    {{"expose", 0, "PORTS", nullptr}, set_nothing<C>},  // says nothing that has an effect
    {{"volumes-from", 0, "CONTAINER", nullptr}, not_yet<kNoVolumes>},
    {{"volume-driver", 0, "NAME", nullptr}, not_yet<kNoVolumes>},
    {{"gpus", 0, "LIST", nullptr}, not_yet<kNoGpus>},
    {{"userns", 0, "MODE", nullptr}, set_userns},

    {{"detach", 'd', nullptr, "run in the background and print the id"}, set_switch<&C::detach>},
    {{"sig-proxy", 0, nullptr, nullptr}, set_switch<&C::forward_signals>},
    {{"detach-keys", 0, "KEYS", "what lets go of a terminal (default ctrl-p,ctrl-q)"},
     [](C& c, V v) -> Result<void> {
       c.detach_keys = TRY(parse_detach_keys(v));
       return {};
     }},
};

constexpr std::size_t kOfRunAlone = 3;

}  // namespace

std::span<const Option<RunCommand>> run_options() { return kTable; }

std::span<const Option<RunCommand>> update_options() {
  static const std::vector<Option<RunCommand>> kChosen = [] {
    constexpr std::string_view kNames[] = {"memory",      "memory-swap", "memory-reservation",
                                           "cpus",        "cpu-shares",  "cpuset-cpus",
                                           "cpuset-mems", "pids-limit",  "stop-timeout"};
    std::vector<Option<RunCommand>> chosen;
    for (const auto& option : kTable) {
      const std::string_view name = option.words.name;
      if (name.starts_with("restart") || std::ranges::find(kNames, name) != std::end(kNames)) chosen.push_back(option);
    }
    return chosen;
  }();
  return kChosen;
}

std::span<const Option<RunCommand>> create_options() {
  return std::span(kTable).first(std::size(kTable) - kOfRunAlone);
}

}  // namespace skink::cli
