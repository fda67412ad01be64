// SPDX-License-Identifier: Apache-2.0
// compile_seccomp: a profile to the bytes of a BPF program, by libseccomp and a few instructions of our own in front.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "base/table_text.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "security/seccomp_foretell.h"
#include "security/seccomp_front.h"
#include "security/security.h"
#include "sys/file.h"

namespace skink::security {
namespace {

struct ReleaseContext {
  void operator()(void* context) const { seccomp_release(context); }
};
using Context = std::unique_ptr<void, ReleaseContext>;

// man 2 seccomp; not all of them are in the headers that we build with.
constexpr unsigned kFlagTsync = 1U << 0;
constexpr unsigned kFlagLog = 1U << 1;
constexpr unsigned kFlagSpecAllow = 1U << 2;
constexpr unsigned kFlagNewListener = 1U << 3;
constexpr unsigned kFlagTsyncEsrch = 1U << 4;
constexpr unsigned kFlagWaitKillable = 1U << 5;

constexpr std::size_t kInstructionLimit = 4096;  // BPF_MAXINSNS
constexpr std::uint32_t kErrnoLimit = 0xffff;    // SECCOMP_RET_DATA
constexpr unsigned kArguments = 6;

template <typename T>
struct Word {
  TableText<40> text;
  T value;
};

// In the kernel's order of precedence, most severe first.
constexpr Word<std::uint32_t> kActions[] = {
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
    {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
    {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
};

constexpr Word<Compare> kOperators[] = {
    {"SCMP_CMP_NE", Compare::ne},
    {"SCMP_CMP_LT", Compare::lt},
    {"SCMP_CMP_LE", Compare::le},
    {"SCMP_CMP_EQ", Compare::eq},
    {"SCMP_CMP_GE", Compare::ge},
    {"SCMP_CMP_GT", Compare::gt},
    {"SCMP_CMP_MASKED_EQ", Compare::masked_eq},
};

constexpr Word<unsigned> kFlags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", kFlagTsync},
    {"SECCOMP_FILTER_FLAG_LOG", kFlagLog},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", kFlagSpecAllow},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", kFlagWaitKillable},
};

template <typename T, std::size_t N>
const T* find_word(const Word<T> (&words)[N], std::string_view text) {
  for (const Word<T>& word : words)
    if (word.text == text) return &word.value;
  return nullptr;
}

Result<std::uint32_t> action_of(const std::string& text, std::optional<std::uint32_t> errno_ret,
                                const std::string& path) {
  const std::uint32_t* action = find_word(kActions, text);
  if (action == nullptr)
    return Error::make(Code::invalid_config, path, ": ", quoted(text), " is not an action that skink knows");
  const bool has_data = *action == SECCOMP_RET_ERRNO || *action == SECCOMP_RET_TRACE;
  if (!has_data) {
    // config-linux.md: an errno for an action without one is an error.
    if (errno_ret) return Error::make(Code::invalid_config, path, ": ", text, " has no errno to return");
    return *action;
  }
  const std::uint32_t data = errno_ret.value_or(EPERM);
  if (data > kErrnoLimit)
    return Error::make(Code::invalid_config, path, ": errno ", data, " is not a number from 0 to ", kErrnoLimit);
  return *action | data;
}

std::size_t severity(std::uint32_t action) {
  const std::uint32_t kind = action & SECCOMP_RET_ACTION_FULL;
  for (std::size_t i = 0; i < std::size(kActions); ++i)
    if (kActions[i].value == kind) return i;
  return std::size(kActions);
}

/// A rule of the profile for one name, with everything looked up. Several comparisons of one argument are alternatives,
/// as runc has it (libseccomp takes an argument once a rule).
struct Rule {
  std::string name;
  std::uint32_t action = 0;
  std::vector<Condition> conditions;
};

Result<std::vector<Condition>> conditions_of(const oci::SeccompRule& rule, const std::string& path) {
  std::vector<Condition> conditions;
  for (std::size_t i = 0; i < rule.args.size(); ++i) {
    const oci::SeccompArg& arg = rule.args[i];
    const Compare* op = find_word(kOperators, arg.op);
    if (op == nullptr)
      return Error::make(Code::invalid_config, path, ".args[", i, "].op: ", quoted(arg.op), " is not an operator");
    if (arg.index >= kArguments)
      return Error::make(Code::invalid_config, path, ".args[", i, "].index: ", arg.index,
                         " is not a number from 0 to 5");
    conditions.push_back({arg.index, *op, arg.value, arg.value_two});
  }
  return conditions;
}

bool one_argument_twice(const std::vector<Condition>& conditions) {
  unsigned seen = 0;
  for (const Condition& condition : conditions) {
    if ((seen & 1U << condition.index) != 0) return true;
    seen |= 1U << condition.index;
  }
  return false;
}

Result<std::vector<Rule>> rules_of(const oci::Seccomp& profile) {
  std::vector<Rule> rules;
  for (std::size_t i = 0; i < profile.syscalls.size(); ++i) {
    const oci::SeccompRule& rule = profile.syscalls[i];
    const std::string path = str("linux.seccomp.syscalls[", i, "]");
    const std::uint32_t action = TRY(action_of(rule.action, rule.errno_ret, path + ".action"));
    const std::vector<Condition> conditions = TRY(conditions_of(rule, path));
    for (const std::string& name : rule.names) {
      // The child tells its parent over a descriptor that the filter is loaded: a supervised write would wait for ever.
      if (action == SCMP_ACT_NOTIFY && name == "write")
        return Error::make(Code::invalid_config, path, ": SCMP_ACT_NOTIFY cannot be used for the write syscall");
      if (one_argument_twice(conditions))
        for (const Condition& condition : conditions) rules.push_back({name, action, {condition}});
      else rules.push_back({name, action, conditions});
    }
  }
  return rules;
}

// ---- architectures ----

struct Abi {
  std::uint32_t token = 0;  ///< libseccomp's
  std::uint32_t audit_arch = 0;
  bool x32 = false;
};

Abi abi_of(std::uint32_t token) {
  if (token == SCMP_ARCH_X32) return {token, SCMP_ARCH_X86_64, true};
  return {token, token, false};
}

/// Architectures of the runtime-spec that this libseccomp has never heard of. They cannot be this machine's.
constexpr std::string_view kForeign[] = {"SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB"};

Result<std::vector<Abi>> add_architectures(void* context, const oci::Strings& names) {
  std::vector<Abi> abis{abi_of(seccomp_arch_native())};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::find(std::begin(kForeign), std::end(kForeign), names[i]) != std::end(kForeign)) continue;
    constexpr std::string_view kPrefix = "SCMP_ARCH_";
    std::string word = names[i].starts_with(kPrefix) ? names[i].substr(kPrefix.size()) : std::string();
    for (char& c : word)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const std::uint32_t token = word == "native" ? 0 : seccomp_arch_resolve_name(word.c_str());
    if (token == 0)
      return Error::make(Code::invalid_config, "linux.seccomp.architectures[", i, "]: ", quoted(names[i]),
                         " is not an architecture");
    const int result = seccomp_arch_add(context, token);
    // EDOM: of the other byte order, so no call of that kind can reach this kernel.
    if (result == -EEXIST || result == -EDOM) continue;
    if (result != 0) return Error::from_errno(-result, "linux.seccomp.architectures[", i, "]: seccomp_arch_add");
    abis.push_back(abi_of(token));
  }
  return abis;
}

