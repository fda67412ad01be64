// SPDX-License-Identifier: Apache-2.0
// Making, limiting, joining and removing groups on the real hierarchies.
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kernel_fixture.h"

namespace skink::cgroup {
namespace {

using ::testing::HasSubstr;

TEST_F(KernelTest, MakesADirectoryOnEveryHierarchyAndRemovesThem) {
  make();
  for (const Place& one : location_.places) EXPECT_TRUE(exists(dir(one))) << dir(one);

  ASSERT_TRUE(Group::remove(location_, 1s));

  for (const Place& one : location_.places) EXPECT_FALSE(exists(dir(one))) << dir(one);
  EXPECT_TRUE(Group::remove(location_, 0s)) << "removing again is no error";
}

TEST_F(KernelTest, RemovesItsOwnParentWithTheLastGroupBelowIt) {
  other_ = *locate(host_, str("/skink/test-cg-", ::getpid()));
  ASSERT_TRUE(Group::create(*other_));
  ASSERT_TRUE(Group::remove(*other_, 1s));
  for (const Place& one : other_->places) {
    EXPECT_FALSE(exists(dir(one)));
    struct stat st {};
    const std::string parent = one.hierarchy.mount_point + "/skink";
    EXPECT_TRUE(::stat(parent.c_str(), &st) != 0 || st.st_nlink > 2) << parent << " is empty and still there";
  }
}

TEST_F(KernelTest, AFailedCreateTakesBackWhatItMade) {
  Location broken = location_;
  broken.places.push_back({{"/proc", "memory", false}, location_.places[0].path});
  const auto group = Group::create(broken);
  ASSERT_FALSE(group);
  EXPECT_THAT(group.error().text(), HasSubstr("/proc is no cgroup mount"));
  for (const Place& one : location_.places) EXPECT_FALSE(exists(dir(one))) << dir(one);
}

TEST_F(KernelTest, AParentThatItsMakerHasNotGivenProcessorsGetsThem) {
  const Place* const cpuset = place("cpuset");
  if (cpuset == nullptr || cpuset->hierarchy.unified) GTEST_SKIP() << "no cpuset hierarchy of cgroup v1";
  ASSERT_EQ(::mkdir(dir(*cpuset).c_str(), 0755), 0);  // as its maker would be caught in the middle
  other_ = *locate(host_, str("/skink-test-cg-", ::getpid(), "/container"));

  auto group = Group::create(*other_);

  ASSERT_TRUE(group) << group.error().text();
  (void)member(*group);
  EXPECT_THAT(text("cpuset", "container/cpuset.mems"), ::testing::Optional(::testing::Not("")));
}

TEST_F(KernelTest, SurvivesOthersRemovingTheSharedParentAllTheTime) {
  constexpr int kWorkers = 4, kRounds = 40;
  std::vector<pid_t> workers;
  for (int worker = 0; worker < kWorkers; ++worker)
    workers.push_back(child([&] {
      const Location mine = *locate(host_, str("/skink/test-cg-", ::getpid()));
      for (int round = 0; round < kRounds; ++round) {
        const auto made = Group::create(mine);
        const auto removed = Group::remove(mine, 5s);
        if (made && removed) continue;
        const std::string words = (made ? removed.error() : made.error()).text() + "\n";
        (void)!::write(2, words.data(), words.size());
        ::_exit(1);
      }
    }));
  for (const pid_t worker : workers) EXPECT_EQ(reap_child(worker), 0);
}

TEST_F(KernelTest, PutsAProcessIntoEveryHierarchy) {
  Group group = make();
  const pid_t pid = member(group);
  std::string groups;
  ASSERT_EQ(read_control(AT_FDCWD, str("/proc/", pid, "/cgroup").c_str(), groups), 0);
  for (const Place& one : location_.places)
    EXPECT_THAT(groups, HasSubstr(":" + one.hierarchy.controllers + ":" + one.path));
  EXPECT_THAT(*group.processes(), ::testing::ElementsAre(pid));
}

TEST_F(KernelTest, SaysThatAProcessIsGone) {
  Group group = make();
  const pid_t pid = spawn([] {});
  reap(pid);
  const auto added = group.add(pid);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), Code::not_found);
}

TEST_F(KernelTest, RefusesAGroupThatHasProcesses) {
  Group group = make();
  member(group);
  const auto again = Group::create(location_);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::busy);
  EXPECT_THAT(again.error().text(), HasSubstr("exists and has processes"));
  EXPECT_EQ(group.processes()->size(), 1U) << "and leaves it alone";
}

