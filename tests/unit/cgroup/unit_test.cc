// SPDX-License-Identifier: Apache-2.0
#include "cgroup/unit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace skink::cgroup {
namespace {

using bus::Manager;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

struct Path {
  std::string path, slice, name;
};

TEST(ParseUnit, NamesTheUnitAsRuncDoes) {
  const Path rows[] = {
      {"machine.slice:libpod:0123abc", "machine.slice", "libpod-0123abc.scope"},
      {"kubepods-besteffort-pod1_2.slice:cri-containerd:0123", "kubepods-besteffort-pod1_2.slice",
       "cri-containerd-0123.scope"},
      {":skink:c1", "system.slice", "skink-c1.scope"},
      {"system.slice::c1", "system.slice", "c1.scope"},
      {"::c1", "system.slice", "c1.scope"},
      {"-:a:b", "-.slice", "a-b.scope"},
      {"-.slice:a:b", "-.slice", "a-b.scope"},
      {"machine.slice:ignored:pod1.slice", "machine.slice", "pod1.slice"},
      {"a-b.slice:p:c.service", "a-b.slice", "p-c.service.scope"},
      {":p-q:r-s--t", "system.slice", "p-q-r-s--t.scope"},
      {":a.b_c:x\\x40y", "system.slice", "a.b_c-x\\x40y.scope"},
      {"", "system.slice", "skink-the.id_1\\x2b2.scope"},
  };
  for (const Path& row : rows) {
    const auto unit = parse_unit(row.path, "the.id_1+2", Manager::system);
    ASSERT_TRUE(unit) << row.path << ": " << unit.error().text();
    EXPECT_EQ(unit->slice, row.slice) << row.path;
    EXPECT_EQ(unit->name, row.name) << row.path;
    EXPECT_EQ(unit->is_slice(), row.name.ends_with(".slice")) << row.path;
    EXPECT_EQ(unit->manager, Manager::system);
  }
}

TEST(ParseUnit, AUsersOwnSliceIsUserSlice) {
  EXPECT_EQ(parse_unit(":p:n", "c", Manager::user)->slice, "user.slice");
  EXPECT_EQ(parse_unit("", "c", Manager::user)->slice, "user.slice");
  EXPECT_EQ(parse_unit("app.slice:p:n", "c", Manager::user)->slice, "app.slice");
}

TEST(ParseUnit, RefusesTheRest) {
  for (const std::string path : {"/a/b",
                                 "a",
                                 "a:b",
                                 "::",
                                 "a.slice:b:",
                                 "a.slice:b:c:d",
                                 "nosuffix:a:b",
                                 ".slice:a:b",
                                 "a--b.slice:c:d",
                                 "-a.slice:c:d",
                                 "a-.slice:c:d",
                                 "a/b.slice:c:d",
                                 ":a b:c",
                                 ":a/b:c",
                                 ":a:b@c",
                                 ":a:b+c",
                                 ":a:..\n",
                                 "::--.slice",
                                 "::-a.slice",
                                 "../x.slice:a:b",
                                 "/a.slice:a:b",
                                 ":\xc3\xa4:b"}) {
    const auto unit = parse_unit(path, "c1", Manager::system);
    ASSERT_FALSE(unit) << path << " is " << unit->slice << ' ' << unit->name;
    EXPECT_EQ(unit.error().code(), Code::invalid_config) << path;
    EXPECT_THAT(unit.error().text(), HasSubstr("linux.cgroupsPath")) << path;
  }
  // With "-" and ".scope" 255 in all.
  EXPECT_TRUE(parse_unit(":a:" + std::string(247, 'x'), "c", Manager::system));
  EXPECT_FALSE(parse_unit(":a:" + std::string(248, 'x'), "c", Manager::system));
}

// Properties as text: "MemoryMax=t:64 TasksMax=t:1".
std::string shown(const bus::Value& value) {
  if (value.type == "ay") {
    std::string out = "ay:";
    for (const auto& one : value.items) out += str(one.number, ' ');
    return out;
  }
  if (value.type[0] == 'a' || value.type[0] == '(') {
    std::string out = value.type[0] == 'a' ? "[" : "(";
    for (const auto& one : value.items) out += shown(one) + " ";
    return out + (value.type[0] == 'a' ? "]" : ")");
  }
  if (value.type == "s") return value.text;
  return str(value.type, ':', value.number == ~0ULL ? std::string("infinity") : str(value.number));
}

std::vector<std::pair<std::string, std::string>> shown(const Result<std::vector<Property>>& properties) {
  std::vector<std::pair<std::string, std::string>> out;
  if (!properties) return {{"error", properties.error().text()}};
  for (const auto& [name, value] : *properties) out.emplace_back(name, shown(value));
  return out;
}

std::vector<std::pair<std::string, std::string>> on_v2(const oci::Resources& resources, unsigned systemd = 252,
                                                       const InForce& now = {}) {
  return shown(limit_properties(resources, Layout::v2, systemd, now));
}
std::vector<std::pair<std::string, std::string>> on_v1(const oci::Resources& resources, Layout layout = Layout::v1) {
  return shown(limit_properties(resources, layout, 252));
}

TEST(LimitProperties, AreNoneWithoutLimits) {
  EXPECT_THAT(on_v2({}), IsEmpty());
  EXPECT_THAT(on_v1({}), IsEmpty());
  // 0 is "not given", as for engines.
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 0, .reservation = 0, .swap = 0};
  resources.cpu = oci::CpuLimits{.shares = 0, .quota = 0, .period = 0};
  EXPECT_THAT(on_v2(resources), IsEmpty());
}

