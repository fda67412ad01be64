// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>

#include "oci/spec.h"

namespace skink::oci {
namespace {

TEST(CapabilityNumber, TakesNamesInAnyCaseWithAndWithoutPrefix) {
  for (const char* name : {"CAP_NET_ADMIN", "cap_net_admin", "NET_ADMIN", "net_admin", "Cap_Net_Admin"})
    EXPECT_EQ(capability_number(name), CAP_NET_ADMIN) << name;
  for (const char* name : {"", "CAP_", "CAP_NET", "CAP_NET_ADMIN ", "CAP_CAP_NET_ADMIN", "ALL", "41"})
    EXPECT_EQ(capability_number(name), -1) << name;
}

TEST(CapabilityName, IsTheInverse) {
  for (int i = 0; i < capability_count(); ++i) EXPECT_EQ(capability_number(capability_name(i)), i);
  EXPECT_EQ(capability_name(-1), "");
  EXPECT_EQ(capability_name(capability_count()), "");
  EXPECT_EQ(capability_name(CAP_LAST_CAP), "CAP_CHECKPOINT_RESTORE");
  EXPECT_EQ(capability_number("CAP_SYS_ADMIN"), CAP_SYS_ADMIN);
  EXPECT_EQ(capability_number("CAP_BPF"), CAP_BPF);
}

TEST(RlimitNumber, KnowsEveryLimitOfTheKernel) {
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
    ASSERT_NE(rlimit_name(resource), "") << resource;
    EXPECT_EQ(rlimit_number(rlimit_name(resource)), resource);
  }
  EXPECT_EQ(rlimit_number("nofile"), RLIMIT_NOFILE);
  EXPECT_EQ(rlimit_number("RLIMIT_MEMLOCK"), RLIMIT_MEMLOCK);
  EXPECT_EQ(rlimit_number("RLIMIT_NOPE"), -1);
  EXPECT_EQ(rlimit_name(RLIM_NLIMITS), "");
}

}  // namespace
}  // namespace skink::oci
