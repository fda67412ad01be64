// SPDX-License-Identifier: Apache-2.0
// skink-guard: the parent of one container and of its supervisor. It waits, writes down how each child ended before it
// reaps it, and starts the supervisor again when that dies. Freestanding: a few pages, nothing that could go wrong.
#include <asm/unistd.h>
#include <linux/errno.h>

#include "supervise/guard/protocol.h"
#include "sys/raw.h"

namespace {

using namespace skink::supervise;
using skink::sys::raw::arg;
using skink::sys::raw::call;

constexpr long kEmptyPath = 0x1000;  // AT_EMPTY_PATH
constexpr long kSigchld = 17;
constexpr long kSetName = 15, kSetSubreaper = 36;                     // prctl(2)
constexpr long kAnyChild = 0, kByPid = 1;                             // waitid(2) P_ALL, P_PID
constexpr long kExited = 4, kNoWait = 0x01000000, kAll = 0x40000000;  // WEXITED, WNOWAIT, __WALL
constexpr int kCldExited = 1;
constexpr long kRealtime = 0, kBoottime = 7;  // clock_gettime(2)
constexpr long kSecond = 1000000000;

// siginfo_t of SIGCHLD on 64-bit Linux.
struct ChildInfo {
  int signo, error, code, pad;
  int pid;
  unsigned uid;
  int status;
  char rest[128 - 28];
};
static_assert(sizeof(ChildInfo) == 128);

struct Time {
  long seconds, nanoseconds;
};

long now(long clock) {
  Time time{};
  call(__NR_clock_gettime, clock, arg(&time));
  return time.seconds * kSecond + time.nanoseconds;
}

void pause_ns(long nanoseconds) {
  Time time{nanoseconds / kSecond, nanoseconds % kSecond};
  call(__NR_nanosleep, arg(&time), 0);
}

// The supervisor's arguments: skink supervise-internal GUARD_PID NAME; the name is for people who look at processes.
// Its environment is this alone on purpose (attack A55): a cache of freed memory for each size (malloc's tcache) is of
// no use to a process that waits, and costs it 40 KiB.
char pid_text[24];
const char* supervisor_args[] = {"skink", "supervise-internal", pid_text, nullptr, nullptr};
const char* const environment[] = {"GLIBC_TUNABLES=glibc.malloc.tcache_count=0", nullptr};

void write_pid(long pid) {
  char digits[24];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + pid % 10);
    pid /= 10;
  } while (pid != 0);
  for (int i = 0; i < count; ++i) pid_text[i] = digits[count - 1 - i];
  pid_text[count] = 0;
}

long start_supervisor() {
  const long pid = call(__NR_clone, kSigchld);
  if (pid != 0) return pid;
  call(__NR_execveat, kFdProgram, arg(""), arg(supervisor_args), arg(environment), kEmptyPath);
  constexpr long kSeekEnd = 2;  // lseek(2) SEEK_END
  constexpr char kComplaint[] = "skink: guard: the supervisor cannot be executed\n";
  if (call(__NR_lseek, kFdComplaints, 0, kSeekEnd) < kMostComplaints)
    call(__NR_write, kFdComplaints, arg(kComplaint), sizeof kComplaint - 1);
  for (;;) call(__NR_exit_group, 127);
}

void record(const ChildInfo& info) {
  ExitRecord entry{info.pid, info.code, info.status, kExitMagic, now(kRealtime), now(kBoottime)};
  call(__NR_write, kFdExits, arg(&entry), sizeof entry);
  const unsigned long one = 1;
  call(__NR_write, kFdExitEvent, arg(&one), sizeof one);
}

// Waits until the supervisor ends, recording every other child that does. Returns how it ended.
ChildInfo wait_for(long supervisor) {
  for (;;) {
    ChildInfo info{};
    const long rc = call(__NR_waitid, kAnyChild, 0, arg(&info), kExited | kNoWait | kAll, 0);
    if (rc == -ECHILD) return info;  // cannot be: the supervisor is a child until it is reaped here
    if (rc != 0) continue;
    // Order: written down before it is reaped, so that a number is not used again while its record is missing, and a
    // guard that is killed in between leaves the child for whoever inherits it.
    if (info.pid != supervisor) record(info);
    ChildInfo reaped{};
    call(__NR_waitid, kByPid, info.pid, arg(&reaped), kExited | kAll, 0);
    if (info.pid == supervisor) return info;
  }
}

// clone3(2), the first version with a control group.
struct CloneArguments {
  unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
constexpr unsigned long kIntoCgroup = 0x200000000UL;

// Away from whoever started us: he reaps the first process at once and never hears of the second. It is out of his
// groups too, which end with his session or are killed with it (fault F37). Where the kernel refuses that we stay in
// them. By clone for the unified one: a process that moves itself there makes every fork of the machine wait.
long leave_starter() {
  CloneArguments arguments{};
  arguments.flags = kIntoCgroup;
  arguments.exit_signal = kSigchld;
  arguments.cgroup = kFdGroup;
  long pid = call(__NR_clone3, arg(&arguments), sizeof arguments);
  if (pid < 0) pid = call(__NR_clone, kSigchld);
  if (pid != 0) return pid;
  for (int fd = kFdEnd; fd < kFdEnd + kMostHomes; ++fd) {
    call(__NR_write, fd, arg("0"), 1);
    call(__NR_close, fd);
  }
  return pid;
}

// Not more than ten starts a second, and an end to it when none of them gets anywhere. Where one has lived for a second
// there is a container that runs, and what keeps others from that passes (a read-only store, no descriptors).
void guard() {
  int fruitless = 0;
  bool lived = false, settled = false;
  long window = now(kBoottime);
  int starts_in_window = 0;
  while (settled || fruitless < kMostFruitlessStarts) {
    if (fruitless >= kMostFruitlessStarts) pause_ns(kSecond);
    const long started = now(kBoottime);
    if (started - window >= kSecond) {
      window = started;
      starts_in_window = 0;
    }
    if (++starts_in_window > 10) {
      pause_ns(kSecond / 10);
      --starts_in_window;
    }
    const long supervisor = start_supervisor();
    // No process to be had. Whoever starts the container wants to hear of that soon; for one that runs it passes.
    if (supervisor < 0) {
      if (!lived) ++fruitless;
      pause_ns(kSecond / 10);
      continue;
    }
    lived = true;
    const ChildInfo end = wait_for(supervisor);
    const bool exited = end.code == kCldExited;
    if (exited && (end.status == kSupervisorDone || end.status == kSupervisorHopeless)) return;
    // A supervisor that was killed is always brought back; one that gives up by itself at once is not, for ever.
    const bool quick = now(kBoottime) - started < kSecond;
    settled = settled || !quick;
    fruitless = exited && quick ? fruitless + 1 : 0;
  }
}

}  // namespace

extern "C" [[noreturn]] void freestanding_main(long argc, char** argv) {
  call(__NR_close, kFdGuardImage);
  // Order: first of all, and before it has children, which are born where it is.
  if (leave_starter() != 0) call(__NR_exit_group, 0);
  call(__NR_prctl, kSetName, arg("skink-guard"));
  call(__NR_prctl, kSetSubreaper, 1);
  const unsigned long every_signal = ~0UL;
  call(__NR_rt_sigprocmask, 0, arg(&every_signal), 0, sizeof every_signal);
  call(__NR_setsid);
  call(__NR_chdir, arg("/"));
  call(__NR_umask, 077);
  write_pid(call(__NR_getpid));
  if (argc > 1) supervisor_args[3] = argv[1];
  guard();
  for (;;) call(__NR_exit_group, 0);
}
