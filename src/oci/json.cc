// SPDX-License-Identifier: Apache-2.0
#include "oci/json.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "base/text.h"
#include "oci/scanner.h"

namespace skink::oci {
namespace {

constexpr std::size_t kDeepest = 64;
/// Values of one document. Two bytes of text can be a value of 64 bytes in memory; this keeps the worst document below
/// 100 MiB (attack A68).
constexpr std::size_t kMostValues = 500'000;

/// Walks the text and leaves word of how far the lexer has come: only nlohmann's own errors carry a position.
class Cursor {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor() = default;
  Cursor(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& other) const { return at_ == other.at_; }

 private:
  const char* at_ = nullptr;
  const char** reached_ = nullptr;
};

struct Entry {
  std::string key;
  Json value;
};

/// The index of a key that occurs twice, or the size. Sorting, not hashing: no document can choose bad cases.
std::size_t find_duplicate(const Entry* entries, std::size_t count) {
  constexpr std::size_t kFew = 16;
  if (count <= kFew) {
    for (std::size_t i = 1; i < count; ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (entries[i].key == entries[j].key) return i;
    return count;
  }
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return entries[a].key < entries[b].key; });
  const auto same = [&](std::size_t a, std::size_t b) { return entries[a].key == entries[b].key; };
  const auto at = std::adjacent_find(order.begin(), order.end(), same);
  return at == order.end() ? count : *at;
}

/// nlohmann's words for a syntax error without its prefix and without what it quotes from the document.
std::string reason_of(const nlohmann::detail::exception& error) {
  constexpr int kNumberOverflow = 406;
  if (error.id == kNumberOverflow) return "the number is out of range";
  const std::string_view what = error.what();
  const auto dash = what.find(" - ");
  if (dash == std::string_view::npos) return "not JSON";
  const std::string_view rest = what.substr(dash + 3);
  return printable(rest.substr(0, rest.find("; last read: ")));
}

/// Builds the document from nlohmann's events. Values of all open objects and arrays lie on one stack and are moved
/// into place when their container ends: ordered_json's own way looks up each key along the whole object and copies
/// its members whenever it grows.
class Builder {
 public:
  Builder(std::string_view text, const char** reached) : text_(text), reached_(reached) {}

  bool null() { return add(Json(nullptr)); }
  bool boolean(bool value) { return add(Json(value)); }
  bool number_integer(Json::number_integer_t value) { return add(Json(value)); }
  bool number_unsigned(Json::number_unsigned_t value) { return add(Json(value)); }
  bool number_float(Json::number_float_t value, const std::string& digits) {
    // nlohmann turns an integer beyond 64 bits into a double; its digits would be lost without a word.
    if (digits.find_first_of(".eE") != std::string::npos) return add(Json(value));
    const auto before = offset() - std::min(offset(), digits.size());
    return fail(text_.rfind(digits, before), str("the number needs more than 64 bits"));
  }
  bool string(std::string& value) { return add(Json(std::move(value))); }
  bool binary(Json::binary_t&) { return fail(offset(), "binary data"); }
  bool start_object(std::size_t) { return open(); }
  bool start_array(std::size_t) { return open(); }
  bool key(std::string& name) {
    key_ = std::move(name);
    return true;
  }
  bool end_object();
  bool end_array();
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    return fail(position == 0 ? 0 : position - 1, reason_of(error));
  }

  Result<Json> take() {
    if (error_) return std::move(*error_);
    return std::move(entries_.front().value);
  }

 private:
  struct Frame {
    std::string key;
    std::size_t first;
  };

  [[nodiscard]] std::size_t offset() const { return static_cast<std::size_t>(*reached_ - text_.data()); }
  bool fail(std::size_t at, std::string_view reason) {
    error_ = Error::make(Code::invalid_config, "byte ", at, ": ", reason);
    return false;
  }
  bool add(Json value) {
    if (++values_ > kMostValues) return fail(offset(), str("more than ", kMostValues, " values"));
    entries_.push_back({std::move(key_), std::move(value)});
    key_.clear();
    return true;
  }
  bool open() {
    if (frames_.size() == kDeepest) return fail(offset() - 1, str("nested deeper than ", kDeepest, " levels"));
    frames_.push_back({std::move(key_), entries_.size()});
    key_.clear();
    return true;
  }
  bool close(std::size_t first, Json value) {
    entries_.resize(first);
    key_ = std::move(frames_.back().key);
    frames_.pop_back();
    return add(std::move(value));
  }

  std::string_view text_;
  const char** reached_;
  std::vector<Entry> entries_;
  std::vector<Frame> frames_;
  std::string key_;
  std::size_t values_ = 0;
  std::optional<Error> error_;
};

bool Builder::end_object() {
  const std::size_t first = frames_.back().first;
  const std::size_t count = entries_.size() - first;
  const std::size_t twice = find_duplicate(entries_.data() + first, count);
  if (twice != count) {
    const std::string key = quoted(std::string_view(entries_[first + twice].key).substr(0, 64));
    return fail(offset() - 1, str("the object that ends here has the key ", key, " twice"));
  }
  Json object(Json::value_t::object);
  std::vector<Json::object_t::value_type>& members = object.get_ref<Json::object_t&>();
  members.reserve(count);
  for (std::size_t i = first; i < entries_.size(); ++i)
    members.emplace_back(std::move(entries_[i].key), std::move(entries_[i].value));
  return close(first, std::move(object));
}

