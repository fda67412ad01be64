// SPDX-License-Identifier: Apache-2.0
#include "oci/json.h"

#include <gtest/gtest.h>

#include <chrono>

namespace skink::oci {
namespace {

using namespace std::string_view_literals;

std::string error_of(std::string_view text, std::size_t most = kDocumentLimit) {
  const auto json = parse_json(text, most);
  return json ? "(parsed)" : json.error().text();
}

TEST(ParseJson, KeepsTheOrderAndTheValues) {
  const auto json = parse_json(R"({"z": [1, -2, 3.5, true, null, "s\u00fc\n"], "a": {"k": {}}, "m": []})");

  ASSERT_TRUE(json) << json.error().text();
  EXPECT_EQ(dump_json(*json), "{\"z\":[1,-2,3.5,true,null,\"s\xc3\xbc\\n\"],\"a\":{\"k\":{}},\"m\":[]}");
}

TEST(ParseJson, KeepsAll64Bits) {
  const auto json = parse_json("[18446744073709551615, -9223372036854775808]");

  ASSERT_TRUE(json);
  EXPECT_EQ((*json)[0].get<std::uint64_t>(), UINT64_MAX);
  EXPECT_EQ((*json)[1].get<std::int64_t>(), INT64_MIN);
}

// Ordinary documents are read by a reader of our own, all others by nlohmann's lexer: no difference may show.
TEST(ParseJson, ReadsOrdinaryDocumentsAsNlohmannDoes) {
  for (const char* text :
       {R"({"a":"x","b":[1,-2,0,-0],"c":{"d":null,"e":[true,false]},"f":{},"g":[]})", "  [ 1 , 2 ]\n", R"("")", "0",
        "-1", R"(["\"\\\/\b\f\n\r\t", "a\tb"])", "9223372036854775807", "-9223372036854775807", "[1795964678367838438]",
        "9223372036854775808", "18446744073709551615", "-9223372036854775808", "[1.5,1e3,-0.0]",
        R"(["\u00e9\ud83d\ude00"])", "[\"\xc3\xa9\"]", R"({"":""})"}) {
    const auto parsed = parse_json(text);
    const Json expected = Json::parse(text);

    ASSERT_TRUE(parsed) << text << ": " << parsed.error().text();
    EXPECT_EQ(*parsed, expected) << text;
    EXPECT_EQ(dump_json(*parsed), dump_json(expected)) << text;
    EXPECT_EQ(parsed->type(), expected.type()) << text;
  }
}

TEST(ParseJson, TakesNoMoreThanNlohmannDoes) {
  for (const char* text : {"01",
                           "-",
                           "-01",
                           "+1",
                           "1.",
                           "[1,]",
                           "[,1]",
                           "{\"a\":1,}",
                           "{\"a\" 1}",
                           "{a:1}",
                           "{1:1}",
                           "truex",
                           "nul",
                           "\"a",
                           "\"\\",
                           "\"\\x\"",
                           "\"\t\"",
                           "\"\x7f",
                           "[1 2]",
                           "1 2",
                           "{\"a\":1}}",
                           "[",
                           "{",
                           "",
                           " ",
                           "'a'",
                           "\"\xff\"",
                           "\"\\ud800\"",
                           "99999999999999999999"})
    EXPECT_FALSE(parse_json(text)) << text;
}

TEST(ParseJson, TakesAnyValueAsADocument) {
  for (const char* text : {"1", "\"x\"", "null", "[]", "{}", " \t\r\n{} \n"}) EXPECT_TRUE(parse_json(text)) << text;
}

