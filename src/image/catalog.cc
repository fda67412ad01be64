// SPDX-License-Identifier: Apache-2.0
#include "image/catalog.h"

#include <algorithm>
#include <map>

#include "base/sha256.h"
#include "base/text.h"
#include "image/path.h"
#include "oci/json.h"

namespace skink::image {
namespace {

constexpr int kIndexDepthMost = 4;  // A69
constexpr std::size_t kDescriptorsMost = 1000;
constexpr std::size_t kLayersMost = 499;  // overlayfs takes 500 lowers, and one is the scaffold (A80)
constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr std::string_view kDockerConfigType = "application/vnd.docker.container.image.v1+json";
constexpr std::string_view kLayerType = "application/vnd.oci.image.layer.v1.tar";
constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
constexpr std::string_view kContainerdName = "io.containerd.image.name";

std::string blob_path(const oci::Digest& digest) { return "blobs/sha256/" + digest.hex(); }

// A document, with its size checked before and its digest after reading (A64).
Result<std::string> read_blob(const Archive& archive, const oci::Descriptor& descriptor) {
  const std::string path = blob_path(descriptor.digest);
  const auto size = TRY_CTX(archive.size_of(path), "blob ", descriptor.digest.text());
  if (descriptor.size < 0 || size != static_cast<std::uint64_t>(descriptor.size))
    return Error::make(Code::corrupt, "blob ", descriptor.digest.text(), ": ", size,
                       " bytes in the archive, but its descriptor says ", descriptor.size);
  std::string bytes = TRY_CTX(archive.read(path, oci::kDocumentLimit), "blob ", descriptor.digest.text());
  const auto digest = oci::Digest::of_bytes(Sha256::of(bytes));
  if (digest != descriptor.digest)
    return Error::make(Code::corrupt, "blob ", descriptor.digest.text(), ": its bytes have the digest ", digest.text());
  return bytes;
}

// A document is read as what its descriptor says, and has to agree (A66, CVE-2021-41190).
Result<void> check_type(const oci::Descriptor& descriptor, const std::string& own_type) {
  if (own_type == descriptor.media_type) return {};
  return Error::make(Code::corrupt, "it says it is ", skink::quoted(own_type), ", but its descriptor says ",
                     skink::quoted(descriptor.media_type));
}

class OciCatalog {
 public:
  OciCatalog(const Archive& archive, oci::Platform wanted, std::string stem)
      : archive_(archive), wanted_(std::move(wanted)), stem_(std::move(stem)) {}

  Result<Catalog> read();

 private:
  using Found = std::optional<std::size_t>;  // index into catalog_.images
  Result<Found> visit(const oci::Descriptor& descriptor, int depth);
  Result<Found> visit_index(const oci::Descriptor& descriptor, int depth);
  Result<Found> visit_manifest(const oci::Descriptor& descriptor);
  void add_name(FoundImage& image, const oci::Descriptor& descriptor);
  void add_reference(FoundImage& image, std::string_view text);

