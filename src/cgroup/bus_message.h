// SPDX-License-Identifier: Apache-2.0
// Messages of D-Bus as bytes, as far as a caller of systemd needs them: method calls out, their answers and signals in.
// D-Bus Specification, "Type System" and "Message Protocol". Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink::cgroup::bus {

/// A value and its type. Numbers of every width are in `number` (negative ones as two's complement).
struct Value {
  std::string type;  ///< a complete type: "s", "t", "as", "a(st)", "v"
  std::uint64_t number = 0;
  double real = 0;
  std::string text;          ///< of s, o and g
  std::vector<Value> items;  ///< of an array, a structure or a dictionary's entry; what is in a variant
  bool operator==(const Value&) const = default;
};
Value boolean(bool value);
Value i32(std::int32_t value);
Value u32(std::uint32_t value);
Value u64(std::uint64_t value);
Value text(std::string value);
Value bytes(const std::vector<std::uint8_t>& values);
/// `element` is the type of the items, which an empty array cannot tell.
Value array(std::string_view element, std::vector<Value> items);
Value structure(std::vector<Value> items);
Value variant(Value value);

/// A call that expects an answer.
struct Call {
  std::string destination;  ///< left out when empty: a peer without a bus between
  std::string path, interface, member;
  std::vector<Value> arguments;
};
/// The message, little endian.
std::string encode_call(const Call& call, std::uint32_t serial);

enum class Kind { call = 1, answer = 2, error = 3, signal = 4 };

/// What came in: its header and the undecoded body.
struct Message {
  Kind kind = Kind::call;
  std::uint32_t answers = 0;  ///< the serial of the call that this answers
  std::string path, interface, member, error, signature;
  std::string sender;  ///< as the bus knows it, ":1.7"; nobody can choose it
  std::string body;
};

/// How long the message that begins with `bytes` is; nothing while too few are there to tell (16). Errors: corrupt when
/// it is none, of another byte order, or longer than D-Bus allows.
Result<std::optional<std::size_t>> message_length(std::string_view bytes);
/// A whole message. Errors: corrupt.
Result<Message> decode(std::string_view bytes);

/// Reads a body from its beginning, value by value; what is not there is nothing.
class Reader {
 public:
  explicit Reader(std::string_view body, std::size_t at = 0) : body_(body), at_(at) {}
  std::optional<std::uint8_t> byte();
  std::optional<std::uint32_t> u32();
  std::optional<std::string> text();       ///< of s and o
  std::optional<std::string> signature();  ///< of g: before the content of a variant
  void align(std::size_t to) { at_ = (at_ + to - 1) / to * to; }
  [[nodiscard]] bool at_end() const { return at_ >= body_.size(); }

 private:
  std::optional<std::string> take(std::size_t size);
  std::string_view body_;
  std::size_t at_ = 0;
};

}  // namespace skink::cgroup::bus
