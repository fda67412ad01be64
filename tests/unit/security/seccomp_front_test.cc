// SPDX-License-Identifier: Apache-2.0
// Every comparison against a model of BPF, with the values around each border.
#include "security/seccomp_front.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cerrno>
#include <cstring>

namespace skink::security {
namespace {

constexpr std::uint32_t kFellThrough = 0x12345678;

/// What the instructions answer, by the few of them that we use.
std::uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  std::uint32_t a = 0;
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& i = program[pc];
    const auto branch = [&](bool yes) { pc += yes ? i.jt : i.jf; };
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS: std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, sizeof a); break;
      case BPF_ALU | BPF_AND | BPF_K: a &= i.k; break;
      case BPF_JMP | BPF_JA: pc += i.k; break;
      case BPF_JMP | BPF_JEQ | BPF_K: branch(a == i.k); break;
      case BPF_JMP | BPF_JGT | BPF_K: branch(a > i.k); break;
      case BPF_JMP | BPF_JGE | BPF_K: branch(a >= i.k); break;
      case BPF_JMP | BPF_JSET | BPF_K: branch((a & i.k) != 0); break;
      case BPF_RET | BPF_K: return i.k;
      default: ADD_FAILURE() << "instruction " << i.code; return 0;
    }
    EXPECT_LE(pc, program.size()) << "jumped beyond the end";
  }
  return kFellThrough;
}

seccomp_data call(std::uint32_t arch, std::uint32_t number, std::uint64_t arg2 = 0) {
  seccomp_data data{};
  data.arch = arch;
  data.nr = static_cast<int>(number);
  data.args[2] = arg2;
  return data;
}

bool holds(Compare op, std::uint64_t x, std::uint64_t v) {
  switch (op) {
    case Compare::eq: return x == v;
    case Compare::ne: return x != v;
    case Compare::gt: return x > v;
    case Compare::ge: return x >= v;
    case Compare::lt: return x < v;
    case Compare::le: return x <= v;
    case Compare::masked_eq: return false;
  }
  return false;
}

TEST(FrontProgram, ComparesAll64BitsInEveryWay) {
  const std::uint64_t points[] = {
      0,           1,           5,           0x7fffffff,  0x80000000,         0xffffffff,        0x100000000,
      0x100000005, 0x4ffffffff, 0x500000000, 0x500000005, 0xffffffff00000000, 0xffffffffffffffff};
  for (const Compare op : {Compare::eq, Compare::ne, Compare::gt, Compare::ge, Compare::lt, Compare::le}) {
    for (const std::uint64_t value : points) {
      const auto program =
          front_program({{AUDIT_ARCH_AARCH64, false, {{7, SECCOMP_RET_TRAP, {{2, op, value, 0}}}}, {}}});
      for (const std::uint64_t x : points) {
        const std::uint32_t expected = holds(op, x, value) ? SECCOMP_RET_TRAP : kFellThrough;
        EXPECT_EQ(run(program, call(AUDIT_ARCH_AARCH64, 7, x)), expected)
            << "operator " << static_cast<int>(op) << " of " << x << " and " << value;
      }
    }
  }
}

TEST(FrontProgram, MasksEachHalf) {
  const auto with = [](std::uint64_t mask, std::uint64_t value, std::uint64_t x) {
    const auto program = front_program(
        {{AUDIT_ARCH_AARCH64, false, {{7, SECCOMP_RET_TRAP, {{2, Compare::masked_eq, mask, value}}}}, {}}});
    return run(program, call(AUDIT_ARCH_AARCH64, 7, x)) == SECCOMP_RET_TRAP;
  };

  EXPECT_TRUE(with(0xffffffff, 0x5412, 0x100005412));
  EXPECT_FALSE(with(0xffffffff, 0x5412, 0x100005413));
  EXPECT_TRUE(with(0xff00000000, 0x1200000000, 0x12ffffffff));
  EXPECT_FALSE(with(0xff00000000, 0x1200000000, 0x13ffffffff));
  EXPECT_TRUE(with(0, 0, 0xffffffffffffffff));
}

