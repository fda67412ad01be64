// SPDX-License-Identifier: Apache-2.0
// StoredLayer: a layer or scaffold of the store, whichever of its two forms it has.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/layer.h"

namespace skink::image {

enum class Form { file, directory };

/// The name that a layer has in its part of the store (kLayers, kScaffolds).
std::string stored_name(const std::string& hex, Form form);
/// The digits in such a name.
std::string hex_of(const std::string& name);
/// The form of what is there; nothing when nothing is.
Result<std::optional<Form>> find_form(int store_fd, const char* part, const std::string& hex);
/// Reads what is there.
Result<std::unique_ptr<LayerReader>> open_stored(int store_fd, const char* part, const std::string& hex);
/// The directory of a layer's marks; not_found when it has none.
Result<UniqueFd> open_marks(int store_fd, const std::string& hex);
/// The uuid of a file, from the digits of what it is stored by.
LayerUuid uuid_of(const std::string& hex);

/// An empty file for a layer below `dir_fd`, which nobody opens for writing again.
Result<UniqueFd> make_layer_file(int dir_fd, const std::string& name);
/// A new layer below `dir_fd` under this name, and its writer.
Result<std::unique_ptr<LayerWriter>> make_stored(int dir_fd, const std::string& name, Form form, const LayerUuid& uuid);

}  // namespace skink::image
