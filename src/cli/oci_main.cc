// SPDX-License-Identifier: Apache-2.0
// skink-oci: the OCI runtime command line. Finds the verb, runs it, and tells a failure on standard error and in --log.
#include <commit.h>  // made by meson
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstdlib>

#include "base/text.h"
#include "cli/oci_verbs.h"
#include "cli/terminate.h"
#include "oci/json.h"
#include "security/security.h"
#include "sys/interrupt.h"
#include "sys/process.h"

namespace skink::cli {
namespace {

constexpr OciVerb kVerbs[] = {
    {"create", "create [--bundle DIR] [--pid-file FILE] [--console-socket PATH] ID", "make a container", oci_create},
    {"start", "start ID", "execute its program", oci_start},
    {"run", "run [--bundle DIR] [--detach] [--keep] ID", "create, start, wait and delete", oci_run},
    {"state", "state ID", "print its state as JSON", oci_state},
    {"kill", "kill [--all] ID [SIGNAL]", "send a signal, TERM by default", oci_kill},
    {"delete", "delete [--force] [--regex] ID", "remove it", oci_delete},
    {"exec", "exec [OPTION...] (--process FILE ID | ID PROGRAM [ARG...])", "run one more process in it", oci_exec, 255},
    {"list", "list [--format table|json] [--quiet]", "print all containers", oci_list},
    {"ps", "ps [--format table|json] ID [PS OPTION...]", "print its processes", oci_ps},
    {"pause", "pause ID", "freeze its processes", oci_pause},
    {"resume", "resume ID", "let them go on", oci_resume},
    {"update", "update [--resources FILE|-] [LIMIT...] ID", "change its limits", oci_update},
    {"events", "events [--stats] [--interval TIME] ID", "print what it uses and what happens to it", oci_events},
    {"features", "features", "print what this runtime supports as JSON", oci_features},
    {"spec", "spec [--bundle DIR] [--rootless]", "write a config.json to begin with", oci_spec},
    {"checkpoint", "checkpoint ID", "not supported", oci_checkpoint},
    {"restore", "restore ID", "not supported", oci_restore},
};

Result<void> set_log_format(OciGlobals& globals, std::string_view value) {
  if (value != "json" && value != "text")
    return Error::make(Code::invalid_config, quoted(value), " is neither text nor json");
  globals.log_options.json = value == "json";
  return {};
}

Result<void> set_log_level(OciGlobals& globals, std::string_view value) {
  globals.log_options.level = TRY(parse_log_level(value));
  return {};
}

Result<void> set_cgroup_manager(OciGlobals& globals, std::string_view value) {
  if (value != "cgroupfs" && value != "systemd" && value != "disabled")
    return Error::make(Code::invalid_config, quoted(value), " is none of cgroupfs, systemd, disabled");
  globals.no_cgroup = value == "disabled";
  globals.systemd_cgroup = value == "systemd";
  return {};
}

// Whether this is so is seen, not told.
Result<void> set_rootless(OciGlobals& /*globals*/, std::string_view value) {
  for (const std::string_view word : {"auto", "true", "false", "1", "0", "t", "f"})
    if (value == word) return {};
  return Error::make(Code::invalid_config, quoted(value), " is none of auto, true, false");
}

constexpr Option<OciGlobals> kGlobals[] = {
    {{"root", 0, "DIR", "state directory (default /run/skink-oci)"}, set_text<&OciGlobals::root>},
    {{"log", 0, "FILE", "append failures there; also journald:NAME, syslog:NAME"},
     [](OciGlobals& o, std::string_view v) -> Result<void> {
       o.log_options.target = std::string(v);
       return {};
     }},
    {{"log-format", 0, "text|json", "form of the log (default text)"}, set_log_format},
    {{"log-level", 0, "LEVEL", "error, warning, info (default) or debug"}, set_log_level},
    {{"debug", 0, nullptr, "the same as --log-level debug"},
     [](OciGlobals& o, std::string_view v) -> Result<void> {
       if (v == "true") o.log_options.level = LogLevel::debug;
       return {};
     }},
    {{"cgroup-manager", 0, "MANAGER", "who makes control groups: cgroupfs, systemd, disabled"}, set_cgroup_manager},
    {{"systemd-cgroup", 0, nullptr, "the same as --cgroup-manager systemd"}, set_switch<&OciGlobals::systemd_cgroup>},
    {{"rootless", 0, "auto|true|false", "accepted, without effect"}, set_rootless},
    {{"criu", 0, "PATH", "accepted, without effect"}, set_nothing<OciGlobals>},
    {{"version", 'v', nullptr, "print the version and exit"}, set_switch<&OciGlobals::version>},
};

// A number below 3 must never become a state file that messages are written to (fault F17).
bool open_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != fd) return false;
  return true;
}

