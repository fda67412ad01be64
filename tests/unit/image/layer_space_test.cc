// SPDX-License-Identifier: Apache-2.0
// Layers as files, mounted once for all (image/layer_space.h): shared, out of the host's sight, taken off when
// needless.
#include "image/layer_space.h"

#include <sys/wait.h>

#include <set>

#include "fixture.h"
#include "image/lowers.h"
#include "sys/file.h"

namespace skink::image::test {
namespace {

const std::string kBelow = tar({directory("etc/"), file("etc/a", "1")});
const std::string kAbove = tar({file("etc/b", "2")});

class Space : public Scratch {
 protected:
  void SetUp() override {
    Scratch::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(::mkdir(run_dir().c_str(), 0700), 0);
    const auto can = can_mount_layers(must(sys::open_at(AT_FDCWD, top_.c_str(), O_RDONLY | O_DIRECTORY)).get());
    if (!can || !*can) GTEST_SKIP() << "layers are directories here";
  }
  void TearDown() override {
    while (::umount2((run_dir() + "/layers/pin").c_str(), MNT_DETACH) == 0) continue;
    while (::umount2((run_dir() + "/layers").c_str(), MNT_DETACH) == 0) continue;
    Scratch::TearDown();
  }
  template <typename T>
  static T must(Result<T> result) {
    EXPECT_TRUE(result) << result.error().text();
    return std::move(result).value();
  }
  std::string run_dir() const { return top_ + "/run"; }
  Store shared() { return must(Store::open(top_ + "/store", run_dir())); }
  Lowers lowers(const std::string& name) {
    Store store = shared();
    return must(store.open_lowers(must(store.find(name))));
  }
  static dev_t device(const UniqueFd& dir) { return must(sys::stat_fd(dir.get(), "layer")).st_dev; }
  /// What the host's mounts show: "pin" for what keeps the namespace. Where the run directory is shared with other
  /// namespaces, its mount is one more.
  std::string host_mounts() {
    return run("grep " + top_ +
               " /proc/self/mountinfo | cut -d' ' -f5 | grep -v '/run/layers$' | sed 's,.*/,,' | tr -d '\\n'");
  }
  std::size_t needless() {
    Store store = shared();
    return must(find_needless_mounts(store.dir_fd(), run_dir())).places.size();
  }
};

TEST_F(Space, AllContainersShareOneMountOfALayerAndTheHostSeesNone) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow, kAbove}, .ref_name = "web:1"})), {}));
  const Lowers one = lowers("web:1");
  std::vector<dev_t> devices;
  for (const auto& dir : one.dirs) devices.push_back(device(dir));

  for (int i = 0; i < 3; ++i) {
    const Lowers other = lowers("web:1");
    for (std::size_t at = 0; at < devices.size(); ++at) EXPECT_EQ(device(other.dirs[at]), devices[at]);
  }

  EXPECT_EQ(one.dirs.size(), 3u);
  EXPECT_EQ(std::set(devices.begin(), devices.end()).size(), 3u);
  EXPECT_TRUE(one.space);
  EXPECT_EQ(host_mounts(), "pin") << "what keeps the namespace";
  EXPECT_EQ(::access((top_ + "/store").c_str(), F_OK), 0) << "back in the namespace of before";
}

TEST_F(Space, RemovalTakesMountsOffAndWithTheLastTheNamespace) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow, kAbove}, .ref_name = "web:2"})), {}));
  { const Lowers one = lowers("web:1"), two = lowers("web:2"); }

  ASSERT_TRUE(shared().remove("web:2"));
  EXPECT_EQ(needless(), 0u);
  EXPECT_EQ(host_mounts(), "pin");

  ASSERT_TRUE(shared().remove("web:1"));
  EXPECT_EQ(host_mounts(), "");
  EXPECT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  EXPECT_EQ(lowers("web:1").dirs.size(), 2u) << "and it is made again";
}

TEST_F(Space, WhatAKillOrALostStoreLeavesIsFound) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  { const Lowers one = lowers("web:1"); }
  run("rm -r " + top_ + "/store");

  EXPECT_EQ(needless(), 2u);
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kAbove}, .ref_name = "web:1"})), {}));
  { const Lowers one = lowers("web:1"); }
  EXPECT_EQ(needless(), 2u) << "those of the new store are needed";

  Store store = shared();
  EXPECT_EQ(must(sweep_layer_mounts(store.dir_fd(), run_dir())), 2u);
  EXPECT_EQ(needless(), 0u);
}

TEST_F(Space, AFileInThePlaceOfAnotherIsMountedAnew) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  const Lowers before = lowers("web:1");
  const std::string layer = top_ + "/store/layers/sha256/" + digest(kBelow).substr(7) + ".erofs";
  run("cp " + layer + " " + layer + ".new && mv " + layer + ".new " + layer);

  const Lowers after = lowers("web:1");

  EXPECT_NE(device(after.dirs[1]), device(before.dirs[1]));
  EXPECT_EQ(device(after.dirs[0]), device(before.dirs[0]));
  EXPECT_EQ(needless(), 1u);
}

