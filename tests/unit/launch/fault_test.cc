// SPDX-License-Identifier: Apache-2.0
#include "launch/fault.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace skink::launch {
namespace {

using plan::Step;

plan::Message fault(Step step, int err, unsigned index = 0, unsigned detail = 0) {
  plan::Message message{};
  message.kind = static_cast<plan::U32>(plan::Kind::fault);
  message.step = static_cast<plan::U32>(step);
  message.index = index;
  message.detail = detail;
  message.err = err;
  return message;
}

plan::LaunchPlan mounts_plan() {
  plan::LaunchPlan plan;
  plan.process.args = {"/x"};
  plan.process.cwd = "/work dir";
  plan::MountStep first, second;
  first.destination = "/a";
  second.config_index = 4;
  second.kind = plan::MountKind::tree;
  second.source = "/srv/b";
  second.destination = "/b";
  second.options.params = {{"size", "x"}};
  plan.mounts = {first, second};
  plan.masked = {"/proc/kcore"};
  plan.process.rlimits = {{7, 10, 20}};
  plan.create_container = plan.start_container = {{"/bin/hook", {}, {}, {}}};
  return plan;
}

std::string words(const plan::Message& message) { return describe_fault(message, mounts_plan()).text(); }

TEST(DescribeFault, AMountIsNamedByItsPlaceInConfigJson) {
  EXPECT_EQ(words(fault(Step::mount_attach, EPERM, 1)), "mounts[4]: /srv/b on /b: attach: Operation not permitted");
  EXPECT_EQ(words(fault(Step::mount_option, EINVAL, 1, 0)),
            "mounts[4]: /srv/b on /b: option \"size\": Invalid argument");
}

TEST(DescribeFault, AMissingMountPointOnAReadOnlyRootSaysSo) {
  EXPECT_EQ(words(fault(Step::mount_target, EROFS, 1)),
            "mounts[4]: /srv/b on /b: make or open the target: Read-only file system; it has to exist in the root file "
            "system");
}

TEST(DescribeFault, AHookInsideIsNamedWithItsStatus) {
  auto plan = mounts_plan();
  plan.create_container = {{"/bin/first", {}, {}, {}}, {"/bin/second", {}, {}, 3}};

  EXPECT_EQ(describe_fault(fault(Step::create_container_hook, EIO, 0, 7), plan).text(),
            "hooks.createContainer[0]: error running createContainer hook #0: /bin/first: exit status 7");
  EXPECT_EQ(describe_fault(fault(Step::create_container_hook, ETIMEDOUT, 1), plan).text(),
            "hooks.createContainer[1]: error running createContainer hook #1: /bin/second: ran past its timeout of 3 s "
            "and was killed");
  EXPECT_EQ(describe_fault(fault(Step::create_container_hook, ENOENT, 1), plan).text(),
            "hooks.createContainer[1]: error running createContainer hook #1: /bin/second: execute: No such file or "
            "directory");
  EXPECT_EQ(describe_fault(fault(Step::start_container_hook, EIO, 5, 7), plan).code(), Code::internal);
}

TEST(DescribeFault, TheProgramsFailuresHaveTheTextsAndCodesThatEnginesKnow) {
  auto plan = mounts_plan();
  plan.process.args = {"foo"};
  const auto searched = describe_fault(fault(Step::find_program, ENOENT, 0, 1), plan);
  EXPECT_EQ(searched.text(), "exec: \"foo\": executable file not found in $PATH");
  EXPECT_EQ(searched.code(), Code::no_program);

  const auto path = describe_fault(fault(Step::find_program, ENOENT, 0, 2), mounts_plan());
  EXPECT_EQ(path.text(), "exec: \"/x\": stat /x: no such file or directory");

  const auto denied = describe_fault(fault(Step::find_program, EACCES, 0, 2), mounts_plan());
  EXPECT_EQ(denied.text(), "exec: \"/x\": permission denied");
  EXPECT_EQ(denied.code(), Code::not_executable);
}

TEST(DescribeFault, AScriptWithoutItsInterpreterIsExplained) {
  EXPECT_EQ(words(fault(Step::execute, ENOENT)),
            "exec /x: no such file or directory; its interpreter or loader is missing in the image");
}

TEST(DescribeFault, APathOfTheImageIsMadePrintable) {
  auto plan = mounts_plan();
  plan.process.args = {"/\x1b[2J"};

  EXPECT_EQ(describe_fault(fault(Step::find_program, EACCES, 0, 2), plan).text(),
            "exec: \"/\\x1b[2J\": permission denied");
}

TEST(DescribeFault, ARaisedLimitSaysWhatItNeeds) {
  EXPECT_EQ(words(fault(Step::set_rlimit, EPERM, 0)),
            "process.rlimits[0]: set RLIMIT_NOFILE to 10:20: Operation not permitted; raising a hard limit needs "
            "CAP_SYS_RESOURCE");
}

TEST(DescribeFault, NumbersThatThePlanHasNoPlaceForAreOurBug) {
  EXPECT_EQ(describe_fault(fault(Step::mount_attach, EPERM, 9), mounts_plan()).code(), Code::internal);
  EXPECT_EQ(describe_fault(fault(static_cast<Step>(9999), EPERM), mounts_plan()).code(), Code::internal);
}

TEST(DescribeFault, EveryStepHasWords) {
  for (auto step = static_cast<unsigned>(Step::read_plan); step <= static_cast<unsigned>(Step::protocol); ++step)
    EXPECT_NE(describe_fault(fault(static_cast<Step>(step), EIO), mounts_plan()).code(), Code::internal)
        << "step " << step;
}

}  // namespace
}  // namespace skink::launch
