// SPDX-License-Identifier: Apache-2.0
// TarReader: one strict, streaming reader of ustar, pax and GNU tar. What archivers disagree about is refused.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "image/source.h"

namespace skink::image {

enum class TarType { file, hardlink, symlink, directory, fifo, char_device, block_device };

struct TarEntry {
  TarType type = TarType::file;
  std::string name;  ///< bytes as they stand, no NUL, at most 4096
  std::string link;  ///< of a hard or symbolic link
  mode_t mode = 0;   ///< permission bits with set-id and sticky
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint64_t size = 0;  ///< bytes of data that follow; 0 for all but files
  std::uint64_t major = 0;
  std::uint64_t minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;  ///< SCHILY.xattr.* of the pax header, and its SCHILY.acl.*
  std::uint64_t data_offset = 0;                            ///< where the data begins in the source
};

/// Bytes are never converted (no locale, no iconv: attack A07), stacks of extended headers that readers make different
/// entries of are refused (A72), every number is checked, and there are limits on names, extended headers and their
/// nesting (A71-A73).
class TarReader {
 public:
  explicit TarReader(ByteSource& source) : source_(source) {}
  /// The next entry, or false at the end of the archive. Data of the entry before that was not read is passed over.
  Result<bool> next(TarEntry& entry);
  /// Data of the current entry; 0 at its end.
  Result<std::size_t> read(char* into, std::size_t most);
  /// How far the source was read.
  [[nodiscard]] std::uint64_t offset() const { return offset_; }

 private:
  struct Header;
  struct Overrides;
  Result<bool> read_block(char* block);
  Result<bool> read_header(Header& header);
  Result<std::string> read_meta(const Header& header, std::size_t most);
  Result<void> check_stack(char type, const Overrides& overrides) const;
  Result<void> apply_meta(const Header& header, Overrides& overrides);
  Result<bool> read_headers(Header& header, Overrides& overrides);
  Result<void> fill_names(const Header& header, Overrides& overrides, TarEntry& entry);
  Result<void> fill_size(const Header& header, const Overrides& overrides, TarEntry& entry) const;
  Result<void> fill(const Header& header, Overrides& overrides, TarEntry& entry);
  std::string place() const;
  Error corrupt(std::string_view why) const;
  Error not_a_tar(std::string_view start, std::string_view why) const;

  ByteSource& source_;
  std::uint64_t offset_ = 0;
  std::uint64_t header_at_ = 0;
  std::uint64_t data_left_ = 0;
  std::uint64_t padding_ = 0;
  bool is_pax_ = false;           // the archive has pax headers
  std::string name_;              // of the last entry, for errors
  bool name_is_its_own_ = false;  // that of the header which is looked at, not of the entry before it
};

}  // namespace skink::image
