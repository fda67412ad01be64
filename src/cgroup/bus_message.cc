// SPDX-License-Identifier: Apache-2.0
#include "cgroup/bus_message.h"

#include <bit>

#include "base/text.h"

namespace skink::cgroup::bus {
namespace {

constexpr std::size_t kFixedHeader = 16;
constexpr std::size_t kLongest = 128U << 20;  // "Message Format": 128 MiB, header included
constexpr char kLittleEndian = 'l';

// "Message Format", header fields.
enum Field : unsigned char {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSender = 7,
  kSignature = 8
};

std::size_t alignment_of(char type) {
  switch (type) {
    case 'y':
    case 'g':
    case 'v': return 1;
    case 'n':
    case 'q': return 2;
    case 'x':
    case 't':
    case 'd':
    case '(':
    case '{': return 8;
    default: return 4;
  }
}

class Writer {
 public:
  void value(const Value& value);
  std::string take() { return std::move(out_); }
  void align(std::size_t to) { out_.resize((out_.size() + to - 1) / to * to); }

 private:
  void number(std::uint64_t number, std::size_t width) {
    align(width);
    for (std::size_t i = 0; i < width; ++i) out_ += static_cast<char>(number >> (8 * i) & 0xff);
  }
  void text(const std::string& text) {
    number(text.size(), 4);
    out_ += text;
    out_ += '\0';
  }
  void signature(const std::string& text) {
    out_ += static_cast<char>(text.size());
    out_ += text;
    out_ += '\0';
  }
  void array(const Value& value);
  std::string out_;
};

// Its length does not count the padding before the first item.
void Writer::array(const Value& value) {
  number(0, 4);
  const std::size_t length_at = out_.size() - 4;
  align(alignment_of(value.type[1]));
  const std::size_t start = out_.size();
  for (const Value& item : value.items) this->value(item);
  const std::size_t length = out_.size() - start;
  for (std::size_t i = 0; i < 4; ++i) out_[length_at + i] = static_cast<char>(length >> (8 * i) & 0xff);
}

void Writer::value(const Value& value) {
  switch (value.type[0]) {
    case 'y': number(value.number, 1); break;
    case 'n':
    case 'q': number(value.number, 2); break;
    case 'b':
    case 'i':
    case 'u': number(value.number, 4); break;
    case 'x':
    case 't': number(value.number, 8); break;
    case 'd': number(std::bit_cast<std::uint64_t>(value.real), 8); break;
    case 's':
    case 'o': text(value.text); break;
    case 'g': signature(value.text); break;
    case 'a': array(value); break;
    case 'v':
      signature(value.items.front().type);
      this->value(value.items.front());
      break;
    default:  // a structure
      align(8);
      for (const Value& item : value.items) this->value(item);
  }
}

Value byte(std::uint64_t number) { return {.type = "y", .number = number, .real = 0, .text = {}, .items = {}}; }
Value typed_text(const char* type, std::string text) {
  return {.type = type, .number = 0, .real = 0, .text = std::move(text), .items = {}};
}

Value header_field(Field field, Value value) { return structure({byte(field), variant(std::move(value))}); }

Error broken(std::string_view what) { return Error::make(Code::corrupt, "message from the bus: ", what); }

std::uint32_t little_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < 4; ++i)
    number |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return number;
}

std::size_t padded(std::size_t size) { return (size + 7) / 8 * 8; }

// One (yv) of the header: all that exist have one of these types.
Result<void> read_field(Reader& reader, Message& message) {
  reader.align(8);
  const auto field = reader.byte();
  const auto type = reader.signature();
  if (!field || !type) return broken("its header is cut off");
  if (*type == "u") {
    const auto number = reader.u32();
    if (!number) return broken("its header is cut off");
    if (*field == kReplySerial) message.answers = *number;
    return {};
  }
  if (*type != "s" && *type != "o" && *type != "g") return broken("its header has a field of an unknown type");
  const auto text = *type == "g" ? reader.signature() : reader.text();
  if (!text) return broken("its header is cut off");
  switch (*field) {
    case kPath: message.path = *text; break;
    case kInterface: message.interface = *text; break;
    case kMember: message.member = *text; break;
    case kErrorName: message.error = *text; break;
    case kSender: message.sender = *text; break;
    case kSignature: message.signature = *text; break;
    default: break;
  }
  return {};
}

std::string signature_of(const std::vector<Value>& values) {
  std::string out;
  for (const Value& value : values) out += value.type;
  return out;
}

}  // namespace

