// SPDX-License-Identifier: Apache-2.0
// Reading command lines by a table.
#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skink::cli {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Taken {
  bool all = false, tty = false;
  std::string name;
  std::vector<std::string> env;
};

constexpr Option<Taken> kTable[] = {
    {{"all", 'a', nullptr, "all"}, set_switch<&Taken::all>},
    {{"tty", 't', nullptr, "terminal"}, set_switch<&Taken::tty>},
    {{"name", 0, "N", "name"}, set_text<&Taken::name>},
    {{"env", 'e', "K=V", "variable"}, add_text<&Taken::env>},
    {{"number", 'n', "N", "refuses everything"},
     [](Taken&, std::string_view) -> Result<void> { return Error::make(Code::invalid_config, "is no number"); }},
};

struct Outcome {
  Taken taken;
  std::vector<std::string> operands;
  bool help = false;
  std::string error;
};

Outcome parse(std::vector<const char*> args, Operands operands = Operands::anywhere) {
  Outcome outcome;
  auto line = parse_options(std::span<const Option<Taken>>(kTable), args, operands, outcome.taken);
  if (!line) {
    outcome.error = line.error().text();
    return outcome;
  }
  outcome.operands = line->operands;
  outcome.help = line->help;
  return outcome;
}

TEST(Options, LongNamesTakeTheirValueAfterAnEqualsSignOrAsTheNextArgument) {
  const auto outcome = parse({"--name=a=b", "--env", "K=V", "--all"});

  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.taken.name, "a=b");
  EXPECT_THAT(outcome.taken.env, ElementsAre("K=V"));
  EXPECT_TRUE(outcome.taken.all);
}

TEST(Options, ALongNameMayStandBehindOneDashWhereTheTableSaysSo) {
  Taken taken;
  const std::vector<const char*> args{"-name=x", "-env", "A=1", "-all", "-t", "-eB=2", "c1"};
  const auto table = std::span<const Option<Taken>>(kTable);
  const auto line = parse_options(table, args, Operands::anywhere, taken, Dashes::one_or_two);

  ASSERT_TRUE(line) << line.error().text();
  EXPECT_EQ(taken.name, "x");
  EXPECT_THAT(taken.env, ElementsAre("A=1", "B=2"));
  EXPECT_TRUE(taken.all && taken.tty);
  EXPECT_THAT(line->operands, ElementsAre("c1"));
  EXPECT_NE(parse({"-name=x"}).error, "") << "elsewhere these are letters";
}

TEST(Options, LettersCombineAndTheLastMayCarryItsValue) {
  const auto outcome = parse({"-at", "-eA=1", "-e", "B=2", "-e=C=3", "-te", "D"});

  EXPECT_EQ(outcome.error, "");
  EXPECT_TRUE(outcome.taken.all && outcome.taken.tty);
  EXPECT_THAT(outcome.taken.env, ElementsAre("A=1", "B=2", "C=3", "D"));
}

TEST(Options, AValueMayBeginWithADash) { EXPECT_EQ(parse({"--name", "-1"}).taken.name, "-1"); }

TEST(Options, AnEmptyValueIsAValue) {
  EXPECT_THAT(parse({"--env", ""}).taken.env, ElementsAre(""));
  EXPECT_THAT(parse({"--env="}).taken.env, ElementsAre(""));
}

TEST(Options, SwitchesMayBeTurnedOff) {
  EXPECT_FALSE(parse({"-a", "--all=false"}).taken.all);
  EXPECT_FALSE(parse({"-a=0"}).taken.all);
  EXPECT_EQ(parse({"--all=maybe"}).error, "-a, --all: \"maybe\" is neither true nor false");
}

TEST(Options, WhatFollowsTheFirstOperandBelongsToTheCommandWhereTheVerbSaysSo) {
  const auto outcome = parse({"-a", "image", "sh", "-t", "--name", "x", "--"}, Operands::first_ends_options);

  EXPECT_FALSE(outcome.taken.tty);
  EXPECT_THAT(outcome.operands, ElementsAre("image", "sh", "-t", "--name", "x", "--"));
}

TEST(Options, ElsewhereOptionsMayFollowOperands) {
  const auto outcome = parse({"one", "-a", "two"});

  EXPECT_TRUE(outcome.taken.all);
  EXPECT_THAT(outcome.operands, ElementsAre("one", "two"));
}

TEST(Options, TwoDashesEndTheOptions) {
  const auto outcome = parse({"--", "-a", "--name"});

  EXPECT_FALSE(outcome.taken.all);
  EXPECT_THAT(outcome.operands, ElementsAre("-a", "--name"));
}

TEST(Options, ALoneDashIsAnOperand) { EXPECT_THAT(parse({"-"}).operands, ElementsAre("-")); }

TEST(Options, MistakesNameTheOption) {
  EXPECT_EQ(parse({"--nope"}).error, "unknown option --nope");
  EXPECT_EQ(parse({"--nope=1"}).error, "unknown option --nope");
  EXPECT_EQ(parse({"-ax"}).error, "unknown option -x");
  EXPECT_EQ(parse({"-e"}).error, "-e, --env: a value is missing: K=V");
  EXPECT_EQ(parse({"--name"}).error, "--name: a value is missing: N");
  EXPECT_EQ(parse({"-n1"}).error, "--number: is no number");
}

TEST(Options, AnUnknownOptionIsPrintedWithoutItsControlBytes) {
  EXPECT_EQ(parse({"--\x1b[2J"}).error, "unknown option --\\x1b[2J");
}

TEST(Options, HelpIsFoundAndNothingIsSet) {
  const auto outcome = parse({"-a", "--help", "--number", "x"});

  EXPECT_TRUE(outcome.help);
  EXPECT_FALSE(outcome.taken.all);
  EXPECT_TRUE(parse({"-h"}).help);
  EXPECT_THAT(parse({"--help"}).operands, IsEmpty());
}

TEST(Options, NoTableTakesNothing) {
  const std::vector<const char*> args{"x"};

  auto line = read_command_line({}, args, Operands::anywhere);

  ASSERT_TRUE(line);
  EXPECT_THAT(line->operands, ElementsAre("x"));
}

}  // namespace
}  // namespace skink::cli
