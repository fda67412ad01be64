// SPDX-License-Identifier: Apache-2.0
// repair_images: the part of verify.h that writes.
#include <algorithm>
#include <set>

#include "base/text.h"
#include "image/archive.h"
#include "image/catalog.h"
#include "image/load_session.h"
#include "image/loader.h"
#include "image/records.h"
#include "image/stored_layer.h"
#include "image/verify.h"

namespace skink::image {
namespace {

// What has to be written anew.
struct Wants {
  std::set<std::string> layers;  // hex
  std::set<std::string> images;  // hex
};

Wants wants_of(const std::vector<VerifiedImage>& images) {
  Wants wants;
  for (const auto& image : images)
    for (const auto& fault : image.faults) {
      if (fault.layer.empty()) wants.images.insert(image.id.hex());
      else wants.layers.insert(fault.layer.substr(fault.layer.find(':') + 1));
    }
  return wants;
}

Error not_in(const std::string& file, const char* what, const std::string& hex) {
  return Error::make(Code::not_found, printable(file), " does not have the ", std::string_view(what), " sha256:", hex,
                     "; give the archive that it came from");
}

// The images of an archive as far as they have something that is wanted: for the loader, one with just these layers.
Result<std::vector<FoundImage>> choose(const Catalog& catalog, const Wants& wants, const std::string& file) {
  std::vector<FoundImage> chosen;
  std::set<std::string> layers, images;
  for (const auto& found : catalog.images) {
    FoundImage one = found;
    one.names.clear();
    std::erase_if(one.layers, [&](const LayerBlob& blob) {
      const std::string& hex = blob.diff_id.hex();
      return !wants.layers.contains(hex) || !layers.insert(hex).second;
    });
    const bool is_wanted = wants.images.contains(found.id.hex()) && images.insert(found.id.hex()).second;
    if (!one.layers.empty() || is_wanted) chosen.push_back(std::move(one));
  }
  for (const auto& hex : wants.layers)
    if (!layers.contains(hex)) return not_in(file, "layer", hex);
  for (const auto& hex : wants.images)
    if (!images.contains(hex)) return not_in(file, "image", hex);
  return chosen;
}

Result<bool> is_tree(int store_fd, const char* part, const std::string& hex) {
  const auto form = TRY(find_form(store_fd, part, hex));
  return form && *form == Form::directory;
}

// A file that is mounted stays until nobody has it; the files of a tree are gone when it is.
Result<void> refuse_trees_in_use(int store_fd, const Wants& wants, const Running& running) {
  for (const auto& [id, names] : running) {
    const auto image = oci::Digest::parse(id);
    if (!image || names.empty()) continue;
    bool is_in_use = wants.images.contains(image->hex()) && TRY(is_tree(store_fd, kScaffolds, image->hex()));
    const auto read = read_image(store_fd, image->hex());
    for (const auto& hex : wants.layers) {
      const auto is_it = [&hex](const oci::Digest& diff_id) { return diff_id.hex() == hex; };
      // Of a damaged image nobody knows which layers it has.
      const bool has_it = !read || std::ranges::any_of(read->config.diff_ids, is_it);
      is_in_use = is_in_use || (has_it && TRY(is_tree(store_fd, kLayers, hex)));
    }
    if (is_in_use)
      return Error::make(Code::busy, "container ", printable(names.front()),
                         " runs on what is damaged; stop it first (skink stop)");
  }
  return {};
}

// The manifest that an image has stays: an archive may have another one for the same configuration. One that is damaged
// is taken from an archive that has just that one.
Result<void> keep_manifest(int store_fd, FoundImage& found, const std::string& file) {
  Image stored;
  stored.id = found.id;
  const auto recorded = recorded_manifest(store_fd, found.id.hex());
  if (!recorded || *recorded == found.manifest) return {};
  stored.manifest = *recorded;
  auto text = read_manifest_text(store_fd, stored);
  if (!text)
    return Error::make(Code::not_found, printable(file), " has the image ", found.id.text(), " with another manifest (",
                       found.manifest.text(), ") than it had (", recorded->text(),
                       "); give the archive that it came from");
  found.manifest = *recorded;
  found.manifest_text = std::move(*text);
  return {};
}

// Of several in the archive with the same configuration, the one with the manifest that the image has.
Result<std::vector<FoundImage>> choose_images(int store_fd, const Catalog& catalog, const Wants& wants,
                                              const std::string& file) {
  std::vector<FoundImage> chosen;
  for (const auto& hex : wants.images) {
    const auto recorded = recorded_manifest(store_fd, hex);
    const FoundImage* best = nullptr;
    for (const auto& found : catalog.images) {
      if (found.id.hex() != hex) continue;
      if (best == nullptr || (recorded && found.manifest == *recorded)) best = &found;
    }
    if (best == nullptr) continue;
    chosen.push_back(*best);
    TRY(keep_manifest(store_fd, chosen.back(), file));
  }
  return chosen;
}

}  // namespace

Result<Repaired> repair_images(const Store& store, const std::vector<VerifiedImage>& images, const std::string& file,
                               const Running& running) {
  const Wants wants = wants_of(images);
  Repaired repaired;
  if (wants.layers.empty() && wants.images.empty()) return repaired;
  TRY(refuse_trees_in_use(store.dir_fd(), wants, running));
  const std::string words = str("repair from ", file == "-" ? "standard input" : printable(file));
  TRY(load_with_session(store.dir_fd(), words, [&](Session& session) -> Result<Loaded> {
    const Archive archive = TRY(Archive::open(file, session.fd()));
    Catalog catalog = TRY(read_catalog(archive, {.platform = {}, .all_platforms = true}, ""));
    PackedDigests packed;
    for (auto& image : catalog.images) TRY(complete_manifest(archive, image, packed));
    const auto layers = TRY(choose(catalog, wants, file));
    const auto broken = TRY(choose_images(store.dir_fd(), catalog, wants, file));
    Loader loader(store.dir_fd(), session, &archive);
    TRY(loader.repair(layers, broken));
    return Loaded{};
  }));
  TRY(store.sweep_mounts());
  for (const auto& hex : wants.layers) repaired.layers.push_back("sha256:" + hex);
  for (const auto& hex : wants.images) repaired.images.push_back("sha256:" + hex);
  return repaired;
}

}  // namespace skink::image
