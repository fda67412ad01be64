// SPDX-License-Identifier: Apache-2.0
#include "supervise/spool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "supervise/log_reader.h"
#include "temp_dir.h"

namespace skink::supervise {
namespace {

class SpoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
  }
  void say(Spool& spool, Stream stream, std::string_view text) {
    ASSERT_TRUE(sys::write_all(write_.get(), text, "pipe"));
    ASSERT_EQ(spool.pump(stream, read_.get(), true).value(), text.size());
  }
  static std::string all_of(LogReader& reader) {
    std::string text;
    while (const auto piece = reader.next().value())
      text += str(piece->stream == Stream::out ? "o:" : "e:", piece->bytes);
    return text;
  }
  std::string all() {
    auto reader = LogReader::open(dir_.fd()).value();
    return all_of(reader);
  }
  std::string tail(std::uint64_t lines) {
    auto reader = LogReader::open(dir_.fd()).value();
    EXPECT_TRUE(reader.skip_to_tail(lines, true, true));
    return all_of(reader);
  }
  TempDir dir_;
  UniqueFd read_, write_;
};

TEST_F(SpoolTest, BothStreamsComeBackInTheOrderInWhichTheyCame) {
  auto spool = Spool::open(dir_.fd()).value();

  say(spool, Stream::out, "one\n");
  say(spool, Stream::err, "two\n");
  say(spool, Stream::out, "three\n");

  EXPECT_EQ(all(), "o:one\ne:two\no:three\n");
}

TEST_F(SpoolTest, AnEmptyPipeMovesNothing) {
  auto spool = Spool::open(dir_.fd()).value();

  EXPECT_EQ(spool.pump(Stream::out, read_.get(), true).value(), 0U);
}

TEST_F(SpoolTest, ASuccessorGoesOnWhereTheLastOneWasKilled) {
  {
    auto spool = Spool::open(dir_.fd()).value();
    say(spool, Stream::out, "one\n");
  }
  auto spool = Spool::open(dir_.fd()).value();

  say(spool, Stream::out, "two\n");

  EXPECT_EQ(all(), "o:one\no:two\n");
}

TEST_F(SpoolTest, BytesThatWereMovedButNotNotedGetTheirEntry) {
  {
    auto spool = Spool::open(dir_.fd()).value();
    say(spool, Stream::out, "one\n");
  }
  const auto file = sys::open_at(dir_.fd(), kStreamFiles[0], O_WRONLY | O_APPEND).value();
  ASSERT_TRUE(sys::write_all(file.get(), "moved\n", "stdout"));

  auto spool = Spool::open(dir_.fd()).value();

  EXPECT_EQ(all(), "o:one\no:moved\n");
}

TEST_F(SpoolTest, ATornEntryAtTheEndIsOverwritten) {
  {
    auto spool = Spool::open(dir_.fd()).value();
    say(spool, Stream::out, "one\n");
  }
  const auto file = sys::open_at(dir_.fd(), kIndexFile, O_WRONLY | O_APPEND).value();
  ASSERT_TRUE(sys::write_all(file.get(), "torn", "index"));

  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "two\n");

  EXPECT_EQ(all(), "o:one\no:two\n");
}

TEST_F(SpoolTest, BinaryBytesAreKept) {
  auto spool = Spool::open(dir_.fd()).value();
  const std::string bytes("\0\x01\xff\n\0", 5);

  say(spool, Stream::out, bytes);

  EXPECT_EQ(all(), "o:" + bytes);
}

TEST_F(SpoolTest, TailCountsLinesOverBothStreams) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "1\n2\n");
  say(spool, Stream::err, "3\n");
  say(spool, Stream::out, "4\n5\n");

  EXPECT_EQ(tail(1), "o:5\n");
  EXPECT_EQ(tail(2), "o:4\n5\n");
  EXPECT_EQ(tail(3), "e:3\no:4\n5\n");
  EXPECT_EQ(tail(4), "o:2\ne:3\no:4\n5\n");
  EXPECT_EQ(tail(99), "o:1\n2\ne:3\no:4\n5\n");
  EXPECT_EQ(tail(0), "");
}

