// SPDX-License-Identifier: Apache-2.0
#include "supervise/watches.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vector>

namespace skink::supervise {
namespace {

constexpr std::uint32_t kOld = 1, kNew = 2;

UniqueFd readable() { return UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }
UniqueFd quiet() { return UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

class WatchesTest : public ::testing::Test {
 protected:
  // The events of one turn.
  std::vector<Watches::Event> turn() {
    EXPECT_TRUE(watches.wait(0));
    std::vector<Watches::Event> events;
    while (const auto event = watches.next()) events.push_back(*event);
    return events;
  }

  Watches watches = *Watches::make();
};

// A descriptor of that number, whatever it was before.
UniqueFd put_at(UniqueFd file, int number) {
  if (file.get() == number) return file;
  return UniqueFd(::dup3(file.get(), number, O_CLOEXEC));
}

TEST_F(WatchesTest, TellsTheKindAndTheDescriptor) {
  const UniqueFd one = readable();
  ASSERT_TRUE(watches.add(one.get(), kOld, EPOLLIN));

  const auto events = turn();

  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].fd, one.get());
  EXPECT_EQ(events[0].kind, kOld);
  EXPECT_EQ(events[0].events, static_cast<std::uint32_t>(EPOLLIN));
}

TEST_F(WatchesTest, AnEventOfADescriptorThatAnEarlierHandlerOfTheTurnClosedIsDropped) {
  UniqueFd one = readable(), two = readable();
  ASSERT_TRUE(watches.add(one.get(), kOld, EPOLLIN) && watches.add(two.get(), kOld, EPOLLIN));
  ASSERT_TRUE(watches.wait(0));
  const auto first = watches.next();
  ASSERT_TRUE(first);
  UniqueFd& other = first->fd == one.get() ? two : one;

  watches.forget(other.get());
  other.reset();

  EXPECT_FALSE(watches.next());
}

TEST_F(WatchesTest, AnEventIsNotTakenForOneOfTheDescriptorThatHasItsNumberNow) {
  UniqueFd one = readable(), two = readable();
  ASSERT_TRUE(watches.add(one.get(), kOld, EPOLLIN) && watches.add(two.get(), kOld, EPOLLIN));
  ASSERT_TRUE(watches.wait(0));
  const auto first = watches.next();
  ASSERT_TRUE(first);
  UniqueFd& other = first->fd == one.get() ? two : one;
  const int number = other.get();

  watches.forget(number);
  other.reset();
  const UniqueFd newcomer = put_at(quiet(), number);
  ASSERT_TRUE(watches.add(number, kNew, EPOLLIN));

  EXPECT_FALSE(watches.next());
}

TEST_F(WatchesTest, AFileThatLivesOnWithSomebodyElseTellsNothingOnceItIsForgotten) {
  UniqueFd one = readable();
  const UniqueFd elsewhere(::dup(one.get()));
  ASSERT_TRUE(watches.add(one.get(), kOld, EPOLLIN));

  watches.forget(one.get());
  one.reset();

  EXPECT_TRUE(turn().empty());
}

TEST_F(WatchesTest, AWatchThatCanBeEndedNoMoreWakesNobodyTwice) {
  UniqueFd one = readable();
  const int number = one.get();
  const UniqueFd elsewhere(::dup(number));
  ASSERT_TRUE(watches.add(number, kOld, EPOLLIN));
  one.reset();  // and was not forgotten before
  const UniqueFd newcomer = put_at(readable(), number);
  ASSERT_TRUE(watches.add(number, kNew, EPOLLIN));

  (void)turn();
  const auto events = turn();

  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, kNew);
}

TEST_F(WatchesTest, WhatIsWaitedForCanChange) {
  const UniqueFd one = quiet();
  ASSERT_TRUE(watches.add(one.get(), kOld, EPOLLIN));
  EXPECT_TRUE(turn().empty());

  watches.change(one.get(), EPOLLOUT);

  ASSERT_EQ(turn().size(), 1U);
}

TEST_F(WatchesTest, WhatIsWatchedAlreadyStaysAsItIs) {
  const UniqueFd one = readable();
  ASSERT_TRUE(watches.add(one.get(), kOld, EPOLLIN) && watches.add(one.get(), kNew, EPOLLIN));

  const auto events = turn();

  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, kOld);
}

TEST_F(WatchesTest, WhatCannotBeWatchedIsAnError) { EXPECT_FALSE(watches.add(-1, kOld, EPOLLIN)); }

}  // namespace
}  // namespace skink::supervise