TEST(LimitProperties, OfMemory) {
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 1000, .reservation = 500, .swap = 1500};
  EXPECT_THAT(on_v2(resources),
              ElementsAre(Pair("MemoryMax", "t:1000"), Pair("MemoryLow", "t:500"), Pair("MemorySwapMax", "t:500")));
  EXPECT_THAT(on_v1(resources), ElementsAre(Pair("MemoryLimit", "t:1000")));
  EXPECT_THAT(on_v1(resources, Layout::hybrid), ElementsAre(Pair("MemoryLimit", "t:1000")));
  resources.memory = oci::MemoryLimits{.limit = -1, .swap = -1};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("MemoryMax", "t:infinity"), Pair("MemorySwapMax", "t:infinity")));
  resources.memory = oci::MemoryLimits{.limit = -1};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("MemoryMax", "t:infinity"), Pair("MemorySwapMax", "t:infinity")));
  resources.memory = oci::MemoryLimits{.limit = 1000, .swap = 1000};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("MemoryMax", "t:1000"), Pair("MemorySwapMax", "t:0")));
  // The limit that it is counted with is the one in force.
  resources.memory = oci::MemoryLimits{.swap = 1300};
  EXPECT_THAT(on_v2(resources, 252, {.cpu_quota = {}, .cpu_period = {}, .memory_limit = 1000}),
              ElementsAre(Pair("MemorySwapMax", "t:300")));
}

TEST(LimitProperties, SwapLessThanMemoryIsAnError) {
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 1000, .swap = 900};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("error", HasSubstr("linux.resources.memory.swap"))));
}

TEST(LimitProperties, OfProcessorTime) {
  struct Row {
    std::int64_t quota;
    std::uint64_t period;
    const char* per_second;
  };
  for (const Row& row :
       {Row{15000, 100000, "t:150000"}, Row{15000, 50000, "t:300000"}, Row{15333, 100000, "t:160000"},
        Row{250000, 100000, "t:2500000"}, Row{-1, 100000, "t:infinity"}, Row{1, 1000000, "t:10000"},
        Row{9223372036854775807, 1, "t:infinity"}, Row{9223372036854775807, 1000000, "t:9223372036854780000"}}) {
    oci::Resources resources;
    resources.cpu = oci::CpuLimits{.quota = row.quota, .period = row.period};
    EXPECT_THAT(on_v2(resources), ElementsAre(Pair("CPUQuotaPeriodUSec", str("t:", row.period)),
                                              Pair("CPUQuotaPerSecUSec", row.per_second)))
        << row.quota << '/' << row.period;
  }
  oci::Resources resources;
  resources.cpu = oci::CpuLimits{.quota = 20000};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("CPUQuotaPerSecUSec", "t:200000"))) << "of 100 ms";
  EXPECT_THAT(on_v1(resources), ElementsAre(Pair("CPUQuotaPerSecUSec", "t:200000")));
}

