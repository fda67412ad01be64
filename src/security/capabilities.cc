// SPDX-License-Identifier: Apache-2.0
// Capability sets: what a container gets by default, and what this host has to give; and what it has to hide.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "security/security.h"
#include "sys/descriptors.h"
#include "sys/file.h"

namespace skink::security {
namespace {

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

std::uint64_t permitted_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  if (::syscall(SYS_capget, &header, data) != 0) return ~std::uint64_t{0};
  return data[0].permitted | static_cast<std::uint64_t>(data[1].permitted) << 32;
}

std::string lacking_here(const Error& error) {
  if (sys::is_want_of_descriptors(error)) return sys::descriptor_limit(error);
  if (error.errnum() == ENOSYS)
    return "; this kernel has not the call (Linux 5.14 or newer is needed), or a filter around this process refuses it";
  const bool denied = error.errnum() == EPERM || error.errnum() == EACCES;
  if (!denied || ::geteuid() != 0) return {};
  constexpr std::uint64_t kPlaces = bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH);
  constexpr std::uint64_t kSteps = bit(CAP_SYS_ADMIN) | bit(CAP_NET_ADMIN) | bit(CAP_SETPCAP) | bit(CAP_SETUID) |
                                   bit(CAP_SETGID) | bit(CAP_SYS_CHROOT) | bit(CAP_MKNOD);
  const std::uint64_t missing = (error.errnum() == EACCES ? kPlaces : kSteps) & ~permitted_capabilities();
  return missing == 0 ? std::string() : str("; this process has not ", oci::capability_names(missing));
}

std::uint64_t default_capabilities() { return kDefault; }

std::uint64_t all_capabilities() {
  // Without /proc: what the headers knew. A capability that the kernel has beyond them is then not given to anybody.
  const unsigned last = last_capability().value_or(CAP_LAST_CAP);
  const std::uint64_t known = last == kMost ? ~std::uint64_t{0} : bit(last + 1) - 1;
  return known & permitted_capabilities();
}

std::vector<std::string> host_masked_paths() {
  std::vector<std::string> paths;
  const long cpus = ::sysconf(_SC_NPROCESSORS_CONF);
  for (long cpu = 0; cpu < cpus; ++cpu) {
    std::string path = str("/sys/devices/system/cpu/cpu", cpu, "/thermal_throttle");
    if (::access(path.c_str(), F_OK) == 0) paths.push_back(std::move(path));
  }
  return paths;
}

}  // namespace skink::security
