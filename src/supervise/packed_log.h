// SPDX-License-Identifier: Apache-2.0
// PackedLog: parts of a spooled stream that were compressed and taken out of the spool. Offsets stay those of the
// spool, whose index tells of these bytes too. A part is a file log.stdout.FROM-TO.gz: gzip in members of kPackedBlock
// bytes, each of which says how long it is (BGZF, of the SAM specification), so that any byte is near; zcat reads it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervise/spool.h"

namespace skink::supervise {

inline constexpr std::size_t kPackedBlock = 0xff00;

struct PackedPart {
  std::uint64_t from = 0, to = 0;
  std::string name;
};
/// Those of one stream, the oldest first.
std::vector<PackedPart> list_packed(int dir_fd, Stream stream);

/// Compresses a part of the spool. It is there whole or not at all, and on disk before this returns; nothing of the
/// spool is changed.
Result<void> pack_log(int dir_fd, Stream stream, std::uint64_t from, std::uint64_t to);
/// Removes what a pack_log() that was killed has left. Not while another one runs.
void sweep_packing(int dir_fd);

/// One part, open.
class PackedReader {
 public:
  static Result<PackedReader> open(int dir_fd, const PackedPart& part);
  /// Bytes from `from` on, within the part; as many as its block has, valid until the next call.
  Result<std::string_view> read(std::uint64_t from);
  [[nodiscard]] bool covers(std::uint64_t offset) const { return offset >= part_.from && offset < part_.to; }

 private:
  Result<void> load(std::size_t block);

  PackedPart part_;
  UniqueFd file_;
  std::vector<std::uint64_t> blocks_;  // where each that was seen begins in the file
  std::size_t loaded_ = ~std::size_t{0};
  std::string packed_, bytes_;
};

}  // namespace skink::supervise
