// SPDX-License-Identifier: Apache-2.0
#include "plan/mount_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mount.h>

namespace skink::plan {
namespace {

using testing::Contains;
using testing::Pair;

MountOptions parse(oci::Strings words, const std::string& type = "tmpfs") {
  oci::Mount mount;
  mount.type = type;
  mount.options = std::move(words);
  return parse_mount_options(mount);
}

TEST(ParseMountOptions, TurnsFlagsIntoAttributes) {
  const auto options = parse({"nosuid", "noexec", "nodev", "ro"});

  EXPECT_EQ(options.attr_set, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY);
  EXPECT_TRUE(options.params.empty());
}

TEST(ParseMountOptions, TheLastOfTwoContraryWordsWins) {
  const auto options = parse({"ro", "rw", "suid", "nosuid"});

  EXPECT_EQ(options.attr_set, MOUNT_ATTR_NOSUID);
  EXPECT_EQ(options.attr_clear, MOUNT_ATTR_RDONLY);
}

TEST(ParseMountOptions, AnAccessTimeModeReplacesTheOthers) {
  const auto options = parse({"noatime", "strictatime"});

  EXPECT_EQ(options.attr_set & MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME);
  EXPECT_EQ(options.attr_clear, MOUNT_ATTR__ATIME) << "the kernel wants the whole field cleared";
}

TEST(ParseMountOptions, RecursiveFormsAreKeptApart) {
  const auto options = parse({"rbind", "rro", "rnosuid"}, "bind");

  EXPECT_TRUE(options.bind);
  EXPECT_TRUE(options.recursive);
  EXPECT_EQ(options.attr_set, 0U);
  EXPECT_EQ(options.rec_set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
}

TEST(ParseMountOptions, ABindWithAWordHasNoOtherFlags) {
  const auto options = parse({"ro", "dev"}, "bind");

  EXPECT_TRUE(options.replaces_flags);
  EXPECT_EQ(options.attr_set, MOUNT_ATTR_RDONLY);
  EXPECT_EQ(options.attr_clear & (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC),
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  EXPECT_EQ(options.attr_clear & MOUNT_ATTR__ATIME, 0U) << "access times stay";
  EXPECT_EQ(options.named_clear, MOUNT_ATTR_NODEV);
}

TEST(ParseMountOptions, ABindKeepsItsSourcesFlagsWithoutAWordOrWhenItSaysSo) {
  EXPECT_FALSE(parse({"rbind", "rro", "rprivate"}, "bind").replaces_flags);
  EXPECT_FALSE(parse({"ro", "src-flags"}, "bind").replaces_flags);
  EXPECT_FALSE(parse({"bind", "remount", "ro"}, "none").replaces_flags);
}

TEST(ParseMountOptions, WhatItDoesNotKnowIsTheFileSystems) {
  const auto options = parse({"size=65536k", "mode=755", "noswap", "defaults"});

  EXPECT_EQ(options.params.size(), 3U);
  EXPECT_THAT(options.params, Contains(Pair("size", std::optional<std::string>("65536k"))));
  EXPECT_THAT(options.params, Contains(Pair("noswap", std::optional<std::string>())));
}

TEST(ParseMountOptions, KnowsPropagationWithAndWithoutTheTree) {
  const auto slave = parse({"rbind", "rslave"}, "bind");
  const auto shared = parse({"bind", "shared"}, "bind");

  EXPECT_EQ(slave.propagation, 1U << 19);
  EXPECT_TRUE(slave.propagation_recursive);
  EXPECT_EQ(shared.propagation, 1U << 20);
  EXPECT_FALSE(shared.propagation_recursive);
}

}  // namespace
}  // namespace skink::plan
