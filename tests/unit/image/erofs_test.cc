// SPDX-License-Identifier: Apache-2.0
// Layers as EROFS files, written and read without a mount. tests/system/test_erofs.py compares with what the kernel
// shows.
#include <sys/mman.h>

#include "fixture.h"
#include "image/erofs_format.h"
#include "image/layer.h"
#include "image/layer_files.h"
#include "image/unpack.h"
#include "sys/file.h"

namespace skink::image::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BytesSource final : public ByteSource {
 public:
  explicit BytesSource(std::string bytes) : bytes_(std::move(bytes)) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    const std::size_t count = std::min(most, bytes_.size() - at_);
    bytes_.copy(into, count, at_);
    at_ += count;
    return count;
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

/// A file in memory that holds the layer.
UniqueFd new_file() { return UniqueFd(::memfd_create("layer", MFD_CLOEXEC)); }

Result<void> write_layer(int fd, const std::string& tar, std::uint64_t entries = 1'000'000) {
  const auto writer = TRY(make_erofs_writer(TRY(sys::dup_fd(fd)), LayerUuid{1}));
  BytesSource source(tar);
  TRY(unpack_layer(source, *writer, UnpackLimits{.entries = entries}));
  return writer->finish();
}

class Erofs : public ::testing::Test {
 protected:
  /// What is wrong with a layer of these entries; "" for nothing. Then reader_ has it.
  std::string write(const std::vector<TarSpec>& entries) {
    file_ = new_file();
    const auto done = write_layer(file_.get(), tar(entries));
    if (!done) return done.error().text();
    auto reader = open_erofs_layer(std::move(*sys::dup_fd(file_.get())));
    if (!reader) return reader.error().text();
    reader_ = std::move(*reader);
    return "";
  }
  std::string describe(const std::string& path) {
    const auto node = reader_->lookup(path);
    if (!node) return node.error().text();
    if (!*node) return "nothing";
    std::string text = (*node)->whiteout ? "whiteout" : (*node)->opaque ? "opaque" : "";
    char mode[16];
    (void)std::snprintf(mode, sizeof mode, "%o", (*node)->status.st_mode);
    return text + mode;
  }
  UniqueFd file_;
  std::unique_ptr<LayerReader> reader_;
};

TEST_F(Erofs, WhatWasWrittenIsFoundAgain) {
  ASSERT_EQ(write({directory("bin/", 02750), file("bin/su", "x"), symlink("sh", "bin/su"), hardlink("twin", "bin/su"),
                   file("deep/er/f", std::string(9000, 'y'))}),
            "");

  EXPECT_EQ(describe("bin"), "42750");
  EXPECT_EQ(describe("bin/su"), "100644");
  EXPECT_EQ(describe("bin/su/x"), "nothing");
  EXPECT_EQ(describe("no"), "nothing");
  EXPECT_EQ((*reader_->lookup("twin"))->status.st_ino, (*reader_->lookup("bin/su"))->status.st_ino);
  EXPECT_EQ((*reader_->lookup("twin"))->status.st_nlink, 2u);
  EXPECT_EQ((*reader_->lookup("deep"))->status.st_nlink, 3u);
  EXPECT_EQ(*reader_->read_link("sh"), "bin/su");
  EXPECT_FALSE(reader_->read_link("bin"));
  EXPECT_THAT(reader_->implied(), ElementsAre("", "deep", "deep/er"));
  EXPECT_EQ(reader_->size(), 9001);
  EXPECT_FALSE(reader_->hides_all_below());
}

TEST_F(Erofs, LinksInsideTheLayerAreFollowedAndNamesNeverLeaveIt) {
  ASSERT_EQ(write({symlink("l", "/../../d"), file("l/f", "1"), symlink("loop", "loop"), file("../../up", "2"),
                   symlink("x", "d"), file("x", "3")}),
            "");

  EXPECT_EQ(describe("d/f"), "100644");
  EXPECT_EQ(describe("up"), "100644");
  EXPECT_EQ(describe("x"), "100644") << "the link itself is replaced, never what it leads to";
  EXPECT_THAT(write({symlink("loop", "loop"), file("loop/f", "1")}), HasSubstr("Too many levels of symbolic links"));
}

TEST_F(Erofs, ALaterEntryReplacesAnEarlierOneWithAllThatIsInIt) {
  ASSERT_EQ(write({file("keep", "1"), hardlink("d/twin", "keep"), file("d/f", "2"), file("d", "3"), file("f", "4"),
                   directory("f/"), file("f/g", "5")}),
            "");

  EXPECT_EQ(describe("d"), "100644");
  EXPECT_EQ(describe("f/g"), "100644");
  EXPECT_EQ((*reader_->lookup("keep"))->status.st_nlink, 1u);
  EXPECT_THAT(reader_->implied(), ElementsAre(""));
}

TEST_F(Erofs, WhiteoutsTakeNothingOfTheirOwnLayer) {
  ASSERT_EQ(write({file(".wh.a"), file("a/f", "1"), file("d/.wh..wh..opq"), file("d/.wh.x"), file("e/.wh.y"),
                   file("g/.wh.h"), file(".wh.g"), file(".wh..wh..opq")}),
            "");

  EXPECT_EQ(describe("a"), "40755") << "everything below is hidden by the root";
  EXPECT_TRUE(reader_->hides_all_below());

  ASSERT_EQ(write({file(".wh.a"), file("a/f", "1"), file("d/.wh..wh..opq"), file("d/.wh.x"), file("e/.wh.y"),
                   file("g/.wh.h"), file(".wh.g")}),
            "");

  EXPECT_EQ(describe("a"), "opaque40755");
  EXPECT_EQ(describe("d"), "opaque40755");
  EXPECT_EQ(describe("d/x"), "nothing");
  EXPECT_EQ(describe("e/y"), "whiteout20000");
  EXPECT_EQ(describe("g"), "whiteout20000") << "what it hides needs no whiteouts of its own";
}

TEST_F(Erofs, LimitsAreSaid) {
  std::string step;
  for (int i = 0; i < 400; ++i) step += "d/";
  EXPECT_THAT(write({directory(step), symlink("l", step), directory("l/" + step)}), HasSubstr("File name too long"));
  // Forty links are few, the components of their targets need not be.
  std::string up_and_down;
  for (int i = 0; i < 800; ++i) up_and_down += "d/../";
  EXPECT_THAT(write({symlink("a", up_and_down + "b"), symlink("b", up_and_down + "c"), symlink("c", up_and_down + "d"),
                     file("a/f")}),
              HasSubstr("entry a/f: a: Too many levels of symbolic links"));
  EXPECT_EQ(write({symlink("b", up_and_down + "c"), symlink("c", up_and_down + "d"), file("b/f")}), "");
  EXPECT_THAT(write({symlink("l", std::string(300, 'n')), file("l/f")}), HasSubstr("File name too long"));
  EXPECT_THAT(write({hardlink("h", "no/such")}), HasSubstr("hard link to \"no/such\", which is not in this layer"));
  EXPECT_THAT(write({directory("d"), hardlink("h", "d")}), HasSubstr("hard link to the directory \"d\""));
  TarSpec spec = file("f");
  spec.pax.emplace_back("SCHILY.xattr.user.k", std::string(70'000, 'v'));
  EXPECT_THAT(write({spec}),
              HasSubstr("entry f: extended attribute user.k has 70000 bytes; at most 65535 can be kept"));
  spec.pax.clear();
  for (const char* name : {"a", "b", "c", "d", "e"})
    spec.pax.emplace_back(std::string("SCHILY.xattr.user.") + name, std::string(60'000, 'v'));
  EXPECT_THAT(write({spec}), HasSubstr("entry f: extended attribute user.e: those of one file have more than 262136"));
  const auto many = write_layer(new_file().get(), tar({file("a"), file("b"), file("c")}), 2);
  EXPECT_THAT(many.error().text(), HasSubstr("more than 2 entries in one layer"));
}

TEST_F(Erofs, ADirectoryIsFoundFromWhatWasFoundBefore) {
  std::vector<TarSpec> entries{directory("d/"), symlink("l", "d")};
  for (int i = 0; i < 3000; ++i) entries.push_back(file("d/name-" + std::to_string(i)));
  ASSERT_EQ(write(entries), "");
  const ino_t d = (*reader_->lookup("d"))->status.st_ino;

  for (const int step : {1, 1709})
    for (int i = 0; i < 3000; ++i) {
      const std::string path = "d/name-" + std::to_string(i * step % 3000);
      const auto below = reader_->lookup_below(d, path);
      ASSERT_TRUE(below && *below) << path;
      EXPECT_EQ((*below)->status.st_ino, (*reader_->lookup(path))->status.st_ino) << path;
      EXPECT_FALSE(*reader_->lookup_below(d, path + "x")) << path;
    }
  EXPECT_FALSE(*reader_->lookup_below(d, "d/"));
  EXPECT_FALSE(*reader_->lookup_below((*reader_->lookup("l"))->status.st_ino, "l/name-1")) << "not a directory";
  EXPECT_FALSE(reader_->lookup_below(1U << 30, "d/name-1")) << "beyond the end";
}

TEST(Implied, TheListIsTakenOnlyAsItIsWritten) {
  const auto nul = [](std::vector<std::string> paths) {
    std::string list;
    for (const auto& path : paths) list.append(path).push_back('\0');
    return list;
  };
  std::string deep = "d", deeper;
  for (int i = 1; i < 512; ++i) deep += "/d";
  deeper = deep + "/d";
  std::string many;
  for (int i = 100'000; i <= 200'000; ++i) many.append(std::to_string(i)).push_back('\0');

  EXPECT_THAT(*parse_implied(nul({"", "a", "a/b", deep})), ElementsAre("", "a", "a/b", deep));
  for (const auto& list : {nul({"a", ""}), nul({"b", "a"}), nul({"a", "a"}), nul({"a/"}), nul({"/a"}), nul({"a//b"}),
                           nul({"a/../b"}), nul({"."}), nul({std::string(256, 'n')}), nul({deeper}), std::string("a"),
                           many, std::string((64U << 20) + 1, '\0')})
    EXPECT_FALSE(parse_implied(list)) << list.substr(0, 20);
  std::vector<std::string> paths = components(many);
  EXPECT_THAT(format_implied(paths).error().text(),
              HasSubstr("more than 100000 directories without an entry of their own in one layer"));
  EXPECT_THAT(format_implied(paths, ImpliedCount::Kind::covering).error().text(),
              HasSubstr("more than 100000 directories with whiteouts in one layer"));
}

TEST_F(Erofs, AnImpliedListOutOfOrderIsRefused) {
  ASSERT_EQ(write({file("aa/f"), file("bb/f")}), "");
  erofs::LayerHeader header;
  ASSERT_EQ(::pread(file_.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
  ASSERT_EQ(::pwrite(file_.get(), "\0cc\0bb\0", 7, static_cast<off_t>(header.implied_offset)), 7);

  const auto reader = open_erofs_layer(std::move(*sys::dup_fd(file_.get())));

  ASSERT_FALSE(reader);
  EXPECT_THAT(reader.error().text(), HasSubstr("list of implied directories is damaged: it is not sorted"));
}

// One entry implies up to 512 directories.
TEST_F(Erofs, ImpliedDirectoriesHaveALimit) {
  std::vector<TarSpec> entries;
  for (int i = 0; i < 201; ++i) {
    std::string name = std::to_string(i);
    for (int depth = 0; depth < 500; ++depth) name += "/d";
    entries.push_back(file(name));
  }
  EXPECT_THAT(write(entries), HasSubstr("more than 100000 directories without an entry of their own in one layer; "));
}

TEST_F(Erofs, PathsThroughLinksHaveALimitInALayer) {
  std::vector<TarSpec> entries;
  std::string around;
  for (int i = 0; i < 15; ++i) around += std::string(255, 'n') + "/../";
  for (int i = 0; i < 40; ++i)
    entries.push_back(symlink("l" + std::to_string(i), around + "l" + std::to_string(i + 1)));
  for (int i = 0; i < 1800; ++i) {
    entries.push_back(file("l0/f" + std::to_string(i)));
    entries.push_back(file("x" + std::to_string(i) + "/y"));  // else the parent is known
  }
  EXPECT_THAT(write(entries), HasSubstr("paths through symbolic links of more than 256 MiB in one layer"));
}

TEST_F(Erofs, EntriesOfOneDirectoryReplaceItsAttributes) {
  const auto with = [](std::string key, std::string value) {
    TarSpec spec = directory("d");
    spec.pax = {{"SCHILY.xattr.user." + std::move(key), std::move(value)}};
    return spec;
  };
  std::vector<TarSpec> entries(600, with("a", std::string(60'000, 'v')));
  entries.push_back(with("b", "1"));
  EXPECT_EQ(write(entries), "") << "36 MB of which 60 kB stay";
  EXPECT_EQ(write(std::vector<TarSpec>{with("a", std::string(65'000, 'v')), with("b", std::string(65'000, 'v')),
                                       with("c", std::string(65'000, 'v')), with("d", std::string(65'000, 'v'))}),
            "");
  EXPECT_THAT(write({with("a", std::string(65'000, 'v')), with("b", std::string(65'000, 'v')),
                     with("c", std::string(65'000, 'v')), with("d", std::string(65'000, 'v')),
                     with("e", std::string(65'000, 'v'))}),
              HasSubstr("entry d: extended attribute user.e: those of one file have more than 262136 bytes"));
}

TEST_F(Erofs, WhatIsLeftOutHidesWhatLowerLayersHaveThere) {
  const TarSpec null{.type = '3', .name = "dev/null", .major = 1, .minor = 3};
  ASSERT_EQ(write({file("dev/null", "old"), null, hardlink("dev/twin", "dev/null"), file("o/.wh..wh..opq"),
                   hardlink("o/twin", "dev/null"), file("dev/full"), TarSpec{.type = '4', .name = "b", .major = 8},
                   directory("b")}),
            "");

  EXPECT_EQ(describe("dev/null"), "whiteout20000");
  EXPECT_EQ(describe("dev/twin"), "whiteout20000");
  EXPECT_EQ(describe("dev/full"), "100644");
  EXPECT_EQ(describe("o/twin"), "nothing") << "below an opaque directory there is nothing to hide";
  EXPECT_EQ(describe("b"), "40755") << "a later entry takes its place";
  EXPECT_THAT(*reader_->covering(), ElementsAre("dev"));
}

TEST(ErofsXattrs, KnowTheirPrefixes) {
  for (const char* name : {"user.x", "trusted.x", "security.capability", "system.posix_acl_access"})
    EXPECT_TRUE(erofs::pack_xattrs({{name, "v"}})) << name;
  for (const char* name : {"user.", "other.x", "system.x", ""}) EXPECT_FALSE(erofs::pack_xattrs({{name, "v"}})) << name;
  EXPECT_EQ(*erofs::pack_xattrs({{"user.a", "1"}, {"user.a", "2"}}), *erofs::pack_xattrs({{"user.a", "2"}}));
  EXPECT_EQ(erofs::pack_xattrs({{"user.abc", "12"}})->size() % 4, 0u);
}

// A file that a disk spoiled: an answer or an error, never a crash. ASan and UBSan judge.
TEST_F(Erofs, ADamagedFileIsAnError) {
  ASSERT_EQ(write({directory("d/"), file("d/f", "1"), symlink("l", "d"), file("e/.wh.y"), file("a/.wh..wh..opq")}), "");
  struct stat status {};
  ASSERT_EQ(::fstat(file_.get(), &status), 0);
  std::string good(static_cast<std::size_t>(status.st_size), '\0');
  ASSERT_EQ(::pread(file_.get(), good.data(), good.size(), 0), status.st_size);
  std::uint32_t state = 20261128;
  const auto pick = [&](std::size_t count) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::size_t>(state >> 8) % count;
  };
  int refused = 0;
  for (int round = 0; round < (test_everything() ? 50'000 : 2'000); ++round) {
    std::string bad = good;
    for (std::size_t i = pick(4) + 1; i > 0; --i) {
      std::size_t at = pick(bad.size());
      while (good[at] == '\0' && pick(8) != 0) at = (at + 1) % bad.size();
      bad[at] = static_cast<char>(pick(256));
    }
    if (pick(10) == 0) bad.resize(pick(bad.size()));
    const UniqueFd file = new_file();
    ASSERT_EQ(::write(file.get(), bad.data(), bad.size()), static_cast<ssize_t>(bad.size()));
    const auto reader = open_erofs_layer(std::move(*sys::dup_fd(file.get())));
    refused += reader ? 0 : 1;
    if (!reader) continue;
    for (const char* path : {"d/f", "l", "e/y", "a", "no"}) (void)(*reader)->lookup(path);
    (void)(*reader)->read_link("l");
  }
  EXPECT_GT(refused, 10);
}

}  // namespace
}  // namespace skink::image::test
