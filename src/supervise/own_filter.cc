// SPDX-License-Identifier: Apache-2.0
#include "supervise/own_filter.h"

#include <linux/audit.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace skink::supervise {
namespace {

// The name in place: a pointer would be relocated at the start, and the page with it a private one (target P8).
struct Call {
  char name[18];
  std::int16_t native;
  std::int16_t i386;  // the same of 32-bit programs, which this architecture may run too; -1: there is none
};

// A call that no kernel has. What it answers shows a successor whether the filter stands.
constexpr Call kMark = {"nfsservctl", SYS_nfsservctl, 169};
constexpr std::uint32_t kMarked = ECHRNG;

// Of keyctl the way into a session keyring is needed by every launch.
constexpr Call kKeyctl = {"keyctl", SYS_keyctl, 288};

// Not on the list, as launches need them: bpf (the devices of cgroup v2), mount and its kin, setns, unshare, clone,
// pivot_root, sethostname, personality, mknod, set_mempolicy, pidfd_getfd.
constexpr Call kCalls[] = {
    {"acct", SYS_acct, 51},
    {"add_key", SYS_add_key, 286},
    {"adjtimex", SYS_adjtimex, 124},
    {"clock_adjtime", SYS_clock_adjtime, 343},
    {"clock_settime", SYS_clock_settime, 264},
    {"delete_module", SYS_delete_module, 129},
    {"fanotify_init", SYS_fanotify_init, 338},
    {"finit_module", SYS_finit_module, 350},
    {"init_module", SYS_init_module, 128},
    {"io_uring_enter", SYS_io_uring_enter, 426},
    {"io_uring_register", SYS_io_uring_register, 427},
    {"io_uring_setup", SYS_io_uring_setup, 425},
#if defined(__x86_64__)
    {"ioperm", SYS_ioperm, 101},
    {"iopl", SYS_iopl, 110},
    {"kexec_file_load", SYS_kexec_file_load, -1},
    {"modify_ldt", SYS_modify_ldt, 123},
    {"uselib", SYS_uselib, 86},
#endif
    {"kcmp", SYS_kcmp, 349},
    {"kexec_load", SYS_kexec_load, 283},
    {"lookup_dcookie", SYS_lookup_dcookie, 253},
    {"migrate_pages", SYS_migrate_pages, 294},
    {"move_pages", SYS_move_pages, 317},
    {"open_by_handle_at", SYS_open_by_handle_at, 342},
    {"perf_event_open", SYS_perf_event_open, 336},
    {"process_madvise", SYS_process_madvise, 440},
    {"process_vm_readv", SYS_process_vm_readv, 347},
    {"process_vm_writev", SYS_process_vm_writev, 348},
    {"ptrace", SYS_ptrace, 26},
    {"quotactl", SYS_quotactl, 131},
    {"quotactl_fd", SYS_quotactl_fd, 443},
    {"reboot", SYS_reboot, 88},
    {"request_key", SYS_request_key, 287},
    {"settimeofday", SYS_settimeofday, 79},
    {"swapoff", SYS_swapoff, 115},
    {"swapon", SYS_swapon, 87},
    {"syslog", SYS_syslog, 103},
    {"userfaultfd", SYS_userfaultfd, 374},
    {"vhangup", SYS_vhangup, 111},
};

// Whatever else a call is answered with, another filter's word weighs less than this: seccomp(2).
bool is_refusal(std::string_view action) {
  return action == "SCMP_ACT_ERRNO" || action == "SCMP_ACT_KILL" || action == "SCMP_ACT_KILL_THREAD" ||
         action == "SCMP_ACT_KILL_PROCESS" || action == "SCMP_ACT_TRAP";
}

// Whether the container's own filter refuses it, whatever its arguments are.
class Refusals {
 public:
  explicit Refusals(const oci::Seccomp& seccomp) : by_default_(is_refusal(seccomp.default_action)) {
    for (const auto& rule : seccomp.syscalls)
      if (by_default_ && !is_refusal(rule.action))
        allowed_.insert(allowed_.end(), rule.names.begin(), rule.names.end());
    std::ranges::sort(allowed_);
  }
  [[nodiscard]] bool has(std::string_view name) const {
    return by_default_ && !std::ranges::binary_search(allowed_, name);
  }

