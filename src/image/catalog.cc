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
constexpr std::string_view kReferenceType = "vnd.docker.reference.type";

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

constexpr unsigned kNoRank = ~0U;

// "web:1.0" as "web:1.0-linux-arm64": what the image of another platform is found by.
std::optional<Reference> with_platform(const Reference& name, const oci::Platform& platform) {
  if (!name.digest.empty()) return std::nullopt;
  std::string text = str(name.text(), '-', oci::to_text(platform));
  std::replace(text.begin() + static_cast<std::ptrdiff_t>(name.text().size()), text.end(), '/', '-');
  auto reference = parse_reference(text);
  if (!reference) return std::nullopt;
  return std::move(reference).value();
}

// Which platforms are wanted.
struct Choice {
  oci::Platform platform;
  bool all = false;
  [[nodiscard]] std::optional<unsigned> rank(const oci::Platform& offered) const {
    return oci::rank_of(offered, platform);
  }
};

unsigned rank_of_found(const FoundImage& image) { return image.fits ? image.rank : kNoRank; }

class OciCatalog {
 public:
  OciCatalog(const Archive& archive, Choice choice, std::string stem)
      : archive_(archive), choice_(std::move(choice)), stem_(std::move(stem)) {}

  Result<Catalog> read();

 private:
  using Found = std::vector<std::size_t>;  // indexes into found_, the best one first
  Result<Found> visit(const oci::Descriptor& descriptor, int depth);
  Result<Found> visit_index(const oci::Descriptor& descriptor, int depth);
  Result<Found> visit_manifest(const oci::Descriptor& descriptor);
  Result<Found> visit_image(const oci::Manifest& manifest, FoundImage image);
  [[nodiscard]] bool is_attestation(const oci::Descriptor& descriptor) const;
  Result<void> list_layers(const oci::Manifest& manifest, const oci::ImageConfig& config, FoundImage& image) const;
  void add_names(const Found& found, const oci::Descriptor& descriptor);
  std::optional<Reference> reference_of(std::string_view text, const oci::Descriptor& descriptor);
  std::optional<Reference> name_of(const oci::Descriptor& descriptor);

  const Archive& archive_;
  Choice choice_;
  std::string stem_;
  std::map<oci::Digest, Found> visited_;  // one visit each (A69)
  std::string others_;                    // what was there and did not fit, for the error
  std::vector<FoundImage> found_;
  std::vector<bool> chosen_;                       // of found_
  std::map<oci::Digest, std::uint64_t> unwanted_;  // configurations that were read and do not fit, and their size
  std::optional<Error> no_image_;                  // of what only looked like an image, why the first is none
  // The best image of each name so far: entries of one name are one image for several platforms.
  std::map<std::string, std::size_t> named_;
  std::vector<std::string> notes_;
};

void note_other(std::string& others, const std::string& what) {
  constexpr std::size_t kShown = 1000;
  if (others.size() > kShown || str(", ", others, ", ").find(str(", ", what, ", ")) != std::string::npos) return;
  others += others.empty() ? what : ", " + what;
  if (others.size() > kShown) others += ", ...";
}

Error none_for(const oci::Platform& wanted, const std::string& others) {
  return Error::make(Code::not_found, "no image for ", printable(oci::to_text(wanted)),
                     others.empty() ? std::string() : str("; the archive has ", others, " (see --platform)"));
}

// What buildkit puts beside an image to tell how it was made. Who asks for its platform hears why it is none.
bool OciCatalog::is_attestation(const oci::Descriptor& descriptor) const {
  static const oci::Platform kUnknown{"unknown", "unknown", ""};
  if (descriptor.platform == kUnknown) return !choice_.rank(kUnknown);
  return descriptor.annotations.contains(std::string(kReferenceType));
}

