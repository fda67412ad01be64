// SPDX-License-Identifier: Apache-2.0
// KernelTest: a group of its own on the real hierarchies of this machine, cleaned up whatever happens.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/control_file.h"

namespace skink::cgroup {

using namespace std::chrono_literals;

/// A child process that runs `body` and exits 0, and dies with the test.
inline pid_t spawn(const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  ::_exit(0);
}

inline void sleep_for_ever() {
  while (true) ::pause();
}

/// A child's status as a shell counts it.
inline int reap(pid_t pid) {
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// A gate: children wait until it is opened.
class Gate {
 public:
  Gate() {
    if (::pipe2(ends_, O_CLOEXEC) != 0) ::abort();
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() {
    open();
    ::close(ends_[0]);
  }
  void wait() {
    char byte = 0;
    ::close(ends_[1]);
    (void)!::read(ends_[0], &byte, 1);
  }
  void open() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  int ends_[2] = {-1, -1};
};

class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    auto host = detect();
    if (!host) GTEST_SKIP() << host.error().text();
    host_ = std::move(*host);
    location_ = *locate(host_, str("/skink-test-cg-", ::getpid()));
    // A read-only or foreign hierarchy, as in a container of others, is no place for these tests.
    auto probe = Group::create(location_);
    if (!probe) GTEST_SKIP() << probe.error().text();
    ready_ = true;
    ASSERT_TRUE(Group::remove(location_, 1s));
  }

  void TearDown() override {
    if (!ready_) return;
    for (const Location* one : {other_ ? &*other_ : nullptr, &location_}) {
      if (one == nullptr) continue;
      if (auto group = Group::open(*one)) (void)group->kill_all(5s);
      for (const pid_t pid : children_) {
        ::kill(pid, SIGKILL);
        reap(pid);
      }
      children_.clear();
      const auto removed = Group::remove(*one, 5s);
      EXPECT_TRUE(removed) << removed.error().text();
    }
  }

  Group make() {
    auto group = Group::create(location_);
    EXPECT_TRUE(group) << group.error().text();
    return group ? std::move(*group) : Group{};
  }
  pid_t child(const std::function<void()>& body) {
    children_.push_back(spawn(body));
    return children_.back();
  }
  /// A sleeping child in the group.
  pid_t member(Group& group) {
    const pid_t pid = child(sleep_for_ever);
    const auto added = group.add(pid);
    EXPECT_TRUE(added) << added.error().text();
    return pid;
  }
  /// The status of a child whose death the test expects.
  int reap_child(pid_t pid) {
    std::erase(children_, pid);
    return reap(pid);
  }
  [[nodiscard]] const Place* place(std::string_view controller) const {
    for (const Place& one : location_.places)
      if (controller.empty() ? one.hierarchy.unified : has_word(one.hierarchy.controllers, controller)) return &one;
    return nullptr;
  }
  /// The text of a control file of the group; nothing when this host has not got the hierarchy.
  [[nodiscard]] std::optional<std::string> text(std::string_view controller, const std::string& file) const {
    const Place* const one = place(controller);
    std::string out;
    if (one == nullptr) return std::nullopt;
    if (read_control(AT_FDCWD, (dir(*one) + "/" + file).c_str(), out) != 0) return std::nullopt;
    return std::string(chomp(out));
  }
  static std::string dir(const Place& place) { return place.hierarchy.mount_point + place.path; }

  Host host_;
  Location location_;
  std::optional<Location> other_;
  std::vector<pid_t> children_;
  bool ready_ = false;
};

}  // namespace skink::cgroup
