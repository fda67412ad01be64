// SPDX-License-Identifier: Apache-2.0
#include "image/usage.h"

#include <map>

#include "fs/usage.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/records.h"
#include "image/stored_layer.h"

namespace skink::image {
namespace {

struct LayerUse {
  std::int64_t bytes = 0;
  std::size_t images = 0;
  bool active = false;
};

std::string path_of(const char* part, const std::string& name) { return str(std::string_view(part), '/', name); }

Result<std::int64_t> usage_below(int store_fd, const std::string& path) {
  return fs::disk_usage(store_fd, path.c_str());
}

Result<std::int64_t> own_usage(int store_fd, const std::string& hex) {
  std::int64_t bytes = TRY(usage_below(store_fd, path_of(kImages, hex)));
  for (const Form form : {Form::file, Form::directory})
    bytes += TRY(usage_below(store_fd, path_of(kScaffolds, stored_name(hex, form))));
  return bytes;
}

std::set<std::string> layers_of(const Image& image) {
  std::set<std::string> layers;
  for (const auto& diff_id : image.config.diff_ids) layers.insert(diff_id.hex());
  return layers;
}

}  // namespace

Result<std::int64_t> layer_usage(int store_fd, const std::string& hex) {
  std::int64_t bytes = TRY(usage_below(store_fd, path_of(kMarks, hex)));
  for (const Form form : {Form::file, Form::directory})
    bytes += TRY(usage_below(store_fd, path_of(kLayers, stored_name(hex, form))));
  return bytes;
}

Result<StoreUsage> measure_store(const Store& store, const std::set<std::string>& active) {
  const int store_fd = store.dir_fd();
  StoreUsage usage;
  std::map<std::string, LayerUse> layers;
  for (auto& image : TRY(store.list(&usage.damaged))) {
    const bool is_active = active.contains(image.id.text());
    for (const auto& hex : layers_of(image)) {
      const auto [layer, is_new] = layers.try_emplace(hex);
      if (is_new) layer->second.bytes = TRY(layer_usage(store_fd, hex));
      ++layer->second.images;
      layer->second.active = layer->second.active || is_active;
    }
    usage.images.push_back({.image = std::move(image), .active = is_active});
  }
  for (auto& one : usage.images) {
    const std::int64_t own = TRY(own_usage(store_fd, one.image.id.hex()));
    one.unique = own;
    for (const auto& hex : layers_of(one.image))
      (layers[hex].images > 1 ? one.shared : one.unique) += layers[hex].bytes;
    usage.bytes += own;
    if (!one.active) usage.reclaimable += own;
  }
  for (const auto& [hex, layer] : layers) {
    usage.bytes += layer.bytes;
    if (!layer.active) usage.reclaimable += layer.bytes;
  }
  const auto orphans = find_orphans(store_fd);
  if (!orphans && !usage.damaged.empty()) return usage;
  for (const auto& flaw : TRY(orphans)) {
    ++usage.orphans;
    usage.orphan_bytes += flaw.kind == StoreFlaw::Kind::layer
                              ? TRY(layer_usage(store_fd, hex_of(flaw.path.substr(flaw.path.rfind('/') + 1))))
                              : TRY(usage_below(store_fd, flaw.path));
  }
  return usage;
}

}  // namespace skink::image
