// SPDX-License-Identifier: Apache-2.0
// The index of an outer archive: a confined process unpacks what is packed as a whole and walks the tar; this one
// learns which members lie where, and believes no number that does not fit the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/source.h"

namespace skink::image {

struct ArchiveMember {
  enum class Kind : char { file = 'f', symlink = 'l', refused = 'x' } kind = Kind::file;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::string target;  ///< of a symlink, normalised
};
/// By normalised name.
using ArchiveIndex = std::map<std::string, ArchiveMember>;

struct IndexedArchive {
  UniqueFd file;  ///< what the offsets count in: the input, or the unnamed file that it was written to
  ArchiveIndex members;
};

/// Indexes what `input` reads. What cannot be read twice (a pipe) or is packed itself (gzip, zstd) is first written to
/// an unnamed file in `spool_fd`.
Result<IndexedArchive> index_archive(UniqueFd input, int spool_fd);

/// The steps of the confined process and of this one, apart for the tests and the fuzzer.
Result<std::string> describe_members(ByteSource& tar);
Result<ArchiveIndex> parse_members(std::string_view description, std::uint64_t file_size);

}  // namespace skink::image
