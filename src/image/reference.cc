// SPDX-License-Identifier: Apache-2.0
// References: "repository:tag" as people write it.
#include <algorithm>

#include "base/text.h"
#include "image/store.h"

namespace skink::image {
namespace {

constexpr std::size_t kTagMost = 128;
// A reference is also a file name of the store, with room for the name of its temporary file.
constexpr std::size_t kReferenceMost = 225;

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool is_name_character(char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; }

// One piece between slashes; a port may follow the first one of several.
bool is_component(std::string_view text, bool may_have_port) {
  if (may_have_port) {
    if (const auto parts = split_once(text, ':')) {
      if (!parse_int<std::uint16_t>(parts->second)) return false;
      text = parts->first;
    }
  }
  return !text.empty() && is_alphanumeric(text.front()) && std::all_of(text.begin(), text.end(), is_name_character);
}

bool is_repository(std::string_view text) {
  const auto components = split(text, '/');
  for (std::size_t i = 0; i < components.size(); ++i)
    if (!is_component(components[i], i == 0 && components.size() > 1)) return false;
  return true;
}

}  // namespace

Result<Reference> parse_reference(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return Error::make(Code::invalid_config, skink::quoted(text.substr(0, kReferenceMost + 1)), ": ", why);
  };
  if (text.size() > kReferenceMost) return bad("an image name of more than 225 bytes");
  std::string_view repository = text;
  for (const std::string_view prefix : {"docker.io/library/", "docker.io/"})
    if (repository.starts_with(prefix)) {
      repository.remove_prefix(prefix.size());
      break;
    }
  std::string digest;
  if (const std::size_t at = repository.find('@'); at != repository.npos) {
    const auto parsed = oci::Digest::parse(repository.substr(at + 1));
    if (!parsed) return bad(parsed.error().text());
    digest = parsed->text();
    repository = repository.substr(0, at);
  }
  std::string_view tag = "latest";
  const std::size_t colon = repository.rfind(':');
  if (colon != repository.npos && repository.find('/', colon) == repository.npos) {
    tag = repository.substr(colon + 1);
    repository = repository.substr(0, colon);
  }
  if (repository.empty() || !is_repository(repository))
    return bad("not an image name; letters, digits, '.', '_', '-' and '/' make one, as in \"web:1.2\"");
  if (tag.empty() || tag.size() > kTagMost || !(is_alphanumeric(tag[0]) || tag[0] == '_') ||
      !std::all_of(tag.begin(), tag.end(), is_name_character))
    return bad("the tag behind the colon is not one; letters, digits, '.', '_' and '-' make one");
  return Reference{std::string(repository), digest.empty() ? std::string(tag) : std::string(), std::move(digest)};
}

}  // namespace skink::image
