// SPDX-License-Identifier: Apache-2.0
// A location as text, for the state file: the layout, then a line for each place: path, controllers and mount point
// with tabs between them. Not JSON: a list of containers reads one for each.
#include <algorithm>
#include <iterator>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/detect.h"

namespace skink::cgroup {
namespace {

constexpr std::string_view kLayouts[] = {"v1", "v2", "hybrid"};

Result<Place> parse_place(std::string_view line) {
  const auto path = split_once(line, '\t');
  const auto rest = path ? split_once(path->second, '\t') : std::nullopt;
  if (!rest) return Error::make(Code::corrupt, "control group location: ", quoted(line), " is no place");
  Place place;
  place.hierarchy.controllers = std::string(rest->first);
  place.hierarchy.mount_point = std::string(rest->second);
  place.hierarchy.unified = place.hierarchy.controllers.empty();
  // State files are ours, but what they say decides what is removed: the same rules as for a configuration.
  if (!place.hierarchy.mount_point.starts_with('/'))
    return Error::make(Code::corrupt, "control group location: a mount point is missing or not absolute");
  place.path = TRY_CTX(checked_path(path->first), "control group location");
  return place;
}

}  // namespace

std::string dump_location(const Location& location) {
  std::string text(kLayouts[static_cast<std::size_t>(location.layout)]);
  for (const Place& place : location.places)
    text += str('\n', place.path, '\t', place.hierarchy.controllers, '\t', place.hierarchy.mount_point);
  return text;
}

Result<Location> parse_location(std::string_view text) {
  const auto lines = split(text, '\n');
  const auto* const name = std::ranges::find(kLayouts, lines.front());
  if (name == std::end(kLayouts)) return Error::make(Code::corrupt, "control group location: no layout");
  Location location;
  location.layout = static_cast<Layout>(name - std::begin(kLayouts));
  for (std::size_t i = 1; i < lines.size(); ++i) location.places.push_back(TRY(parse_place(lines[i])));
  return location;
}

}  // namespace skink::cgroup
