// SPDX-License-Identifier: Apache-2.0
// The overlay in a namespace apart, which kernels before 6.15 need, made on this one.
#include "supervise/overlay.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/text.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::supervise {
namespace {

using ::testing::HasSubstr;

class OverlayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    // As systemd has it: what is mounted on a shared mount appears on all that are its peers.
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_TRUE(sys::old_mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
    ASSERT_TRUE(sys::old_mount(nullptr, "/", nullptr, MS_SHARED, nullptr));
    before_ = mounts();
    top_ = str("/var/tmp/skink-test-overlay-", ::getpid());
    std::filesystem::create_directories(top_ + "/image");
    std::ofstream(top_ + "/image/file") << "of the image\n";
    image_ = std::move(*sys::open_at(AT_FDCWD, (top_ + "/image").c_str(), O_PATH | O_DIRECTORY));
    auto scaffold = mount_scaffold_tmpfs();
    ASSERT_TRUE(scaffold) << scaffold.error().text();
    scaffold_ = std::move(*scaffold);
    ASSERT_EQ(::mkdirat(scaffold_.get(), "target", 0755), 0);
  }
  void TearDown() override {
    EXPECT_EQ(mounts(), before_) << "something of the layers is visible on the host";
    if (!top_.empty()) std::filesystem::remove_all(top_);
  }

  static std::string read(int root_fd, const char* name) {
    const auto file = sys::open_at(root_fd, name, O_RDONLY);
    return file ? sys::read_all(file->get(), 4096, name).value_or("unreadable") : file.error().text();
  }
  static std::string mounts() {
    std::ostringstream text;
    text << std::ifstream("/proc/self/mountinfo").rdbuf();
    return text.str();
  }

  std::string top_, before_;
  UniqueFd image_, scaffold_;
};

TEST_F(OverlayTest, ApartLayersFromADetachedMountAndFromTheHostAreOneTree) {
  const auto root = mount_overlay_apart({.lowers = {scaffold_.get(), image_.get()}, .detached_fd = scaffold_.get()});

  ASSERT_TRUE(root) << root.error().text();
  EXPECT_EQ(read(root->get(), "file"), "of the image\n");
  EXPECT_TRUE(sys::stat_at(root->get(), "target", 0));
}

TEST_F(OverlayTest, ApartAnUpperOnADetachedMountTakesWhatIsWritten) {
  const auto sized = mount_sized_tmpfs(1 << 20);
  ASSERT_TRUE(sized) << sized.error().text();
  for (const char* name : {"upper", "work"}) ASSERT_EQ(::mkdirat(sized->get(), name, 0755), 0);

  const auto root = mount_overlay_apart({{image_.get()}, sized->get(), sized->get()});

  ASSERT_TRUE(root) << root.error().text();
  ASSERT_EQ(::unlinkat(root->get(), "file", 0), 0);
  ASSERT_EQ(::mkdirat(root->get(), "made", 0755), 0);
  EXPECT_TRUE(sys::stat_at(sized->get(), "upper/made", 0));
  EXPECT_EQ(read(image_.get(), "file"), "of the image\n");
}

TEST_F(OverlayTest, ApartTheKernelsReasonComesBack) {
  const auto root =
      mount_overlay_apart({.lowers = {image_.get(), image_.get(), scaffold_.get()}, .upper_parent_fd = image_.get()});

  ASSERT_FALSE(root);
  EXPECT_THAT(root.error().text(), HasSubstr("overlay: "));
}

}  // namespace
}  // namespace skink::supervise
