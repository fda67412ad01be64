// SPDX-License-Identifier: Apache-2.0
// bench-floor: the kernel work of one default container and nothing else, the yardstick of tools/bench. It makes the
// namespaces, mounts, devices, masks and cgroups of the bundle that bench/bundle.py writes, runs a program to its end
// and removes the cgroups. No JSON, no state, no seccomp, no check that a container from a stranger would need.
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

void must(long result, const char* what) {
  if (result >= 0) return;
  std::fprintf(stderr, "bench-floor: %s: %s\n", what, std::strerror(errno));
  _exit(125);
}

void write_file(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  must(fd, path);
  must(write(fd, text, std::strlen(text)), path);
  close(fd);
}

/// The group of one run: one directory on cgroup v2, one for each controller on v1.
class Cgroup {
 public:
  using Path = std::array<char, 96>;

  void make() {
    struct statfs root {};
    unified_ = statfs("/sys/fs/cgroup", &root) == 0 && root.f_type == CGROUP2_SUPER_MAGIC;
    if (unified_) return add("");
    for (const char* controller :
         {"/cpu", "/cpuacct", "/cpuset", "/memory", "/devices", "/freezer", "/blkio", "/pids", "/systemd"})
      add(controller);
    // A fresh v1 cpuset has no CPU, and nothing can be moved in until it has.
    inherit("cpuset.cpus");
    inherit("cpuset.mems");
  }

  void join(pid_t pid) const {
    Path text;
    std::array<char, 160> file{};
    std::snprintf(text.data(), text.size(), "%d", pid);
    for (int i = 0; i < count_; ++i) {
      std::snprintf(file.data(), file.size(), "%s/cgroup.procs", at(i));
      write_file(file.data(), text.data());
    }
  }

  void remove() const {
    for (int i = 0; i < count_; ++i) must(rmdir(at(i)), at(i));
  }

  [[nodiscard]] bool unified() const { return unified_ && count_ > 0; }
  [[nodiscard]] bool joined_by_write() const { return !unified_ && count_ > 0; }
  [[nodiscard]] const char* at(int i) const { return dirs_.at(static_cast<std::size_t>(i)).data(); }

 private:
  void add(const char* controller) {
    Path& dir = dirs_.at(static_cast<std::size_t>(count_));
    std::snprintf(dir.data(), dir.size(), "/sys/fs/cgroup%s/skink-bench-floor-%d", controller, getpid());
    if (mkdir(dir.data(), 0755) == 0) ++count_;
    else if (errno != ENOENT && errno != EROFS)  // this host does not mount the controller by itself
      must(-1, dir.data());
  }

  void inherit(const char* name) const {
    for (int i = 0; i < count_; ++i) {
      if (!std::strstr(at(i), "/cpuset/")) continue;
      std::array<char, 160> file{};
      std::snprintf(file.data(), file.size(), "%s/%s", at(i), name);
      write_file(file.data(), "0");
    }
  }

  std::array<Path, 9> dirs_{};
  int count_ = 0;
  bool unified_ = false;
};

constexpr unsigned long kPlain = MS_NOSUID | MS_NOEXEC | MS_NODEV;

void mount_file_systems() {
  must(mount("proc", "proc", "proc", 0, nullptr), "proc");
  must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
  for (const char* dir : {"dev/pts", "dev/shm", "dev/mqueue"}) must(mkdir(dir, 0755), dir);
  must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
       "dev/pts");
  must(mount("shm", "dev/shm", "tmpfs", kPlain, "mode=1777,size=65536k"), "dev/shm");
  must(mount("mqueue", "dev/mqueue", "mqueue", kPlain, nullptr), "dev/mqueue");
  // Refused without a network namespace of one's own; the bundle asks for it only together with one.
  if (mount("sysfs", "sys", "sysfs", kPlain | MS_RDONLY, nullptr) != 0 && errno != EPERM) must(-1, "sys");
}

