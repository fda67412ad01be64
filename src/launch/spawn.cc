// SPDX-License-Identifier: Apache-2.0
#include "launch/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "sys/file.h"
#include "sys/process.h"
#include "sys/raw.h"

extern const unsigned char skink_init_image[];
extern const unsigned long skink_init_image_size;

// clone3 with a stack of the child's own; calls function(argument) there. A C function could not: the child would come
// back from the system call on a stack that the parent's frames do not live on.
extern "C" long skink_clone3(const clone_args* args, std::size_t size, void (*function)(void*), void* argument);
#if defined(__x86_64__)
__asm__(
    ".text\n.globl skink_clone3\n.hidden skink_clone3\n.type skink_clone3,@function\nskink_clone3:\n"
    "endbr64\n"
    "mov %rcx,%r8\n"  // the system call overwrites rcx
    "mov $435,%eax\n"
    "syscall\n"
    "test %rax,%rax\n"
    "jz 1f\n"
    "ret\n"
    "1: xor %ebp,%ebp\n"
    "mov %r8,%rdi\n"
    "call *%rdx\n"
    "hlt\n"
    ".size skink_clone3,.-skink_clone3\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl skink_clone3\n.hidden skink_clone3\n.type skink_clone3,%function\nskink_clone3:\n"
    "mov x8,#435\n"
    "svc #0\n"
    "cbz x0,1f\n"
    "ret\n"
    "1: mov x29,#0\n"
    "mov x0,x3\n"
    "blr x2\n"
    "brk #0\n"
    ".size skink_clone3,.-skink_clone3\n");
#endif

namespace skink::launch {
namespace {

// Everything the child touches, prepared before.
struct ChildWork {
  const SpawnRequest* request;
  int program_fd;
  const char* const* argv;
  const char* const* envp;
  volatile int err;  // written by the child: the memory is shared
};

// Runs in the child. System calls only: the parent's memory is in use here, and libc's state is the parent's.
void child_main(void* argument) {
  using sys::raw::arg;
  using sys::raw::call;
  auto* work = static_cast<ChildWork*>(argument);
  const SpawnRequest& request = *work->request;
  long rc = 0;
  // Order: sources that are themselves 0, 1 or 2 must not be overwritten before they are copied, so the launcher gives
  // numbers of 3 and more for those that move.
  for (int fd = 0; fd < 3 && rc >= 0; ++fd)
    rc = request.stdio[fd] == fd ? call(__NR_fcntl, fd, F_SETFD, 0) : call(__NR_dup3, request.stdio[fd], fd, 0);
  for (std::size_t i = 0; i < request.keep.size() && rc >= 0; ++i) rc = call(__NR_fcntl, request.keep[i], F_SETFD, 0);
  if (rc >= 0) rc = call(__NR_execveat, work->program_fd, arg(""), arg(work->argv), arg(work->envp), AT_EMPTY_PATH);
  work->err = static_cast<int>(-rc);
  for (;;) call(__NR_exit_group, 125);
}

// The sealed copy of skink-init, made once in a process.
Result<int> program_fd() {
  static UniqueFd file;
  if (!file)
    file = TRY(sys::sealed_memfd("skink-init", {reinterpret_cast<const char*>(skink_init_image), skink_init_image_size},
                                 true));
  return file.get();
}

class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t before_{};
};

// Copies of standard descriptors that another one is to replace, above 2 and above what is preserved.
Result<void> lift_stdio(SpawnRequest& request, std::array<UniqueFd, 3>& lifted) {
  for (int fd = 0; fd < 3; ++fd) {
    int& source = request.stdio[fd];
    if (source == fd || source > 2) continue;
    lifted[static_cast<std::size_t>(fd)] = TRY(sys::dup_fd(source, 3 + static_cast<int>(request.preserve)));
    source = lifted[static_cast<std::size_t>(fd)].get();
  }
  return {};
}

}  // namespace

Result<Spawned> spawn(const SpawnRequest& original) {
  SpawnRequest request = original;
  std::array<UniqueFd, 3> lifted;
  TRY(lift_stdio(request, lifted));
  const int program = TRY(program_fd());
  // A thread of ours would go on in shared memory while the child runs, or hold a lock for ever.
  if (TRY(sys::thread_count()) != 1) return Error::make(Code::internal, "clone in a process with several threads");

  std::array<char, 16> plan_number{};
  std::snprintf(plan_number.data(), plan_number.size(), "%d", request.plan_fd);
  const std::array<const char*, 3> argv{"skink-init", plan_number.data(), nullptr};
  const std::array<const char*, 1> envp{nullptr};
  ChildWork work{&request, program, argv.data(), envp.data(), 0};

  alignas(16) std::array<char, 16384> stack;
  int pidfd = -1;
  clone_args args{};
  args.flags = request.clone_flags | CLONE_PIDFD | CLONE_VM | CLONE_VFORK;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  args.exit_signal = request.as_sibling ? 0 : SIGCHLD;
  if (request.as_sibling) args.flags |= CLONE_PARENT;
  if (request.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<__u64>(request.cgroup_fd);
  }
  args.stack = reinterpret_cast<std::uintptr_t>(stack.data());
  args.stack_size = stack.size();
  long pid = 0;
  {
    const BlockSignals blocked;
    pid = skink_clone3(&args, sizeof args, child_main, &work);
  }
  if (pid < 0) return Error::from_errno(static_cast<int>(-pid), "clone3");
  Spawned spawned{static_cast<pid_t>(pid), UniqueFd(pidfd)};
  if (work.err != 0) {
    if (!request.as_sibling) {
      sys::ExitStatus status;
      TRY(sys::wait_pidfd(spawned.pidfd.get(), status, true));
    }
    return Error::from_errno(work.err, "execute skink-init");
  }
  return spawned;
}

}  // namespace skink::launch
