// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "launch/sources.h"

namespace skink::launch {
namespace {

plan::MountStep bind(const std::string& source, const std::string& destination) {
  plan::MountStep step;
  step.kind = plan::MountKind::tree;
  step.source = source;
  step.destination = destination;
  step.flags = plan::kMountOfHost;
  return step;
}

plan::MountStep found(const std::string& source, const std::string& destination,
                      const std::string& root = "/b/./rootfs/", const std::string& resolved = "/real/root") {
  plan::LaunchPlan plan;
  plan.mounts.push_back(bind(source, destination));
  find_inside(plan, root, resolved);
  return plan.mounts[0];
}

TEST(FindInside, ASourceBelowTheRootIsOfTheRoot) {
  const auto step = found("/b/rootfs//mnt/./x", "/m");

  EXPECT_EQ(step.source, "/mnt/x");
  EXPECT_EQ(step.flags, plan::kMountOfRoot);
}

TEST(FindInside, TheRootIsAlsoKnownByItsRealName) {
  EXPECT_EQ(found("/real/root/x", "/real/root/y").source, "/x");
  EXPECT_EQ(found("/real/root/x", "/real/root/y").destination, "/y");
  EXPECT_EQ(found("/b/rootfs", "/m").source, "/");
}

TEST(FindInside, WhatIsBesideItIsTheHosts) {
  for (const std::string path : {"/b/rootfs2/x", "/b", "/b/rootfs/../x", "relative", ""}) {
    EXPECT_EQ(found(path, "/m").source, path);
    EXPECT_EQ(found(path, "/m").flags, plan::kMountOfHost);
  }
}

TEST(FindInside, OfARootThatIsTheHostsOwnNothingIsInside) {
  EXPECT_EQ(found("/etc", "/m", "/", "/").flags, plan::kMountOfHost);
}

TEST(FindInside, AnIdmappedSourceOfTheRootIsMappedByTheLauncher) {
  plan::LaunchPlan plan;
  plan.mounts.push_back(bind("/r/x", "/m"));
  plan.mounts[0].options.idmap = true;

  find_inside(plan, "/r", "/r");

  EXPECT_EQ(plan.mounts[0].flags, plan::kMountOfRoot | plan::kMountMapped);
}

}  // namespace
}  // namespace skink::launch
