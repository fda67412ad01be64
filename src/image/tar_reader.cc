// SPDX-License-Identifier: Apache-2.0
#include "image/tar_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <optional>

#include "base/text.h"
#include "image/path.h"

namespace skink::image {
namespace {

constexpr std::size_t kTarRecord = 512;
constexpr std::size_t kTarPathMost = 4096;        // PATH_MAX: nothing longer can be opened anyway
constexpr std::size_t kMetaBytesMost = 1U << 20;  // xattr values are at most 64 KiB each (man 7 xattr)
constexpr std::size_t kMetaMost = 4;              // extended headers in front of one entry
constexpr std::size_t kEntryXattrsMost = 1024;    // of one entry
constexpr std::uint64_t kSizeMost = 1ULL << 60;

struct Field {
  std::size_t at, size;
};
// POSIX.1-2017, pax, "ustar Interchange Format".
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kChecksum{148, 8}, kLinkName{157, 100}, kMajor{329, 8}, kMinor{337, 8}, kPrefix{345, 155}, kStarPrefix{345, 131};
constexpr std::size_t kTypeAt = 156, kMagicAt = 257, kStarTrailerAt = 508;

std::uint64_t padding_of(std::uint64_t size) { return (kTarRecord - size % kTarRecord) % kTarRecord; }

// GNU's base-256: the top bit set, then a big-endian two's complement number of all the other bits.
std::optional<std::int64_t> parse_binary(std::string_view field) {
  const bool negative = (static_cast<unsigned char>(field[0]) & 0x40U) != 0;
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = 0; i < field.size(); ++i) {
    auto byte = static_cast<std::uint64_t>(static_cast<unsigned char>(field[i]));
    if (i == 0) byte = negative ? (byte | 0x80U) : (byte & 0x7fU);
    const std::uint64_t top = value >> 55;  // the bits that a shift by 8 would lose, and the sign that must stay
    if (top != (negative ? 0x1ffU : 0U)) return std::nullopt;
    value = (value << 8) | byte;
  }
  return static_cast<std::int64_t>(value);
}

// Octal digits between optional leading spaces and a tail of spaces and NULs; all blank is 0.
std::optional<std::int64_t> parse_octal(std::string_view field) {
  const std::size_t first = field.find_first_not_of(' ');
  if (first == field.npos) return 0;
  field.remove_prefix(first);
  const std::size_t end = std::min(field.find_first_of(std::string_view(" \0", 2)), field.size());
  if (field.substr(end).find_first_not_of(std::string_view(" \0", 2)) != field.npos) return std::nullopt;
  if (end == 0) return 0;
  if (field[0] == '-') return std::nullopt;
  return parse_int<std::int64_t>(field.substr(0, end), 8);
}

std::optional<std::int64_t> parse_number(std::string_view field) {
  return (static_cast<unsigned char>(field[0]) & 0x80U) != 0 ? parse_binary(field) : parse_octal(field);
}

bool has_magic(std::string_view block) {
  return block.size() > kMagicAt && block.substr(kMagicAt).starts_with("ustar");
}

std::string_view until_nul(std::string_view field) { return field.substr(0, std::min(field.find('\0'), field.size())); }

// "1350244992.023960108", "-3", ".5": seconds and up to nine digits that count; floor for negative fractions.
bool parse_pax_time(std::string_view text, std::int64_t& seconds, std::uint32_t& nanoseconds) {
  const std::size_t dot = std::min(text.find('.'), text.size());
  const bool negative = text.starts_with('-');
  const std::string_view whole = text.substr(0, dot);
  std::string_view fraction = text.substr(std::min(dot + 1, text.size()));
  if (fraction.find_first_not_of("0123456789") != fraction.npos) return false;
  const auto parsed = whole.empty() || whole == "-" ? std::optional<std::int64_t>(0) : parse_int<std::int64_t>(whole);
  if (!parsed || ((whole.empty() || whole == "-") && fraction.empty())) return false;
  if (*parsed == std::numeric_limits<std::int64_t>::min()) return false;
  std::uint32_t parts = 0;
  for (std::size_t i = 0; i < 9; ++i)
    parts = parts * 10 + (i < fraction.size() ? static_cast<std::uint32_t>(fraction[i] - '0') : 0);
  seconds = *parsed;
  nanoseconds = parts;
  if (negative && parts > 0) {
    seconds -= 1;
    nanoseconds = 1'000'000'000 - parts;
  }
  return true;
}

// Of what packs files, how its output begins. A tar has a name there.
std::string_view packer_of(std::string_view start) {
  using namespace std::string_view_literals;
  constexpr std::pair<std::string_view, std::string_view> kPackers[] = {
      {"\x1f\x8b"sv, "gzip"}, {"\x28\xb5\x2f\xfd"sv, "zstd"}, {"\xfd\x37zXZ\0"sv, "xz"},
      {"BZh"sv, "bzip2"},     {"\x04\x22\x4d\x18"sv, "lz4"},  {"\x5d\0\0"sv, "lzma"},
      {"LZIP"sv, "lzip"},     {"\x1f\x9d"sv, "compress"},     {"PK\x03\x04"sv, "zip"}};
  for (const auto& [magic, name] : kPackers)
    if (start.starts_with(magic)) return name;
  return {};
}

bool has_no_effect(std::string_view key) {
  // Of a header for the whole archive only records that change no entry are taken: archivers disagree about the rest.
  if (key == "comment" || key == "charset" || key == "hdrcharset" || key == "uname" || key == "gname") return true;
  return key.find('.') != key.npos && !key.starts_with("GNU.sparse.") && !key.starts_with("SCHILY.");
}

}  // namespace

