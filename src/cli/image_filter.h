// SPDX-License-Identifier: Apache-2.0
// The choice of images by docker's filters, for `images` and `image prune`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "image/store.h"

namespace skink::cli {

/// --filter KEY=VALUE, checked.
struct ImageFilter {
  enum class Key { dangling, reference, label, no_label, before, since, until } key = Key::dangling;
  std::string value;
};
/// `allowed` are the keys of the verb; another one is an error that lists them.
Result<ImageFilter> parse_image_filter(std::string_view text, std::span<const ImageFilter::Key> allowed);
/// The keys of `images`, and of `image prune`.
inline constexpr ImageFilter::Key kListFilters[] = {ImageFilter::Key::dangling, ImageFilter::Key::reference,
                                                    ImageFilter::Key::label,    ImageFilter::Key::before,
                                                    ImageFilter::Key::since,    ImageFilter::Key::until};
inline constexpr ImageFilter::Key kPruneFilters[] = {ImageFilter::Key::label, ImageFilter::Key::no_label,
                                                     ImageFilter::Key::until};

/// Filters with what they lead to looked up.
class ImageChoice {
 public:
  /// Errors: a time that is none, an image of before= or since= that is not there.
  static Result<ImageChoice> make(const std::vector<ImageFilter>& filters, const image::Store& store,
                                  std::int64_t now_ns);
  /// Whether the image fits, whatever its names.
  [[nodiscard]] bool fits(const image::Image& image) const;
  /// Whether one of its names does ("" for an image without one): any of the patterns of reference=.
  [[nodiscard]] bool fits_name(const std::string& name) const;

 private:
  std::optional<bool> dangling_;
  std::vector<std::string> patterns_, labels_, no_labels_;
  std::optional<std::int64_t> before_ns_, since_ns_;
};

/// Whether `name` ("team/web:1") or its repository fits a shell pattern in which * does not go beyond a slash.
bool reference_fits(const std::string& name, const std::string& pattern);

}  // namespace skink::cli
