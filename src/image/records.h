// SPDX-License-Identifier: Apache-2.0
// Records: images and names as the store keeps them.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/catalog.h"
#include "image/layout.h"
#include "image/store.h"
#include "oci/json.h"

namespace skink::image {

/// The image with this id (64 hex digits); not_found when there is none; corrupt when its configuration is not what its
/// digest says.
Result<Image> read_image(int store_fd, const std::string& hex);
/// Its configuration alone, likewise.
Result<std::string> read_config_text(int store_fd, const std::string& hex);
/// The names that lead to an image, whatever else of it is damaged.
Result<std::vector<std::string>> names_of_image(int store_fd, const std::string& hex);
/// The digest of its manifest by its record, whatever else of it is damaged; an error when the record is.
Result<oci::Digest> recorded_manifest(int store_fd, const std::string& hex);
/// Its manifest; corrupt when it is not what the record says.
Result<std::string> read_manifest_text(int store_fd, const Image& image);
/// Whether the list of names that is kept with an image can be read; without it, all names are asked which lead there.
Result<void> check_noted_names(int store_fd, const std::string& hex);
/// Hex ids of all images. What has another name is none.
Result<std::vector<std::string>> list_images(int store_fd);
/// SHA-256 of a record but for its own seal.
oci::Digest seal_of_record(const oci::Json& record);
/// What a load finds out about an image.
struct ImageFacts {
  std::vector<oci::Digest> lowers;  ///< as Image::lowers
  std::int64_t size = 0;
  ScaffoldSeal scaffold;
};
/// Writes a new image's files into `dir_fd`, with its names beside them.
Result<void> write_image(int dir_fd, const FoundImage& image, const ImageFacts& facts);

/// The image id of a name, whether or not there is such an image; not_found without the name.
Result<std::string> read_name(int store_fd, const std::string& reference);
/// Points a name to an image. The image may come later; a name without one is not seen. What a kill leaves half
/// written is in `session` and goes with it.
Result<void> write_name(int store_fd, const Session& session, const std::string& reference, const std::string& hex);
/// Notes a name with its image, where it can be found from the id. Comes before write_name().
Result<void> add_name(int store_fd, const std::string& hex, const std::string& reference);
/// Removes a name from its image and for itself; at once, or by the time that names/ is synced.
Result<void> drop_name(int store_fd, const std::string& hex, const std::string& reference,
                       fs::Durability durability = fs::Durability::durable);

/// Keeps an image from lock_unused_image(): see Store::hold().
Result<fs::Lock> hold_image(int store_fd, const std::string& hex);
/// That nobody needs the image, and nobody can come to while the lock lives; busy, with the name of who does. Under the
/// store's lock.
Result<fs::Lock> lock_unused_image(int store_fd, const Image& image, const ImageUsers& users);
/// Takes an image and its scaffold into `session`; its layers stay. Under the store's lock and lock_unused_image()'s.
Result<void> take_image(int store_fd, const std::string& hex, Session& session);

/// diffIDs (hex) of every image in the store. Without the store's lock, images that are removed meanwhile may count or
/// not.
Result<std::set<std::string>> referenced_layers(int store_fd);
/// Those of `layers` (hex) that no image needs but, it may be, the image `but`. Error (corrupt): a damaged image, of
/// which nobody knows what it needs. Under the store's lock.
Result<std::vector<std::string>> unreferenced(int store_fd, std::vector<std::string> layers, const std::string& but);
/// Takes the layers among `layers` that no image needs and no load counts on into `session`. Under the store's lock.
Result<void> take_unreferenced(int store_fd, const std::vector<std::string>& layers, Session& session);
/// Takes layers that no image is known to need, but for those that a load counts on: how many. Under the store's lock.
Result<std::size_t> take_unneeded(int store_fd, const std::vector<std::string>& layers, Session& session);
/// Every stored layer, and those of which only marks are left.
Result<std::vector<std::string>> list_layers(int store_fd);

}  // namespace skink::image
