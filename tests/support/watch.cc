// SPDX-License-Identifier: Apache-2.0
// Runs in a container and tries to get hold of whatever of the host a joining process shows in /proc (attacks A01,
// A25): usage: watch SECONDS [trace]. Prints each different "KIND TARGET" once, "WRITABLE TARGET" for an exe it could
// open for writing, "TRACED EXE" for a process other than its own that it could trace, and "watched COUNT" at the end.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <set>
#include <string>

namespace {

std::set<std::string> told;
unsigned long looks = 0;
pid_t own = 0;

void tell(const std::string& line) {
  if (!told.insert(line).second) return;
  printf("%s\n", line.c_str());
  fflush(stdout);
}

std::string target_of(const std::string& link) {
  char text[4096];
  const ssize_t got = readlink(link.c_str(), text, sizeof text - 1);
  return got < 0 ? std::string() : std::string(text, static_cast<size_t>(got));
}

// An O_PATH descriptor outlives the moment: when the runtime executed something else, its file is no longer busy.
void try_to_write(const std::string& exe, const std::string& target) {
  const int held = open(exe.c_str(), O_PATH | O_CLOEXEC);
  if (held < 0) return;
  const std::string again = "/proc/self/fd/" + std::to_string(held);
  for (int i = 0; i < 40; ++i) {
    const int fd = open(again.c_str(), O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
      // A sealed memfd can be opened for writing; it is the write that fails. The byte written is the one that is
      // there.
      char byte = 0;
      const bool written = pread(fd, &byte, 1, 0) == 1 && pwrite(fd, &byte, 1, 0) == 1;
      tell(written ? "WRITABLE " + target : std::string("SEALED ") + strerror(errno) + " " + target);
      close(fd);
      break;
    }
    tell(std::string("REFUSED ") + strerror(errno) + " " + target);
    if (errno != ETXTBSY) break;
    usleep(500);
  }
  close(held);
}

void look_at(const std::string& pid, bool trace) {
  const std::string top = "/proc/" + pid + "/";
  for (const char* kind : {"exe", "cwd", "root"}) {
    const std::string target = target_of(top + kind);
    if (target.empty()) continue;
    ++looks;
    const std::string line = std::string(kind) + " " + target;
    const bool fresh = told.count(line) == 0;
    tell(line);
    // Our own file is the container's: whether that can be written says nothing.
    if (strcmp(kind, "exe") == 0 && fresh && target != "/bin/watch" && target != "/bin/busybox")
      try_to_write(top + kind, target);
  }
  if (DIR* dir = opendir((top + "fd").c_str())) {
    while (const dirent* entry = readdir(dir))
      if (isdigit(static_cast<unsigned char>(entry->d_name[0])) != 0) {
        const std::string target = target_of(top + "fd/" + entry->d_name);
        if (!target.empty())
          tell("fd " + target.substr(0, target.find(':') == std::string::npos ? target.size() : target.find(':')));
      }
    closedir(dir);
  }
  const pid_t number = static_cast<pid_t>(atol(pid.c_str()));
  if (trace && number > 1 && number != own && ptrace(PTRACE_SEIZE, number, nullptr, nullptr) == 0) {
    tell("TRACED " + target_of(top + "exe"));
    ptrace(PTRACE_INTERRUPT, number, nullptr, nullptr);
    int status = 0;
    waitpid(number, &status, __WALL);
    ptrace(PTRACE_DETACH, number, nullptr, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const time_t until = time(nullptr) + (argc > 1 ? atol(argv[1]) : 5);
  const bool trace = argc > 2;
  own = getpid();
  puts("watching");
  fflush(stdout);
  while (time(nullptr) < until) {
    DIR* proc = opendir("/proc");
    if (proc == nullptr) return 1;
    while (const dirent* entry = readdir(proc))
      if (isdigit(static_cast<unsigned char>(entry->d_name[0])) != 0 && atol(entry->d_name) != own)
        look_at(entry->d_name, trace);
    closedir(proc);
    // Pid 1 may be this very process: then it reaps.
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
  printf("watched %lu\n", looks);
  return 0;
}
