// SPDX-License-Identifier: Apache-2.0
#include "supervise/packed_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "supervise/log_reader.h"
#include "temp_dir.h"

namespace skink::supervise {
namespace {

class PackedLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
    spool_ = Spool::open(dir_.fd()).value();
  }
  // `count` lines, each of 16 bytes, on standard output; what they are is known by their number.
  void say(int count) {
    for (int i = 0; i < count; ++i) {
      std::string line = str("line ", 1'000'000'000 + number_++);
      line.resize(15, '.');
      line += '\n';
      written_ += line;
      ASSERT_TRUE(sys::write_all(write_.get(), line, "pipe"));
      if (i % 1000 == 999) pump();
    }
    pump();
  }
  void pump() { ASSERT_TRUE(spool_->pump(Stream::out, read_.get(), true)); }
  void pack(std::uint64_t from, std::uint64_t to) {
    ASSERT_TRUE(pack_log(dir_.fd(), Stream::out, from, to));
    spool_->give_back(Stream::out, to);
  }
  static std::string all_of(LogReader& reader) {
    std::string text;
    while (const auto piece = reader.next().value()) text += piece->bytes;
    return text;
  }
  TempDir dir_;
  UniqueFd read_, write_;
  std::optional<Spool> spool_;
  std::string written_;
  int number_ = 0;
};

TEST_F(PackedLogTest, WhatWasPackedIsReadAsIfItHadNotBeen) {
  say(40'000);
  pack(0, 4096 * 50);
  pack(4096 * 50, 4096 * 100);
  say(100);

  auto reader = LogReader::open(dir_.fd()).value();
  EXPECT_EQ(all_of(reader), written_);
}

TEST_F(PackedLogTest, TheTailMayBeginInAPackedPart) {
  say(40'000);
  pack(0, 4096 * 150);

  auto reader = LogReader::open(dir_.fd()).value();
  ASSERT_TRUE(reader.skip_to_tail(30'000, true, true, false));
  EXPECT_EQ(all_of(reader), written_.substr(10'000 * 16));
}

TEST_F(PackedLogTest, AReaderThatIsOpenFindsWhatIsPackedMeanwhile) {
  say(10'000);
  auto reader = LogReader::open(dir_.fd()).value();
  std::string text(reader.next().value()->bytes);
  pack(0, 4096 * 39);

  EXPECT_EQ(text + all_of(reader), written_);
}

TEST_F(PackedLogTest, PartsThatAreGoneAreSkippedToTheNextByteThatIsThere) {
  say(10'000);
  pack(0, 4096);
  pack(4096, 8192);
  auto reader = LogReader::open(dir_.fd()).value();
  ASSERT_EQ(::unlinkat(dir_.fd(), list_packed(dir_.fd(), Stream::out).front().name.c_str(), 0), 0);

  // Whether a line begins right there cannot be known any more.
  const std::string rest = written_.substr(written_.find('\n', 4096) + 1);
  EXPECT_TRUE(all_of(reader) == rest);
  auto later = LogReader::open(dir_.fd()).value();
  EXPECT_TRUE(all_of(later) == rest);
}

TEST_F(PackedLogTest, BytesThatDoNotGetSmallerComeBackToo) {
  std::uint32_t state = 1;
  std::string noise;
  for (int i = 0; i < 200'000; ++i) noise += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  const UniqueFd file(::openat(dir_.fd(), kStreamFiles[0], O_WRONLY));
  ASSERT_TRUE(sys::write_all(file.get(), noise, "log"));
  ASSERT_TRUE(pack_log(dir_.fd(), Stream::out, 10, noise.size()));

  auto reader = PackedReader::open(dir_.fd(), list_packed(dir_.fd(), Stream::out).front()).value();
  std::string text;
  while (text.size() + 10 < noise.size()) text += reader.read(10 + text.size()).value();
  EXPECT_EQ(text, noise.substr(10));
}

TEST_F(PackedLogTest, DamageIsAnErrorThatNamesThePart) {
  say(10'000);
  pack(0, 4096 * 30);
  const std::string name = list_packed(dir_.fd(), Stream::out).front().name;
  const UniqueFd file(::openat(dir_.fd(), name.c_str(), O_RDWR));
  for (const off_t at : {0, 17, 200}) {
    char byte = 0;
    ASSERT_EQ(::pread(file.get(), &byte, 1, at), 1);
    const auto other = static_cast<char>(byte ^ 0x55);
    ASSERT_EQ(::pwrite(file.get(), &other, 1, at), 1);

    auto reader = PackedReader::open(dir_.fd(), list_packed(dir_.fd(), Stream::out).front()).value();
    const auto bytes = reader.read(0);
    EXPECT_FALSE(bytes.has_value());
    EXPECT_NE(bytes.error().text().find(name), std::string::npos) << bytes.error().text();

    ASSERT_EQ(::pwrite(file.get(), &byte, 1, at), 1);
  }
}

TEST_F(PackedLogTest, NothingIsKeptOfWhatNobodyWants) {
  say(1'000);
  ASSERT_TRUE(spool_->keep(false));
  say(1'000);
  ASSERT_TRUE(spool_->keep(true));
  const std::size_t before = written_.size();
  say(10);

  auto reader = LogReader::open(dir_.fd()).value();
  // Whether a line begins there cannot be known any more.
  EXPECT_EQ(all_of(reader), written_.substr(written_.find('\n', before) + 1));
}

}  // namespace
}  // namespace skink::supervise