Value boolean(bool value) { return {.type = "b", .number = value ? 1U : 0U, .real = 0, .text = {}, .items = {}}; }
Value i32(std::int32_t value) {
  return {.type = "i", .number = static_cast<std::uint32_t>(value), .real = 0, .text = {}, .items = {}};
}
Value u32(std::uint32_t value) { return {.type = "u", .number = value, .real = 0, .text = {}, .items = {}}; }
Value u64(std::uint64_t value) { return {.type = "t", .number = value, .real = 0, .text = {}, .items = {}}; }
Value text(std::string value) { return typed_text("s", std::move(value)); }

Value bytes(const std::vector<std::uint8_t>& values) {
  std::vector<Value> items;
  items.reserve(values.size());
  for (const std::uint8_t one : values) items.push_back(byte(one));
  return array("y", std::move(items));
}

Value array(std::string_view element, std::vector<Value> items) {
  return {.type = str('a', element), .number = 0, .real = 0, .text = {}, .items = std::move(items)};
}

Value structure(std::vector<Value> items) {
  std::string type = str('(', signature_of(items), ')');
  return {.type = std::move(type), .number = 0, .real = 0, .text = {}, .items = std::move(items)};
}

Value variant(Value value) {
  Value out{.type = "v", .number = 0, .real = 0, .text = {}, .items = {}};
  out.items.push_back(std::move(value));
  return out;
}

std::string encode_call(const Call& call, std::uint32_t serial) {
  Writer body;
  for (const Value& value : call.arguments) body.value(value);
  const std::string content = body.take();
  std::vector<Value> fields = {header_field(kPath, typed_text("o", call.path))};
  if (!call.destination.empty()) fields.push_back(header_field(kDestination, text(call.destination)));
  fields.push_back(header_field(kInterface, text(call.interface)));
  fields.push_back(header_field(kMember, text(call.member)));
  if (!call.arguments.empty())
    fields.push_back(header_field(kSignature, typed_text("g", signature_of(call.arguments))));
  Writer out;
  constexpr unsigned kNoFlags = 0, kVersion = 1;
  for (const unsigned one :
       {static_cast<unsigned>(kLittleEndian), static_cast<unsigned>(Kind::call), kNoFlags, kVersion})
    out.value(byte(one));
  out.value(u32(static_cast<std::uint32_t>(content.size())));
  out.value(u32(serial));
  out.value(array("(yv)", std::move(fields)));
  out.align(8);
  return out.take() + content;
}

Result<std::optional<std::size_t>> message_length(std::string_view bytes) {
  if (bytes.size() < kFixedHeader) return std::optional<std::size_t>{};
  if (bytes[0] != kLittleEndian) return broken("it is not in this machine's byte order");
  if (bytes[3] != 1) return broken("its version is not 1");
  const std::size_t body = little_u32(bytes, 4), fields = little_u32(bytes, 12);
  const std::size_t length = padded(kFixedHeader + fields) + body;
  if (length > kLongest) return broken("it is longer than messages can be");
  return std::optional(length);
}

Result<Message> decode(std::string_view bytes) {
  const auto length = TRY(message_length(bytes));
  if (!length || *length != bytes.size()) return broken("it is cut off");
  Message message;
  message.kind = static_cast<Kind>(bytes[1]);
  const std::size_t end = kFixedHeader + little_u32(bytes, 12);
  for (Reader reader(bytes.substr(0, end), kFixedHeader); !reader.at_end();) TRY(read_field(reader, message));
  message.body = bytes.substr(padded(end));
  return message;
}

std::optional<std::string> Reader::take(std::size_t size) {
  if (at_ > body_.size() || body_.size() - at_ < size) return std::nullopt;
  std::string out(body_.substr(at_, size));
  at_ += size;
  return out;
}

std::optional<std::uint8_t> Reader::byte() {
  const auto one = take(1);
  return one ? std::optional(static_cast<std::uint8_t>(one->front())) : std::nullopt;
}

std::optional<std::uint32_t> Reader::u32() {
  align(4);
  const auto four = take(4);
  return four ? std::optional(little_u32(*four, 0)) : std::nullopt;
}

// Both kinds of text end with a NUL that their length does not count.
std::optional<std::string> Reader::text() {
  const auto size = u32();
  auto out = size ? take(*size) : std::nullopt;
  return out && take(1) ? out : std::nullopt;
}

std::optional<std::string> Reader::signature() {
  const auto size = byte();
  auto out = size ? take(*size) : std::nullopt;
  return out && take(1) ? out : std::nullopt;
}

}  // namespace skink::cgroup::bus
