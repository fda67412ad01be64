// SPDX-License-Identifier: Apache-2.0
#include "supervise/front.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "sys/file.h"

namespace skink::supervise {
namespace {

// Everything that docker's sig-proxy passes on, and the window size. Stop signals stay with the shell's job control.
constexpr std::array kForwarded = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGIO, SIGPWR};

constexpr std::size_t kInputChunk = 4096;
// A pipe that polls writable takes this much without blocking (PIPE_BUF, man 7 pipe).
constexpr std::size_t kOutputChunk = 4096;

}  // namespace

Result<ForwardedSignals> ForwardedSignals::take(bool forward) {
  ForwardedSignals signals;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGWINCH);
  // A reader that goes away is an error of write(2), not the end of us.
  sigaddset(&set, SIGPIPE);
  if (forward)
    for (const int signal : kForwarded) sigaddset(&set, signal);
  if (::pthread_sigmask(SIG_BLOCK, &set, &signals.before_) != 0) return Error::from_errno(errno, "sigmask");
  signals.active_ = true;
  signals.fd_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.fd_) return Error::from_errno(errno, "signalfd");
  return signals;
}

ForwardedSignals::ForwardedSignals(ForwardedSignals&& other) noexcept
    : fd_(std::move(other.fd_)), before_(other.before_), active_(std::exchange(other.active_, false)) {}

ForwardedSignals::~ForwardedSignals() {
  if (!active_) return;
  // Order: what came in the last moment is read away first, or it would hit us when the mask falls.
  signalfd_siginfo info{};
  while (fd_ && ::read(fd_.get(), &info, sizeof info) > 0) {
  }
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

RawTerminal::RawTerminal(int fd) : fd_(fd) {
  if (::tcgetattr(fd, &before_) != 0) return;
  termios raw = before_;
  ::cfmakeraw(&raw);
  // From a background job this would stop us; then there is nobody to type anyway.
  if (::tcgetpgrp(fd) == ::getpgrp()) active_ = ::tcsetattr(fd, TCSANOW, &raw) == 0;
}

RawTerminal::~RawTerminal() {
  if (!active_) return;
  // A terminal that is taken away from us must not stop us while we give it back.
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &set, &old);
  ::tcsetattr(fd_, TCSADRAIN, &before_);
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void Front::set_input(UniqueFd target, bool terminal, bool pass) {
  input_target_ = std::move(target);
  terminal_ = terminal;
  input_open_ = pass;
  ::fcntl(input_target_.get(), F_SETFL, ::fcntl(input_target_.get(), F_GETFL) | O_NONBLOCK);
  if (terminal) copy_window_size();
}

void Front::copy_window_size() const {
  winsize size{};
  if (!terminal_ || !input_target_) return;
  for (const int fd : {0, 1, 2})
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0) {
      (void)::ioctl(input_target_.get(), TIOCSWINSZ, &size);
      return;
    }
}

void Front::read_input() {
  std::array<char, kInputChunk> bytes;  // NOLINT: filled by read
  const ssize_t got = ::read(0, bytes.data(), bytes.size());
  if (got > 0) {
    const std::string_view typed(bytes.data(), static_cast<std::size_t>(got));
    if (terminal_ && !detach_keys.empty()) take_typed(typed);
    else input_.append(typed);
    return;
  }
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  input_open_ = false;
  if (!terminal_) input_target_.reset();
}

// What may become the keys is held back until it is known not to.
void Front::take_typed(std::string_view bytes) {
  for (const char byte : bytes) {
    if (byte != detach_keys[keys_matched_]) {
      input_.append(detach_keys, 0, keys_matched_);
      keys_matched_ = 0;
    }
    if (byte != detach_keys[keys_matched_]) {
      input_ += byte;
    } else if (++keys_matched_ == detach_keys.size()) {
      detached_ = true;
      return;
    }
  }
}

void Front::write_input() {
  const ssize_t put = ::write(input_target_.get(), input_.data(), input_.size());
  if (put > 0) input_.erase(0, static_cast<std::size_t>(put));
  if (put >= 0 || errno == EAGAIN || errno == EINTR) return;
  // Nobody reads it any more: what comes is thrown away, as a shell's pipe would.
  input_.clear();
  if (!terminal_) {
    input_open_ = false;
    input_target_.reset();
  }
}

void Front::handle_signals(int fd) {
  signalfd_siginfo info{};
  while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGWINCH) copy_window_size();
    else if (signal != SIGPIPE) on_signal(signal);
  }
}

// True when something was written or given up.
bool Front::write_output() {
  bool& broken = output_->fd == 1 ? out_broken_ : err_broken_;
  if (!broken) {
    const ssize_t put = ::write(output_->fd, output_->bytes.data(), std::min(output_->bytes.size(), kOutputChunk));
    if (put >= 0) {
      output_->bytes.erase(0, static_cast<std::size_t>(put));
    } else if (errno != EINTR && errno != EAGAIN) {
      broken = true;
    }
  }
  if (broken || output_->bytes.empty()) output_.reset();
  return true;
}

Result<void> Front::run(const ForwardedSignals& signals) {
  for (;;) {
    if (!output_) output_ = TRY(next_output());
    if (over_ && !output_) return {};
    std::vector<pollfd> fds;
    const auto add = [&fds](int fd, short events) {
      fds.push_back({.fd = fd, .events = events, .revents = 0});
      return fds.size() - 1;
    };
    constexpr std::size_t kNone = ~std::size_t{0};
    const std::size_t signal_at = add(signals.fd(), POLLIN);
    const std::size_t control_at = over_ ? kNone : add(control_fd(), POLLIN);
    const std::size_t out_at = output_ ? add(output_->fd, POLLOUT) : kNone;
    const std::size_t in_at = input_open_ && input_.empty() ? add(0, POLLIN) : kNone;
    const std::size_t target_at = input_target_ && !input_.empty() ? add(input_target_.get(), POLLOUT) : kNone;
    if (!output_)
      for (const int fd : output_fds) add(fd, POLLIN);
    constexpr int kBetweenLooksMs = 500;
    const int timeout = patience && !over_ ? kBetweenLooksMs : -1;
    const int events = ::poll(fds.data(), fds.size(), timeout);
    if (events < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    // Order: what has come is read first.
    if (events == 0 && patience) TRY(patience());
    const auto ready = [&](std::size_t at) { return at != kNone && fds[at].revents != 0; };
    if (ready(signal_at)) handle_signals(signals.fd());
    if (ready(in_at)) read_input();
    if (detached_) return {};
    if (ready(target_at)) write_input();
    if (ready(out_at)) write_output();
    if (ready(control_at)) over_ = TRY(on_control());
  }
}

}  // namespace skink::supervise
