// SPDX-License-Identifier: Apache-2.0
// Makers of tar files and image archives for tests, right ones and ones that lie.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "oci/json.h"

namespace skink::image::test {

/// One tar entry; every field can be wrong.
struct TarSpec {
  char type = '0';
  std::string name;
  std::string data{};
  std::string link{};
  unsigned mode = 0644;
  std::uint32_t uid = 0, gid = 0;
  std::int64_t mtime = 1'000'000'000;
  std::uint32_t major = 0, minor = 0;
  std::vector<std::pair<std::string, std::string>> pax{};  ///< a pax header in front
  std::string size_field{};                                ///< octal text instead of data.size()
  bool bad_checksum = false;
};

TarSpec file(std::string name, std::string data = "");
TarSpec directory(std::string name, unsigned mode = 0755);
TarSpec symlink(std::string name, std::string target);
TarSpec hardlink(std::string name, std::string target);

/// The entry's blocks: pax header, header, data.
std::string tar_entry(const TarSpec& spec);
/// A whole tar, with its end.
std::string tar(const std::vector<TarSpec>& entries);
std::string pax_record(const std::string& key, const std::string& value);

std::string gzip(const std::string& bytes);
std::string zstd(const std::string& bytes);
std::string digest(const std::string& bytes);  ///< "sha256:HEX"

/// An oci-archive of one image, whose documents a test can change before each is hashed into the next.
struct ImageSpec {
  std::vector<std::string> layers{};  ///< uncompressed tars, bottom first
  std::string packing = "gzip";       ///< gzip, zstd or none
  std::string ref_name{};
  std::string architecture{};  ///< default: the host's
  std::function<void(oci::Json&)> change_config{}, change_manifest{}, change_index{};
  std::function<std::string(std::string)> change_blob{};  ///< of each packed layer, after its digest was taken
};
/// Blobs and index of the image as entries of an outer tar.
std::vector<TarSpec> oci_members(const ImageSpec& spec);
std::string oci_archive(const ImageSpec& spec);
/// The same as `docker save` of old wrote it: CONFIG.json, N/layer.tar, manifest.json.
std::vector<TarSpec> docker_members(const ImageSpec& spec, const std::vector<std::string>& tags);
std::string docker_archive(const ImageSpec& spec, const std::vector<std::string>& tags);

}  // namespace skink::image::test
