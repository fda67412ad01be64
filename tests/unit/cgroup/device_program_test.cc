// SPDX-License-Identifier: Apache-2.0
#include "cgroup/device_program.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

namespace skink::cgroup {
namespace {

struct Request {
  char type;
  std::uint32_t major, minor;
  unsigned access;
};

// The few instructions that device_program() uses. -1 for anything the verifier would refuse.
int run(const std::vector<bpf_insn>& program, const Request& request) {
  const std::uint32_t kind = request.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
  const std::uint32_t context[] = {request.access << 16 | kind, request.major, request.minor};
  std::uint64_t reg[11] = {};
  for (std::size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& one = program[at];
    const auto imm = static_cast<std::uint32_t>(one.imm);
    const auto low = static_cast<std::uint32_t>(reg[one.dst_reg]);
    switch (one.code) {
      case BPF_LDX | BPF_MEM | BPF_W: reg[one.dst_reg] = context[one.off / 4]; break;
      case BPF_ALU | BPF_MOV | BPF_X: reg[one.dst_reg] = static_cast<std::uint32_t>(reg[one.src_reg]); break;
      case BPF_ALU | BPF_RSH | BPF_K: reg[one.dst_reg] = low >> imm; break;
      case BPF_ALU | BPF_AND | BPF_K: reg[one.dst_reg] = low & imm; break;
      case BPF_ALU64 | BPF_MOV | BPF_K: reg[one.dst_reg] = imm; break;
      case BPF_JMP | BPF_JA: at += static_cast<std::size_t>(one.off); break;
      case BPF_JMP32 | BPF_JEQ | BPF_K:
        if (low == imm) at += static_cast<std::size_t>(one.off);
        break;
      case BPF_JMP | BPF_EXIT: return static_cast<int>(reg[0]);
      default: return -1;
    }
  }
  return -1;
}

constexpr unsigned kRead = BPF_DEVCG_ACC_READ, kWrite = BPF_DEVCG_ACC_WRITE, kMake = BPF_DEVCG_ACC_MKNOD;

int decide(const std::vector<oci::DeviceRule>& rules, const Request& request) {
  const auto checked = check_device_rules(rules);
  EXPECT_TRUE(checked) << checked.error().text();
  return checked ? run(device_program(*checked), request) : -1;
}

// What the rules mean, said another way: each kind of access by its own last matching rule.
int model(const std::vector<DeviceMatch>& rules, const Request& request) {
  for (const unsigned bit : {kRead, kWrite, kMake}) {
    if ((request.access & bit) == 0) continue;
    bool allowed = true;
    for (const DeviceMatch& rule : rules)
      if ((rule.type == 'a' || rule.type == request.type) && (!rule.major || *rule.major == request.major) &&
          (!rule.minor || *rule.minor == request.minor) && (rule.access & bit) != 0)
        allowed = rule.allow;
    if (!allowed) return 0;
  }
  return 1;
}

const std::vector<oci::DeviceRule> kUsual = {{false, 'a', {}, {}, "rwm"},
                                             {true, 'c', {}, {}, "m"},
                                             {true, 'c', 1, 3, "rw"},
                                             {true, 'c', 136, {}, ""},
                                             {true, 'c', 0xffffffff, 7, "r"}};

TEST(DeviceProgram, LetsTheLastMatchingRuleDecide) {
  EXPECT_EQ(decide(kUsual, {'c', 1, 3, kRead | kWrite}), 1);
  EXPECT_EQ(decide(kUsual, {'c', 1, 3, kRead | kWrite | kMake}), 1) << "allowed by two rules together";
  EXPECT_EQ(decide(kUsual, {'c', 1, 4, kRead}), 0);
  EXPECT_EQ(decide(kUsual, {'c', 1, 4, kMake}), 1);
  EXPECT_EQ(decide(kUsual, {'b', 1, 3, kRead}), 0);
  EXPECT_EQ(decide(kUsual, {'b', 8, 0, kMake}), 0);
  EXPECT_EQ(decide(kUsual, {'c', 136, 999, kRead | kWrite}), 1);
  EXPECT_EQ(decide(kUsual, {'c', 0xffffffff, 7, kRead}), 1);
}

TEST(DeviceProgram, AllowsWhatNoRuleSpeaksOf) {
  const std::vector<oci::DeviceRule> rules = {{false, 'b', 8, {}, "w"}};
  EXPECT_EQ(decide(rules, {'b', 8, 1, kRead}), 1);
  EXPECT_EQ(decide(rules, {'b', 8, 1, kRead | kWrite}), 0);
  EXPECT_EQ(decide({}, {'c', 1, 1, kRead}), 1);
}

TEST(DeviceProgram, StopsAtARuleForEverything) {
  const auto checked = check_device_rules({{true, 'c', 1, 3, "rwm"}, {false, 'a', {}, {}, ""}});
  ASSERT_TRUE(checked);
  EXPECT_EQ(device_program(*checked).size(), 8U);
  EXPECT_EQ(decide({{true, 'c', 1, 3, "rwm"}, {false, 'a', {}, {}, ""}}, {'c', 1, 3, kRead}), 0);
}

TEST(DeviceProgram, AgreesWithTheMeaningOfTheRulesOnRandomLists) {
  std::mt19937 random(20261123);
  const auto pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
  for (int round = 0; round < 2000; ++round) {
    std::vector<DeviceMatch> rules(pick(8));
    for (DeviceMatch& rule : rules) {
      rule = {pick(2) == 0, "abc" [pick(3)], {}, {}, 1 + pick(7)};
      if (pick(2) == 0) rule.major = pick(3);
      if (pick(2) == 0) rule.minor = pick(3);
    }
    const auto program = device_program(rules);
    for (unsigned access = 1; access < 8; ++access)
      for (std::uint32_t device = 0; device < 9; ++device)
        for (const char type : {'b', 'c'}) {
          const Request request{type, device / 3, device % 3, access};
          ASSERT_EQ(run(program, request), model(rules, request)) << "round " << round;
        }
  }
}

TEST(CheckDeviceRules, NamesTheRuleThatIsWrong) {
  const auto access = check_device_rules({{true, 'c', 1, 3, "rwm"}, {true, 'c', 1, 3, "rx"}});
  ASSERT_FALSE(access);
  EXPECT_EQ(access.error().text(), "linux.resources.devices[1].access: \"rx\" is not made of r, w and m");
  EXPECT_FALSE(check_device_rules({{true, 'p', {}, {}, ""}}));
  EXPECT_FALSE(check_device_rules({{true, 'c', -2, {}, ""}}));
  EXPECT_FALSE(check_device_rules({{true, 'c', 1, 0x100000000, ""}}));
  EXPECT_FALSE((*check_device_rules({{true, 'c', -1, {}, ""}}))[0].major) << "-1 is any";
}

TEST(DeviceProgram, IsTakenByTheVerifierOfThisKernel) {
  std::vector<oci::DeviceRule> many = kUsual;
  for (int i = 0; i < 4990; ++i) many.push_back({i % 3 == 0, i % 2 == 0 ? 'b' : 'c', i, i, "rw"});
  for (const auto& rules : {std::vector<oci::DeviceRule>{}, kUsual, many}) {
    const auto fd = load_device_program(device_program(*check_device_rules(rules)));
    if (!fd && fd.error().code() == Code::denied) GTEST_SKIP() << fd.error().text();
    EXPECT_TRUE(fd) << fd.error().text();
  }
}

}  // namespace
}  // namespace skink::cgroup
