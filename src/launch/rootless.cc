// SPDX-License-Identifier: Apache-2.0
#include "launch/rootless.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "base/text.h"
#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::launch {
namespace {

using Mappings = std::vector<oci::IdMapping>;

bool may_administrate() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[0].effective >> CAP_SYS_ADMIN & 1U) != 0;
}

// user_namespaces(7): one's own id, alone, needs nobody's help.
bool is_own_id(const Mappings& mappings, unsigned id) {
  return mappings.size() == 1 && mappings[0].size == 1 && mappings[0].host_id == id;
}

Result<void> write_own(const char* path, std::string_view text) {
  const UniqueFd fd = TRY(sys::open_at(AT_FDCWD, path, O_WRONLY));
  return sys::write_all(fd.get(), text, path);
}

Result<void> map_own_id(const char* path, const Mappings& mappings) {
  const auto& map = mappings[0];
  return write_own(path, str(map.container_id, ' ', map.host_id, ' ', map.size, '\n'));
}

// Never from the caller's PATH (attack A84), and nobody but root can have put it there.
Result<std::string> find_tool(std::string_view name) {
  for (const char* const directory : {"/usr/bin/", "/bin/", "/usr/sbin/"}) {
    const std::string path = str(std::string_view(directory), name);
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (status.st_uid == 0 && (status.st_mode & 022U) == 0) return path;
  }
  return Error::make(Code::not_found, "there is no ", name,
                     " in /usr/bin, which maps ids of others; install it (package uidmap), or map only your own id");
}

// 0, or what the tool ended with; what it says of that goes to `words_fd`.
int run_tool(const std::string& path, pid_t pid, const Mappings& mappings, int words_fd) {
  std::vector<std::string> words{path, str(pid)};
  for (const auto& map : mappings)
    for (const auto number : {map.container_id, map.host_id, map.size}) words.push_back(str(number));
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  char* const environment[] = {nullptr};
  pid_t child = -1;
  posix_spawn_file_actions_t streams;
  if (::posix_spawn_file_actions_init(&streams) != 0) return 127;
  int failed = ::posix_spawn_file_actions_adddup2(&streams, words_fd, 2);
  if (failed == 0) failed = ::posix_spawn(&child, path.c_str(), &streams, nullptr, argv.data(), environment);
  ::posix_spawn_file_actions_destroy(&streams);
  if (failed != 0) return 127;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (!sys::must_retry()) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

// The tools have to be started from outside of the namespace: by a process that was forked off before it was made.
class Mapper {
 public:
  Result<void> start(const Mappings& uids, const Mappings& gids) {
    const std::string uid_tool = TRY(find_tool("newuidmap")), gid_tool = TRY(find_tool("newgidmap"));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe2");
    const UniqueFd wait(ends[0]);
    go_ = UniqueFd(ends[1]);
    words_ = UniqueFd(::memfd_create("mapper", MFD_CLOEXEC));
    if (!words_) return Error::from_errno(errno, "memfd_create");
    const pid_t pid = ::getpid();
    helper_ = ::fork();
    if (helper_ < 0) return Error::from_errno(errno, "fork");
    if (helper_ > 0) return {};
    go_.reset();
    char byte = 0;
    // End of file: the namespace could not be made.
    if (::read(wait.get(), &byte, 1) != 1) ::_exit(0);
    int status = run_tool(uid_tool, pid, uids, words_.get());
    if (status == 0) status = run_tool(gid_tool, pid, gids, words_.get());
    ::_exit(status);
  }
  Result<void> map() {
    if (::write(go_.get(), "g", 1) != 1) return Error::from_errno(errno, "write to the mapper");
    const int status = finish();
    if (status == 0) return {};
    (void)::lseek(words_.get(), 0, SEEK_SET);
    const std::string words = sys::read_all(words_.get(), 4096, "mapper").value_or({});
    return Error::make(Code::denied, printable(std::string_view(words).substr(0, words.find('\n'))), " (status ",
                       status, "); /etc/subuid and /etc/subgid have to give you these ids");
  }
  ~Mapper() { finish(); }
  Mapper() = default;
  Mapper(const Mapper&) = delete;
  Mapper& operator=(const Mapper&) = delete;

 private:
  int finish() {
    go_.reset();
    if (helper_ <= 0) return 0;
    int status = 0;
    while (::waitpid(helper_, &status, 0) < 0 && sys::must_retry()) {
    }
    helper_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
  }
  UniqueFd go_, words_;
  pid_t helper_ = -1;
};

// Believe only what the kernel says of the maps (attack A84).
Result<void> verify_map(const char* path, const Mappings& wanted) {
  const UniqueFd fd = TRY(sys::open_at(AT_FDCWD, path, O_RDONLY));
  const std::string text = TRY(sys::read_all(fd.get(), 65536, path));
  std::vector<std::uint32_t> got, asked;
  std::string spaced = text;
  std::replace(spaced.begin(), spaced.end(), '\n', ' ');
  for (const auto word : split(spaced, ' '))
    if (const auto number = parse_int<std::uint32_t>(word)) got.push_back(*number);
  for (const auto& map : wanted) asked.insert(asked.end(), {map.container_id, map.host_id, map.size});
  if (got == asked) return {};
  return Error::make(Code::denied, path, " is not what was asked for");
}

Result<void> make_namespace(const Mappings& uids, const Mappings& gids) {
  const bool alone = is_own_id(uids, ::geteuid()) && is_own_id(gids, ::getegid());
  Mapper mapper;
  if (!alone) TRY(mapper.start(uids, gids));
  if (::unshare(CLONE_NEWUSER) != 0)
    return Error::from_errno(errno, "make a user namespace (see user.max_user_namespaces)");
  if (alone) {
    // Order: before gid_map, else a group that denies access could be dropped (CVE-2014-8989).
    TRY(write_own("/proc/self/setgroups", "deny"));
    TRY_CTX(map_own_id("/proc/self/uid_map", uids), "linux.uidMappings");
    TRY_CTX(map_own_id("/proc/self/gid_map", gids), "linux.gidMappings");
  } else {
    TRY_CTX(mapper.map(), "linux.uidMappings");
  }
  TRY_CTX(verify_map("/proc/self/uid_map", uids), "linux.uidMappings");
  TRY_CTX(verify_map("/proc/self/gid_map", gids), "linux.gidMappings");
  return {};
}

Result<void> become_root() {
  if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0)
    return Error::from_errno(errno,
                             "become root of the user namespace (is 0 mapped in linux.uidMappings and gidMappings?)");
  // The change of uid took /proc/self away from us, which we still use.
  if (::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) return Error::from_errno(errno, "prctl");
  if (::unshare(CLONE_NEWNS) != 0) return Error::from_errno(errno, "make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return Error::from_errno(errno, "make the mounts private");
  return {};
}

}  // namespace

