// SPDX-License-Identifier: Apache-2.0
#include "oci/flat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/json.h"

namespace skink::oci {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(FlatObject, HasItsMembersByType) {
  std::string text = R"( {"a":"x", "n" : -12,"t":true,"f":false, "o":{"k":"v","a":""},"z":0,"e":{} }
)";

  const auto object = FlatObject::parse(text);

  ASSERT_TRUE(object);
  EXPECT_EQ(object->get_string("a"), "x");
  EXPECT_EQ(object->get_int("n"), -12);
  EXPECT_TRUE(object->get_bool("t"));
  EXPECT_FALSE(object->get_bool("f"));
  EXPECT_THAT(object->get_strings("o"), ElementsAre(Pair("k", "v"), Pair("a", "")));
  EXPECT_THAT(object->get_strings("e"), IsEmpty());
  EXPECT_EQ(object->get_string("k"), "") << "it is the inner object's";
}

TEST(FlatObject, AMemberOfAnotherTypeIsNotThere) {
  std::string text = R"({"a":"x","n":1,"t":true})";

  const auto object = FlatObject::parse(text);

  ASSERT_TRUE(object);
  EXPECT_EQ(object->get_int("a"), 0);
  EXPECT_EQ(object->get_string("n"), "");
  EXPECT_FALSE(object->get_bool("n"));
  EXPECT_THAT(object->get_strings("a"), IsEmpty());
}

TEST(FlatObject, EscapesAreUndone) {
  std::string text = R"({"a\tb":"\"\\\/\b\f\n\r\tz","c":"after"})";

  const auto object = FlatObject::parse(text);

  ASSERT_TRUE(object);
  EXPECT_EQ(object->get_string("a\tb"), "\"\\/\b\f\n\r\tz");
  EXPECT_EQ(object->get_string("c"), "after");
}

TEST(FlatObject, GivesUpOnWhatItDoesNotKnow) {
  for (const char* other : {"",
                            " ",
                            "{",
                            "}",
                            "[]",
                            "1",
                            "{}x",
                            "{} {}",
                            R"({"a"})",
                            R"({"a":})",
                            R"({"a":1,})",
                            R"({,"a":1})",
                            R"({"a":1 "b":2})",
                            R"({"a":"x)",
                            R"({"a":"\)",
                            R"({"a":"\x"})",
                            R"({"a":"\u0041"})",
                            "{\"a\":\"\xc3\xa4\"}",
                            "{\"a\":\"\n\"}",
                            R"({"a":[1]})",
                            R"({"a":null})",
                            R"({"a":1.5})",
                            R"({"a":1e3})",
                            R"({"a":01})",
                            R"({"a":-})",
                            R"({"a":+1})",
                            R"({"a":9223372036854775808})",
                            R"({"a":tru})",
                            R"({"a":truex})",
                            R"({"a":1,"a":1})",
                            R"({"a":{"b":"1","b":"2"}})",
                            R"({"a":{"b":1}})",
                            R"({"a":{"b":{}}})",
                            R"({a:1})"}) {
    std::string text = other;
    EXPECT_FALSE(FlatObject::parse(text)) << other;
  }
}

TEST(FlatObject, TakesOnlyWhatIsJson) {
  for (const char* good :
       {R"({"a":"x","n":-12,"t":true,"o":{"k":"v"}})", "{}", "{\t}\r\n", R"({"n":0,"m":-0,"s":"\/"})"}) {
    std::string text = good;
    ASSERT_TRUE(FlatObject::parse(text)) << good;
    EXPECT_TRUE(parse_json(good)) << good;
  }
}

}  // namespace
}  // namespace skink::oci
