// SPDX-License-Identifier: Apache-2.0
// The documents of the OCI image-spec 1.1 and of docker's archive format as plain types, parsed strictly.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink::oci {

/// A sha256 digest. Made only from "sha256:" and 64 lower-case hex digits, so its text can be a file name (attack A67).
class Digest {
 public:
  static Result<Digest> parse(std::string_view text);
  static Digest of_bytes(const std::array<std::uint8_t, 32>& bytes);
  [[nodiscard]] const std::string& hex() const { return hex_; }
  [[nodiscard]] std::string text() const { return "sha256:" + hex_; }
  bool operator==(const Digest&) const = default;
  auto operator<=>(const Digest&) const = default;  // NOLINT(modernize-use-nullptr): a false alarm on <=>

 private:
  std::string hex_;
};

struct Platform {
  std::string os, architecture, variant;
  bool operator==(const Platform&) const = default;
};

/// The platform this program was built for, in the image-spec's words (linux/amd64).
Platform host_platform();
/// "linux/arm64/v8"; the variant may be absent.
Result<Platform> parse_platform(std::string_view text);
std::string to_text(const Platform& platform);
/// How well an image made for `offered` runs where `wanted` is asked for: 0 is exactly that, more is what such a
/// processor runs as well (an older variant: arm/v6 for arm/v7; 386 for amd64, arm for arm64), nothing is not at all.
/// The rules are containerd's. An absent variant means the architecture's usual one (arm64 and arm64/v8 are the same,
/// so are amd64 and amd64/v1, arm and arm/v7).
std::optional<unsigned> rank_of(const Platform& offered, const Platform& wanted);
/// Whether there is a rank.
bool matches(const Platform& offered, const Platform& wanted);

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::int64_t size = 0;
  std::optional<Platform> platform;
  std::map<std::string, std::string> annotations;
};

enum class Compression { none, gzip, zstd };

struct Manifest {
  std::string media_type;  ///< the document's own, or the OCI one when it has none
  Descriptor config;
  std::vector<Descriptor> layers;
  std::map<std::string, std::string> annotations;
};

struct Index {
  std::string media_type;  ///< the document's own, or the OCI one when it has none
  std::vector<Descriptor> manifests;
};

/// The "config" part of an image configuration: what a container of it runs by default.
/// Docker's HEALTHCHECK: {"CMD", program...}, {"CMD-SHELL", words}, {"NONE"} or {} (none is said). Times in
/// nanoseconds, 0: docker's defaults.
struct Healthcheck {
  std::vector<std::string> test;
  std::int64_t interval_ns = 0, timeout_ns = 0, start_period_ns = 0;
  std::int64_t retries = 0;
};

struct ImageRun {
  std::string user;
  std::vector<std::string> exposed_ports;
  std::vector<std::string> env;
  std::optional<std::vector<std::string>> entrypoint, cmd;
  std::vector<std::string> volumes;
  std::string working_dir;
  std::map<std::string, std::string> labels;
  std::string stop_signal;
  Healthcheck healthcheck;
};

struct ImageConfig {
  Platform platform;
  std::string created;  ///< RFC 3339, or empty
  std::string author;
  ImageRun run;
  std::vector<Digest> diff_ids;
};

/// index.json or a nested index; a document that could also be read as a manifest is refused (attack A66).
Result<Index> parse_index(std::string_view json);
/// A manifest of the OCI or docker v2 schema 2 media types, under the same rule. Code::unsupported when it holds an
/// artifact and no runnable image.
Result<Manifest> parse_manifest(std::string_view json);
/// An image configuration; Env entries, types and lengths are checked (attack A77).
Result<ImageConfig> parse_image_config(std::string_view json);

/// One step by which an image was made, oldest first. Those that are not empty made the layers, one each.
struct HistoryEntry {
  std::string created;  ///< RFC 3339, or empty
  std::string created_by, author, comment;
  bool empty_layer = false;
};
/// The history that an image configuration tells, if it does; for people alone.
Result<std::vector<HistoryEntry>> parse_history(std::string_view json);

/// manifest.json of `docker save`: one entry an image.
struct DockerEntry {
  std::string config;
  std::vector<std::string> repo_tags;
  std::vector<std::string> layers;
};
Result<std::vector<DockerEntry>> parse_docker_manifest(std::string_view json);

/// How a layer media type is packed; an unknown or foreign type is an error that names it (A75, A76).
Result<Compression> layer_compression(std::string_view media_type);

bool is_index_type(std::string_view media_type);
bool is_manifest_type(std::string_view media_type);

}  // namespace skink::oci