// What systemd has is a share of a processor, so half of the pair changes with the other half.
TEST(LimitProperties, OfProcessorTimeWithTheOtherHalfInForce) {
  const InForce now{.cpu_quota = 15000, .cpu_period = 50000, .memory_limit = {}};
  for (const Layout layout : {Layout::v1, Layout::hybrid, Layout::v2}) {
    oci::Resources resources;
    resources.cpu = oci::CpuLimits{.quota = 20000};
    EXPECT_THAT(shown(limit_properties(resources, layout, 252, now)),
                ElementsAre(Pair("CPUQuotaPerSecUSec", "t:400000")));
    EXPECT_EQ(with_other_half(resources, now).cpu->period, 50000U);
    resources.cpu = oci::CpuLimits{.period = 100000};
    EXPECT_THAT(shown(limit_properties(resources, layout, 252, now)),
                ElementsAre(Pair("CPUQuotaPeriodUSec", "t:100000"), Pair("CPUQuotaPerSecUSec", "t:150000")));
    EXPECT_EQ(with_other_half(resources, now).cpu->quota, 15000);
    EXPECT_THAT(
        shown(limit_properties(resources, layout, 252, {.cpu_quota = -1, .cpu_period = 50000, .memory_limit = {}})),
        ElementsAre(Pair("CPUQuotaPeriodUSec", "t:100000"), Pair("CPUQuotaPerSecUSec", "t:infinity")));
  }
  oci::Resources resources;
  resources.unified = {{"cpu.max", "10000"}};
  EXPECT_THAT(on_v2(resources, 252, now), ElementsAre(Pair("CPUQuotaPerSecUSec", "t:200000")));
}

TEST(LimitProperties, OfProcessorShare) {
  oci::Resources resources;
  resources.cpu = oci::CpuLimits{.shares = 1024};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("CPUWeight", "t:100")));
  EXPECT_THAT(on_v1(resources), ElementsAre(Pair("CPUShares", "t:1024")));
  resources.cpu = oci::CpuLimits{.idle = 1};
  EXPECT_THAT(on_v2(resources, 252), ElementsAre(Pair("CPUWeight", "t:0")));
  EXPECT_THAT(on_v2(resources, 251), IsEmpty()) << "it would take 0 as an error";
  resources.cpu = oci::CpuLimits{.cpus = "0-2, 9", .mems = "0"};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("AllowedCPUs", "ay:7 2 "), Pair("AllowedMemoryNodes", "ay:1 ")));
  for (const char* const bad : {"a", "3-1", "0-99999", "1-", "-1", "1;2", "4294967296"}) {
    resources.cpu = oci::CpuLimits{.cpus = bad};
    EXPECT_THAT(on_v2(resources), ElementsAre(Pair("error", HasSubstr("linux.resources.cpu.cpus")))) << bad;
  }
}

TEST(LimitProperties, OfProcessesAndBlockDevices) {
  oci::Resources resources;
  for (const auto& [limit, wanted] : {std::pair(20, "t:20"), {0, "t:1"}, {1, "t:1"}, {-1, "t:infinity"}}) {
    resources.pids_limit = limit;
    EXPECT_THAT(on_v2(resources), ElementsAre(Pair("TasksMax", wanted)));
    EXPECT_THAT(on_v1(resources), ElementsAre(Pair("TasksMax", wanted)));
  }
  resources.pids_limit.reset();
  resources.block_io.emplace();
  resources.block_io->weight = 500;
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("IOWeight", "t:4950")));
  EXPECT_THAT(on_v1(resources), ElementsAre(Pair("BlockIOWeight", "t:500")));
}

TEST(LimitProperties, OfUnifiedFiles) {
  oci::Resources resources;
  resources.unified = {{"memory.max", "1000\n"},    {"memory.high", "max"}, {"memory.min", "5"},
                       {"memory.low", "6"},         {"pids.max", "9"},      {"memory.swap.max", "0"},
                       {"cpu.weight", "77"},        {"cpuset.cpus", "0"},   {"cpuset.mems", "0"},
                       {"io.weight", "default 300"}};
  EXPECT_THAT(on_v2(resources),
              ::testing::UnorderedElementsAre(Pair("MemoryMax", "t:1000"), Pair("MemoryHigh", "t:infinity"),
                                              Pair("MemoryMin", "t:5"), Pair("MemoryLow", "t:6"),
                                              Pair("TasksMax", "t:9"), Pair("MemorySwapMax", "t:0"),
                                              Pair("CPUWeight", "t:77"), Pair("AllowedCPUs", "ay:1 "),
                                              Pair("AllowedMemoryNodes", "ay:1 "), Pair("IOWeight", "t:300")));
  EXPECT_THAT(on_v1(resources), IsEmpty());
  for (const auto& [text, period, quota] :
       {std::tuple("30000 60000", "t:60000", "t:500000"), {"max 50000", "t:50000", "t:infinity"}}) {
    resources.unified = {{"cpu.max", text}};
    EXPECT_THAT(on_v2(resources), ElementsAre(Pair("CPUQuotaPeriodUSec", period), Pair("CPUQuotaPerSecUSec", quota)));
  }
  resources.unified = {{"cpu.max", "max"}};
  EXPECT_THAT(on_v2(resources), ElementsAre(Pair("CPUQuotaPerSecUSec", "t:infinity")));
  // What has no property, or is for the kernel to refuse.
  resources.unified = {{"memory.oom.group", "1"},  {"io.max", "8:0 rbps=1"}, {"io.weight", "8:0 200"},
                       {"memory.max", "nonsense"}, {"cpu.max", "x y"},       {"hugetlb.2MB.max", "0"}};
  EXPECT_THAT(on_v2(resources), IsEmpty());
}