/// The call's number for one ABI; nothing where it has none, or is only a case of another call (socketcall).
std::optional<std::uint32_t> number_of(const Abi& abi, const std::string& name) {
  const int number = seccomp_syscall_resolve_name_arch(abi.token, name.c_str());
  if (number >= 0) return static_cast<std::uint32_t>(number);
  if (number == __NR_SCMP_ERROR)
    if (const auto newer = newer_syscall(name)) return *newer | (abi.x32 ? kX32Bit : 0U);
  return std::nullopt;
}

// ---- rules ----

/// libseccomp gives up a conditional rule as soon as the same call has an unconditional one. A refusal that vanishes is
/// a hole, so refusals that are stricter than the unconditional rule are decided in front of libseccomp's program; so
/// are all rules on calls that it does not know.
struct Sorted {
  std::vector<Rule> front;  ///< most severe first
  std::vector<Rule> library;
};

const Rule* unconditional(const std::vector<Rule>& rules, const std::string& name) {
  for (const Rule& rule : rules)
    if (rule.conditions.empty() && rule.name == name) return &rule;
  return nullptr;
}

Sorted sort_rules(const std::vector<Rule>& rules) {
  Sorted sorted;
  for (const Rule& rule : rules) {
    if (seccomp_syscall_resolve_name(rule.name.c_str()) == __NR_SCMP_ERROR) {
      if (newer_syscall(rule.name)) sorted.front.push_back(rule);
      continue;
    }
    const Rule* all = rule.conditions.empty() ? nullptr : unconditional(rules, rule.name);
    if (all != nullptr && severity(rule.action) < severity(all->action)) {
      sorted.front.push_back(rule);
    } else {
      sorted.library.push_back(rule);
    }
  }
  // Of two with the same severity the unconditional one decides, as in libseccomp.
  const auto rank = [](const Rule& rule) { return std::pair(severity(rule.action), !rule.conditions.empty()); };
  std::stable_sort(sorted.front.begin(), sorted.front.end(),
                   [&](const Rule& a, const Rule& b) { return rank(a) < rank(b); });
  return sorted;
}

