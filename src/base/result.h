// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value or an Error, with the member names of std::expected (which g++ 12 has not in C++20).
#pragma once

#include <cassert>
#include <optional>
#include <utility>
#include <variant>

#include "base/error.h"

namespace skink {

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  [[nodiscard]] T& value() & { return *std::get_if<0>(&state_); }
  [[nodiscard]] const T& value() const& { return *std::get_if<0>(&state_); }
  [[nodiscard]] T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }

  [[nodiscard]] Error& error() & { return *std::get_if<1>(&state_); }
  [[nodiscard]] const Error& error() const& { return *std::get_if<1>(&state_); }
  [[nodiscard]] Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

  [[nodiscard]] T value_or(T other) const& { return has_value() ? value() : std::move(other); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  void value() const {}
  [[nodiscard]] Error& error() & { return *error_; }
  [[nodiscard]] const Error& error() const& { return *error_; }
  [[nodiscard]] Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

}  // namespace skink

#define SKINK_TRY_JOIN2_(a, b) a##b
#define SKINK_TRY_JOIN_(a, b) SKINK_TRY_JOIN2_(a, b)
#define SKINK_TRY_(name, expr, on_error) \
  __extension__({                        \
    auto name = (expr);                  \
    if (!name) return on_error;          \
    std::move(name).value();             \
  })
#define SKINK_TRY_PLAIN_(name, expr) SKINK_TRY_(name, expr, std::move(name).error())
#define SKINK_TRY_WORDS_(name, expr, ...) SKINK_TRY_(name, expr, std::move(name).error().context(__VA_ARGS__))

/// The value of a Result expression, or return its Error from the enclosing function. (The counter keeps a TRY inside
/// a TRY from shadowing the outer one's name.)
#define TRY(expr) SKINK_TRY_PLAIN_(SKINK_TRY_JOIN_(try_result_, __COUNTER__), expr)

/// As TRY; on failure the words (pieces as for skink::str) are put in front of the error's text.
#define TRY_CTX(expr, ...) SKINK_TRY_WORDS_(SKINK_TRY_JOIN_(try_result_, __COUNTER__), expr, __VA_ARGS__)
