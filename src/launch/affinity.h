// SPDX-License-Identifier: Apache-2.0
// CPU affinity of a process that is being launched (process.execCPUAffinity).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace skink::launch {

/// As sched_setaffinity(2) takes it.
using CpuMask = std::vector<unsigned long>;

/// A list such as "0-3,7"; `path` names it in errors.
Result<CpuMask> parse_cpus(std::string_view list, std::string_view path);

/// Every CPU: the kernel makes of it those of the process's cpuset.
CpuMask all_cpus();

/// Lets this process run only on these CPUs; `path` names the list in errors.
Result<void> set_own_affinity(const std::string& list, std::string_view path);

/// This process's own affinity, put back at the end of the object's life.
class KeptAffinity {
 public:
  KeptAffinity();
  ~KeptAffinity();
  KeptAffinity(const KeptAffinity&) = delete;
  KeptAffinity& operator=(const KeptAffinity&) = delete;

 private:
  CpuMask mask_;
};

}  // namespace skink::launch
