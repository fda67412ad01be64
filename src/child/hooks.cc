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

// What the parts of one hook share; closed as one.
struct Run {
  const plan::Hook* hook = nullptr;
  unsigned index = 0;
  Step step = Step::none;
  HookPlace place{};
  int input = -1, output = -1;
  int failure[2] = {-1, -1};  // a pipe: errno of an execve that failed, else end of file
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
  const long output = call(__NR_memfd_create, arg("hook-output"), kCloexec);
  CHILD_TRY(fail(run, output));
  run.output = static_cast<int>(output);
  return fail(run, call(__NR_pipe2, arg(run.failure), kOpenCloexec));
}

// In the process that becomes the hook. createContainer hooks are the host's programs, in the root's directory;
// startContainer hooks are the container's, so the container's filter holds for them.
Fault become_hook(const Context& context, const Run& run) {
  call(__NR_setpgid, 0, 0);
  CHILD_TRY(fail(run, call(__NR_dup3, run.input, 0, 0)));
  for (int fd = 1; fd < 3; ++fd) CHILD_TRY(fail(run, call(__NR_dup3, run.output, fd, 0)));
  const bool inside = run.place == HookPlace::start_container;
  CHILD_TRY(fail(run, inside ? call(__NR_chdir, arg("/")) : call(__NR_fchdir, context.root_fd)));
  CHILD_TRY(fail(run, call(__NR_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC)));
  reset_signals();
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
  for (;;) call(__NR_exit_group, 127);
}

struct ChildInfo {
  int signal, error, code, padding;
  int pid;
  unsigned uid;
  int status;
  char rest[100];
};

// The hook's status as a shell has it; -ETIMEDOUT when it had to be killed.
long wait_hook(const Run& run, long pid, int pidfd) {
  struct {
    int fd;
    short events, happened;
  } poll{pidfd, 1 /* POLLIN */, 0};
  struct {
    long seconds, nanoseconds;
  } timeout{run.hook->timeout_seconds, 0};
  void* limit = run.hook->timeout_seconds >= 0 ? &timeout : nullptr;
  long ready = 0;
  do {
    ready = call(__NR_ppoll, arg(&poll), 1, arg(limit), 0, 8);  // the kernel writes back what is left of the time
  } while (ready == -EINTR);
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
  if (ready == 0) return -ETIMEDOUT;
  return info.code == kCodeExited ? info.status : 128 + info.status;
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
  fault.output_fd = run.output;
  return fault;
}

Fault run_one(const Context& context, Run& run) {
  Fault fault = open_files(context, run);
  if (!fault) fault = run_opened(context, run);
  const int fds[] = {run.input, run.failure[0], run.failure[1]};
  for (const int fd : fds)
    if (fd >= 0) close_fd(fd);
  if (fault.output_fd < 0 && run.output >= 0) close_fd(run.output);
  return fault;
}

}  // namespace

void prepare_hooks(Context& context) {
  const plan::Span lists[] = {context.plan().create_container_hooks, context.plan().start_container_hooks};
  for (const auto& list : lists) {
    const auto* hooks = context.array<plan::Hook>(list);
    for (unsigned i = 0; i < list.count; ++i) {
      make_pointers(context, hooks[i].argv);
      // Without an environment of its own a startContainer hook has the program's, which is prepared already.
      if (hooks[i].envp != context.plan().envp) make_pointers(context, hooks[i].envp);
    }
  }
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
