// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "security/security.h"

namespace skink::security {
namespace {

constexpr std::uint64_t bit(unsigned capability) { return std::uint64_t{1} << capability; }

TEST(DefaultCapabilities, AreDockersWithoutRawSockets) {
  // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot mknod audit_write setfcap
  EXPECT_EQ(default_capabilities(), 0xa80405fbU & ~bit(CAP_NET_RAW));
}

TEST(AllCapabilities, AreThoseThatTheKernelHasAndWeCanHandOn) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line) && !line.starts_with("CapPrm:")) {
  }

  EXPECT_EQ(all_capabilities(), std::stoull(line.substr(8), nullptr, 16));
}

TEST(HostMaskedPaths, AreDirectoriesOfCpusThatExist) {
  for (const std::string& path : host_masked_paths()) {
    EXPECT_TRUE(path.starts_with("/sys/devices/system/cpu/cpu")) << path;
    EXPECT_EQ(::access(path.c_str(), F_OK), 0) << path;
  }
}

}  // namespace
}  // namespace skink::security
