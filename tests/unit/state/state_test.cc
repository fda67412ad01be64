// SPDX-License-Identifier: Apache-2.0
#include "state/state.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/text.h"

namespace skink::state {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class StateRoot : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skink-state-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
  }
  void TearDown() override { ASSERT_TRUE(fs::remove_tree(AT_FDCWD, path_.c_str())); }
  static ContainerId id(std::string_view text) { return *ContainerId::parse(text); }
  static Record record(const std::string& name) {
    Record record;
    record.id = name;
    record.bundle = "/b";
    record.rootfs = "/b/rootfs";
    record.created = "2026-01-01T00:00:00Z";
    return record;
  }
  std::string path_;
};

TEST(ContainerIdParse, TakesWhatRuncTakes) {
  for (const char* good : {"a", "buildah-buildah3988573283", "A_b+c-d.e", ".hidden", "..."})
    EXPECT_TRUE(ContainerId::parse(good)) << good;
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("../x"), std::string("a b"),
        std::string("a\n"), std::string(".cache"), std::string(256, 'a'), std::string("a\0b", 3)})
    EXPECT_FALSE(ContainerId::parse(bad)) << printable(bad);
}

TEST_F(StateRoot, WhatIsCreatedIsFound) {
  Root root = *Root::open(path_);
  { ASSERT_TRUE(root.create(id("c1"), record("c1"))); }

  const auto found = root.find(id("c1"));

  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->record().bundle, "/b");
  EXPECT_EQ(found->status(), Status::stopped) << "it has no process";
  EXPECT_THAT(*root.list(), ElementsAre("c1"));
}

TEST_F(StateRoot, ASecondOneOfTheSameNameIsRefused) {
  Root root = *Root::open(path_);
  { ASSERT_TRUE(root.create(id("c1"), record("c1"))); }

  const auto again = root.create(id("c1"), record("c1"));

  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().text(), HasSubstr("container with given ID already exists"));
}

TEST_F(StateRoot, AnUnknownOneDoesNotExist) {
  Root root = *Root::open(path_);

  const auto found = root.find(id("nope"));

  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().text(), HasSubstr("container does not exist"));
  EXPECT_EQ(found.error().code(), Code::not_found);
}

TEST_F(StateRoot, ADirectoryWhoseMakerWasKilledCanStillBeRemoved) {
  Root root = *Root::open(path_);
  ASSERT_EQ(::mkdir((path_ + "/c1").c_str(), 0700), 0);

  auto found = root.find(id("c1"));

  ASSERT_TRUE(found);
  EXPECT_EQ(found->record().init.pid, 0);
  ASSERT_TRUE(root.remove(*std::move(found)));
  EXPECT_TRUE(root.list()->empty());
}

TEST_F(StateRoot, DamagedRecordsAreSaidToBe) {
  Root root = *Root::open(path_);
  ASSERT_EQ(::mkdir((path_ + "/c1").c_str(), 0700), 0);
  const UniqueFd dir = *sys::open_at(AT_FDCWD, (path_ + "/c1").c_str(), O_RDONLY | O_DIRECTORY);
  for (const char* bad : {"", "{", "[]", "{\"id\":\"other\"}", "{\"id\":\"c1\",\"id\":\"c1\"}"}) {
    ASSERT_TRUE(fs::write_file_atomic(dir.get(), "state.json", bad, 0600));
    const auto found = root.find(id("c1"));
    ASSERT_FALSE(found) << bad;
    EXPECT_THAT(found.error().text(), HasSubstr("container \"c1\": state.json")) << bad;
  }
}

TEST_F(StateRoot, ARecordOfAnotherBootHasNoProcess) {
  Root root = *Root::open(path_);
  Record old = record("c1");
  old.init = *sys::identify(::getpid());
  old.init.boot_id = "00000000-0000-0000-0000-000000000000";
  const auto made = root.create(id("c1"), old);

  ASSERT_TRUE(made);
  EXPECT_EQ(made->status(), Status::stopped);
  EXPECT_FALSE(made->open_init()) << "its number belongs to this very test now (fault F10)";
}

TEST_F(StateRoot, WhoeverOnlyLooksDoesNotWaitForTheLock) {
  Root root = *Root::open(path_);
  const auto made = root.create(id("c1"), record("c1"));
  ASSERT_TRUE(made);

  const auto seen = root.look(id("c1"));

  ASSERT_TRUE(seen) << seen.error().text();
  EXPECT_EQ(seen->status(), Status::creating) << "somebody works on it, and it has no process yet";
  EXPECT_EQ(made->status(), Status::stopped) << "nobody else does";
}

TEST_F(StateRoot, WhatIsDecidedAtCreateIsKept) {
  Root root = *Root::open(path_);
  Record full = record("c1");
  full.manager = "disabled";
  full.annotations = {{"a", "1"}, {"b", ""}};
  full.shares_pids = full.has_poststart = full.has_poststop = true;
  { ASSERT_TRUE(root.create(id("c1"), full)); }

  const auto found = root.find(id("c1"));

  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->record().manager, "disabled");
  EXPECT_EQ(found->record().annotations, full.annotations);
  EXPECT_TRUE(found->record().shares_pids && found->record().has_poststart && found->record().has_poststop);
}

TEST_F(StateRoot, AReusedNumberIsNotTheContainer) {
  Root root = *Root::open(path_);
  Record other = record("c1");
  other.init = *sys::identify(::getpid());
  other.init.start_time += 1;

  EXPECT_FALSE(root.create(id("c1"), other)->open_init());
}

TEST_F(StateRoot, ADirectoryThatOthersCanWriteIsRefused) {
  ASSERT_EQ(::chmod(path_.c_str(), 0777), 0);

  const auto root = Root::open(path_);

  ASSERT_FALSE(root);
  EXPECT_THAT(root.error().text(), HasSubstr("writable by others"));
}

TEST(DumpState, HasTheMembersOfTheRuntimeSpec) {
  Record record;
  record.id = "c1";
  record.bundle = "/b";
  record.rootfs = "/b/rootfs";
  record.created = "2026-01-01T00:00:00Z";
  record.init.pid = 7;
  record.annotations = {{"k", "v"}};

  EXPECT_EQ(dump_state(record, Status::running, "root", false),
            "{\"ociVersion\":\"1.3.0\",\"id\":\"c1\",\"pid\":7,\"status\":\"running\",\"bundle\":\"/b\","
            "\"rootfs\":\"/b/rootfs\",\"created\":\"2026-01-01T00:00:00Z\",\"annotations\":{\"k\":\"v\"},"
            "\"owner\":\"root\"}");
  EXPECT_THAT(dump_state(record, Status::stopped, "root", true), HasSubstr("\"pid\": 0"));
}

}  // namespace
}  // namespace skink::state
