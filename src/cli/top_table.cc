// SPDX-License-Identifier: Apache-2.0
#include "cli/top_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <set>

#include "base/durations.h"
#include "base/table_text.h"
#include "base/text.h"
#include "cli/human.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

constexpr std::int64_t kDay = 24 * 3600 * kSecond;

std::int64_t started_ns(const Process& process, const TopFacts& facts) {
  return facts.now_ns - facts.since_boot_ns + ticks_to_ns(process.start_ticks);
}

// Over its whole life, as ps counts.
double cpu_percent(const Process& process, const TopFacts& facts) {
  const std::int64_t lived_ns = facts.since_boot_ns - ticks_to_ns(process.start_ticks);
  if (lived_ns <= 0) return 0;
  return 100.0 * static_cast<double>(ticks_to_ns(process.cpu_ticks)) / static_cast<double>(lived_ns);
}

double memory_percent(const Process& process, const TopFacts& facts) {
  if (facts.host_memory == 0) return 0;
  return 100.0 * static_cast<double>(process.resident_bytes) / static_cast<double>(facts.host_memory);
}

std::string one_decimal(double value) {
  const long long tenths = std::llround(value * 10.0);
  return str(tenths / 10, '.', tenths % 10);
}

std::string user_name(const Process& process, const TopFacts& facts) {
  const auto found = facts.users.find(process.uid);
  return found == facts.users.end() ? str(process.uid) : found->second;
}

// As ps has it: the time of today's, the day of this year's.
std::string start_text(const Process& process, const TopFacts& facts) {
  const std::int64_t start_ns = started_ns(process, facts);
  const auto seconds = static_cast<std::time_t>(start_ns / kSecond);
  std::tm parts{};
  if (::localtime_r(&seconds, &parts) == nullptr) return "?";
  const std::int64_t age_ns = facts.now_ns - start_ns;
  std::array<char, 32> buffer{};
  std::size_t length = 0;
  if (age_ns < kDay) length = std::strftime(buffer.data(), buffer.size(), "%H:%M", &parts);
  else if (age_ns < 365 * kDay) length = std::strftime(buffer.data(), buffer.size(), "%b%d", &parts);
  else length = std::strftime(buffer.data(), buffer.size(), "%Y", &parts);
  return {buffer.data(), length};
}

std::string two_digits(std::int64_t value) { return str(value < 10 ? "0" : "", value); }

// "[DD-]hh:mm:ss".
std::string clock_text(std::int64_t ns) {
  const std::int64_t seconds = ns / kSecond, days = seconds / 86'400;
  const std::string days_text = days > 0 ? str(days, '-') : std::string();
  return str(days_text, two_digits(seconds / 3600 % 24), ':', two_digits(seconds / 60 % 60), ':',
             two_digits(seconds % 60));
}

// What no command line is known of has its short name in brackets, as ps shows it.
std::string command_line(const Process& process) {
  if (process.args.empty()) return str('[', printable(process.comm), process.state == 'Z' ? "] <defunct>" : "]");
  std::string line;
  for (const auto& word : process.args) line += str(line.empty() ? "" : " ", word);
  return printable(line);
}

constexpr TopColumn kColumns[] = {
    {"user", "USER", user_name},
    {"uid", "UID", [](const Process& p, const TopFacts&) { return str(p.uid); }},
    {"pid", "PID", [](const Process& p, const TopFacts&) { return str(p.pid); }},
    {"nspid", "NSPID", [](const Process& p, const TopFacts&) { return str(p.ns_pid); }},
    {"ppid", "PPID", [](const Process& p, const TopFacts&) { return str(p.parent); }},
    {"%cpu", "%CPU", [](const Process& p, const TopFacts& f) { return one_decimal(cpu_percent(p, f)); }},
    {"%mem", "%MEM", [](const Process& p, const TopFacts& f) { return one_decimal(memory_percent(p, f)); }},
    {"vsz", "VSZ", [](const Process& p, const TopFacts&) { return str(p.virtual_bytes / 1024); }},
    {"rss", "RSS", [](const Process& p, const TopFacts&) { return str(p.resident_bytes / 1024); }},
    {"ni", "NI", [](const Process& p, const TopFacts&) { return str(p.nice); }},
    {"nlwp", "NLWP", [](const Process& p, const TopFacts&) { return str(p.threads); }},
    {"stat", "STAT", [](const Process& p, const TopFacts&) { return std::string(1, p.state); }},
    {"start", "STIME", start_text},
    {"tty", "TTY", [](const Process& p, const TopFacts&) { return terminal_name(p.tty); }},
    {"time", "TIME", [](const Process& p, const TopFacts&) { return clock_text(ticks_to_ns(p.cpu_ticks)); }},
    {"comm", "COMMAND", [](const Process& p, const TopFacts&) { return printable(p.comm); }},
    {"cmd", "CMD", [](const Process& p, const TopFacts&) { return command_line(p); }},
};