bool is_variable(const char* name, std::string_view value) {
  const char* const found = ::getenv(name);
  return found != nullptr && found == value;
}

// Root of a user namespace of its own is a plain user to the host, and /run is not his.
bool in_user_namespace() {
  const auto text = fs::read_file(AT_FDCWD, "/proc/self/uid_map", 4096);
  if (!text) return false;
  std::string words;
  for (const std::string_view word : split(*text, ' '))
    if (!word.empty()) words += str(word, " ");
  return words != "0 0 4294967295\n ";
}

// Engines call one container's verbs with different environments: only what all of them have may decide. An empty
// XDG_RUNTIME_DIR is podman's for root.
std::string default_root() {
  constexpr const char* kName = "skink-oci";
  const char* const own = ::getenv("XDG_RUNTIME_DIR");
  const bool plain = ::geteuid() != 0 || (own != nullptr && !is_variable("USER", "root") && in_user_namespace());
  return own != nullptr && own[0] != '\0' && plain ? str(std::string_view(own), "/", std::string_view(kName))
                                                   : str("/run/", std::string_view(kName));
}

Result<void> settle_root(OciGlobals& globals) {
  globals.root_given = !globals.root.empty();
  if (!globals.root_given) globals.root = default_root();
  if (globals.root.starts_with('/')) return {};
  std::array<char, PATH_MAX> here{};
  if (::getcwd(here.data(), here.size()) == nullptr) return Error::from_errno(errno, "--root: getcwd");
  globals.root = str(std::string_view(here.data()), "/", globals.root);
  return {};
}

// The log's place out of a line that is wrong elsewhere: engines show people what is in the log.
void find_log(Arguments args, OciGlobals& globals) {
  for (std::size_t i = 0; i < args.size() && args[i][0] == '-'; ++i) {
    const std::string_view word(args[i]);
    const std::string_view next = i + 1 < args.size() ? args[i + 1] : "";
    for (const std::string_view name : {"--log", "--log-format"}) {
      std::string_view value = next;
      if (word.starts_with(str(name, "="))) value = word.substr(name.size() + 1);
      else if (word != name) continue;
      if (name == "--log") globals.log_options.target = std::string(value);
      else globals.log_options.json = value == "json";
    }
    if (word == "--log" || word == "--log-format" || word == "--root") ++i;
  }
}

int report(const OciGlobals& globals, const Error& error) {
  globals.log.error(str(error.text(), security::lacking_here(error)));
  return 1;
}

std::string overview() {
  constexpr std::size_t kColumn = 54;
  std::string text = "Usage: skink-oci [GLOBAL OPTION...] VERB [OPTION...] ID\n\nAn OCI container runtime.\n\nVerbs:\n";
  for (const auto& verb : kVerbs) {
    std::string line = str("  ", std::string_view(verb.usage));
    if (line.size() + 2 > kColumn) line += str("\n", std::string(kColumn, ' '));
    else line.append(kColumn - line.size(), ' ');
    text += str(line, std::string_view(verb.summary), "\n");
  }
  text += "\nGlobal options, before the verb:\n";
  for (const auto& option : kGlobals) {
    std::string line = str("  ", option_name(option.words));
    if (option.words.value != nullptr) line += str(' ', std::string_view(option.words.value));
    line.append(line.size() + 2 <= kColumn ? kColumn - line.size() : 2, ' ');
    text += str(line, std::string_view(option.words.help), "\n");
  }
  return text + "\nskink-oci VERB --help tells the options of a verb.\n";
}

