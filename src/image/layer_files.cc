// SPDX-License-Identifier: Apache-2.0
#include "image/layer_files.h"

#include <algorithm>
#include <utility>

#include "image/path.h"

namespace skink::image {
namespace {

// As a LayerWriter knows directories: relative, within the limits, nothing to be normalised. The root is "".
bool is_path(std::string_view path) {
  if (path.size() >= kPathMost) return false;
  if (path.empty()) return true;
  std::size_t depth = 0;
  for (std::size_t at = 0; at <= path.size(); ++depth) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view name = path.substr(at, end - at);
    if (name.empty() || name == "." || name == ".." || name.size() > kComponentMost) return false;
    at = end + 1;
  }
  return depth <= kDepthMost;
}

}  // namespace

Result<void> ImpliedCount::add(std::size_t paths, std::size_t bytes, std::string_view of_what) {
  paths_ += paths;
  bytes_ += bytes;
  if (paths_ <= kImpliedMost && bytes_ <= kImpliedBytesMost) return {};
  const std::string too_many = paths_ > kImpliedMost
                                   ? str("more than ", kImpliedMost)
                                   : str("more than ", kImpliedBytesMost >> 20, " MiB of names and attributes of");
  const std::string_view which = kind_ == Kind::implied    ? " directories without an entry of their own in "
                                 : kind_ == Kind::covering ? " directories with whiteouts in "
                                                           : " directories without an entry or with whiteouts in ";
  return Error::make(Code::unsupported, too_many, which, of_what,
                     kind_ == Kind::implied ? "; pack it with entries for its directories"
                                            : "; make one layer of those that it hides and itself");
}

Result<std::string> format_implied(std::vector<std::string>& paths, ImpliedCount::Kind kind) {
  std::sort(paths.begin(), paths.end());
  ImpliedCount count(kind);
  std::string list;
  for (const auto& path : paths) {
    TRY(count.add(1, path.size() + 1, "one layer"));
    list.append(path).push_back('\0');
  }
  return list;
}

Result<std::vector<std::string>> parse_implied(std::string_view list) {
  const auto damaged = [](std::string_view why) {
    return Error::make(Code::corrupt, "the layer's list of implied directories is damaged: ", why);
  };
  std::vector<std::string> paths;
  if (list.size() > kImpliedBytesMost) return damaged("it is too long");
  while (!list.empty()) {
    const std::size_t end = list.find('\0');
    if (end == list.npos) return damaged("it ends early");
    const std::string_view path = list.substr(0, end);
    if (!is_path(path)) return damaged("a path that no directory has");
    if (!paths.empty() && path <= paths.back()) return damaged("it is not sorted");
    if (paths.size() == kImpliedMost) return damaged("it is too long");
    paths.emplace_back(path);
    list.remove_prefix(end + 1);
  }
  return paths;
}

void sort_whiteouts(std::vector<std::string>& paths) {
  const auto key = [](const std::string& path) {
    return std::pair(std::count(path.begin(), path.end(), '/'), std::string_view(path));
  };
  std::sort(paths.begin(), paths.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
}

}  // namespace skink::image
