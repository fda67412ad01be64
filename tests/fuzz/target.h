// SPDX-License-Identifier: Apache-2.0
// What fuzz targets share. A target is a file with this one function, which libFuzzer calls with inputs of its own
// making (tools/fuzz) and replay.cc with those of corpus/ (the unit tests). It ends by abort() where a promise is
// broken.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "image/source.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
/// libFuzzer's own changes of an input of `size` bytes in a place for `most`; answers the new size.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace skink::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// An unnamed file with these bytes.
inline UniqueFd file_of(std::string_view bytes = {}) {
  UniqueFd file(::memfd_create("fuzz", MFD_CLOEXEC));
  if (!file || ::pwrite(file.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
  return file;
}

/// The promise, where it does not hold: libFuzzer keeps the input.
inline void demand(bool holds, const char* promise, const std::string& why = {}) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s: %s\n", promise, why.c_str());
  std::abort();
}

/// Bytes that are there already.
class Bytes final : public image::ByteSource {
 public:
  explicit Bytes(std::string_view bytes) : left_(bytes) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    const std::size_t count = left_.copy(into, most);
    left_.remove_prefix(count);
    return count;
  }

 private:
  std::string_view left_;
};

}  // namespace skink::fuzz
