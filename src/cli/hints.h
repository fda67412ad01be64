// SPDX-License-Identifier: Apache-2.0
// Hints: what people are told when a container failed for a reason that can be seen from outside.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/context.h"
#include "supervise/log_reader.h"

namespace skink::cli {

/// What a container wrote last, standard output and error together.
class LastOutput {
 public:
  /// Of a container that has run.
  static LastOutput of(const Engine& engine, const std::string& id);
  /// Of one that was just made: what it will have written can be read even when --rm has removed it by then.
  static LastOutput of_new(const Engine& engine, const std::string& id);
  /// The last lines; empty when there are none.
  std::string read();

 private:
  std::optional<supervise::LogReader> reader_;
};

/// Whether the last words of a program tell of a write to the read-only root (EROFS in the C library's words).
bool tells_of_read_only_root(std::string_view output);

/// Notes on standard error why the container's last run failed, where that can be seen: memory, the read-only root.
void explain_failure(Context& context, const Engine& engine, const std::string& id, LastOutput& output);

}  // namespace skink::cli
