// SPDX-License-Identifier: Apache-2.0
// One static program of many small ones that runs inside containers and tells what it is allowed to do there.
// usage: probe WHAT [ARG...]; an answer is "WHAT: RESULT" with the name of the errno or "ok".
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using Numbers = long[6];

void answer(const char* what, long result) {
  if (result >= 0) printf("%s: ok %ld\n", what, result);
  else printf("%s: %s\n", what, strerrorname_np(errno));
  fflush(stdout);
}

// Runs `work` in a child, so that a deadly signal is an answer too.
template <typename Work>
void in_child(const char* what, Work work) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(2);
    work();
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status)) printf("%s: signal %d\n", what, WTERMSIG(status));
  fflush(stdout);
}

// Every call number with arguments that cannot succeed; prints "NUMBER ERRNO".
int syscalls(char**) {
  constexpr long kSkip[] = {
      SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_clone, SYS_clone3, SYS_sync,
#ifdef SYS_fork
      SYS_fork, SYS_vfork,      SYS_pause,
#endif
  };
  for (long number = 0; number <= 500; ++number) {
    bool skip = false;
    for (const long one : kSkip) skip = skip || one == number;
    if (skip) continue;
    int report[2];
    if (pipe(report) != 0) return 1;
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(2);
      const long result = syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
      const int error = result == -1 ? errno : 0;
      char text[64];
      const int length = snprintf(text, sizeof text, "%ld %s\n", number, error != 0 ? strerrorname_np(error) : "ok");
      // close_range may have taken the pipe: then the parent says so.
      if (write(report[1], text, static_cast<size_t>(length)) < 0) _exit(1);
      _exit(0);
    }
    close(report[1]);
    char text[64] = {};
    const ssize_t got = read(report[0], text, sizeof text - 1);
    close(report[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    if (got > 0) fputs(text, stdout);
    else printf("%ld %s\n", number, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "silent");
  }
  return 0;
}

int call(char** args) {
  Numbers numbers{};
  const long number = strtol(args[0], nullptr, 0);
  for (int i = 0; i < 6 && args[i + 1] != nullptr; ++i) numbers[i] = strtol(args[i + 1], nullptr, 0);
  in_child("call", [&] {
    answer("call", syscall(number, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]));
  });
  return 0;
}

// Pushes a byte into the terminal on standard input, plainly and with a high bit that the kernel cuts off (A40, A42).
int tiocsti(char**) {
  const char byte = 'x';
  answer("plain", syscall(SYS_ioctl, 0, static_cast<unsigned long>(TIOCSTI), &byte));
  answer("high", syscall(SYS_ioctl, 0, static_cast<unsigned long>(TIOCSTI) | (1UL << 32), &byte));
  const char paste[2] = {3, 0};
  answer("tioclinux", syscall(SYS_ioctl, 0, static_cast<unsigned long>(TIOCLINUX), paste));
  answer("tioclinux-high", syscall(SYS_ioctl, 0, static_cast<unsigned long>(TIOCLINUX) | (1UL << 32), paste));
  return 0;
}

// The other ways into the kernel (A41).
int other_abi(char**) {
#if defined(__x86_64__)
  in_child("int80-getpid", [] {
    long result = 20;
    asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    errno = result < 0 ? static_cast<int>(-result) : 0;
    answer("int80-getpid", result < 0 ? -1 : 0);
  });
  in_child("int80-socketcall", [] {
    // The argument block has to lie below 4 GB for the 32-bit call.
    void* low = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    auto* block = static_cast<unsigned*>(low);
    block[0] = 38;  // AF_ALG
    block[1] = SOCK_SEQPACKET;
    block[2] = 0;
    long result = 102;
    asm volatile("int $0x80" : "+a"(result) : "b"(1L), "c"(low) : "memory", "r8", "r9", "r10", "r11");
    errno = result < 0 ? static_cast<int>(-result) : 0;
    answer("int80-socketcall", result < 0 ? -1 : 0);
  });
  in_child("x32-getpid", [] { answer("x32-getpid", syscall(SYS_getpid | 0x40000000) < 0 ? -1 : 0); });
#endif
  return 0;
}