Result<OciCatalog::Found> OciCatalog::visit(const oci::Descriptor& descriptor, int depth) {
  if (is_attestation(descriptor)) {
    note_other(others_, "an attestation");
    return Found();
  }
  if (descriptor.platform && !choice_.rank(*descriptor.platform)) {
    note_other(others_, printable(oci::to_text(*descriptor.platform)));
    if (!choice_.all) return Found();
  }
  if (const auto known = visited_.find(descriptor.digest); known != visited_.end()) return known->second;
  if (visited_.size() >= kDescriptorsMost)
    return Error::make(Code::corrupt, "more than ", kDescriptorsMost, " indexes and manifests");
  visited_[descriptor.digest] = Found();
  Found found;
  // A copy for some platforms keeps the index of all of them.
  const bool is_there = !choice_.all || archive_.contains(blob_path(descriptor.digest));
  if (!is_there && descriptor.platform) {
    notes_.push_back(str(printable(oci::to_text(*descriptor.platform)), " is listed, but not in the archive"));
  } else if (oci::is_index_type(descriptor.media_type)) {
    found = TRY(visit_index(descriptor, depth));
  } else if (oci::is_manifest_type(descriptor.media_type)) {
    found = TRY_CTX(visit_manifest(descriptor), "manifest ", descriptor.digest.text());
  } else {
    note_other(others_, "something of type " + skink::quoted(descriptor.media_type));
  }
  visited_[descriptor.digest] = found;
  return found;
}

// One image for several platforms: the one that fits best, the first of those that fit alike; or all, the best first.
Result<OciCatalog::Found> OciCatalog::visit_index(const oci::Descriptor& descriptor, int depth) {
  if (depth == kIndexDepthMost)
    return Error::make(Code::corrupt, "indexes nested more than ", kIndexDepthMost, " deep");
  const std::string text = TRY(read_blob(archive_, descriptor));
  auto index = TRY_CTX(oci::parse_index(text), "index ", descriptor.digest.text());
  TRY_CTX(check_type(descriptor, index.media_type), "index ", descriptor.digest.text());
  if (index.manifests.size() > kDescriptorsMost)
    return Error::make(Code::corrupt, "index ", descriptor.digest.text(), ": more than ", kDescriptorsMost, " entries");
  // What says nothing about its platform may fit exactly.
  const auto promise = [this](const oci::Descriptor& inner) {
    return inner.platform ? choice_.rank(*inner.platform).value_or(kNoRank) : 0U;
  };
  std::stable_sort(index.manifests.begin(), index.manifests.end(),
                   [&](const auto& a, const auto& b) { return promise(a) < promise(b); });
  Found best;
  for (const auto& inner : index.manifests) {
    // Others may not be in the archive at all, so they are not even looked at.
    if (!choice_.all && !best.empty() && found_[best.front()].rank <= promise(inner)) break;
    const Found found = TRY(visit(inner, depth + 1));
    const auto is_better = [&](std::size_t one) {
      return best.empty() || rank_of_found(found_[one]) < rank_of_found(found_[best.front()]);
    };
    for (const std::size_t one : found) {
      if (std::find(best.begin(), best.end(), one) != best.end()) continue;
      best.insert(is_better(one) ? best.begin() : best.end(), one);
    }
  }
  if (!choice_.all && best.size() > 1) best.resize(1);
  return best;
}

// Whether an image whose configuration was read is wanted: notes how well it fits.
bool choose(const Choice& choice, FoundImage& image, std::string& others) {
  const auto rank = choice.rank(image.config.platform);
  image.fits = rank.has_value();
  image.rank = rank.value_or(0);
  if (!rank) note_other(others, printable(oci::to_text(image.config.platform)));
  return rank || choice.all;
}

Result<void> check_layers(const oci::ImageConfig& config, std::size_t in_manifest) {
  if (config.diff_ids.size() != in_manifest)
    return Error::make(Code::corrupt, "the configuration lists ", config.diff_ids.size(), " layers and the manifest ",
                       in_manifest);
  std::vector<oci::Digest> distinct = config.diff_ids;
  std::sort(distinct.begin(), distinct.end());
  const auto count = std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  if (static_cast<std::size_t>(count) > kLayersMost)
    return Error::make(Code::unsupported, count, " layers; at most ", kLayersMost,
                       " can be stacked, so squash the image when it is built");
  return {};
}

