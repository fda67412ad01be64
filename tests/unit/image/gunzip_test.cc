// SPDX-License-Identifier: Apache-2.0
#include "image/gunzip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <random>

#include "base/text.h"
#include "maker.h"

namespace skink::image {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Gives what it has by `piece`, and an error where there should be more, if it has one.
class Pieces final : public ByteSource {
 public:
  Pieces(std::string_view bytes, std::size_t piece) : bytes_(bytes), piece_(piece) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    const std::size_t count = std::min({most, bytes_.size(), piece_});
    if (count == 0 && fails) return Error::from_errno(EIO, "read of the blob");
    bytes_.copy(into, count);
    bytes_.remove_prefix(count);
    return count;
  }
  bool fails = false;

 private:
  std::string_view bytes_;
  std::size_t piece_;
};

std::string gunzip_all(std::string_view packed, std::size_t piece = 1U << 20) {
  Pieces source(packed, piece);
  std::string bytes;
  const auto done = gunzip(source, packed.size(), [&](std::string_view more) -> Result<void> {
    bytes += more;
    return {};
  });
  return done ? bytes : "ERROR " + done.error().text();
}

std::string by_zlib(const std::string& packed) {
  Pieces source(packed, packed.size() + 1);
  const auto inflater = make_inflater(oci::Compression::gzip, source);
  std::string bytes(8U << 20, '\0');
  const auto got = read_full(**inflater, bytes.data(), bytes.size());
  return got ? bytes.substr(0, *got) : "ERROR";
}

