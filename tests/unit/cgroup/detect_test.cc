// SPDX-License-Identifier: Apache-2.0
#include "cgroup/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skink::cgroup {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kV2 =
    "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "30 21 0:26 / /sys rw - sysfs sysfs rw\n"
    "31 30 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

constexpr std::string_view kHybrid =
    "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "31 21 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

std::vector<std::string> points(const Host& host) {
  std::vector<std::string> out;
  for (const Hierarchy& one : host.hierarchies) out.push_back(one.mount_point + "=" + one.controllers);
  return out;
}

TEST(ParseHost, KnowsAUnifiedHost) {
  const auto host = parse_host(kV2);
  ASSERT_TRUE(host) << host.error().text();
  EXPECT_EQ(host->layout, Layout::v2);
  EXPECT_THAT(points(*host), ::testing::ElementsAre("/sys/fs/cgroup="));
  EXPECT_TRUE(host->hierarchies[0].unified);
}

TEST(ParseHost, TakesCoMountedControllersAsOneHierarchyAndNamedOnesToo) {
  const auto host = parse_host(kHybrid);
  ASSERT_TRUE(host);
  EXPECT_EQ(host->layout, Layout::hybrid);
  EXPECT_THAT(points(*host),
              ::testing::ElementsAre("/sys/fs/cgroup/cpu,cpuacct=cpu,cpuacct", "/sys/fs/cgroup/memory=memory",
                                     "/sys/fs/cgroup/systemd=name=systemd", "/sys/fs/cgroup/unified="));
}

TEST(ParseHost, CallsAHostWithoutAUnifiedHierarchyV1) {
  const auto host = parse_host("21 1 8:1 / / rw - ext4 a rw\n33 21 0:30 / /cg/memory rw - cgroup cgroup rw,memory\n");
  ASSERT_TRUE(host);
  EXPECT_EQ(host->layout, Layout::v1);
}

TEST(ParseHost, LeavesOutWhatAnotherMountCovers) {
  const auto host = parse_host(std::string(kHybrid) + "40 31 0:32 / /sys/fs/cgroup rw - cgroup2 none rw\n");
  ASSERT_TRUE(host);
  EXPECT_EQ(host->layout, Layout::v2);
  EXPECT_THAT(points(*host), ::testing::ElementsAre("/sys/fs/cgroup="));
}