TEST(FrontProgram, TakesAllConditionsOfARuleAndTheFirstRuleThatMatches) {
  const auto program = front_program({{AUDIT_ARCH_AARCH64,
                                       false,
                                       {{7, SECCOMP_RET_TRAP, {{2, Compare::gt, 10, 0}, {0, Compare::eq, 0, 0}}},
                                        {7, SECCOMP_RET_LOG, {{2, Compare::gt, 20, 0}}},
                                        {8, SECCOMP_RET_ALLOW, {}}},
                                       {}}});
  seccomp_data data = call(AUDIT_ARCH_AARCH64, 7, 30);

  EXPECT_EQ(run(program, data), SECCOMP_RET_TRAP);
  data.args[0] = 1;
  EXPECT_EQ(run(program, data), SECCOMP_RET_LOG);
  data.args[2] = 15;
  EXPECT_EQ(run(program, data), kFellThrough);
  EXPECT_EQ(run(program, call(AUDIT_ARCH_AARCH64, 8)), SECCOMP_RET_ALLOW);
}

TEST(FrontProgram, KeepsTheNumbersOfX32AndX8664Apart) {
  const FrontAbi wide{AUDIT_ARCH_X86_64, false, {}, 400};
  const FrontAbi x32{AUDIT_ARCH_X86_64, true, {}, kX32Bit | 300};
  const FrontAbi narrow{AUDIT_ARCH_I386, false, {}, 200};
  const auto both = front_program({wide, x32, narrow});
  const std::uint32_t enosys = SECCOMP_RET_ERRNO | ENOSYS;

  EXPECT_EQ(run(both, call(AUDIT_ARCH_X86_64, 400)), kFellThrough);
  EXPECT_EQ(run(both, call(AUDIT_ARCH_X86_64, 401)), enosys);
  EXPECT_EQ(run(both, call(AUDIT_ARCH_X86_64, kX32Bit | 300)), kFellThrough);
  EXPECT_EQ(run(both, call(AUDIT_ARCH_X86_64, kX32Bit | 301)), enosys);
  EXPECT_EQ(run(both, call(AUDIT_ARCH_I386, 200)), kFellThrough);
  EXPECT_EQ(run(both, call(AUDIT_ARCH_I386, 201)), enosys);
  EXPECT_EQ(run(both, call(AUDIT_ARCH_AARCH64, 999)), kFellThrough);
  // Without x32, its calls are for libseccomp's answer to a wrong architecture; so is a tracer's -1.
  EXPECT_EQ(run(front_program({wide}), call(AUDIT_ARCH_X86_64, kX32Bit | 301)), kFellThrough);
  EXPECT_EQ(run(front_program({wide}), call(AUDIT_ARCH_X86_64, 0xffffffff)), kFellThrough);
}

TEST(FrontProgram, JumpsOverMoreRulesThanAnEightBitDistance) {
  FrontAbi many{AUDIT_ARCH_AARCH64, false, {}, {}};
  for (std::uint32_t n = 0; n < 200; ++n)
    many.rules.push_back({n, SECCOMP_RET_ERRNO | n, {{2, Compare::eq, std::uint64_t{n} << 32, 0}}});
  const FrontAbi last{AUDIT_ARCH_I386, false, {{3, SECCOMP_RET_TRAP, {}}}, {}};

  EXPECT_EQ(run(front_program({many, last}), call(AUDIT_ARCH_I386, 3)), SECCOMP_RET_TRAP);
  EXPECT_EQ(run(front_program({many, last}), call(AUDIT_ARCH_AARCH64, 199, 199ULL << 32)), SECCOMP_RET_ERRNO | 199U);
}

TEST(FrontProgram, IsEmptyWhenThereIsNothingToDecide) {
  EXPECT_TRUE(front_program({}).empty());
  EXPECT_TRUE(front_program({{AUDIT_ARCH_X86_64, false, {}, {}}}).empty());
}

}  // namespace
}  // namespace skink::security
