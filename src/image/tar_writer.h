// SPDX-License-Identifier: Apache-2.0
// TarWriter: the outer tar of an archive that skink writes, plain ustar with GNU's numbers for large members.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skink::image {

class TarWriter {
 public:
  /// `out_fd` is borrowed: a file or a pipe.
  explicit TarWriter(int out_fd) : fd_(out_fd) {}
  Result<void> directory(const std::string& name);
  Result<void> file(const std::string& name, std::string_view bytes);
  /// A member in pieces: exactly `size` bytes by write(), then end().
  Result<void> begin(const std::string& name, std::uint64_t size);
  Result<void> write(std::string_view bytes);
  Result<void> end();
  /// The end of the archive.
  Result<void> finish();

 private:
  Result<void> header(const std::string& name, char type, std::uint64_t size);
  int fd_;
  std::uint64_t left_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace skink::image
