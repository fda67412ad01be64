// SPDX-License-Identifier: Apache-2.0
// Hooks in the container's namespaces: createContainer before the root is entered, startContainer just before the
// program (config.md "POSIX-platform Hooks").
#include <linux/close_range.h>
#include <linux/sched.h>

#include "child/context.h"

namespace skink::child {
namespace {

constexpr int kSigchld = 17, kSigkill = 9;
constexpr int kCodeExited = 1;  // CLD_EXITED

// The end of what a hook has printed, however much that was (fault F34).
struct Output {
  char bytes[plan::kHookOutput];
  Size length = 0;
  bool cut = false;

  // Takes what is in the pipe now: false when that is nothing.
  bool take(int fd) {
    char piece[plan::kHookOutput];
    const long got = read_bytes(fd, piece, sizeof piece);
    if (got <= 0) return got == -EINTR;
    const Size count = static_cast<Size>(got);
    const Size over = length + count > sizeof bytes ? length + count - sizeof bytes : 0;
    for (Size i = 0; i + over < length; ++i) bytes[i] = bytes[i + over];
    length -= over < length ? over : length;
    cut = cut || over != 0;
    for (Size i = 0; i < count; ++i) bytes[length++] = piece[i];
    return true;
  }
};

// What the parts of one hook share; closed as one.
struct Run {
  const plan::Hook* hook = nullptr;
  unsigned index = 0;
  Step step = Step::none;
  HookPlace place{};
  int input = -1;
  int failure[2] = {-1, -1};  // a pipe: errno of an execve that failed, else end of file
  Output output;
};

Fault fail(const Run& run, long rc) { return check(rc, run.step, run.index); }

long write_number(int fd, long value) {
  char digits[20];
  Size at = sizeof digits;
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return write_bytes(fd, digits + at, sizeof digits - at);
}

// A file and not a pipe: a hook that never reads its input gives no EPIPE.
long write_state(const Context& context, const Run& run) {
  const char* head = context.text(run.hook->head);
  const char* tail = context.text(run.hook->tail);
  long rc = write_bytes(run.input, head, length_of(head));
  if (rc >= 0) rc = write_number(run.input, call(__NR_getpid));
  if (rc >= 0) rc = write_bytes(run.input, tail, length_of(tail));
  return rc < 0 ? rc : call(__NR_lseek, run.input, 0, 0);
}

Fault open_files(const Context& context, Run& run) {
  constexpr unsigned kCloexec = 1;  // MFD_CLOEXEC
  const long input = call(__NR_memfd_create, arg("hook-state"), kCloexec);
  CHILD_TRY(fail(run, input));
  run.input = static_cast<int>(input);
  CHILD_TRY(fail(run, write_state(context, run)));
  return fail(run, call(__NR_pipe2, arg(run.failure), kOpenCloexec));
}

// In the process that becomes the hook. createContainer hooks are the host's programs, in the root's directory;
// startContainer hooks are the container's, so the container's filter holds for them.
Fault become_hook(const Context& context, const Run& run) {
  call(__NR_setpgid, 0, 0);
  CHILD_TRY(fail(run, call(__NR_dup3, run.input, 0, 0)));
  for (int fd = 1; fd < 3; ++fd) CHILD_TRY(fail(run, call(__NR_dup3, run.hook->output_fd, fd, 0)));
  const bool inside = run.place == HookPlace::start_container;
  CHILD_TRY(fail(run, inside ? call(__NR_chdir, arg("/")) : call(__NR_fchdir, context.root_fd)));
  CHILD_TRY(fail(run, call(__NR_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC)));
  unblock_signals();
  if (inside) CHILD_TRY(load_seccomp_for_hook(context));
  return fail(run, call(__NR_execve, arg(context.text(run.hook->path)), arg(context.bytes(run.hook->argv)),
                        arg(context.bytes(run.hook->envp))));
}

Fault start_hook(const Context& context, const Run& run, long& pid, int& pidfd) {
  clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<__u64>(&pidfd);
  args.exit_signal = kSigchld;
  pid = call(__NR_clone3, arg(&args), sizeof args);
  CHILD_TRY(fail(run, pid));
  if (pid != 0) return {};
  const Fault fault = become_hook(context, run);
  write_bytes(run.failure[1], &fault.err, sizeof fault.err);
  end_process(127);
}

struct ChildInfo {
  int signal, error, code, padding;
  int pid;
  unsigned uid;
  int status;
  char rest[100];
};

// What is still in the pipe when the hook has ended. Whatever the hook has left behind holds the other end and can go
// on printing into it, which neither stops it (nobody will read any more) nor ends it (a pipe of its own cannot break).
void finish_output(Run& run) {
  constexpr int kPieces = 64;  // whoever goes on printing does not keep us
  call(__NR_fcntl, run.hook->output_fd, F_SETFL, kOpenReadWrite | kOpenNonblock);
  for (int i = 0; i < kPieces && run.output.take(run.hook->read_fd); ++i) {
  }
}

// The hook's status, or kHookSignal and the signal that ended it; -ETIMEDOUT when it had to be killed.
long wait_hook(Run& run, long pid, int pidfd) {
  constexpr short kReadable = 1;  // POLLIN
  struct {
    int fd;
    short events, happened;
  } poll[2]{{pidfd, kReadable, 0}, {run.hook->read_fd, kReadable, 0}};
  struct {
    long seconds, nanoseconds;
  } timeout{run.hook->timeout_seconds, 0};
  void* limit = run.hook->timeout_seconds >= 0 ? &timeout : nullptr;
  long ready = 0;
  do {
    ready = call(__NR_ppoll, arg(poll), 2, arg(limit), 0, 8);  // the kernel writes back what is left of the time
    if (ready > 0 && poll[1].happened != 0) run.output.take(run.hook->read_fd);
  } while (ready == -EINTR || (ready > 0 && poll[0].happened == 0));
  if (ready == 0) {
    call(__NR_kill, -pid, kSigkill);
    call(__NR_kill, pid, kSigkill);
  }
  ChildInfo info{};
  constexpr int kPid = 1, kExited = 4;
  long rc = 0;
  do {
    rc = call(__NR_waitid, kPid, pid, arg(&info), kExited, 0);
  } while (rc == -EINTR);
  if (rc < 0) return rc;
  finish_output(run);
  if (ready == 0) return -ETIMEDOUT;
  return info.code == kCodeExited ? info.status : static_cast<long>(plan::kHookSignal) + info.status;
}

// As a file that goes to the launcher with the fault; -1 when that cannot be: the fault itself is what matters.
int keep_output(const Output& output) {
  constexpr unsigned kCloexec = 1;  // MFD_CLOEXEC
  const long fd = call(__NR_memfd_create, arg("hook-output"), kCloexec);
  if (fd < 0) return -1;
  const int file = static_cast<int>(fd);
  if (output.cut) write_bytes(file, "[...]", 5);
  write_bytes(file, output.bytes, output.length);
  return file;
}

Fault run_opened(const Context& context, Run& run) {
  long pid = 0;
  int pidfd = -1;
  CHILD_TRY(start_hook(context, run, pid, pidfd));
  close_fd(run.failure[1]);
  run.failure[1] = -1;
  int err = 0;
  const bool executed = read_bytes(run.failure[0], &err, sizeof err) != sizeof err;
  const long status = wait_hook(run, pid, pidfd);
  close_fd(pidfd);
  if (!executed) return {run.step, run.index, err};
  if (status == 0) return {};
  Fault fault = fail(run, status);
  if (status > 0) fault = {run.step, run.index, EIO, static_cast<unsigned>(status)};
  fault.output_fd = keep_output(run.output);
  return fault;
}

Fault run_one(const Context& context, Run& run) {
  Fault fault = open_files(context, run);
  if (!fault) fault = run_opened(context, run);
  const int fds[] = {run.input, run.failure[0], run.failure[1], run.hook->output_fd, run.hook->read_fd};
  for (const int fd : fds)
    if (fd >= 0) close_fd(fd);
  return fault;
}

}  // namespace

namespace {

// The hook's end is open for both ways, so that the pipe never breaks under what the hook leaves behind: neither the
// end of our reading nor our end sends it SIGPIPE.
long open_pipe(plan::Hook& hook) {
  int ends[2] = {-1, -1};
  const long made = call(__NR_pipe2, arg(ends), kOpenCloexec);
  if (made < 0) return made;
  call(__NR_fcntl, ends[0], F_SETFL, kOpenRead | kOpenNonblock);
  char path[32] = "/proc/self/fd/";
  Size at = length_of(path);
  char digits[12];
  Size count = 0;
  for (int rest = ends[1]; count == 0 || rest != 0; rest /= 10) digits[count++] = static_cast<char>('0' + rest % 10);
  while (count > 0) path[at++] = digits[--count];
  const long both = open_at(kHere, path, kOpenReadWrite);
  hook.read_fd = ends[0];
  hook.output_fd = both >= 0 ? static_cast<int>(both) : ends[1];
  if (both >= 0) close_fd(ends[1]);
  return 0;
}

}  // namespace

// Order: while /proc is still the host's.
Fault prepare_hooks(Context& context) {
  const plan::Span lists[] = {context.plan().create_container_hooks, context.plan().start_container_hooks};
  constexpr Step kSteps[] = {Step::create_container_hook, Step::start_container_hook};
  for (unsigned list = 0; list < 2; ++list) {
    auto* hooks = reinterpret_cast<plan::Hook*>(context.bytes(lists[list].at));
    for (unsigned i = 0; i < lists[list].count; ++i) {
      make_pointers(context, hooks[i].argv);
      // Without an environment of its own a startContainer hook has the program's, which is prepared already.
      if (hooks[i].envp != context.plan().envp) make_pointers(context, hooks[i].envp);
      CHILD_TRY(check(open_pipe(hooks[i]), kSteps[list], i));
    }
  }
  return {};
}

Fault run_hooks(const Context& context, HookPlace place) {
  const bool inside = place == HookPlace::start_container;
  const plan::Span list = inside ? context.plan().start_container_hooks : context.plan().create_container_hooks;
  const auto* hooks = context.array<plan::Hook>(list);
  for (unsigned i = 0; i < list.count; ++i) {
    Run run;
    run.hook = &hooks[i];
    run.index = i;
    run.step = inside ? Step::start_container_hook : Step::create_container_hook;
    run.place = place;
    CHILD_TRY(run_one(context, run));
  }
  return {};
}

}  // namespace skink::child