int keyring(char** args) {
  answer("session", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
  if (args[0] != nullptr) {
    char text[256] = {};
    const long got = syscall(SYS_keyctl, KEYCTL_READ, strtol(args[0], nullptr, 0), text, sizeof text - 1);
    answer("read", got);
    if (got > 0) printf("content: %s\n", text);
  }
  return 0;
}

// The classic way out of a chroot (A51): a descriptor outside the new root, then up.
int escape(char** args) {
  mkdir("/tmp/jail", 0755);
  const int old = open("/", O_RDONLY | O_DIRECTORY);
  answer("chroot", chroot("/tmp/jail"));
  answer("fchdir", fchdir(old));
  for (int i = 0; i < 64; ++i)
    if (chdir("..") != 0) break;
  answer("chroot-up", chroot("."));
  answer("outside", access(args[0], F_OK) == 0 ? 0 : -1);
  return 0;
}

// A fresh /proc without masks in a user namespace of its own (A59).
int nested_proc(char**) {
  in_child("unshare", [] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) != 0) {
      answer("unshare", -1);
      return;
    }
    answer("unshare", 0);
    in_child("mount", [] {
      mkdir("/tmp/p", 0755);
      answer("mount", mount("proc", "/tmp/p", "proc", 0, nullptr));
    });
  });
  in_child("unshare-root", [] {
    if (unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) {
      answer("unshare-root", -1);
      return;
    }
    in_child("mount-root", [] {
      mkdir("/tmp/p", 0755);
      answer("mount-root", mount("proc", "/tmp/p", "proc", 0, nullptr));
    });
  });
  return 0;
}

int abstract_socket(char** args) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(args[0]);
  memcpy(address.sun_path + 1, args[0], length);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  answer("abstract", connect(fd, reinterpret_cast<sockaddr*>(&address),
                             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)));
  return 0;
}

int open_for_writing(char** args) {
  for (; args[0] != nullptr; ++args) answer(args[0], open(args[0], O_WRONLY | O_CLOEXEC));
  return 0;
}

int memory(char** args) {
  const size_t size = strtoul(args[0], nullptr, 0);
  auto* bytes = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (bytes == MAP_FAILED) {
    answer("memory", -1);
    return 1;
  }
  for (size_t i = 0; i < size; i += 4096) bytes[i] = 1;
  answer("memory", 0);
  return 0;
}

int forks(char** args) {
  const long wanted = atol(args[0]);
  long made = 0;
  for (; made < wanted; ++made) {
    const pid_t pid = fork();
    if (pid == 0) {
      pause();
      _exit(0);
    }
    if (pid < 0) break;
  }
  printf("forks: %ld %s\n", made, made < wanted ? strerrorname_np(errno) : "ok");
  return 0;
}

int ids(char**) {
  uid_t real = 0, effective = 0, saved = 0;
  gid_t greal = 0, geffective = 0, gsaved = 0;
  getresuid(&real, &effective, &saved);
  getresgid(&greal, &geffective, &gsaved);
  printf("uid: %u %u %u\ngid: %u %u %u\nnnp: %d\n", real, effective, saved, greal, geffective, gsaved,
         prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  gid_t groups[256];
  const int count = getgroups(256, groups);
  printf("groups:");
  for (int i = 0; i < count; ++i) printf(" %u", groups[i]);
  printf("\n");
  return 0;
}

// Tells the size of the terminal, and again each time it changes, until it is told "end" on standard input.
int window(char**) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGWINCH, &action, nullptr);
  // Blocked but while it waits: a change between the print and the wait must not be lost.
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGWINCH);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  for (;;) {
    winsize size{};
    if (ioctl(0, TIOCGWINSZ, &size) != 0) {
      answer("window", -1);
      return 1;
    }
    printf("window: %dx%d\n", size.ws_col, size.ws_row);
    fflush(stdout);
    pollfd input{0, POLLIN, 0};
    if (ppoll(&input, 1, nullptr, &before) < 0 && errno == EINTR) continue;
    char text[64];
    if (read(0, text, sizeof text) != 0) break;
  }
  return 0;
}

int terminals(char**) {
  for (int fd = 0; fd < 3; ++fd) printf("%d: %s\n", fd, isatty(fd) != 0 ? ttyname(fd) : "no tty");
  return 0;
}

int sockets(char**) {
  in_child("raw", [] { answer("raw", socket(AF_INET, SOCK_RAW, 1)); });
  in_child("packet", [] { answer("packet", socket(AF_PACKET, SOCK_RAW, 0)); });
  in_child("alg", [] { answer("alg", socket(38, SOCK_SEQPACKET, 0)); });
  in_child("vsock", [] { answer("vsock", socket(40, SOCK_STREAM, 0)); });
  in_child("inet", [] { answer("inet", socket(AF_INET, SOCK_STREAM, 0)); });
  in_child("unix", [] { answer("unix", socket(AF_UNIX, SOCK_STREAM, 0)); });
  return 0;
}

