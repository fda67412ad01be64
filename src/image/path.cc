// SPDX-License-Identifier: Apache-2.0
#include "image/path.h"

#include "base/text.h"

namespace skink::image {

Result<std::string> normalise_path(std::string_view name) {
  if (name.size() > kPathMost) return Error::make(Code::corrupt, "a name of more than ", kPathMost, " bytes");
  if (name.find('\0') != name.npos)
    return Error::make(Code::corrupt, skink::quoted(shown(name)), ": a name with a NUL byte");
  std::vector<std::string_view> kept;
  for (const auto component : split(name, '/')) {
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      if (!kept.empty()) kept.pop_back();
      continue;
    }
    if (component.size() > kComponentMost)
      return Error::make(Code::corrupt, skink::quoted(component.substr(0, 40)), "...: a name component of more than ",
                         kComponentMost, " bytes");
    kept.push_back(component);
  }
  if (kept.size() > kDepthMost) return Error::make(Code::corrupt, "a name of more than ", kDepthMost, " components");
  std::string path;
  for (const auto component : kept) {
    if (!path.empty()) path += '/';
    path += component;
  }
  return path;
}

std::pair<std::string, std::string> split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

std::vector<std::string> components_of(std::string_view path) {
  std::vector<std::string> components;
  for (const auto component : split(path, '/'))
    if (!component.empty()) components.emplace_back(component);
  return components;
}

std::string shown(std::string_view text) {
  constexpr std::size_t kShownMost = 200;
  if (text.size() <= kShownMost) return std::string(text);
  return str(text.substr(0, kShownMost), "...");
}

std::string join_path(std::string_view parent, std::string_view name) {
  return parent.empty() ? std::string(name) : str(parent, '/', name);
}

}  // namespace skink::image
