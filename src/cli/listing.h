// SPDX-License-Identifier: Apache-2.0
// Listing: what --format means for the verbs that print many things: table, json, or a template of the user's.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/context.h"
#include "cli/table.h"
#include "cli/template.h"

namespace skink::cli {

/// --format: "table", "json", "TEMPLATE" or "table TEMPLATE".
struct Format {
  enum class Kind { table, json, lines, table_of_lines } kind = Kind::table;
  std::optional<Template> lines;
};
Result<Format> parse_format(std::string_view text);

/// One thing of a list: our documented JSON, docker's names for templates, and the cells of the table.
struct Item {
  oci::Json json;
  oci::Json docker;
  Row row;
};

/// The whole text of a list.
Result<std::string> render_list(const Format& format, const Row& heading, const std::vector<Item>& items);

/// A list of things as one JSON array, an element a line; "[]" when there are none.
std::string json_array(const std::vector<oci::Json>& elements);

}  // namespace skink::cli