// To NOTIFY_SOCKET, with a descriptor or without (-1).
bool notify(const char* text, int fd) {
  const char* path = getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path == nullptr || strlen(path) >= sizeof address.sun_path) return false;
  strcpy(address.sun_path, path);
  static const int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  iovec part{const_cast<char*>(text), strlen(text)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_name = &address;
  header.msg_namelen = sizeof address;
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* one = CMSG_FIRSTHDR(&header);
    one->cmsg_level = SOL_SOCKET;
    one->cmsg_type = SCM_RIGHTS;
    one->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(one), &fd, sizeof fd);
  }
  return sendmsg(sender, &header, 0) >= 0;
}

// The barrier: over when the other end has heard all before it. What has ended before is not heard.
int notify_barrier() {
  int ends[2];
  if (pipe(ends) != 0) return 1;
  answer("barrier", notify("BARRIER=1", ends[1]) ? 0 : -1);
  close(ends[1]);
  pollfd released{ends[0], 0, 0};
  printf("released: %d\n", poll(&released, 1, 30000));
  return 0;
}

// One datagram of the lines given, and the barrier.
int notify_lines(char** lines) {
  char text[8192] = "";
  for (; *lines != nullptr; ++lines) {
    strncat(text, *lines, sizeof text - strlen(text) - 2);
    strcat(text, "\n");
  }
  answer("notify", notify(text, -1) ? 0 : -1);
  return notify_barrier();
}

int notify_flood(int fd) {
  for (unsigned long i = 0;; ++i) {
    char text[64];
    snprintf(text, sizeof text, "STATUS=flood %lu\n", i);
    if (!notify(text, fd)) return 1;
  }
}
int notify_flood(char**) { return notify_flood(-1); }
int notify_descriptors(char**) { return notify_flood(0); }

// Healthy and unhealthy by turns, so many times; unhealthy in the end. Slow enough that each is heard by itself.
int notify_swing(char** args) {
  for (int left = 2 * atoi(*args); left > 0; --left) {
    if (!notify(left % 2 == 0 ? "WATCHDOG=1" : "WATCHDOG=trigger", -1)) return 1;
    usleep(10000);
  }
  return notify_barrier();
}

// A socket whose last close takes an hour: what it has sent is never read.
int notify_linger(char**) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = socket(AF_INET, SOCK_STREAM, 0), sender = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 1) != 0) return 1;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  if (connect(sender, reinterpret_cast<sockaddr*>(&address), size) != 0) return 1;
  static char much[1 << 20];
  while (send(sender, much, sizeof much, MSG_DONTWAIT) > 0) continue;
  const linger hour{1, 3600};
  setsockopt(sender, SOL_SOCKET, SO_LINGER, &hour, sizeof hour);
  if (!notify("STATUS=lingers", sender)) return 1;
  // Ours is not the last reference.
  close(sender);
  printf("sent\n");
  fflush(stdout);
  pause();
  return 0;
}

struct Entry {
  const char* name;
  int (*run)(char**);
  int needs;
};
constexpr Entry kEntries[] = {
    {"syscalls", syscalls, 0},
    {"call", call, 1},
    {"tiocsti", tiocsti, 0},
    {"abi", other_abi, 0},
    {"keyring", keyring, 0},
    {"escape", escape, 1},
    {"nested", nested_proc, 0},
    {"abstract", abstract_socket, 1},
    {"openw", open_for_writing, 1},
    {"memory", memory, 1},
    {"forks", forks, 1},
    {"ids", ids, 0},
    {"window", window, 0},
    {"terminals", terminals, 0},
    {"sockets", sockets, 0},
    {"notify", notify_lines, 1},
    {"notifyflood", notify_flood, 0},
    {"notifydescriptors", notify_descriptors, 0},
    {"notifyswing", notify_swing, 1},
    {"notifylinger", notify_linger, 0},
};

}  // namespace

int main(int argc, char** argv) {
  for (const Entry& entry : kEntries)
    if (argc > 1 + entry.needs && strcmp(argv[1], entry.name) == 0) return entry.run(argv + 2);
  fprintf(stderr, "probe: unknown or incomplete: %s\n", argc > 1 ? argv[1] : "");
  return 2;
}
