// SPDX-License-Identifier: Apache-2.0
// Events: words and choice.
#include "cli/event_json.h"

#include <array>

#include "base/text.h"
#include "fs/dir.h"
#include "image/store.h"

namespace skink::cli {

namespace {

using oci::Json;
using supervise::Event;
using Key = EventFilter::Key;

constexpr std::array<std::pair<std::string_view, Key>, 5> kKeys{{{"container", Key::container},
                                                                 {"event", Key::event},
                                                                 {"type", Key::type},
                                                                 {"image", Key::image},
                                                                 {"label", Key::label}}};

Json labels_of(const Event& event) {
  Json labels = Json::object();
  for (const auto& [key, value] : event.labels) labels[key] = value;
  return labels;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : oci::dump_json(value); }

// Docker knows strings only, and puts the labels beside its own.
Json docker_attributes(const Event& event) {
  Json attributes = labels_of(event);
  attributes["name"] = event.name;
  if (!event.image.empty()) attributes["image"] = event.image;
  for (const auto& [key, value] : event.attributes.items()) {
    const bool renamed = key == "exit_code";
    attributes[renamed ? "exitCode" : key] = text_of(value);
  }
  return attributes;
}

bool container_fits(const Event& event, const std::string& wanted) {
  return event.type == "container" && !wanted.empty() && (event.name == wanted || event.id.starts_with(wanted));
}

// "web" is web:latest and every event of an image's id; a name without a tag fits all of its tags, as `skink images
// web`.
bool image_fits(const Event& event, const std::string& wanted) {
  const std::string& name = event.type == "image" ? event.name : event.image;
  if (wanted.empty()) return false;
  if (name == wanted || name.starts_with(wanted + ":")) return true;
  const auto wanted_reference = image::parse_reference(wanted), reference = image::parse_reference(name);
  if (wanted_reference && reference && wanted_reference->text() == reference->text()) return true;
  if (event.type != "image") return false;
  const std::string_view id = event.id;
  return id.starts_with(wanted) || id.substr(id.find(':') + 1).starts_with(wanted);
}

bool label_fits(const Event& event, const std::string& wanted) {
  const auto pair = split_once(wanted, '=');
  const auto found = event.labels.find(std::string(pair ? pair->first : std::string_view(wanted)));
  return found != event.labels.end() && (!pair || found->second == pair->second);
}

bool one_fits(const Event& event, const EventFilter& filter) {
  switch (filter.key) {
    case Key::container: return container_fits(event, filter.value);
    case Key::event: return event.action == filter.value;
    case Key::type: return event.type == filter.value;
    case Key::image: return image_fits(event, filter.value);
    case Key::label: return label_fits(event, filter.value);
  }
  return false;
}

}  // namespace

Json event_json(const Event& event) {
  Json json{{"time", fs::rfc3339(event.time_ns)},
            {"time_ns", event.time_ns},
            {"type", event.type},
            {"action", event.action},
            {"id", event.id},
            {"name", event.name},
            {"image", event.image},
            {"run", event.run}};
  json["labels"] = labels_of(event);
  json["attributes"] = event.attributes;
  return json;
}

Json docker_event_json(const Event& event) {
  Json json{{"Type", event.type},        {"Action", event.action},   {"Status", event.action},
            {"status", event.action},    {"ID", event.id},           {"From", event.image},
            {"from", event.image},       {"scope", "local"},         {"Time", event.time_ns / 1'000'000'000},
            {"TimeNano", event.time_ns}, {"timeNano", event.time_ns}};
  json["Actor"] = Json{{"ID", event.id}};
  json["Actor"]["Attributes"] = docker_attributes(event);
  return json;
}

std::string event_line(const Event& event) {
  std::string more;
  const auto add = [&more](std::string_view key, std::string_view value) {
    if (!value.empty()) more += str(more.empty() ? "" : ", ", key, '=', value);
  };
  for (const auto& [key, value] : event.attributes.items()) add(key, text_of(value));
  add("image", event.image);
  add("name", event.name);
  return printable(str(fs::rfc3339(event.time_ns), ' ', event.type, ' ', event.action, ' ', event.id,
                       more.empty() ? "" : str(" (", more, ')')));
}

Result<EventFilter> parse_event_filter(std::string_view text) {
  const auto pair = split_once(text, '=');
  if (!pair) return Error::make(Code::invalid_config, quoted(text), " is not KEY=VALUE");
  for (const auto& [word, key] : kKeys) {
    if (pair->first != word) continue;
    if (key == Key::type && pair->second != "container" && pair->second != "image")
      return Error::make(Code::invalid_config, quoted(pair->second), " is not a type: container or image");
    return EventFilter{key, std::string(pair->second)};
  }
  return Error::make(Code::invalid_config, quoted(pair->first),
                     " is not a filter: container, event, type, image or label");
}

bool fits(const Event& event, const std::vector<EventFilter>& filters) {
  for (const auto& [word, key] : kKeys) {
    bool asked = false, any = false, all = true;
    for (const EventFilter& filter : filters) {
      if (filter.key != key) continue;
      const bool fit = one_fits(event, filter);
      asked = true;
      any = any || fit;
      all = all && fit;
    }
    if (asked && !(key == Key::label ? all : any)) return false;
  }
  return true;
}

}  // namespace skink::cli
