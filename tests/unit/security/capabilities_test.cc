// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/capability.h>

#include "security/security.h"

namespace skink::security {
namespace {

constexpr std::uint64_t bit(unsigned capability) { return std::uint64_t{1} << capability; }

TEST(DefaultCapabilities, AreDockersWithoutRawSockets) {
  // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot mknod audit_write setfcap
  EXPECT_EQ(default_capabilities(), 0xa80405fbU & ~bit(CAP_NET_RAW));
}

TEST(AllCapabilities, ReachFromTheFirstToTheLastOfTheKernel) {
  const std::uint64_t all = all_capabilities();

  EXPECT_EQ(all & (all + 1), 0U) << "no gaps";
  EXPECT_NE(all & bit(CAP_CHECKPOINT_RESTORE), 0U);
  EXPECT_EQ(all & default_capabilities(), default_capabilities());
}

}  // namespace
}  // namespace skink::security
