// SPDX-License-Identifier: Apache-2.0
// Makes some of a command's processes slow, as on a machine that is short of CPU: usage: dawdle MS first|others COMMAND
// [ARG...]. Each system call of theirs waits MS milliseconds; first: the command's own process, others: all that come
// from it. Ends as the command does; what lives on then goes on at full speed.
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr long kFirst = PTRACE_O_TRACESYSGOOD;
constexpr long kOthers = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;

pid_t begin(char** argv, long options) {
  int gate[2];
  if (pipe(gate) != 0) exit(125);
  const pid_t pid = fork();
  if (pid == 0) {
    char byte = 0;
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 1) _exit(125);
    close(gate[0]);
    execvp(argv[0], argv);
    fprintf(stderr, "dawdle: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
  }
  close(gate[0]);
  if (pid < 0 || ptrace(PTRACE_SEIZE, pid, nullptr, reinterpret_cast<void*>(options)) != 0 ||
      ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) {
    fprintf(stderr, "dawdle: seize: %s\n", strerror(errno));
    exit(125);
  }
  if (write(gate[1], "x", 1) != 1) exit(125);
  close(gate[1]);
  return pid;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: dawdle MS first|others COMMAND [ARG...]\n");
    return 125;
  }
  const auto pause_us = static_cast<useconds_t>(strtoul(argv[1], nullptr, 10) * 1000);
  const bool slow_first = strcmp(argv[2], "first") == 0;
  const pid_t first = begin(argv + 3, slow_first ? kFirst : kOthers);
  int status = 0;
  for (;;) {
    const pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0) return 125;
    if (!WIFSTOPPED(status)) {
      if (pid == first) return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      continue;
    }
    const int signal = WSTOPSIG(status);
    const bool slow = (pid == first) == slow_first;
    const bool ours = (status >> 16) != 0 || signal == (SIGTRAP | 0x80);
    if (slow && signal == (SIGTRAP | 0x80)) usleep(pause_us);
    ptrace(slow ? PTRACE_SYSCALL : PTRACE_CONT, pid, nullptr,
           reinterpret_cast<void*>(static_cast<long>(ours ? 0 : signal)));
  }
}
