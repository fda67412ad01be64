// SPDX-License-Identifier: Apache-2.0
// Environment: what a command line refers to outside itself (variables, files, device nodes), behind one seam.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace skink::cli {

/// What a command line needs from outside itself; a test gives its own.
struct Surroundings {
  std::function<std::optional<std::string>(const std::string& name)> variable;
  std::function<Result<std::string>(const std::string& path)> read_file;
  /// What a device node of the host is, and all of them for --privileged.
  std::function<Result<oci::Device>(const std::string& path)> device;
  std::function<std::vector<oci::Device>()> devices;
  std::string working_dir;  ///< absolute; relative paths on the command line start here
};

/// The process's own.
Surroundings real_surroundings();

/// The files' entries, then the options' (which win), each in the order given; "K" alone takes the value it has
/// outside, or is left out when it has none.
Result<std::vector<std::string>> merge_environment(const std::vector<std::string>& files,
                                                   const std::vector<std::string>& entries,
                                                   const Surroundings& outside);

/// A path of the command line made absolute.
std::string absolute_path(std::string_view path, const Surroundings& outside);

}  // namespace skink::cli