  const Archive& archive_;
  oci::Platform wanted_;
  std::string stem_;
  std::map<oci::Digest, Found> visited_;  // one visit each (A69)
  std::string others_;                    // what was there and did not fit, for the error
  Catalog catalog_;
};

void note_other(std::string& others, const std::string& what) {
  if (others.size() > 200 || others.find(what) != others.npos) return;
  others += others.empty() ? what : ", " + what;
}

Result<OciCatalog::Found> OciCatalog::visit(const oci::Descriptor& descriptor, int depth) {
  if (descriptor.platform && !oci::matches(*descriptor.platform, wanted_)) {
    note_other(others_, printable(oci::to_text(*descriptor.platform)));
    return Found();
  }
  if (const auto known = visited_.find(descriptor.digest); known != visited_.end()) return known->second;
  if (visited_.size() >= kDescriptorsMost)
    return Error::make(Code::corrupt, "more than ", kDescriptorsMost, " indexes and manifests");
  visited_[descriptor.digest] = Found();
  Found found;
  if (oci::is_index_type(descriptor.media_type)) {
    found = TRY(visit_index(descriptor, depth));
  } else if (oci::is_manifest_type(descriptor.media_type)) {
    found = TRY_CTX(visit_manifest(descriptor), "manifest ", descriptor.digest.text());
  } else {
    note_other(others_, "something of type " + skink::quoted(descriptor.media_type));
  }
  visited_[descriptor.digest] = found;
  return found;
}

// One image for several platforms: the first that fits.
Result<OciCatalog::Found> OciCatalog::visit_index(const oci::Descriptor& descriptor, int depth) {
  if (depth == kIndexDepthMost)
    return Error::make(Code::corrupt, "indexes nested more than ", kIndexDepthMost, " deep");
  const std::string text = TRY(read_blob(archive_, descriptor));
  const auto index = TRY_CTX(oci::parse_index(text), "index ", descriptor.digest.text());
  TRY_CTX(check_type(descriptor, index.media_type), "index ", descriptor.digest.text());
  if (index.manifests.size() > kDescriptorsMost)
    return Error::make(Code::corrupt, "index ", descriptor.digest.text(), ": more than ", kDescriptorsMost, " entries");
  for (const auto& inner : index.manifests) {
    Found found = TRY(visit(inner, depth + 1));
    if (found) return found;
  }
  return Found();
}

Result<void> check_layers(const FoundImage& image) {
  if (image.config.diff_ids.size() != image.layers.size())
    return Error::make(Code::corrupt, "the configuration lists ", image.config.diff_ids.size(),
                       " layers and the manifest ", image.layers.size());
  std::vector<oci::Digest> distinct = image.config.diff_ids;
  std::sort(distinct.begin(), distinct.end());
  const auto count = std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  if (static_cast<std::size_t>(count) > kLayersMost)
    return Error::make(Code::unsupported, count, " layers; at most ", kLayersMost,
                       " can be stacked, so squash the image when it is built");
  return {};
}

Result<OciCatalog::Found> OciCatalog::visit_manifest(const oci::Descriptor& descriptor) {
  FoundImage image;
  image.manifest = descriptor.digest;
  image.manifest_text = TRY(read_blob(archive_, descriptor));
  auto parsed = oci::parse_manifest(image.manifest_text);
  if (!parsed && parsed.error().code() == Code::unsupported) {
    note_other(others_, printable(parsed.error().text()));
    return Found();
  }
  const auto manifest = TRY(std::move(parsed));
  TRY(check_type(descriptor, manifest.media_type));
  if (manifest.config.media_type != kConfigType && manifest.config.media_type != kDockerConfigType) {
    note_other(others_, "an artifact with a configuration of type " + skink::quoted(manifest.config.media_type));
    return Found();
  }
  image.id = manifest.config.digest;
  image.config_text = TRY_CTX(read_blob(archive_, manifest.config), "config");
  image.config = TRY_CTX(oci::parse_image_config(image.config_text), "config ", image.id.text());
  if (!oci::matches(image.config.platform, wanted_)) {
    note_other(others_, printable(oci::to_text(image.config.platform)));
    return Found();
  }
  for (const auto& layer : manifest.layers) {
    LayerBlob blob;
    blob.member = blob_path(layer.digest);
    blob.label = layer.digest.text();
    blob.digest = layer.digest;
    blob.compression = TRY_CTX(oci::layer_compression(layer.media_type), "layer ", image.layers.size() + 1);
    const auto size = TRY_CTX(archive_.size_of(blob.member), "layer ", image.layers.size() + 1);
    if (layer.size < 0 || size != static_cast<std::uint64_t>(layer.size))
      return Error::make(Code::corrupt, "layer ", image.layers.size() + 1, ": blob ", blob.label, ": ", size,
                         " bytes in the archive, but its descriptor says ", layer.size);
    image.layers.push_back(std::move(blob));
  }
  TRY(check_layers(image));
  for (std::size_t i = 0; i < image.layers.size(); ++i) image.layers[i].diff_id = image.config.diff_ids[i];
  // Two manifests of one configuration are one image.
  const auto same = std::find_if(catalog_.images.begin(), catalog_.images.end(),
                                 [&](const FoundImage& have) { return have.id == image.id; });
  if (same != catalog_.images.end()) return Found(static_cast<std::size_t>(same - catalog_.images.begin()));
  catalog_.images.push_back(std::move(image));
  return Found(catalog_.images.size() - 1);
}

void OciCatalog::add_reference(FoundImage& image, std::string_view text) {
  auto reference = parse_reference(text);
  if (reference) {
    image.names.push_back(std::move(reference).value());
  } else {
    catalog_.notes.push_back("a name in the archive was left out: " + printable(reference.error().text()));
  }
}

// "latest", "1.36", "v2": a tag alone, as umoci writes it; "web" is a name, as skopeo and buildah write it.
bool is_bare_tag(std::string_view text) {
  if (text.find_first_of(":/") != text.npos || text.empty()) return false;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return text == "latest" || digit(text[0]) || (text.size() > 1 && text[0] == 'v' && digit(text[1]));
}

void OciCatalog::add_name(FoundImage& image, const oci::Descriptor& descriptor) {
  const auto annotation = [&](std::string_view key) -> std::string_view {
    const auto found = descriptor.annotations.find(std::string(key));
    return found == descriptor.annotations.end() ? std::string_view{} : std::string_view(found->second);
  };
  if (const auto whole = annotation(kContainerdName); !whole.empty()) return add_reference(image, whole);
  const auto name = annotation(kRefName);
  if (name.empty()) return;
  if (!is_bare_tag(name)) return add_reference(image, name);
  const bool stem_has_tag = stem_.find(':', stem_.rfind('/') + 1) != stem_.npos;
  if (!stem_.empty()) add_reference(image, stem_has_tag ? stem_ : str(stem_, ':', name));
}

Result<Catalog> OciCatalog::read() {
  const std::string text = TRY(archive_.read("index.json", oci::kDocumentLimit));
  const auto index = TRY_CTX(oci::parse_index(text), "index.json");
  if (index.manifests.size() > kDescriptorsMost)
    return Error::make(Code::corrupt, "index.json: more than ", kDescriptorsMost, " entries");
  for (const auto& descriptor : index.manifests) {
    const Found found = TRY(visit(descriptor, 1));
    if (found) add_name(catalog_.images[*found], descriptor);
  }
  if (catalog_.images.empty())
    return Error::make(Code::not_found, "no image for ", printable(oci::to_text(wanted_)),
                       others_.empty() ? std::string() : "; the archive has " + others_);
  return std::move(catalog_);
}

// ---- docker-archive ----

// The digest that a member's name claims: "HEX.json", "blobs/sha256/HEX".
std::optional<oci::Digest> digest_in_name(std::string_view member) {
  std::string_view base = member.substr(member.rfind('/') + 1);
  if (base.ends_with(".json")) base.remove_suffix(5);
  if (base.size() != 64) return std::nullopt;
  auto digest = oci::Digest::parse(str("sha256:", base));
  if (!digest) return std::nullopt;
  return std::move(digest).value();
}

// The manifest that a docker-archive does not have, of the blobs as they lie there.
Result<std::string> make_manifest(const Archive& archive, const FoundImage& image) {
  oci::Json json;
  json["schemaVersion"] = 2;
  json["mediaType"] = kManifestType;
  json["config"] = {{"mediaType", kConfigType}, {"digest", image.id.text()}, {"size", image.config_text.size()}};
  json["layers"] = oci::Json::array();
  for (const auto& layer : image.layers) {
    const bool plain = layer.compression == oci::Compression::none;
    oci::Digest digest = layer.diff_id;
    if (layer.digest) {
      digest = *layer.digest;
    } else if (!plain) {
      const auto source = TRY(archive.open_member(layer.member));
      digest = TRY(HashingSource(*source).finish());
    }
    const std::string_view suffix = plain ? "" : layer.compression == oci::Compression::gzip ? "+gzip" : "+zstd";
    json["layers"].push_back({{"mediaType", str(kLayerType, suffix)},
                              {"digest", digest.text()},
                              {"size", TRY(archive.size_of(layer.member))}});
  }
  return oci::dump_json(json);
}

Result<FoundImage> read_docker_image(const Archive& archive, const oci::DockerEntry& entry) {
  FoundImage image;
  image.config_text = TRY_CTX(archive.read(entry.config, oci::kDocumentLimit), "config");
  image.id = oci::Digest::of_bytes(Sha256::of(image.config_text));
  const auto claimed = digest_in_name(entry.config);
  if (claimed && *claimed != image.id)
    return Error::make(Code::corrupt, "config ", skink::quoted(entry.config), ": its bytes have the digest ",
                       image.id.text());
  image.config = TRY_CTX(oci::parse_image_config(image.config_text), "config ", image.id.text());
  for (const auto& layer : entry.layers) {
    LayerBlob blob;
    blob.member = layer;
    blob.label = printable(layer);
    if (layer.starts_with("blobs/sha256/")) blob.digest = digest_in_name(layer);
    blob.compression = TRY_CTX(archive.compression_of(layer), "layer ", image.layers.size() + 1);
    image.layers.push_back(std::move(blob));
  }
  TRY(check_layers(image));
  for (std::size_t i = 0; i < image.layers.size(); ++i) image.layers[i].diff_id = image.config.diff_ids[i];
  image.manifest_text = TRY(make_manifest(archive, image));
  image.manifest = oci::Digest::of_bytes(Sha256::of(image.manifest_text));
  return image;
}

void add_tags(const oci::DockerEntry& entry, FoundImage& image, std::vector<std::string>& notes) {
  for (const auto& tag : entry.repo_tags) {
    auto reference = parse_reference(tag);
    if (reference) image.names.push_back(std::move(reference).value());
    else notes.push_back("a name in the archive was left out: " + printable(reference.error().text()));
  }
}

Result<std::vector<oci::DockerEntry>> read_docker_manifest(const Archive& archive) {
  const std::string text = TRY(archive.read("manifest.json", oci::kDocumentLimit));
  auto entries = TRY_CTX(oci::parse_docker_manifest(text), "manifest.json");
  if (entries.size() > kDescriptorsMost)
    return Error::make(Code::corrupt, "manifest.json: more than ", kDescriptorsMost, " entries");
  return entries;
}

Result<Catalog> read_docker(const Archive& archive, const oci::Platform& wanted) {
  Catalog catalog;
  std::string others;
  for (const auto& entry : TRY(read_docker_manifest(archive))) {
    FoundImage image = TRY_CTX(read_docker_image(archive, entry), "manifest.json: image ", catalog.images.size() + 1);
    if (!oci::matches(image.config.platform, wanted)) {
      note_other(others, printable(oci::to_text(image.config.platform)));
      continue;
    }
    add_tags(entry, image, catalog.notes);
    const auto same = std::find_if(catalog.images.begin(), catalog.images.end(),
                                   [&](const FoundImage& have) { return have.id == image.id; });
    if (same == catalog.images.end()) catalog.images.push_back(std::move(image));
    else same->names.insert(same->names.end(), image.names.begin(), image.names.end());
  }
  if (catalog.images.empty())
    return Error::make(Code::not_found, "no image for ", printable(oci::to_text(wanted)),
                       others.empty() ? std::string() : "; the archive has " + others);
  return catalog;
}

// The newer `docker save` writes both forms; the tags are all in manifest.json.
Result<void> add_docker_tags(const Archive& archive, Catalog& catalog) {
  for (const auto& entry : TRY(read_docker_manifest(archive))) {
    const auto id = digest_in_name(entry.config);
    for (auto& image : catalog.images)
      if (id && image.id == *id) add_tags(entry, image, catalog.notes);
  }
  return {};
}

}  // namespace

Result<Catalog> read_catalog(const Archive& archive, const LoadOptions& options, const std::string& stem) {
  const oci::Platform wanted = options.platform.value_or(oci::host_platform());
  const bool docker = archive.contains("manifest.json");
  Catalog catalog;
  if (archive.contains("index.json")) {
    catalog = TRY(OciCatalog(archive, wanted, stem).read());
    if (docker) TRY(add_docker_tags(archive, catalog));
  } else if (docker) {
    catalog = TRY(read_docker(archive, wanted));
  } else {
    return Error::make(Code::invalid_config,
                       "neither an oci-archive (no index.json) nor a docker-archive (no manifest.json); make one with "
                       "skopeo, buildah, umoci or docker save");
  }
  for (auto& image : catalog.images) {
    if (image.names.empty() && catalog.images.size() == 1 && !stem.empty())
      if (auto reference = parse_reference(stem)) image.names.push_back(std::move(reference).value());
    const auto by_text = [](const Reference& a, const Reference& b) { return a.text() < b.text(); };
    const auto equal = [](const Reference& a, const Reference& b) { return a.text() == b.text(); };
    std::sort(image.names.begin(), image.names.end(), by_text);
    image.names.erase(std::unique(image.names.begin(), image.names.end(), equal), image.names.end());
  }
  return catalog;
}

std::string stem_of(const std::string& file) {
  std::string_view base(file);
  base.remove_prefix(std::min(base.rfind('/') + 1, base.size()));
  for (const std::string_view ending : {".gz", ".tgz", ".zst", ".zstd", ".tar", ".oci", ".docker"})
    if (base.ends_with(ending)) base.remove_suffix(ending.size());
  const auto reference = parse_reference(base);
  return reference && base.find(':') == base.npos ? std::string(base) : std::string();
}

}  // namespace skink::image
