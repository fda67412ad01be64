// SPDX-License-Identifier: Apache-2.0
// Images as JSON (docs/json.md) and by docker's names for templates.
#pragma once

#include <string>
#include <string_view>

#include "image/store.h"
#include "oci/json.h"

namespace skink::cli {

/// The documented object of `images --format json`, for one name of the image ("" for one without).
oci::Json image_json(const image::Image& image, const std::string& name);

/// Docker's field names in `images` templates: Repository, Tag, ID, Digest, CreatedAt, CreatedSince, Size.
oci::Json docker_images_json(const image::Image& image, const std::string& name, std::int64_t now_ns, bool whole);

/// `inspect` of an image: its configuration in words of ours.
oci::Json inspect_image_json(const image::Image& image);

/// Docker's paths in `inspect` templates: Id, RepoTags, Os, Architecture, Size, Config.Cmd, RootFS.Layers, ...
oci::Json docker_inspect_image_json(const image::Image& image);

/// Repository and tag of a name; "<none>" twice for an image without one.
std::pair<std::string, std::string> name_parts(std::string_view name);

}  // namespace skink::cli
