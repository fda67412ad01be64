// SPDX-License-Identifier: Apache-2.0
#include "launch/seccomp_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "fs/dir.h"

namespace skink::launch {
namespace {

class SeccompCache : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skink-cache-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
    dir_ = *sys::open_at(AT_FDCWD, name, O_RDONLY | O_DIRECTORY);
  }
  void TearDown() override { ASSERT_TRUE(fs::remove_tree(AT_FDCWD, path_.c_str())); }
  std::vector<fs::Entry> files() const { return *fs::list(dir_.get()); }
  void damage(std::string_view text) const {
    ASSERT_TRUE(fs::write_file_atomic(dir_.get(), files().front().name.c_str(), text, 0600));
  }

  static oci::Seccomp profile(const std::string& call) {
    oci::Seccomp profile;
    profile.default_action = "SCMP_ACT_ALLOW";
    oci::SeccompRule rule;
    rule.names = {call};
    rule.action = "SCMP_ACT_ERRNO";
    profile.syscalls.push_back(rule);
    return profile;
  }
  std::string path_;
  UniqueFd dir_;
};

TEST_F(SeccompCache, GivesTheSameProgramFromTheFile) {
  const auto compiled = cached_seccomp(profile("chmod"), dir_.get());
  const auto cached = cached_seccomp(profile("chmod"), dir_.get());

  ASSERT_TRUE(compiled && cached);
  EXPECT_EQ(compiled->bpf, cached->bpf);
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(SeccompCache, AnotherProfileIsAnotherFile) {
  ASSERT_TRUE(cached_seccomp(profile("chmod"), dir_.get()));
  const auto other = cached_seccomp(profile("chown"), dir_.get());

  ASSERT_TRUE(other);
  EXPECT_EQ(files().size(), 2U);
}

TEST_F(SeccompCache, ADamagedFileIsNotBelieved) {
  const auto good = cached_seccomp(profile("chmod"), dir_.get());
  std::string bytes = *fs::read_file(dir_.get(), files().front().name.c_str(), 1 << 20);
  for (const std::string& bad : {std::string(), std::string("x"), bytes.substr(0, bytes.size() - 8),
                                 bytes.substr(0, bytes.size() - 1) + static_cast<char>(bytes.back() ^ 1)}) {
    damage(bad);
    const auto again = cached_seccomp(profile("chmod"), dir_.get());
    ASSERT_TRUE(again);
    EXPECT_EQ(again->bpf, good->bpf);
  }
}

}  // namespace
}  // namespace skink::launch
