// SPDX-License-Identifier: Apache-2.0
#include "image/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "maker.h"

namespace skink::image {
namespace {

using test::directory;
using test::file;
using test::TarSpec;
using ::testing::HasSubstr;

class Pieces final : public ByteSource {
 public:
  explicit Pieces(std::string bytes) : bytes_(std::move(bytes)) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    // Odd pieces: no reader may count on whole blocks.
    const std::size_t count = std::min({most, bytes_.size() - at_, std::size_t{333}});
    bytes_.copy(into, count, at_);
    at_ += count;
    return count;
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

struct Listing {
  std::vector<TarEntry> entries;
  std::vector<std::string> data;
  std::string error;
};

Listing list(const std::string& bytes) {
  Pieces source(bytes);
  TarReader reader(source);
  Listing listing;
  TarEntry entry;
  for (;;) {
    auto more = reader.next(entry);
    if (!more) listing.error = more.error().text();
    if (!more || !*more) return listing;
    listing.entries.push_back(entry);
    listing.data.emplace_back();
    char buffer[100];
    for (;;) {
      auto got = reader.read(buffer, sizeof buffer);
      if (!got) listing.error = got.error().text();
      if (!got || *got == 0) break;
      listing.data.back().append(buffer, *got);
    }
    if (!listing.error.empty()) return listing;
  }
}

TEST(TarReader, ReadsNamesDataAndNumbersOfUstar) {
  TarSpec spec = file("etc/passwd", std::string(700, 'x'));
  spec.uid = 12;
  spec.gid = 34;
  spec.mode = 04755;

  const Listing listing = list(test::tar({directory("etc/"), spec}));

  EXPECT_EQ(listing.error, "");
  ASSERT_EQ(listing.entries.size(), 2u);
  EXPECT_EQ(listing.entries[0].type, TarType::directory);
  EXPECT_EQ(listing.entries[1].name, "etc/passwd");
  EXPECT_EQ(listing.entries[1].uid, 12u);
  EXPECT_EQ(listing.entries[1].gid, 34u);
  EXPECT_EQ(listing.entries[1].mode, 04755u);
  EXPECT_EQ(listing.entries[1].mtime_s, 1'000'000'000);
  EXPECT_EQ(listing.data[1], std::string(700, 'x'));
}

TEST(TarReader, PaxOverridesNamesSizesTimesAndOwners) {
  TarSpec spec = file("short", "123456");
  spec.size_field = "00000000000";
  spec.pax = {{"path", "l\xc3\xa4nger/n\xff"},
              {"size", "6"},
              {"mtime", "1350244992.023960108"},
              {"uid", "70000"},
              {"SCHILY.xattr.user.a", std::string("\0\n=", 3)}};

  const Listing listing = list(test::tar({spec, file("next")}));

  EXPECT_EQ(listing.error, "");
  ASSERT_EQ(listing.entries.size(), 2u);
  EXPECT_EQ(listing.entries[0].name, "l\xc3\xa4nger/n\xff") << "bytes are not converted";
  EXPECT_EQ(listing.data[0], "123456");
  EXPECT_EQ(listing.entries[0].mtime_s, 1350244992);
  EXPECT_EQ(listing.entries[0].mtime_ns, 23960108u);
  EXPECT_EQ(listing.entries[0].uid, 70000u);
  ASSERT_EQ(listing.entries[0].xattrs.size(), 1u);
  EXPECT_EQ(listing.entries[0].xattrs[0].second, std::string("\0\n=", 3));
  EXPECT_EQ(listing.entries[1].name, "next");
}

TEST(TarReader, ATimeBeforeTheEpochIsRoundedDown) {
  TarSpec spec = file("old");
  spec.pax = {{"mtime", "-1.25"}};

  const Listing listing = list(test::tar({spec}));

  ASSERT_EQ(listing.entries.size(), 1u);
  EXPECT_EQ(listing.entries[0].mtime_s, -2);
  EXPECT_EQ(listing.entries[0].mtime_ns, 750'000'000u);
}

TEST(TarReader, GnuLongNamesAndBinaryNumbersAreRead) {
  const std::string name(300, 'n'), target(200, 't');
  TarSpec long_name{.type = 'L', .name = "././@LongLink", .data = name + '\0'};
  TarSpec long_link{.type = 'K', .name = "././@LongLink", .data = target + '\0'};
  TarSpec link = test::symlink("short", "short");
  TarSpec big = file("b", "xy");
  big.size_field = std::string("\x80\0\0\0\0\0\0\0\0\0\0\x02", 12);

  const Listing listing = list(test::tar_entry(long_name) + test::tar_entry(long_link) + test::tar({link, big}));

  EXPECT_EQ(listing.error, "");
  ASSERT_EQ(listing.entries.size(), 2u);
  EXPECT_EQ(listing.entries[0].name, name);
  EXPECT_EQ(listing.entries[0].link, target);
  EXPECT_EQ(listing.data[1], "xy");
}

TEST(TarReader, AnEmptyArchiveAndOneWithoutAnEndAreArchives) {
  EXPECT_EQ(list("").error, "");
  EXPECT_EQ(list(std::string(1024, '\0')).error, "");
  EXPECT_EQ(list(test::tar_entry(file("a", "b"))).entries.size(), 1u);
}

struct Bad {
  const char* what;
  std::string bytes;
  const char* words;
};

TarSpec with_pax(std::string key, std::string value) {
  TarSpec spec = file("f");
  spec.pax = {{std::move(key), std::move(value)}};
  return spec;
}

TarSpec with_size(std::string field) {
  TarSpec spec = file("f");
  spec.size_field = std::move(field);
  return spec;
}

// An extended header of this type by itself.
std::string meta(char type, std::string data) {
  return test::tar_entry({.type = type, .name = "p", .data = std::move(data)});
}

std::string pax(const std::string& key, const std::string& value) { return meta('x', test::pax_record(key, value)); }
std::string global(const std::string& key) { return meta('g', test::pax_record(key, "v")); }

std::string globals(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += global("comment");
  return bytes + test::tar({file("f")});
}

TEST(TarReader, RefusesWhatArchiversDisagreeAbout) {
  TarSpec wrong_sum = file("f");
  wrong_sum.bad_checksum = true;
  TarSpec sized_dir = directory("d");
  sized_dir.data = "hidden";
  TarSpec global{.type = 'g', .name = "g", .data = test::pax_record("path", "evil")};
  TarSpec bad_length{.type = 'x', .name = "p", .data = "99 path=a\n"};
  TarSpec huge{.type = 'x', .name = "p", .size_field = "77777777777"};
  const std::vector<Bad> cases = {
      {"checksum", test::tar({wrong_sum}), "tar header at byte 0: wrong checksum"},
      {"junk octal", test::tar({with_size("12x4")}), "bad size"},
      {"negative size", test::tar({with_size(std::string(12, '\xff'))}), "bad size"},
      {"huge base-256", test::tar({with_size("\x80" + std::string(11, '\xff'))}), "bad size"},
      {"directory with data", test::tar({sized_dir}), "no file has a size"},
      {"lone zero block", std::string(512, '\0') + test::tar({file("f")}), "lone zero block"},
      {"pax NUL", test::tar({with_pax("path", std::string("a\0b", 3))}), "pax record \"path\": bad value"},
      {"pax size", test::tar({with_pax("size", "-1")}), "bad value"},
      {"pax size junk", test::tar({with_pax("size", "1x")}), "bad value"},
      {"pax uid", test::tar({with_pax("uid", "4294967295")}), "bad value"},
      {"pax length", test::tar({bad_length, file("f")}), "a record has a wrong length"},
      {"global path", test::tar({global, file("f")}), "global pax header sets \"path\""},
      {"sparse", test::tar({with_pax("GNU.sparse.major", "1")}), "sparse"},
      {"old sparse", test::tar({TarSpec{.type = 'S', .name = "s"}}), "sparse"},
      {"unknown type", test::tar({TarSpec{.type = '!', .name = "s"}}), "unknown entry type \"!\""},
      {"five headers", globals(5), "too many extended headers"},
      {"huge header", test::tar({huge}), "extended header of"},
      {"header alone", test::tar_entry({.type = 'x', .name = "p", .data = test::pax_record("a", "b")}),
       "ends after an extended header"},
      {"cut data", test::tar_entry(file("f", std::string(600, 'x'))).substr(0, 700),
       "ends inside an entry, at byte 700"},
      {"cut header", test::tar({file("f")}).substr(0, 300), "ends inside a block, at byte 300"},
      {"long name", test::tar({with_pax("path", std::string(5000, 'a'))}), "bad value"},
      {"no name", test::tar({file("")}), "without a name"},
  };
  for (const auto& bad : cases) EXPECT_THAT(list(bad.bytes).error, HasSubstr(bad.words)) << bad.what;
  EXPECT_EQ(list(globals(4)).error, "");
}

// Each of these is one archive for skink, another for GNU tar and a third for Go's archive/tar (CVE-2025-62518).
TEST(TarReader, RefusesStacksOfHeadersThatReadersMakeDifferentEntriesOf) {
  TarSpec evil = file("evil", "boo");
  TarSpec link = test::hardlink("l", "f");
  TarSpec v = file("v");
  const std::string hidden = test::tar_entry(v) + test::tar({evil});
  const std::string size = pax("size", "512"), long_name = meta('L', std::string("other\0", 6));
  const std::vector<Bad> cases = {
      {"two pax headers", size + pax("comment", "c") + hidden,
       "byte 1024: two pax headers in front of one entry, which"},
      {"a size and then none", meta('x', test::pax_record("size", "512") + test::pax_record("size", "")) + hidden,
       "pax record \"size\" without a value, which readers of tar take for different things; pack it anew"},
      {"an empty path", pax("path", "") + hidden, "\"path\" without a value"},
      {"an empty linkpath", pax("linkpath", "") + test::tar({link}), "\"linkpath\" without a value"},
      {"an empty owner", pax("uid", "") + hidden, "\"uid\" without a value"},
      {"an empty time", pax("mtime", "") + hidden, "\"mtime\" without a value"},
      {"a global one between", size + global("comment") + hidden,
       "a global pax header between an extended header and its entry"},
      {"a global one behind a name", long_name + global("comment") + hidden, "a global pax header between"},
      {"a size of a hard link", size + test::tar({link, evil}), "of l: an entry that is no file has a size, which"},
      {"two names", long_name + pax("path", "paxname") + hidden, "a long name of GNU and another of pax"},
      {"two names the other way round", pax("path", "paxname") + long_name + hidden, "a long name of GNU and another"},
      {"two targets", meta('K', "other") + pax("linkpath", "paxname") + test::tar({link}), "a long name of GNU and"},
      {"two long names", long_name + meta('L', "third") + hidden, "two long names in front of one entry"},
      {"an empty long name", meta('L', "") + hidden, "an empty long name"},
      {"an empty long target", meta('K', std::string(1, '\0')) + test::tar({link}), "an empty long name"},
      {"two long targets", meta('K', "a") + meta('K', "b") + test::tar({link}), "two long names in front of one"},
      {"a label behind a header", size + test::tar_entry({.type = 'V', .name = "label"}) + hidden, "a volume label"},
      {"a label with data", test::tar({TarSpec{.type = 'V', .name = "label", .data = "x"}}), "a volume label"},
      {"sparse by star", pax("SCHILY.realsize", "512") + hidden, "sparse"},
  };
  for (const auto& bad : cases) {
    EXPECT_THAT(list(bad.bytes).error, HasSubstr(bad.words)) << bad.what;
    EXPECT_TRUE(list(bad.bytes).entries.empty()) << bad.what;
  }
  link.size_field = "00000001000";
  EXPECT_THAT(list(test::tar({with_pax("mtime", "1"), link, evil})).error, HasSubstr("no file has a size"))
      << "in a pax archive it may have data";
}

TEST(TarReader, ReadsTheStacksOfHeadersThatToolsWrite) {
  const std::string name(150, 'n');
  TarSpec link = test::hardlink("l", "f"), old_link = link;
  link.pax = {{"mtime", "1.5"}, {"size", "0"}};
  old_link.size_field = "00000001000";
  TarSpec odd = file("f", "x");
  odd.pax = {{"uname", ""}, {"comment", ""}, {"atime", ""}, {"VENDOR.key", ""}};

  const Listing label = list(test::tar({TarSpec{.type = 'V', .name = "label"}, odd, link}));
  const Listing old = list(test::tar({file("f", "x"), old_link, file("g")}));
  const Listing both = list(global("GNU.volume.label") + meta('L', name) + meta('K', name) + test::tar({link}));
  const Listing same = list(meta('L', name) + pax("path", name) + test::tar({file("f")}));

  EXPECT_EQ(label.error, "");
  EXPECT_EQ(label.entries.size(), 2u) << "a label is no entry";
  EXPECT_EQ(old.error, "");
  EXPECT_EQ(old.entries.size(), 3u) << "a size of old archivers, without data";
  EXPECT_EQ(both.error, "");
  ASSERT_EQ(both.entries.size(), 1u);
  EXPECT_EQ(both.entries[0].name + both.entries[0].link, name + name);
  EXPECT_EQ(same.error, "");
}

TEST(TarReader, ErrorsNameTheEntryOrTheOneBeforeIt) {
  TarSpec sized = directory("b/dir");
  sized.data = "x";
  TarSpec wrong_sum = file("c");
  wrong_sum.bad_checksum = true;
  const auto behind_a = [](TarSpec spec) { return list(test::tar({file("dir/a", "1"), std::move(spec)})).error; };

  EXPECT_EQ(behind_a(wrong_sum), "tar header at byte 1024, behind dir/a: wrong checksum");
  EXPECT_EQ(behind_a(with_pax("uid", "x")),
            "tar header at byte 1024, behind dir/a: pax record \"uid\": bad value \"x\"");
  EXPECT_EQ(behind_a(TarSpec{.type = '!', .name = "t"}), "tar header at byte 1024, of t: unknown entry type \"!\"");
  EXPECT_THAT(behind_a(TarSpec{.type = 'S', .name = "big"}), HasSubstr("byte 1024, of big: sparse entries"));
  EXPECT_THAT(behind_a(sized), HasSubstr("byte 1024, of b/dir: an entry that is no file has a size"));
  EXPECT_EQ(list(test::tar({file("a", std::string(600, 'x'))}).substr(0, 1100)).error,
            "tar ends inside an entry, at byte 1100");
  EXPECT_EQ(list(test::tar({file("dir/a", "1")}).substr(0, 1100)).error,
            "tar ends inside a block, at byte 1100, behind dir/a");
  EXPECT_LT(list(test::tar({with_pax("path", std::string(50'000, 'a'))})).error.size(), 400u);
  EXPECT_LT(behind_a(with_pax("mtime", std::string(50'000, 'a'))).size(), 400u);
}

TEST(TarReader, SaysWhatAFileIsThatIsNoTar) {
  using namespace std::string_literals;
  const auto of = [](std::string start, std::size_t size) { return list(start.append(size, 'x')).error; };

  EXPECT_EQ(of("\xfd"
               "7zXZ\0"s,
               2000),
            "not a tar archive, but something packed with xz; skink unpacks gzip and zstd");
  EXPECT_EQ(of("BZh91AY", 10), "not a tar archive, but something packed with bzip2; skink unpacks gzip and zstd");
  EXPECT_EQ(of("\x04\x22\x4d\x18", 2000),
            "not a tar archive, but something packed with lz4; skink unpacks gzip and zstd");
  EXPECT_EQ(of("\x1f\x8b", 2000), "not a tar archive, but something packed with gzip");
  EXPECT_EQ(of("root:x:0:0:", 2000), "not a tar archive: it does not begin with a header of one");
  EXPECT_EQ(of("root:x:0:0:", 20), "not a tar archive: it has 31 bytes");
}

TEST(TarReader, TimesOfPaxAreTakenOrRefused) {
  struct Time {
    const char* text;
    std::int64_t seconds;
    std::uint32_t nanoseconds;
  };
  constexpr Time kTimes[] = {{"0", 0, 0},
                             {"-1", -1, 0},
                             {"-0.5", -1, 500'000'000},
                             {".5", 0, 500'000'000},
                             {"-.25", -1, 750'000'000},
                             {"1.", 1, 0},
                             {"1.0000000019", 1, 1},
                             {"-2177452800.75", -2177452801, 250'000'000},
                             {"253402300800", 253402300800, 0}};
  for (const auto& time : kTimes) {
    const Listing listing = list(test::tar({with_pax("mtime", time.text)}));
    ASSERT_EQ(listing.entries.size(), 1u) << time.text << ": " << listing.error;
    EXPECT_EQ(listing.entries[0].mtime_s, time.seconds) << time.text;
    EXPECT_EQ(listing.entries[0].mtime_ns, time.nanoseconds) << time.text;
  }
  for (const char* text : {".", "-", "-.", "+1", " 1", "1 ", "1e3", "1.2.3", "0x1", "nan", "9223372036854775808",
                           "-9223372036854775808", "1,5"})
    EXPECT_THAT(list(test::tar({with_pax("mtime", text)})).error, HasSubstr("\"mtime\": bad value")) << text;
}

TEST(TarReader, ExtendedHeadersOfOneEntryHaveLimitsAltogether) {
  TarSpec same = file("f"), many = file("f"), full = file("f");
  for (int i = 0; i < 3000; ++i) same.pax.emplace_back("SCHILY.xattr.user.a", std::to_string(i));
  for (int i = 0; i < 1025; ++i) many.pax.emplace_back("SCHILY.xattr.user." + std::to_string(i), "");
  full.pax = {{"comment", std::string(600'000, 'c')}};
  const TarSpec first{.type = 'g', .name = "p", .data = test::pax_record("comment", std::string(600'000, 'c'))};

  const Listing last = list(test::tar({same}));

  EXPECT_EQ(last.error, "");
  ASSERT_EQ(last.entries[0].xattrs.size(), 1u);
  EXPECT_EQ(last.entries[0].xattrs[0].second, "2999");
  EXPECT_THAT(list(test::tar({many})).error, HasSubstr("more than 1024 extended attributes of one entry"));
  EXPECT_EQ(list(test::tar({full, full})).error, "") << "each entry has its own";
  EXPECT_THAT(list(test::tar_entry(first) + test::tar({full})).error,
              HasSubstr("extended headers of more than 1048576 bytes in front of one entry"));
}

TEST(TarReader, NoCutOfAnArchiveReadsAsMoreThanItIs) {
  TarSpec spec = file("etc/x", std::string(1200, 'y'));
  spec.pax = {{"mtime", "1.5"}};
  const std::string whole = test::tar({spec, test::symlink("l", "t")});

  for (std::size_t size = 0; size < whole.size(); size += 7) {
    const Listing listing = list(whole.substr(0, size));
    EXPECT_LE(listing.entries.size(), 2u);
  }
}

}  // namespace
}  // namespace skink::image
