// SPDX-License-Identifier: Apache-2.0
// Compiled seccomp programs, kept by the content of their profile: compiling takes milliseconds, a launch should not.
#pragma once

#include <string_view>

#include "base/result.h"
#include "security/security.h"

namespace skink::launch {

/// The compiled profile, from the cache directory (private to us; -1: none) or compiled and put there. A file that is
/// damaged or is not of this profile is replaced.
Result<security::SeccompProgram> cached_seccomp(const oci::Seccomp& profile, int cache_fd);

/// Whether a file of the cache directory is an entry that another version of skink made, which this one never reads.
bool is_of_other_version(std::string_view entry);

}  // namespace skink::launch
