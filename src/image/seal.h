// SPDX-License-Identifier: Apache-2.0
// Seals: what a stored layer is to the last byte, written down when it is finished, so that one that was changed later
// is found out (fault F43). docs/decisions/seals.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "oci/image.h"

namespace skink::image {

/// The names of a seal and of a file's fs-verity digest among a layer's marks.
inline constexpr char kSealFile[] = "seal";
inline constexpr char kVerityFile[] = "verity";

struct Seal {
  oci::Digest layer;                  ///< SHA-256 of the layer's file, or digest_tree() of its directory
  std::optional<oci::Digest> recipe;  ///< of the recipe's bytes, where there is one
};

/// SHA-256 of a file, from its start to its end, by pread(2).
Result<oci::Digest> digest_file(int file_fd, std::string_view what);
/// Of a layer that is a directory: SHA-256 over its tree in the order of names, of each entry name, type, mode, owner,
/// time, extended attributes, links among each other and contents, and over the files that describe it.
Result<oci::Digest> digest_tree(int layer_fd);

/// Of the layer `name` below `dir_fd` with its marks in `marks_fd`. `is_file`: which of the two forms it has.
Result<Seal> seal_of(int dir_fd, const std::string& name, bool is_file, int marks_fd);
Result<void> write_seal(int marks_fd, const Seal& seal);
/// Nothing for a layer that was stored before there were seals.
Result<std::optional<Seal>> read_seal(int marks_fd);

/// Switches fs-verity on for the file `name` below `dir_fd`, which nobody has open for writing: the digest that the
/// kernel measures then, as text. Nothing where the file system or the kernel has none: Documentation/filesystems/
/// fsverity.rst.
Result<std::optional<std::string>> enable_verity(int dir_fd, const std::string& name);
/// The digest of a file that has fs-verity; nothing for one without.
Result<std::optional<std::string>> measure_verity(int file_fd);
/// The digest that was written down when the layer was stored, if one was. One system call for a layer without.
Result<std::optional<std::string>> recorded_verity(int store_fd, const std::string& hex);
/// Refuses (corrupt) a file whose measured digest is not `recorded`.
Result<void> check_verity(int file_fd, const std::string& recorded);

}  // namespace skink::image
