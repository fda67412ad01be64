// SPDX-License-Identifier: Apache-2.0
// Layers from hostile and odd tars (attacks A02 to A05, A60 to A63, A73, A74): what lands where.
#include <sys/xattr.h>

#include "fixture.h"

namespace skink::image::test {
namespace {

using ::testing::HasSubstr;

class Layer : public Scratch {
 protected:
  /// The tree of one layer after a load: "type mode path -> link = content" a line.
  std::string unpack(const std::vector<TarSpec>& entries) {
    const std::string layer = tar(entries);
    const auto loaded = load_layers({layer});
    if (!loaded) return loaded.error().text();
    return run("cd " + tree(layer) +
               " && find . -mindepth 1 -printf '%y %m %P %l\\n' | sed 's/ $//' | sort -k3 && "
               "find . -type f -printf '%P ' -exec cat {} \\; -printf '\\n' | sort");
  }
};

TEST_F(Layer, EntriesGetTheirModesOwnersAndTimes) {
  TarSpec program = file("bin/su", "x");
  program.mode = 04755;
  program.uid = 3;
  program.gid = 4;
  program.pax = {{"mtime", "1350244992.023960108"}};
  TarSpec dir = directory("bin/", 02750);
  dir.mtime = 77;
  const std::string layer = tar({dir, program, symlink("sh", "bin/su")});

  const auto loaded = load_layers({layer});

  ASSERT_TRUE(loaded) << text_of(loaded);
  struct stat status {};
  ASSERT_EQ(::stat((tree(layer) + "/bin/su").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, 0104755u) << "chown before chmod, else the set-id bit is lost";
  EXPECT_EQ(status.st_uid, 3u);
  EXPECT_EQ(status.st_gid, 4u);
  EXPECT_EQ(status.st_mtim.tv_nsec, 23960108);
  ASSERT_EQ(::stat((tree(layer) + "/bin").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, 042750u);
  EXPECT_EQ(status.st_mtim.tv_sec, 77);
  ASSERT_EQ(::lstat((tree(layer) + "/sh").c_str(), &status), 0);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'000'000'000);
}

struct Breakout {
  const char* name;
  std::vector<TarSpec> entries;
};

TEST_F(Layer, NoPathLeadsOutside) {
  const std::string canary = top_ + "/canary";
  const auto evil = [](std::string name) { return file(std::move(name), "evil"); };
  const std::vector<Breakout> cases = {
      {"symlink absolute", {symlink("l", canary), evil("l/secret")}},
      {"symlink up and out", {symlink("l", "../../../../../../../../.." + canary), evil("l/secret")}},
      {"symlink to root", {symlink("l", "/"), evil("l" + canary + "/secret")}},
      {"symlink chain", {symlink("a", "b"), symlink("b", ".." + canary), evil("a/secret")}},
      {"dangling chain", {symlink("a", canary + "/new"), evil("a")}},
      {"dangling parent", {symlink("a", canary + "/new"), evil("a/b")}},
      {"override", {directory("d"), evil("d/x"), symlink("d", canary), evil("d/secret")}},
      {"override parent", {directory("d/e"), symlink("d", canary + "/.."), evil("d/canary/secret")}},
      {"symlink then directory", {symlink("d", canary), directory("d/", 0777)}},
      {"hardlink absolute", {hardlink("h", canary + "/secret"), evil("h")}},
      {"hardlink up", {hardlink("h", "../../../../../../../.." + canary + "/secret")}},
      {"hardlink via symlink", {symlink("l", canary), hardlink("h", "l/secret"), evil("h")}},
      {"hardlink to symlink", {symlink("l", canary + "/secret"), hardlink("h", "l"), evil("h")}},
      {"hardlink down and out", {hardlink("d/h", "../../../../../../.." + canary)}},
      {"names with dots", {evil("../../../../../../../../.." + canary + "/secret")}},
      {"absolute names", {evil(canary + "/secret")}},
      {"prefix twin", {symlink("l", "../fs-x"), evil("l/f"), evil("../fs-x/g")}},
      {"whiteout via symlink", {symlink("l", canary), file("l/.wh.secret")}},
      {"opaque via symlink", {symlink("l", canary), file("l/.wh..wh..opq")}},
      {"whiteout up", {file("../../.wh.names")}},
      {"fifo via symlink", {symlink("l", canary), TarSpec{.type = '6', .name = "l/fifo"}}},
      {"replace by link twice", {symlink("d", canary), symlink("d", "/"), evil("d/f"), evil("d" + canary + "/secret")}},
  };
  for (const auto& breakout : cases) {
    const auto loaded = load_layers({tar(breakout.entries)});
    if (!loaded) {
      EXPECT_THAT(loaded.error().text(), HasSubstr("entry ")) << breakout.name;
    }
    EXPECT_EQ(describe_canary(), canary_) << breakout.name;
    EXPECT_EQ(run("ls -A " + top_ + "/store/tmp"), "") << breakout.name;
  }
  EXPECT_EQ(run("ls -A " + top_), "canary\nstore\nweb.tar\n");
}

TEST_F(Layer, LinksInsideTheLayerAreFollowedAsTheContainerWould) {
  EXPECT_EQ(unpack({symlink("var/run", "/run"), file("var/run/pid", "1"), symlink("lib", "usr/lib"), file("lib/a", "2"),
                    hardlink("b", "/lib/a")}),
            "f 644 b\nl 777 lib usr/lib\nd 755 run\nf 644 run/pid\nd 755 usr\nd 755 usr/lib\nf 644 usr/lib/a\n"
            "d 755 var\nl 777 var/run /run\n"
            "b 2\nrun/pid 1\nusr/lib/a 2\n");
}

TEST_F(Layer, TheRootCanOnlyBeADirectory) {
  for (const char* name : {".", "/", "./", "/.", "a/..", "../.."})
    for (const char type : {'0', '1', '2', '3', '6'}) {
      TarSpec spec{.type = type, .name = name, .link = "/tmp", .major = 1, .minor = 3};
      if (type == '0' && spec.name.ends_with('/')) continue;  // that is a directory
      EXPECT_THAT(text_of(load_layers({tar({spec})})), HasSubstr("the root of a layer can only be a directory"))
          << name << " " << type;
    }
  EXPECT_EQ(text_of(load_layers({tar({directory("./", 0711)})})), "loaded");
}

TEST_F(Layer, ALaterEntryReplacesAnEarlierOneOfAnyKind) {
  const auto make = [](char type) -> TarSpec {
    switch (type) {
      case 'd': return directory("x");
      case 'l': return symlink("x", "keep");
      case 'h': return hardlink("x", "keep");
      case 'p': return TarSpec{.type = '6', .name = "x"};
      default: return file("x", "new");
    }
  };
  for (const char first : {'f', 'd', 'l', 'h', 'p'})
    for (const char second : {'f', 'd', 'l', 'h', 'p'}) {
      const std::string listing = unpack({file("keep", "kept"), make(first), make(second)});
      EXPECT_THAT(listing, HasSubstr("keep kept")) << first << second << ": a twin was written through";
      const std::string kind(1, second == 'h' ? 'f' : second);
      EXPECT_THAT(listing, HasSubstr("\n" + kind + " ")) << first << second;
    }
}

TEST_F(Layer, ANonDirectoryParentIsReplaced) {
  EXPECT_EQ(unpack({file("a", "file"), file("a/b", "1")}), "d 755 a\nf 644 a/b\na/b 1\n");
}

TEST_F(Layer, ADirectoryEntryKeepsWhatIsInIt) {
  EXPECT_EQ(unpack({file("a/b", "1"), directory("a", 0700)}), "d 700 a\nf 644 a/b\na/b 1\n");
}

TEST_F(Layer, AHardLinkToNothingNamesIt) {
  EXPECT_THAT(text_of(load_layers({tar({hardlink("h", "no/such")})})),
              HasSubstr("layer 1: entry h: hard link to \"no/such\", which is not in this layer"));
  EXPECT_THAT(text_of(load_layers({tar({directory("d"), hardlink("h", "d")})})),
              HasSubstr("hard link to the directory \"d\""));
  EXPECT_EQ(unpack({file("same", "1"), hardlink("same", "same")}), "f 644 same\nsame 1\n");
}

TEST_F(Layer, ZerosBecomeHolesAndStayZeros) {
  const std::string zeros(3U << 20, '\0');
  const std::string layer =
      tar({file("lastlog", zeros), file("mixed", "a" + zeros + "b"), file("few", std::string(9, '\0'))});

  ASSERT_EQ(text_of(load_layers({layer})), "loaded");

  EXPECT_TRUE(read(tree(layer) + "/lastlog") == zeros);
  EXPECT_TRUE(read(tree(layer) + "/mixed") == "a" + zeros + "b");
  EXPECT_EQ(read(tree(layer) + "/few").size(), 9u);
  struct stat status {};
  const std::string stored = top_ + "/store/layers/sha256/" + digest(layer).substr(7) + ".erofs";
  ASSERT_EQ(::stat((has_files() ? stored : tree(layer) + "/lastlog").c_str(), &status), 0);
  EXPECT_LT(status.st_blocks, 100);
}

TEST_F(Layer, NamesAreBytes) { EXPECT_THAT(unpack({file("new\nline\xff", "1")}), HasSubstr("new\nline\xff")); }

TEST_F(Layer, NamesAndDepthsHaveLimits) {
  std::string deep;
  for (int i = 0; i < 600; ++i) deep += "d/";
  EXPECT_THAT(text_of(load_layers({tar({file(deep + "f")})})), HasSubstr("a name of more than 512 components"));
  EXPECT_THAT(text_of(load_layers({tar({file(std::string(300, 'n'))})})), HasSubstr("component of more than 255"));
  // Each link hides a deep directory, so names stay short while paths grow.
  std::string step;
  for (int i = 0; i < 400; ++i) step += "d/";
  std::vector<TarSpec> growing{directory(step)};
  growing.push_back(symlink("l", step));
  growing.push_back(directory("l/" + step));
  EXPECT_THAT(text_of(load_layers({tar(growing)})), HasSubstr("File name too long"));
  EXPECT_EQ(run("ls -A " + top_ + "/store/tmp"), "");
}

struct Whiteout {
  const char* what;
  std::vector<TarSpec> entries;
  const char* words;
};

TEST_F(Layer, WhiteoutsHaveAGrammar) {
  TarSpec as_dir = directory(".wh.x");
  const std::vector<Whiteout> cases = {
      {"empty", {file(".wh.")}, "a whiteout of nothing"},
      {"dot", {file("d/.wh..")}, "a whiteout of nothing"},
      {"dots", {file(".wh...")}, "a whiteout of nothing"},
      {"unknown mark", {file(".wh..wh.x")}, "a whiteout of nothing"},
      {"directory", {as_dir}, "a whiteout that is no regular file"},
      {"symlink", {symlink(".wh.x", "y")}, "a whiteout that is no regular file"},
      {"component", {file(".wh.etc/f")}, "a whiteout cannot be a directory"},
  };
  for (const auto& bad : cases) EXPECT_THAT(text_of(load_layers({tar(bad.entries)})), HasSubstr(bad.words)) << bad.what;
}

TEST_F(Layer, WhiteoutsBecomeThoseOfOverlayfs) {
  EXPECT_EQ(unpack({file("etc/.wh.gone"), TarSpec{.type = '1', .name = ".wh.linked", .link = ".wh..wh.aufs"}}),
            "d 755 etc\nc 0 etc/gone\nc 0 linked\n");
}

TEST_F(Layer, AWhiteoutDoesNotTouchItsOwnLayerInAnyOrder) {
  for (const bool first : {true, false}) {
    std::vector<TarSpec> entries{file("a", "1"), file("dir/f", "2")};
    entries.insert(first ? entries.begin() : entries.end(), {file(".wh.a"), file(".wh.dir")});

    const std::string layer = tar(entries);
    ASSERT_EQ(text_of(load_layers({layer})), "loaded");

    EXPECT_EQ(read(tree(layer) + "/a"), "1");
    EXPECT_EQ(read(tree(layer) + "/dir/f"), "2");
    char value = 0;
    EXPECT_EQ(::getxattr((tree(layer) + "/dir").c_str(), "trusted.overlay.opaque", &value, 1), 1)
        << "removed below and made anew: it must not merge";
  }
}

TEST_F(Layer, AnOpaqueDirectoryHoldsNoWhiteouts) {
  const std::string layer = tar({file("d/.wh.x"), file("d/.wh..wh..opq"), file("d/kept")});

  ASSERT_EQ(text_of(load_layers({layer})), "loaded");

  EXPECT_EQ(run("ls -A " + tree(layer) + "/d"), "kept\n");
  char value = 0;
  EXPECT_EQ(::getxattr((tree(layer) + "/d").c_str(), "trusted.overlay.opaque", &value, 1), 1);
}

TEST_F(Layer, OnlyHarmlessXattrsAreKept) {
  const std::string capability("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  std::string foreign = capability + std::string("\x01\x00\x00\x00", 4);
  foreign[3] = 3;
  TarSpec spec = file("f", "x");
  for (const char* name : {"user.kept", "user.overlay.opaque", "trusted.overlay.redirect", "trusted.x",
                           "security.selinux", "security.ima", "system.posix_acl_access"})
    spec.pax.emplace_back("SCHILY.xattr." + std::string(name), "v");
  spec.pax.emplace_back("SCHILY.xattr.security.capability", capability);
  TarSpec other = file("g");
  other.pax.emplace_back("SCHILY.xattr.security.capability", foreign);
  TarSpec dir = directory("d");
  dir.pax.emplace_back("SCHILY.xattr.trusted.overlay.redirect", "/etc");
  dir.pax.emplace_back("SCHILY.xattr.security.capability", capability);
  const std::string layer = tar({spec, other, dir});

  ASSERT_EQ(text_of(load_layers({layer})), "loaded");

  const auto names = [&](const std::string& path) {
    std::string list(4096, '\0');
    list.resize(static_cast<std::size_t>(::llistxattr((tree(layer) + path).c_str(), list.data(), list.size())));
    std::vector<std::string> sorted;
    for (const auto& name : components(list)) sorted.push_back(name);
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  };
  EXPECT_THAT(names("/f"), ::testing::ElementsAre("security.capability", "user.kept"));
  EXPECT_THAT(names("/g"), ::testing::IsEmpty());
  EXPECT_THAT(names("/d"), ::testing::IsEmpty());
}

TEST_F(Layer, DevicesAreLeftOutAndTheWhiteoutDeviceIsRefused) {
  TarSpec disk{.type = '4', .name = "dev/sda", .major = 8};
  TarSpec zero{.type = '3', .name = "etc"};
  TarSpec range{.type = '3', .name = "x", .major = 5000};

  const auto loaded = load_layers({tar({disk})});

  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_THAT(loaded->notes, ::testing::ElementsAre(HasSubstr("layer 1: 1 device nodes were left out")));
  EXPECT_THAT(text_of(load_layers({tar({zero})})), HasSubstr("character device 0:0"));
  EXPECT_THAT(text_of(load_layers({tar({range})})), HasSubstr("device number out of range"));
}

// In files and in directories alike: a whiteout hides what lower layers have there, as the device would.
TEST_F(Layer, ADeviceTakesThePlaceOfWhatWasThere) {
  const TarSpec null{.type = '3', .name = "x/null", .major = 1, .minor = 3};
  for (const char* form : {"files", "directories"}) {
    ::setenv("SKINK_LAYERS", form, 1);
    const std::string layer =
        tar({file("x/null", "old"), null, hardlink("x/twin", "x/null"), hardlink("y/third", "x/twin"), file("y/f", "1"),
             hardlink("y/f", "x/null"), TarSpec{.type = '4', .name = "z", .major = 8}, file("z", "new"),
             TarSpec{.type = '4', .name = "w", .major = 8}, file("w/in", "2"), file("o/.wh..wh..opq"),
             TarSpec{.type = '4', .name = "o/disk", .major = 8}, file("x/kept", "3")});
    const auto loaded = load(oci_archive({.layers = {layer}, .ref_name = form}));
    ASSERT_TRUE(loaded) << text_of(loaded);

    EXPECT_THAT(loaded->notes, ::testing::ElementsAre(HasSubstr("layer 1: 7 device nodes were left out"))) << form;
    EXPECT_EQ(run("cd " + tree(layer) + " && find . -mindepth 1 -printf '%y %P\\n' | sort"),
              "c x/null\nc x/twin\nc y/f\nc y/third\nd o\nd w\nd x\nd y\nf w/in\nf x/kept\nf z\n")
        << form;
    EXPECT_EQ(run("stat -c %t:%T " + tree(layer) + "/x/null"), "0:0\n");
    unmount_layers();
    EXPECT_TRUE(fs::remove_tree(AT_FDCWD, (top_ + "/store").c_str()));
  }
  ::unsetenv("SKINK_LAYERS");
}

// A small deterministic fuzzer over what a layer can say; the canary and the fixture judge.
TEST_F(Layer, RandomLayersStayInside) {
  std::uint32_t state = 20261123;
  const auto pick = [&](std::size_t count) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::size_t>(state >> 8) % count;
  };
  const std::string canary = top_ + "/canary";
  const std::vector<std::string> names = {"a",
                                          "a/b",
                                          "a/b/c",
                                          "l",
                                          "l/secret",
                                          "l/a",
                                          ".",
                                          "..",
                                          "../a",
                                          "a/../l",
                                          ".wh.a",
                                          "a/.wh.b",
                                          ".wh..wh..opq",
                                          "l/.wh.secret",
                                          "a/.wh..wh..opq",
                                          "a/l",
                                          "a/l/b",
                                          "//a//b/",
                                          canary,
                                          canary + "/secret",
                                          "l" + canary + "/secret",
                                          "\x1b[2J\xff\n"};
  const std::vector<std::string> links = {"a",    "/", "..", "l", "a/b", "../../..", canary, canary + "/secret",
                                          "/a/l", "."};
  const std::string types = "0012255567L34g";
  int good = 0;
  for (int round = 0; round < (test_everything() ? 5000 : 100); ++round) {
    std::vector<TarSpec> entries;
    for (std::size_t i = pick(7) + 1; i > 0; --i) {
      TarSpec spec{.type = types[pick(types.size())], .name = names[pick(names.size())]};
      if (spec.type == '0') spec.data = "evil";
      if (spec.type == '1' || spec.type == '2') spec.link = links[pick(links.size())];
      if (spec.type == '3' || spec.type == '4') spec.major = static_cast<std::uint32_t>(pick(3));
      if (spec.type == 'L') spec.data = names[pick(names.size())];
      if (pick(8) == 0) spec.pax.emplace_back("linkpath", links[pick(links.size())]);
      if (pick(40) == 0) spec.size_field = "00000000777";
      entries.push_back(spec);
    }
    const auto loaded = load_layers({tar(entries)});
    good += loaded ? 1 : 0;
    if (!loaded) {
      EXPECT_EQ(loaded.error().text().find('\x1b'), std::string::npos) << loaded.error().text();
    }
    ASSERT_EQ(describe_canary(), canary_) << "round " << round;
    ASSERT_EQ(run("ls -A " + top_ + "/store/tmp"), "") << "round " << round;
  }
  EXPECT_GT(good, 10) << "most were refused for a reason of no interest";
}

}  // namespace
}  // namespace skink::image::test
