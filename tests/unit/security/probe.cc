// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "sys/raw.h"

namespace skink::security {
namespace {

long make(const Call& call) {
#if defined(__x86_64__)
  if (call.entry == Entry::int80) {
    long ret;
    __asm__ volatile("int $0x80"
                     : "=a"(ret)
                     : "a"(call.number), "b"(call.args[0]), "c"(call.args[1]), "d"(call.args[2])
                     : "r8", "r9", "r10", "r11", "memory");
    return static_cast<int>(ret);
  }
#endif
  return sys::raw::call(call.number, call.args[0], call.args[1], call.args[2], call.args[3], call.args[4],
                        call.args[5]);
}

// exit_group may itself be refused, so the child's last word is a store to shared memory and then a fault.
[[noreturn]] void run_child(const SeccompProgram& program, const std::vector<Call>& calls, volatile long* answers,
                            volatile std::size_t* next) {
  sock_fprog filter{static_cast<unsigned short>(program.bpf.size() / sizeof(sock_filter)),
                    reinterpret_cast<sock_filter*>(const_cast<char*>(program.bpf.data()))};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(101);
  if (sys::raw::call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, static_cast<long>(program.flags), sys::raw::arg(&filter)) <
      0)
    ::_exit(102);
  while (*next < calls.size()) {
    const std::size_t at = *next;
    *next = at + 1;
    answers[at] = make(calls[at]);
  }
  for (;;) {
    sys::raw::call(__NR_exit_group, 0);
    __builtin_trap();
  }
}

struct Shared {
  volatile std::size_t next;
  volatile long answers[1024];
};

}  // namespace

std::vector<long> probe_all(const SeccompProgram& program, const std::vector<Call>& calls) {
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || calls.size() > std::size(static_cast<Shared*>(memory)->answers)) {
    ADD_FAILURE() << "no shared memory for the probe";
    return {};
  }
  auto* shared = static_cast<Shared*>(memory);
  while (shared->next < calls.size()) {
    const std::size_t before = shared->next;
    const pid_t child = ::fork();
    if (child == 0) run_child(program, calls, shared->answers, &shared->next);
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) {
      ADD_FAILURE() << "no child for the probe";
      break;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) > 100) {
      ADD_FAILURE() << "the kernel does not take the program: step " << WEXITSTATUS(status);
      break;
    }
    if (shared->next >= calls.size() && WIFEXITED(status)) break;
    if (shared->next == before) break;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) shared->answers[shared->next - 1] = kKilledBy + SIGSYS;
  }
  std::vector<long> answers(shared->answers, shared->answers + calls.size());
  ::munmap(memory, sizeof(Shared));
  return answers;
}

long probe(const SeccompProgram& program, const Call& call) {
  const std::vector<long> answers = probe_all(program, std::vector<Call>{call});
  return answers.empty() ? kKilledBy : answers.front();
}

SeccompProgram compiled(const oci::Seccomp& profile) {
  auto program = compile_seccomp(profile);
  if (!program) {
    ADD_FAILURE() << program.error().text();
    return {};
  }
  return std::move(program).value();
}

}  // namespace skink::security
