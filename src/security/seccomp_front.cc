// SPDX-License-Identifier: Apache-2.0
#include "security/seccomp_front.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <string>

#include "base/table_text.h"

namespace skink::security {
namespace {

using Program = std::vector<sock_filter>;

// Jump distances of one rule are 8 bits wide and count from the next instruction. A rule has at most six conditions of
// six instructions, so "to the end of this rule" always fits; longer ways are one unconditional jump (32 bits).
constexpr std::uint8_t kToEnd = 0xff;

struct Half {
  std::uint32_t offset;
  std::uint32_t value;
  std::uint32_t mask;
};

sock_filter load(std::size_t offset) { return {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(offset)}; }

sock_filter jump(unsigned test, std::uint32_t value, std::uint8_t if_true, std::uint8_t if_false) {
  return {static_cast<std::uint16_t>(BPF_JMP | BPF_K | test), if_true, if_false, value};
}

sock_filter answer(std::uint32_t action) { return {BPF_RET | BPF_K, 0, 0, action}; }

struct Halves {
  Half high, low;
};

Halves halves(const Condition& condition) {
  const auto base = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + condition.index * sizeof(std::uint64_t));
  constexpr bool kLittle = std::endian::native == std::endian::little;
  const bool masked = condition.op == Compare::masked_eq;
  const std::uint64_t mask = masked ? condition.value : ~std::uint64_t{0};
  const std::uint64_t value = masked ? condition.value_two & mask : condition.value;
  return {{base + (kLittle ? 4U : 0U), static_cast<std::uint32_t>(value >> 32), static_cast<std::uint32_t>(mask >> 32)},
          {base + (kLittle ? 0U : 4U), static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(mask)}};
}

void add_equal_half(Program& out, const Half& half) {
  if (half.mask == 0) return;
  out.push_back(load(half.offset));
  if (half.mask != ~std::uint32_t{0}) out.push_back({BPF_ALU | BPF_AND | BPF_K, 0, 0, half.mask});
  out.push_back(jump(BPF_JEQ, half.value, 0, kToEnd));
}

// greater, or equal too: the high half decides unless it is equal.
void add_above(Program& out, const Halves& at, bool or_equal) {
  out.push_back(load(at.high.offset));
  out.push_back(jump(BPF_JGT, at.high.value, 3, 0));
  out.push_back(jump(BPF_JEQ, at.high.value, 0, kToEnd));
  out.push_back(load(at.low.offset));
  out.push_back(jump(or_equal ? BPF_JGE : BPF_JGT, at.low.value, 0, kToEnd));
}

void add_below(Program& out, const Halves& at, bool or_equal) {
  out.push_back(load(at.high.offset));
  out.push_back(jump(BPF_JGT, at.high.value, kToEnd, 0));
  out.push_back(jump(BPF_JEQ, at.high.value, 0, 2));
  out.push_back(load(at.low.offset));
  out.push_back(jump(or_equal ? BPF_JGT : BPF_JGE, at.low.value, kToEnd, 0));
}

void add_condition(Program& out, const Condition& condition) {
  const Halves at = halves(condition);
  switch (condition.op) {
    case Compare::eq:
    case Compare::masked_eq:
      add_equal_half(out, at.high);
      add_equal_half(out, at.low);
      return;
    case Compare::ne:
      out.push_back(load(at.high.offset));
      out.push_back(jump(BPF_JEQ, at.high.value, 0, 2));
      out.push_back(load(at.low.offset));
      out.push_back(jump(BPF_JEQ, at.low.value, kToEnd, 0));
      return;
    case Compare::gt: return add_above(out, at, false);
    case Compare::ge: return add_above(out, at, true);
    case Compare::lt: return add_below(out, at, false);
    case Compare::le: return add_below(out, at, true);
  }
}

void add_rule(Program& out, const FrontRule& rule) {
  Program body;
  body.push_back(load(offsetof(seccomp_data, nr)));
  body.push_back(jump(BPF_JEQ, rule.number, 0, kToEnd));
  for (const Condition& condition : rule.conditions) add_condition(body, condition);
  body.push_back(answer(rule.action));
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (BPF_CLASS(body[i].code) != BPF_JMP) continue;
    const auto to_end = static_cast<std::uint8_t>(body.size() - i - 1);
    if (body[i].jt == kToEnd) body[i].jt = to_end;
    if (body[i].jf == kToEnd) body[i].jf = to_end;
  }
  out.insert(out.end(), body.begin(), body.end());
}

Program abi_body(const FrontAbi& abi) {
  Program body;
  for (const FrontRule& rule : abi.rules) add_rule(body, rule);
  if (abi.last_known) {
    body.push_back(load(offsetof(seccomp_data, nr)));
    body.push_back(jump(BPF_JGT, *abi.last_known, 0, 1));
    body.push_back(answer(SECCOMP_RET_ERRNO | ENOSYS));
  }
  return body;
}

struct Newer {
  TableText<20> name;
  std::uint32_t number;
};

// asm-generic/unistd.h; since 5.1 a new call gets one number everywhere.
constexpr Newer kNewer[] = {
    {"cachestat", 451},         {"fchmodat2", 452},         {"map_shadow_stack", 453}, {"futex_wake", 454},
    {"futex_wait", 455},        {"futex_requeue", 456},     {"statmount", 457},        {"listmount", 458},
    {"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
    {"setxattrat", 463},        {"getxattrat", 464},        {"listxattrat", 465},      {"removexattrat", 466},
    {"open_tree_attr", 467},    {"file_getattr", 468},      {"file_setattr", 469},
};

}  // namespace

std::vector<sock_filter> front_program(const std::vector<FrontAbi>& abis) {
  Program out;
  for (const FrontAbi& abi : abis) {
    const Program body = abi_body(abi);
    if (body.empty()) continue;
    Program head;
    head.push_back(load(offsetof(seccomp_data, arch)));
    head.push_back(jump(BPF_JEQ, abi.audit_arch, 1, 0));
    head.push_back({BPF_JMP | BPF_JA, 0, 0, 0});
    if (abi.audit_arch == AUDIT_ARCH_X86_64) {
      // A number with bit 30 is x32's. Where x32 is not asked for, it is left to libseccomp's bad-architecture answer.
      head.push_back(load(offsetof(seccomp_data, nr)));
      const auto stay = static_cast<std::uint8_t>(1);
      head.push_back(abi.x32 ? jump(BPF_JSET, kX32Bit, stay, 0) : jump(BPF_JSET, kX32Bit, 0, stay));
      head.push_back({BPF_JMP | BPF_JA, 0, 0, 0});
    }
    for (std::size_t i = 0; i < head.size(); ++i)
      if (head[i].code == (BPF_JMP | BPF_JA)) head[i].k = static_cast<std::uint32_t>(head.size() - i - 1 + body.size());
    out.insert(out.end(), head.begin(), head.end());
    out.insert(out.end(), body.begin(), body.end());
  }
  return out;
}

std::optional<std::uint32_t> newer_syscall(std::string_view name) {
  for (const Newer& newer : kNewer)
    if (newer.name == name) return newer.number;
  return std::nullopt;
}

}  // namespace skink::security
