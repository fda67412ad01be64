// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "security/security.h"
#include "sys/file.h"

namespace skink::security {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A root file system with an etc/ of its own.
class ResolveUser : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<char, 64> name{"/tmp/skink-users-XXXXXX"};
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name.data();
    ASSERT_EQ(::mkdir((root_ + "/etc").c_str(), 0755), 0);
    fd_ = UniqueFd(::open(root_.c_str(), O_PATH | O_CLOEXEC));
  }
  void TearDown() override {
    for (const char* name : {"/etc/passwd", "/etc/group", "/etc/other", "/etc"}) {
      ::unlink((root_ + name).c_str());
      ::rmdir((root_ + name).c_str());
    }
    ::rmdir(root_.c_str());
  }
  void write(const char* name, std::string_view text) {
    UniqueFd file(::open((root_ + "/etc/" + name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    ASSERT_TRUE(sys::write_all(file.get(), text, name));
  }
  void usual_files() {
    write("passwd",
          "root:x:0:0:root:/root:/bin/bash\n"
          "app:x:1000:1001::/home/app:/bin/sh\n"
          "1000:x:0:0::/:/bin/sh\n"  // attack A30: a name of digits that means root
          "big:x:4294967296:0::/:/bin/sh\n"
          "-1:x:0:0::/:/bin/sh\n"
          "0x0:x:0:0::/:/bin/sh\n"
          "odd:x:7:7::relative:/bin/sh\n");
    write("group",
          "root:x:0:\napp:x:1001:\nvideo:x:44:other,app\naudio:x:29:app\ndup:x:44:app\n2000:x:0:\nbad:x:-5:app\n");
  }
  Result<ResolvedUser> resolve(std::string_view text, const std::vector<std::string>& extra = {}) {
    return resolve_user(fd_.get(), text, extra);
  }
  std::string refusal(std::string_view text, const std::vector<std::string>& extra = {}) {
    const auto user = resolve(text, extra);
    return user ? "accepted as uid " + std::to_string(user->uid) : user.error().text();
  }

  std::string root_;
  UniqueFd fd_;
};

TEST_F(ResolveUser, FindsANameWithItsGroupsAndHome) {
  usual_files();

  const auto user = resolve("app");

  ASSERT_TRUE(user) << user.error().text();
  EXPECT_EQ(user->uid, 1000U);
  EXPECT_EQ(user->gid, 1001U);
  EXPECT_THAT(user->groups, ElementsAre(1001, 44, 29));
  EXPECT_EQ(user->home, "/home/app");
  EXPECT_EQ(user->name, "app");
}

TEST_F(ResolveUser, EmptyIsRoot) {
  usual_files();

  const auto user = resolve("");

  ASSERT_TRUE(user);
  EXPECT_EQ(user->uid, 0U);
  EXPECT_THAT(user->groups, ElementsAre(0));
  EXPECT_EQ(user->home, "/root");
}

TEST_F(ResolveUser, ANumberIsNeverLookedUpAsAName) {
  usual_files();

  EXPECT_EQ(resolve("1000")->uid, 1000U);
  EXPECT_EQ(resolve("1000")->gid, 1001U) << "its own line gives the group";
  EXPECT_EQ(resolve("0:2000")->gid, 2000U);
  EXPECT_EQ(resolve("2147483648")->uid, 2147483648U);
  EXPECT_EQ(resolve("4294967294")->uid, 4294967294U);
  EXPECT_EQ(resolve("77")->gid, 0U);
  EXPECT_EQ(resolve("77")->home, "/");
}

TEST_F(ResolveUser, AnExplicitGroupComesWithoutMemberships) {
  usual_files();

  EXPECT_THAT(resolve("app:audio")->groups, ElementsAre(29));
  EXPECT_EQ(resolve("app:audio")->gid, 29U);
  EXPECT_EQ(resolve("app:5")->gid, 5U);
}

TEST_F(ResolveUser, AddsGroupsByNameAndNumberOnce) {
  usual_files();

  EXPECT_THAT(resolve("app:5", {"video", "44", "1234", "audio"})->groups, ElementsAre(5, 44, 1234, 29));
}

TEST_F(ResolveUser, WhatIsNeitherNameNorNumberIsNeverRoot) {
  usual_files();

  for (const char* text :
       {"-1", "+1", "0x0", " 1", "1 ", "4294967295", "4294967296", "18446744073709551616", "1:", ":1", ":", "1:2:3",
        "nobody", "big", "app:-1", "app:4294967295", "app:nogroup", "app:bad", "a\nb"}) {
    const auto user = resolve(text);
    EXPECT_FALSE(user) << text << " became uid " << user->uid;
  }
  EXPECT_EQ(refusal("4294967296"), "user \"4294967296\": not a number from 0 to 4294967294");
  EXPECT_EQ(refusal("-1"), "user \"-1\": neither a name nor a number from 0 to 4294967294");
  EXPECT_EQ(refusal("nobody"), "user \"nobody\": no such user in the image's /etc/passwd");
  EXPECT_EQ(refusal("app:nogroup"), "group \"nogroup\": no such group in the image's /etc/group");
  EXPECT_EQ(refusal("app", {"nogroup"}), "--group-add \"nogroup\": no such group in the image's /etc/group");
  EXPECT_EQ(refusal("1:"), "user \"1:\": expected USER, UID, USER:GROUP or UID:GID");
}

TEST_F(ResolveUser, AHomeThatIsNoPathBecomesTheRoot) {
  usual_files();

  EXPECT_EQ(resolve("odd")->home, "/");
}

TEST_F(ResolveUser, AnImageWithoutFilesHasNumbersOnly) {
  EXPECT_EQ(resolve("12:13")->uid, 12U);
  EXPECT_EQ(resolve("12:13")->gid, 13U);
  EXPECT_EQ(resolve("")->uid, 0U);
  EXPECT_FALSE(resolve("app"));
}

TEST_F(ResolveUser, RefusesAnythingButARegularFileOfReasonableSize) {
  const std::string passwd = root_ + "/etc/passwd";

  ASSERT_EQ(::mkfifo(passwd.c_str(), 0644), 0);
  EXPECT_EQ(refusal("app"), "/etc/passwd in the image is not a regular file");
  ::unlink(passwd.c_str());

  ASSERT_EQ(::mkdir(passwd.c_str(), 0755), 0);
  EXPECT_EQ(refusal("app"), "/etc/passwd in the image is not a regular file");
  ::rmdir(passwd.c_str());

  if (::mknod(passwd.c_str(), S_IFCHR | 0644, 0x103) == 0) {
    EXPECT_EQ(refusal("app"), "/etc/passwd in the image is not a regular file");
    ::unlink(passwd.c_str());
  }

  write("passwd", "");
  ASSERT_EQ(::truncate(passwd.c_str(), 10LL << 30), 0);
  EXPECT_THAT(refusal("app"), HasSubstr("/etc/passwd in the image has 10737418240 bytes"));
}

TEST_F(ResolveUser, ASymlinkLeadsNowhereButIntoTheRoot) {
  write("other", "app:x:42:43::/:/bin/sh\n");
  ASSERT_EQ(::symlink("/etc/other", (root_ + "/etc/passwd").c_str()), 0);
  ASSERT_EQ(::symlink("/proc/self/root/etc/group", (root_ + "/etc/group").c_str()), 0);

  EXPECT_EQ(resolve("app")->uid, 42U);
  EXPECT_FALSE(resolve("app:daemon")) << "the host's group file has it, ours has not";
}

TEST_F(ResolveUser, SkipsLinesWithNulsAndLinesThatAreLong) {
  std::string text("app\0:x:0:0::/:\n", 15);
  text += "long:x:5:5:" + std::string(1 << 20, 'g') + ":/:\n";
  text += "app:x:9:9::/a\x01z:/bin/sh\n";
  text += "short:x\n";
  text += "last:x:11:12::/l:/bin/sh";
  write("passwd", text);

  EXPECT_EQ(resolve("app")->uid, 9U);
  EXPECT_EQ(resolve("app")->home, "/");
  EXPECT_EQ(resolve("long")->uid, 5U);
  EXPECT_EQ(resolve("last")->gid, 12U);
  EXPECT_FALSE(resolve("short"));
}

}  // namespace
}  // namespace skink::security
