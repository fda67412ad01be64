// SPDX-License-Identifier: Apache-2.0
// Seccomp files: profiles of --security-opt seccomp=FILE, in the OCI form or in docker's, which has conditions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/spec.h"
#include "plan/run_options.h"

namespace skink::cli {

/// The profile for a container with these capabilities (a mask) on this machine. Docker's conditions (includes,
/// excludes, archMap) are decided here; any other error names the member.
Result<oci::Seccomp> parse_seccomp_profile(std::string_view text, std::uint64_t capabilities);

/// The capabilities that the options ask for, as docker's conditions see them.
std::uint64_t capabilities_of(const plan::RunOptions& options);

}  // namespace skink::cli
