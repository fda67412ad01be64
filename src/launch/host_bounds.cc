// SPDX-License-Identifier: Apache-2.0
#include "launch/host_bounds.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "base/text.h"
#include "sys/file.h"

namespace skink::launch {

Result<void> check_host_bounds(const oci::Process& process) {
  constexpr std::uint64_t kUsual = 1'048'576;  // what it is by default: seldom is there anything to look up
  for (std::size_t i = 0; i < process.rlimits.size(); ++i) {
    const auto& limit = process.rlimits[i];
    if (limit.resource != RLIMIT_NOFILE || limit.hard <= kUsual) continue;
    const auto file = sys::open_at(AT_FDCWD, "/proc/sys/fs/nr_open", O_RDONLY);
    if (!file) continue;
    std::string text = sys::read_all(file->get(), 64, "nr_open").value_or("");
    while (text.ends_with('\n')) text.pop_back();
    const auto most = parse_int<std::uint64_t>(text);
    if (most && limit.hard > *most)
      return Error::make(Code::invalid_config, "process.rlimits[", i, "].hard: ", limit.hard, " is above ", *most,
                         ", the most that this host allows for RLIMIT_NOFILE (sysctl fs.nr_open)");
  }
  return {};
}

}  // namespace skink::launch