// Signatures and attestations come with the configuration of an image, and with layers of which none is a tar: what the
// first one is.
std::optional<Error> why_no_image(const oci::Manifest& manifest) {
  std::optional<Error> why;
  for (const auto& layer : manifest.layers) {
    auto compression = oci::layer_compression(layer.media_type);
    if (compression) return std::nullopt;
    if (!why) why = std::move(compression).error().context("layer 1");
  }
  return why;
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
  if (auto why = why_no_image(manifest)) {
    if (!no_image_) no_image_ = std::move(why)->context("manifest ", descriptor.digest.text());
    return Found();
  }
  return visit_image(manifest, std::move(image));
}

Result<OciCatalog::Found> OciCatalog::visit_image(const oci::Manifest& manifest, FoundImage image) {
  // Two manifests of one configuration are one image; however many name it, it is read once.
  const oci::Digest& id = image.id = manifest.config.digest;
  const auto size = static_cast<std::uint64_t>(manifest.config.size);
  if (const auto known = unwanted_.find(id); known != unwanted_.end() && known->second == size) return Found();
  const auto same = std::find_if(found_.begin(), found_.end(), [&](const FoundImage& have) {
    return have.id == id && have.config_text.size() == size;
  });
  if (same != found_.end()) {
    TRY(list_layers(manifest, same->config, image));
    return Found{static_cast<std::size_t>(same - found_.begin())};
  }
  image.config_text = TRY_CTX(read_blob(archive_, manifest.config), "config");
  image.config = TRY_CTX(oci::parse_image_config(image.config_text), "config ", id.text());
  if (!choose(choice_, image, others_)) {
    unwanted_[id] = size;
    return Found();
  }
  auto listed = list_layers(manifest, image.config, image);
  if (!listed && !image.fits && listed.error().code() == Code::unsupported) {
    // Such as an image for Windows, whose first layers its maker gives away himself.
    notes_.push_back(str("the image for ", printable(oci::to_text(image.config.platform)), " was left out: manifest ",
                         image.manifest.text(), ": ", printable(listed.error().text())));
    return Found();
  }
  TRY(std::move(listed));
  found_.push_back(std::move(image));
  chosen_.push_back(false);
  return Found{found_.size() - 1};
}

Result<void> OciCatalog::list_layers(const oci::Manifest& manifest, const oci::ImageConfig& config,
                                     FoundImage& image) const {
  TRY(check_layers(config, manifest.layers.size()));
  for (const auto& layer : manifest.layers) {
    const std::size_t number = image.layers.size() + 1;
    LayerBlob blob;
    blob.member = blob_path(layer.digest);
    blob.label = layer.digest.text();
    blob.digest = layer.digest;
    blob.diff_id = config.diff_ids[number - 1];
    blob.compression = TRY_CTX(oci::layer_compression(layer.media_type), "layer ", number);
    const auto size = TRY_CTX(archive_.size_of(blob.member), "layer ", number);
    if (layer.size < 0 || size != static_cast<std::uint64_t>(layer.size))
      return Error::make(Code::corrupt, "layer ", number, ": blob ", blob.label, ": ", size,
                         " bytes in the archive, but its descriptor says ", layer.size);
    image.layers.push_back(std::move(blob));
  }
  return {};
}

// A name with a digest is the name of that manifest or index and of nothing else.
std::optional<Reference> OciCatalog::reference_of(std::string_view text, const oci::Descriptor& descriptor) {
  auto reference = parse_reference(text);
  if (reference && (reference->digest.empty() || reference->digest == descriptor.digest.text()))
    return std::move(reference).value();
  notes_.push_back(
      "a name in the archive was left out: " +
      (reference ? str(printable(text), ": not the digest of what it names") : printable(reference.error().text())));
  return std::nullopt;
}

