// SPDX-License-Identifier: Apache-2.0
// Error: why something did not work, as a code that decides behaviour and words for people.
#pragma once

#include <charconv>
#include <concepts>
#include <string>
#include <string_view>

namespace skink {

/// What kind of failure this is. The code decides the exit status and any fallback; the text never does.
enum class Code {
  invalid_config,  ///< what the caller or a document says makes no sense
  unsupported,     ///< makes sense, but skink or this kernel does not do it
  not_found,       ///< the container, image, file or program does not exist
  exists,          ///< the name is taken
  denied,          ///< permission, or something is not executable
  busy,            ///< in use, or in a state that forbids the step
  corrupt,         ///< bytes that do not match their digest, size or format
  os,              ///< the kernel said no; see errnum()
  internal,        ///< a bug of ours
  no_program,      ///< the container's program does not exist (a shell's 127)
  not_executable,  ///< the container's program cannot be executed (a shell's 126)
};

/// Appends each piece to one string: text as it is, integers in decimal, single characters as characters.
namespace detail {
inline void append_piece(std::string& out, std::string_view piece) { out += piece; }
inline void append_piece(std::string& out, char piece) { out += piece; }
template <std::integral T>
requires(!std::same_as<T, char> && !std::same_as<T, bool>) void append_piece(std::string& out, T piece) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, piece).ptr;
  out.append(digits, end);
}
}  // namespace detail

template <typename... Pieces>
[[nodiscard]] std::string str(const Pieces&... pieces) {
  std::string out;
  (detail::append_piece(out, pieces), ...);
  return out;
}

class [[nodiscard]] Error {
 public:
  Error(Code code, std::string text) : code_(code), text_(std::move(text)) {}

  /// An error of kind `code` whose text is the pieces joined.
  template <typename... Pieces>
  static Error make(Code code, const Pieces&... pieces) {
    return Error(code, str(pieces...));
  }

  /// The kernel's answer `errnum` (positive) to the step that the pieces name: "openat2 /x: No such file or directory".
  /// The code follows from the number: ENOENT not_found, EEXIST exists, EACCES and EPERM denied, EBUSY busy, else os.
  template <typename... Pieces>
  static Error from_errno(int errnum, const Pieces&... pieces) {
    return os_error(errnum, str(pieces...));
  }

  /// Puts words in front: "run c1: " + text. Each layer adds only what the layer below could not know.
  template <typename... Pieces>
  Error&& context(const Pieces&... pieces) && {
    text_.insert(0, str(pieces..., std::string_view(": ")));
    return std::move(*this);
  }
  template <typename... Pieces>
  Error& context(const Pieces&... pieces) & {
    text_.insert(0, str(pieces..., std::string_view(": ")));
    return *this;
  }

  /// Appends what else went wrong while undoing the steps before.
  Error& also(const Error& other);
  /// Replaces the code: for a caller that knows what the failure means.
  Error&& as(Code code) && {
    code_ = code;
    return std::move(*this);
  }

  /// For an error that came as a message, and its number with it.
  Error&& numbered(int errnum) && {
    errnum_ = errnum;
    return std::move(*this);
  }

  [[nodiscard]] Code code() const { return code_; }
  /// errno of the failing call, or 0.
  [[nodiscard]] int errnum() const { return errnum_; }
  /// One line for people. It may hold bytes from an image: print it through printable().
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  static Error os_error(int errnum, std::string step);

  Code code_;
  int errnum_ = 0;
  std::string text_;
};

/// The system's words for an error number, without locale or static buffer ("No such file or directory").
std::string_view errno_text(int errnum);

}  // namespace skink
