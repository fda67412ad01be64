// SPDX-License-Identifier: Apache-2.0
// run of skink-oci: create, start, wait and delete in one; signals are passed on and a terminal is relayed.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/text.h"
#include "cli/oci_verbs.h"
#include "launch/hooks.h"

namespace skink::cli {
namespace {

constexpr Option<CreateOptions> kRunOptions[] = {
    {{"bundle", 'b', "DIR", "the bundle (default: here)"}, set_text<&CreateOptions::bundle>},
    {{"pid-file", 0, "FILE", "write the process id there"}, set_text<&CreateOptions::pid_file>},
    {{"console-socket", 0, "PATH", "send the terminal to this socket"}, set_text<&CreateOptions::console_socket>},
    {{"detach", 'd', nullptr, "do not wait for its end"}, set_switch<&CreateOptions::detach>},
    {{"keep", 0, nullptr, "leave the container for delete"}, set_switch<&CreateOptions::keep>},
    {{"no-pivot", 0, nullptr, "chroot instead of pivot_root"}, set_switch<&CreateOptions::no_pivot>},
    {{"no-new-keyring", 0, nullptr, "keep the caller's session keyring"}, set_switch<&CreateOptions::no_new_keyring>},
    {{"no-subreaper", 0, nullptr, "accepted; the container is a child of this process"}, set_nothing<CreateOptions>},
};

// The caller's terminal in raw mode for as long as the object lives.
class RawMode {
 public:
  RawMode() {
    active_ = ::tcgetattr(0, &before_) == 0;
    if (!active_) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    ::tcsetattr(0, TCSANOW, &raw);
  }
  ~RawMode() {
    if (active_) ::tcsetattr(0, TCSADRAIN, &before_);
  }
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

 private:
  termios before_{};
  bool active_ = false;
};

void copy_window_size(int console) {
  winsize size{};
  for (const int fd : {0, 1, 2})
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0) {
      ::ioctl(console, TIOCSWINSZ, &size);
      return;
    }
}

// Moves what there is; false at the end of it.
bool move_bytes(int from, int to) {
  std::array<char, 16384> buffer{};
  const ssize_t got = ::read(from, buffer.data(), buffer.size());
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  if (got == 0) return false;
  return sys::write_all(to, {buffer.data(), static_cast<std::size_t>(got)}, "terminal").has_value();
}

class Foreground {
 public:
  Foreground(int pidfd, int console) : pidfd_(pidfd), console_(console) {}

  Result<sys::ExitStatus> run() {
    sigset_t all;
    ::sigfillset(&all);
    for (const int kept : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGURG}) ::sigdelset(&all, kept);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    signals_ = UniqueFd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) return Error::from_errno(errno, "signalfd");
    if (console_ >= 0) copy_window_size(console_);
    while (!ended_) TRY(turn());
    // What the program wrote last is still in the terminal.
    if (console_ >= 0) {
      pollfd left{console_, POLLIN, 0};
      while (::poll(&left, 1, 0) > 0 && (left.revents & POLLIN) != 0)
        if (!move_bytes(console_, 1)) break;
    }
    return status_;
  }

 private:
  Result<void> turn() {
    std::array<pollfd, 4> fds{{{pidfd_, POLLIN, 0},
                               {signals_.get(), POLLIN, 0},
                               {console_, POLLIN, 0},
                               {console_ >= 0 && input_ ? 0 : -1, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    if (fds[1].revents != 0) take_signals();
    if ((fds[2].revents & (POLLIN | POLLHUP)) != 0 && !move_bytes(console_, 1)) console_over();
    if (fds[3].revents != 0 && !move_bytes(0, console_)) input_ = false;
    if (fds[0].revents != 0) ended_ = TRY(sys::wait_pidfd(pidfd_, status_, false));
    return {};
  }
  void console_over() { console_ = -1; }
  void take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD || signal == SIGPIPE) continue;
      if (signal == SIGWINCH && console_ >= 0) copy_window_size(console_);
      else (void)sys::signal_pidfd(pidfd_, signal);
    }
  }

  int pidfd_, console_;
  UniqueFd signals_;
  sys::ExitStatus status_;
  bool ended_ = false, input_ = true;
};

Result<void> run_poststart(const Made& made) {
  launch::HookState state;
  state.id = made.container.record().id;
  state.status = "running";
  state.bundle = made.container.record().bundle;
  state.pid = made.container.record().init.pid;
  state.annotations = &made.spec.annotations;
  return launch::run_hooks(made.spec.hooks.poststart, "poststart", state);
}

// The lock is not held while the program runs, so that state, kill and exec work meanwhile.
Result<int> wait_and_delete(state::Root& root, Made made, const CreateOptions& options) {
  const auto id = TRY(state::ContainerId::parse(made.container.record().id));
  { const state::Container unlocked = std::move(made.container); }
  sys::ExitStatus status;
  {
    std::optional<RawMode> raw;
    const bool relay = made.console && options.console_socket.empty();
    if (relay) raw.emplace();
    Foreground foreground(made.pidfd.get(), relay ? made.console.get() : -1);
    status = TRY(foreground.run());
  }
  if (!options.keep) {
    auto container = root.find(id);
    if (container) TRY(destroy_container(root, *std::move(container)));
  }
  return status.shell_status();
}

}  // namespace

Result<int> oci_run(const OciGlobals& globals, Arguments args) {
  CreateOptions options;
  const auto id =
      TRY(read_id(std::span<const Option<CreateOptions>>(kRunOptions), args, options, "run [--bundle DIR] ID"));
  state::Root root = TRY(state::Root::open(globals.root));
  Made made = TRY(make_container(root, globals, options, id, false));
  auto hooked = run_poststart(made);
  if (!hooked && options.keep) {
    end_init(made.container);
    return std::move(hooked).error();
  }
  if (!hooked) {
    auto undone = destroy_container(root, std::move(made.container));
    if (!undone) hooked.error().also(undone.error());
    return std::move(hooked).error();
  }
  if (options.detach) return 0;
  return wait_and_delete(root, std::move(made), options);
}

}  // namespace skink::cli
