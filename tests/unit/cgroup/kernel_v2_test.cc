// SPDX-License-Identifier: Apache-2.0
// A host with cgroup v2 only, as a process sees one whose mount namespace covers the v1 hierarchies.
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "kernel_fixture.h"

namespace skink::cgroup {
namespace {

using ::testing::HasSubstr;

class KernelV2Test : public ::testing::Test {
 protected:
  /// Runs `body` in a child with a view of its own; the words it returns are a failure.
  static void in_v2_view(const std::function<std::string(const Location&)>& body) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t pid = spawn([&] {
      const std::string words = run(body);
      (void)!::write(ends[1], words.data(), words.size());
    });
    ::close(ends[1]);
    std::string words;
    char piece[512];
    for (ssize_t count = 0; (count = ::read(ends[0], piece, sizeof piece)) > 0;)
      words.append(piece, static_cast<std::size_t>(count));
    ::close(ends[0]);
    EXPECT_EQ(reap(pid), 0);
    if (words.starts_with("skip: ")) GTEST_SKIP() << words;
    EXPECT_EQ(words, "");
  }

 private:
  static std::string run(const std::function<std::string(const Location&)>& body) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return "skip: no mount namespace";
    // Busy: it is there already.
    if (::mount("none", "/sys/fs/cgroup", "cgroup2", MS_NOSUID, nullptr) != 0 && errno != EBUSY)
      return "skip: no cgroup2";
    const auto host = detect();
    if (!host) return host.error().text();
    if (host->layout != Layout::v2) return "the layout is not v2";
    const Location location = *locate(*host, str("/skink-test-cg-", ::getpid()));
    std::string before, words;
    (void)read_control(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control", before);
    words = body(location);
    if (auto group = Group::open(location)) (void)group->kill_all(5s);
    while (::waitpid(-1, nullptr, 0) > 0) continue;
    if (const auto removed = Group::remove(location, 5s); !removed) words += removed.error().text();
    restore(before);
    return words;
  }
  // Controllers that the test switched on for the whole hierarchy go off again.
  static void restore(const std::string& before) {
    std::string now;
    (void)read_control(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control", now);
    for (const std::string_view name : split(chomp(now), ' '))
      if (!has_word(before, name))
        (void)write_control(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control", str("-", name));
  }
};

pid_t clone_into(int group_fd) {
  clone_args args{};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<unsigned>(group_fd);
  return static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
}

std::string read_text(const Location& location, const char* file) {
  std::string out;
  (void)read_control(AT_FDCWD, ("/sys/fs/cgroup" + location.places[0].path + "/" + file).c_str(), out);
  return std::string(chomp(out));
}

TEST_F(KernelV2Test, ClonesIntoTheGroupFreezesAndKills) {
  in_v2_view([](const Location& location) -> std::string {
    auto group = Group::create(location);
    if (!group) return group.error().text();
    if (group->clone_fd() < 0) return "no descriptor to clone into";
    const pid_t pid = clone_into(group->clone_fd());
    if (pid == 0) sleep_for_ever();
    if (group->processes().value_or({}) != std::vector<pid_t>{pid}) return "the child is not in the group";
    if (const auto frozen = group->freeze(); !frozen) return frozen.error().text();
    if (read_text(location, "cgroup.freeze") != "1" || !*group->frozen()) return "not frozen";
    if (const auto thawed = group->thaw(); !thawed) return thawed.error().text();
    if (*group->frozen()) return "not thawed";
    if (const auto killed = group->kill_all(5s); !killed) return killed.error().text();
    return reap(pid) == 128 + SIGKILL ? "" : "not killed";
  });
}

TEST_F(KernelV2Test, SaysAtOnceThatAGroupAboveIsFrozen) {
  in_v2_view([](const Location& outer) -> std::string {
    Location inner = outer;
    inner.places[0].path += "/inner";
    auto above = Group::create(outer), group = Group::create(inner);
    if (!above || !group) return "cannot make the groups";
    const pid_t pid = clone_into(group->clone_fd());
    if (pid == 0) sleep_for_ever();
    if (!above->freeze() || !group->freeze()) return "not frozen";
    const auto begin = std::chrono::steady_clock::now();
    const auto thawed = group->thaw();
    if (std::chrono::steady_clock::now() - begin > 5s) return "that took long";
    if (thawed) return "it is not thawed";
    const std::string path = "/sys/fs/cgroup" + outer.places[0].path;
    const std::string wanted = str("control group ", path, "/inner stays frozen because ", path, " is");
    if (thawed.error().text() != wanted) return thawed.error().text();
    if (!above->thaw() || *group->frozen()) return "its own freezer was not let go";
    return "";
  });
}

TEST_F(KernelV2Test, SwitchesControllersOnFromTheTopDown) {
  in_v2_view([](const Location& location) -> std::string {
    std::string offered;
    (void)read_control(AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", offered);
    if (!has_word(offered, "hugetlb")) return "skip: no hugetlb controller";
    auto group = Group::create(location);
    if (!group) return group.error().text();
    oci::Resources resources;
    resources.hugepages = {{"2MB", 4U << 20}};
    if (const auto applied = group->apply(resources); !applied) return applied.error().text();
    if (read_text(location, "hugetlb.2MB.max") != "4194304") return "the limit is not there";
    return read_text(location, "hugetlb.2MB.rsvd.max") == "4194304" ? "" : "the reservation limit is not there";
  });
}

TEST_F(KernelV2Test, NamesAControllerThatIsMissing) {
  in_v2_view([](const Location& location) -> std::string {
    auto group = Group::create(location);
    if (!group) return group.error().text();
    if (has_word(read_text(location, "cgroup.controllers"), "memory")) return "skip: this host has memory on v2";
    oci::Resources resources;
    resources.memory = oci::MemoryLimits{.limit = 1 << 20};
    const auto applied = group->apply(resources);
    if (applied) return "accepted";
    return applied.error().text() == "linux.resources.memory.limit: this host has no memory controller"
               ? ""
               : applied.error().text();
  });
}

TEST_F(KernelV2Test, SaysWhyAControllerCannotBeSwitchedOnOrAGroupJoined) {
  in_v2_view([](const Location& location) -> std::string {
    auto top = Group::create(location);
    if (!top) return top.error().text();
    if (!has_word(read_text(location, "cgroup.controllers"), "hugetlb")) return "skip: no hugetlb controller";
    const pid_t pid = spawn(sleep_for_ever);
    if (const auto added = top->add(pid); !added) return added.error().text();
    Location below = location;
    below.places[0].path += "/c";
    auto group = Group::create(below);
    if (!group) return group.error().text();
    oci::Resources resources;
    resources.hugepages = {{"2MB", 4U << 20}};
    const auto applied = group->apply(resources);
    if (applied) return "accepted";
    if (applied.error().code() != Code::unsupported) return "code";
    if (read_text(location, "cgroup.type") != "domain") return "the group above was made threaded";
    return applied.error().text().find("has processes of its own") != std::string::npos ? "" : applied.error().text();
  });
}

const std::vector<oci::DeviceRule> kOnlyNull = {{false, 'a', {}, {}, "rwm"}, {true, 'c', 1, 3, "rwm"}};

int status_of_open(const char* path) {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  return fd >= 0 ? ::close(fd) : errno;
}

TEST_F(KernelV2Test, AttachesAProgramForDeviceRules) {
  in_v2_view([](const Location& location) -> std::string {
    auto group = Group::create(location);
    if (!group) return group.error().text();
    oci::Resources resources;
    resources.devices = kOnlyNull;
    if (const auto applied = group->apply(resources); !applied) return applied.error().text();
    const pid_t pid = clone_into(group->clone_fd());
    if (pid == 0) ::_exit(status_of_open("/dev/null") != 0 ? 1 : status_of_open("/dev/zero") != EPERM ? 2 : 0);
    return reap(pid) == 0 ? "" : "the rules are not in force";
  });
}

TEST_F(KernelV2Test, ReplacesTheProgramWithoutAMomentWithoutOne) {
  in_v2_view([](const Location& location) -> std::string {
    auto group = Group::create(location);
    if (!group) return group.error().text();
    oci::Resources resources;
    resources.devices = kOnlyNull;
    if (const auto applied = group->apply(resources); !applied) return applied.error().text();
    const pid_t pid = clone_into(group->clone_fd());
    if (pid == 0) {
      for (int i = 0; i < 100000; ++i)
        if (status_of_open("/dev/zero") != EPERM) ::_exit(1);
      ::_exit(0);
    }
    int status = 0;
    while (::waitpid(pid, &status, WNOHANG) == 0)
      if (const auto applied = group->apply(resources); !applied) return applied.error().text();
    if (status != 0) return "a forbidden device was opened during an update";
    resources.devices = {{true, 'a', {}, {}, "rwm"}};
    if (const auto applied = group->apply(resources); !applied) return applied.error().text();
    const pid_t after = clone_into(group->clone_fd());
    if (after == 0) ::_exit(status_of_open("/dev/zero"));
    return reap(after) == 0 ? "" : "an old program is still in force";
  });
}

}  // namespace
}  // namespace skink::cgroup
