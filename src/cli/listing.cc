// SPDX-License-Identifier: Apache-2.0
// Tables, JSON arrays and lines made by templates.
#include "cli/listing.h"

#include <array>

#include "base/text.h"

namespace skink::cli {

namespace {

Result<std::string> render_lines(const Template& lines, const std::vector<Item>& items) {
  std::string text;
  for (const Item& item : items) {
    const std::array<const oci::Json*, 2> documents{&item.json, &item.docker};
    text += TRY(lines.render(documents)) + '\n';
  }
  return text;
}

Row cells_of(std::string_view line) {
  Row row;
  for (const auto cell : split(line, '\t')) row.emplace_back(cell);
  return row;
}

Result<std::string> render_table_of_lines(const Template& lines, const std::vector<Item>& items) {
  std::vector<Row> rows{cells_of(lines.heading())};
  for (const Item& item : items) {
    const std::array<const oci::Json*, 2> documents{&item.json, &item.docker};
    rows.push_back(cells_of(TRY(lines.render(documents))));
  }
  return format_table(rows);
}

}  // namespace

Result<Format> parse_format(std::string_view text) {
  if (text.empty() || text == "table") return Format{};
  if (text == "json") return Format{Format::Kind::json, std::nullopt};
  Format format{Format::Kind::lines, std::nullopt};
  if (text.starts_with("table ")) {
    format.kind = Format::Kind::table_of_lines;
    text.remove_prefix(6);
  }
  format.lines = TRY(Template::parse(text));
  return format;
}

std::string json_array(const std::vector<oci::Json>& elements) {
  std::string text = "[";
  for (std::size_t i = 0; i < elements.size(); ++i) text += str(i == 0 ? "" : ",\n ", json_line(elements[i]));
  return text + "]\n";
}

Result<std::string> render_list(const Format& format, const Row& heading, const std::vector<Item>& items) {
  switch (format.kind) {
    case Format::Kind::lines: return render_lines(*format.lines, items);
    case Format::Kind::table_of_lines: return render_table_of_lines(*format.lines, items);
    case Format::Kind::json: {
      std::vector<oci::Json> elements;
      for (const Item& item : items) elements.push_back(item.json);
      return json_array(elements);
    }
    case Format::Kind::table: break;
  }
  std::vector<Row> rows{heading};
  for (const Item& item : items) rows.push_back(item.row);
  return format_table(rows);
}

}  // namespace skink::cli
