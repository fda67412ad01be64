// SPDX-License-Identifier: Apache-2.0
// Front: what a command in the foreground does while its container (or exec) runs: standard input in, output out,
// signals and window sizes on, and the terminal as it was in the end.
#pragma once

#include <sys/signalfd.h>
#include <termios.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

/// Signals that are passed on are blocked from now on and come by a descriptor; undone by the destructor.
class ForwardedSignals {
 public:
  static Result<ForwardedSignals> take(bool forward);
  ForwardedSignals(ForwardedSignals&& other) noexcept;
  ForwardedSignals& operator=(ForwardedSignals&&) = delete;
  ~ForwardedSignals();
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  ForwardedSignals() = default;
  UniqueFd fd_;
  sigset_t before_{};
  bool active_ = false;
};

/// The caller's terminal in raw mode until the object dies.
class RawTerminal {
 public:
  /// Nothing happens when `fd` is no terminal.
  explicit RawTerminal(int fd);
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal();

 private:
  int fd_;
  bool active_ = false;
  termios before_{};
};

/// Output to be passed on: to standard output (1) or standard error (2).
struct Output {
  int fd = 1;
  std::string bytes;
};

/// The loop. The callbacks are the difference between a container and an exec.
class Front {
 public:
  std::function<int()> control_fd;           ///< readable: on_control is called
  std::function<Result<bool>()> on_control;  ///< true: it is over, drain and return
  std::function<Result<void>()> patience;    ///< while it is set: asked when nothing comes; an error ends
  std::function<Result<std::optional<Output>>()> next_output;  ///< nothing: none now
  std::function<void(int)> on_signal;                          ///< SIGWINCH excepted
  std::vector<int> output_fds;                                 ///< readable: there may be output again

  /// From now on standard input goes there (with `pass`); closed at its end. A terminal also gets window sizes.
  void set_input(UniqueFd target, bool terminal, bool pass);
  /// Typed on a terminal in a row, these bytes end run(); they are not passed on.
  std::string detach_keys;
  [[nodiscard]] bool detached() const { return detached_; }
  /// Ends when on_control said so and all output is written, or when it was let go of.
  Result<void> run(const ForwardedSignals& signals);

 private:
  void read_input();
  void take_typed(std::string_view bytes);
  void write_input();
  void handle_signals(int fd);
  void copy_window_size() const;
  bool write_output();

  UniqueFd input_target_;
  bool terminal_ = false, input_open_ = false, over_ = false;
  std::string input_;  // read, not yet written
  std::size_t keys_matched_ = 0;
  bool detached_ = false;
  std::optional<Output> output_;
  bool out_broken_ = false, err_broken_ = false;
};

}  // namespace skink::supervise
