// SPDX-License-Identifier: Apache-2.0
#include "supervise/standby.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skink::supervise {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

oci::Spec plain() {
  oci::Spec spec;
  spec.linux.namespaces = {{oci::NamespaceType::pid, ""}, {oci::NamespaceType::mount, ""}};
  return spec;
}

TEST(Standby, IsForContainersWhoseNextRunDependsOnNothingOfTheMoment) {
  EXPECT_THAT(why_no_standby(plain(), false), IsEmpty());
  oci::Spec spec = plain();
  spec.mounts = {{.destination = "/sys/fs/cgroup", .type = "cgroup", .source = "cgroup", .options = {"ro"}}};
  spec.hooks.poststop.emplace_back();
  EXPECT_THAT(why_no_standby(spec, false), IsEmpty());
}

TEST(Standby, IsRefusedWithTheReason) {
  EXPECT_THAT(why_no_standby(plain(), true), HasSubstr("terminal"));
  EXPECT_THAT(why_no_standby(oci::Spec{}, false), HasSubstr("pid namespace"));
  oci::Spec spec = plain();
  spec.linux.namespaces.push_back({oci::NamespaceType::network, "/run/netns/x"});
  EXPECT_THAT(why_no_standby(spec, false), HasSubstr("names namespaces"));
  spec = plain();
  spec.mounts = {{.destination = "/sys/fs/cgroup", .type = "cgroup2", .source = "cgroup2", .options = {"rw"}}};
  EXPECT_THAT(why_no_standby(spec, false), HasSubstr("control groups"));
  spec = plain();
  spec.hooks.start_container.emplace_back();
  EXPECT_THAT(why_no_standby(spec, false), HasSubstr("hooks"));
  spec = plain();
  spec.linux.net_devices["eth0"] = "eth0";
  EXPECT_THAT(why_no_standby(spec, false), HasSubstr("network devices"));
  spec = plain();
  spec.linux.seccomp.emplace().listener_path = "/run/agent.sock";
  EXPECT_THAT(why_no_standby(spec, false), HasSubstr("seccomp listener"));
}

}  // namespace
}  // namespace skink::supervise
