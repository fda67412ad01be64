// SPDX-License-Identifier: Apache-2.0
#include "supervise/diet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/json.h"
#include "security/security.h"

namespace skink::supervise {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

oci::SeccompRule rule_of(oci::Strings names) {
  oci::SeccompRule rule;
  rule.names = std::move(names);
  rule.action = "SCMP_ACT_ALLOW";
  return rule;
}

oci::Spec confined() {
  oci::Spec spec;
  oci::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_ERRNO";
  seccomp.syscalls = {rule_of({"read", "write", "a_name_that_has_memory_of_its_own"}), rule_of({}),
                      rule_of({"ptrace"})};
  spec.linux.seccomp = seccomp;
  return spec;
}

TEST(PackedCalls, GivesBackTheNamesAsTheyWere) {
  oci::Spec spec = confined();
  PackedCalls packed;

  packed.pack(spec, false);
  const bool were_out = spec.linux.seccomp->syscalls[0].names.empty() && spec.linux.seccomp->syscalls[2].names.empty();
  packed.unpack(spec);

  EXPECT_TRUE(were_out);
  const auto& rules = spec.linux.seccomp->syscalls;
  EXPECT_THAT(rules[0].names, ElementsAre("read", "write", "a_name_that_has_memory_of_its_own"));
  EXPECT_THAT(rules[1].names, IsEmpty());
  EXPECT_THAT(rules[2].names, ElementsAre("ptrace"));
}

TEST(PackedCalls, EitherTwiceIsAsOnce) {
  oci::Spec spec = confined();
  PackedCalls packed;

  packed.unpack(spec);
  packed.pack(spec, false);
  packed.pack(spec, false);
  packed.unpack(spec);
  packed.unpack(spec);

  EXPECT_THAT(spec.linux.seccomp->syscalls[0].names, ElementsAre("read", "write", "a_name_that_has_memory_of_its_own"));
}

TEST(PackedCalls, ASpecWithoutAFilterStaysAsItIs) {
  oci::Spec spec;
  PackedCalls packed;

  packed.pack(spec, false);
  packed.unpack(spec);

  EXPECT_FALSE(spec.linux.seccomp);
}

TEST(PackedCalls, OurOwnProfileIsMadeAgain) {
  oci::Spec spec;
  spec.process.emplace().capabilities.emplace().bounding = security::default_capabilities();
  spec.linux.seccomp = security::default_seccomp(security::default_capabilities());
  const std::string before = oci::dump_spec(spec);
  PackedCalls packed;

  packed.pack(spec, true);
  const bool was_out = spec.linux.seccomp->syscalls.empty();
  packed.unpack(spec);

  EXPECT_TRUE(was_out);
  EXPECT_EQ(oci::dump_spec(spec), before);
}

TEST(Diet, WhatIsStillUsedSurvivesIt) {
  const std::vector<std::string> kept(1000, "something that has memory of its own");
  volatile char on_the_stack[64] = "and this";

  shed_memory();

  EXPECT_EQ(kept.back(), "something that has memory of its own");
  EXPECT_EQ(on_the_stack[4], 't');
}

}  // namespace
}  // namespace skink::supervise
