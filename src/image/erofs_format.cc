// SPDX-License-Identifier: Apache-2.0
#include "image/erofs_format.h"

#include <array>
#include <cerrno>
#include <map>
#include <string_view>

#include "base/text.h"

namespace skink::image::erofs {
namespace {

struct Prefix {
  std::string_view text;
  std::uint8_t index;
  bool whole;  // the prefix is the whole name
};
constexpr std::array<Prefix, 5> kPrefixes{{{"user.", 1, false},
                                           {"system.posix_acl_access", 2, true},
                                           {"system.posix_acl_default", 3, true},
                                           {"trusted.", 4, false},
                                           {"security.", 6, false}}};
constexpr std::size_t kNameMost = 255;
constexpr std::size_t kValueMost = 0xffff;

const Prefix* prefix_of(std::string_view name) {
  for (const Prefix& prefix : kPrefixes)
    if (prefix.whole ? name == prefix.text : name.starts_with(prefix.text) && name.size() > prefix.text.size())
      return &prefix;
  return nullptr;
}

}  // namespace

Error too_many_xattrs(std::string_view name) {
  return Error::make(Code::unsupported, "extended attribute ", printable(name), ": those of one file have more than ",
                     kXattrsOfInodeMost, " bytes");
}

Result<std::string> pack_xattrs(const Xattrs& xattrs) {
  std::map<std::string_view, std::string_view> last;
  for (const auto& [name, value] : xattrs) last[name] = value;
  std::string packed;
  for (const auto& [name, value] : last) {
    const Prefix* prefix = prefix_of(name);
    if (prefix == nullptr) return Error::from_errno(EOPNOTSUPP, "set xattr ", printable(name));
    if (name.size() > kNameMost) return Error::from_errno(ERANGE, "set xattr ", printable(name));
    if (value.size() > kValueMost) return Error::from_errno(E2BIG, "set xattr ", printable(name));
    const std::string_view rest = name.substr(prefix->text.size());
    const XattrEntry entry{static_cast<std::uint8_t>(rest.size()), prefix->index,
                           static_cast<std::uint16_t>(value.size())};
    packed.append(reinterpret_cast<const char*>(&entry), sizeof entry).append(rest).append(value);
    packed.resize((packed.size() + 3) / 4 * 4);
    if (packed.size() > kXattrsOfInodeMost) return too_many_xattrs(name);
  }
  return packed;
}

Result<std::uint64_t> read_shown_xattr(const ReadAt& read_at, std::uint64_t at, std::uint64_t end, Xattrs& into) {
  const auto damaged = [] { return Error::make(Code::corrupt, "an extended attribute does not end in its place"); };
  constexpr std::uint8_t kUser = 1, kDefaultAcl = 3;  // the access ACL is between them
  XattrEntry entry;
  if (at > end || end - at < sizeof entry) return damaged();
  TRY(read_at(at, &entry, sizeof entry));
  const std::size_t size = sizeof entry + entry.name_length + entry.value_size;
  if (end - at < size) return damaged();
  if (entry.name_index >= kUser && entry.name_index <= kDefaultAcl) {
    std::string name(entry.name_length, '\0'), value(entry.value_size, '\0');
    TRY(read_at(at + sizeof entry, name.data(), name.size()));
    TRY(read_at(at + sizeof entry + name.size(), value.data(), value.size()));
    into.emplace_back(std::string(kPrefixes[entry.name_index - kUser].text) + name, std::move(value));
  }
  return at + (size + 3) / 4 * 4;
}

std::size_t xattr_size(const Inode& inode) {
  return inode.xattr_count == 0 ? 0 : sizeof(XattrHeader) + (inode.xattr_count - 1U) * 4U;
}

Result<Inode> read_inode(const ReadAt& read_at, std::uint64_t nid) {
  Inode inode;
  TRY(read_at(nid * kSlot, &inode, sizeof inode));
  if (inode.format != format_of(Layout::plain) && inode.format != format_of(Layout::inline_tail))
    return Error::make(Code::corrupt, "inode ", nid, " is none that skink writes");
  return inode;
}

Result<std::string> read_data(const ReadAt& read_at, std::uint64_t nid, const Inode& inode, std::uint64_t from,
                              std::size_t count) {
  if (from > inode.size || count > inode.size - from)
    return Error::make(Code::corrupt, "inode ", nid, " ends before its data");
  std::string bytes(count, '\0');
  const std::uint64_t tail_from =
      inode.format == format_of(Layout::inline_tail) ? inode.size / kBlock * kBlock : inode.size;
  std::size_t done = 0;
  if (from < tail_from) {
    done = static_cast<std::size_t>(std::min<std::uint64_t>(count, tail_from - from));
    TRY(read_at(std::uint64_t{inode.start} * kBlock + from, bytes.data(), done));
  }
  if (done < count) {
    const std::uint64_t tail = nid * kSlot + sizeof(Inode) + xattr_size(inode);
    TRY(read_at(tail + (from + done - tail_from), bytes.data() + done, count - done));
  }
  return bytes;
}

}  // namespace skink::image::erofs
