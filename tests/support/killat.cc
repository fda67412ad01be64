// SPDX-License-Identifier: Apache-2.0
// Steps a command through its system calls and sends SIGKILL at the N-th: usage: killat N all|one COMMAND [ARG...]
// all: calls of the whole tree count, and the whole tree dies. one: only the first process counts and dies.
// N = 0 kills nothing. The last line on standard error is "killat: seen COUNT, killed|ended STATUS, call NUMBER".
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

namespace {

constexpr long kOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                          PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;

struct Stepper {
  pid_t first = 0;
  bool whole_tree = false;
  unsigned long wanted = 0, seen = 0;
  unsigned long long last_call = 0;
  bool killed = false;
  std::set<pid_t> tracees;
};

void go_on(pid_t pid, int signal) {
  ptrace(PTRACE_SYSCALL, pid, nullptr, reinterpret_cast<void*>(static_cast<long>(signal)));
}

void kill_now(Stepper& stepper) {
  stepper.killed = true;
  if (!stepper.whole_tree) {
    kill(stepper.first, SIGKILL);
    return;
  }
  for (const pid_t pid : stepper.tracees) kill(pid, SIGKILL);
}

// The others live on untraced: each has to be stopped for that. Whoever stops first is let go first: one may be waiting
// for another (vfork), and a child that came up meanwhile for all of us.
void release(const Stepper& stepper) {
  std::set<pid_t> left, released;
  for (const pid_t pid : stepper.tracees)
    if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) == 0) left.insert(pid);
  while (!left.empty()) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0) return;
    left.erase(pid);
    if (!WIFSTOPPED(status)) continue;
    const int event = status >> 16;
    unsigned long child = 0;
    if ((event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) &&
        ptrace(PTRACE_GETEVENTMSG, pid, nullptr, &child) == 0 && !released.contains(static_cast<pid_t>(child)))
      left.insert(static_cast<pid_t>(child));
    const int signal = WSTOPSIG(status);
    const bool real = event == 0 && signal != (SIGTRAP | 0x80) && signal != SIGTRAP;
    ptrace(PTRACE_DETACH, pid, nullptr, reinterpret_cast<void*>(static_cast<long>(real ? signal : 0)));
    released.insert(pid);
  }
}

void on_stop(Stepper& stepper, pid_t pid, int status) {
  stepper.tracees.insert(pid);
  const int signal = WSTOPSIG(status);
  const int event = status >> 16;
  if (stepper.killed && (stepper.whole_tree || pid == stepper.first)) {
    kill(pid, SIGKILL);
    return;
  }
  if (signal != (SIGTRAP | 0x80)) {
    go_on(pid, event != 0 || signal == SIGTRAP ? 0 : signal);
    return;
  }
  __ptrace_syscall_info info{};
  ptrace(PTRACE_GET_SYSCALL_INFO, pid, reinterpret_cast<void*>(sizeof info), &info);
  if (info.op == PTRACE_SYSCALL_INFO_ENTRY && (stepper.whole_tree || pid == stepper.first) && !stepper.killed) {
    stepper.last_call = info.entry.nr;
    if (++stepper.seen == stepper.wanted) {
      kill_now(stepper);
      return;
    }
  }
  go_on(pid, 0);
}

pid_t begin(char** argv) {
  int gate[2];
  if (pipe2(gate, O_CLOEXEC) != 0) exit(125);
  const pid_t pid = fork();
  if (pid == 0) {
    char byte = 0;
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 1) _exit(125);
    execvp(argv[0], argv);
    fprintf(stderr, "killat: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
  }
  close(gate[0]);
  if (pid < 0 || ptrace(PTRACE_SEIZE, pid, nullptr, reinterpret_cast<void*>(kOptions)) != 0) {
    fprintf(stderr, "killat: seize: %s\n", strerror(errno));
    exit(125);
  }
  ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr);
  int status = 0;
  waitpid(pid, &status, __WALL);
  if (write(gate[1], "x", 1) != 1) exit(125);
  close(gate[1]);
  return pid;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: killat N all|one COMMAND [ARG...]\n");
    return 125;
  }
  Stepper stepper;
  stepper.wanted = strtoul(argv[1], nullptr, 10);
  stepper.whole_tree = strcmp(argv[2], "all") == 0;
  stepper.first = begin(argv + 3);
  stepper.tracees.insert(stepper.first);
  go_on(stepper.first, 0);
  int first_status = -1;
  int status = 0;
  pid_t pid = 0;
  // After a kill of the tree we wait for the last of it; else the end of the first process is the end.
  while ((pid = waitpid(-1, &status, __WALL)) > 0) {
    if (WIFSTOPPED(status)) {
      on_stop(stepper, pid, status);
      continue;
    }
    stepper.tracees.erase(pid);
    if (pid == stepper.first) first_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (first_status >= 0 && !(stepper.killed && stepper.whole_tree)) break;
  }
  release(stepper);
  fprintf(stderr, "killat: seen %lu, %s %d, call %llu\n", stepper.seen, stepper.killed ? "killed" : "ended",
          first_status, stepper.last_call);
  return 0;
}