TEST_F(Space, AFileThatAnotherOwnsNowIsTheSame) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  const std::string layer = top_ + "/store/layers/sha256/" + digest(kBelow).substr(7) + ".erofs";
  struct statx status {};
  ASSERT_EQ(::statx(AT_FDCWD, layer.c_str(), 0, STATX_BTIME, &status), 0);
  if ((status.stx_mask & STATX_BTIME) == 0) GTEST_SKIP() << "this file system keeps no time of birth";
  const Lowers before = lowers("web:1");
  ASSERT_EQ(::chown(layer.c_str(), 1, 1), 0);
  ASSERT_EQ(::chown(layer.c_str(), 0, 0), 0);

  const Lowers after = lowers("web:1");

  EXPECT_EQ(device(after.dirs[1]), device(before.dirs[1]));
  EXPECT_EQ(needless(), 0u);
}

TEST_F(Space, WhatIsMountedIsListedBeforeWhatIsStored) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  const LayerSpace space = must(LayerSpace::open(run_dir()));
  Store store = shared();

  const auto found = space.find_needless(must(owner_of(store.dir_fd())), [&]() -> Result<std::set<std::string>> {
    const Lowers started = lowers("web:1");  // mounted now, and not in the list that is answered
    return std::set<std::string>();
  });

  EXPECT_EQ(must(found).size(), 0u);
}

TEST_F(Space, WhoHasAnEmptyNamespaceLeavesThatOfOthers) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  const LayerSpace mine = must(LayerSpace::open(run_dir()));
  ASSERT_EQ(::umount2((run_dir() + "/layers/pin").c_str(), MNT_DETACH), 0);
  const Lowers others = lowers("web:1");

  EXPECT_TRUE(mine.take_off({}));

  EXPECT_EQ(host_mounts(), "pin");
}

TEST_F(Space, ManyAtOnceMountALayerOnce) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow, kAbove}, .ref_name = "web:1"})), {}));
  std::vector<pid_t> children;
  for (int i = 0; i < 12; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    auto store = Store::open(top_ + "/store", run_dir());
    const auto image = store ? store->find("web:1") : Result<Image>(store.error());
    const auto opened = image ? store->open_lowers(*image) : Result<Lowers>(image.error());
    if (!opened) ::fprintf(stderr, "%s\n", opened.error().text().c_str());
    ::_exit(opened ? 0 : 1);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(host_mounts(), "pin");
  ASSERT_TRUE(shared().remove("web:1"));
  EXPECT_EQ(host_mounts(), "") << "each was mounted once, else some would be left";
}

TEST_F(Space, AKillAtAnyMomentLeavesItUsable) {
  ASSERT_TRUE(shared().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  for (int round = 0; round < (test_everything() ? 400 : 25); ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto store = Store::open(top_ + "/store", run_dir());
      if (store) (void)store->open_lowers(*store->find("web:1"));
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(round * 97 % 2500));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(lowers("web:1").dirs.size(), 2u) << round;
    Store store = shared();
    if (round % 2 == 0) continue;
    ASSERT_TRUE(store.remove("web:1"));
    EXPECT_EQ(host_mounts(), "") << round;
    ASSERT_TRUE(store.load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  }
}

TEST_F(Space, WithoutARunDirectoryEachStartHasMountsOfItsOwn) {
  ASSERT_TRUE(store().load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
  const auto image = store().find("web:1");

  const auto lowers = store().open_lowers(*image);

  ASSERT_TRUE(lowers) << lowers.error().text();
  EXPECT_FALSE(lowers->space);
  EXPECT_GE(lowers->detached, 0);
  EXPECT_EQ(host_mounts(), "");
}

// A file of tmpfs is not mounted by itself, on any kernel.
TEST_F(Space, WhereTheFileIsNotTakenALoopDeviceIs) {
  const std::string path = top_ + "/memory";
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  ASSERT_EQ(::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=4m,mode=0700"), 0);
  {
    const UniqueFd dir = must(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY));
    const bool can = must(can_mount_layers(dir.get()));
    EXPECT_EQ(can, ::access("/dev/loop-control", F_OK) == 0);
    auto opened = Store::open(path, run_dir());
    ASSERT_TRUE(opened->load(archive(oci_archive({.layers = {kBelow}, .ref_name = "web:1"})), {}));
    EXPECT_EQ(run("ls " + path + "/layers/sha256").find(".erofs") != std::string::npos, can);
    const auto lowers = opened->open_lowers(*opened->find("web:1"));
    ASSERT_TRUE(lowers) << lowers.error().text();
    EXPECT_TRUE(sys::open_at(lowers->dirs[1].get(), "etc/a", O_RDONLY));
    if (can) {
      EXPECT_NE(run("losetup -l -n -O BACK-FILE").find(path), std::string::npos);
    }
    // Taken off while it is used, as by hand: a loop device that kept the lock on the file would stop the next start.
    EXPECT_EQ(::umount2((run_dir() + "/layers/pin").c_str(), MNT_DETACH), can ? 0 : -1);
    ::alarm(20);
    EXPECT_TRUE(opened->open_lowers(*opened->find("web:1")));
    ::alarm(0);
    ASSERT_TRUE(opened->remove("web:1"));
  }
  EXPECT_EQ(run("losetup -l -n -O BACK-FILE").find(path), std::string::npos) << "the device went with its user";
  EXPECT_EQ(::umount2(path.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace skink::image::test
