// SPDX-License-Identifier: Apache-2.0
// The last steps: the working directory, finding the program, waiting for start, and execve; with --init, a small
// PID 1.
#include <linux/close_range.h>
#include <linux/prctl.h>

#include "child/context.h"

namespace skink::child {

void try_directory(Context& context) {
  context.in_directory = call(__NR_chdir, arg(context.text(context.plan().cwd))) >= 0;
}

Fault change_directory(const Context& context) {
  if (!context.in_directory)
    CHILD_TRY(check(call(__NR_chdir, arg(context.text(context.plan().cwd))), Step::change_directory));
  // A descriptor of the host could be reached as /proc/self/fd/N: the kernel then says that the place is unreachable
  // from our root (CVE-2024-21626). The raw call, since libc hides that.
  char place[4096];
  const long length = call(__NR_getcwd, arg(place), sizeof place);
  CHILD_TRY(check(length, Step::directory_outside));
  return place[0] == '/' ? Fault{} : Fault{Step::directory_outside, 0, EPERM};
}

namespace {

// 0 when `path` could be executed by us: a regular file, executable, reached without a magic link (attack A26).
constexpr unsigned kAnyExecute = 0111;

long executable(const Context& context, const char* path) {
  open_how how;
  how.flags = static_cast<__u64>(kOpenPath | kOpenCloexec);
  how.mode = 0;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  (void)context;
  const long fd = call(__NR_openat2, kHere, arg(path), arg(&how), sizeof how);
  if (fd == -ELOOP) return -EACCES;
  if (fd < 0) return fd;
  FileStatus status;
  long rc = stat_fd(static_cast<int>(fd), status);
  if (rc >= 0 && (status.mode & kFileTypeMask) != kRegular) rc = -EACCES;
  if (rc >= 0) {
    rc = call(__NR_faccessat2, fd, arg(""), 1 /* X_OK */, kEffectiveAccess | kEmptyPath);
    // Filters of container engines older than the call refuse it; execve has the last word anyway.
    if (rc == -ENOSYS || rc == -EPERM) rc = (status.mode & kAnyExecute) != 0 ? 0 : -EACCES;
  }
  close_fd(static_cast<int>(fd));
  return rc;
}

bool has_slash(const char* text) {
  for (; *text != 0; ++text)
    if (*text == '/') return true;
  return false;
}

}  // namespace

Fault find_program(const Context& context, const char*& path, char* buffer, Size size) {
  const auto& plan = context.plan();
  const char* name = *reinterpret_cast<char* const*>(context.bytes(plan.argv));
  if (has_slash(name)) {
    path = name;
    return check(executable(context, name), Step::find_program, 0, 2);
  }
  // execvp's search: the first that can be executed; if some are there but none can, that is what is said.
  const char* list =
      plan.path != 0 ? context.text(plan.path) : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const Size name_length = length_of(name);
  bool denied = false;
  for (;;) {
    Size length = 0;
    while (list[length] != 0 && list[length] != ':') ++length;
    if (length != 0 && name_length != 0 && length + name_length + 2 <= size) {
      for (Size i = 0; i < length; ++i) buffer[i] = list[i];
      buffer[length] = '/';
      for (Size i = 0; i <= name_length; ++i) buffer[length + 1 + i] = name[i];
      const long rc = executable(context, buffer);
      path = buffer;
      if (rc == 0) return {};
      denied = denied || rc == -EACCES;
    }
    if (list[length] == 0) break;
    list += length + 1;
  }
  return {Step::find_program, 0, denied ? EACCES : ENOENT, 1};
}

namespace {

bool wants_start(int peer) {
  plan::Message message{};
  const long got = read_bytes(peer, &message, sizeof message);
  return got == sizeof message && message.kind == static_cast<unsigned>(plan::Kind::start);
}

// A PID 1 drops every signal that it has no handler for. What asks a process to end ends one that waits for `start`, as
// it ends runc's; execve sets all of it back.
constexpr int kEnding[] = {1, 2, 3, 15};  // HUP, INT, QUIT, TERM

void end_by_signal(int signal) { end_process(128 + signal); }

void end_on_signals(bool allow) {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(int);
    unsigned long mask;
  } action{};
  constexpr unsigned long kRestorer = 0x04000000;  // x86-64 wants one; the handler never returns to it
  action.handler = end_by_signal;
  action.restorer = end_by_signal;
  action.flags = kRestorer;
  unsigned long set = 0;
  for (const int signal : kEnding) {
    if (allow) call(__NR_rt_sigaction, signal, arg(&action), 0, 8);
    set |= 1UL << (signal - 1);
  }
  call(__NR_rt_sigprocmask, allow ? 1 /* SIG_UNBLOCK */ : 0 /* SIG_BLOCK */, arg(&set), 0, 8);
}

}  // namespace

