// SPDX-License-Identifier: Apache-2.0
// lacking CALL[:ARG=VALUE|:ARG&MASK=VALUE|:ARG~TEXT]:ERRNO... -- PROGRAM [ARG...]: runs a program where system calls
// fail, all of a name or those with one argument of a value or a text, as they do on an older kernel
// ("fsconfig:1=5:EINVAL", "fsopen:0~overlay:ENODEV") or below somebody's filter ("openat2:EPERM"). The filter is
// inherited by whatever the program starts. Texts are looked at by a process of ours that ends with the last of these.
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

[[noreturn]] void die(std::string_view what) {
  std::fprintf(stderr, "lacking: %.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(99);
}

std::uint32_t number_of(std::string_view error) {
  constexpr std::array<std::pair<std::string_view, int>, 7> kErrors{{{"ENOSYS", ENOSYS},
                                                                     {"EPERM", EPERM},
                                                                     {"EINVAL", EINVAL},
                                                                     {"ENOTTY", ENOTTY},
                                                                     {"EOPNOTSUPP", EOPNOTSUPP},
                                                                     {"ENODEV", ENODEV},
                                                                     {"EBADF", EBADF}}};
  for (const auto& [name, number] : kErrors)
    if (name == error) return static_cast<std::uint32_t>(number);
  die(error);
}

std::uint64_t integer(const std::string& text) { return std::strtoull(text.c_str(), nullptr, 0); }

// "1=5" or "1&0xffff=0xff0b"
scmp_arg_cmp condition(const std::string& text) {
  const auto equal = text.find('=');
  const auto mask = text.find('&');
  if (equal == std::string::npos) die(text);
  const auto arg = static_cast<unsigned>(integer(text.substr(0, std::min(equal, mask))));
  const std::uint64_t value = integer(text.substr(equal + 1));
  if (mask == std::string::npos) return SCMP_CMP(arg, SCMP_CMP_EQ, value);
  return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, integer(text.substr(mask + 1, equal - mask - 1)), value);
}

// A rule on a text, which a filter cannot see.
struct TextRule {
  int call;
  unsigned arg;
  std::string text;
  int error;
};

std::string text_at(pid_t pid, std::uint64_t address) {
  std::array<char, 64> buffer{};
  const iovec here{buffer.data(), buffer.size() - 1};
  const iovec there{reinterpret_cast<void*>(address), buffer.size() - 1};  // NOLINT: it is the other process's
  if (::process_vm_readv(pid, &here, 1, &there, 1, 0) <= 0) return {};
  return buffer.data();
}

// Answers until nobody has the filter any more.
[[noreturn]] void serve(int fd, const std::vector<TextRule>& rules) {
  seccomp_notif* asked = nullptr;
  seccomp_notif_resp* answer = nullptr;
  if (seccomp_notify_alloc(&asked, &answer) != 0) ::_exit(99);
  for (pollfd entry{fd, POLLIN, 0}; ::poll(&entry, 1, -1) < 0 || (entry.revents & POLLHUP) == 0;) {
    std::memset(asked, 0, sizeof *asked);
    if (seccomp_notify_receive(fd, asked) != 0) continue;
    *answer = {asked->id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    for (const TextRule& rule : rules)
      if (rule.call == asked->data.nr &&
          text_at(static_cast<pid_t>(asked->pid), asked->data.args[rule.arg]) == rule.text)
        *answer = {asked->id, 0, -rule.error, 0};
    (void)seccomp_notify_respond(fd, answer);
  }
  ::_exit(0);
}

// Before the filter is loaded: then its descriptor is taken from us.
void start_server(scmp_filter_ctx filter, const std::vector<TextRule>& rules) {
  std::array<int, 2> ready{}, taken{};
  if (::pipe2(ready.data(), O_CLOEXEC) != 0 || ::pipe2(taken.data(), O_CLOEXEC) != 0) die("pipe2");
  const pid_t user = ::getpid();
  char byte = 0;
  if (::fork() == 0) {
    int number = -1;
    if (::read(ready[0], &number, sizeof number) != sizeof number || ::fork() != 0) ::_exit(0);
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, user, 0));
    const int fd = static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0));
    if (fd < 0) ::_exit(99);
    (void)!::write(taken[1], &byte, 1);
    ::setsid();
    for (int other = 0; other < 256; ++other)
      if (other != fd) ::close(other);
    serve(fd, rules);
  }
  if (seccomp_load(filter) != 0) die("seccomp_load");
  const int number = seccomp_notify_fd(filter);
  (void)!::write(ready[1], &number, sizeof number);
  ::close(taken[1]);
  if (::read(taken[0], &byte, 1) != 1) die("nobody answers for the filter");
  (void)::wait(nullptr);
  ::close(number);
}

void add(scmp_filter_ctx filter, const std::string& rule, std::vector<TextRule>& texts) {
  const auto first = rule.find(':');
  const auto last = rule.rfind(':');
  if (first == std::string::npos) die(rule);
  const int call = seccomp_syscall_resolve_name(rule.substr(0, first).c_str());
  if (call == __NR_SCMP_ERROR) die(rule);
  if (const auto tilde = rule.find('~'); tilde != std::string::npos) {
    const auto error = static_cast<int>(number_of(std::string_view(rule).substr(last + 1)));
    texts.push_back({call, static_cast<unsigned>(integer(rule.substr(first + 1))),
                     rule.substr(tilde + 1, last - tilde - 1), error});
    if (const int failed = seccomp_rule_add(filter, SCMP_ACT_NOTIFY, call, 0); failed != 0 && failed != -EEXIST)
      die(rule);
    return;
  }
  const std::uint32_t action = SCMP_ACT_ERRNO(number_of(std::string_view(rule).substr(last + 1)));
  const bool plain = first == last;
  const int failed =
      plain ? seccomp_rule_add(filter, action, call, 0)
            : seccomp_rule_add(filter, action, call, 1, condition(rule.substr(first + 1, last - first - 1)));
  if (failed != 0) die(rule);
}

}  // namespace

int main(int argc, char** argv) {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  // Root needs no "no new privileges", and what it starts must not have it.
  if (filter == nullptr || seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) != 0) die("seccomp_init");
  std::vector<TextRule> texts;
  int at = 1;
  for (; at < argc && std::strcmp(argv[at], "--") != 0; ++at) add(filter, argv[at], texts);
  if (at + 1 >= argc) die("no program");
  if (!texts.empty()) start_server(filter, texts);
  else if (seccomp_load(filter) != 0) die("seccomp_load");
  ::execvp(argv[at + 1], argv + at + 1);
  die(argv[at + 1]);
}