struct TarReader::Header {
  std::array<char, kTarRecord> bytes{};
  std::uint64_t size = 0;
  [[nodiscard]] std::string_view field(Field field) const { return {bytes.data() + field.at, field.size}; }
  [[nodiscard]] char type() const { return bytes[kTypeAt]; }
  [[nodiscard]] bool is_posix() const {
    return std::string_view(bytes.data() + kMagicAt, 6) == std::string_view("ustar\0", 6);
  }
  [[nodiscard]] bool is_gnu() const { return std::string_view(bytes.data() + kMagicAt, 7) == "ustar  "; }
  [[nodiscard]] bool is_star() const {
    return is_posix() && std::string_view(bytes.data() + kStarTrailerAt, 4) == std::string_view("tar\0", 4);
  }
  [[nodiscard]] std::string name() const {
    const std::string_view base = until_nul(field(kName));
    const std::string_view prefix =
        is_posix() ? until_nul(field(is_star() ? kStarPrefix : kPrefix)) : std::string_view{};
    return prefix.empty() ? std::string(base) : str(prefix, '/', base);
  }
};

// Ends the error of an archive in which one reader sees other entries than the next (A72, CVE-2025-62518).
constexpr std::string_view kDisagree = ", which readers of tar take for different things; pack it anew";

// What extended headers said about the entry that follows them.
struct TarReader::Overrides {
  std::optional<std::string> gnu_name, gnu_link;
  std::optional<std::string> path, link;
  std::optional<std::uint64_t> size;
  std::optional<std::uint32_t> uid, gid;
  std::optional<std::pair<std::int64_t, std::uint32_t>> mtime;
  std::map<std::string, std::string, std::less<>> xattrs;
  std::size_t bytes = 0;  // of all these headers
  std::string types;      // of each

  Result<void> set(std::string_view key, std::string_view value);
};

Result<void> TarReader::Overrides::set(std::string_view key, std::string_view value) {
  const auto bad = [&] {
    return Error::make(Code::corrupt, "pax record ", skink::quoted(shown(key)), ": bad value ",
                       skink::quoted(shown(value)));
  };
  if (key.starts_with("GNU.sparse.") || key == "SCHILY.realsize")
    return Error::make(Code::unsupported, "sparse entries are not supported; pack the image without --sparse");
  constexpr std::string_view kXattr = "SCHILY.xattr.", kAcl = "SCHILY.acl.";
  if (key.starts_with(kXattr) || key.starts_with(kAcl)) {
    const std::string_view name = key.starts_with(kAcl) ? key : key.substr(kXattr.size());
    if (name.empty() || name.size() > 255 || name.find('\0') != name.npos) return bad();
    xattrs.insert_or_assign(std::string(name), value);
    if (xattrs.size() > kEntryXattrsMost)
      return Error::make(Code::unsupported, "more than ", kEntryXattrsMost, " extended attributes of one entry");
    return {};
  }
  // Whether no value means that of the header below (Go), nothing at all (Python) or an error (GNU) is a matter of the
  // reader; of what changes no entry it is nobody's.
  constexpr std::array<std::string_view, 6> kTaken = {"path", "linkpath", "size", "uid", "gid", "mtime"};
  if (value.empty() && std::find(kTaken.begin(), kTaken.end(), key) != kTaken.end())
    return Error::make(Code::corrupt, "pax record ", skink::quoted(key), " without a value", kDisagree);
  if (key == "path" || key == "linkpath") {
    if (value.find('\0') != value.npos || value.size() > kTarPathMost) return bad();
    (key == "path" ? path : link) = std::string(value);
  } else if (key == "size") {
    size = parse_int<std::uint64_t>(value);
    if (!size || *size > kSizeMost) return bad();
  } else if (key == "uid" || key == "gid") {
    const auto id = parse_int<std::uint32_t>(value);
    if (!id || *id == ~0U) return bad();
    (key == "uid" ? uid : gid) = id;
  } else if (key == "mtime") {
    mtime.emplace();
    if (!parse_pax_time(value, mtime->first, mtime->second)) return bad();
  }
  return {};
}

