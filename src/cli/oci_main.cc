// SPDX-License-Identifier: Apache-2.0
// skink-oci: the OCI runtime command line. Finds the verb, runs it, and tells a failure on standard error and in --log.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

#include "base/text.h"
#include "cli/oci_verbs.h"
#include "oci/json.h"

namespace skink::cli {
namespace {

constexpr OciVerb kVerbs[] = {
    {"create", "create [--bundle DIR] [--pid-file FILE] [--console-socket PATH] ID", oci_create},
    {"start", "start ID", oci_start},
    {"run", "run [--bundle DIR] [--detach] [--keep] ID", oci_run},
    {"state", "state ID", oci_state},
    {"kill", "kill [--all] ID [SIGNAL]", oci_kill},
    {"delete", "delete [--force] ID", oci_delete},
    {"exec", "exec [--detach] [--tty] (--process FILE ID | ID PROGRAM [ARG...])", oci_exec, 255},
};

Result<void> set_log_format(OciGlobals& globals, std::string_view value) {
  if (value != "json" && value != "text")
    return Error::make(Code::invalid_config, quoted(value), " is neither text nor json");
  globals.log_json = value == "json";
  return {};
}

Result<void> set_cgroup_manager(OciGlobals& globals, std::string_view value) {
  if (value == "systemd") return Error::make(Code::unsupported, "systemd is not there yet; use cgroupfs");
  if (value != "cgroupfs" && value != "disabled")
    return Error::make(Code::invalid_config, quoted(value), " is none of cgroupfs, disabled");
  globals.no_cgroup = value == "disabled";
  return {};
}

constexpr Option<OciGlobals> kGlobals[] = {
    {{"root", 0, "DIR", "state directory (default /run/skink-oci)"}, set_text<&OciGlobals::root>},
    {{"log", 0, "FILE", "append failures to this file"}, set_text<&OciGlobals::log>},
    {{"log-format", 0, "text|json", "form of the log (default text)"}, set_log_format},
    {{"cgroup-manager", 0, "cgroupfs|disabled", "who makes control groups"}, set_cgroup_manager},
    {{"systemd-cgroup", 0, nullptr, "make control groups through systemd"}, set_switch<&OciGlobals::systemd_cgroup>},
    {{"debug", 0, nullptr, "accepted"}, set_switch<&OciGlobals::debug>},
    {{"version", 'v', nullptr, "print the version and exit"}, set_switch<&OciGlobals::version>},
};

// A number below 3 must never become a state file that messages are written to (fault F17).
bool open_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != fd) return false;
  return true;
}

std::string log_record(const OciGlobals& globals, const std::string& text) {
  if (!globals.log_json) return str("time=\"", fs::rfc3339_now(), "\" level=error msg=", quoted(text), "\n");
  oci::Json json;
  json["level"] = "error";
  json["msg"] = text;
  json["time"] = fs::rfc3339_now();
  return oci::dump_json(json) + "\n";
}

// Opened before anything can fail: callers take a missing log for a runtime that does not exist.
Result<UniqueFd> open_log(const OciGlobals& globals) {
  if (globals.log.empty()) return UniqueFd{};
  return TRY_CTX(
      sys::open_at(AT_FDCWD, globals.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY, 0644),
      "--log");
}

int report(const OciGlobals& globals, int log_fd, const Error& error) {
  const std::string text = printable(error.text());
  const bool json = globals.log_json && log_fd < 0;
  (void)sys::write_all(2, json ? log_record(globals, text) : str("skink-oci: ", text, "\n"), "standard error");
  if (log_fd >= 0) (void)sys::write_all(log_fd, log_record(globals, text), "log");
  return 1;
}

std::string overview() {
  std::string text =
      "Usage: skink-oci [--root DIR] [--log FILE] [--log-format text|json] VERB ...\n\nAn OCI runtime.\n\nVerbs:\n";
  for (const auto& verb : kVerbs) text += str("  ", verb.usage, "\n");
  return text;
}

const OciVerb* find_verb(std::string_view name) {
  for (const auto& verb : kVerbs)
    if (name == verb.name) return &verb;
  return nullptr;
}

int run_verb(const OciGlobals& globals, int log_fd, const std::vector<std::string>& words, Arguments args) {
  const OciVerb* verb = find_verb(words[0]);
  if (verb == nullptr)
    return report(globals, log_fd,
                  Error::make(Code::invalid_config, "there is no verb ", quoted(words[0]), "; see skink-oci --help"));
  auto status = verb->run(globals, args.last(words.size() - 1));
  if (status) return *status;
  Error& error = status.error();
  // `exec: "foo": executable file not found` says what it is about already.
  if (!error.text().starts_with(words[0] + ": ")) error.context(words[0]);
  (void)report(globals, log_fd, error);
  return verb->failure;
}

int run(Arguments args) {
  OciGlobals globals;
  auto line = parse_options(std::span<const Option<OciGlobals>>(kGlobals), args, Operands::first_ends_options, globals);
  if (!line) return report(globals, -1, line.error());
  if (globals.version) {
    (void)sys::write_all(
        1, str("skink-oci version ", std::string_view(SKINK_VERSION), "\nspec: ", oci::kSpecVersion, "\n"),
        "standard output");
    return 0;
  }
  if (line->help) {
    (void)sys::write_all(1, overview(), "standard output");
    return 0;
  }
  const auto log = open_log(globals);
  if (!log) return report(globals, -1, log.error());
  if (globals.systemd_cgroup)
    return report(globals, log->get(),
                  Error::make(Code::unsupported, "--systemd-cgroup: is not there yet; leave it out"));
  if (line->operands.empty())
    return report(globals, log->get(), Error::make(Code::invalid_config, "a verb is missing; see skink-oci --help"));
  return run_verb(globals, log->get(), line->operands, args);
}

// Descriptors of 3 .. 2+N that the caller left closed must not be taken by our own files and reach the container
// (the class of CVE-2024-21626): they are plugged first.
void plug_preserved(int argc, char** argv) {
  const char* listening = ::getenv("LISTEN_FDS");
  const int before = listening != nullptr ? parse_int<int>(listening).value_or(0) : 0;
  for (int i = 1; i < argc; ++i) {
    std::string_view word(argv[i]);
    std::optional<int> count;
    if (word.starts_with("--preserve-fds=")) count = parse_int<int>(word.substr(15));
    else if (word == "--preserve-fds" && i + 1 < argc) count = parse_int<int>(argv[i + 1]);
    constexpr int kMost = 1024;
    if (!count || *count < 0 || *count > kMost || before < 0 || before > kMost) continue;
    for (int fd = 3; fd < 3 + before + *count; ++fd) {
      if (::fcntl(fd, F_GETFD) >= 0) continue;
      const int plug = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      if (plug >= 0 && plug != fd && ::dup3(plug, fd, O_CLOEXEC) >= 0) ::close(plug);
    }
  }
}

}  // namespace
}  // namespace skink::cli

int main(int argc, char** argv) {
  if (!skink::cli::open_standard_descriptors()) return 1;
  skink::cli::plug_preserved(argc, argv);
  ::signal(SIGPIPE, SIG_IGN);
  const skink::cli::Arguments all(argv, static_cast<std::size_t>(argc));
  return skink::cli::run(argc > 0 ? all.subspan(1) : all);
}
