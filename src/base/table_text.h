// SPDX-License-Identifier: Apache-2.0
// Texts of constant tables without pointers to them.
#pragma once

#include <cstddef>
#include <string_view>

namespace skink {

/// A text of a constant table, kept in the table. A pointer to it would be relocated when the program starts, which
/// makes a page of the table one that each process has to itself: every container has a supervisor, and most of its
/// tables are looked at once or never (target P8).
template <std::size_t Size>
struct TableText {
  char bytes[Size];  ///< the last one is zero
  // NOLINTNEXTLINE(google-explicit-constructor): to be used as what it is
  constexpr operator std::string_view() const { return std::string_view(bytes); }
};

}  // namespace skink
