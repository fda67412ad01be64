// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_foreground.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::cli {
namespace {

// At most this much is written when poll() says that something can be: a pipe takes it without blocking (pipe(7)).
constexpr std::size_t kPiece = 4096;

std::optional<winsize> window_size() {
  winsize size{};
  for (const int fd : {0, 1, 2})
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0) return size;
  return std::nullopt;
}

enum class Moved { some, later, over };

Moved read_into(int fd, std::string& buffer) {
  std::array<char, kPiece> bytes;  // NOLINT: filled by read
  const ssize_t got = ::read(fd, bytes.data(), bytes.size());
  if (got > 0) buffer.append(bytes.data(), static_cast<std::size_t>(got));
  if (got > 0) return Moved::some;
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? Moved::later : Moved::over;
}

Moved write_from(std::string& buffer, int fd) {
  const ssize_t put = ::write(fd, buffer.data(), std::min(buffer.size(), kPiece));
  if (put > 0) buffer.erase(0, static_cast<std::size_t>(put));
  if (put >= 0) return Moved::some;
  return errno == EAGAIN || errno == EINTR ? Moved::later : Moved::over;
}

}  // namespace

Relay::Relay(UniqueFd console) : console_(std::move(console)) {
  ::fcntl(console_.get(), F_SETFL, O_RDWR | O_NONBLOCK);
  make_raw();
  copy_window_size();
}

Relay::~Relay() {
  if (before_) ::tcsetattr(0, TCSADRAIN, &*before_);
}

void Relay::make_raw() {
  termios modes{};
  if (::tcgetattr(0, &modes) != 0) return;
  before_ = modes;
  ::cfmakeraw(&modes);
  ::tcsetattr(0, TCSANOW, &modes);
}

void Relay::copy_window_size() const {
  const auto size = window_size();
  if (size) ::ioctl(console_.get(), TIOCSWINSZ, &*size);
}

Relay::Wanted Relay::wanted_console() const {
  const int read = output_.empty() ? POLLIN : 0;
  const int write = input_.empty() ? 0 : POLLOUT;
  // With nothing to ask for, the end of the other side would be told over and over.
  return {(read | write) != 0 ? console_.get() : -1, static_cast<short>(read | write)};
}

Relay::Wanted Relay::wanted_input() const { return {input_open_ && input_.empty() ? 0 : -1, POLLIN}; }

Relay::Wanted Relay::wanted_output() const { return {output_.empty() ? -1 : 1, POLLOUT}; }

void Relay::read_console() {
  // EIO: nobody has the other side open any more.
  if (read_into(console_.get(), output_) == Moved::over) console_.reset();
  if (output_broken_) output_.clear();
}

void Relay::on_console(short events) {
  if ((events & POLLOUT) != 0 && write_from(input_, console_.get()) == Moved::over) input_.clear();
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && output_.empty()) read_console();
}

// At the end of standard input the terminal stays open: the program has not asked for more.
void Relay::on_input(short events) {
  if (events != 0 && read_into(0, input_) == Moved::over) input_open_ = false;
}

void Relay::on_output(short events) {
  if (events == 0 || write_from(output_, 1) != Moved::over) return;
  // Nobody reads: the program must not be stopped by that.
  output_broken_ = true;
  output_.clear();
}

void Relay::drain() {
  const auto flush = [this] {
    if (!output_broken_ && !output_.empty() && !sys::write_all(1, output_, "standard output")) output_broken_ = true;
    output_.clear();
  };
  flush();
  pollfd left{console_.get(), POLLIN, 0};
  while (console_ && ::poll(&left, 1, 0) > 0 && (left.revents & POLLIN) != 0) {
    read_console();
    flush();
  }
}

Foreground::Foreground() {
  sigset_t all;
  ::sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGURG}) ::sigdelset(&all, own);
  sigset_t early = all;
  // Those of sys::Interrupt end us as long as there is no process to pass them on to.
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGALRM}) ::sigdelset(&early, number);
  ::sigprocmask(SIG_SETMASK, &early, &before_);
  signals_ = UniqueFd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) errnum_ = errno;
}

Result<void> Foreground::check() const {
  if (!signals_) return Error::from_errno(errnum_, "signalfd");
  return {};
}

Foreground::~Foreground() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

Result<sys::ExitStatus> Foreground::wait(int pidfd, UniqueFd console, NotifyRelay* notify) {
  TRY(check());
  sigset_t late;
  ::sigemptyset(&late);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGALRM}) ::sigaddset(&late, number);
  ::sigprocmask(SIG_BLOCK, &late, nullptr);
  // One that came when the program had just been executed is meant for it.
  if (const int number = sys::take_interrupt(); number != 0) (void)sys::signal_pidfd(pidfd, number);
  std::optional<Relay> relay;
  if (console) relay.emplace(std::move(console));
  while (!ended_) TRY(turn(pidfd, relay ? &*relay : nullptr, notify));
  if (relay) relay->drain();
  return status_;
}

Result<void> Foreground::turn(int pidfd, Relay* relay, NotifyRelay* notify) {
  std::array<pollfd, 7> fds{{{pidfd, POLLIN, 0},
                             {signals_.get(), POLLIN, 0},
                             {-1, 0, 0},
                             {-1, 0, 0},
                             {-1, 0, 0},
                             {notify != nullptr ? notify->socket() : -1, POLLIN, 0},
                             {notify != nullptr ? notify->barrier() : -1, POLLIN, 0}}};
  if (relay != nullptr) {
    std::size_t i = 2;
    for (const auto& wanted : {relay->wanted_console(), relay->wanted_input(), relay->wanted_output()})
      fds[i++] = {wanted.fd, wanted.events, 0};
  }
  if (::poll(fds.data(), fds.size(), -1) < 0) {
    if (errno == EINTR) return {};
    return Error::from_errno(errno, "poll");
  }
  if (fds[1].revents != 0) pass_signals(pidfd, relay);
  if (relay != nullptr) {
    relay->on_console(fds[2].revents);
    relay->on_input(fds[3].revents);
    relay->on_output(fds[4].revents);
  }
  // A manager that is gone is not the program's fault: it runs on.
  if (notify != nullptr && fds[5].revents != 0) (void)notify->take(::getpid());
  if (notify != nullptr && fds[6].revents != 0) notify->settle();
  if (fds[0].revents != 0) ended_ = TRY(sys::wait_pidfd(pidfd, status_, false));
  return {};
}

void Foreground::pass_signals(int pidfd, const Relay* relay) {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD || signal == SIGPIPE) continue;
    if (signal == SIGWINCH && relay != nullptr) relay->copy_window_size();
    else (void)sys::signal_pidfd(pidfd, signal);
  }
}

bool wants_plain_output() { return ::isatty(1) == 0; }

void add_window_size(oci::Process& process) {
  const auto size = window_size();
  if (process.console_size || !size) return;
  process.console_size = oci::ConsoleSize{.height = size->ws_row, .width = size->ws_col};
}

}  // namespace skink::cli
