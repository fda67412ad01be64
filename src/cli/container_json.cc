// SPDX-License-Identifier: Apache-2.0
// A container's facts as JSON.
#include "cli/container_json.h"

#include "base/text.h"
#include "cli/human.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

using oci::Json;

Json time_or_null(std::int64_t unix_ns) { return unix_ns == 0 ? Json(nullptr) : Json(fs::rfc3339(unix_ns)); }

Json labels_json(const std::map<std::string, std::string>& labels) {
  Json json = Json::object();
  for (const auto& [key, value] : labels) json[key] = value;
  return json;
}

Json exit_json(const std::optional<LastExit>& last) {
  if (!last) return nullptr;
  Json json = Json::object();
  json["known"] = last->known;
  json["status"] = last->known ? Json(last->status) : Json(nullptr);
  json["signal"] = last->signal;
  json["oom"] = last->oom;
  json["error"] = last->error;
  json["cause"] = last->cause;
  json["at"] = time_or_null(last->at_ns);
  return json;
}

Json policy_json(const RestartPolicy& policy) {
  Json json = Json::object();
  json["policy"] = to_text(policy);
  json["delay_ns"] = policy.first_delay_ns;
  json["factor"] = policy.factor;
  json["max_delay_ns"] = policy.longest_delay_ns;
  json["reset_ns"] = policy.reset_after_ns;
  json["jitter"] = policy.jitter;
  json["now_on"] = to_text(policy.at_once);
  json["never_on"] = to_text(policy.never);
  json["budget"] = policy.budget;
  json["budget_ns"] = policy.budget_ns;
  return json;
}

Json probes_json(const Probes& probes) {
  Json json = Json::object();
  for (const auto& [name, probe] : {std::pair{"startup", &probes.startup}, std::pair{"liveness", &probes.liveness},
                                    std::pair{"readiness", &probes.readiness}}) {
    if (probe->kind == Probe::Kind::none) continue;
    json[name] =
        Json{{"probe", to_text(*probe)},     {"interval_ns", probe->interval_ns}, {"timeout_ns", probe->timeout_ns},
             {"delay_ns", probe->delay_ns},  {"grace_ns", probe->grace_ns},       {"failures", probe->failures},
             {"successes", probe->successes}};
  }
  return json;
}

Json log_json(const ContainerInfo& container) {
  const LogLimits& limits = container.log_limits;
  Json json{{"driver", container.log_driver.empty() ? "spool" : container.log_driver},
            {"max_size", limits.max_size},
            {"max_files", limits.max_files},
            {"compress", limits.compress}};
  if (const CriLog& cri = container.cri_log; !cri.path.empty())
    json["cri"] = Json{{"path", cri.path}, {"max_size", cri.max_size}, {"max_files", cri.max_files}};
  return json;
}

Json history_json(const std::vector<PastRun>& history) {
  Json list = Json::array();
  for (const auto& run : history)
    list.push_back(Json{{"run", run.incarnation},
                        {"started", time_or_null(run.started_ns)},
                        {"exit", exit_json(run.exit)},
                        {"outcome", run.outcome}});
  return list;
}

std::string labels_text(const std::map<std::string, std::string>& labels) {
  std::string text;
  for (const auto& [key, value] : labels) text += str(text.empty() ? "" : ",", key, '=', value);
  return text;
}

// Docker's State object of `inspect`.
Json docker_state(const ContainerInfo& container) {
  const auto& last = container.last_exit;
  Json state = Json::object();
  state["Status"] = state_text(container);
  state["Running"] = container.phase == Phase::running || container.phase == Phase::paused;
  state["Paused"] = container.phase == Phase::paused;
  state["Restarting"] = container.phase == Phase::restarting;
  state["OOMKilled"] = last && last->oom;
  state["Dead"] = false;
  state["Pid"] = container.pid;
  state["ExitCode"] = last ? last->status : 0;
  state["Error"] = last ? last->error : "";
  if (!container.health.empty()) state["Health"] = {{"Status", container.health}};
  state["StartedAt"] = fs::rfc3339(container.started_ns);
  state["FinishedAt"] = fs::rfc3339(container.finished_ns);
  return state;
}

}  // namespace

