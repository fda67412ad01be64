// SPDX-License-Identifier: Apache-2.0
#include "image/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "maker.h"

namespace skink::image {
namespace {

using oci::Compression;
using ::testing::HasSubstr;

class Bytes final : public ByteSource {
 public:
  explicit Bytes(std::string bytes, std::size_t piece = 1000) : bytes_(std::move(bytes)), piece_(piece) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    const std::size_t count = std::min({most, bytes_.size() - at_, piece_});
    bytes_.copy(into, count, at_);
    at_ += count;
    return count;
  }

 private:
  std::string bytes_;
  std::size_t piece_;
  std::size_t at_ = 0;
};

std::string noise(std::size_t count) {
  std::string bytes;
  std::uint32_t state = 7;
  for (std::size_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    bytes += static_cast<char>(state >> 24);
  }
  return bytes;
}

std::string unpack(Compression compression, const std::string& packed, std::size_t piece = 1000) {
  Bytes source(packed, piece);
  auto inflater = make_inflater(compression, source);
  if (!inflater) return inflater.error().text();
  std::string bytes;
  char buffer[777];
  for (;;) {
    const auto got = (*inflater)->read(buffer, sizeof buffer);
    if (!got) return got.error().text();
    if (*got == 0) return bytes;
    bytes.append(buffer, *got);
  }
}

TEST(Inflater, UnpacksWholeStreamsInAnyPieces) {
  const std::string bytes = noise(300'000) + std::string(300'000, 'a');
  for (const std::size_t piece : {std::size_t{1}, std::size_t{511}, std::size_t{1} << 20}) {
    EXPECT_TRUE(unpack(Compression::gzip, test::gzip(bytes), piece) == bytes) << piece;
    EXPECT_TRUE(unpack(Compression::zstd, test::zstd(bytes), piece) == bytes) << piece;
    EXPECT_TRUE(unpack(Compression::none, bytes, piece) == bytes) << piece;
  }
}

TEST(Inflater, SeveralMembersAndFramesAreOneStream) {
  EXPECT_EQ(unpack(Compression::gzip, test::gzip("one ") + test::gzip("") + test::gzip("two")), "one two");
  const std::string skippable = std::string("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
  EXPECT_EQ(unpack(Compression::zstd, skippable + test::zstd("one ") + test::zstd("") + skippable + test::zstd("two")),
            "one two");
}

TEST(Inflater, WhatFollowsTheDataIsAnErrorWithItsPlace) {
  EXPECT_THAT(unpack(Compression::gzip, test::gzip("one") + "junk"),
              HasSubstr("what follows the gzip data is corrupt"));
  EXPECT_THAT(unpack(Compression::zstd, test::zstd("one") + "junkjunk"), HasSubstr("zstd data is corrupt at byte"));
}

TEST(Inflater, EveryCutIsNoticed) {
  const std::string gzip = test::gzip(noise(2000)), zstd = test::zstd(noise(2000));
  for (std::size_t size = 0; size < gzip.size(); size += 13)
    EXPECT_THAT(unpack(Compression::gzip, gzip.substr(0, size)), HasSubstr("gzip data ends early, at byte"));
  for (std::size_t size = 0; size < zstd.size(); size += 13)
    EXPECT_THAT(unpack(Compression::zstd, zstd.substr(0, size)), HasSubstr("zstd data ends early, at byte"));
}

TEST(Inflater, AFlippedBitIsNoticed) {
  std::string packed = test::gzip(noise(2000));
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);
  EXPECT_THAT(unpack(Compression::gzip, packed), HasSubstr("gzip data is corrupt at byte"));
}

TEST(Inflater, AZstdWindowOfTwoGigabytesIsRefused) {
  // Magic, frame header without content size, window descriptor for 2^31, one raw last block of one byte.
  const std::string frame = std::string("\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00x", 10);
  EXPECT_THAT(unpack(Compression::zstd, frame), HasSubstr("wants a window of more than 128 MiB"));
}

TEST(Compression, IsKnownByTheFirstBytes) {
  EXPECT_EQ(detect_compression(test::gzip("x")), Compression::gzip);
  EXPECT_EQ(detect_compression(test::zstd("x")), Compression::zstd);
  EXPECT_EQ(detect_compression(std::string("\x5f\x2a\x4d\x18", 4)), Compression::zstd);
  EXPECT_EQ(detect_compression(test::tar({})), Compression::none);
  EXPECT_EQ(detect_compression(""), Compression::none);
}

TEST(HashingSource, HashesAllBytesWhetherTheyWereReadOrNot) {
  const std::string bytes = noise(300'000);
  Bytes inner(bytes);
  HashingSource source(inner);
  char start[10];

  ASSERT_TRUE(read_full(source, start, sizeof start));
  const auto digest = source.finish();

  ASSERT_TRUE(digest);
  EXPECT_EQ(digest->text(), test::digest(bytes));
  EXPECT_EQ(source.count(), bytes.size());
}

TEST(HashingSource, ALimitStopsTheStream) {
  Bytes inner(noise(300'000));
  HashingSource source(inner, [](std::uint64_t count) -> Result<void> {
    if (count > 100'000) return Error::make(Code::corrupt, "too much");
    return {};
  });

  const auto digest = source.finish();

  ASSERT_FALSE(digest);
  EXPECT_EQ(digest.error().text(), "too much");
}

}  // namespace
}  // namespace skink::image
