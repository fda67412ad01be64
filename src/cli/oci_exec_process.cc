// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_exec_process.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "cli/oci_verbs.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

// Shells hand over `<(...)`, so a pipe is read to its end; opened without blocking, since a FIFO that nobody writes to
// would hold us for ever (attack A82).
Result<std::string> read_document(const std::string& path) {
  const UniqueFd file = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY));
  const auto status = TRY(sys::stat_fd(file.get(), path));
  if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode))
    return Error::make(Code::invalid_config, printable(path), " is neither a file nor a pipe");
  if (::fcntl(file.get(), F_SETFL, O_RDONLY) != 0) return Error::from_errno(errno, "fcntl");
  return sys::read_all(file.get(), oci::kConfigLimit, printable(path));
}

bool is_given(const oci::Json& json, std::string_view key) {
  const oci::Json* value = oci::find(json, key);
  if (value == nullptr || value->is_null()) return false;
  // The Go programs that write these documents leave out what is empty.
  if (value->is_array()) return !value->empty();
  return !value->is_string() || !value->get_ref<const std::string&>().empty();
}

template <typename T>
void take_unless_given(const oci::Json& json, std::string_view key, T& value, const T& own) {
  if (!is_given(json, key)) value = own;
}

void fill_in(const oci::Json& json, oci::Process& process, const oci::Process& own) {
  take_unless_given(json, "user", process.user, own.user);
  take_unless_given(json, "env", process.env, own.env);
  take_unless_given(json, "cwd", process.cwd, own.cwd);
  take_unless_given(json, "capabilities", process.capabilities, own.capabilities);
  take_unless_given(json, "rlimits", process.rlimits, own.rlimits);
  take_unless_given(json, "noNewPrivileges", process.no_new_privileges, own.no_new_privileges);
  take_unless_given(json, "apparmorProfile", process.apparmor_profile, own.apparmor_profile);
  take_unless_given(json, "selinuxLabel", process.selinux_label, own.selinux_label);
  take_unless_given(json, "oomScoreAdj", process.oom_score_adj, own.oom_score_adj);
  take_unless_given(json, "scheduler", process.scheduler, own.scheduler);
  take_unless_given(json, "ioPriority", process.io_priority, own.io_priority);
  take_unless_given(json, "execCPUAffinity", process.exec_cpu_affinity, own.exec_cpu_affinity);
  if (!process.user.umask) process.user.umask = own.user.umask;
}

// The first of two entries with one key is the one that getenv finds.
void set_env(oci::Strings& env, const std::string& entry) {
  const std::string key = entry.substr(0, entry.find('=') + 1);
  if (!key.empty()) std::erase_if(env, [&](const std::string& have) { return have.starts_with(key); });
  env.push_back(entry);
}

// Numbers only, whole and in range: what is no number must not become root (CVE-2026-30892).
Result<std::uint32_t> parse_number(std::string_view text, std::string_view what) {
  constexpr std::uint32_t kNobodyAtAll = 0xffffffff;
  const auto number = parse_int<std::uint32_t>(text);
  if (!number || *number == kNobodyAtAll)
    return Error::make(Code::invalid_config, what, ": ", quoted(text), " is not a number from 0 to 4294967294");
  return *number;
}

Result<void> set_user(oci::User& user, const std::string& text) {
  const auto parts = split_once(text, ':');
  user.uid = TRY(parse_number(parts ? parts->first : std::string_view(text), "--user"));
  if (parts) user.gid = TRY(parse_number(parts->second, "--user"));
  return {};
}

// What is no capability is a warning, as in a document (config.md "Linux Process").
void add_capabilities(oci::Capabilities& sets, const oci::Strings& names, const OciLog& log) {
  // Ambient ones need inheritable ones, which --cap does not give.
  const bool ambient = sets.inheritable != 0;
  for (const auto& list : names)
    for (const auto name : split(list, ',')) {
      const int number = oci::capability_number(name);
      if (number < 0) {
        log.warning(str("--cap: ", quoted(name), " is not a capability, such as CAP_NET_BIND_SERVICE"));
        continue;
      }
      const std::uint64_t bit = std::uint64_t{1} << number;
      for (auto* set : {&sets.bounding, &sets.effective, &sets.permitted}) *set |= bit;
      if (ambient) sets.ambient |= bit;
    }
}

}  // namespace

Result<oci::Process> read_process(const std::string& path, const oci::Process& own, const OciLog& log) {
  const std::string text = TRY_CTX(read_document(path), "--process");
  oci::Process process = TRY_CTX(oci::parse_process(text), "--process ", printable(path));
  warn_of_unknown_capabilities(process, text, log);
  fill_in(TRY(oci::parse_json(text, oci::kConfigLimit)), process, own);
  return process;
}

Result<oci::Process> change_process(oci::Process own, oci::Strings args, const ExecOptions& options,
                                    const OciLog& log) {
  own.args = std::move(args);
  own.terminal = options.tty;
  // A terminal of the caller's has a size of its own.
  if (options.console_socket.empty()) own.console_size.reset();
  if (!options.cwd.empty()) own.cwd = options.cwd;
  if (!options.apparmor.empty()) own.apparmor_profile = options.apparmor;
  if (!options.label.empty()) own.selinux_label = options.label;
  if (options.no_new_privileges) own.no_new_privileges = *options.no_new_privileges;
  for (const auto& entry : options.env) set_env(own.env, entry);
  if (!options.user.empty()) TRY(set_user(own.user, options.user));
  for (const auto& list : options.groups)
    for (const auto group : split(list, ','))
      own.user.additional_gids.push_back(TRY(parse_number(group, "--additional-gids")));
  if (!options.caps.empty()) {
    if (!own.capabilities) own.capabilities.emplace();
    add_capabilities(*own.capabilities, options.caps, log);
  }
  auto findings = oci::check_process(own);
  if (!findings.empty()) return std::move(findings.front());
  return own;
}

Result<std::vector<cgroup::SubGroup>> parse_sub_groups(const oci::Strings& words) {
  std::vector<cgroup::SubGroup> groups;
  for (const auto& word : words) {
    const auto parts = split_once(word, ':');
    if (!parts && words.size() != 1)
      return Error::make(Code::invalid_config, "--cgroup: ", quoted(word),
                         " has no controller before it, as several of them need");
    if (!parts) groups.push_back({"", word});
    else
      for (const auto controller : split(parts->first, ',')) {
        if (controller.empty())
          return Error::make(Code::invalid_config, "--cgroup: ", quoted(word), " has an empty controller");
        groups.push_back({std::string(controller), std::string(parts->second)});
      }
  }
  return groups;
}

}  // namespace skink::cli