std::string_view state_text(const ContainerInfo& container) {
  return container.problem.empty() ? to_text(container.phase) : std::string_view("corrupt");
}

Json container_json(const ContainerInfo& container, std::int64_t now_ns) {
  Json json = Json::object();
  json["name"] = container.name;
  json["id"] = container.id;
  json["image"] = container.image;
  json["image_id"] = container.image_id;
  json["command"] = container.command;
  json["state"] = state_text(container);
  json["status"] = status_text(container, now_ns);
  json["pid"] = container.pid;
  json["supervisor_pid"] = container.supervisor_pid;
  json["guard_pid"] = container.guard_pid;
  json["created"] = time_or_null(container.created_ns);
  json["started"] = time_or_null(container.started_ns);
  json["finished"] = time_or_null(container.finished_ns);
  json["health"] = container.health;
  json["ready"] = container.ready ? Json(*container.ready) : Json(nullptr);
  json["sdnotify"] = to_text(container.ready_by);
  json["watchdog_ns"] = container.watchdog_ns;
  json["said"] = container.said;
  json["probes"] = probes_json(container.probes);
  json["restarts"] = container.restarts;
  json["next_try"] = time_or_null(container.phase == Phase::restarting ? container.next_try_ns : 0);
  json["exit"] = exit_json(container.last_exit);
  json["restart"] = policy_json(container.restart);
  json["standby"] = container.standby;
  json["standby_pid"] = container.standby_pid;
  json["asked_to_end"] = container.asked_to_end;
  json["labels"] = labels_json(container.labels);
  json["remove_at_end"] = container.remove_at_end;
  json["tty"] = container.tty;
  json["log"] = log_json(container);
  json["problem"] = container.problem;
  return json;
}

Json docker_ps_json(const ContainerInfo& container, std::int64_t now_ns, bool whole) {
  Json json = Json::object();
  json["ID"] = whole ? container.id : short_id(container.id);
  json["Names"] = json["Name"] = container.name;
  json["Image"] = container.image;
  json["ImageID"] = container.image_id;
  json["Command"] = command_text(container.command, whole ? 0 : 20);
  json["CreatedAt"] = human_date(container.created_ns);
  json["RunningFor"] = human_ago(container.created_ns, now_ns);
  json["State"] = state_text(container);
  json["Status"] = status_text(container, now_ns);
  json["Labels"] = labels_text(container.labels);
  json["Restarts"] = container.restarts;
  json["Pid"] = container.pid;
  json["Ports"] = "";
  return json;
}

Json inspect_json(const ContainerInfo& container, const Json& spec, std::int64_t now_ns) {
  Json json = container_json(container, now_ns);
  json["history"] = history_json(container.history);
  json["probe_texts"] = container.probe_texts;
  json["spec"] = spec;
  return json;
}

Json docker_inspect_json(const ContainerInfo& container, const Json& spec) {
  const Json* process = oci::find(spec, "process");
  const auto from_process = [&](std::string_view key) {
    const Json* value = process == nullptr ? nullptr : oci::find(*process, key);
    return value == nullptr ? Json(nullptr) : *value;
  };
  Json json = Json::object();
  json["Id"] = container.id;
  json["Name"] = container.name;
  json["Created"] = fs::rfc3339(container.created_ns);
  json["Path"] = container.command.empty() ? "" : container.command.front();
  json["Args"] = container.command.empty()
                     ? std::vector<std::string>{}
                     : std::vector<std::string>(container.command.begin() + 1, container.command.end());
  json["State"] = docker_state(container);
  json["Image"] = container.image_id;
  json["RestartCount"] = container.restarts;
  json["Config"] = {{"Image", container.image},
                    {"Cmd", container.command},
                    {"Env", from_process("env")},
                    {"WorkingDir", from_process("cwd")},
                    {"Tty", container.tty},
                    {"Hostname", oci::get_string(spec, "hostname")},
                    {"Labels", labels_json(container.labels)}};
  const std::string policy = to_text(container.restart);
  json["HostConfig"] = {
      {"AutoRemove", container.remove_at_end},
      {"RestartPolicy", {{"Name", policy.substr(0, policy.find(':'))}, {"MaximumRetryCount", container.restart.most}}}};
  return json;
}

}  // namespace skink::cli
