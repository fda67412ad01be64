// SPDX-License-Identifier: Apache-2.0
// Freezing and killing on the real hierarchies.
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>

#include "kernel_fixture.h"

namespace skink::cgroup {
namespace {

using ::testing::HasSubstr;

/// A counter that a child process raises while it runs.
class Counter {
 public:
  Counter()
      : value_(static_cast<std::atomic<unsigned>*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  ~Counter() { ::munmap(value_, 4096); }
  void raise_for_ever() {
    while (true) {
      ++*value_;
      ::usleep(500);
    }
  }
  /// Does it move within 50 ms?
  [[nodiscard]] bool moves() const {
    const unsigned before = *value_;
    ::usleep(50000);
    return *value_ != before;
  }

 private:
  std::atomic<unsigned>* value_;
};

[[noreturn]] void fork_bomb() {
  while (true)
    if (::fork() < 0) ::usleep(100);
}

TEST_F(KernelTest, FreezesAndThaws) {
  Counter counter;
  Group group = make();
  const pid_t pid = child([&] { counter.raise_for_ever(); });
  ASSERT_TRUE(group.add(pid));
  ASSERT_TRUE(counter.moves());
  EXPECT_FALSE(*group.frozen());

  const auto frozen = group.freeze();

  ASSERT_TRUE(frozen) << frozen.error().text();
  EXPECT_TRUE(*group.frozen());
  EXPECT_FALSE(counter.moves());
  ASSERT_TRUE(group.freeze()) << "freezing twice is no error";
  ASSERT_TRUE(group.thaw());
  EXPECT_FALSE(*group.frozen());
  EXPECT_TRUE(counter.moves());
}

TEST_F(KernelTest, RefusesToMakeAGroupBelowAFrozenOne) {
  Group group = make();
  ASSERT_TRUE(group.freeze());
  Location below = location_;
  for (Place& one : below.places) one.path += "/c";
  const auto made = Group::create(below);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), Code::busy);
  EXPECT_THAT(made.error().text(), HasSubstr("is frozen"));
}

TEST_F(KernelTest, KillsAFrozenGroup) {
  Group group = make();
  const pid_t pid = member(group);
  ASSERT_TRUE(group.freeze());

  const auto killed = group.kill_all(5s);

  ASSERT_TRUE(killed) << killed.error().text();
  EXPECT_EQ(reap_child(pid), 128 + SIGKILL);
  EXPECT_FALSE(*group.frozen());
}

TEST_F(KernelTest, KillsWhatIsFrozenOnTheUnifiedHierarchyOnly) {
  if (place("") == nullptr) GTEST_SKIP() << "no unified hierarchy";
  Group group = make();
  const pid_t pid = member(group);
  ASSERT_EQ(write_control(AT_FDCWD, (dir(*place("")) + "/cgroup.freeze").c_str(), "1"), 0);
  ASSERT_TRUE(group.kill_all(5s));
  EXPECT_EQ(reap_child(pid), 128 + SIGKILL);
}

TEST_F(KernelTest, KillsAnEmptyGroupAtOnce) {
  Group group = make();
  EXPECT_TRUE(group.kill_all(0s));
}

TEST_F(KernelTest, EndsAForkBombThatIsAtItsLimit) {
  Group group = make();
  oci::Resources resources;
  resources.pids_limit = 200;
  ASSERT_TRUE(group.apply(resources));
  Gate gate;
  const pid_t bomb = child([&] {
    gate.wait();
    ::signal(SIGCHLD, SIG_IGN);
    fork_bomb();
  });
  ASSERT_TRUE(group.add(bomb));
  gate.open();
  for (int i = 0; i < 200 && group.processes()->size() < 50; ++i) ::usleep(20000);
  ASSERT_GE(group.processes()->size(), 50U);

  const auto start = std::chrono::steady_clock::now();
  const auto killed = group.kill_all(5s);

  ASSERT_TRUE(killed) << killed.error().text();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  EXPECT_EQ(reap_child(bomb), 128 + SIGKILL);
  EXPECT_TRUE(Group::remove(location_, 2s));
}

TEST_F(KernelTest, EndsAForkBombOnV1Alone) {
  if (place("freezer") == nullptr || place("pids") == nullptr) GTEST_SKIP() << "needs v1 freezer and pids";
  std::erase_if(location_.places, [](const Place& one) { return one.hierarchy.unified; });
  location_.layout = Layout::v1;
  Group group = make();
  oci::Resources resources;
  resources.pids_limit = 200;
  ASSERT_TRUE(group.apply(resources));
  Gate gate;
  const pid_t bomb = child([&] {
    gate.wait();
    ::signal(SIGCHLD, SIG_IGN);
    fork_bomb();
  });
  ASSERT_TRUE(group.add(bomb));
  gate.open();
  for (int i = 0; i < 200 && group.processes()->size() < 50; ++i) ::usleep(20000);
  const auto killed = group.kill_all(5s);
  ASSERT_TRUE(killed) << killed.error().text();
  EXPECT_EQ(reap_child(bomb), 128 + SIGKILL);
  EXPECT_FALSE(*group.frozen());
}

TEST_F(KernelTest, FindsProcessesThatWereMovedOutOfTheUnifiedGroup) {
  if (host_.layout != Layout::hybrid) GTEST_SKIP() << "needs a hybrid host";
  Group group = make();
  const pid_t pid = member(group);
  const std::string elsewhere = place("")->hierarchy.mount_point + "/cgroup.procs";
  ASSERT_EQ(write_control(AT_FDCWD, elsewhere.c_str(), str(pid)), 0);
  EXPECT_THAT(*group.processes(), ::testing::ElementsAre(pid));
  const auto killed = group.kill_all(5s);
  ASSERT_TRUE(killed) << killed.error().text();
  EXPECT_EQ(reap_child(pid), 128 + SIGKILL);
}

TEST_F(KernelTest, FindsProcessesInGroupsBelow) {
  Group group = make();
  const pid_t pid = child(sleep_for_ever);
  for (const Place& one : location_.places) {
    if (has_word(one.hierarchy.controllers, "cpuset")) continue;
    ASSERT_EQ(::mkdir((dir(one) + "/sub").c_str(), 0755), 0);
    ASSERT_EQ(write_control(AT_FDCWD, (dir(one) + "/sub/cgroup.procs").c_str(), str(pid)), 0);
  }
  EXPECT_THAT(*group.processes(), ::testing::ElementsAre(pid));
  ASSERT_TRUE(group.kill_all(5s));
  EXPECT_EQ(reap_child(pid), 128 + SIGKILL);
  EXPECT_TRUE(Group::remove(location_, 2s));
}

TEST_F(KernelTest, KillsAGroupThatWasMadeThreaded) {
  if (place("") == nullptr) GTEST_SKIP() << "no unified hierarchy";
  Group group = make();
  const pid_t pid = member(group);
  const std::string below = dir(*place("")) + "/sub";
  ASSERT_EQ(::mkdir(below.c_str(), 0755), 0);
  ASSERT_EQ(write_control(AT_FDCWD, (below + "/cgroup.type").c_str(), "threaded"), 0);
  ASSERT_EQ(write_control(AT_FDCWD, (below + "/cgroup.threads").c_str(), str(pid)), 0);
  const auto killed = group.kill_all(5s);
  ASSERT_TRUE(killed) << killed.error().text();
  EXPECT_EQ(reap_child(pid), 128 + SIGKILL);
  EXPECT_TRUE(Group::remove(location_, 2s));
}

}  // namespace
}  // namespace skink::cgroup
