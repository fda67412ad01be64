// SPDX-License-Identifier: Apache-2.0
// skink install-units: writes the units for systemd, for who has no package that brings them.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

struct UnitsCommand {
  std::string root, program;
};

constexpr Option<UnitsCommand> kInstallUnitsOptions[] = {
    {{"program", 0, "PATH", "the skink that they call (default: this one)"}, set_text<&UnitsCommand::program>},
    {{"root", 0, "DIR", "write below DIR, the root of another system"}, set_text<&UnitsCommand::root>},
};

std::string directory_of(const UnitsCommand& command) {
  std::string root = command.root;
  while (root.ends_with('/')) root.pop_back();
  return str(root, "/etc/systemd/system");
}

Result<std::string> own_program() {
  std::string path = TRY(sys::readlink_at(AT_FDCWD, "/proc/self/exe"));
  if (path.ends_with(" (deleted)"))
    return Error::make(Code::not_found, "this program was replaced while it runs; name it with --program");
  return path;
}

// A package that was removed leaves its units masked: links to /dev/null.
bool is_masked(int dir_fd, const char* name) {
  const auto target = sys::readlink_at(dir_fd, name);
  return target && *target == "/dev/null";
}

// What has become of one file: a word for people.
Result<std::string_view> put(int dir_fd, const UnitFile& unit, const std::string& text) {
  constexpr std::size_t kMost = 1U << 20;
  auto before = fs::read_file(dir_fd, unit.name, kMost);
  if (!before && is_masked(dir_fd, unit.name))
    return Error::make(Code::exists, "it is masked, as a package that was removed leaves it: systemctl unmask ",
                       std::string_view(unit.name), ", then again");
  if (!before && before.error().errnum() != ENOENT) return std::move(before).error();
  if (before && *before == text) return std::string_view("is as it should be");
  if (before && !is_installed_unit(*before))
    return Error::make(Code::exists,
                       "there is another one, which install-units has not written; move it away, and put your "
                       "changes into a drop-in (systemctl edit)");
  TRY(fs::write_file_atomic(dir_fd, unit.name, text, 0644, fs::Durability::durable));
  return before ? std::string_view("was replaced") : std::string_view("was written");
}

void tell_what_to_do(Context& context, const UnitsCommand& command) {
  std::string systemctl = "systemctl";
  const bool elsewhere = !command.root.empty();
  if (elsewhere) systemctl += str(" --root=", printable(command.root));
  const std::string enable = str("  ", systemctl, elsewhere ? " enable " : " enable --now ");
  context.say("Next:");
  if (!elsewhere) context.say(str("  ", systemctl, " daemon-reload"));
  context.say(str(enable, "skink-heal.service skink-shutdown.service   # containers come back after a boot"));
  context.say("As you like:");
  context.say(str(enable, "skink@NAME.service      # one container as a unit"));
  context.say(str(enable, "skink-metrics.socket    # a scrape of http://127.0.0.1:9722/metrics"));
  context.say(str(enable, "skink-textfile.timer    # or a file for node_exporter"));
}

int run_install_units(Context& context, Arguments args) {
  UnitsCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<UnitsCommand>(context, kInstallUnitsOptions, args, command, none, {0, 0}))
    return *status;
  const std::string directory = directory_of(command);
  const auto program = command.program.empty() ? own_program() : Result<std::string>(command.program);
  if (!program) return context.fail(program.error());
  const UnitPlan plan{.program = *program, .store = context.directories().store, .run = context.directories().run};
  auto dir = fs::make_dirs(directory, 0755);
  if (!dir) return context.fail(dir.error());
  int status = 0;
  for (std::size_t i = 0; i < kUnitCount; ++i) {
    const std::string path = str(printable(directory), '/', std::string_view(kUnitFiles[i].name));
    const auto text = unit_text(kUnitFiles[i], plan);
    const auto done = text ? put(dir->get(), kUnitFiles[i], *text) : Result<std::string_view>(text.error());
    if (done) context.say(str(path, ' ', *done));
    else status = context.fail(Error(done.error()).context(path));
  }
  if (status == 0) tell_what_to_do(context, command);
  return status;
}

}  // namespace

const Verb kInstallUnitsVerb{
    "install-units",
    "[OPTIONS]",
    "Write the units for systemd",
    R"(For a skink that no package has installed. It writes to /etc/systemd/system and enables
nothing: what to do next is printed. It can be run again at any time; a unit that it has not
written itself is not touched, and is an error. There is nothing for a user's own systemd: skink
runs as root, and containers outlive sessions.

  skink-heal.service      brings back at boot what should run
  skink-shutdown.service  stops containers in good order when the machine goes down
  skink@NAME.service      one container as a unit
  skink-metrics.socket    answers a scrape of 127.0.0.1:9722, by skink-metrics@.service
  skink-textfile.timer    writes the metrics to a file for node_exporter now and then

The units call this program, by its path, with the --root and --run that stand before the verb.

Exit status: 0 when all are there; 1 if any could not be written (the others are).

Examples:
  skink install-units
  skink install-units --root /mnt/image --program /usr/bin/skink
)",
    1,
    run_install_units,
};

}  // namespace skink::cli
