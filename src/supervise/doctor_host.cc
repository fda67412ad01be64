// SPDX-License-Identifier: Apache-2.0
// Doctor: the host. Space, clock, kernel and limits, each with its consequence.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/durations.h"
#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/control_file.h"
#include "fs/dir.h"
#include "image/layer_mount.h"
#include "security/security.h"
#include "supervise/doctor.h"
#include "supervise/event_log.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/process.h"

namespace skink::supervise {
namespace {

std::optional<std::int64_t> number_in(const char* path) {
  const auto text = fs::read_file(AT_FDCWD, path, 4096);
  return text ? parse_int<std::int64_t>(std::string_view(*text).substr(0, text->find_first_of(" \t\n"))) : std::nullopt;
}

void check_writable(Ward& ward, int dir_fd, const std::string& path, std::string_view consequence) {
  if (::faccessat(dir_fd, ".", W_OK, AT_EACCESS) == 0) return;
  const bool read_only = errno == EROFS;
  ward.problem(read_only ? "read-only" : "directory", path,
               str("it cannot be written (", std::strerror(errno), "): ", consequence),
               read_only ? "mount -o remount,rw its file system, after a look at why it is so (dmesg)"
                         : "see what is in the way: lsattr -d, or the capabilities of this process");
}

void check_disk(Ward& ward, int dir_fd, const std::string& path, std::string_view consequence) {
  constexpr std::uint64_t kLeast = 100U << 20;  // bytes
  constexpr std::uint64_t kPart = 20;           // a twentieth: 5 %
  struct statvfs disk {};
  if (::fstatvfs(dir_fd, &disk) != 0 || disk.f_blocks == 0) return;
  const std::uint64_t free = disk.f_bavail * disk.f_frsize, size = disk.f_blocks * disk.f_frsize;
  // A small file system that is hardly used is not full.
  if (free < size / kPart || free < std::min(kLeast, size / 2))
    ward.problem("full-disk", path, str("only ", free >> 20U, " MiB of ", size >> 20U, " MiB are free: ", consequence),
                 "make room there, skink rmi and skink rm help");
  if (disk.f_files != 0 && disk.f_favail < disk.f_files / kPart)
    ward.problem("full-disk", path,
                 str("only ", disk.f_favail, " of ", disk.f_files, " inodes are free: ", consequence),
                 "remove files there");
}

void check_groups_writable(Ward& ward, const cgroup::Host& host) {
  for (const auto& hierarchy : host.hierarchies) {
    struct statvfs mount {};
    if (::statvfs(hierarchy.mount_point.c_str(), &mount) != 0 || (mount.f_flag & ST_RDONLY) == 0) continue;
    ward.problem("kernel", hierarchy.mount_point, "it is mounted read-only, and no container can be started",
                 str("mount -o remount,rw ", quoted(hierarchy.mount_point),
                     ", or have it writable in the container that skink runs in (docker run --privileged)"));
    return;
  }
}

// The group that a namespace begins with is not the root of all: with processes in it the kernel lets it give none of
// its controllers to groups below it.
void check_top_group(Ward& ward, const cgroup::Host& host) {
  if (host.layout != cgroup::Layout::v2 || host.hierarchies.empty()) return;
  const std::string& top = host.hierarchies.front().mount_point;
  const auto has = [&top](const char* file, std::string_view word) {
    constexpr std::size_t kMost = 1U << 20;
    const auto text = fs::read_file(AT_FDCWD, str(top, '/', std::string_view(file)).c_str(), kMost);
    return text && (word.empty() ? !text->empty() : cgroup::has_word(*text, word));
  };
  if (!has("cgroup.type", "") || !has("cgroup.procs", "") || !has("cgroup.controllers", "pids") ||
      has("cgroup.subtree_control", "pids"))
    return;
  ward.problem("kernel", top,
               "there are processes in this group itself, which can give no controllers to groups below it then: "
               "containers start only with --pids-limit -1, and without any limit",
               str("before the first container, move what ", top, "/cgroup.procs lists into a group below it"));
}

void check_controllers(Ward& ward) {
  const auto host = cgroup::detect();
  if (!host) {
    ward.problem("kernel", "control groups",
                 str("none are mounted, and no container can be started: ", host.error().text()),
                 "mount cgroup2 on /sys/fs/cgroup");
    return;
  }
  check_groups_writable(ward, *host);
  check_top_group(ward, *host);
  std::string have = ",";
  for (const auto& hierarchy : host->hierarchies) {
    if (!hierarchy.unified) have += hierarchy.controllers + ",";
    else if (auto text = fs::read_file(AT_FDCWD, (hierarchy.mount_point + "/cgroup.controllers").c_str(), 4096)) {
      std::replace(text->begin(), text->end(), ' ', ',');
      std::replace(text->begin(), text->end(), '\n', ',');
      have += *text + ",";
    }
  }
  constexpr std::pair<const char*, const char*> kWanted[] = {{"memory", "-m is refused, and no oom event is told"},
                                                             {"cpu", "--cpus and --cpu-shares are refused"},
                                                             {"pids", "images run with --pids-limit -1 alone"},
                                                             {"cpuset", "--cpuset-cpus is refused"}};
  for (const auto& [name, consequence] : kWanted)
    if (have.find(str(',', name, ',')) == have.npos)
      ward.note("kernel", str("controller ", name), str("this host does not give it: ", consequence),
                str("enable it on the kernel's command line (cgroup_enable=", name, ") or in the group above"));
}

void check_capabilities(Ward& ward) {
  struct Needed {
    unsigned number;
    const char *name, *consequence;
  };
  constexpr Needed kNeeded[] = {
      {CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "control groups cannot be made where there are none of skink yet"},
      {CAP_SETGID, "CAP_SETGID", "no program can be given its groups"},
      {CAP_SETUID, "CAP_SETUID", "no program can run as the user that its image names"},
      {CAP_SETPCAP, "CAP_SETPCAP", "no program can be kept from capabilities"},
      {CAP_NET_ADMIN, "CAP_NET_ADMIN", "no container can have a network of its own"},
      {CAP_SYS_CHROOT, "CAP_SYS_CHROOT", "no container's root can be entered"},
      {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "nothing can be mounted"},
      {CAP_MKNOD, "CAP_MKNOD", "no container can have devices"}};
  constexpr const char* kAdvice = "give it to the container or service that skink runs in";
  const auto capabilities = security::permitted_capabilities();
  const auto has = [&](unsigned number) { return (capabilities >> number & 1U) != 0; };
  for (const auto& [number, name, consequence] : kNeeded)
    if (!has(number))
      ward.problem("kernel", name, str("this process has not this capability of root, and ", consequence), kAdvice);
  // One of a user namespace is nothing to the OOM killer.
  const bool user_namespace = sys::in_user_namespace();
  if (!has(CAP_SYS_RESOURCE) || user_namespace)
    ward.note("kernel", "CAP_SYS_RESOURCE",
              str("this process has not this capability of root", user_namespace ? " outside its user namespace" : "",
                  ": when memory runs out, the guard and the supervisor of a container are killed like any other "
                  "process"),
              user_namespace ? "run skink where the user namespaces are made" : kAdvice);
}

void check_namespaces(Ward& ward) {
  for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "cgroup"})
    if (::access(str("/proc/self/ns/", name).c_str(), F_OK) != 0)
      ward.problem("kernel", str("namespace ", name), "this kernel has not this kind, and containers need it",
                   "another kernel is needed");
  for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "cgroup"})
    if (number_in(str("/proc/sys/user/max_", name, "_namespaces").c_str()) == 0)
      ward.problem("kernel", str("user.max_", name, "_namespaces"), "it is 0, and no container can be started",
                   str("sysctl user.max_", name, "_namespaces=10000"));
  const bool none = ::access("/proc/self/ns/user", F_OK) != 0 || number_in("/proc/sys/user/max_user_namespaces") == 0;
  if (none || number_in("/proc/sys/kernel/unprivileged_userns_clone") == 0)
    ward.note("kernel", "user namespaces", "they are switched off: skink-oci cannot be run without root",
              "sysctl user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1");
}

}  // namespace

