// SPDX-License-Identifier: Apache-2.0
// Environment: --env and --env-file, in docker's form, apart from where values come from.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink::cli {

/// What a command line needs from outside itself; a test gives its own.
struct Surroundings {
  std::function<std::optional<std::string>(const std::string& name)> variable;
  std::function<Result<std::string>(const std::string& path)> read_file;
  std::string working_dir;  ///< absolute; relative paths on the command line start here
};

/// The process's own.
Surroundings real_surroundings();

/// "K=V" as it is; "K" with the value it has outside, or nothing when it has none. Errors: no name, a NUL.
Result<std::optional<std::string>> environment_entry(std::string_view text, const Surroundings& outside);

/// The entries of an --env-file: K=V or K on a line; blank lines and lines that begin with # are left out. Errors name
/// the line.
Result<std::vector<std::string>> environment_file(const std::string& path, const Surroundings& outside);

/// The files' entries, then the options' (which win), each in the order given.
Result<std::vector<std::string>> merge_environment(const std::vector<std::string>& files,
                                                   const std::vector<std::string>& entries,
                                                   const Surroundings& outside);

/// A path of the command line made absolute.
std::string absolute_path(std::string_view path, const Surroundings& outside);

}  // namespace skink::cli
