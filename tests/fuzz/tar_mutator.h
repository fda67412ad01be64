// SPDX-License-Identifier: Apache-2.0
// Tars whose headers have the right checksum: else nearly every change ends at the first header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "target.h"

namespace skink::fuzz {

inline void sum_headers(std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kBlock = 512, kSumAt = 148, kSumSize = 8, kMagicAt = 257;
  for (std::size_t at = 0; at + kBlock <= size; at += kBlock) {
    std::uint8_t* const block = data + at;
    if (std::memcmp(block + kMagicAt, "ustar", 5) != 0) continue;
    std::memset(block + kSumAt, ' ', kSumSize);
    unsigned sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) sum += block[i];
    char digits[kSumSize];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    std::memcpy(block + kSumAt, digits, 7);
  }
}

}  // namespace skink::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  const std::size_t changed = LLVMFuzzerMutate(data, size, most);
  // Now and then a wrong one is left as it is.
  if (seed % 16 != 0) skink::fuzz::sum_headers(data, changed);
  return changed;
}