void make_devices() {
  struct Node {
    const char* path;
    unsigned major, minor;
  };
  umask(0);
  for (const Node& node : {Node{"dev/null", 1, 3}, Node{"dev/zero", 1, 5}, Node{"dev/full", 1, 7},
                           Node{"dev/random", 1, 8}, Node{"dev/urandom", 1, 9}, Node{"dev/tty", 5, 0}})
    must(mknod(node.path, S_IFCHR | 0666, makedev(node.major, node.minor)), node.path);
  umask(022);
  must(symlink("/proc/self/fd", "dev/fd"), "dev/fd");
  must(symlink("/proc/self/fd/0", "dev/stdin"), "dev/stdin");
  must(symlink("/proc/self/fd/1", "dev/stdout"), "dev/stdout");
  must(symlink("/proc/self/fd/2", "dev/stderr"), "dev/stderr");
  must(symlink("pts/ptmx", "dev/ptmx"), "dev/ptmx");
}

void hide_paths() {
  // A path that this kernel does not have needs no mask.
  for (const char* path : {"proc/kcore", "proc/keys", "proc/timer_list", "proc/acpi", "proc/scsi", "sys/firmware"}) {
    struct stat what {};
    if (stat(path, &what) != 0) continue;
    const bool is_dir = S_ISDIR(what.st_mode);
    must(is_dir ? mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k")
                : mount("/dev/null", path, nullptr, MS_BIND, nullptr),
         path);
  }
  for (const char* path : {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"}) {
    if (mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0) continue;
    must(mount(nullptr, path, nullptr, kPlain | MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), path);
  }
}

[[noreturn]] void become_container(const char* rootfs, char** argv) {
  must(mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr), "propagation");
  must(mount(rootfs, rootfs, nullptr, MS_BIND | MS_REC, nullptr), rootfs);
  must(chdir(rootfs), rootfs);
  mount_file_systems();
  make_devices();
  hide_paths();
  must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  must(umount2(".", MNT_DETACH), "the old root");
  must(chdir("/"), "/");
  must(mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), "read-only root");
  must(sethostname("floor", 5), "sethostname");
  std::array<char*, 2> env{const_cast<char*>("PATH=/usr/bin:/bin"), nullptr};
  execve(argv[0], argv, env.data());
  must(-1, argv[0]);
  _exit(125);
}

int run(const char* rootfs, char** program, bool own_network, bool own_cgroup) {
  Cgroup cgroup;
  if (own_cgroup) cgroup.make();

  clone_args how{};
  how.exit_signal = SIGCHLD;
  how.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC;
  if (own_network) how.flags |= CLONE_NEWNET;
  if (cgroup.unified()) {
    const int dir = open(cgroup.at(0), O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(dir, cgroup.at(0));
    how.flags |= CLONE_INTO_CGROUP | CLONE_NEWCGROUP;
    how.cgroup = static_cast<__u64>(dir);
  }

  std::array<int, 2> gate{};
  must(pipe2(gate.data(), O_CLOEXEC), "pipe");
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &how, sizeof how));
  must(pid, "clone3");
  if (pid == 0) {
    char go = 0;
    if (cgroup.joined_by_write() && read(gate[0], &go, 1) != 1) _exit(125);
    become_container(rootfs, program);
  }
  if (cgroup.joined_by_write()) {
    cgroup.join(pid);
    must(write(gate[1], "g", 1), "gate");
  }

  int status = 0;
  must(waitpid(pid, &status, 0), "waitpid");
  cgroup.remove();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int main(int argc, char** argv) {
  bool network = true, cgroup = true;
  int i = 2;
  for (; i < argc && std::string_view{argv[i]} != "--"; ++i) {
    network = network && std::string_view{argv[i]} != "--no-net";
    cgroup = cgroup && std::string_view{argv[i]} != "--no-cgroup";
  }
  if (i + 1 >= argc) {
    std::fputs("usage: bench-floor ROOTFS [--no-net] [--no-cgroup] -- PROGRAM [ARG...]\n", stderr);
    return 2;
  }
  return run(argv[1], argv + i + 1, network, cgroup);
}
