// SPDX-License-Identifier: Apache-2.0
// Running in the foreground, and the words after a bad end.
#include "cli/attach.h"

#include <unistd.h>

#include "base/text.h"
#include "cli/hints.h"
#include "launch/launch.h"

namespace skink::cli {

namespace {

// A launch that failed must leave nothing; a container that ran once is the user's, with its logs.
bool never_ran(const Engine& engine, const std::string& id) {
  const auto info = engine.info(id);
  return info && info->started_ns == 0 && info->restarts == 0;
}

}  // namespace

int launch_failure(Context& context, const Error& error) { return context.fail(error, launch::exit_status_of(error)); }

Result<void> check_terminal(const AttachOptions& attach) {
  if (attach.tty && attach.stdin_open && ::isatty(0) == 0)
    return Error::make(Code::invalid_config, "-t: standard input is not a terminal; leave -t or -i away");
  return {};
}

Result<std::string> parse_detach_keys(std::string_view text) {
  std::string keys;
  if (text.empty()) return keys;
  for (const auto word : split(text, ',')) {
    constexpr std::string_view kControl = "ctrl-";
    constexpr char kControlBits = 0x1f;
    const char last = word.empty() ? '\0' : word.back();
    const bool letter = (last >= 'a' && last <= 'z') || (last >= '@' && last <= '_');
    if (word.size() == 1) keys += last;
    else if (word.size() == kControl.size() + 1 && word.starts_with(kControl) && letter)
      keys += static_cast<char>(last & kControlBits);
    else return Error::make(Code::invalid_config, quoted(text), ": expected keys such as ctrl-p,ctrl-q");
  }
  return keys;
}

int run_in_foreground(Context& context, Engine& engine, const Foreground& foreground) {
  auto status = engine.start_attached(foreground.id, foreground.attach);
  if (!status) return launch_failure(context, status.error());
  if (*status != 0) {
    LastOutput output = LastOutput::of(engine, foreground.id);
    explain_failure(context, engine, foreground.id, output);
  }
  return *status;
}

int run_new_container(Context& context, Engine& engine, const Foreground& foreground, bool detach) {
  std::optional<Error> failure;
  int exit_status = 0;
  LastOutput output;
  if (!detach && foreground.removed_at_end) output = LastOutput::of_new(engine, foreground.id);
  if (detach) {
    if (auto started = engine.start(foreground.id); !started) failure = std::move(started).error();
  } else if (auto status = engine.start_attached(foreground.id, foreground.attach); !status) {
    failure = std::move(status).error();
  } else {
    exit_status = *status;
  }
  if (!failure) {
    if (exit_status != 0) {
      if (!foreground.removed_at_end) output = LastOutput::of(engine, foreground.id);
      explain_failure(context, engine, foreground.id, output);
    }
    return exit_status;
  }
  const int status = launch_failure(context, *failure);
  if (never_ran(engine, foreground.id))
    if (auto removed = engine.remove(foreground.id, true); !removed && removed.error().code() != Code::not_found)
      context.fail(removed.error());
  return status;
}

}  // namespace skink::cli
