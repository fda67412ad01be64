// SPDX-License-Identifier: Apache-2.0
#include "security/seccomp_foretell.h"

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <vector>

namespace skink::security {
namespace {

// What the accumulator holds before an instruction, over all ways that lead there.
struct Before {
  bool reached = false;
  std::optional<std::uint32_t> value;  // nothing: it depends on the arguments
};

void reach(Before& there, std::optional<std::uint32_t> value) {
  if (!there.reached) there = {true, value};
  else if (there.value != value) there.value.reset();
}

std::optional<std::uint32_t> loaded(const sock_filter& instruction, std::uint32_t audit_arch, std::uint32_t number) {
  if (BPF_MODE(instruction.code) == BPF_IMM) return instruction.k;
  if (BPF_MODE(instruction.code) != BPF_ABS) return std::nullopt;
  if (instruction.k == offsetof(seccomp_data, nr)) return number;
  if (instruction.k == offsetof(seccomp_data, arch)) return audit_arch;
  return std::nullopt;
}

// Masks are all that filters compute with; whatever else there is leaves the value unknown.
std::optional<std::uint32_t> computed(const sock_filter& instruction, std::optional<std::uint32_t> value) {
  if (!value || instruction.code != (BPF_ALU | BPF_AND | BPF_K)) return std::nullopt;
  return *value & instruction.k;
}

std::optional<bool> holds(const sock_filter& jump, std::optional<std::uint32_t> value) {
  if (!value || BPF_SRC(jump.code) != BPF_K) return std::nullopt;
  switch (BPF_OP(jump.code)) {
    case BPF_JEQ: return *value == jump.k;
    case BPF_JGT: return *value > jump.k;
    case BPF_JGE: return *value >= jump.k;
    case BPF_JSET: return (*value & jump.k) != 0;
    default: return std::nullopt;
  }
}

// One pass: every jump of a filter leads forward (man 2 seccomp, the kernel's check of classic BPF).
bool always_allows(const std::vector<sock_filter>& program, std::uint32_t audit_arch, std::uint32_t number) {
  std::vector<Before> before(program.size());
  if (!before.empty()) before.front().reached = true;
  for (std::size_t at = 0; at < program.size(); ++at) {
    if (!before[at].reached) continue;
    const sock_filter& instruction = program[at];
    const auto value = before[at].value;
    const auto go = [&](std::size_t distance, std::optional<std::uint32_t> then) {
      const bool inside = distance < program.size() - at - 1;
      if (inside) reach(before[at + 1 + distance], then);
      return inside;
    };
    bool good = true;
    switch (BPF_CLASS(instruction.code)) {
      case BPF_RET:
        good = BPF_RVAL(instruction.code) == BPF_K && (instruction.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW;
        break;
      case BPF_LD: good = go(0, loaded(instruction, audit_arch, number)); break;
      case BPF_ALU: good = go(0, computed(instruction, value)); break;
      case BPF_MISC: good = go(0, std::nullopt); break;
      case BPF_JMP: {
        if (BPF_OP(instruction.code) == BPF_JA) {
          good = go(instruction.k, value);
          break;
        }
        const auto taken = holds(instruction, value);
        if (!taken || *taken) good = go(instruction.jt, value);
        if (good && (!taken || !*taken)) good = go(instruction.jf, value);
        break;
      }
      default: good = go(0, value); break;  // to and from memory, the index register
    }
    if (!good) return false;
  }
  return !program.empty();
}

}  // namespace

bool always_allows(std::string_view bpf, std::uint32_t audit_arch, std::span<const std::uint32_t> calls) {
  std::vector<sock_filter> program(bpf.size() / sizeof(sock_filter));
  if (!program.empty()) std::memcpy(program.data(), bpf.data(), program.size() * sizeof(sock_filter));
  return std::ranges::all_of(calls, [&](std::uint32_t call) { return always_allows(program, audit_arch, call); });
}

}  // namespace skink::security
