// SPDX-License-Identifier: Apache-2.0
// The connection itself, with other ends that hang. What a talking one says is in tests/system/test_systemd_fake.py.
#include "cgroup/bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/text.h"

namespace skink::cgroup::bus {
namespace {

using ::testing::HasSubstr;
constexpr std::chrono::milliseconds kShort{80};

// A listening socket that the environment names as the bus of a user's session, in a directory of its own. Not the
// system's: where systemd runs, its own socket would answer for one that hangs.
class Listener {
 public:
  explicit Listener(int queue, const char* name = "bus") {
    char directory[] = "/tmp/skink-bus-XXXXXX";
    top_ = ::mkdtemp(directory);
    path_ = top_ + "/" + name;
    fd_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd_.get(), queue), 0);
    name_as("unix:path=" + path_ + ",guid=0123");
    ::setenv("XDG_RUNTIME_DIR", top_.c_str(), 1);
  }
  ~Listener() {
    ::unsetenv("DBUS_SESSION_BUS_ADDRESS");
    ::unsetenv("XDG_RUNTIME_DIR");
    std::filesystem::remove_all(top_);
  }
  static void name_as(const std::string& address) { ::setenv("DBUS_SESSION_BUS_ADDRESS", address.c_str(), 1); }
  [[nodiscard]] const std::string& top() const { return top_; }
  [[nodiscard]] UniqueFd accept() const { return UniqueFd(::accept(fd_.get(), nullptr, nullptr)); }

 private:
  std::string top_, path_;
  UniqueFd fd_;
};

TEST(Connection, DoesNotWaitForEverForAnAnswer) {
  const Listener listener(4);
  auto connection = Connection::open(Manager::user, kShort);
  ASSERT_TRUE(connection) << connection.error().text();
  const auto answer = connection->call("StopUnit", {text("a.scope"), text("replace")});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), Code::busy);
  EXPECT_THAT(answer.error().text(), HasSubstr("did not answer in time"));
}

TEST(Connection, DoesNotWaitForEverToSend) {
  const Listener listener(4);
  auto connection = Connection::open(Manager::user, kShort);
  ASSERT_TRUE(connection);
  const auto answer = connection->call("StopUnit", {text(std::string(16U << 20, 'x')), text("replace")});
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().text(), HasSubstr("did not answer in time"));
}

TEST(Connection, DoesNotWaitForEverToConnect) {
  const Listener listener(0);
  std::vector<Result<Connection>> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(Connection::open(Manager::user, kShort));
  ASSERT_FALSE(waiting.back()) << "its queue is longer than was asked for";
  EXPECT_THAT(waiting.back().error().text(), HasSubstr("did not answer in time"));
}

TEST(Connection, SaysThatTheOtherSideHungUp) {
  const Listener listener(4);
  auto connection = Connection::open(Manager::user, kShort);
  ASSERT_TRUE(connection);
  listener.accept().reset();
  const auto answer = connection->call("StopUnit", {text("a.scope"), text("replace")});
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().text(),
              ::testing::AnyOf(HasSubstr("closed the connection"), HasSubstr("send to systemd")));
}

TEST(Connection, ReadsAddressesAsTheyAreWritten) {
  const Listener listener(4, "a bus,;%");
  Listener::name_as("tcp:host=localhost,port=1;unix:path=" + listener.top() +
                    "/a%20bus%2c%3B%25,guid=0123;unix:path=/x");
  EXPECT_TRUE(Connection::open(Manager::user, kShort));
  for (const char* const rest : {"/a%2", "/a%", "/%zz", ""}) {
    Listener::name_as("unix:path=" + listener.top() + rest);
    const auto connection = Connection::open(Manager::user, kShort);
    if (!connection) {
      EXPECT_EQ(connection.error().code(), Code::unsupported);
    }
  }
}

TEST(Connection, ToNobody) {
  const Listener listener(4, "another");
  Listener::name_as("unix:path=/nonexistent/bus");
  const auto connection = Connection::open(Manager::user, kShort);
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code(), Code::unsupported);
  EXPECT_THAT(connection.error().text(), HasSubstr("/nonexistent/bus: No such file or directory"));
  EXPECT_THAT(connection.error().text(), HasSubstr("leave --systemd-cgroup out"));
}

TEST(Connection, OfAUserSaysWhatASessionIs) {
  ::setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
  ::setenv("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/nonexistent", 1);
  const auto connection = Connection::open(Manager::user, kShort);
  ::unsetenv("XDG_RUNTIME_DIR");
  ::unsetenv("DBUS_SESSION_BUS_ADDRESS");
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code(), Code::unsupported);
  EXPECT_THAT(connection.error().text(), HasSubstr("/nonexistent/bus: "));
  EXPECT_THAT(connection.error().text(), HasSubstr("loginctl enable-linger"));
}

}  // namespace
}  // namespace skink::cgroup::bus
