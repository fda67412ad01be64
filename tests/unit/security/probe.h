// SPDX-License-Identifier: Apache-2.0
// Probe: makes system calls on the real kernel under a compiled program, each in a child of its own.
#pragma once

#include <string>
#include <vector>

#include "oci/spec.h"
#include "security/security.h"

namespace skink::security {

enum class Entry { native, int80 };  ///< how the call is made; int80 only on x86_64

struct Call {
  long number = 0;
  long args[6] = {0, 0, 0, 0, 0, 0};
  Entry entry = Entry::native;
};

/// What became of a call: 0 or more for its value, -errno, or kKilledBy + signal.
inline constexpr long kKilledBy = 1L << 40;

/// Every call's answer under `program`. A child that a call kills is replaced for the next one.
std::vector<long> probe_all(const SeccompProgram& program, const std::vector<Call>& calls);
long probe(const SeccompProgram& program, const Call& call);

/// compile_seccomp, or a test failure.
SeccompProgram compiled(const oci::Seccomp& profile);

}  // namespace skink::security
