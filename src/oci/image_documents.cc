// SPDX-License-Identifier: Apache-2.0
// Indexes, manifests and docker's manifest.json, each read strictly as what it is asked to be.
#include "base/text.h"
#include "oci/image.h"
#include "oci/reader.h"

namespace skink::oci {
namespace {

/// Descriptors of one document: more is an attack on whoever walks them (A69).
constexpr std::size_t kMostDescriptors = 1000;
constexpr int kSchemaVersion = 2;

struct IndexDocument {
  Index index;
};
struct ManifestDocument {
  Manifest manifest;
};

/// Two kinds of reader must never see two documents in one (CVE-2021-41190, attack A66): a member that belongs to the
/// other kind is refused, whatever it holds.
void refuse_members(Reader& io, std::string_view kind, std::initializer_list<std::string_view> foreign) {
  for (const std::string_view key : foreign)
    if (io.has(key)) io.fail(str("is no ", kind, ": it has ", quoted(key), " as well"));
}

void read_version(Reader& io) {
  int version = kSchemaVersion;
  io.may("schemaVersion", version, Range<int>{kSchemaVersion, kSchemaVersion});
}

void read_media_type(Reader& io, std::string& type, std::string_view otherwise, bool (*known)(std::string_view),
                     std::string_view kind) {
  type = otherwise;
  io.may("mediaType", type);
  if (!known(type)) io.fail(str("says that it is ", brief(type), ", not ", kind));
}

template <typename T>
void cap(Reader& io, std::string_view key, const std::vector<T>& list) {
  if (list.size() > kMostDescriptors)
    io.fail(str("has ", list.size(), " entries in ", quoted(key), "; at most ", kMostDescriptors, " are read"));
}

template <typename T>
Result<T> read_image_document(std::string_view text) {
  auto document = read_document<T>(text, kDocumentLimit);
  if (!document && document.error().code() == Code::invalid_config)
    return std::move(document).error().as(Code::corrupt);
  return document;
}

}  // namespace

static void describe(Reader& io, Platform& platform) {
  io.may("os", platform.os);
  io.may("architecture", platform.architecture);
  io.may("variant", platform.variant);
}

// "data" and "urls" are not read: content comes from the archive and nowhere else (attacks A64, A75).
static void describe(Reader& io, Descriptor& descriptor) {
  io.must("mediaType", descriptor.media_type);
  io.must("digest", descriptor.digest);
  io.must("size", descriptor.size, Range<std::int64_t>{0, std::numeric_limits<std::int64_t>::max()});
  io.may("platform", descriptor.platform);
  io.may("annotations", descriptor.annotations);
}

static void describe(Reader& io, IndexDocument& document) {
  refuse_members(io, "index", {"layers", "config", "fsLayers"});
  read_version(io);
  read_media_type(io, document.index.media_type, "application/vnd.oci.image.index.v1+json", is_index_type, "an index");
  io.must("manifests", document.index.manifests);
  cap(io, "manifests", document.index.manifests);
}

static void describe(Reader& io, ManifestDocument& document) {
  Manifest& manifest = document.manifest;
  refuse_members(io, "manifest", {"manifests", "fsLayers"});
  read_version(io);
  read_media_type(io, manifest.media_type, "application/vnd.oci.image.manifest.v1+json", is_manifest_type,
                  "a manifest");
  io.must("config", manifest.config);
  io.may("layers", manifest.layers);  // without any, Go's programs write null or nothing
  io.may("annotations", manifest.annotations);
  cap(io, "layers", manifest.layers);
}

static void describe(Reader& io, DockerEntry& entry) {
  io.must("Config", entry.config);
  io.may("RepoTags", entry.repo_tags);
  io.may("Layers", entry.layers);
  cap(io, "Layers", entry.layers);
}

Result<Index> parse_index(std::string_view json) { return TRY(read_image_document<IndexDocument>(json)).index; }

Result<Manifest> parse_manifest(std::string_view json) {
  Manifest manifest = TRY(read_image_document<ManifestDocument>(json)).manifest;
  const std::string& type = manifest.config.media_type;
  const bool runnable =
      type == "application/vnd.oci.image.config.v1+json" || type == "application/vnd.docker.container.image.v1+json";
  if (!runnable) return Error::make(Code::unsupported, "not a runnable image: its config is of type ", brief(type));
  return manifest;
}

Result<std::vector<DockerEntry>> parse_docker_manifest(std::string_view json) {
  auto entries = TRY(read_image_document<std::vector<DockerEntry>>(json));
  if (entries.size() > kMostDescriptors)
    return Error::make(Code::corrupt, entries.size(), " images; at most ", kMostDescriptors, " are read");
  return entries;
}

}  // namespace skink::oci