TEST_F(SpoolTest, ALastLineWithoutNewlineIsALine) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "1\n2");

  EXPECT_EQ(tail(1), "o:2");
}

TEST_F(SpoolTest, OldBytesAreGivenBackAndTheRestStaysReadable) {
  auto spool = Spool::open(dir_.fd()).value();
  spool.set_limit(1 << 20);
  const std::string line(60000, 'x');
  for (int i = 0; i < 200; ++i) say(spool, Stream::out, line);

  const auto status = sys::stat_at(dir_.fd(), kStreamFiles[0], 0).value();

  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), 200 * line.size());
  EXPECT_LT(status.st_blocks * 512, 6 << 20);
  EXPECT_GE(all().size(), std::size_t{1} << 20);
}

TEST_F(SpoolTest, TheIndexIsBoundedWithTheStreamsAndNoByteIsLostByThat) {
  auto spool = Spool::open(dir_.fd()).value();
  spool.set_limit(64 << 10);
  std::string said;
  for (int i = 0; i < 30000; ++i) {
    said += static_cast<char>('a' + i % 26);
    say(spool, Stream::out, std::string_view(said).substr(said.size() - 1));
  }

  const auto status = sys::stat_at(dir_.fd(), kIndexFile, 0).value();

  EXPECT_LE(status.st_blocks * 512, (256 + 64 + 8) << 10);
  auto reader = LogReader::open(dir_.fd()).value();
  std::string text;
  while (const auto piece = reader.next().value()) text += piece->bytes;
  EXPECT_EQ(text, said);
}

TEST_F(SpoolTest, WhatIsKeptOnlyForAWhileComesWithoutHolesBetween) {
  auto spool = Spool::open(dir_.fd()).value();
  ASSERT_TRUE(spool.keep(false));
  for (const std::string_view line : {"one\n", "two\n", "three\n"}) {
    ASSERT_TRUE(spool.keep(true));
    auto reader = LogReader::open(dir_.fd()).value();
    ASSERT_TRUE(reader.skip_to_end());

    say(spool, Stream::out, line);

    EXPECT_EQ(all_of(reader), str("o:", line));
    ASSERT_TRUE(spool.keep(false));
    EXPECT_EQ(sys::stat_at(dir_.fd(), kStreamFiles[0], 0).value().st_blocks, 0);
  }
}

TEST_F(SpoolTest, WhoWantsToReadMakesTheFilesAndWritesNothing) {
  ASSERT_TRUE(Spool::make(dir_.fd()));
  const auto file = sys::open_at(dir_.fd(), kStreamFiles[0], O_WRONLY).value();
  ASSERT_TRUE(sys::write_all(file.get(), "moved\n", "stdout"));  // by a supervisor that has not noted it yet

  ASSERT_TRUE(Spool::make(dir_.fd()));

  EXPECT_EQ(sys::stat_at(dir_.fd(), kIndexFile, 0).value().st_size, 0);
  EXPECT_EQ(sys::stat_at(dir_.fd(), kStreamFiles[0], 0).value().st_size, 6);
}

TEST_F(SpoolTest, AFullDiskDropsBytesMarksTheGapAndGoesOn) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "kept\n");
  // The file size limit stands for a disk that is full: both are an error of the write.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = ::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 5;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  ASSERT_TRUE(sys::write_all(write_.get(), "lost\n", "pipe"));
  EXPECT_TRUE(spool.pump(Stream::out, read_.get(), true));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, ignored);

  say(spool, Stream::out, "again\n");

  auto reader = LogReader::open(dir_.fd()).value();
  std::uint64_t missing = 0;
  std::string text;
  while (const auto piece = reader.next().value()) {
    missing += piece->missing;
    text += piece->bytes;
  }
  EXPECT_EQ(missing, 5U);
  EXPECT_EQ(text, "kept\nagain\n");
}

}  // namespace
}  // namespace skink::supervise
