// SPDX-License-Identifier: Apache-2.0
// Exposition: OpenMetrics 1.0 text (https://openmetrics.io, "Text format"), which Prometheus and all that speak its
// format read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace skink::cli {

/// What is said of a family once. Only the types that Prometheus's older format has too: node_exporter's textfile
/// collector refuses a file with any other ("info", "stateset").
struct MetricFamily {
  enum class Type { gauge, counter } type;
  const char* name;  ///< without "_total", which each sample of a counter gets; ends in the unit where there is one
  const char* unit;  ///< "seconds", "bytes", or "" for none
  const char* help;
};

/// name="value",... with the values escaped: quotes, backslashes and new lines as the format says; other bytes that
/// steer a terminal or are no UTF-8, which the format does not allow, as \xNN.
std::string metric_label(std::string_view name, std::string_view value);

/// Collects samples by family, in any order, and writes each family in one piece, as the format wants it.
class Exposition {
 public:
  /// `families` has to live as long as this; a family is named by its place in there.
  explicit Exposition(std::span<const MetricFamily> families) : families_(families), samples_(families.size()) {}

  /// `labels` as metric_label() makes them, with commas between; may be empty. The value is a number in decimal.
  void add(std::size_t family, std::string_view labels, std::string_view value);
  /// Families without a sample are left out.
  [[nodiscard]] std::string text() const;

 private:
  std::span<const MetricFamily> families_;
  std::vector<std::string> samples_;
};

/// Nanoseconds as seconds in decimal, exactly: "1.5", "0.000000001", "3".
std::string seconds_text(std::uint64_t ns);

}  // namespace skink::cli
