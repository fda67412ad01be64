// SPDX-License-Identifier: Apache-2.0
// Archive: an oci-archive or docker-archive, or a directory with an OCI layout, read where it lies. Nothing of it is
// ever extracted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/archive_index.h"
#include "image/source.h"

namespace skink::image {

/// A regular member: a piece of a file.
struct Part {
  UniqueFd own;  ///< the file of a directory; of a tar, the archive keeps it
  int fd = -1;   ///< open for reading only
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  [[nodiscard]] FileSource source() const { return FileSource(fd, offset, size); }
};

class Archive {
 public:
  /// Opens `file` ("-" is standard input, a directory is one with an OCI layout) and indexes its members. What cannot
  /// be read twice (a pipe) or is packed itself (gzip, zstd) is first written to an unnamed file in `spool_fd`.
  static Result<Archive> open(const std::string& file, int spool_fd);

  [[nodiscard]] bool contains(const std::string& name) const;
  /// The size of a regular member; names are normalised. Links between members of a tar are followed by name only,
  /// links in a directory not at all (A06).
  Result<std::uint64_t> size_of(std::string_view name) const { return TRY(open_member(name)).size; }
  /// How a member is packed, by its first bytes.
  Result<oci::Compression> compression_of(std::string_view name) const;
  /// A small member whole.
  Result<std::string> read(std::string_view name, std::size_t most) const;
  /// Where a member's bytes are; the archive must outlive it.
  Result<Part> open_member(std::string_view name) const;

 private:
  Archive() = default;
  Result<const ArchiveMember*> find(std::string_view name) const;
  Result<Part> open_file(std::string_view name) const;

  UniqueFd directory_;  // of a layout that is one; else
  UniqueFd file_;
  ArchiveIndex members_;
};

}  // namespace skink::image
