// SPDX-License-Identifier: Apache-2.0
// What skink-oci does while a program runs in the foreground: signals are passed on, and a terminal is relayed.
#pragma once

#include <termios.h>

#include <csignal>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "cli/oci_notify.h"
#include "oci/spec.h"
#include "sys/process.h"

namespace skink::cli {

/// The relay between our standard streams and the terminal of the program, without a wait of its own: poll() says what
/// may move. What one side cannot take yet is kept, so that neither stops the other.
class Relay {
 public:
  /// The caller's terminal, if that is what standard input is, is raw until the object dies.
  explicit Relay(UniqueFd console);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  struct Wanted {
    int fd;
    short events;
  };
  [[nodiscard]] Wanted wanted_console() const;
  [[nodiscard]] Wanted wanted_input() const;
  [[nodiscard]] Wanted wanted_output() const;
  void on_console(short events);
  void on_input(short events);
  void on_output(short events);
  /// Gives the program the size of the caller's window.
  void copy_window_size() const;
  /// After the program's end: what it wrote last.
  void drain();

 private:
  void read_console();
  void make_raw();
  UniqueFd console_;
  std::string input_, output_;  // read, not yet written
  bool input_open_ = true, output_broken_ = false;
  std::optional<termios> before_;
};

/// Waits for a program. From the construction on signals are kept back, so that none is lost before there is a process
/// to get it; but those of sys::Interrupt, which end us until wait() is called.
class Foreground {
 public:
  Foreground();
  ~Foreground();
  /// Whether signals can be waited for: to be asked before there is a process.
  [[nodiscard]] Result<void> check() const;
  Foreground(const Foreground&) = delete;
  Foreground& operator=(const Foreground&) = delete;

  /// Until the process has ended. `console` is its terminal, if it is to be relayed. Signals go to the process; a
  /// changed window size to its terminal. `notify`: what it tells the service manager, which goes on watching us.
  Result<sys::ExitStatus> wait(int pidfd, UniqueFd console, NotifyRelay* notify = nullptr);

 private:
  Result<void> turn(int pidfd, Relay* relay, NotifyRelay* notify);
  void pass_signals(int pidfd, const Relay* relay);
  sigset_t before_{};
  UniqueFd signals_;
  int errnum_ = 0;
  sys::ExitStatus status_;
  bool ended_ = false;
};

/// Whether line ends should stay as the program writes them: its terminal is relayed to something that is none.
bool wants_plain_output();
/// The size of the caller's window, for a process whose terminal is relayed and that has no size of its own.
void add_window_size(oci::Process& process);

}  // namespace skink::cli
