// SPDX-License-Identifier: Apache-2.0
#include "image/posix_acl.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/text.h"

namespace skink::image {
namespace {

using Tag = AclEntry::Tag;

// struct posix_acl_xattr_header and _entry, little-endian.
constexpr std::uint32_t kAclVersion = 2;
struct AclRecord {
  std::uint16_t tag = 0;
  std::uint16_t rights = 0;
  std::uint32_t id = 0;
};
static_assert(sizeof(AclRecord) == 8);
constexpr std::size_t kAclBytesMost = 65535;  // of an extended attribute
constexpr std::size_t kAclEntriesMost = (kAclBytesMost - sizeof kAclVersion) / sizeof(AclRecord);

bool is_named(Tag tag) { return tag == Tag::user || tag == Tag::group; }

auto acl_order(const AclEntry& entry) { return std::pair(entry.tag, entry.id); }

// As acl_valid(3) wants it.
bool is_valid(const std::vector<AclEntry>& entries) {
  if (entries.size() > kAclEntriesMost) return false;
  bool named = false, masked = false;
  int owners = 0;  // user::, group::, other::
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const AclEntry& entry = entries[i];
    if (entry.rights > 7 || (i > 0 && acl_order(entries[i - 1]) >= acl_order(entry))) return false;
    switch (entry.tag) {
      case Tag::user_obj:
      case Tag::group_obj:
      case Tag::other: ++owners; break;
      case Tag::user:
      case Tag::group: named = true; break;
      case Tag::mask: masked = true; break;
      default: return false;
    }
    if (is_named(entry.tag) && entry.id == ~0U) return false;
  }
  return owners == 3 && (masked || !named);
}

std::optional<std::uint16_t> parse_rights(std::string_view text) {
  constexpr std::string_view kAll = "rwx";
  if (text.size() != kAll.size()) return std::nullopt;
  std::uint16_t rights = 0;
  for (std::size_t i = 0; i < kAll.size(); ++i) {
    if (text[i] != kAll[i] && text[i] != '-') return std::nullopt;
    rights = static_cast<std::uint16_t>(rights * 2 + (text[i] == '-' ? 0 : 1));
  }
  return rights;
}

std::optional<Tag> parse_tag(std::string_view text, bool named) {
  if (text == "user" || text == "u") return named ? Tag::user : Tag::user_obj;
  if (text == "group" || text == "g") return named ? Tag::group : Tag::group_obj;
  if (named) return std::nullopt;
  if (text == "mask" || text == "m") return Tag::mask;
  if (text == "other" || text == "o") return Tag::other;
  return std::nullopt;
}

// A comment begins the line or follows a blank: names may have both.
std::string_view without_comment(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i)
    if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) line = line.substr(0, i);
  while (line.ends_with(' ') || line.ends_with('\t')) line.remove_suffix(1);
  return line;
}

// "user:bob:rwx:1000", "group::r-x", "mask:rwx". An id of ~0 is one that nobody knows.
std::optional<AclEntry> parse_entry(std::string_view text) {
  std::vector<std::string_view> fields = split(text, ':');
  if (fields.size() == 2) fields.insert(fields.begin() + 1, std::string_view());
  if (fields.size() != 3 && fields.size() != 4) return std::nullopt;
  const auto tag = parse_tag(fields[0], !fields[1].empty());
  const auto rights = parse_rights(fields[2]);
  if (!tag || !rights) return std::nullopt;
  AclEntry entry{.tag = *tag, .rights = *rights};
  if (is_named(*tag)) entry.id = parse_int<std::uint32_t>(fields.size() == 4 ? fields[3] : fields[1]).value_or(~0U);
  return entry;
}

}  // namespace

Acl parse_acl(std::string_view value) {
  std::uint32_t version = 0;
  if (value.size() < sizeof version || value.size() > kAclBytesMost) return {};
  std::memcpy(&version, value.data(), sizeof version);
  value.remove_prefix(sizeof version);
  if (version != kAclVersion || value.size() % sizeof(AclRecord) != 0) return {};
  Acl acl;
  for (; !value.empty(); value.remove_prefix(sizeof(AclRecord))) {
    AclRecord record;
    std::memcpy(&record, value.data(), sizeof record);
    const Tag tag{record.tag};
    acl.entries.push_back({.tag = tag, .rights = record.rights, .id = is_named(tag) ? record.id : ~0U});
  }
  if (!is_valid(acl.entries)) return {};
  acl.whole = true;
  return acl;
}

Acl parse_acl_text(std::string_view text) {
  Acl acl;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(",\n"), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = without_comment(line);
    if (line.empty()) continue;
    // What is not read may have denied somebody anything.
    constexpr AclEntry kUnread{.tag = Tag::user, .rights = 0, .id = ~0U};
    if (acl.entries.size() == kAclEntriesMost) return {.entries = {kUnread}};
    acl.entries.push_back(parse_entry(line).value_or(kUnread));
  }
  std::sort(acl.entries.begin(), acl.entries.end(),
            [](const AclEntry& a, const AclEntry& b) { return acl_order(a) < acl_order(b); });
  acl.whole = is_valid(acl.entries);
  return acl;
}

std::string format_acl(const Acl& acl) {
  std::string value(reinterpret_cast<const char*>(&kAclVersion), sizeof kAclVersion);
  for (const AclEntry& entry : acl.entries) {
    const AclRecord record{.tag = static_cast<std::uint16_t>(entry.tag), .rights = entry.rights, .id = entry.id};
    value.append(reinterpret_cast<const char*>(&record), sizeof record);
  }
  return value;
}

std::string acl_with_mode(std::string_view value, mode_t mode) {
  Acl acl = parse_acl(value);
  const bool masked =
      std::any_of(acl.entries.begin(), acl.entries.end(), [](const AclEntry& entry) { return entry.tag == Tag::mask; });
  for (AclEntry& entry : acl.entries) {
    if (entry.tag == Tag::user_obj) entry.rights = mode >> 6 & 7U;
    if (entry.tag == (masked ? Tag::mask : Tag::group_obj)) entry.rights = mode >> 3 & 7U;
    if (entry.tag == Tag::other) entry.rights = mode & 7U;
  }
  return format_acl(acl);
}

mode_t mode_without(const Acl& acl, mode_t mode) {
  const mode_t mask = mode >> 3 & 7U;
  mode_t group = 0, named = 7;
  for (const AclEntry& entry : acl.entries) {
    if (entry.tag == Tag::group_obj) group = entry.rights;
    if (is_named(entry.tag)) named &= entry.rights & mask;
  }
  return (mode & ~mode_t{077}) | (mask & group & named) << 3 | (mode & 7U & named);
}

}  // namespace skink::image
