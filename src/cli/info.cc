// SPDX-License-Identifier: Apache-2.0
// skink version and info: this program and this host.
#include <fcntl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/verbs.h"
#include "oci/spec.h"
#include "supervise/facilities.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

struct FormatCommand {
  Format format;
};

constexpr Option<FormatCommand> kInfoOptions[] = {
    {{"format", 'f', "FORMAT", "json, or a template"},
     [](FormatCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
};

// JSON, the template, or "Key: value" lines.
int print_facts(Context& context, const Format& format, const oci::Json& facts, const std::string& lines) {
  if (format.kind == Format::Kind::json) context.say(json_line(facts));
  else if (format.kind == Format::Kind::table) context.out().print(lines);
  else {
    auto line = format.lines->render(std::array<const oci::Json*, 1>{&facts});
    if (!line) return context.fail(line.error().context("--format"));
    context.say(*line);
  }
  return 0;
}

struct Kernel {
  std::string release = "unknown", machine = "unknown";
};

Kernel kernel() {
  utsname name{};
  if (::uname(&name) != 0) return {};
  return {name.release, name.machine};
}

// ---- version ----

int run_version(Context& context, Arguments args) {
  FormatCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<FormatCommand>(context, kInfoOptions, args, command, none, {0, 0})) return *status;
  const std::string platform = oci::to_text(oci::host_platform());
  oci::Json facts = oci::Json::object();
  facts["version"] = SKINK_VERSION;
  facts["spec"] = oci::kSpecVersion;
  facts["platform"] = platform;
  facts["kernel"] = kernel().release;
  const std::string lines = str("skink      " SKINK_VERSION "\nOCI spec   ", oci::kSpecVersion, "\nplatform   ",
                                platform, "\nkernel     ", printable(kernel().release), '\n');
  return print_facts(context, command.format, facts, lines);
}

// ---- info ----

std::string_view layout_text(cgroup::Layout layout) {
  switch (layout) {
    case cgroup::Layout::v1: return "v1";
    case cgroup::Layout::v2: return "v2";
    case cgroup::Layout::hybrid: return "hybrid";
  }
  return "unknown";
}

oci::Json cgroup_facts() {
  oci::Json facts = oci::Json::object();
  const auto host = cgroup::detect();
  if (!host) {
    facts["layout"] = "none";
    return facts;
  }
  facts["layout"] = layout_text(host->layout);
  facts["hierarchies"] = oci::Json::array();
  for (const auto& hierarchy : host->hierarchies)
    facts["hierarchies"].push_back(
        {{"path", hierarchy.mount_point}, {"controllers", hierarchy.unified ? "unified" : hierarchy.controllers}});
  return facts;
}

oci::Json container_counts(const std::vector<ContainerInfo>& containers) {
  oci::Json counts = oci::Json::object();
  counts["total"] = containers.size();
  for (const char* state : {"created", "running", "paused", "restarting", "exited", "unknown", "corrupt"})
    counts[state] = 0;
  for (const auto& container : containers) {
    const std::string state(container.problem.empty() ? to_text(container.phase) : std::string_view("corrupt"));
    counts[state] = oci::get_int(counts, state) + 1;
  }
  return counts;
}

// What is missing, and what is done instead; nothing without a store that can be opened.
std::vector<supervise::Facility> facilities_of(const Context& context) {
  const auto store = sys::open_at(AT_FDCWD, context.directories().store.c_str(), O_RDONLY | O_DIRECTORY);
  return store ? supervise::find_facilities(store->get()) : std::vector<supervise::Facility>{};
}

std::string facility_lines(const std::vector<supervise::Facility>& facilities) {
  std::string found, missing;
  for (const auto& facility : facilities) {
    if (facility.is_there) found += str(found.empty() ? "" : " ", facility.name);
    else
      missing += str(missing.empty() ? "missing      " : "             ", facility.name, ": ", facility.without, '\n');
  }
  return str("facilities   ", found.empty() ? "none" : found, '\n', missing);
}

Result<oci::Json> collect_facts(Context& context) {
  Engine engine = TRY(context.open_engine());
  const auto containers = TRY(engine.list());
  const auto images = TRY(engine.images().list());
  struct sysinfo host {};
  ::sysinfo(&host);
  oci::Json facts = oci::Json::object();
  facts["version"] = SKINK_VERSION;
  facts["store"] = context.directories().store;
  facts["run"] = context.directories().run;
  facts["containers"] = container_counts(containers);
  facts["images"] = images.size();
  facts["kernel"] = kernel().release;
  facts["platform"] = oci::to_text(oci::host_platform());
  facts["cpus"] = ::sysconf(_SC_NPROCESSORS_ONLN);
  facts["memory"] = static_cast<std::int64_t>(host.totalram) * static_cast<std::int64_t>(host.mem_unit);
  facts["cgroup"] = cgroup_facts();
  return facts;
}

std::string info_lines(const oci::Json& facts) {
  const auto text = [&](const char* key) { return printable(oci::get_string(facts, key)); };
  const oci::Json& counts = *oci::find(facts, "containers");
  const oci::Json& groups = *oci::find(facts, "cgroup");
  std::string lines = str("skink        ", text("version"), "\nstore        ", text("store"), "\nrun          ",
                          text("run"), "\ncontainers   ", oci::get_int(counts, "total"));
  for (const auto& [state, number] : counts.items())
    if (state != "total" && number != 0) lines += str(", ", oci::get_int(counts, state), ' ', state);
  lines += str("\nimages       ", oci::get_int(facts, "images"), "\nkernel       ", text("kernel"), "\nplatform     ",
               text("platform"), "\nprocessors   ", oci::get_int(facts, "cpus"), "\nmemory       ",
               human_limit(oci::get_int(facts, "memory")), "\ncgroups      ", oci::get_string(groups, "layout"), '\n');
  if (const oci::Json* hierarchies = oci::find(groups, "hierarchies"))
    for (const auto& hierarchy : *hierarchies)
      lines += str("             ", printable(oci::get_string(hierarchy, "path")), "  ",
                   printable(oci::get_string(hierarchy, "controllers")), '\n');
  return lines;
}

int run_info(Context& context, Arguments args) {
  FormatCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<FormatCommand>(context, kInfoOptions, args, command, none, {0, 0})) return *status;
  auto facts = collect_facts(context);
  if (!facts) return context.fail(facts.error());
  // Order: the store is there by now.
  const auto facilities = facilities_of(context);
  (*facts)["facilities"] = oci::Json::object();
  for (const auto& facility : facilities) (*facts)["facilities"][facility.name] = facility.is_there;
  return print_facts(context, command.format, *facts, info_lines(*facts) + facility_lines(facilities));
}

}  // namespace

const Verb kVersionVerb{
    "version",
    "[OPTIONS]",
    "Print the version of skink and of what it follows",
    R"(Works without root. skink-json(5) describes the fields of --format json.

Exit status: 0; 1 on failure.
)",
    1,
    run_version,
};

const Verb kInfoVerb{
    "info",
    "[OPTIONS]",
    "Print facts about this host, the store and its containers",
    R"(Among them what newer kernels have and skink can do without: facilities that this kernel has,
and of those that are missing what is done instead. skink-json(5) describes the fields of
--format json.

Exit status: 0; 1 on failure.

Example:
  skink info --format '{{.cgroup.layout}}'
)",
    1,
    run_info,
};

}  // namespace skink::cli