TEST(ParseJson, SaysWhatIsWrongAndAtWhichByte) {
  const struct {
    std::string_view text, error;
  } cases[] = {
      {"", "byte 0: unexpected end of input; expected '[', '{', or a literal"},
      {"{\"a\": nulx}", "byte 9: invalid literal"},
      {"{\"a\": NaN}", "byte 6: invalid literal"},
      {"[Infinity]", "byte 1: invalid literal"},
      {"{\"a\": 1,}", "byte 8: unexpected '}'; expected string literal"},
      {"[1 2]", "byte 3: unexpected number literal; expected ']'"},
      {"{} {}", "byte 3: unexpected '{'; expected end of input"},
      {"[01]", "byte 2: unexpected number literal; expected ']'"},
      {"[1] // c", "byte 4: invalid literal"},
      {"\xef\xbb\xbf{}", "byte 0: a byte order mark, which JSON must not begin with"},
      {"[\"\xff\"]", "byte 2: invalid string: ill-formed UTF-8 byte"},
      {"[\"\xc0\xaf\"]", "byte 2: invalid string: ill-formed UTF-8 byte"},
      {"[\"\xed\xa0\x80\"]", "byte 3: invalid string: ill-formed UTF-8 byte"},
      {"[\"a\nb\"]", "byte 3: invalid string: control character U+000A (LF) must be escaped to \\u000A or \\n"},
      {"[\"\\ud800\"]", "byte 8: invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF"},
      {"[\"\\udc00\"]", "byte 7: invalid string: surrogate U+DC00..U+DFFF must follow U+D800..U+DBFF"},
      {"[1e999]", "byte 5: the number is out of range"},
      {"[1, 18446744073709551616]", "byte 4: the number needs more than 64 bits"},
      {"[-9223372036854775809]", "byte 1: the number needs more than 64 bits"},
      {"18446744073709551616", "byte 0: the number needs more than 64 bits"},
      {"{\"a\": 1, \"b\": {\"a\": 1}, \"a\": 2}", "byte 30: the object that ends here has the key \"a\" twice"},
      {"{\"a\": 1, \"\\u0061\": 2}", "byte 20: the object that ends here has the key \"a\" twice"},
      {"[{\"\": 1, \"\": 2}]", "byte 14: the object that ends here has the key \"\" twice"},
  };

  for (const auto& [text, error] : cases) EXPECT_EQ(error_of(text), error) << text;
}

TEST(ParseJson, QuotesNothingOfTheDocumentInASyntaxError) {
  EXPECT_EQ(error_of("[\x1b[31m]").find('\x1b'), std::string::npos);
  EXPECT_EQ(error_of("[\"abc; expected nothing").find("nothing"), std::string::npos);
}

TEST(ParseJson, CountsDepthWhileParsing) {
  const std::string deepest = std::string(64, '[') + std::string(64, ']');

  EXPECT_EQ(error_of(deepest), "(parsed)");
  EXPECT_EQ(error_of(std::string(65, '[')), "byte 64: nested deeper than 64 levels");
  EXPECT_EQ(error_of(std::string(100'000, '[')), "byte 64: nested deeper than 64 levels");
}

TEST(ParseJson, CapsBytesAndValues) {
  EXPECT_EQ(error_of("[1,2,3]", 6), "7 bytes of JSON; at most 6 are read");

  std::string many = "[";
  for (int i = 0; i < 600'000; ++i) many += "[],";
  many += "0]";
  EXPECT_EQ(error_of(many), "byte 1500003: more than 500000 values");
}

TEST(ParseJson, FindsADuplicateAmongVeryManyKeysInTime) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += "\"key" + std::to_string(i) + "\":0,";
  const auto start = std::chrono::steady_clock::now();

  EXPECT_EQ(error_of(text + "\"last\":0}"), "(parsed)");
  EXPECT_NE(error_of(text + "\"key77\":0}").find("has the key \"key77\" twice"), std::string::npos);

  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20)) << "quadratic in the number of keys";
}

TEST(ParseJson, TakesANulByteOnlyEscaped) {
  EXPECT_EQ(error_of("[\"a\\u0000b\"]"), "(parsed)");
  EXPECT_EQ(error_of("[\"a\0b\"]"sv), "byte 3: a NUL byte");
  EXPECT_EQ(error_of("[1]\0[2]"sv), "byte 3: a NUL byte") << "nlohmann stops there and would not see the rest";
}

TEST(DumpJson, ReplacesWhatIsNotUtf8) {
  Json json;
  json["k"] = "a\xff";

  EXPECT_EQ(dump_json(json), "{\"k\":\"a\xef\xbf\xbd\"}");
}

TEST(Members, OfAnotherTypeGiveTheDefault) {
  const Json json = *parse_json(R"({"s": "x", "n": -7, "big": 18446744073709551615, "f": 1.5, "b": true})");

  EXPECT_EQ(get_string(json, "s"), "x");
  EXPECT_EQ(get_string(json, "n", "none"), "none");
  EXPECT_EQ(get_string(json, "absent", "none"), "none");
  EXPECT_EQ(get_int(json, "n"), -7);
  EXPECT_EQ(get_int(json, "big", 3), 3);
  EXPECT_EQ(get_int(json, "f", 3), 3);
  EXPECT_TRUE(get_bool(json, "b"));
  EXPECT_TRUE(get_bool(json, "n", true));
  EXPECT_EQ(find(json, "absent"), nullptr);
  EXPECT_EQ(find(Json("text"), "s"), nullptr);
}

}  // namespace
}  // namespace skink::oci