std::string packed_with(std::string_view bytes, int level, gz_header* header = nullptr) {
  z_stream stream{};
  std::string packed(bytes.size() + (bytes.size() >> 3) + (1U << 20), '\0');
  EXPECT_EQ(::deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  EXPECT_TRUE(header == nullptr || ::deflateSetHeader(&stream, header) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  ::deflateEnd(&stream);
  return packed;
}

// Incompressible bytes, text and zeros by turns, so that pieces of both sides end in all kinds of blocks.
std::string mixture(std::size_t size) {
  std::minstd_rand random(3);
  std::string bytes;
  while (bytes.size() < size) {
    const std::size_t length = random() % 200'000;
    const auto kind = random() % 3;
    for (std::size_t i = 0; i < length; ++i)
      bytes += kind == 0 ? static_cast<char>(random() >> 8) : kind == 1 ? "skink\n "[random() % 7] : '\0';
  }
  bytes.resize(size);
  return bytes;
}

TEST(Gunzip, UnpacksFarMoreThanItsPiecesHold) {
  const std::string bytes = mixture(7'000'001);
  for (const int level : {0, 1, 6, 9}) {
    const std::string packed = packed_with(bytes, level);
    EXPECT_TRUE(gunzip_all(packed) == bytes) << level;
    EXPECT_TRUE(gunzip_all(packed, 4093) == bytes) << level;
  }
  const std::string zeros(40U << 20, '\0');
  EXPECT_TRUE(gunzip_all(packed_with(zeros, 9)) == zeros);
  EXPECT_EQ(gunzip_all(packed_with("", 6)), "");
}

TEST(Gunzip, MembersOfAllSizesAreOneStream) {
  const std::string bytes = mixture(3'000'000);
  std::minstd_rand random(5);
  std::string packed;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = random() % 4 == 0 ? 0 : random() % (random() % 2 == 0 ? 700'000 : 300);
    packed += packed_with(std::string_view(bytes).substr(at, length), static_cast<int>(random() % 10));
    at += length;
  }
  EXPECT_TRUE(gunzip_all(packed) == bytes);
}

TEST(Gunzip, HeadersMayHaveEverything) {
  std::string extra(60'000, 'e');
  std::string name(700'000, 'n');
  std::string comment = "comment";
  gz_header header{};
  header.extra = reinterpret_cast<Bytef*>(extra.data());
  header.extra_len = static_cast<uInt>(extra.size());
  header.name = reinterpret_cast<Bytef*>(name.data());
  header.comment = reinterpret_cast<Bytef*>(comment.data());
  header.hcrc = 1;
  const std::string packed = packed_with("comment", 6, &header);
  EXPECT_EQ(gunzip_all(packed + packed, 1000), "commentcomment");
}

TEST(Gunzip, EveryCutIsNoticed) {
  const std::string packed = test::gzip(mixture(3000));
  for (std::size_t size = 0; size < packed.size(); size += 7)
    EXPECT_THAT(gunzip_all(packed.substr(0, size)), StartsWith("ERROR gzip data ")) << size;
  EXPECT_THAT(gunzip_all(packed.substr(0, packed.size() - 1)), HasSubstr("gzip data ends early, at byte"));
  EXPECT_THAT(gunzip_all(packed.substr(0, packed.size() - 9)), HasSubstr("corrupt or ends early"));
}

TEST(Gunzip, WhatFollowsTheDataIsAnErrorWithItsPlace) {
  const std::string packed = test::gzip("one");
  EXPECT_THAT(gunzip_all(packed + "junk"),
              HasSubstr(str("what follows the gzip data is corrupt at byte ", packed.size())));
  EXPECT_THAT(gunzip_all("junk and more of it"), HasSubstr("corrupt at byte 0: no gzip header"));
}

TEST(Gunzip, WrongSumsAreNoticed) {
  const std::string packed = test::gzip(mixture(3000));
  for (const auto& [from_end, what] : {std::pair{6, "incorrect data check"}, std::pair{2, "incorrect length check"}}) {
    std::string changed = packed;
    changed[changed.size() - static_cast<std::size_t>(from_end)] ^= 1;
    EXPECT_THAT(gunzip_all(changed), HasSubstr(what));
  }
}

// What zlib refuses is refused, and what it takes comes out the same.
TEST(Gunzip, AgreesWithZlibAboutDamagedData) {
  const std::string packed = packed_with(mixture(1'500'000), 6);
  std::minstd_rand random(11);
  for (int round = 0; round < 60; ++round) {
    std::string changed = packed;
    // The header and its neighbourhood get their share.
    const std::size_t at = random() % (round % 3 == 0 ? 200 : changed.size());
    changed[at] = static_cast<char>(changed[at] ^ (1 << (random() % 8)));
    const std::string ours = gunzip_all(changed);
    const std::string theirs = by_zlib(changed);
    EXPECT_TRUE(theirs == "ERROR" ? ours.starts_with("ERROR") : ours == theirs) << "byte " << at;
  }
}

TEST(Gunzip, ErrorsOfBothEndsAreItsOwn) {
  const std::string bytes = mixture(5'000'000);
  const std::string packed = packed_with(bytes, 1);
  Pieces broken(std::string_view(packed).substr(0, packed.size() - 1000), 100'000);
  broken.fails = true;
  const auto read = gunzip(broken, packed.size(), [](std::string_view) { return Result<void>{}; });
  EXPECT_EQ(read.error().errnum(), EIO);
  Pieces source(packed, packed.size());
  std::uint64_t count = 0;
  const auto written = gunzip(source, packed.size(), [&](std::string_view more) -> Result<void> {
    count += more.size();
    return count > 2'000'000 ? Result<void>(Error::from_errno(EPIPE, "pipe")) : Result<void>{};
  });
  EXPECT_EQ(written.error().errnum(), EPIPE);
  EXPECT_LT(count, 3'000'000U);
  // And then it works again.
  EXPECT_TRUE(gunzip_all(packed) == bytes);
}

TEST(Gunzip, TooMuchForItsAddressesIsLeftToZlib) {
  Pieces source("", 1);
  const auto sink = [](std::string_view) { return Result<void>{}; };
  EXPECT_EQ(gunzip(source, std::uint64_t{1} << 62, sink).error().code(), Code::unsupported);
}

}  // namespace
}  // namespace skink::image