const OciVerb* find_verb(std::string_view name) {
  for (const auto& verb : kVerbs)
    if (name == verb.name) return &verb;
  return nullptr;
}

bool is_help(std::string_view word) { return word == "-h" || word == "--help" || word == "-help"; }

int run_verb(const OciGlobals& globals, const std::string& word, Arguments args) {
  const OciVerb* const verb = find_verb(word);
  if (verb == nullptr) {
    // runc's words, where its users look for them.
    const bool asks = std::any_of(args.begin(), args.end(), is_help);
    return report(globals,
                  Error::make(Code::invalid_config, asks ? str("No help topic for '", printable(word), "': ") : "",
                              "there is no verb ", quoted(word), "; see skink-oci --help"));
  }
  auto status = verb->run(globals, args);
  if (status) return *status;
  // `exec: "foo": executable file not found` says what it is about already.
  if (!status.error().text().starts_with(word + ": ")) status.error().context(word);
  constexpr int kBySignal = 128;
  const int signal = sys::taken_interrupt();
  if (signal != 0) status.error().context("ended by signal ", sys::signal_name(signal));
  (void)report(globals, status.error());
  return signal != 0 ? kBySignal + signal : verb->failure;
}

int print(const std::string& text) { return sys::write_all(1, text, "standard output") ? 0 : 1; }

std::string version() {
  return str("skink-oci version ", std::string_view(SKINK_VERSION), "\ncommit: ", std::string_view(SKINK_COMMIT),
             "\nspec: ", oci::kSpecVersion, "\n");
}

std::string shown(Arguments args) {
  std::string text = "skink-oci";
  for (const char* word : args) text += str(' ', std::string_view(word));
  return text;
}

int run(Arguments args) {
  OciGlobals globals;
  auto line = parse_options(std::span<const Option<OciGlobals>>(kGlobals), args, Operands::first_ends_options, globals,
                            Dashes::one_or_two);
  if (!line) find_log(args, globals);
  if (line && globals.version) return print(version());
  if (line && (line->help || (line->operands.size() == 1 && line->operands[0] == "help"))) return print(overview());
  // Opened before anything else can fail: callers take a missing log for a runtime that does not exist.
  auto log = OciLog::open(globals.log_options);
  if (!log) return report(globals, log.error().context("--log"));
  globals.log = *std::move(log);
  if (!line) return report(globals, line.error());
  if (line->operands.empty())
    return report(globals, Error::make(Code::invalid_config, "a verb is missing; see skink-oci --help"));
  if (const auto settled = settle_root(globals); !settled) return report(globals, settled.error());
  globals.log.debug(shown(args));
  return run_verb(globals, line->operands[0], args.last(line->operands.size() - 1));
}

// Descriptors of 3 .. 2+N that the caller left closed must not be taken by our own files and reach the container
// (the class of CVE-2024-21626): they are plugged first.
void plug_preserved(int argc, char** argv) {
  const char* listening = ::getenv("LISTEN_FDS");
  const int before = listening != nullptr ? parse_int<int>(listening).value_or(0) : 0;
  for (int i = 1; i < argc; ++i) {
    std::string_view word(argv[i]);
    if (word.starts_with("--")) word.remove_prefix(1);
    std::optional<int> count;
    if (word.starts_with("-preserve-fds=")) count = parse_int<int>(word.substr(14));
    else if (word == "-preserve-fds" && i + 1 < argc) count = parse_int<int>(argv[i + 1]);
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
  // A caller that ignores it hands that on, and the kernel would reap all children before anybody has waited for them.
  ::signal(SIGCHLD, SIG_DFL);
  skink::cli::give_up_without_memory(1);
  if (!skink::cli::open_standard_descriptors()) return 1;
  skink::cli::plug_preserved(argc, argv);
  ::signal(SIGPIPE, SIG_IGN);
  // So is a limit on the size of files (EFBIG): a command is not ended in the middle of a step.
  ::signal(SIGXFSZ, SIG_IGN);
  const skink::cli::Arguments all(argv, static_cast<std::size_t>(argc));
  return skink::cli::run(argc > 0 ? all.subspan(1) : all);
}
