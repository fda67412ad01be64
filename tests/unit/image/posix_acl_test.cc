// SPDX-License-Identifier: Apache-2.0
#include "image/posix_acl.h"

#include <gtest/gtest.h>

namespace skink::image::test {
namespace {

constexpr std::string_view kText = "user::rwx,user:7:r-x,group::---,group:9:rw-,mask::rwx,other::r--";

std::string value_of(std::string_view text) {
  const Acl acl = parse_acl_text(text);
  EXPECT_TRUE(acl.whole) << text;
  return format_acl(acl);
}

TEST(PosixAcl, TextOfEveryKindIsTheSameValue) {
  const std::string value = value_of(kText);

  EXPECT_EQ(value.size(), 4u + 6 * 8);
  EXPECT_EQ(value_of("user::rwx,user:bob:r-x:7,group::---,group:staff:rw-:9,mask::rwx,other::r--"), value);
  EXPECT_EQ(value_of("o::r--\nm::rwx\n\ng:9:rw-\ng::---\nu:7:r-x\t#effective:r-x\nu::rwx\n"), value);
  EXPECT_EQ(value_of("# file: x\nuser::rwx\nuser:bob#1:r-x:7 # he\ngroup::---\ngroup:domain users:rw-:9\t\n"
                     "mask::rwx \nother::r--"),
            value);
  EXPECT_TRUE(parse_acl(value).whole);
  EXPECT_EQ(format_acl(parse_acl(value)), value);
}

TEST(PosixAcl, TextThatIsNoneOrNamesWhomNobodyKnowsIsNotWhole) {
  for (const char* text :
       {"", "user::rwx", "user::rwx,group::---,other::r--,x::rwx", "user::rwx,group::---,other::r-",
        "user::rwx,group::---,other::rwz", "user::rwx,group::---,other:5:r--",
        "user::rwx,user:7:rwx,group::---,other::---", "user::rwx,user::rwx,group::---,other::---",
        "user::rwx,user:bob:rwx,group::---,mask::rwx,other::---",
        "user::rwx,user:4294967295:rwx,group::---,mask::rwx,other::---", "user:::::,group::---,other::---",
        "user::rwx,user:7:r--,user:7:rwx,group::---,mask::rwx,other::---"})
    EXPECT_FALSE(parse_acl_text(text).whole) << text;
  EXPECT_FALSE(parse_acl_text(std::string(1U << 20, ',') + "user::rwx").whole);
}

TEST(PosixAcl, AValueIsInOrderOrNone) {
  const std::string good = value_of(kText);
  const auto spoil = [&](std::size_t at, char byte) {
    std::string bad = good;
    bad[at] = byte;
    return bad;
  };

  EXPECT_FALSE(parse_acl(spoil(0, 1)).whole) << "another version";
  EXPECT_FALSE(parse_acl(spoil(4, 2)).whole) << "a user without an id, and nothing for the owner";
  EXPECT_FALSE(parse_acl(spoil(6, 8)).whole) << "rights beyond rwx";
  EXPECT_FALSE(parse_acl(spoil(12, 64)).whole) << "a tag that there is not";
  EXPECT_FALSE(parse_acl(good.substr(0, good.size() - 1)).whole);
  EXPECT_FALSE(parse_acl(good + good.substr(4)).whole) << "all of it twice";
  EXPECT_FALSE(parse_acl("").whole);
  EXPECT_FALSE(parse_acl(good.substr(0, 4)).whole);
  EXPECT_FALSE(parse_acl(good.substr(0, 4) + std::string(70'000, '\0')).whole);
}

TEST(PosixAcl, TheMaskFollowsTheModeAsAfterChmod) {
  EXPECT_EQ(acl_with_mode(value_of(kText), 0640),
            value_of("user::rw-,user:7:r-x,group::---,group:9:rw-,mask::r--,other::---"));
  EXPECT_EQ(acl_with_mode(value_of("user::rwx,group::rwx,other::rwx"), 0751),
            value_of("user::rwx,group::r-x,other::--x"));
}

TEST(PosixAcl, WithoutItNobodyHasMore) {
  const auto without = [](std::string_view text, mode_t mode) { return mode_without(parse_acl_text(text), mode); };

  EXPECT_EQ(without("user::rwx,user:bob:rwx,group::---,mask::rwx,other::---", 0770), 0700u);
  EXPECT_EQ(without("user::rwx,user:bob:rwx,group::r-x,mask::rwx,other::r--", 02774), 02754u);
  EXPECT_EQ(without("user::rwx,user:bob:---,group::r-x,mask::rwx,other::r-x", 0775), 0700u)
      << "bob is one of the others";
  EXPECT_EQ(without("user::rwx,group:staff:r--,group::rwx,mask::r-x,other::rw-", 0756), 0744u);
  EXPECT_EQ(without("user::rwx,user:bob:rwx:x:y,group::rwx,mask::rwx,other::r-x", 0775), 0700u)
      << "bob may have been denied anything";
  EXPECT_EQ(without("what is this", 0775), 0700u);
  std::string many = "user::rwx,group::rwx,mask::rwx,other::r-x";
  for (unsigned i = 0; i < 10'000; ++i) many += ",user:bob:---:" + std::to_string(i);
  EXPECT_EQ(without(many, 0775), 0700u) << "more than an attribute holds";
}

}  // namespace
}  // namespace skink::image::test
