// SPDX-License-Identifier: Apache-2.0
// The choice of containers in `skink ps`: its filters, apart from printing.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "skink/engine.h"

namespace skink::cli {

/// --filter KEY=VALUE, checked.
struct Filter {
  enum class Key { name, status, label, ancestor, id, exited } key = Key::name;
  std::string value;
};
Result<Filter> parse_filter(std::string_view text);

/// Whether the container fits: any of the filters with one key (each of them for labels), for every key given.
/// `image_id_of` finds the id behind an image's name; empty when there is none.
bool fits(const ContainerInfo& container, const std::vector<Filter>& filters,
          const std::function<std::string(const std::string&)>& image_id_of);

/// Whether `ps` without -a shows it.
bool is_active(const ContainerInfo& container);

}  // namespace skink::cli
