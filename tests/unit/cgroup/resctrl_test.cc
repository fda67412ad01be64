// SPDX-License-Identifier: Apache-2.0
#include "cgroup/resctrl.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

#include "fs/dir.h"

namespace skink::cgroup {
namespace {

using ::testing::HasSubstr;

// As the kernel does it: a new class or monitoring group comes with its files.
int make_filled(int dir_fd, const char* name, mode_t mode) {
  if (::mkdirat(dir_fd, name, mode) != 0) return -1;
  const UniqueFd dir{::openat(dir_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC)};
  for (const char* file : {"tasks", "schemata"})
    const UniqueFd made{::openat(dir.get(), file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
  return ::mkdirat(dir.get(), "mon_groups", 0755);
}

// rmdir of the kernel takes the files along; an ordinary one does not, so they are emptied out before.
class FakeResctrl {
 public:
  FakeResctrl() {
    if (::mkdtemp(path_.data()) == nullptr) ::abort();
    fd_ = UniqueFd{::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    write("tasks", ""), write("schemata", "");
    ::mkdirat(fd_.get(), "info", 0755), ::mkdirat(fd_.get(), "mon_groups", 0755);
    write("info/last_cmd_status", "ok\n");
  }
  ~FakeResctrl() { (void)fs::remove_tree(AT_FDCWD, path_.c_str()); }
  FakeResctrl(const FakeResctrl&) = delete;
  FakeResctrl& operator=(const FakeResctrl&) = delete;

  [[nodiscard]] Resctrl tree() const { return {fd_.get(), make_filled}; }
  void make(const char* name, const std::string& schemata) const {
    make_filled(fd_.get(), name, 0755);
    write(std::string(name) + "/schemata", schemata);
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ + "/" + name) << text; }
  [[nodiscard]] std::string text(const std::string& name) const {
    std::ifstream file(path_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] bool has(const std::string& name) const { return ::access((path_ + "/" + name).c_str(), F_OK) == 0; }
  void empty_out(const std::string& name) const {
    for (const char* file : {"/tasks", "/schemata"}) ::unlink((path_ + "/" + name + file).c_str());
    ::rmdir((path_ + "/" + name + "/mon_groups").c_str());
  }

 private:
  std::string path_ = "/tmp/skink-fake-resctrl-XXXXXX";
  UniqueFd fd_;
};

TEST(Resctrl, AContainerWithoutAClassGetsOneOfItsOwnThatGoesWithIt) {
  const FakeResctrl fake;
  oci::IntelRdt rdt;
  rdt.l3_cache_schema = "L3:0=7f0;1=1f";
  rdt.mem_bw_schema = "MB:0=20;1=70";
  rdt.schemata = {"L2:0=f"};

  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_TRUE(group);
  EXPECT_FALSE(fake.has("c1"));
  ASSERT_TRUE(fake.tree().make(*group, rdt));
  ASSERT_TRUE(fake.tree().add(*group, 4711));

  EXPECT_EQ(*group, (ResctrlGroup{"c1", "", true}));
  EXPECT_EQ(fake.text("c1/schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=f\n");
  EXPECT_EQ(fake.text("c1/tasks"), "4711");
  fake.empty_out("c1");
  ASSERT_TRUE(fake.tree().remove(*group));
  EXPECT_FALSE(fake.has("c1"));
  EXPECT_TRUE(fake.tree().remove(*group));
}

TEST(Resctrl, ValuesOfAClassCanBeChanged) {
  const FakeResctrl fake;
  oci::IntelRdt rdt;
  rdt.l3_cache_schema = "L3:0=7f0";
  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_TRUE(group && fake.tree().make(*group, rdt));
  rdt.l3_cache_schema = "L3:0=00f";
  rdt.mem_bw_schema = "MB:0=30";

  ASSERT_TRUE(fake.tree().change(*group, rdt));

  EXPECT_EQ(fake.text("c1/schemata"), "L3:0=00f\nMB:0=30\n");
  EXPECT_FALSE(fake.tree().change({"gone", "", true}, rdt));
}

TEST(Resctrl, WritesNoSchemataWhenNoneIsGiven) {
  const FakeResctrl fake;
  const auto group = fake.tree().plan({}, "c1");
  ASSERT_TRUE(group && fake.tree().make(*group, {}) && fake.tree().add(*group, 1));
  EXPECT_EQ(fake.text("c1/schemata"), "");
}

TEST(Resctrl, ANamedClassThatIsThereIsUsedAndStays) {
  const FakeResctrl fake;
  fake.make("gold", "    L3:0=7f0;1=01f\n    MB:0=20;1=70\n");
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";

  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_TRUE(group && fake.tree().make(*group, rdt) && fake.tree().add(*group, 12));

  EXPECT_EQ(fake.text("gold/tasks"), "12");
  EXPECT_EQ(fake.text("gold/schemata"), "    L3:0=7f0;1=01f\n    MB:0=20;1=70\n");
  ASSERT_TRUE(fake.tree().remove(*group));
  EXPECT_TRUE(fake.has("gold"));
}

TEST(Resctrl, ANamedClassWithoutValuesHasToBeThere) {
  const FakeResctrl fake;
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";
  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_FALSE(group);
  EXPECT_EQ(group.error().text(),
            "linux.intelRdt.closID: there is no class of service \"gold\"; make it first, or give schemata");
}

TEST(Resctrl, ANamedClassWithValuesIsMadeAndStays) {
  const FakeResctrl fake;
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";
  rdt.schemata = {"L3:0=f"};
  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_TRUE(group && fake.tree().make(*group, rdt));
  EXPECT_EQ(fake.text("gold/schemata"), "L3:0=f\n");
  ASSERT_TRUE(fake.tree().remove(*group));
  EXPECT_TRUE(fake.has("gold"));
}

TEST(Resctrl, AClassThatIsThereWithOtherValuesIsRefusedBeforeAnythingIsMade) {
  const FakeResctrl fake;
  fake.make("gold", "L3:0=7f0;1=1f\n");
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";
  rdt.l3_cache_schema = "L3:0=fff";
  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_FALSE(group);
  EXPECT_THAT(group.error().text(), HasSubstr("linux.intelRdt.l3CacheSchema: \"L3:0=fff\" is not what the class"));
  rdt.l3_cache_schema = "L3:1=01F";
  EXPECT_TRUE(fake.tree().plan(rdt, "c1"));
}

TEST(Resctrl, TheRootIsTheDefaultClassAndIsNeverRemoved) {
  const FakeResctrl fake;
  oci::IntelRdt rdt;
  rdt.clos_id = "/";
  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_TRUE(group && fake.tree().make(*group, rdt) && fake.tree().add(*group, 5));
  EXPECT_EQ(fake.text("tasks"), "5");
  EXPECT_TRUE(fake.tree().remove(*group));
  EXPECT_TRUE(fake.has("tasks"));
}

TEST(Resctrl, MonitoringHasAGroupOfTheContainersName) {
  const FakeResctrl fake;
  fake.make("gold", "");
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";
  rdt.enable_monitoring = true;
  const auto group = fake.tree().plan(rdt, "c1");
  ASSERT_TRUE(group && fake.tree().make(*group, rdt) && fake.tree().add(*group, 7));
  EXPECT_EQ(fake.text("gold/mon_groups/c1/tasks"), "7");
  fake.empty_out("gold/mon_groups/c1");
  ASSERT_TRUE(fake.tree().remove(*group));
  EXPECT_FALSE(fake.has("gold/mon_groups/c1"));
  EXPECT_TRUE(fake.has("gold/tasks"));
}

TEST(Resctrl, TheKernelsOwnWordsAreInTheError) {
  const FakeResctrl fake;
  fake.write("info/last_cmd_status", "Non-consecutive 1-bits in mask\n");
  Resctrl tree = fake.tree();
  tree.make_directory = [](int, const char*, mode_t) {
    errno = ENOSPC;
    return -1;
  };
  const auto made = tree.make({"c1", "", true}, {});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().text(),
            "linux.intelRdt: make class of service c1: No space left on device (Non-consecutive 1-bits in mask)");
}

TEST(SchemaHolds, ComparesNumbersAndNotTheirSpelling) {
  constexpr const char* kNow = "    MB:0=100;1=100\n    L3:0=00ff;1=1f\n";
  EXPECT_TRUE(schema_holds("L3:0=ff", kNow));
  EXPECT_TRUE(schema_holds("L3:01=1F;0=ff", kNow));
  EXPECT_TRUE(schema_holds("MB:1=100", kNow));
  EXPECT_FALSE(schema_holds("L3:0=f", kNow));
  EXPECT_FALSE(schema_holds("L3:2=f", kNow));
  EXPECT_FALSE(schema_holds("L2:0=f", kNow));
  EXPECT_FALSE(schema_holds("nonsense", kNow));
}

}  // namespace
}  // namespace skink::cgroup