namespace {

// "LENGTH KEY=VALUE\n" one after the other; LENGTH counts the whole record.
template <typename Take>
Result<void> parse_pax(std::string_view records, Take take) {
  while (!records.empty()) {
    const std::size_t space = records.substr(0, 8).find(' ');
    const auto length = space == records.npos ? std::nullopt : parse_int<std::size_t>(records.substr(0, space));
    if (!length || *length > records.size() || *length < space + 4 || records[*length - 1] != '\n')
      return Error::make(Code::corrupt, "pax header: a record has a wrong length");
    const std::string_view record = records.substr(space + 1, *length - space - 2);
    const std::size_t equals = record.find('=');
    if (equals == record.npos || equals == 0) return Error::make(Code::corrupt, "pax header: a record has no key");
    TRY(take(record.substr(0, equals), record.substr(equals + 1)));
    records.remove_prefix(*length);
  }
  return {};
}

}  // namespace

std::string TarReader::place() const {
  const std::string at = str("tar header at byte ", header_at_);
  return name_.empty() ? at : str(at, name_is_its_own_ ? ", of " : ", behind ", printable(name_));
}

Error TarReader::corrupt(std::string_view why) const { return Error::make(Code::corrupt, place(), ": ", why); }

// Of a first block that is no header.
Error TarReader::not_a_tar(std::string_view start, std::string_view why) const {
  const std::string_view packer = packer_of(start);
  if (packer.empty()) return Error::make(Code::corrupt, "not a tar archive: ", why);
  return Error::make(Code::corrupt, "not a tar archive, but something packed with ", packer,
                     packer == "gzip" || packer == "zstd" ? "" : "; skink unpacks gzip and zstd");
}

// A whole block, or false when the source ended exactly here.
Result<bool> TarReader::read_block(char* block) {
  const std::size_t got = TRY(read_full(source_, block, kTarRecord));
  if (got == 0) return false;
  if (got < kTarRecord && offset_ == 0 && !has_magic({block, got}))
    return not_a_tar({block, got}, str("it has ", got, " bytes"));
  if (got < kTarRecord)
    return Error::make(Code::corrupt, "tar ends inside a block, at byte ", offset_ + got,
                       name_.empty() ? "" : ", behind ", printable(name_));
  offset_ += kTarRecord;
  return true;
}

Result<bool> TarReader::read_header(Header& header) {
  const auto blank = [&] {
    return std::all_of(header.bytes.begin(), header.bytes.end(), [](char c) { return c == 0; });
  };
  header_at_ = offset_;
  if (!TRY(read_block(header.bytes.data()))) return false;
  if (blank()) {
    // Two zero blocks end an archive. After one, the end of the file will do, but not another entry: some readers would
    // see what follows and some would not (A72).
    if (TRY(read_block(header.bytes.data())) && !blank()) return corrupt("a lone zero block in front of data");
    return false;
  }
  const auto wanted = parse_octal(header.field(kChecksum));
  std::int64_t sum = 0, signed_sum = 0;
  for (std::size_t i = 0; i < kTarRecord; ++i) {
    const bool in_field = i >= kChecksum.at && i < kChecksum.at + kChecksum.size;
    const char byte = in_field ? ' ' : header.bytes[i];
    sum += static_cast<unsigned char>(byte);
    signed_sum += static_cast<signed char>(byte);
  }
  if (!wanted || (*wanted != sum && *wanted != signed_sum)) {
    const std::string_view block(header.bytes.data(), header.bytes.size());
    return header_at_ == 0 && !has_magic(block) ? not_a_tar(block, "it does not begin with a header of one")
                                                : corrupt("wrong checksum");
  }
  const auto size = parse_number(header.field(kSize));
  if (!size || *size < 0 || static_cast<std::uint64_t>(*size) > kSizeMost) return corrupt("bad size");
  header.size = static_cast<std::uint64_t>(*size);
  return true;
}

