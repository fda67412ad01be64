// SPDX-License-Identifier: Apache-2.0
// Filters of `skink ps`.
#include <array>

#include "base/text.h"
#include "cli/ps.h"

namespace skink::cli {

namespace {

constexpr std::array<std::pair<std::string_view, Filter::Key>, 6> kFilterKeys{{{"name", Filter::Key::name},
                                                                               {"status", Filter::Key::status},
                                                                               {"label", Filter::Key::label},
                                                                               {"ancestor", Filter::Key::ancestor},
                                                                               {"id", Filter::Key::id},
                                                                               {"exited", Filter::Key::exited}}};

// A part of the name; ^ and $ tie it to the ends, as scripts written for docker do ("^/?web$").
bool name_fits(std::string_view name, std::string_view pattern) {
  const bool from_start = pattern.starts_with('^');
  if (from_start) pattern.remove_prefix(1);
  if (pattern.starts_with("/?")) pattern.remove_prefix(2);
  else if (pattern.starts_with('/')) pattern.remove_prefix(1);
  const bool to_end = pattern.ends_with('$');
  if (to_end) pattern.remove_suffix(1);
  if (from_start && to_end) return name == pattern;
  if (from_start) return name.starts_with(pattern);
  if (to_end) return name.ends_with(pattern);
  return name.find(pattern) != std::string_view::npos;
}

bool label_fits(const std::map<std::string, std::string>& labels, const std::string& wanted) {
  const auto pair = split_once(wanted, '=');
  const auto found = labels.find(std::string(pair ? pair->first : std::string_view(wanted)));
  return found != labels.end() && (!pair || found->second == pair->second);
}

bool one_fits(const ContainerInfo& container, const Filter& filter,
              const std::function<std::string(const std::string&)>& image_id_of) {
  switch (filter.key) {
    case Filter::Key::name: return name_fits(container.name, filter.value);
    case Filter::Key::status:
      return filter.value == (container.problem.empty() ? to_text(container.phase) : std::string_view("corrupt"));
    case Filter::Key::label: return label_fits(container.labels, filter.value);
    case Filter::Key::id: return container.id.starts_with(filter.value);
    case Filter::Key::exited:
      return container.phase == Phase::exited && container.last_exit && container.last_exit->known &&
             str(container.last_exit->status) == filter.value;
    case Filter::Key::ancestor: {
      if (container.image == filter.value) return true;
      const std::string id = image_id_of(filter.value);
      return !id.empty() && container.image_id == id;
    }
  }
  return false;
}

}  // namespace

Result<Filter> parse_filter(std::string_view text) {
  const auto pair = split_once(text, '=');
  if (!pair) return Error::make(Code::invalid_config, quoted(text), " is not KEY=VALUE");
  for (const auto& [word, key] : kFilterKeys) {
    if (pair->first != word) continue;
    constexpr std::array<std::string_view, 7> kStates{"created", "running", "paused", "restarting",
                                                      "exited",  "unknown", "corrupt"};
    bool known = key != Filter::Key::status;
    for (const auto state : kStates) known = known || pair->second == state;
    if (!known)
      return Error::make(Code::invalid_config, quoted(pair->second),
                         " is not a state: created, running, paused, restarting, exited, unknown or corrupt");
    if (key == Filter::Key::exited && !parse_int<int>(pair->second))
      return Error::make(Code::invalid_config, quoted(pair->second), " is not an exit status");
    return Filter{key, std::string(pair->second)};
  }
  return Error::make(Code::invalid_config, quoted(pair->first),
                     " is not a filter: name, status, label, ancestor, id or exited");
}

bool fits(const ContainerInfo& container, const std::vector<Filter>& filters,
          const std::function<std::string(const std::string&)>& image_id_of) {
  for (const auto& [word, key] : kFilterKeys) {
    bool asked = false;
    bool any = false;
    bool all = true;
    for (const Filter& filter : filters) {
      if (filter.key != key) continue;
      const bool fit = one_fits(container, filter, image_id_of);
      asked = true;
      any = any || fit;
      all = all && fit;
    }
    if (asked && !(key == Filter::Key::label ? all : any)) return false;
  }
  return true;
}

bool is_active(const ContainerInfo& container) {
  return !container.problem.empty() || (container.phase != Phase::created && container.phase != Phase::exited);
}

}  // namespace skink::cli
