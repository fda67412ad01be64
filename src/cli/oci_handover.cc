// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_handover.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "fs/dir.h"
#include "security/security.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

Result<UniqueFd> connect_console(const std::string& path) {
  UniqueFd socket_fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return Error::from_errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error::from_errno(ENAMETOOLONG, "connect");
  path.copy(address.sun_path, path.size());
  if (::connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "connect");
  return socket_fd;
}

// Some data and one descriptor, then closed: callers accept only after we have ended, so no answer is waited for.
Result<void> send_descriptor(const std::string& path, int fd, std::string data) {
  const UniqueFd socket_fd = TRY(connect_console(path));
  iovec vec{data.data(), data.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* part = CMSG_FIRSTHDR(&header);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(part), &fd, sizeof(int));
  if (::sendmsg(socket_fd.get(), &header, MSG_NOSIGNAL) < 0) return Error::from_errno(errno, "sendmsg");
  return {};
}

// Beside the target, then renamed: no link that somebody planted is followed (attack A38), no half number is read.
Result<void> write_pid_file(const std::string& path, pid_t pid) {
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const UniqueFd dir = TRY(sys::open_at(AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY));
  return fs::write_file_atomic(dir.get(), name.c_str(), str(pid), 0644);
}

unsigned listen_descriptors() {
  constexpr unsigned kMost = 1024;
  const char* pid = ::getenv("LISTEN_PID");
  const char* count = ::getenv("LISTEN_FDS");
  if (pid == nullptr || count == nullptr || parse_int<pid_t>(pid) != ::getpid()) return 0;
  return std::min(parse_int<unsigned>(count).value_or(0), kMost);
}

// Close-on-exec: main plugged a number that the caller had left closed.
bool was_passed(int fd) {
  const int own = ::fcntl(fd, F_GETFD);
  return own >= 0 && (own & FD_CLOEXEC) == 0;
}

Result<void> check_preserved(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  const auto status = TRY(sys::stat_fd(fd, "descriptor"));
  if (S_ISDIR(status.st_mode))
    return Error::make(Code::denied, "--preserve-fds: descriptor ", fd,
                       " is a directory, by which the container could leave its root");
  if ((flags & O_PATH) != 0)
    return Error::make(Code::denied, "--preserve-fds: descriptor ", fd,
                       " is an O_PATH one, by which the container could open a file of the host");
  return {};
}

void set_env(oci::Strings& env, std::string_view key, const std::string& value) {
  std::erase_if(env, [&](const std::string& entry) { return entry.starts_with(key); });
  env.push_back(str(key, value));
}

}  // namespace

Result<void> hand_over(const Handover& to, pid_t pid, int pidfd, int console_fd) {
  if (console_fd >= 0 && !to.console_socket.empty())
    TRY_CTX(send_descriptor(to.console_socket, console_fd, "/dev/ptmx"), "--console-socket ",
            printable(to.console_socket));
  if (!to.pidfd_socket.empty())
    TRY_CTX(send_descriptor(to.pidfd_socket, pidfd, "pidfd"), "--pidfd-socket ", printable(to.pidfd_socket));
  if (!to.pid_file.empty()) TRY_CTX(write_pid_file(to.pid_file, pid), "--pid-file ", printable(to.pid_file));
  return {};
}

Result<void> check_terminal(const Handover& to, bool terminal, bool detached) {
  if (terminal && detached && to.console_socket.empty())
    return Error::make(Code::invalid_config,
                       "process.terminal is set: give --console-socket, on which the terminal is handed over");
  if (!terminal && !to.console_socket.empty())
    return Error::make(Code::invalid_config, "--console-socket: the process has no terminal (process.terminal)");
  return {};
}

Result<unsigned> preserved_descriptors(unsigned asked, oci::Strings* env) {
  const unsigned listening = env != nullptr ? listen_descriptors() : 0;
  unsigned count = 0;
  for (; count < listening + asked; ++count) {
    const int fd = 3 + static_cast<int>(count);
    if (was_passed(fd)) TRY(check_preserved(fd));
    // podman counts the descriptors of LISTEN_FDS into --preserve-fds too.
    else if (listening != 0) break;
    // Else a gap: callers give a number that is large enough, as crun and youki let them.
  }
  if (listening != 0) {
    set_env(*env, "LISTEN_FDS=", str(listening));
    set_env(*env, "LISTEN_PID=", "1");
  }
  // Order: before the clone. What the caller left open would stay so in a container that waits for start, and whoever
  // reads the other end of a pipe would wait with it.
  if (::close_range(3 + count, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return Error::from_errno(errno, "close_range");
  return count;
}

void add_home(oci::Process& process, const std::string& root) {
  // Of several the last one counts, and an empty one is none.
  const auto is_home = [](const std::string& entry) { return entry.starts_with("HOME="); };
  const auto last = std::find_if(process.env.rbegin(), process.env.rend(), is_home);
  if (last != process.env.rend() && *last != "HOME=") return;
  std::erase_if(process.env, is_home);
  std::string home = process.user.uid == 0 ? "/root" : "/";
  const auto dir = sys::open_at(AT_FDCWD, root.c_str(), O_PATH | O_DIRECTORY);
  if (dir) {
    const auto user = security::resolve_user(dir->get(), str(process.user.uid), {});
    if (user && !user->name.empty()) home = user->home;
  }
  set_env(process.env, "HOME=", home);
}

}  // namespace skink::cli
