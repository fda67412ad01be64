// SPDX-License-Identifier: Apache-2.0
#include "cli/exposition.h"

#include "base/text.h"

namespace skink::cli {

std::string metric_label(std::string_view name, std::string_view value) {
  std::string escaped;
  bool first = true;
  for (const std::string_view line : split(value, '\n')) {
    if (!first) escaped += "\\n";
    first = false;
    for (const char c : printable(line)) {
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += c;
    }
  }
  return str(name, "=\"", escaped, '"');
}

void Exposition::add(std::size_t family, std::string_view labels, std::string_view value) {
  const MetricFamily& about = families_[family];
  std::string& out = samples_[family];
  out += about.name;
  if (about.type == MetricFamily::Type::counter) out += "_total";
  if (!labels.empty()) out += str('{', labels, '}');
  out += str(' ', value, '\n');
}

std::string Exposition::text() const {
  std::string text;
  for (std::size_t i = 0; i < families_.size(); ++i) {
    const MetricFamily& about = families_[i];
    if (samples_[i].empty()) continue;
    const std::string_view name = about.name, unit = about.unit;
    text += str("# TYPE ", name, about.type == MetricFamily::Type::counter ? " counter\n" : " gauge\n");
    if (!unit.empty()) text += str("# UNIT ", name, ' ', unit, '\n');
    text += str("# HELP ", name, ' ', std::string_view(about.help), '\n', samples_[i]);
  }
  return text += "# EOF\n";
}

std::string seconds_text(std::uint64_t ns) {
  constexpr std::uint64_t kInSecond = 1'000'000'000;
  const std::string fraction = str(ns % kInSecond);
  std::string text = str(ns / kInSecond, '.', std::string(9 - fraction.size(), '0'), fraction);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace skink::cli