Result<std::string> TarReader::read_meta(const Header& header, std::size_t most) {
  if (header.size > most)
    return corrupt(str("extended header of ", header.size, " bytes; at most ", most, " are read"));
  std::string bytes(static_cast<std::size_t>(header.size), '\0');
  const std::size_t got = TRY(read_full(source_, bytes.data(), bytes.size()));
  offset_ += got;
  if (got < bytes.size()) return Error::make(Code::corrupt, "tar ends inside an extended header, at byte ", offset_);
  TRY(source_.skip(padding_of(header.size)));
  offset_ += padding_of(header.size);
  return bytes;
}

// Of the stacks of extended headers that archivers write, all readers make the same; of others not: Go forgets them at
// a global header, GNU tar takes the last of two, Python merges them.
Result<void> TarReader::check_stack(char type, const Overrides& overrides) const {
  const bool second = overrides.types.find(type) != overrides.types.npos;
  if (type == 'g' && overrides.types.find_first_not_of('g') != overrides.types.npos)
    return corrupt(str("a global pax header between an extended header and its entry", kDisagree));
  if (type == 'x' && second) return corrupt(str("two pax headers in front of one entry", kDisagree));
  if (type != 'g' && second) return corrupt(str("two long names in front of one entry", kDisagree));
  return {};
}

Result<void> TarReader::apply_meta(const Header& header, Overrides& overrides) {
  const char type = header.type();
  const bool gnu = type == 'L' || type == 'K';
  TRY(check_stack(type, overrides));
  overrides.types += type;
  const std::string bytes = TRY(read_meta(header, gnu ? kTarPathMost + 1 : kMetaBytesMost));
  overrides.bytes += bytes.size();
  if (overrides.bytes > kMetaBytesMost)
    return corrupt(str("extended headers of more than ", kMetaBytesMost, " bytes in front of one entry"));
  if (gnu) {
    const std::string_view name = until_nul(bytes);
    if (name.empty()) return corrupt(str("an empty long name", kDisagree));
    (type == 'L' ? overrides.gnu_name : overrides.gnu_link) = std::string(name);
    return {};
  }
  is_pax_ = true;
  const auto global = [](std::string_view key) -> Result<void> {
    if (has_no_effect(key)) return {};
    return Error::make(Code::corrupt, "a global pax header sets ", skink::quoted(shown(key)),
                       ", which is not supported");
  };
  TRY_CTX(
      parse_pax(bytes, [&](std::string_view key,
                           std::string_view value) { return type == 'x' ? overrides.set(key, value) : global(key); }),
      place());
  return {};
}

namespace {
bool is_meta(char type) { return type == 'x' || type == 'g' || type == 'L' || type == 'K'; }

std::optional<TarType> type_of(char type) {
  switch (type) {
    case '\0':
    case '0':
    case '7': return TarType::file;
    case '1': return TarType::hardlink;
    case '2': return TarType::symlink;
    case '3': return TarType::char_device;
    case '4': return TarType::block_device;
    case '5': return TarType::directory;
    case '6': return TarType::fifo;
    default: return std::nullopt;
  }
}
}  // namespace

// The entry's names: pax, then GNU, then the header's own.
Result<void> TarReader::fill_names(const Header& header, Overrides& overrides, TarEntry& entry) {
  const auto differ = [](const auto& pax, const auto& gnu) { return pax && gnu && *pax != *gnu; };
  const bool disagree = differ(overrides.path, overrides.gnu_name) || differ(overrides.link, overrides.gnu_link);
  const auto pick = [](auto& pax, auto& gnu, auto ustar) {
    return pax ? std::move(*pax) : gnu ? std::move(*gnu) : std::string(ustar);
  };
  entry.name = pick(overrides.path, overrides.gnu_name, header.name());
  entry.link = pick(overrides.link, overrides.gnu_link, until_nul(header.field(kLinkName)));
  if (entry.name.empty()) return corrupt("an entry without a name");
  name_ = shown(entry.name);
  name_is_its_own_ = true;
  if (disagree) return corrupt(str("a long name of GNU and another of pax", kDisagree));
  if (entry.name.size() > kTarPathMost || entry.link.size() > kTarPathMost)
    return corrupt("a name of more than 4096 bytes");
  return {};
}