scmp_compare library_compare(Compare op) {
  switch (op) {
    case Compare::ne: return SCMP_CMP_NE;
    case Compare::lt: return SCMP_CMP_LT;
    case Compare::le: return SCMP_CMP_LE;
    case Compare::eq: return SCMP_CMP_EQ;
    case Compare::ge: return SCMP_CMP_GE;
    case Compare::gt: return SCMP_CMP_GT;
    case Compare::masked_eq: return SCMP_CMP_MASKED_EQ;
  }
  return SCMP_CMP_EQ;
}

Result<void> add_library_rule(void* context, const Rule& rule, std::uint32_t default_action) {
  if (rule.action == default_action) return {};  // libseccomp refuses what changes nothing
  std::array<scmp_arg_cmp, kArguments> args{};
  unsigned count = 0;
  for (const Condition& condition : rule.conditions)
    args[count++] = {condition.index, library_compare(condition.op), condition.value, condition.value_two};
  const int number = seccomp_syscall_resolve_name(rule.name.c_str());
  const int result = seccomp_rule_add_array(context, rule.action, number, count, args.data());
  if (result != 0) return Error::from_errno(-result, "linux.seccomp: ", quoted(rule.name), ": seccomp_rule_add");
  return {};
}

std::vector<FrontAbi> front_of(const std::vector<Abi>& abis, const std::vector<Rule>& all,
                               const std::vector<Rule>& front, bool newer_is_unknown) {
  std::vector<FrontAbi> parts;
  for (const Abi& abi : abis) {
    FrontAbi part{abi.audit_arch, abi.x32, {}, {}};
    for (const Rule& rule : front)
      if (const auto number = number_of(abi, rule.name)) part.rules.push_back({*number, rule.action, rule.conditions});
    for (const Rule& rule : all) {
      if (!newer_is_unknown) break;
      if (const auto number = number_of(abi, rule.name))
        part.last_known = std::max(part.last_known.value_or(0), *number);
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

// ---- export ----

Result<std::string> export_program(void* context) {
  UniqueFd file{::memfd_create("seccomp", MFD_CLOEXEC)};
  if (!file) return Error::from_errno(errno, "seccomp: memfd_create");
  if (const int result = seccomp_export_bpf(context, file.get()); result != 0)
    return Error::from_errno(-result, "seccomp_export_bpf");
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "seccomp: lseek");
  return sys::read_all(file.get(), std::size_t{64} << 20, "seccomp program");
}

Result<unsigned> flags_of(const oci::Seccomp& profile, bool notifies) {
  unsigned flags = 0;
  for (std::size_t i = 0; i < profile.flags.size(); ++i) {
    const unsigned* flag = find_word(kFlags, profile.flags[i]);
    if (flag == nullptr)
      return Error::make(Code::invalid_config, "linux.seccomp.flags[", i, "]: ", quoted(profile.flags[i]),
                         " is not a flag that skink knows");
    flags |= *flag;
  }
  if (!notifies) return flags & ~kFlagWaitKillable;  // the kernel refuses it where there is no listener
  // With a listener the call returns a descriptor, so a thread that cannot be synchronised has to be an errno.
  if ((flags & kFlagTsync) != 0) flags |= kFlagTsyncEsrch;
  return flags | kFlagNewListener;
}

Result<bool> check_notify(const oci::Seccomp& profile, const std::vector<Rule>& rules, std::uint32_t default_action) {
  if (default_action == SCMP_ACT_NOTIFY)
    return Error::make(Code::invalid_config,
                       "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action");
  const bool notifies =
      std::any_of(rules.begin(), rules.end(), [](const Rule& rule) { return rule.action == SCMP_ACT_NOTIFY; });
  if (notifies && profile.listener_path.empty())
    return Error::make(Code::invalid_config, "linux.seccomp.listenerPath: missing, and a rule has SCMP_ACT_NOTIFY");
  return notifies;
}

Result<Context> make_context(std::uint32_t default_action) {
  Context context{seccomp_init(default_action)};
  if (!context) return Error::make(Code::unsupported, "linux.seccomp.defaultAction: not known to this kernel");
  // A call by another architecture's numbers ends the whole process: killing one thread only leaves the others waiting.
  if (const int result = seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS); result != 0)
    return Error::from_errno(-result, "seccomp: bad architecture action");
  // A binary tree instead of a list: the kernel tries every call number when it loads a filter.
  constexpr unsigned kBinaryTree = 2;
  if (const int result = seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, kBinaryTree); result != 0)
    return Error::from_errno(-result, "seccomp: order of the rules");
  return context;
}