bool Builder::end_array() {
  const std::size_t first = frames_.back().first;
  Json array(Json::value_t::array);
  Json::array_t& elements = array.get_ref<Json::array_t&>();
  elements.reserve(entries_.size() - first);
  for (std::size_t i = first; i < entries_.size(); ++i) elements.push_back(std::move(entries_[i].value));
  return close(first, std::move(array));
}

/// Gives the builder the events of a document as runtimes and we ourselves write them, several times as fast as
/// nlohmann's lexer. Gives up on whatever is not, or may not be, in order.
class QuickReader {
 public:
  QuickReader(std::string_view text, Builder& builder) : scanner_(text.data(), text.size()), builder_(builder) {}

  bool read() { return read_value() && scanner_.is_at_end(); }

 private:
  bool read_string(std::string& string) {
    if (!scanner_.take('"')) return false;
    string = scanner_.take_plain();
    while (scanner_.take_next('\\')) {
      const char c = scanner_.take_escaped();
      if (c == '\0') return false;
      string += c;
      string += scanner_.take_plain();
    }
    return scanner_.take_next('"');
  }

  bool read_number() {
    const bool negative = scanner_.peek() == '-';
    std::int64_t number = 0;
    if (!scanner_.take_number(number)) return false;
    return negative ? builder_.number_integer(number) : builder_.number_unsigned(static_cast<std::uint64_t>(number));
  }

  // The builder ends it when it goes too deep.
  bool read_object() {
    if (!scanner_.take('{') || !builder_.start_object(0)) return false;
    if (scanner_.take('}')) return builder_.end_object();
    do {
      std::string key;
      if (!read_string(key) || !scanner_.take(':') || !builder_.key(key) || !read_value()) return false;
    } while (scanner_.take(','));
    return scanner_.take('}') && builder_.end_object();
  }

  bool read_array() {
    if (!scanner_.take('[') || !builder_.start_array(0)) return false;
    if (scanner_.take(']')) return builder_.end_array();
    do
      if (!read_value()) return false;
    while (scanner_.take(','));
    return scanner_.take(']') && builder_.end_array();
  }

  bool read_value() {
    switch (scanner_.peek()) {
      case '"': {
        std::string string;
        return read_string(string) && builder_.string(string);
      }
      case '{': return read_object();
      case '[': return read_array();
      case 't': return scanner_.take_word("true") && builder_.boolean(true);
      case 'f': return scanner_.take_word("false") && builder_.boolean(false);
      case 'n': return scanner_.take_word("null") && builder_.null();
      default: return read_number();
    }
  }

  Scanner<const char> scanner_;
  Builder& builder_;
};

}  // namespace

Result<Json> parse_json(std::string_view text, std::size_t most) {
  if (text.size() > most)
    return Error::make(Code::invalid_config, text.size(), " bytes of JSON; at most ", most, " are read");
  if (text.starts_with("\xef\xbb\xbf"))
    return Error::make(Code::invalid_config, "byte 0: a byte order mark, which JSON must not begin with");
  // nlohmann takes a NUL for the end of the text, so that what follows would go unread.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    return Error::make(Code::invalid_config, "byte ", nul, ": a NUL byte");
  const char* reached = text.data();
  if (Builder quick(text, &reached); QuickReader(text, quick).read()) return quick.take();
  Builder builder(text, &reached);
  const Cursor first(text.data(), &reached);
  const Cursor last(text.data() + text.size(), &reached);
  (void)Json::sax_parse(first, last, &builder);
  return builder.take();
}

std::string dump_json(const Json& json, bool pretty) {
  return json.dump(pretty ? 2 : -1, ' ', false, Json::error_handler_t::replace);
}

const Json* find(const Json& json, std::string_view key) {
  const auto* object = json.get_ptr<const Json::object_t*>();
  if (object == nullptr) return nullptr;
  for (const auto& member : *object)
    if (member.first == key) return &member.second;
  return nullptr;
}

std::string get_string(const Json& json, std::string_view key, std::string_view otherwise) {
  const Json* value = find(json, key);
  const auto* text = value == nullptr ? nullptr : value->get_ptr<const Json::string_t*>();
  return text == nullptr ? std::string(otherwise) : *text;
}

std::int64_t get_int(const Json& json, std::string_view key, std::int64_t otherwise) {
  const Json* value = find(json, key);
  if (value == nullptr || !value->is_number_integer()) return otherwise;
  if (value->is_number_unsigned() && !std::in_range<std::int64_t>(value->get<std::uint64_t>())) return otherwise;
  return value->get<std::int64_t>();
}

bool get_bool(const Json& json, std::string_view key, bool otherwise) {
  const Json* value = find(json, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : otherwise;
}

}  // namespace skink::oci