// start connects, says so and keeps the connection: it ends by our execve (close-on-exec) or carries the fault.
// Somebody who only asks whether we wait connects and says nothing.
Fault await_start(Context& context) {
  const int listener = context.plan().listener_fd;
  if (listener < 0) return {};
  end_on_signals(true);
  for (;;) {
    const long peer = call(__NR_accept4, listener, 0, 0, kOpenCloexec);
    if (peer == -EINTR || peer == -ECONNABORTED) continue;
    CHILD_TRY(check(peer, Step::listen_start));
    if (wants_start(static_cast<int>(peer))) {
      end_on_signals(false);
      // Faults from here on go to the one who said start.
      CHILD_TRY(check(call(__NR_dup3, peer, context.plan().sync_fd, kOpenCloexec), Step::listen_start));
      close_fd(static_cast<int>(peer));
      close_fd(listener);
      // The end of the connection alone would not tell whether we went on or were dead already.
      plan::Message message{};
      message.kind = static_cast<unsigned>(plan::Kind::going);
      const long sent = send_message(context, message);
      // Who said it may be dead by now, and yet it was said.
      return sent == -EPIPE ? Fault{} : check(sent, Step::protocol);  // 10
    }
    close_fd(static_cast<int>(peer));
  }
}

void reset_signals() {
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } action{};
  constexpr int kSignals = 64;
  for (int signal = 1; signal <= kSignals; ++signal) call(__NR_rt_sigaction, signal, arg(&action), 0, 8);
}

void unblock_signals() {
  const unsigned long none = 0;
  constexpr int kSetMask = 2;
  call(__NR_rt_sigprocmask, kSetMask, arg(&none), 0, 8);
}

namespace {

Fault execute(Context& context, const char* path) {
  const auto& plan = context.plan();
  unblock_signals();
  // Order: the filter is the last thing before execve; it may forbid everything else.
  if (!context.filtered) CHILD_TRY(load_seccomp(context));
  return check(call(__NR_execve, arg(path), arg(context.bytes(plan.argv)), arg(context.bytes(plan.envp))),
               Step::execute);
}

// ---- --init: PID 1 that passes signals on and reaps ----

struct ChildInfo {
  int signal, error, code, padding;
  int pid;
  unsigned uid;
  int status;
  char rest[100];
};

// Reaps what has ended; true with the program's shell status once it is among them.
bool reap(long program, int& status) {
  constexpr int kAll = 0, kExited = 4, kNoHang = 1;
  bool ended = false;
  for (;;) {
    ChildInfo info{};
    const long rc = call(__NR_waitid, kAll, 0, arg(&info), kExited | kNoHang, 0);
    if (rc < 0 || info.pid == 0) return ended;
    constexpr int kCodeExited = 1;  // CLD_EXITED
    if (info.pid != program) continue;
    ended = true;
    status = info.code == kCodeExited ? info.status : 128 + info.status;
  }
}

[[noreturn]] void be_init(long program) {
  constexpr int kChild = 17;
  const unsigned long all = ~0UL;
  constexpr int kTerminalStops[] = {20, 21, 22};  // TSTP, TTIN, TTOU are for the program's own group
  for (;;) {
    int status = 0;
    if (reap(program, status)) end_process(status);
    char info[128];
    const long signal = call(__NR_rt_sigtimedwait, arg(&all), arg(info), 0, 8);
    if (signal <= 0 || signal == kChild) continue;
    bool ours = false;
    for (const int stop : kTerminalStops) ours = ours || signal == stop;
    if (!ours) call(__NR_kill, program, signal);
  }
}

Fault run_under_init(Context& context, const char* path) {
  // All signals are blocked here already, so none is lost between fork and the first wait.
  struct {
    __u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  } args{};
  constexpr int kChild = 17;
  args.exit_signal = kChild;
  const long pid = call(__NR_clone3, arg(&args), sizeof args);
  CHILD_TRY(check(pid, Step::fork_program));
  if (pid == 0) {
    // With a terminal the program gets the foreground group of its session; without, a session of its own is needed by
    // none.
    call(__NR_setpgid, 0, 0);
    if (context.has(plan::kTerminal)) {
      const int group = static_cast<int>(call(__NR_getpid));
      constexpr unsigned long kSetForeground = 0x5410;  // TIOCSPGRP
      call(__NR_ioctl, 0, kSetForeground, arg(&group));
    }
    return execute(context, path);
  }
  // Our copy of the socket would keep the launcher from seeing that the program was executed.
  call(__NR_close_range, context.plan().preserve_fds + 3, ~0U, 0);
  be_init(pid);
}

}  // namespace

namespace {

// What is opened after it is so from birth.
Fault mark_descriptors(const Context& context) {
  const unsigned first = 3 + context.plan().preserve_fds;
  return check(call(__NR_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC), Step::close_descriptors);
}

}  // namespace

Fault load_seccomp_early(Context& context) {
  if (!context.has(plan::kFilterWaits)) return {};
  CHILD_TRY(mark_descriptors(context));
  CHILD_TRY(load_seccomp(context));
  context.filtered = true;
  return {};
}

Fault run_program(Context& context, const char* path) {
  if (!context.filtered) CHILD_TRY(mark_descriptors(context));
  if (context.has(plan::kInit)) return run_under_init(context, path);
  return execute(context, path);
}

}  // namespace skink::child
