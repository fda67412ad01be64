// SPDX-License-Identifier: Apache-2.0
// Attach: a container in the foreground, and what people are told when it ends badly.
#pragma once

#include <string>
#include <string_view>

#include "cli/context.h"

namespace skink::cli {

struct Foreground {
  std::string id;
  std::string name;
  AttachOptions attach;
  bool removed_at_end = false;  ///< --rm: what it wrote is gone with it
};

/// Starts a container attached; the exit status that skink ends with. Tells on standard error why it could not be
/// started or, where that can be seen, why it failed.
int run_in_foreground(Context& context, Engine& engine, const Foreground& foreground);

/// The same for one that was made a moment ago, which is removed again when it cannot be started.
int run_new_container(Context& context, Engine& engine, const Foreground& foreground, bool detach);

/// Tells why a program could not be launched: 127 or 126 when it is missing or cannot be executed, else 125.
int launch_failure(Context& context, const Error& error);

/// Docker's: "ctrl-p,ctrl-q" as bytes.
inline constexpr std::string_view kUsualDetachKeys = "\x10\x11";
/// Letters and ctrl-a to ctrl-z, ctrl-@ and ctrl-[ to ctrl-_, with commas between; "" for none.
Result<std::string> parse_detach_keys(std::string_view text);

/// Docker refuses -i -t when standard input is no terminal; so do we. Nothing when it is fine.
Result<void> check_terminal(const AttachOptions& attach);

}  // namespace skink::cli