 private:
  bool by_default_;
  std::vector<std::string_view> allowed_;
};

bool has_hooks(const oci::Hooks& hooks) {
  return !hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty() ||
         !hooks.start_container.empty() || !hooks.poststart.empty() || !hooks.poststop.empty();
}

class Program {
 public:
  std::vector<sock_filter> code;

  void load(std::size_t offset) {
    code.push_back({BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(offset)});
  }
  void answer(std::uint32_t action) { code.push_back({BPF_RET | BPF_K, 0, 0, action}); }
  // `skipped`: so many instructions when it is not equal.
  void unless_equal_skip(std::uint32_t value, std::uint8_t skipped) {
    code.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, skipped, value});
  }
  void refuse(std::uint32_t number, std::uint32_t error) {
    unless_equal_skip(number, 1);
    answer(SECCOMP_RET_ERRNO | error);
  }
  void refuse_keyctl(std::uint32_t number) {
    unless_equal_skip(number, 4);
    load(offsetof(seccomp_data, args));
    unless_equal_skip(KEYCTL_JOIN_SESSION_KEYRING, 1);
    answer(SECCOMP_RET_ALLOW);
    answer(SECCOMP_RET_ERRNO | EPERM);
  }
  // Of one architecture: the jump past all of it is patched in the end.
  template <typename Number>
  void add(std::uint32_t architecture, const Refusals& refused, Number number_of) {
    load(offsetof(seccomp_data, arch));
    const std::size_t jump = code.size();
    // A long jump, as the list may be longer than a conditional one reaches.
    code.push_back({BPF_JMP | BPF_JEQ | BPF_K, 1, 0, architecture});
    code.push_back({BPF_JMP | BPF_JA, 0, 0, 0});
    load(offsetof(seccomp_data, nr));
    const auto numbered = [&](const Call& call) { return number_of(call) >= 0 && refused.has(call.name); };
    for (const Call& call : kCalls)
      if (numbered(call)) refuse(static_cast<std::uint32_t>(number_of(call)), EPERM);
    refuse(static_cast<std::uint32_t>(number_of(kMark)), kMarked);
    if (numbered(kKeyctl)) refuse_keyctl(static_cast<std::uint32_t>(number_of(kKeyctl)));
    answer(SECCOMP_RET_ALLOW);
    code[jump + 1].k = static_cast<std::uint32_t>(code.size() - (jump + 2));
  }
};

}  // namespace

std::vector<sock_filter> own_filter(const oci::Spec& spec) {
  const auto& seccomp = spec.linux.seccomp;
  if (!seccomp || has_hooks(spec.hooks)) return {};
  const Refusals refused(*seccomp);
  if (!refused.has(kMark.name)) return {};
  Program program;
  program.add(kArchitecture, refused, [](const Call& call) { return call.native; });
#if defined(__x86_64__)
  program.add(AUDIT_ARCH_I386, refused, [](const Call& call) { return static_cast<long>(call.i386); });
#endif
  program.answer(SECCOMP_RET_ALLOW);
  return std::move(program.code);
}

bool give_up_calls(const std::vector<sock_filter>& program) {
  if (program.empty()) return false;
  if (::syscall(kMark.native) < 0 && errno == static_cast<int>(kMarked)) return true;
  const sock_fprog filter{static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())};
  // Without no_new_privs, which the container would inherit too: so it takes CAP_SYS_ADMIN. And without a mitigation
  // against speculation that its own filter may not ask for (SPEC_ALLOW).
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) == 0;
}

}  // namespace skink::supervise
