// SPDX-License-Identifier: Apache-2.0
// Archive: the outer tar of an oci-archive or docker-archive, read where it lies. Nothing of it is ever extracted.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/source.h"

namespace skink::image {

class Archive {
 public:
  /// Opens `file` ("-" is standard input) and indexes its members. What cannot be read twice (a pipe) or is packed
  /// itself (gzip, zstd) is first written to an unnamed file in `spool_fd`.
  static Result<Archive> open(const std::string& file, int spool_fd);

  /// The descriptor that the sources of open_member() read.
  [[nodiscard]] int fd() const { return file_.get(); }
  [[nodiscard]] bool contains(const std::string& name) const { return members_.contains(name); }
  /// The size of a regular member; names are normalised. Links between members are followed by name only (A06).
  Result<std::uint64_t> size_of(std::string_view name) const;
  /// How a member is packed, by its first bytes.
  Result<oci::Compression> compression_of(std::string_view name) const;
  /// A small member whole.
  Result<std::string> read(std::string_view name, std::size_t most) const;
  /// A member's bytes; the archive must outlive it.
  Result<std::unique_ptr<ByteSource>> open_member(std::string_view name) const;

 private:
  struct Member {
    enum class Kind { file, symlink, refused } kind = Kind::file;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::string target;  // of a symlink, normalised
  };
  explicit Archive(UniqueFd file) : file_(std::move(file)) {}
  Result<void> index(std::uint64_t size);
  Result<const Member*> find(std::string_view name) const;

  UniqueFd file_;
  std::map<std::string, Member> members_;
};

}  // namespace skink::image
