// SPDX-License-Identifier: Apache-2.0
// Capability sets: what a container gets by default, and what this kernel has.
#include <fcntl.h>
#include <linux/capability.h>

#include "base/text.h"
#include "security/security.h"
#include "sys/file.h"

namespace skink::security {
namespace {

constexpr std::uint64_t bit(unsigned capability) { return std::uint64_t{1} << capability; }

// docker's default set but for CAP_NET_RAW: raw sockets forge addresses of others on the same network (attack A92,
// CVE-2020-13401), and ping works without them.
constexpr std::uint64_t kDefault = bit(CAP_AUDIT_WRITE) | bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_FOWNER) |
                                   bit(CAP_FSETID) | bit(CAP_KILL) | bit(CAP_MKNOD) | bit(CAP_NET_BIND_SERVICE) |
                                   bit(CAP_SETFCAP) | bit(CAP_SETGID) | bit(CAP_SETPCAP) | bit(CAP_SETUID) |
                                   bit(CAP_SYS_CHROOT);

constexpr unsigned kMost = 63;

Result<unsigned> last_capability() {
  constexpr const char* kPath = "/proc/sys/kernel/cap_last_cap";
  const UniqueFd file = TRY(sys::open_at(AT_FDCWD, kPath, O_RDONLY));
  std::string text = TRY(sys::read_all(file.get(), 32, kPath));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const auto last = parse_int<unsigned>(text);
  if (!last || *last > kMost) return Error::make(Code::internal, kPath, ": ", quoted(text), " is not a capability");
  return *last;
}

}  // namespace

std::uint64_t default_capabilities() { return kDefault; }

std::uint64_t all_capabilities() {
  // Without /proc: what the headers knew. A capability that the kernel has beyond them is then not given to anybody.
  const unsigned last = last_capability().value_or(CAP_LAST_CAP);
  return last == kMost ? ~std::uint64_t{0} : bit(last + 1) - 1;
}

}  // namespace skink::security