TEST_F(KernelTest, MakesALeftoverOfItsOwnAnewWithoutItsLimits) {
  if (place("pids") == nullptr) GTEST_SKIP() << "no pids controller on v1";
  other_ = *locate(host_, str("/skink/test-cg-", ::getpid()));
  oci::Resources resources;
  resources.pids_limit = 5;
  ASSERT_TRUE(Group::create(*other_)->apply(resources));
  ASSERT_EQ(::mkdir((dir(other_->places[0]) + "/child").c_str(), 0755), 0);

  ASSERT_TRUE(Group::create(*other_));

  location_.places.swap(other_->places);
  EXPECT_EQ(text("pids", "pids.max"), "max");
  location_.places.swap(other_->places);
}

TEST_F(KernelTest, AppliesLimitsThatCanBeReadBack) {
  if (host_.layout == Layout::v2) GTEST_SKIP() << "needs v1 hierarchies";
  Group group = make();
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{
      .limit = 64 << 20, .reservation = 32 << 20, .swap = 96 << 20, .swappiness = 7, .disable_oom_killer = true};
  resources.cpu =
      oci::CpuLimits{.shares = 512, .quota = 50000, .burst = 1000, .period = 100000, .cpus = "0", .mems = "0"};
  resources.pids_limit = 33;

  const auto applied = group.apply(resources);

  ASSERT_TRUE(applied) << applied.error().text();
  EXPECT_EQ(text("memory", "memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(text("memory", "memory.memsw.limit_in_bytes"), "100663296");
  EXPECT_EQ(text("memory", "memory.soft_limit_in_bytes"), "33554432");
  EXPECT_EQ(text("memory", "memory.swappiness"), "7");
  EXPECT_THAT(*text("memory", "memory.oom_control"), HasSubstr("oom_kill_disable 1"));
  EXPECT_EQ(text("cpu", "cpu.shares"), "512");
  EXPECT_EQ(text("cpu", "cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(text("cpu", "cpu.cfs_period_us"), "100000");
  EXPECT_EQ(text("cpu", "cpu.cfs_burst_us"), "1000");
  EXPECT_EQ(text("cpuset", "cpuset.cpus"), "0");
  EXPECT_EQ(text("pids", "pids.max"), "33");
  const auto stats = group.stats();
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->memory_limit, 64U << 20);
  EXPECT_EQ(stats->pids_limit, 33U);
  EXPECT_EQ(stats->pids, 0U);
  EXPECT_TRUE(stats->cpu_ns);
}

TEST_F(KernelTest, RaisesAndLowersMemoryAndSwapInTheOrderThatTheKernelTakes) {
  if (place("memory") == nullptr) GTEST_SKIP() << "no memory controller on v1";
  Group group = make();
  for (const std::int64_t megabytes : {64, 256, 32, 1024, 16}) {
    oci::Resources resources;
    resources.memory = oci::MemoryLimits{.limit = megabytes << 20, .swap = megabytes << 20};
    const auto applied = group.apply(resources);
    ASSERT_TRUE(applied) << applied.error().text();
    EXPECT_EQ(text("memory", "memory.limit_in_bytes"), str(megabytes << 20));
    EXPECT_EQ(text("memory", "memory.memsw.limit_in_bytes"), str(megabytes << 20));
  }
  oci::Resources lifted;
  lifted.memory = oci::MemoryLimits{.limit = -1};
  ASSERT_TRUE(group.apply(lifted));
  EXPECT_FALSE(group.stats()->memory_limit);
}

TEST_F(KernelTest, RaisesAndLowersQuotaAndPeriodTogether) {
  if (place("cpu") == nullptr) GTEST_SKIP() << "no cpu controller on v1";
  Group group = make();
  for (const auto& [quota, period, burst] : std::vector<std::array<std::int64_t, 3>>{
           {50000, 100000, 40000}, {2000, 4000, 0}, {900000, 1000000, 800000}, {-1, 1000, 0}}) {
    oci::Resources resources;
    resources.cpu = oci::CpuLimits{
        .quota = quota, .burst = static_cast<std::uint64_t>(burst), .period = static_cast<std::uint64_t>(period)};
    const auto applied = group.apply(resources);
    ASSERT_TRUE(applied) << applied.error().text();
    EXPECT_EQ(text("cpu", "cpu.cfs_quota_us"), str(quota));
    EXPECT_EQ(text("cpu", "cpu.cfs_period_us"), str(period));
  }
}

TEST_F(KernelTest, NamesTheMemberAndTheFileOfAValueThatTheKernelRefuses) {
  if (place("cpuset") == nullptr) GTEST_SKIP() << "no cpuset controller on v1";
  Group group = make();
  oci::Resources resources;
  resources.cpu = oci::CpuLimits{.cpus = "4000"};
  const auto applied = group.apply(resources);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().text(),
              HasSubstr("linux.resources.cpu.cpus: write \"4000\" to " + dir(*place("cpuset")) + "/cpuset.cpus: "));
  resources.cpu = oci::CpuLimits{.shares = 1};
  EXPECT_EQ(group.apply(resources).error().text(), "linux.resources.cpu.shares: 1 is not from 2 to 262144");
}

// What a process inside sees of a device: 0, or the error number.
int open_status(const char* path) {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  return fd >= 0 ? 0 : errno;
}

TEST_F(KernelTest, AppliesDeviceRulesInTheirOrder) {
  Group group = make();
  oci::Resources resources;
  resources.devices = {
      {false, 'a', {}, {}, "rwm"}, {true, 'c', 1, 3, "rwm"}, {true, 'c', 1, 5, "rw"}, {false, 'c', 1, 5, "w"}};
  const auto applied = group.apply(resources);
  ASSERT_TRUE(applied) << applied.error().text();
  const std::string node = str("/tmp/skink-test-cg-node-", ::getpid());
  Gate gate;
  const pid_t pid = child([&] {
    gate.wait();
    if (open_status("/dev/null") != 0) ::_exit(1);
    if (open_status("/dev/zero") != EPERM) ::_exit(2);
    if (::open("/dev/zero", O_RDONLY | O_CLOEXEC) < 0) ::_exit(3);
    if (::mknod(node.c_str(), S_IFBLK | 0600, ::makedev(8, 0)) == 0 || errno != EPERM) ::_exit(4);
  });
  ASSERT_TRUE(group.add(pid));
  gate.open();
  EXPECT_EQ(reap_child(pid), 0);
  ::unlink(node.c_str());
}

TEST_F(KernelTest, CountsTheDeathsByTheOutOfMemoryKiller) {
  if (place("memory") == nullptr) GTEST_SKIP() << "no memory controller on v1";
  Group group = make();
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 16 << 20, .swap = 16 << 20};
  ASSERT_TRUE(group.apply(resources));
  ASSERT_EQ(group.oom_kills(), 0U);
  Gate gate;
  const pid_t hog = child([&] {
    gate.wait();
    constexpr std::size_t kSize = 64U << 20;
    auto* const memory =
        static_cast<volatile char*>(::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (std::size_t at = 0; at < kSize; at += 4096) memory[at] = 1;
  });
  ASSERT_TRUE(group.add(hog));
  gate.open();
  EXPECT_EQ(reap_child(hog), 128 + SIGKILL);
  EXPECT_EQ(group.oom_kills(), 1U);
  EXPECT_EQ(group.stats()->oom_kills, 1U);
  ASSERT_TRUE(group.memory_limit_hit());
  EXPECT_EQ(group.memory_limit_hit()->bytes, 16U << 20);
  EXPECT_FALSE(group.memory_limit_hit(group.memory_limits_hit())) << "since then it was not";
}

TEST_F(KernelTest, RemovesGroupsThatTheContainerMadeWideAndDeep) {
  make();
  const std::string top = dir(location_.places.back());
  for (int i = 0; i < 300; ++i) ASSERT_EQ(::mkdir(str(top, "/wide", i).c_str(), 0755), 0);
  // Deeper than a path can be long, and than a process has descriptors.
  UniqueFd here{::open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  for (int i = 0; i < 1200; ++i) {
    ASSERT_EQ(::mkdirat(here.get(), "nested", 0755), 0);
    here = UniqueFd{::openat(here.get(), "nested", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  }
  here.reset();

  const auto removed = Group::remove(location_, 5s);

  EXPECT_TRUE(removed) << removed.error().text();
  EXPECT_FALSE(exists(top));
}

TEST_F(KernelTest, NamesTheProcessThatKeepsAGroupFromBeingRemoved) {
  Group group = make();
  const pid_t pid = member(group);
  const auto removed = Group::remove(location_, 10ms);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), Code::busy);
  EXPECT_THAT(removed.error().text(), HasSubstr(str("it still has process ", pid, " (")));
}

TEST_F(KernelTest, OpensWhatIsThere) {
  make();
  ASSERT_EQ(::rmdir(dir(location_.places[0]).c_str()), 0);
  const auto group = Group::open(location_);
  ASSERT_TRUE(group) << group.error().text();
  EXPECT_TRUE(group->processes()->empty());
}

}  // namespace
}  // namespace skink::cgroup