void check_events(Ward& ward) {
  const std::string path = str(ward.options().run, '/', std::string_view(kEventFile));
  const auto file = sys::open_at(ward.roots().run.get(), kEventFile, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
  const auto status = file ? sys::stat_fd(file->get(), path) : Result<struct stat>(file.error());
  if (!file && file.error().errnum() == ENOENT) return;  // made with the next event
  if (!file || !status || !S_ISREG(status->st_mode))
    ward.problem("events", path, str("events cannot be written: ", file ? "it is no file" : file.error().text()),
                 "remove it; skink makes it anew");
}

void check_disks(Ward& ward) {
  check_writable(ward, ward.roots().store.get(), ward.options().store,
                 "no image can be loaded, and no container made, started or removed");
  check_writable(ward, ward.roots().run.get(), ward.options().run, "no container can be started");
  check_disk(ward, ward.roots().store.get(), ward.options().store, "images cannot be loaded and output is dropped");
  check_disk(ward, ward.roots().run.get(), ward.options().run, "containers cannot be started and events are lost");
}

void check_clock(Ward& ward) {
  constexpr std::int64_t kTolerance = 60 * kSecond;
  const auto entries = fs::list(ward.roots().store_containers.get());
  if (!entries) return;
  std::int64_t latest = 0;
  std::string name;
  for (const auto& entry : *entries) {
    const auto dir =
        is_id(entry.name) ? open_container(ward.roots(), entry.name) : Result<UniqueFd>(Error(Code::not_found, ""));
    if (!dir) continue;
    const auto container = read_container(dir->get(), entry.name);
    const auto record = read_run_record(dir->get());
    if (!container) continue;
    const std::int64_t time = std::max(container->created_ns, record ? record->finished_ns : 0);
    if (time <= latest) continue;
    latest = time;
    name = container->name;
  }
  const std::int64_t ahead = latest - fs::now_ns();
  if (ahead > kTolerance)
    ward.note("clock", str("container ", name),
              str("its records are ", ahead / kSecond, " seconds in the future: the clock was set back"),
              "times in ps, logs and events are wrong by that; check the clock (timedatectl)");
}

void check_kernel(Ward& ward) {
  if (const auto overlay = sys::FsContext::open("overlay"); !overlay)
    ward.problem("kernel", "overlay",
                 str("this kernel gives no overlay file system, and images cannot be run: ", overlay.error().text()),
                 "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS; --bundle works without");
  if (ward.roots().store && image::find_layer_source(ward.roots().store.get()) == image::LayerSource::none)
    ward.note("kernel", "erofs", "no layer can be mounted from a file here: layers are loaded as directories",
              "modprobe erofs and loop, or a kernel with CONFIG_EROFS_FS");
  check_controllers(ward);
  check_namespaces(ward);
  if (::prctl(PR_GET_SECCOMP) < 0 || ::access("/proc/sys/kernel/seccomp/actions_avail", F_OK) != 0)
    ward.problem("kernel", "seccomp",
                 "this kernel has no seccomp filters: containers start only with seccomp=unconfined",
                 "another kernel is needed (CONFIG_SECCOMP_FILTER)");
  if (number_in("/proc/sys/vm/memfd_noexec") == 2)
    ward.problem("kernel", "vm.memfd_noexec",
                 "it is 2, which refuses every program in memory: no container can be started",
                 "sysctl vm.memfd_noexec=1");
  check_capabilities(ward);
}

void check_limits(Ward& ward) {
  constexpr std::int64_t kFewPids = 4096;
  constexpr rlim_t kFewFiles = 256;
  constexpr std::int64_t kMostPart = 10;  // more than nine tenths are a problem
  if (const auto most = number_in("/proc/sys/kernel/pid_max"); most && *most < kFewPids)
    ward.problem("limit", "kernel.pid_max",
                 str("it is ", *most, ", and each container needs two processes besides its own"),
                 "sysctl kernel.pid_max=4194304");
  // The fourth field: threads that run, a slash, threads that there are; proc_loadavg(5).
  const auto load = fs::read_file(AT_FDCWD, "/proc/loadavg", 256);
  const auto fields = split(load ? std::string_view(*load) : std::string_view(), ' ');
  const auto threads = fields.size() > 3 ? split_once(fields[3], '/') : std::nullopt;
  const auto there = threads ? parse_int<std::int64_t>(threads->second) : std::nullopt;
  const auto most_pids = number_in("/proc/sys/kernel/pid_max");
  if (there && most_pids && *there > *most_pids - *most_pids / kMostPart)
    ward.problem("limit", "kernel.pid_max", str(*there, " of ", *most_pids, " process numbers are taken"),
                 "find out who takes them, or sysctl kernel.pid_max");
  const UniqueFd inotify(::inotify_init1(IN_CLOEXEC));
  if (!inotify)
    ward.note(
        "limit", "fs.inotify.max_user_instances",
        str("no inotify instance can be had (", std::strerror(errno), "): skink events looks twice a second instead"),
        "sysctl fs.inotify.max_user_instances=1024");
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < kFewFiles)
    ward.problem("limit", "open files",
                 str("this shell may open ", files.rlim_cur, ": images of many layers cannot be run"),
                 "ulimit -n 1024");
  const auto text = fs::read_file(AT_FDCWD, "/proc/sys/fs/file-nr", 256);
  const auto numbers = split(text ? std::string_view(*text).substr(0, text->find('\n')) : std::string_view(), '\t');
  if (numbers.size() != 3) return;
  const auto used = parse_int<std::uint64_t>(numbers[0]), most = parse_int<std::uint64_t>(numbers[2]);
  if (used && most && *used > *most / 10 * 9)
    ward.problem("limit", "fs.file-max", str(*used, " of ", *most, " files of the whole host are open"),
                 "find out who opens them, or sysctl fs.file-max");
}

}  // namespace skink::supervise
