// SPDX-License-Identifier: Apache-2.0
// skink doctor: finds what is broken or left over, and repairs it.
#include "base/text.h"
#include "cli/doctor_json.h"
#include "cli/listing.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct DoctorCommand {
  bool fix = false;
  Format format;
};

constexpr Option<DoctorCommand> kDoctorOptions[] = {
    {{"fix", 0, nullptr, "repair what is certainly skink's and certainly unused"}, set_switch<&DoctorCommand::fix>},
    {{"format", 0, "FORMAT", "json, or a template such as '{{.kind}} {{.where}}'"},
     [](DoctorCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
};

// Two lines for people.
std::string words_for(const Finding& finding, bool fix) {
  std::string text = str(finding.level == Finding::Level::note ? "note: " : "", printable(finding.where), ": ",
                         printable(finding.what), '\n');
  if (finding.fixed) return text + "    fixed\n";
  if (finding.error) return text + str("    not fixed: ", printable(finding.error->text()), '\n');
  if (finding.advice.empty()) return text;
  return text + str("    ", printable(finding.advice), fix && finding.fixable ? " (not done)" : "", '\n');
}

int run_doctor(Context& context, Arguments args) {
  DoctorCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<DoctorCommand>(context, kDoctorOptions, args, command, none, {0, 0})) return *status;
  const auto findings = Engine::diagnose(context.directories(), command.fix);
  if (!findings) return context.fail(findings.error(), kOwnFailure);
  bool left = false, any = false;
  std::vector<Item> items;
  for (const Finding& finding : *findings) {
    any = any || finding.level == Finding::Level::problem;
    left = left || (finding.level == Finding::Level::problem && !finding.fixed);
    const oci::Json json = finding_json(finding);
    items.push_back({json, json, {finding.kind, printable(finding.where), printable(finding.what)}});
    if (command.format.kind == Format::Kind::table) context.out().print(words_for(finding, command.fix));
  }
  const int status = left ? 1 : 0;
  if (command.format.kind == Format::Kind::table) {
    if (!any) context.say("nothing is wrong");
    return status;
  }
  auto text = render_list(command.format, {"KIND", "WHERE", "WHAT"}, items);
  if (!text) return context.fail(text.error().context("--format"), kOwnFailure);
  context.out().print(*text);
  return status;
}

}  // namespace

oci::Json finding_json(const Finding& finding) {
  oci::Json json{{"kind", finding.kind},     {"level", finding.level == Finding::Level::note ? "note" : "problem"},
                 {"where", finding.where},   {"what", finding.what},
                 {"advice", finding.advice}, {"fixable", finding.fixable},
                 {"fixed", finding.fixed}};
  json["error"] = finding.error ? oci::Json(finding.error->text()) : oci::Json(nullptr);
  return json;
}

const Verb kDoctorVerb{
    "doctor",
    "[OPTIONS]",
    "Find what is broken or left over, and repair it",
    R"(Looks for what crashes, kills and other programs have left: containers without guard and
supervisor, half-made and half-removed ones, damaged records, state of a former boot, names
that lead nowhere, control groups, mounts, layers, temporary files, entries of older versions;
directories that others can open; full disks; a clock that was set back; and for what the
kernel or a limit keeps skink from. Each finding says what it is, why it is there, and the way
out. Nothing is changed without --fix.

With --fix what is certainly skink's and certainly unused is removed or repaired, under the
locks that the other verbs take. It is safe at any time. What another program made is never
touched, and a container is neither started nor removed: that is for skink heal and skink rm.

A note tells what this host lacks or what may belong to somebody else; it is no failure.
skink-json(5) describes the fields of --format json.

Exit status: 0 when nothing was found or all of it was fixed (notes aside); 1 when findings
are left; 125 when skink could not look, or for a wrong option.

Examples:
  skink doctor
  skink doctor --fix --format json
)",
    kOwnFailure,
    run_doctor,
};

}  // namespace skink::cli
