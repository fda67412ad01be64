// SPDX-License-Identifier: Apache-2.0
#include "supervise/spool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "supervise/log_reader.h"
#include "temp_dir.h"

namespace skink::supervise {
namespace {

class SpoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);  // it waits, as a container's does
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
    EXPECT_TRUE(reader.skip_to_tail(lines, true, true, false));
    return all_of(reader);
  }
  // Says something while no file may grow beyond `limit`, which stands for a disk that is full: both are an error of
  // the write.
  void say_in_vain(Spool& spool, rlim_t limit, std::string_view text) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto ignored = ::signal(SIGXFSZ, SIG_IGN);
    rlimit tight = before;
    tight.rlim_cur = limit;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
    say(spool, Stream::out, text);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    ::signal(SIGXFSZ, ignored);
  }
  // Pieces, a gap as <BYTES>.
  static std::vector<std::string> pieces_of(LogReader& reader) {
    std::vector<std::string> pieces;
    while (const auto piece = reader.next().value())
      pieces.push_back(piece->missing == 0 ? std::string(piece->bytes) : str('<', piece->missing, '>'));
    return pieces;
  }
  TempDir dir_;
  UniqueFd read_, write_;
};

using Pieces = std::vector<std::string>;

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

TEST_F(SpoolTest, AStreamThatWasSilentForLongGetsItsEntryTooAndNothingIsDoubled) {
  const auto other_lines = [this](Spool& spool) {
    std::string said;
    for (int i = 0; i < 5000; ++i) {
      say(spool, Stream::out, "x\n");
      said += "o:x\n";
    }
    return said;
  };
  std::string expected = "e:before\n";
  {
    auto spool = Spool::open(dir_.fd()).value();
    say(spool, Stream::err, "before\n");
    expected += other_lines(spool);
  }
  {
    auto nothing_moved = Spool::open(dir_.fd()).value();
    expected += other_lines(nothing_moved);
  }
  const auto file = sys::open_at(dir_.fd(), kStreamFiles[1], O_WRONLY | O_APPEND).value();
  ASSERT_TRUE(sys::write_all(file.get(), "moved\n", "stderr"));

  auto spool = Spool::open(dir_.fd()).value();

  EXPECT_EQ(all(), expected + "e:moved\n");
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
  say_in_vain(spool, 5, "lost\n");

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

TEST_F(SpoolTest, WhatComesBehindAGapBeginsALine) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "kept\nha");
  say_in_vain(spool, 7, "lf\nlost");

  say(spool, Stream::out, "rest\nagain\n");

  auto reader = LogReader::open(dir_.fd()).value();
  EXPECT_EQ(pieces_of(reader), (Pieces{"kept\nha", "<12>", "again\n"}));
}

TEST_F(SpoolTest, AGapStandsWhereItIsThoughItCouldNotBeWrittenDownAtOnce) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "12345678901234567890123456789012\n");
  say_in_vain(spool, 33, "lost\n");  // there is no room in the index either
  say_in_vain(spool, 60, "fits, but behind a gap\n");

  say(spool, Stream::out, "again\n");

  auto reader = LogReader::open(dir_.fd()).value();
  EXPECT_EQ(pieces_of(reader), (Pieces{"12345678901234567890123456789012\n", "<28>", "again\n"}));
}

int gap_fd = -1;
std::uint64_t counted = 0;

// By the signal that each write beyond the limit causes, the last one of them as the index is tried again at the end.
TEST_F(SpoolTest, WhatIsDroppedIsCountedAtEachStep) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "12345678901234567890123456789012\n");
  say(spool, Stream::out, "12345678901234567890123456789012\n");
  const UniqueFd gap = sys::open_at(dir_.fd(), kGapFile, O_RDONLY).value();
  gap_fd = gap.get();
  const std::string lost(40000, 'x');
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto was = ::signal(SIGXFSZ, [](int) { (void)!::pread(gap_fd, &counted, sizeof counted, 0); });
  rlimit tight = before;
  tight.rlim_cur = 48;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  say(spool, Stream::out, lost);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, was);

  EXPECT_EQ(counted, lost.size());
}

TEST_F(SpoolTest, WhoReadsAtTheEdgeOfAGapGetsTheNextWholeLineToo) {
  auto spool = Spool::open(dir_.fd()).value();
  const std::string kept(200, 'x');
  say(spool, Stream::out, kept);
  auto reader = LogReader::open(dir_.fd()).value();
  say_in_vain(spool, 200, "lost");
  say_in_vain(spool, 200, "more");

  EXPECT_EQ(pieces_of(reader), (Pieces{kept, "<8>"}));

  say(spool, Stream::out, "rest\nagain\n");
  EXPECT_EQ(pieces_of(reader), (Pieces{"<5>", "again\n"}));
}

TEST_F(SpoolTest, WhoIsOutrunIsToldSoAndGoesOnWithAWholeLine) {
  auto spool = Spool::open(dir_.fd()).value();
  spool.set_limit(64 << 10);
  auto reader = LogReader::open(dir_.fd()).value();
  const std::string line(1000, 'x');
  std::uint64_t said = 0, read = 0;
  for (int i = 0; i < 500; ++i) {
    say(spool, Stream::out, str(i, line, '\n'));
    said += str(i, line, '\n').size();
    if (i == 3) read += reader.next().value()->bytes.size();
  }

  auto gap = reader.next().value();

  ASSERT_TRUE(gap.has_value());
  EXPECT_GT(gap->missing, 0U);
  EXPECT_EQ(gap->loss, Loss::outrun);
  read += gap->missing;
  std::string text;
  while (const auto piece = reader.next().value()) text += piece->bytes;
  EXPECT_EQ(read + text.size(), said);
  EXPECT_EQ(text.substr(3, 1001), line + "\n") << "it begins in mid-line";
}

TEST_F(SpoolTest, TailCountsWhatHasNoEntryYetOnlyIfItIsToBeShown) {
  auto spool = Spool::open(dir_.fd()).value();
  say(spool, Stream::out, "1\n2\n");
  const auto file = sys::open_at(dir_.fd(), kStreamFiles[0], O_WRONLY | O_APPEND).value();
  ASSERT_TRUE(sys::write_all(file.get(), "3\n4\n", "stdout"));  // there was no room for the entry
  auto reader = LogReader::open(dir_.fd()).value();

  ASSERT_TRUE(reader.skip_to_tail(1, true, true, true));

  EXPECT_EQ(pieces_of(reader), Pieces{});
  EXPECT_EQ(reader.rest().value()->bytes, "4\n");
  EXPECT_EQ(tail(1), "o:2\n");
}

}  // namespace
}  // namespace skink::supervise
