// SPDX-License-Identifier: Apache-2.0
// Sha256: FIPS 180-4, by nettle (which uses the CPU's SHA instructions).
#pragma once

#include <nettle/sha2.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace skink {

class Sha256 {
 public:
  using Bytes = std::array<std::uint8_t, SHA256_DIGEST_SIZE>;
  Sha256() { sha256_init(&context_); }
  void update(std::string_view bytes) {
    sha256_update(&context_, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  }
  /// The digest of all bytes so far; the object starts anew.
  Bytes finish() {
    Bytes digest{};
    sha256_digest(&context_, digest.size(), digest.data());
    return digest;
  }
  static Bytes of(std::string_view bytes) {
    Sha256 hash;
    hash.update(bytes);
    return hash.finish();
  }

 private:
  sha256_ctx context_{};
};

}  // namespace skink
