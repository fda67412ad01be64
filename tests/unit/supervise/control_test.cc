// SPDX-License-Identifier: Apache-2.0
#include "supervise/control.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervise/fd_park.h"
#include "supervise/records.h"
#include "temp_dir.h"

namespace skink::supervise {
namespace {

struct Pair {
  UniqueFd a, b;
  Pair() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    a = UniqueFd(ends[0]);
    b = UniqueFd(ends[1]);
  }
};

TEST(Control, TheSocketIsForItsOwnerOnly) {
  const TempDir dir;
  const auto listener = listen_control(dir.fd());
  ASSERT_TRUE(listener) << listener.error().text();

  const auto status = sys::stat_at(dir.fd(), kControlSocket, AT_SYMLINK_NOFOLLOW).value();

  EXPECT_EQ(status.st_mode & 07777, 0600U);
  EXPECT_TRUE(connect_control(dir.fd()));
}

TEST(Control, ADeadSocketIsNotFoundAndIsReplaced) {
  const TempDir dir;
  { ASSERT_TRUE(listen_control(dir.fd())); }

  const auto refused = connect_control(dir.fd());

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::not_found);
  EXPECT_TRUE(listen_control(dir.fd()));
}

TEST(Control, AMessageBringsItsDescriptors) {
  const Pair pair;
  const int fd = pair.a.get();

  ASSERT_TRUE(send_message(pair.a.get(), {{"op", "ping"}}, {&fd, 1}));
  const auto message = receive_message(pair.b.get());

  ASSERT_TRUE(message) << message.error().text();
  EXPECT_EQ(oci::get_string(message->json, "op"), "ping");
  ASSERT_EQ(message->fds.size(), 1U);
  EXPECT_EQ(::fcntl(message->fds[0].get(), F_GETFD), FD_CLOEXEC);
}

TEST(Control, WhatIsNoMessageOfOursIsCorrupt) {
  const Pair pair;
  for (const std::string& bytes : {std::string("{"), std::string("[]"), std::string("\xff"), std::string(40000, '{')}) {
    ASSERT_GT(::send(pair.a.get(), bytes.data(), bytes.size(), 0), 0);

    const auto message = receive_message(pair.b.get());

    ASSERT_FALSE(message);
    EXPECT_EQ(message.error().code(), Code::corrupt);
  }
}

TEST(Control, NobodyIsWaitedForLongerThanAsked) {
  const Pair pair;

  const auto message = await_message(pair.b.get(), fs::monotonic_ns() + 20'000'000);

  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().code(), Code::busy);
}

TEST(Control, AnErrorKeepsItsCodeOnTheWay) {
  const auto error = error_of(error_json(Error::make(Code::denied, "no")));

  EXPECT_EQ(error.code(), Code::denied);
  EXPECT_EQ(error.text(), "no");
}

TEST(FdPark, TheLastSetIsTheOneThatCounts) {
  const Pair queue;
  const TempDir dir;
  const Parked first{Parked::Kind::terminal, 0, dir.fd()};
  const Parked both[] = {{Parked::Kind::init_pidfd, 0, dir.fd()}, {Parked::Kind::exec_pidfd, 77, dir.fd()}};

  ASSERT_TRUE(park(queue.a.get(), queue.b.get(), {&first, 1}));
  ASSERT_TRUE(park(queue.a.get(), queue.b.get(), both));

  for (int look = 0; look < 3; ++look) {
    const auto found = look_parked(queue.b.get());
    ASSERT_TRUE(found) << found.error().text();
    ASSERT_EQ(found->size(), 2U);
    EXPECT_EQ((*found)[1].pid, 77U);
    EXPECT_EQ(sys::stat_fd((*found)[0].fd.get(), "x").value().st_ino, sys::stat_fd(dir.fd(), "x").value().st_ino);
  }
}

TEST(FdPark, AnInterruptedChangeStillHasTheNewSet) {
  const Pair queue;
  const TempDir dir;
  const Parked one{Parked::Kind::terminal, 0, dir.fd()};
  ASSERT_TRUE(park(queue.a.get(), queue.b.get(), {&one, 1}));
  // As if killed after the new message went in and before the old one came out.
  const Pair other;
  ASSERT_TRUE(park(other.a.get(), other.b.get(), {}));
  char bytes[4096];
  const ssize_t size = ::recv(other.b.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  ASSERT_GT(size, 0);
  ASSERT_EQ(::send(queue.a.get(), bytes, static_cast<std::size_t>(size), 0), size);

  EXPECT_TRUE(look_parked(queue.b.get()).value().empty());
  ASSERT_TRUE(park(queue.a.get(), queue.b.get(), {&one, 1}));
  EXPECT_EQ(look_parked(queue.b.get()).value().size(), 1U);
}

TEST(FdPark, AnEmptyQueueHasNothing) {
  const Pair queue;

  EXPECT_TRUE(look_parked(queue.b.get()).value().empty());
}

}  // namespace
}  // namespace skink::supervise
