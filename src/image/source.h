// SPDX-License-Identifier: Apache-2.0
// ByteSource: bytes that come once, front to back: a part of a file, what it unpacks to, and their digests on the way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "oci/image.h"

namespace skink::image {

class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;
  /// Up to `most` (at least 1) bytes into `into`; 0 is the end, for good.
  virtual Result<std::size_t> read(char* into, std::size_t most) = 0;
  /// Passes over `count` bytes; an end before that is an error.
  virtual Result<void> skip(std::uint64_t count);
};

/// Reads until `most` bytes are there or the source ends; answers how many came.
Result<std::size_t> read_full(ByteSource& source, char* into, std::size_t most);

/// `size` bytes of a file from `offset` on, by pread. A file that ends before that is corrupt (truncated).
class FileSource final : public ByteSource {
 public:
  FileSource(int file_fd, std::uint64_t offset, std::uint64_t size) : fd_(file_fd), at_(offset), end_(offset + size) {}
  Result<std::size_t> read(char* into, std::size_t most) override;
  Result<void> skip(std::uint64_t count) override;

 private:
  int fd_;  // borrowed from the archive, which outlives its sources
  std::uint64_t at_;
  std::uint64_t end_;
};

/// What a descriptor (a pipe, a terminal) gives.
class StreamSource final : public ByteSource {
 public:
  explicit StreamSource(int stream_fd) : fd_(stream_fd) {}
  Result<std::size_t> read(char* into, std::size_t most) override;

 private:
  int fd_;
};

/// Passes bytes through a buffer and counts and hashes them. `check` sees the count after each piece, before the bytes
/// are handed on: the place for limits.
class HashingSource final : public ByteSource {
 public:
  using Check = std::function<Result<void>(std::uint64_t count)>;
  explicit HashingSource(ByteSource& inner, Check check = {}) : inner_(inner), check_(std::move(check)) {}
  Result<std::size_t> read(char* into, std::size_t most) override;
  [[nodiscard]] std::uint64_t count() const { return count_; }
  /// Reads what is left, then gives the digest of all bytes.
  Result<oci::Digest> finish();

 private:
  Result<std::size_t> pull(char* into, std::size_t most);
  ByteSource& inner_;
  Check check_;
  Sha256 hash_;
  std::uint64_t count_ = 0;
  std::vector<char> buffer_;
  std::size_t next_ = 0;
  std::size_t filled_ = 0;
};

/// Counts what passes.
class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(ByteSource& inner) : inner_(inner) {}
  Result<std::size_t> read(char* into, std::size_t most) override;
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  ByteSource& inner_;
  std::uint64_t count_ = 0;
};

class WindowRoom;

/// Unpacks `packed`: any number of gzip members or zstd frames one after the other (as their specifications have it),
/// anything else behind them is an error. For Compression::none it passes the bytes on. `room` is for large windows;
/// without one they are memory as everything else.
Result<std::unique_ptr<ByteSource>> make_inflater(oci::Compression compression, ByteSource& packed,
                                                  WindowRoom* room = nullptr);

/// The same, where the first bytes say how they are packed.
Result<std::unique_ptr<ByteSource>> detect_and_inflate(ByteSource& packed, WindowRoom* room = nullptr);

/// How bytes are packed, from the first few of them.
oci::Compression detect_compression(std::string_view start);

}  // namespace skink::image
