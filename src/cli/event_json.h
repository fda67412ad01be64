// SPDX-License-Identifier: Apache-2.0
// Events as `skink events` shows them: as JSON (docs/json.md), by docker's names for templates, as lines for people;
// and its filters.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/json.h"
#include "supervise/event_log.h"

namespace skink::cli {

/// The documented object of `events --format json`.
oci::Json event_json(const supervise::Event& event);

/// Docker's field names in templates: Type, Action, Status, ID, From, Actor.ID, Actor.Attributes, scope, timeNano.
oci::Json docker_event_json(const supervise::Event& event);

/// "TIME container die ID (exit_code=1, image=web:1.1, name=web)": printable, without newline.
std::string event_line(const supervise::Event& event);

/// --filter KEY=VALUE, checked.
struct EventFilter {
  enum class Key { container, event, type, image, label } key = Key::container;
  std::string value;
};
Result<EventFilter> parse_event_filter(std::string_view text);

/// Whether the event fits: any of the filters with one key (each of them for labels), for every key given.
bool fits(const supervise::Event& event, const std::vector<EventFilter>& filters);

}  // namespace skink::cli
