// SPDX-License-Identifier: Apache-2.0
#include "supervise/exits.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "sys/process.h"

namespace skink::supervise {
namespace {

// A child that has ended and is not reaped yet.
class Ended {
 public:
  template <typename Body>
  explicit Ended(Body body) : pid_(::fork()) {
    if (pid_ == 0) {
      char go = 0;
      (void)!::read(gate_[0], &go, 1);
      body();
      ::_exit(99);
    }
    identity_ = sys::identify(pid_).value();
    pidfd_ = sys::open_pidfd(pid_).value();
    (void)!::write(gate_[1], "", 1);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }
  Ended(const Ended&) = delete;
  Ended& operator=(const Ended&) = delete;
  ~Ended() {
    ::waitpid(pid_, nullptr, 0);
    for (const int fd : gate_) ::close(fd);
  }
  [[nodiscard]] const sys::ProcessIdentity& identity() const { return identity_; }
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }

 private:
  int gate_[2] = {-1, -1};
  [[maybe_unused]] int made_ = ::pipe(gate_);
  pid_t pid_;
  sys::ProcessIdentity identity_;
  UniqueFd pidfd_;
};

TEST(ReadZombie, TellsTheStatusAndTheSignal) {
  const Ended exited([] { ::_exit(7); });
  const Ended killed([] { ::raise(SIGKILL); });

  const auto status = read_zombie(exited.identity());
  const auto signal = read_zombie(killed.identity());

  ASSERT_TRUE(status && signal);
  EXPECT_TRUE(status->is_shown && signal->is_shown);
  EXPECT_EQ(last_exit_of(status->record).status, 7);
  EXPECT_EQ(last_exit_of(signal->record).signal, SIGKILL);
}

// What the supervisor goes by when there is a standby: it must be what wait(2) would have told the guard.
TEST(ReadZombie, TellsTheStatusOfTheGroupWhereTheFirstThreadWentBeforeTheOthers) {
  const Ended zombie([] {
    std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      ::syscall(SYS_exit_group, 3);
    }).detach();
    ::syscall(SYS_exit, 0);
  });
  if (!shows_group_status(zombie.pidfd())) GTEST_SKIP() << "the kernel is older than 6.13";

  const auto status = read_zombie(zombie.identity());

  ASSERT_TRUE(status);
  EXPECT_EQ(last_exit_of(status->record).status, 3);
}

TEST(ReadZombie, TellsNothingOfOneThatLives) { EXPECT_FALSE(read_zombie(sys::identify(::getpid()).value())); }

}  // namespace
}  // namespace skink::supervise
