// SPDX-License-Identifier: Apache-2.0
// A location as JSON, for the state file.
#include <algorithm>
#include <iterator>

#include "cgroup/cgroup.h"
#include "cgroup/detect.h"
#include "oci/json.h"

namespace skink::cgroup {
namespace {

constexpr std::string_view kLayouts[] = {"v1", "v2", "hybrid"};

Result<Place> parse_place(const oci::Json& json) {
  Place place;
  place.hierarchy.mount_point = oci::get_string(json, "mount");
  place.hierarchy.controllers = oci::get_string(json, "controllers");
  place.hierarchy.unified = place.hierarchy.controllers.empty();
  // State files are ours, but what they say decides what is removed: the same rules as for a configuration.
  if (!place.hierarchy.mount_point.starts_with('/'))
    return Error::make(Code::corrupt, "control group location: a mount point is missing or not absolute");
  place.path = TRY_CTX(checked_path(oci::get_string(json, "path")), "control group location");
  return place;
}

}  // namespace

std::string dump_location(const Location& location) {
  oci::Json places = oci::Json::array();
  for (const Place& place : location.places) {
    oci::Json one = {{"mount", place.hierarchy.mount_point}, {"path", place.path}};
    if (!place.hierarchy.unified) one["controllers"] = place.hierarchy.controllers;
    places.push_back(std::move(one));
  }
  oci::Json json;
  json["layout"] = kLayouts[static_cast<std::size_t>(location.layout)];
  json["places"] = std::move(places);
  return oci::dump_json(json);
}

Result<Location> parse_location(std::string_view text) {
  const oci::Json json = TRY_CTX(oci::parse_json(text), "control group location");
  const std::string layout = oci::get_string(json, "layout");
  const auto* const name = std::ranges::find(kLayouts, layout);
  const oci::Json* const places = oci::find(json, "places");
  if (name == std::end(kLayouts) || places == nullptr || !places->is_array())
    return Error::make(Code::corrupt, "control group location: no layout or no places");
  Location location;
  location.layout = static_cast<Layout>(name - std::begin(kLayouts));
  for (const oci::Json& place : *places) location.places.push_back(TRY(parse_place(place)));
  return location;
}

}  // namespace skink::cgroup
