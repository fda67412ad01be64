// SPDX-License-Identifier: Apache-2.0
// The scaffold, seen through a real overlay mount.
#include "image/scaffold.h"

#include <sys/mman.h>
#include <sys/mount.h>

#include <algorithm>

#include "fixture.h"

namespace skink::image::test {
namespace {

/// A layer in which every path of the list is a directory, that counts how it is asked.
class Counted final : public LayerReader {
 public:
  explicit Counted(std::vector<std::string> implied) : implied_(std::move(implied)) {}
  Result<std::optional<LayerNode>> lookup(const std::string& path) const override {
    ++walks;
    return node_at(path);
  }
  Result<std::optional<LayerNode>> lookup_below(ino_t, const std::string& path) const override {
    ++steps;
    return node_at(path);
  }
  Result<std::string> read_link(const std::string&) const override { return std::string(); }
  Result<Xattrs> shown_xattrs(ino_t, const std::string&) const override { return Xattrs(); }
  const std::vector<std::string>& implied() const override { return implied_; }
  Result<std::vector<std::string>> covering() const override { return std::vector<std::string>(); }
  bool hides_all_below() const override { return false; }
  std::int64_t size() const override { return 0; }

  mutable std::size_t walks = 0, steps = 0;

 private:
  std::optional<LayerNode> node_at(const std::string& path) const {
    if (!std::binary_search(implied_.begin(), implied_.end(), path)) return std::nullopt;
    LayerNode node;
    node.status.st_mode = S_IFDIR | 0755;
    return node;
  }
  std::vector<std::string> implied_;
};

TEST(ScaffoldCost, EachImpliedDirectoryIsOneStepInEachLayerHoweverDeepItIs) {
  std::vector<std::string> paths{"", "d"};
  for (int i = 1; i < 400; ++i) paths.push_back(paths.back() + "/d");
  const Counted top(paths), bottom(paths);
  const auto writer = make_erofs_writer(UniqueFd(::memfd_create("scaffold", MFD_CLOEXEC)), LayerUuid{});

  ASSERT_TRUE(write_scaffold({&top, &bottom}, **writer));

  for (const Counted* layer : {&top, &bottom}) {
    EXPECT_EQ(layer->walks, 1u) << "for the root";
    EXPECT_LE(layer->steps, 400u + 20) << "and what every image is to have";
  }
}

class Scaffold : public Scratch {
 protected:
  /// Mounts an image read-only; its tree as "type mode uid mtime path -> link" lines for the named paths.
  std::string mount_layers(const std::vector<std::string>& layers) {
    const auto loaded = load_layers(layers);
    EXPECT_TRUE(loaded) << text_of(loaded);
    if (!loaded) return "";
    const auto lowers = store().open_lowers(loaded->images[0]);
    auto overlay = sys::FsContext::open("overlay");
    for (const auto& dir : lowers->dirs) EXPECT_TRUE(overlay->set_fd("lowerdir+", dir.get()));
    EXPECT_TRUE(overlay->create());
    const auto mount = overlay->mount();
    EXPECT_TRUE(mount) << mount.error().text();
    root_ = top_ + "/root";
    ::mkdir(root_.c_str(), 0700);
    const UniqueFd place(::open(root_.c_str(), O_PATH | O_CLOEXEC));
    EXPECT_TRUE(sys::attach_mount(mount->get(), place.get(), "root"));
    return root_;
  }
  std::string describe(const std::string& path) {
    return run("stat -c '%F %a %u %Y' " + root_ + "/" + path + " | tr -d '\\n'");
  }
  void TearDown() override {
    if (!root_.empty()) ::umount2(root_.c_str(), MNT_DETACH);
    Scratch::TearDown();
  }
  std::string root_;
};

TEST_F(Scaffold, AnEmptyImageGetsWhatEveryContainerNeeds) {
  mount_layers({tar({file("x")})});

  EXPECT_EQ(describe(""), "directory 755 0 0");
  EXPECT_EQ(describe("proc"), "directory 555 0 0");
  EXPECT_EQ(describe("tmp"), "directory 1777 0 0");
  EXPECT_EQ(describe("var/tmp"), "directory 1777 0 0");
  for (const char* path : {"dev", "sys", "run", "etc", "var"})
    EXPECT_THAT(describe(path), ::testing::HasSubstr("directory"));
  for (const char* path : {"etc/hosts", "etc/hostname", "etc/resolv.conf"})
    EXPECT_EQ(describe(path), "regular empty file 644 0 0");
}

TEST_F(Scaffold, ImpliedDirectoriesShowTheMetadataOfTheLayersBelow) {
  TarSpec home = directory("home/user", 0700);
  home.uid = 1000;
  home.mtime = 42;
  TarSpec root = directory("./", 0711);
  root.mtime = 43;
  mount_layers({tar({root, home}), tar({file("home/user/new")}), tar({file("home/user/newer")})});

  EXPECT_EQ(describe("home/user"), "directory 700 1000 42");
  EXPECT_EQ(describe("home"), "directory 755 0 0");
  EXPECT_EQ(describe(""), "directory 711 0 43");
  EXPECT_EQ(run("ls " + root_ + "/home/user"), "new\nnewer\n");
}

TEST_F(Scaffold, AnOpaqueOrReplacedDirectoryDoesNotInheritFromBelow) {
  TarSpec old = directory("d", 0700);
  mount_layers({tar({old, file("d/old")}), tar({file(".wh.d")}), tar({file("d/new")})});

  EXPECT_EQ(describe("d"), "directory 755 0 0");
  EXPECT_EQ(run("ls " + root_ + "/d"), "new\n");
}

TEST_F(Scaffold, DirectoriesOfTheImageKeepTheirOwn) {
  TarSpec tmp = directory("tmp", 0750);
  tmp.uid = 5;
  tmp.mtime = 9;
  TarSpec hosts = file("etc/hosts", "mine");
  mount_layers({tar({tmp, directory("proc", 0700), directory("etc", 0711), hosts})});

  EXPECT_EQ(describe("tmp"), "directory 750 5 9");
  EXPECT_EQ(describe("proc"), "directory 700 0 1000000000");
  EXPECT_EQ(describe("etc"), "directory 711 0 1000000000");
  EXPECT_EQ(read(root_ + "/etc/hosts"), "mine");
}

TEST_F(Scaffold, LinksToDirectoriesStayAndOtherLinksAreMasked) {
  mount_layers({tar({directory("usr/bin"), directory("run"), symlink("bin", "usr/bin"), symlink("var/run", "/run"),
                     symlink("var/tmp", "../tmp"), directory("tmp", 01777), symlink("etc/resolv.conf", "../run/stub"),
                     symlink("proc", "/usr"), symlink("dev", "/nowhere")})});

  EXPECT_EQ(run("readlink -n " + root_ + "/bin"), "usr/bin");
  EXPECT_EQ(run("readlink -n " + root_ + "/var/run"), "/run");
  EXPECT_EQ(run("readlink -n " + root_ + "/var/tmp"), "../tmp");
  EXPECT_EQ(describe("etc/resolv.conf"), "regular empty file 644 0 0");
  EXPECT_EQ(describe("proc"), "directory 555 0 0");
  EXPECT_EQ(describe("dev"), "directory 755 0 0");
}

TEST_F(Scaffold, AnEtcElsewhereGetsItsFilesThere) {
  mount_layers({tar({directory("usr/etc", 0700), symlink("etc", "usr/etc")})});

  EXPECT_EQ(run("readlink -n " + root_ + "/etc"), "usr/etc");
  EXPECT_EQ(describe("usr/etc/hosts"), "regular empty file 644 0 0");
  EXPECT_EQ(describe("usr/etc"), "directory 700 0 1000000000");
}

}  // namespace
}  // namespace skink::image::test
