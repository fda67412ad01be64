// SPDX-License-Identifier: Apache-2.0
// The bytes that are expected were made by libdbus 1.14 of the same calls (dbus_message_marshal).
#include "cgroup/bus_message.h"

#include <gtest/gtest.h>

#include <random>

#include "base/text.h"

namespace skink::cgroup::bus {
namespace {

std::string hex(std::string_view bytes) {
  return to_hex(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

std::string unhex(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2)
    out += static_cast<char>(*parse_int<unsigned char>(text.substr(at, 2), 16));
  return out;
}

Call call_of_manager(std::string member, std::vector<Value> arguments) {
  return {"org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
          std::move(member), std::move(arguments)};
}

Value of(const char* type, std::uint64_t number, double real = 0) {
  return {.type = type, .number = number, .real = real, .text = {}, .items = {}};
}

Value property(const char* name, Value value) { return structure({text(name), variant(std::move(value))}); }

TEST(EncodeCall, WithoutArguments) {
  const Call hello{"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", {}};
  EXPECT_EQ(hex(encode_call(hello, 1)),
            "6c01000100000000010000006e00000001016f00150000002f6f72672f667265656465736b746f702f44427573000000"
            "06017300140000006f72672e667265656465736b746f702e444275730000000002017300140000006f72672e66726565"
            "6465736b746f702e4442757300000000030173000500000048656c6c6f000000");
}

TEST(EncodeCall, WithTexts) {
  EXPECT_EQ(hex(encode_call(call_of_manager("StopUnit", {text("web.scope"), text("replace")}), 7)),
            "6c0100011c00000007000000a000000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64"
            "310000000000000006017300180000006f72672e667265656465736b746f702e73797374656d64310000000000000000"
            "02017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000"
            "030173000800000053746f70556e697400000000000000000801670002737300090000007765622e73636f7065000000"
            "070000007265706c61636500");
}

TEST(EncodeCall, NamesNobodyWhereNoBusIsBetween) {
  Call call = call_of_manager("StopUnit", {text("web.scope"), text("replace")});
  call.destination.clear();
  EXPECT_EQ(hex(encode_call(call, 7)),
            "6c0100011c000000070000007800000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64"
            "310000000000000002017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e61676572"
            "0000000000000000030173000800000053746f70556e697400000000000000000801670002737300090000007765622e"
            "73636f7065000000070000007265706c61636500");
}

// One property of each type: every alignment there is.
TEST(EncodeCall, WithPropertiesOfAllTypes) {
  std::vector<Value> properties = {
      property("Slice", text("machine.slice")),
      property("PIDs", array("u", {u32(4711)})),
      property("Delegate", boolean(true)),
      property("MemoryMax", u64(67108864)),
      property("AllowedCPUs", bytes({3})),
      property("DeviceAllow", array("(ss)", {structure({text("/dev/char/1:3"), text("rwm")})})),
      property("KillSignal", i32(-9)),
      property("X", of("d", 0, 1.5)),
      property("N", of("n", static_cast<std::uint64_t>(-2))),
      property("After", array("s", {}))};
  const auto call = call_of_manager(
      "StartTransientUnit", {text("web.scope"), text("fail"), array("(sv)", properties), array("(sa(sv))", {})});
  EXPECT_EQ(hex(encode_call(call, 0x01020304)),
            "6c0100015001000004030201b600000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64"
            "310000000000000006017300180000006f72672e667265656465736b746f702e73797374656d64310000000000000000"
            "02017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000"
            "030173001200000053746172745472616e7369656e74556e697400000000000008016700107373612873762961287361"
            "2873762929000000090000007765622e73636f7065000000040000006661696c000000002c01000005000000536c6963"
            "65000173000000000d0000006d616368696e652e736c6963650000000000000004000000504944730002617500000000"
            "04000000671200000800000044656c6567617465000162000100000000000000090000004d656d6f72794d6178000174"
            "000000000000000000000004000000000b000000416c6c6f776564435055730002617900010000000300000000000000"
            "0b000000446576696365416c6c6f770005612873732900001c000000000000000d0000002f6465762f636861722f313a"
            "330000000300000072776d00000000000a0000004b696c6c5369676e616c000169000000f7ffffff0100000058000164"
            "0000000000000000000000000000f83f010000004e00016e0000feff0000000005000000416674657200026173000000"
            "0000000000000000");
}

std::string some_message() { return encode_call(call_of_manager("StopUnit", {text("web.scope"), text("replace")}), 7); }

TEST(Decode, ReadsItsOwnCalls) {
  const auto message = decode(some_message());
  ASSERT_TRUE(message) << message.error().text();
  EXPECT_EQ(message->kind, Kind::call);
  EXPECT_EQ(message->path, "/org/freedesktop/systemd1");
  EXPECT_EQ(message->interface, "org.freedesktop.systemd1.Manager");
  EXPECT_EQ(message->member, "StopUnit");
  EXPECT_EQ(message->signature, "ss");
  EXPECT_EQ(message->sender, "");
  Reader body(message->body);
  EXPECT_EQ(body.text(), "web.scope");
  EXPECT_EQ(body.text(), "replace");
  EXPECT_TRUE(body.at_end());
  EXPECT_EQ(body.text(), std::nullopt);
}

// What dbus-daemon 1.14 answered to Hello: serial 1, to us, from itself, ":1.0".
constexpr const char* kHelloAnswer =
    "6c02010109000000010000003d00000006017300040000003a312e300000000005017500010000000801670001730000"
    "07017300140000006f72672e667265656465736b746f702e4442757300000000040000003a312e3000";

TEST(Decode, ReadsAnAnswerOfTheBus) {
  const auto message = decode(unhex(kHelloAnswer));
  ASSERT_TRUE(message) << message.error().text();
  EXPECT_EQ(message->kind, Kind::answer);
  EXPECT_EQ(message->answers, 1U);
  EXPECT_EQ(message->sender, "org.freedesktop.DBus");
  EXPECT_EQ(message->signature, "s");
  EXPECT_EQ(Reader(message->body).text(), ":1.0");
}

TEST(MessageLength, IsTheWholeMessages) {
  const std::string message = some_message();
  for (std::size_t size = 0; size < 16; ++size)
    EXPECT_EQ(*message_length(std::string_view(message).substr(0, size)), std::nullopt) << size;
  EXPECT_EQ(*message_length(message), message.size());
  EXPECT_EQ(*message_length(message + "more"), message.size());
}

std::string refusal(std::string_view bytes) {
  const auto length = message_length(bytes);
  return length ? "" : length.error().text();
}

TEST(MessageLength, RefusesWhatIsNoneOrTooLong) {
  std::string message = some_message();
  message[0] = 'B';
  EXPECT_EQ(refusal(message), "message from the bus: it is not in this machine's byte order");
  message = some_message();
  message[3] = 2;
  EXPECT_EQ(refusal(message), "message from the bus: its version is not 1");
  for (const std::size_t at : {4U, 12U}) {
    message = some_message();
    message.replace(at, 4, std::string("\xff\xff\xff\xff", 4));
    EXPECT_EQ(refusal(message), "message from the bus: it is longer than messages can be") << at;
    // Either half alone is within the limit.
    message = some_message();
    message.replace(4, 4, std::string("\0\0\0\x06", 4));
    message.replace(12, 4, std::string("\0\0\0\x06", 4));
    EXPECT_EQ(refusal(message), "message from the bus: it is longer than messages can be");
  }
}

TEST(Decode, RefusesEveryTruncation) {
  const std::string message = some_message();
  for (std::size_t size = 0; size < message.size(); ++size)
    EXPECT_FALSE(decode(std::string_view(message).substr(0, size))) << size;
  EXPECT_FALSE(decode(message + "x"));
}

// A header that says less than it has: each of its fields cut off once.
TEST(Decode, RefusesAHeaderThatIsCutOff) {
  const std::string whole = some_message();
  const unsigned fields = static_cast<unsigned char>(whole[12]);
  unsigned refused = 0;
  for (unsigned size = 1; size < fields; ++size) {
    std::string message = whole.substr(0, 16 + size);
    message[12] = static_cast<char>(size);
    message[4] = 0;
    message.resize((message.size() + 7) / 8 * 8);
    refused += decode(message) ? 0U : 1U;
  }
  EXPECT_GT(refused, fields / 2);
}

// Whatever bytes come: an error or a message, no crash and nothing outside of them (the sanitizers look on).
TEST(Decode, StandsAnyBytes) {
  std::mt19937 random(20260101);
  const auto below = [&](std::size_t end) { return static_cast<std::size_t>(random()) % end; };
  const std::string seeds[] = {some_message(), unhex(kHelloAnswer), std::string(64, '\0')};
  constexpr int kTurns = 30000;
  int read = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    std::string bytes = seeds[below(3)];
    for (std::size_t change = below(6) + 1; change > 0; --change)
      bytes[below(bytes.size())] = static_cast<char>(below(4) == 0 ? 0xff : below(256));
    bytes.resize(below(8) == 0 ? below(bytes.size() + 1) : bytes.size());
    const auto length = message_length(bytes);
    if (length && *length && **length <= bytes.size()) (void)decode(std::string_view(bytes).substr(0, **length));
    const auto message = decode(bytes);
    read += message ? 1 : 0;
    Reader reader(message ? std::string_view(message->body) : std::string_view(bytes), below(20));
    for (int step = 0; step < 8; ++step) {
      switch (below(5)) {
        case 0: (void)reader.byte(); break;
        case 1: (void)reader.u32(); break;
        case 2: (void)reader.text(); break;
        case 3: (void)reader.signature(); break;
        default: reader.align(8);
      }
    }
  }
  // Both ways were gone.
  EXPECT_GT(read, 0);
  EXPECT_LT(read, kTurns);
}

TEST(Reader, TellsNothingOfWhatIsNotThere) {
  EXPECT_EQ(Reader("").byte(), std::nullopt);
  EXPECT_EQ(Reader("abc").u32(), std::nullopt);
  EXPECT_EQ(Reader("abc", 100).byte(), std::nullopt);
  EXPECT_EQ(Reader(std::string_view("\xff\xff\xff\xff", 4)).text(), std::nullopt);
  EXPECT_EQ(Reader(std::string_view("\x03\0\0\0abc", 7)).text(), std::nullopt) << "no NUL at its end";
  EXPECT_EQ(Reader(std::string_view("\x03\0\0\0abc", 8)).text(), "abc");
  EXPECT_EQ(Reader(std::string_view("\x05(s", 3)).signature(), std::nullopt);
}

}  // namespace
}  // namespace skink::cgroup::bus
