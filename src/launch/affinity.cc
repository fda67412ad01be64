// SPDX-License-Identifier: Apache-2.0
#include "launch/affinity.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"

namespace skink::launch {
namespace {

// The raw call: a cpu_set_t ends at 1024 CPUs, the kernel does not.
constexpr unsigned kMostCpus = 8192;
constexpr unsigned kWordBits = 8 * sizeof(unsigned long);

long set_mask(const CpuMask& mask) {
  return ::syscall(SYS_sched_setaffinity, 0, mask.size() * sizeof(unsigned long), mask.data());
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

Result<CpuMask> parse_cpus(std::string_view list, std::string_view path) {
  CpuMask mask(kMostCpus / kWordBits);
  for (const auto piece : split(list, ',')) {
    const auto range = split_once(piece, '-');
    const auto first = parse_int<unsigned>(trimmed(range ? range->first : piece));
    const auto last = range ? parse_int<unsigned>(trimmed(range->second)) : first;
    if (!first || !last || *first > *last || *last >= kMostCpus)
      return Error::make(Code::invalid_config, path, ": ", quoted(list), " is not a list of CPUs such as 0-3,7");
    for (unsigned cpu = *first; cpu <= *last; ++cpu) mask[cpu / kWordBits] |= 1UL << (cpu % kWordBits);
  }
  return mask;
}

CpuMask all_cpus() { return CpuMask(kMostCpus / kWordBits, ~0UL); }

Result<void> set_own_affinity(const std::string& list, std::string_view path) {
  if (set_mask(TRY(parse_cpus(list, path))) == 0) return {};
  if (errno == EINVAL)
    return Error::make(Code::invalid_config, path, ": none of the CPUs ", quoted(list), " is there for skink");
  return Error::from_errno(errno, path, ": sched_setaffinity");
}

KeptAffinity::KeptAffinity() : mask_(kMostCpus / kWordBits) {
  if (::syscall(SYS_sched_getaffinity, 0, mask_.size() * sizeof(unsigned long), mask_.data()) < 0) mask_.clear();
}

KeptAffinity::~KeptAffinity() {
  if (!mask_.empty()) (void)set_mask(mask_);
}

}  // namespace skink::launch
