// SPDX-License-Identifier: Apache-2.0
#include "cli/image_filter.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "cli/image_json.h"
#include "cli/times.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

using ImageKey = ImageFilter::Key;

constexpr std::array<std::pair<std::string_view, ImageKey>, 7> kImageKeys{{{"dangling", ImageKey::dangling},
                                                                           {"reference", ImageKey::reference},
                                                                           {"label", ImageKey::label},
                                                                           {"label!", ImageKey::no_label},
                                                                           {"before", ImageKey::before},
                                                                           {"since", ImageKey::since},
                                                                           {"until", ImageKey::until}}};

std::optional<bool> parse_switch(std::string_view text) {
  for (const std::string_view yes : {"true", "1", "t"})
    if (text == yes) return true;
  for (const std::string_view no : {"false", "0", "f"})
    if (text == no) return false;
  return std::nullopt;
}

std::int64_t made_ns(const image::Image& image) { return fs::parse_rfc3339(image.config.created).value_or(0); }

bool label_fits(const image::Image& image, const std::string& wanted) {
  const auto pair = split_once(wanted, '=');
  const auto& labels = image.config.run.labels;
  const auto found = labels.find(std::string(pair ? pair->first : std::string_view(wanted)));
  return found != labels.end() && (!pair || found->second == pair->second);
}

}  // namespace

Result<ImageFilter> parse_image_filter(std::string_view text, std::span<const ImageKey> allowed) {
  const auto pair = split_once(text, '=');
  if (!pair) return Error::make(Code::invalid_config, quoted(text), " is not KEY=VALUE");
  std::string known;
  for (const auto& [word, key] : kImageKeys) {
    if (std::find(allowed.begin(), allowed.end(), key) == allowed.end()) continue;
    known += str(known.empty() ? "" : ", ", word, '=');
    if (pair->first != word) continue;
    if (key == ImageKey::dangling && !parse_switch(pair->second))
      return Error::make(Code::invalid_config, "dangling: ", quoted(pair->second), " is neither true nor false");
    if (pair->second.empty()) return Error::make(Code::invalid_config, word, ": nothing follows it");
    return ImageFilter{key, std::string(pair->second)};
  }
  return Error::make(Code::invalid_config, quoted(pair->first), " is not a filter: ", known);
}

bool reference_fits(const std::string& name, const std::string& pattern) {
  const auto matches = [&](const std::string& text) {
    return ::fnmatch(pattern.c_str(), text.c_str(), FNM_PATHNAME) == 0;
  };
  return matches(name) || matches(name_parts(name).first);
}

Result<ImageChoice> ImageChoice::make(const std::vector<ImageFilter>& filters, const image::Store& store,
                                      std::int64_t now_ns) {
  ImageChoice choice;
  const auto not_after = [&choice](std::int64_t ns) {
    choice.before_ns_ = std::min(choice.before_ns_.value_or(ns), ns);
  };
  for (const auto& [key, value] : filters) {
    switch (key) {
      case ImageKey::dangling: choice.dangling_ = parse_switch(value); break;
      case ImageKey::reference: choice.patterns_.push_back(value); break;
      case ImageKey::label: choice.labels_.push_back(value); break;
      case ImageKey::no_label: choice.no_labels_.push_back(value); break;
      case ImageKey::before: not_after(made_ns(TRY_CTX(store.find(value), "before"))); break;
      case ImageKey::since: {
        const std::int64_t ns = made_ns(TRY_CTX(store.find(value), "since"));
        choice.since_ns_ = std::max(choice.since_ns_.value_or(ns), ns);
        break;
      }
      case ImageKey::until: not_after(TRY_CTX(parse_time(value, now_ns), "until")); break;
    }
  }
  return choice;
}

bool ImageChoice::fits(const image::Image& image) const {
  const auto is_on = [&image](const std::string& label) { return label_fits(image, label); };
  if (dangling_ && *dangling_ != image.names.empty()) return false;
  if (before_ns_ && made_ns(image) >= *before_ns_) return false;
  if (since_ns_ && made_ns(image) <= *since_ns_) return false;
  return std::all_of(labels_.begin(), labels_.end(), is_on) &&
         std::none_of(no_labels_.begin(), no_labels_.end(), is_on);
}

bool ImageChoice::fits_name(const std::string& name) const {
  return patterns_.empty() || std::any_of(patterns_.begin(), patterns_.end(),
                                          [&](const auto& pattern) { return reference_fits(name, pattern); });
}

}  // namespace skink::cli
