// SPDX-License-Identifier: Apache-2.0
// What values mean is checked against GLib 2.74 (g_variant_parse); where we refuse more, the test says so.
#include "cgroup/gvariant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace skink::cgroup {
namespace {

using bus::Value;
using ::testing::HasSubstr;

Value number(const char* type, std::uint64_t number) {
  return {.type = type, .number = number, .real = 0, .text = {}, .items = {}};
}
Value real(double real) { return {.type = "d", .number = 0, .real = real, .text = {}, .items = {}}; }

struct Example {
  std::string text;
  Value value;
};

TEST(ParseGvariant, TakesWhatPropertiesHave) {
  const auto minus = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  const Example rows[] = {
      {"uint64 123", number("t", 123)},
      {"uint64 18446744073709551615", number("t", ~0ULL)},
      {"  uint64\t 5 \n", number("t", 5)},
      {"int32 9", number("i", 9)},
      {"9", number("i", 9)},
      {"-1", number("i", minus(-1))},
      {"+5", number("i", 5)},
      {"-2147483648", number("i", minus(-2147483648LL))},
      {"int64 -9223372036854775808", number("x", 1ULL << 63U)},
      {"int16 -2", number("n", minus(-2))},
      {"uint16 65535", number("q", 65535)},
      {"uint32 010", number("u", 8)},
      {"byte 0x10", number("y", 16)},
      {"-0x10", number("i", minus(-16))},
      {"@t 5", number("t", 5)},
      {"@t @t 5", number("t", 5)},
      {"true", bus::boolean(true)},
      {"boolean false", bus::boolean(false)},
      {"1.5", real(1.5)},
      {"1e3", real(1000)},
      {"double 5", real(5)},
      {"'inactive-or-failed'", bus::text("inactive-or-failed")},
      {"\"it's\"", bus::text("it's")},
      {"'a\\'b\\\\c\\n\\t\\\"'", bus::text("a'b\\c\n\t\"")},
      {"''", bus::text("")},
      {"string 'x'", bus::text("x")},
      {"'gr\xc3\xbc\xc3\x9f'", bus::text("gr\xc3\xbc\xc3\x9f")},
      {"['a.service']", bus::array("s", {bus::text("a.service")})},
      {"[ 'a' ,\n'b' ]", bus::array("s", {bus::text("a"), bus::text("b")})},
      {"@as []", bus::array("s", {})},
      {"@as ['a', @s 'b']", bus::array("s", {bus::text("a"), bus::text("b")})},
      {"[uint64 1, 2]", bus::array("t", {bus::u64(1), bus::u64(2)})},
      {"@ay [1, 255]", bus::bytes({1, 255})},
      {"@aas [[], ['a']]", bus::array("as", {bus::array("s", {}), bus::array("s", {bus::text("a")})})},
      {"('a', uint64 5)", bus::structure({bus::text("a"), bus::u64(5)})},
      {"('a',)", bus::structure({bus::text("a")})},
      {"@(st) ('a', 5)", bus::structure({bus::text("a"), bus::u64(5)})},
      {"@a(st) []", bus::array("(st)", {})},
      {"[('/dev/sda', uint64 5), ('/dev/sdb', 6)]",
       bus::array("(st)", {bus::structure({bus::text("/dev/sda"), bus::u64(5)}),
                           bus::structure({bus::text("/dev/sdb"), bus::u64(6)})})},
      {"[('a', ['b']), ('c', ['d', 'e'])]",
       bus::array("(sas)", {bus::structure({bus::text("a"), bus::array("s", {bus::text("b")})}),
                            bus::structure({bus::text("c"), bus::array("s", {bus::text("d"), bus::text("e")})})})},
  };
  for (const Example& row : rows) {
    const auto value = parse_gvariant(row.text);
    ASSERT_TRUE(value) << row.text << ": " << value.error().text();
    EXPECT_EQ(*value, row.value) << row.text << " has the type " << value->type;
  }
}

TEST(ParseGvariant, RefusesTheRest) {
  const std::string rows[] = {
      "", " ", "hello", "uint64", "uint64 ", "uint64 -1", "byte 256", "int32 2147483648", "int32 -2147483649",
      "99999999999999999999", "uint64 18446744073709551616", "08", "0x", "0x1g", "1.5.2", "uint64 1.5", "int32 true",
      "boolean 1", "uint64 'a'", "string 5", "5 6", "'a' 'b'", "'a", "\"a'", "'\\q'", "'\\", "[", "[1", "[1 2]",
      "[1, 'a']", "[1, 2.5]", "[]", "[[], ['a']]", "()", "('a'", "(", ",", "@", "@as", "@ as []", "@q", "@v 5", "@m 5",
      "@a{sv} {}", "{'a': 1}", "<5>", "nothing", "just 5", "@( ) ()", "@() ()", "@(s ('a')", "@a []", "@s 5", "@t 'a'",
      "@as ['a', 1]", "@as [@i 5]", "@as ('a',)", "@(ss) ['a', 'b']", "@(ss) ('a',)", "@(ss) ('a', 'b', 'c')",
      "@t @s 'a'", "[('a', 'b'), ('c',)]", "[('a', 'b'), ('c', 'd', 'e')]", "[('a', ['b']), ('c', ['d'], 'e')]",
      // GLib takes these; no property needs them.
      "uint64 uint64 5", "[1, uint64 2]", "b'bytes'", "objectpath '/a'", "signature 's'", "double 0x10"};
  for (const std::string& row : rows) {
    const auto value = parse_gvariant(row);
    ASSERT_FALSE(value) << row << " has the type " << value->type;
    EXPECT_EQ(value.error().code(), Code::invalid_config) << row;
    EXPECT_THAT(value.error().text(), HasSubstr("is no GVariant text")) << row;
  }
}

// The bus ends the connection of whoever sends one.
TEST(ParseGvariant, RefusesStringsThatNoMessageCanHave) {
  const auto value = parse_gvariant(std::string_view("'a\0b'", 5));
  ASSERT_FALSE(value);
  EXPECT_THAT(value.error().text(), HasSubstr("NUL"));
}

// Recursion stops long before the stack does, whatever it is by.
TEST(ParseGvariant, StandsDeepAndLongTexts) {
  constexpr std::size_t kMany = 4U << 20;
  const auto repeated = [](std::string_view word) {
    std::string out;
    while (out.size() < kMany) out += word;
    return out;
  };
  for (const char* const word :
       {"[", "(", "@t ", "@as ", "[@as ", "uint64 ", "'", "\\", "@", "@a", "@(", "('a',", "[1,"}) {
    const std::string text = repeated(word);
    for (const std::string& one : {text, text + "5", "@" + text + " 5", "'" + text}) {
      const auto value = parse_gvariant(one);
      if (value) continue;
      EXPECT_LT(value.error().text().size(), 400U) << word;
    }
  }
  EXPECT_FALSE(parse_gvariant("@" + std::string(kMany, 'a') + "s []"));
  EXPECT_FALSE(parse_gvariant("@" + std::string(kMany, '(') + "s 5"));
  const auto string = parse_gvariant("'" + std::string(kMany, 'x') + "'");
  ASSERT_TRUE(string);
  EXPECT_EQ(string->text.size(), kMany);
}

// A signature has at most 255 bytes.
TEST(ParseGvariant, RefusesTypesThatAreTooLong) {
  std::string members = "(";
  for (int i = 0; i < 253; ++i) members += "1,";
  EXPECT_TRUE(parse_gvariant(members + ")"));
  const auto value = parse_gvariant(members + "1)");
  ASSERT_FALSE(value);
  EXPECT_THAT(value.error().text(), HasSubstr("too long"));
}

}  // namespace
}  // namespace skink::cgroup
