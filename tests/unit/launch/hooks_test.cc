// SPDX-License-Identifier: Apache-2.0
#include "launch/hooks.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "sys/file.h"

namespace skink::launch {
namespace {

using testing::HasSubstr;

class Hooks : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skink-hooks-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    state_.id = "c1";
    state_.status = "creating";
    state_.bundle = dir_;
    state_.pid = 42;
    state_.annotations = &annotations_;
  }
  void TearDown() override {
    ::unlink((dir_ + "/out").c_str());
    ::rmdir(dir_.c_str());
  }
  oci::Hook shell(const std::string& script) const { return {"/bin/sh", {"sh", "-c", script}, {"ONLY=this"}, {}}; }
  std::string output() const {
    const auto fd = sys::open_at(AT_FDCWD, (dir_ + "/out").c_str(), O_RDONLY);
    return fd ? *sys::read_all(fd->get(), 65536, "out") : "";
  }

  std::string dir_;
  HookState state_;
  oci::Annotations annotations_{{"k", "v"}};
};

TEST_F(Hooks, GetTheStateOnStandardInput) {
  const auto ran = run_hooks({shell("cat > out")}, "prestart", state_);

  ASSERT_TRUE(ran) << ran.error().text();
  EXPECT_EQ(output(), "{\"ociVersion\":\"1.3.0\",\"id\":\"c1\",\"status\":\"creating\",\"pid\":42,\"bundle\":\"" +
                          dir_ + "\",\"annotations\":{\"k\":\"v\"}}");
}

TEST_F(Hooks, HaveExactlyTheirOwnEnvironment) {
  ::setenv("LD_PRELOAD_LIKE", "evil", 1);

  ASSERT_TRUE(run_hooks({shell("/usr/bin/env > out")}, "prestart", state_));

  EXPECT_THAT(output(), HasSubstr("ONLY=this\n"));
  EXPECT_THAT(output(), testing::Not(HasSubstr("LD_PRELOAD_LIKE")));
  ::unsetenv("LD_PRELOAD_LIKE");
}

TEST_F(Hooks, AFailureNamesTheHookItsStatusAndWhatItSaid) {
  const auto ran =
      run_hooks({shell("true"), shell("echo no disk >&2; exit 3"), shell("touch out")}, "createRuntime", state_);

  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().text(),
            "hooks.createRuntime[1]: error running createRuntime hook #1: /bin/sh: exit status 3: no disk");
  EXPECT_EQ(output(), "") << "a hook after the failed one has run";
}

TEST_F(Hooks, AHookThatOutlivesItsTimeoutIsKilled) {
  auto hook = shell("sleep 600 & sleep 600");
  hook.timeout_seconds = 1;

  const auto ran = run_hooks({hook}, "prestart", state_);

  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().text(),
            "hooks.prestart[0]: error running prestart hook #0: /bin/sh: ran past its timeout of 1 s and was killed");
}

TEST_F(Hooks, AMissingProgramIsNamed) {
  const auto ran = run_hooks({{"/no/such/hook", {}, {}, {}}}, "poststop", state_);

  EXPECT_EQ(ran.error().text(),
            "hooks.poststop[0]: error running poststop hook #0: /no/such/hook: execute: No such file or directory");
}

TEST_F(Hooks, TheStateOfAHookInsideHasAPlaceForItsProcessId) {
  state_.pid = 0;

  const auto text = state_around_pid(state_);

  EXPECT_EQ(text.head + "17" + text.tail, R"({"pid":17,"ociVersion":"1.3.0","id":"c1","status":"creating","bundle":")" +
                                              dir_ + R"(","annotations":{"k":"v"}})");
}

}  // namespace
}  // namespace skink::launch