// Whether data follows, and how much.
Result<void> TarReader::fill_size(const Header& header, const Overrides& overrides, TarEntry& entry) const {
  const std::uint64_t size = overrides.size.value_or(header.size);
  // Version 7 had no directories: a file whose name ends in a slash was one. Of later types, and by another name, it is
  // one to GNU tar and a file to others.
  const bool is_old = header.type() == '\0' && header.name().ends_with('/');
  if (entry.type == TarType::file && (is_old || entry.name.ends_with('/'))) {
    if (!is_old || !entry.name.ends_with('/') || size != 0)
      return corrupt(str("a file whose name ends in a slash", kDisagree));
    entry.type = TarType::directory;
  }
  // Old archivers note a hard link's size without data. In a pax archive there may be some (POSIX), and readers
  // disagree about that, as they do for the other types.
  const bool is_old_link = entry.type == TarType::hardlink && !is_pax_;
  if (entry.type != TarType::file && !is_old_link && size != 0)
    return corrupt(str("an entry that is no file has a size", kDisagree));
  entry.size = entry.type == TarType::file ? size : 0;
  return {};
}

Result<void> TarReader::fill(const Header& header, Overrides& overrides, TarEntry& entry) {
  entry = TarEntry{};
  TRY(fill_names(header, overrides, entry));
  const auto type = type_of(header.type());
  if (header.type() == 'S') return corrupt("sparse entries are not supported; pack the image without --sparse");
  if (!type)
    return corrupt(str("unknown entry type ", skink::quoted(std::string_view(header.bytes.data() + kTypeAt, 1))));
  entry.type = *type;
  const auto mode = parse_number(header.field(kMode)), uid = parse_number(header.field(kUid)),
             gid = parse_number(header.field(kGid)), mtime = parse_number(header.field(kMtime));
  const auto is_id = [](std::optional<std::int64_t> id) { return id && *id >= 0 && *id < 0xffffffffLL; };
  if (!mode || *mode < 0) return corrupt("bad mode");
  if (!overrides.uid && !is_id(uid)) return corrupt("bad owner");
  if (!overrides.gid && !is_id(gid)) return corrupt("bad group");
  if (!overrides.mtime && !mtime) return corrupt("bad time");
  entry.mode = static_cast<mode_t>(*mode & 07777);
  entry.uid = overrides.uid ? *overrides.uid : static_cast<std::uint32_t>(*uid);
  entry.gid = overrides.gid ? *overrides.gid : static_cast<std::uint32_t>(*gid);
  entry.mtime_s = overrides.mtime ? overrides.mtime->first : *mtime;
  entry.mtime_ns = overrides.mtime ? overrides.mtime->second : 0;
  for (auto& [name, value] : overrides.xattrs) entry.xattrs.emplace_back(name, std::move(value));
  if (*type == TarType::char_device || *type == TarType::block_device) {
    const auto major = parse_number(header.field(kMajor)), minor = parse_number(header.field(kMinor));
    if (!major || !minor || *major < 0 || *minor < 0) return corrupt("bad device number");
    entry.major = static_cast<std::uint64_t>(*major);
    entry.minor = static_cast<std::uint64_t>(*minor);
  }
  return fill_size(header, overrides, entry);
}

// The header of an entry, and what the extended ones in front of it say; false at the end of the archive.
Result<bool> TarReader::read_headers(Header& header, Overrides& overrides) {
  for (;;) {
    if (!TRY(read_header(header))) {
      if (overrides.types.empty()) return false;
      return corrupt("the archive ends after an extended header");
    }
    if (header.type() == 'V') {  // the label that tar --label writes is no entry
      if (header.size != 0 || !overrides.types.empty())
        return corrupt(str("a volume label with data or extended headers", kDisagree));
      continue;
    }
    if (!is_meta(header.type())) return true;
    if (overrides.types.size() == kMetaMost) return corrupt("too many extended headers in front of one entry");
    TRY(apply_meta(header, overrides));
  }
}

Result<bool> TarReader::next(TarEntry& entry) {
  TRY_CTX(source_.skip(data_left_ + padding_), "tar ends early, behind byte ", offset_, ", in ", printable(name_));
  offset_ += data_left_ + padding_;
  data_left_ = padding_ = 0;
  name_is_its_own_ = false;
  Header header;
  Overrides overrides;
  if (!TRY(read_headers(header, overrides))) return false;
  TRY(fill(header, overrides, entry));
  entry.data_offset = offset_;
  data_left_ = entry.size;
  padding_ = padding_of(entry.size);
  return true;
}

Result<std::size_t> TarReader::read(char* into, std::size_t most) {
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(most, data_left_));
  if (wanted == 0) return std::size_t{0};
  const std::size_t got = TRY(source_.read(into, wanted));
  if (got == 0) return Error::make(Code::corrupt, "tar ends inside an entry, at byte ", offset_);
  offset_ += got;
  data_left_ -= got;
  return got;
}

}  // namespace skink::image