TEST(ParseHost, LeavesOutHierarchiesInSomebodysRootFileSystem) {
  const auto host = parse_host(
      "21 1 8:1 / / rw - ext4 a rw\n30 21 0:29 / /sys/fs/cgroup rw - cgroup2 none rw\n"
      "50 21 0:40 /c /srv/root/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  ASSERT_TRUE(host);
  EXPECT_EQ(host->layout, Layout::v2);
  EXPECT_THAT(points(*host), ::testing::ElementsAre("/sys/fs/cgroup="));
}

TEST(ParseHost, LeavesOutAHierarchyThatAnOrdinaryMountCovers) {
  const auto host = parse_host(std::string(kHybrid) + "40 33 0:99 / /sys/fs/cgroup/memory rw - tmpfs none rw\n");
  ASSERT_TRUE(host);
  EXPECT_THAT(points(*host), ::testing::Not(::testing::Contains(HasSubstr("memory"))));
}

TEST(ParseHost, PrefersTheMountThatShowsTheWholeOfAHierarchy) {
  const auto host = parse_host(
      "21 1 8:1 / / rw - ext4 a rw\n"
      "32 21 0:30 /docker/1 /mnt/part rw - cgroup cgroup rw,memory\n"
      "33 21 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  ASSERT_TRUE(host);
  EXPECT_THAT(points(*host), ::testing::ElementsAre("/sys/fs/cgroup/memory=memory"));
}

TEST(ParseHost, WorksInAChrootWhoseRootIsNoMount) {
  const auto host = parse_host("31 30 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  ASSERT_TRUE(host) << host.error().text();
  EXPECT_EQ(host->layout, Layout::v2);
}

TEST(ParseHost, DecodesSpacesInMountPoints) {
  const auto host = parse_host("21 1 8:1 / / rw - ext4 a rw\n31 21 0:28 / /my\\040cgroup rw - cgroup2 none rw\n");
  ASSERT_TRUE(host);
  EXPECT_EQ(host->hierarchies[0].mount_point, "/my cgroup");
}

TEST(ParseHost, SaysSoWhenNoHierarchyIsMounted) {
  const auto host = parse_host("21 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n");
  ASSERT_FALSE(host);
  EXPECT_EQ(host.error().code(), Code::unsupported);
}

constexpr std::string_view kOwnGroups = "5:memory:/a\n4:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/a\n";

TEST(MatchDirectories, KnowsHierarchiesByTheirNames) {
  const auto host = match_directories({{"unified", true}, {"systemd"}, {"memory"}, {"cpu,cpuacct"}}, kOwnGroups);
  ASSERT_TRUE(host);
  EXPECT_EQ(host->layout, Layout::hybrid);
  EXPECT_THAT(points(*host),
              ::testing::ElementsAre("/sys/fs/cgroup/systemd=name=systemd", "/sys/fs/cgroup/memory=memory",
                                     "/sys/fs/cgroup/cpu,cpuacct=cpu,cpuacct", "/sys/fs/cgroup/unified="));
  EXPECT_EQ(match_directories({{"memory"}}, kOwnGroups)->layout, Layout::v1);
}

TEST(MatchDirectories, LeavesOtherNamesToMountinfo) {
  EXPECT_FALSE(match_directories({{"memory"}, {"mine"}}, kOwnGroups));
  EXPECT_FALSE(match_directories({{"a", true}, {"b", true}}, kOwnGroups));
  EXPECT_FALSE(match_directories({}, kOwnGroups));
}

TEST(Locate, PutsAnAbsolutePathBelowEveryMountPoint) {
  const auto location = locate_below(*parse_host(kHybrid), "//skink///0123/", "");
  ASSERT_TRUE(location) << location.error().text();
  ASSERT_EQ(location->places.size(), 4U);
  for (const Place& place : location->places) EXPECT_EQ(place.path, "/skink/0123");
}

TEST(Locate, PutsARelativePathBelowTheCallersOwnGroupOfEachHierarchy) {
  const auto location =
      locate_below(*parse_host(kHybrid), "c1", "4:cpu,cpuacct:/a\n3:memory:/b/c\n1:name=systemd:/\n0::/user.slice/x\n");
  ASSERT_TRUE(location) << location.error().text();
  EXPECT_EQ(location->places[0].path, "/a/c1");
  EXPECT_EQ(location->places[1].path, "/b/c/c1");
  EXPECT_EQ(location->places[2].path, "/c1");
  EXPECT_EQ(location->places[3].path, "/user.slice/x/c1");
}

TEST(Locate, PutsARelativePathBesideTheCallersOwnGroupWhereV2IsAlone) {
  const Host host = *parse_host(kV2);
  EXPECT_EQ(locate_below(host, "c1", "0::/user.slice/x\n")->places[0].path, "/user.slice/c1");
  EXPECT_EQ(locate_below(host, "c1", "0::/x\n")->places[0].path, "/c1");
  EXPECT_EQ(locate_below(host, "c1", "0::/\n")->places[0].path, "/c1");
}

TEST(Locate, CountsTheOwnGroupFromTheGroupThatIsMounted) {
  const Host host = *parse_host("21 1 8:1 / / rw - ext4 a rw\n31 21 0:28 /docker/7 /sys/fs/cgroup rw - cgroup2 c rw\n");
  EXPECT_EQ(locate_below(host, "x", "0::/docker/7/a/b\n")->places[0].path, "/a/x");
  const auto outside = locate_below(host, "x", "0::/docker/77\n");
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().code(), Code::unsupported);
}

TEST(Locate, RefusesPathsThatLeadElsewhereOrNowhere) {
  const Host host = *parse_host(kV2);
  for (const std::string& path :
       {std::string("/../x"), std::string("a/../../b"), std::string("/a/./b"), std::string("/"), std::string(""),
        std::string("/a\nb"), std::string("/a\0b", 4), "/" + std::string(256, 'x')}) {
    const auto location = locate_below(host, path, "0::/\n");
    ASSERT_FALSE(location) << path;
    EXPECT_EQ(location.error().code(), Code::invalid_config);
    EXPECT_THAT(location.error().text(), HasSubstr("linux.cgroupsPath: "));
  }
}

TEST(OwnGroup, IsThePathOfTheLineForExactlyTheseControllers) {
  constexpr std::string_view kGroups =
      "3:memory:/skink/1/m\n2:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/skink/1/init.scope\n";
  EXPECT_EQ(own_group(kGroups, ""), "/skink/1/init.scope");
  EXPECT_EQ(own_group(kGroups, "cpu,cpuacct"), "/c");
  EXPECT_EQ(own_group(kGroups, "name=systemd"), "/s");
  EXPECT_FALSE(own_group(kGroups, "cpu"));
  EXPECT_FALSE(own_group("", ""));
}

TEST(Detect, ReadsThisHost) {
  const auto host = detect();
  if (!host) GTEST_SKIP() << host.error().text();
  EXPECT_FALSE(host->hierarchies.empty());
  EXPECT_TRUE(locate(*host, "relative"));
}

}  // namespace
}  // namespace skink::cgroup
