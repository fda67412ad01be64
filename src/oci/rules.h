// SPDX-License-Identifier: Apache-2.0
// Rules: what a member of a document may hold beyond its type (ranges, words, names of numbers), and how it is shown in
// an error. Internal to oci/.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/table_text.h"

namespace skink::oci {

/// Text of a document for one line of an error: between quotes, printable, cut when it is long.
std::string brief(std::string_view text);

/// A bound that can be any int64 or any uint64.
struct Limit {
  template <typename T>
  constexpr Limit(T number) : negative(number < 0), bits(static_cast<std::uint64_t>(number)) {}  // NOLINT
  bool negative;
  std::uint64_t bits;
};

/// Both ends belong to it; by default everything that T can hold.
template <typename T>
struct Range {
  T least = std::numeric_limits<T>::min();
  T most = std::numeric_limits<T>::max();
};

/// The string is one of these.
struct Words {
  std::span<const std::string_view> words;
};

/// The string is one of these names and stands for the number.
struct NamedNumber {
  TableText<26> name;
  int number;
};
struct NamedNumbers {
  std::span<const NamedNumber> names;
};
/// A list of names, each one bit (the number is the bit's value).
struct NamedBits {
  std::span<const NamedNumber> names;
};

/// A string of exactly one of these letters.
struct Letters {
  std::string_view letters;
};

/// A number where -1 is the same as none at all.
struct Wildcard {};

/// An object of objects; of each, this string member (absent: "").
struct MemberOfEach {
  std::string_view key;
};

/// Permission bits; old engines write st_mode as it is, so the file type beside them is dropped.
struct ModeBits {};

/// An object of which only the keys count.
struct KeysOf {};

/// A list of capability names as a mask; one RLIMIT_ name as its number.
struct CapabilityNames {};
struct RlimitNames {};

template <typename T>
inline constexpr bool kIsStandard = std::is_same_v<T, std::string>;
template <typename T>
inline constexpr bool kIsStandard<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsStandard<std::vector<T>> = true;
template <typename T>
inline constexpr bool kIsStandard<std::map<std::string, T>> = true;

/// A type of ours, for which there is a describe().
template <typename T>
concept Described = std::is_class_v<T> && !kIsStandard<T>;
/// A number, and neither a truth value nor a letter.
template <typename T>
concept Number = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;

/// (uid_t)-1 means "leave alone" to the kernel: setresuid(-1, -1, -1) succeeds and changes nothing (attack A30).
inline constexpr Range<std::uint32_t> kIds{0, 4294967294};
/// dev_t has 12 bits of major and 20 of minor at mknod(2), which cuts off the rest without a word.
inline constexpr Range<std::int64_t> kMajors{0, 4095};
inline constexpr Range<std::int64_t> kMinors{0, 1048575};
/// A limit in bytes, microseconds or tasks where -1 means none.
inline constexpr Range<std::int64_t> kLimits{-1, std::numeric_limits<std::int64_t>::max()};

}  // namespace skink::oci