// All that child/program.cc calls from await_start() to execve, or to its end by a signal or a fault. kill and its like
// are not among them: nothing of it signals anybody.
constexpr std::uint32_t kFromStartOn[] = {SYS_accept4, SYS_read,      SYS_write,        SYS_sendmsg,
                                          SYS_close,   SYS_dup3,      SYS_rt_sigaction, SYS_rt_sigprocmask,
                                          SYS_execve,  SYS_exit_group};

}  // namespace

Result<SeccompProgram> compile_seccomp(const oci::Seccomp& profile) {
  const std::uint32_t default_action =
      TRY(action_of(profile.default_action, profile.default_errno_ret, "linux.seccomp.defaultAction"));
  const std::vector<Rule> rules = TRY(rules_of(profile));
  SeccompProgram program;
  program.needs_listener = TRY(check_notify(profile, rules, default_action));
  program.flags = TRY(flags_of(profile, program.needs_listener));

  const Context context = TRY(make_context(default_action));
  const std::vector<Abi> abis = TRY(add_architectures(context.get(), profile.architectures));
  const Sorted sorted = sort_rules(rules);
  for (const Rule& rule : sorted.library) TRY(add_library_rule(context.get(), rule, default_action));

  const bool refuses_by_errno = (default_action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO;
  const bool newer_is_unknown = refuses_by_errno && (default_action & SECCOMP_RET_DATA) != ENOSYS;
  const std::vector<sock_filter> front = front_program(front_of(abis, rules, sorted.front, newer_is_unknown));
  if (!front.empty())
    program.bpf.assign(reinterpret_cast<const char*>(front.data()), front.size() * sizeof(sock_filter));
  program.bpf += TRY(export_program(context.get()));
  const std::size_t instructions = program.bpf.size() / sizeof(sock_filter);
  if (instructions > kInstructionLimit)
    return Error::make(Code::unsupported, "linux.seccomp: the program has ", instructions,
                       " instructions, and the kernel takes ", kInstructionLimit);
  program.lets_start = !program.needs_listener && always_allows(program.bpf, abis.front().audit_arch, kFromStartOn);
  return program;
}

std::string seccomp_library_version() {
  const scmp_version* const version = seccomp_version();
  return str(version->major, '.', version->minor, '.', version->micro);
}

}  // namespace skink::security
