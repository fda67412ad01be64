// SPDX-License-Identifier: Apache-2.0
// What is read out of /proc, and the table of processes.
#include "cli/proc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cli/top_table.h"

namespace skink::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kStat =
    "77 (a) R (b) S 5 77 77 34817 77 4194304 100 0 0 0 250 50 0 0 20 -5 3 0 12345 2322432 376 18446744073709551615 1 "
    "1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

TEST(Stat, ANameMayHoldAnything) {
  Process process;

  ASSERT_TRUE(parse_stat(kStat, process));

  EXPECT_EQ(process.comm, "a) R (b");
  EXPECT_EQ(process.state, 'S');
  EXPECT_EQ(process.parent, 5);
  EXPECT_EQ(process.cpu_ticks, 300u);
  EXPECT_EQ(process.nice, -5);
  EXPECT_EQ(process.threads, 3u);
  EXPECT_EQ(process.start_ticks, 12345u);
  EXPECT_EQ(process.virtual_bytes, 2322432u);
  EXPECT_EQ(terminal_name(process.tty), "pts/1");
}

TEST(Stat, IsRefusedWhenItIsNone) {
  Process process;
  EXPECT_FALSE(parse_stat("", process));
  EXPECT_FALSE(parse_stat("77 (a", process));
  EXPECT_FALSE(parse_stat("77 (a) S 5 77", process));
}

TEST(Status, HasTheEffectiveUserAndTheNumberOneNamespaceDown) {
  Process process;

  ASSERT_TRUE(parse_status("Name:\tUid:\\t9\nUid:\t0\t1000\t0\t0\nNSpid:\t4711\t12\t1\n", process));

  EXPECT_EQ(process.uid, 1000u);
  EXPECT_EQ(process.ns_pid, 12);
  ASSERT_TRUE(parse_status("Uid:\t0\t0\t0\t0\nNSpid:\t4711\n", process));
  EXPECT_EQ(process.ns_pid, 4711);
  EXPECT_FALSE(parse_status("Name:\tx\n", process));
}

TEST(Interfaces, AreReadWithOrWithoutBlanksAfterTheColon) {
  const auto found = parse_interfaces(
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
      "compressed\n"
      "    lo:       1       2    3    4    0     0          0         0        5       6    7    8    0     0       0 "
      "  "
      "       0\n"
      "we\"ird:10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n"
      "  bad: 1 2 x\n");

  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].name, "lo");
  EXPECT_EQ(found[0].received.drops, 4u);
  EXPECT_EQ(found[0].sent.errors, 7u);
  EXPECT_EQ(found[1].name, "we\"ird");
  EXPECT_EQ(found[1].sent.bytes, 30u);
}

TEST(Terminals, HaveTheNamesOfTheirNodes) {
  EXPECT_EQ(terminal_name(0), "?");
  EXPECT_EQ(terminal_name(0x401), "tty1");
  EXPECT_EQ(terminal_name(0x440), "ttyS0");
  EXPECT_EQ(terminal_name(0x501), "console");
  EXPECT_EQ(terminal_name(0x8900), "pts/256");
  EXPECT_EQ(terminal_name(0xcc40), "204:64");
}

TEST(ReadProcess, KnowsThisOne) {
  const auto process = read_process(::getpid());

  ASSERT_TRUE(process);
  EXPECT_EQ(process->parent, ::getppid());
  EXPECT_EQ(process->uid, ::geteuid());
  EXPECT_GT(process->resident_bytes, 0u);
  ASSERT_FALSE(process->args.empty());
  EXPECT_THAT(process->args[0], HasSubstr("test-cli"));
}

std::vector<pid_t> order_of(std::vector<std::pair<pid_t, pid_t>> pairs, TopOrder order) {
  std::vector<Process> processes;
  for (const auto& [pid, parent] : pairs) {
    Process process;
    process.pid = pid;
    process.parent = parent;
    processes.push_back(process);
  }
  sort_processes(processes, order);
  std::vector<pid_t> pids;
  for (const Process& process : processes) pids.push_back(process.pid);
  return pids;
}

TEST(Order, ATreeHasChildrenAfterTheirParents) {
  EXPECT_THAT(order_of({{30, 10}, {10, 2}, {11, 10}, {40, 30}, {12, 999}}, TopOrder::tree),
              ElementsAre(10, 11, 30, 40, 12));
  EXPECT_THAT(order_of({{30, 10}, {10, 2}, {11, 10}}, TopOrder::pid), ElementsAre(10, 11, 30));
}

TEST(Order, ParentsOfEachOtherAreNotLost) {
  EXPECT_THAT(order_of({{5, 6}, {6, 5}, {4, 1}}, TopOrder::tree), ElementsAre(4, 5, 6));
}

TEST(Columns, AreChosenByPssNames) {
  const auto columns = parse_columns("pid,pcpu,args");
  ASSERT_TRUE(columns);
  EXPECT_THAT(top_heading(*columns), ElementsAre("PID", "%CPU", "CMD"));

  const auto wrong = parse_columns("pid,shoe");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().text(), HasSubstr("\"shoe\" is not a column; there are user, uid, pid"));
  EXPECT_FALSE(parse_columns(""));
  EXPECT_FALSE(parse_columns("pid,"));
}

TEST(Columns, ShowNothingThatSteersATerminal) {
  Process process;
  ASSERT_TRUE(parse_stat(kStat, process));
  process.comm = "\x1b[2J";
  process.args = {"a\nb", "\x1b[31m"};
  const TopFacts facts{.since_boot_ns = ticks_to_ns(12345) + 30'000'000'000, .host_memory = 0, .users = {}};

  EXPECT_THAT(top_row(*parse_columns("comm,cmd,time,%cpu,uid"), process, facts),
              ElementsAre("\\x1b[2J", "a\\x0ab \\x1b[31m", "00:00:03", "10.0", "0"));

  process.args.clear();
  process.state = 'Z';
  EXPECT_THAT(top_row(*parse_columns("cmd"), process, facts), ElementsAre("[\\x1b[2J] <defunct>"));
}

}  // namespace
}  // namespace skink::cli