Result<void> become_root_of_own_namespace(oci::Spec& spec) {
  if (may_administrate()) return {};
  const auto* space = spec.find_namespace(oci::NamespaceType::user);
  if (space == nullptr || !space->path.empty())
    return Error::make(Code::denied,
                       "linux.namespaces: without root a container needs a user namespace of its own: add {\"type\": "
                       "\"user\"} and mappings (skink-oci spec --rootless), or run it as root");
  TRY(make_namespace(spec.linux.uid_mappings, spec.linux.gid_mappings));
  TRY(become_root());
  std::erase_if(spec.linux.namespaces, [](const auto& each) { return each.type == oci::NamespaceType::user; });
  spec.linux.uid_mappings.clear();
  spec.linux.gid_mappings.clear();
  return {};
}

void share_sysfs(oci::Spec& spec) {
  const auto* user = spec.find_namespace(oci::NamespaceType::user);
  if (user == nullptr || !user->path.empty() || spec.find_namespace(oci::NamespaceType::network) != nullptr) return;
  const auto has = [](const oci::Strings& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  for (auto& mount : spec.mounts) {
    if (mount.type != "sysfs" || has(mount.options, "bind") || has(mount.options, "rbind")) continue;
    if (has(mount.options, "remount")) continue;
    mount.source = "/sys";
    // The type stays: as for a sysfs, no link of the image leads the target elsewhere (attack A13).
    mount.options.emplace_back("rbind");
    if (has(mount.options, "ro")) mount.options.emplace_back("rro");
  }
}

bool setgroups_denied(std::string_view process) {
  const std::string path = str("/proc/", process, "/setgroups");
  const auto fd = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY);
  if (!fd) return false;
  return sys::read_all(fd->get(), 64, path).value_or({}).starts_with("deny");
}

}  // namespace skink::launch