// Other words of ps for the same.
struct Alias {
  TableText<11> word, name;
};
constexpr Alias kAliases[] = {{"hostpid", "pid"}, {"pcpu", "%cpu"},       {"pmem", "%mem"}, {"rssize", "rss"},
                              {"vsize", "vsz"},   {"state", "stat"},      {"s", "stat"},    {"stime", "start"},
                              {"tname", "tty"},   {"cputime", "time"},    {"args", "cmd"},  {"command", "cmd"},
                              {"ucmd", "comm"},   {"euser", "user"},      {"nice", "ni"},   {"thcount", "nlwp"},
                              {"euid", "uid"},    {"start_time", "start"}};

const TopColumn* find_column(std::string_view name) {
  for (const Alias& alias : kAliases)
    if (alias.word == name) name = alias.name;
  for (const TopColumn& column : kColumns)
    if (column.name == name) return &column;
  return nullptr;
}

std::string known_columns() {
  std::string names;
  for (const TopColumn& column : kColumns) names += str(names.empty() ? "" : ", ", column.name);
  return names;
}

}  // namespace

Result<std::vector<const TopColumn*>> parse_columns(std::string_view names) {
  std::vector<const TopColumn*> columns;
  for (const std::string_view name : split(names, ',')) {
    const TopColumn* column = find_column(name);
    if (column == nullptr)
      return Error::make(Code::invalid_config, quoted(name), " is not a column; there are ", known_columns());
    columns.push_back(column);
  }
  return columns;
}

void sort_processes(std::vector<Process>& processes, TopOrder order) {
  std::ranges::sort(processes, {}, &Process::pid);
  if (order == TopOrder::pid) return;
  std::map<pid_t, std::vector<std::size_t>> children;  // by their parent's number; 0: no parent here
  std::set<pid_t> present;
  for (const Process& process : processes) present.insert(process.pid);
  for (std::size_t i = 0; i < processes.size(); ++i)
    children[present.contains(processes[i].parent) ? processes[i].parent : 0].push_back(i);
  // A stack of our own: a container can nest its processes as deep as it likes.
  std::vector<std::size_t> waiting(children[0].rbegin(), children[0].rend());
  std::vector<Process> sorted;
  while (!waiting.empty()) {
    Process& next = processes[waiting.back()];
    waiting.pop_back();
    if (!present.contains(next.pid)) continue;
    present.erase(next.pid);
    const auto below = children.find(next.pid);
    if (below != children.end()) waiting.insert(waiting.end(), below->second.rbegin(), below->second.rend());
    sorted.push_back(std::move(next));
  }
  // Numbers that were given out anew while we read can make two processes each other's parents.
  for (Process& process : processes)
    if (present.contains(process.pid)) sorted.push_back(std::move(process));
  processes = std::move(sorted);
}

Row top_heading(const std::vector<const TopColumn*>& columns) {
  Row row;
  for (const TopColumn* column : columns) row.emplace_back(column->heading);
  return row;
}

Row top_row(const std::vector<const TopColumn*>& columns, const Process& process, const TopFacts& facts) {
  Row row;
  for (const TopColumn* column : columns) row.push_back(column->cell(process, facts));
  return row;
}

oci::Json process_json(const Process& process, const TopFacts& facts) {
  oci::Json json = oci::Json::object();
  json["pid"] = process.pid;
  json["nspid"] = process.ns_pid;
  json["ppid"] = process.parent;
  json["uid"] = process.uid;
  json["user"] = user_name(process, facts);
  json["state"] = std::string(1, process.state);
  json["tty"] = process.tty == 0 ? oci::Json(nullptr) : oci::Json(terminal_name(process.tty));
  json["nice"] = process.nice;
  json["threads"] = process.threads;
  json["started"] = fs::rfc3339(started_ns(process, facts));
  json["cpu_ns"] = ticks_to_ns(process.cpu_ticks);
  json["cpu_percent"] = std::round(cpu_percent(process, facts) * 100.0) / 100.0;
  json["rss"] = process.resident_bytes;
  json["vsz"] = process.virtual_bytes;
  json["comm"] = process.comm;
  json["command"] = process.args;
  return json;
}

}  // namespace skink::cli
