// SPDX-License-Identifier: Apache-2.0
// skink logs: what a container wrote.
#include "base/text.h"
#include "cli/hints.h"
#include "cli/times.h"
#include "cli/verbs.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

constexpr Option<LogOptions> kLogsOptions[] = {
    {{"follow", 'f', nullptr, "go on with what is written from now on"}, set_switch<&LogOptions::follow>},
    {{"tail", 'n', "N", "the last N lines only; all is the default"},
     [](LogOptions& o, std::string_view v) -> Result<void> {
       o.tail = std::nullopt;
       if (v == "all") return {};
       o.tail = parse_int<std::uint64_t>(v);
       if (!o.tail) return Error::make(Code::invalid_config, quoted(v), " is neither a number nor all");
       return {};
     }},
    {{"since", 0, "T", "from then on: 10m (ago), 2026-11-23T03:34:23Z (no zone: UTC), Unix seconds"},
     [](LogOptions& o, std::string_view v) -> Result<void> {
       o.since_ns = TRY(parse_time(v, fs::now_ns()));
       return {};
     }},
    {{"until", 0, "T", "up to a time, in the same forms; --follow ends then, --tail counts back from it"},
     [](LogOptions& o, std::string_view v) -> Result<void> {
       o.until_ns = TRY(parse_time(v, fs::now_ns()));
       return {};
     }},
    {{"stream", 0, "stdout|stderr", "one of the two only"},
     [](LogOptions& o, std::string_view v) -> Result<void> {
       if (v != "stdout" && v != "stderr")
         return Error::make(Code::invalid_config, quoted(v), " is neither stdout nor stderr");
       o.out = v == "stdout";
       o.err = v == "stderr";
       return {};
     }},
    {{"format", 0, "json|cri", "an object a line (time, stream, log), or lines as Kubernetes' runtimes log them"},
     [](LogOptions& o, std::string_view v) -> Result<void> {
       if (v != "json" && v != "cri") return Error::make(Code::invalid_config, quoted(v), ": json and cri are there");
       o.json = v == "json";
       o.cri = v == "cri";
       return {};
     }},
    {{"timestamps", 't', nullptr, "the time in front of each line"}, set_switch<&LogOptions::timestamps>},
};

// Someone who reads the logs of a container that failed is told the way out where the cause is plain.
void hint_if_failed(Context& context, Engine& engine, const std::string& id) {
  const auto info = engine.info(id);
  if (info && info->phase != Phase::running && info->last_exit && info->last_exit->status != 0) {
    LastOutput output = LastOutput::of(engine, id);
    explain_failure(context, engine, id, output);
  }
}

int run_logs(Context& context, Arguments args) {
  LogOptions options;
  std::vector<std::string> names;
  if (auto status = read_arguments<LogOptions>(context, kLogsOptions, args, options, names, {1, 1})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  auto id = engine->resolve(names[0]);
  if (!id) return context.fail(id.error());
  if (auto written = engine->logs(*id, options); !written) {
    if (written.error().errnum() == EPIPE) return 0;
    return context.fail(written.error().context(names[0]));
  }
  hint_if_failed(context, *engine, *id);
  return 0;
}

}  // namespace

const Verb kLogsVerb{
    "logs",
    "[OPTIONS] CONTAINER",
    "Print what a container wrote",
    R"(Its standard output goes to standard output and its standard error to standard error, all
runs of the container in order. Where output is missing, as the disk was full or older output
is no longer kept, standard error says how much, a line that is cut ends, and the next whole
line follows; in JSON that is an object with "missing" (bytes) and "reason" instead of "log",
and the line before it has "partial". With --format cri all goes to standard output, a line
each as in TIME stdout F LINE; P stands for a part of a line, and binary bytes stay as they
are; the file of --log-opt cri may split long lines in other places. For one that failed on
the read-only root, the way out is told on standard error.

Exit status: 0; 1 on failure.

Examples:
  skink logs -f web
  skink logs --tail 20 --since 10m -t web
)",
    1,
    run_logs,
};

}  // namespace skink::cli