// "latest", "1.36", "v2": a tag alone, as umoci writes it; "web" is a name, as skopeo and buildah write it.
bool is_bare_tag(std::string_view text) {
  if (text.find_first_of(":/") != text.npos || text.empty()) return false;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return text == "latest" || digit(text[0]) || (text.size() > 1 && text[0] == 'v' && digit(text[1]));
}

std::optional<Reference> OciCatalog::name_of(const oci::Descriptor& descriptor) {
  const auto annotation = [&](std::string_view key) -> std::string_view {
    const auto found = descriptor.annotations.find(std::string(key));
    return found == descriptor.annotations.end() ? std::string_view{} : std::string_view(found->second);
  };
  if (const auto whole = annotation(kContainerdName); !whole.empty()) return reference_of(whole, descriptor);
  const auto name = annotation(kRefName);
  if (name.empty()) return std::nullopt;
  if (!is_bare_tag(name)) return reference_of(name, descriptor);
  if (stem_.empty()) return std::nullopt;
  const bool stem_has_tag = stem_.find(':', stem_.rfind('/') + 1) != stem_.npos;
  return reference_of(stem_has_tag ? stem_ : str(stem_, ':', name), descriptor);
}

// The first of `found` is the image of the name. Those of other platforms, when all are loaded, get it with their
// platform behind the tag.
void OciCatalog::add_names(const Found& found, const oci::Descriptor& descriptor) {
  for (const std::size_t one : found) chosen_[one] = true;
  const auto name = name_of(descriptor);
  if (!name) return;
  for (const std::size_t one : found) {
    const auto [there, is_new] = named_.try_emplace(name->text(), one);
    if (is_new) continue;
    std::size_t& best = there->second;
    if (best == one) continue;
    const bool better = rank_of_found(found_[one]) < rank_of_found(found_[best]);
    const std::size_t other = better ? std::exchange(best, one) : one;
    // Entries of one name that are for one platform are an archive's own mistake: the first counts, as for an index.
    if (!choice_.all) chosen_[other] = false;
    else if (const auto own = with_platform(*name, found_[other].config.platform)) found_[other].names.push_back(*own);
  }
}