TEST(ScopeProperties, KilledAsOneIsAPolicyThatScopesHaveFrom253On) {
  oci::Resources resources;
  EXPECT_TRUE(scope_properties(resources, Layout::v2, 255).empty());
  resources.unified = {{"memory.oom.group", "1"}};

  const auto now = scope_properties(resources, Layout::v2, 253);
  ASSERT_EQ(now.size(), 1U);
  EXPECT_EQ(now[0].first, "OOMPolicy");
  EXPECT_EQ(now[0].second.text, "kill");
  EXPECT_TRUE(scope_properties(resources, Layout::v2, 252).empty());
  EXPECT_TRUE(scope_properties(resources, Layout::hybrid, 253).empty());
  resources.unified = {{"memory.oom.group", "0"}};
  EXPECT_TRUE(scope_properties(resources, Layout::v2, 253).empty());
}

TEST(LimitProperties, OfDevicesOnV1Only) {
  oci::Resources resources;
  resources.devices = {{.allow = false, .type = 'a', .major = {}, .minor = {}, .access = "rwm"},
                       {.allow = true, .type = 'c', .major = 1, .minor = 3, .access = "rwm"},
                       {.allow = true, .type = 'c', .major = 1, .minor = {}, .access = "r"},
                       {.allow = true, .type = 'b', .major = {}, .minor = {}, .access = "m"}};
  EXPECT_THAT(on_v2(resources), IsEmpty()) << "our program must allow as well";
  EXPECT_THAT(on_v1(resources), ElementsAre(Pair("DevicePolicy", "strict"),
                                            Pair("DeviceAllow", "[(/dev/char/1:3 rwm ) (char-mem r ) (block-* m ) ]")));
  // All are allowed again later.
  resources.devices.push_back({.allow = true, .type = 'a', .major = {}, .minor = {}, .access = "rwm"});
  EXPECT_THAT(on_v1(resources), ElementsAre(Pair("DevicePolicy", "auto"), Pair("DeviceAllow", "[]")));
}

std::vector<std::pair<std::string, std::string>> annotated(std::map<std::string, std::string> annotations) {
  return shown(annotated_properties(annotations));
}

TEST(AnnotatedProperties, AreTheOperators) {
  EXPECT_THAT(annotated({{"org.systemd.property.CollectMode", "'inactive-or-failed'"},
                         {"org.systemd.property.TimeoutStopUSec", "uint64 123456789"},
                         {"org.systemd.property.Before", "['a.service', 'b.service']"},
                         {"org.systemd.properties.No", "true"},
                         {"com.example", "not one"}}),
              ElementsAre(Pair("Before", "[a.service b.service ]"), Pair("CollectMode", "inactive-or-failed"),
                          Pair("TimeoutStopUSec", "t:123456789")));
}

TEST(AnnotatedProperties, SecondsAreMicroseconds) {
  for (const auto& [text, wanted] : {std::pair("uint32 7", "t:7000000"),
                                     {"7", "t:7000000"},
                                     {"double 1.5", "t:1500000"},
                                     {"byte 1", "t:1000000"},
                                     {"uint64 18446744073709", "t:18446744073709000000"}})
    EXPECT_THAT(annotated({{"org.systemd.property.TimeoutStopSec", text}}),
                ElementsAre(Pair("TimeoutStopUSec", wanted)));
  for (const char* const bad :
       {"-1", "'7'", "true", "uint64 18446744073710", "double -0.5", "1e30", "double nan", "[1]"})
    EXPECT_THAT(annotated({{"org.systemd.property.TimeoutStopSec", bad}}),
                ElementsAre(Pair("error", HasSubstr("TimeoutStopSec"))))
        << bad;
}

TEST(AnnotatedProperties, NameWhatIsWrong) {
  EXPECT_THAT(annotated({{"org.systemd.property.CollectMode", "inactive"}}),
              ElementsAre(Pair("error", HasSubstr("annotations[\"org.systemd.property.CollectMode\"]: \"inactive\""))));
  for (const char* const name : {"", "A", "Foo.Bar", "Foo Bar", "Foo1", "Foo\n"})
    EXPECT_THAT(annotated({{str("org.systemd.property.", name), "true"}}),
                ElementsAre(Pair("error", HasSubstr("no property's name"))))
        << name;
}

}  // namespace
}  // namespace skink::cgroup