Result<Catalog> OciCatalog::read() {
  const std::string text = TRY(archive_.read("index.json", oci::kDocumentLimit));
  const auto index = TRY_CTX(oci::parse_index(text), "index.json");
  if (index.manifests.size() > kDescriptorsMost)
    return Error::make(Code::corrupt, "index.json: more than ", kDescriptorsMost, " entries");
  for (const auto& descriptor : index.manifests) add_names(TRY(visit(descriptor, 1)), descriptor);
  for (const auto& [name, one] : named_) {
    found_[one].names.push_back(TRY(parse_reference(name)));
    chosen_[one] = true;
  }
  Catalog catalog;
  for (std::size_t i = 0; i < found_.size(); ++i)
    if (chosen_[i]) catalog.images.push_back(std::move(found_[i]));
  if (catalog.images.empty()) {
    if (no_image_ && others_.empty()) return std::move(*no_image_);
    if (no_image_) note_other(others_, "an artifact with layers that are no tars");
    return none_for(choice_.platform, others_);
  }
  catalog.notes = std::move(notes_);
  return catalog;
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

class DockerCatalog {
 public:
  DockerCatalog(const Archive& archive, const Choice& choice) : archive_(archive), choice_(choice) {}

  Result<Catalog> read();

 private:
  Result<std::optional<std::size_t>> visit(const oci::DockerEntry& entry);
  Result<FoundImage> read_config(const oci::DockerEntry& entry) const;
  Result<void> list_layers(const oci::DockerEntry& entry, FoundImage& image) const;

  const Archive& archive_;
  const Choice& choice_;
  std::vector<FoundImage> found_;
  std::string others_;
  // What many entries may name is read once. By the place in the archive: a link is another name for it.
  std::map<std::uint64_t, std::optional<std::size_t>> visited_;  // configurations: the image in found_, if it is wanted
};

Result<oci::Digest> digest_of(const Archive& archive, const LayerBlob& layer, PackedDigests& known) {
  if (layer.digest) return *layer.digest;
  if (layer.compression == oci::Compression::none) return layer.diff_id;
  if (const auto found = known.find(layer.member); found != known.end()) return found->second;
  const Part part = TRY(archive.open_member(layer.member));
  FileSource source = part.source();
  return known[layer.member] = TRY(HashingSource(source).finish());
}

Result<std::string> make_manifest(const Archive& archive, const FoundImage& image, PackedDigests& known) {
  oci::Json json;
  json["schemaVersion"] = 2;
  json["mediaType"] = kManifestType;
  json["config"] = {{"mediaType", kConfigType}, {"digest", image.id.text()}, {"size", image.config_text.size()}};
  json["layers"] = oci::Json::array();
  for (const auto& layer : image.layers) {
    const bool plain = layer.compression == oci::Compression::none;
    const std::string_view suffix = plain ? "" : layer.compression == oci::Compression::gzip ? "+gzip" : "+zstd";
    json["layers"].push_back({{"mediaType", str(kLayerType, suffix)},
                              {"digest", TRY(digest_of(archive, layer, known)).text()},
                              {"size", TRY(archive.size_of(layer.member))}});
  }
  return oci::dump_json(json);
}

Result<FoundImage> DockerCatalog::read_config(const oci::DockerEntry& entry) const {
  FoundImage image;
  image.config_text = TRY_CTX(archive_.read(entry.config, oci::kDocumentLimit), "config");
  image.id = oci::Digest::of_bytes(Sha256::of(image.config_text));
  const auto claimed = digest_in_name(entry.config);
  if (claimed && *claimed != image.id)
    return Error::make(Code::corrupt, "config ", skink::quoted(entry.config), ": its bytes have the digest ",
                       image.id.text());
  image.config = TRY_CTX(oci::parse_image_config(image.config_text), "config ", image.id.text());
  return image;
}

Result<void> DockerCatalog::list_layers(const oci::DockerEntry& entry, FoundImage& image) const {
  TRY(check_layers(image.config, entry.layers.size()));
  for (const auto& layer : entry.layers) {
    const std::size_t number = image.layers.size() + 1;
    LayerBlob blob;
    blob.member = layer;
    blob.label = printable(layer);
    if (layer.starts_with("blobs/sha256/")) blob.digest = digest_in_name(layer);
    blob.diff_id = image.config.diff_ids[number - 1];
    blob.compression = TRY_CTX(archive_.compression_of(layer), "layer ", number);
    image.layers.push_back(std::move(blob));
  }
  return {};
}

// Entries of one configuration are one image.
Result<std::optional<std::size_t>> DockerCatalog::visit(const oci::DockerEntry& entry) {
  const std::uint64_t place = TRY_CTX(archive_.open_member(entry.config), "config").offset;
  if (const auto known = visited_.find(place); known != visited_.end()) return known->second;
  auto& wanted = visited_[place];
  FoundImage image = TRY(read_config(entry));
  if (!choose(choice_, image, others_)) return wanted;
  const auto same =
      std::find_if(found_.begin(), found_.end(), [&](const FoundImage& have) { return have.id == image.id; });
  if (same != found_.end()) return wanted = static_cast<std::size_t>(same - found_.begin());
  TRY(list_layers(entry, image));
  found_.push_back(std::move(image));
  return wanted = found_.size() - 1;
}

std::vector<Reference> tags_of(const oci::DockerEntry& entry, std::vector<std::string>& notes) {
  std::vector<Reference> names;
  for (const auto& tag : entry.repo_tags) {
    auto reference = parse_reference(tag);
    if (reference && reference->digest.empty()) names.push_back(std::move(reference).value());
    else
      notes.push_back("a name in the archive was left out: " +
                      (reference ? str(printable(tag), ": a tag was expected") : printable(reference.error().text())));
  }
  return names;
}

void add_tags(const oci::DockerEntry& entry, FoundImage& image, std::vector<std::string>& notes) {
  for (auto& name : tags_of(entry, notes)) image.names.push_back(std::move(name));
}

Result<std::vector<oci::DockerEntry>> read_docker_manifest(const Archive& archive) {
  const std::string text = TRY(archive.read("manifest.json", oci::kDocumentLimit));
  auto entries = TRY_CTX(oci::parse_docker_manifest(text), "manifest.json");
  if (entries.size() > kDescriptorsMost)
    return Error::make(Code::corrupt, "manifest.json: more than ", kDescriptorsMost, " entries");
  return entries;
}

Result<Catalog> DockerCatalog::read() {
  Catalog catalog;
  std::map<std::string, std::size_t> named;  // as in an index: of one name the image that fits best
  std::size_t number = 0;
  for (const auto& entry : TRY(read_docker_manifest(archive_))) {
    const auto wanted = TRY_CTX(visit(entry), "manifest.json: image ", ++number);
    if (!wanted) continue;
    for (const auto& name : tags_of(entry, catalog.notes)) {
      const auto [there, is_new] = named.try_emplace(name.text(), *wanted);
      if (is_new || there->second == *wanted) continue;
      const bool better = rank_of_found(found_[*wanted]) < rank_of_found(found_[there->second]);
      const std::size_t other = better ? std::exchange(there->second, *wanted) : *wanted;
      if (const auto own = choice_.all ? with_platform(name, found_[other].config.platform) : std::nullopt)
        found_[other].names.push_back(*own);
    }
  }
  for (const auto& [name, one] : named) found_[one].names.push_back(TRY(parse_reference(name)));
  catalog.images = std::move(found_);
  if (catalog.images.empty()) return none_for(choice_.platform, others_);
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

// The names that the caller knows better than the archive.
Result<void> give_names(Catalog& catalog, const std::vector<Reference>& names) {
  if (catalog.images.size() != 1)
    return Error::make(Code::invalid_config, "one image was expected, and here are ", catalog.images.size());
  catalog.images.front().names = names;
  return {};
}

}  // namespace

Result<void> complete_manifest(const Archive& archive, FoundImage& image, PackedDigests& known) {
  if (!image.manifest_text.empty()) return {};
  image.manifest_text = TRY(make_manifest(archive, image, known));
  image.manifest = oci::Digest::of_bytes(Sha256::of(image.manifest_text));
  return {};
}

Result<Catalog> read_catalog(const Archive& archive, const LoadOptions& options, const std::string& stem) {
  const Choice choice{options.platform.value_or(oci::host_platform()), options.all_platforms};
  const bool docker = archive.contains("manifest.json");
  Catalog catalog;
  if (archive.contains("index.json")) {
    catalog = TRY(OciCatalog(archive, choice, stem).read());
    if (docker) TRY(add_docker_tags(archive, catalog));
  } else if (docker) {
    catalog = TRY(DockerCatalog(archive, choice).read());
  } else {
    return Error::make(Code::invalid_config,
                       "neither an oci-archive (no index.json) nor a docker-archive (no manifest.json); make one with "
                       "skopeo, buildah, umoci or docker save");
  }
  if (!options.names.empty()) TRY(give_names(catalog, options.names));
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
  while (base.ends_with('/')) base.remove_suffix(1);
  base.remove_prefix(std::min(base.rfind('/') + 1, base.size()));
  for (const std::string_view ending : {".gz", ".tgz", ".zst", ".zstd", ".tar", ".oci", ".docker"})
    if (base.ends_with(ending)) base.remove_suffix(ending.size());
  const auto reference = parse_reference(base);
  return reference && base.find(':') == base.npos ? std::string(base) : std::string();
}

}  // namespace skink::image
