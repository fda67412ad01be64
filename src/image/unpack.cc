// SPDX-License-Identifier: Apache-2.0
#include "image/unpack.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "image/path.h"
#include "image/posix_acl.h"
#include "image/recipe.h"
#include "image/tar_reader.h"

namespace skink::image {
namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";

// Data of the entry that the reader stands at.
class EntryData final : public ByteSource {
 public:
  explicit EntryData(TarReader& reader) : reader_(reader) {}
  Result<std::size_t> read(char* into, std::size_t most) override { return reader_.read(into, most); }

 private:
  TarReader& reader_;
};

// VFS_CAP_REVISION_2, and 3 for the host's root user, which is 2 in another form (linux/capability.h). Capabilities of
// another user namespace's root mean nothing here.
bool is_file_capability(std::string_view value) {
  if (value.size() != 20 && value.size() != 24) return false;
  const auto revision = static_cast<unsigned char>(value[3]);
  if (revision == 2) return value.size() == 20;
  return revision == 3 && value.size() == 24 && value.substr(20) == std::string_view("\0\0\0\0", 4);
}

// user.* belongs to the image's programs, except what overlayfs would read as its own (A61); the rest of security.*,
// trusted.* and system.* but for ACLs speaks to the host's kernel (A63).
bool is_allowed(const TarEntry& entry, const std::string& name, const std::string& value) {
  const bool file = entry.type == TarType::file;
  if (name == "security.capability") return file && is_file_capability(value);
  return name.starts_with("user.") && !name.starts_with("user.overlay.") && (file || entry.type == TarType::directory);
}

// Where a tar says an ACL: as the kernel has it, which counts when both are there, or as text.
struct AclNames {
  std::string_view attribute, text;
};
constexpr AclNames kAcls[] = {{kAclAccess, "SCHILY.acl.access"}, {kAclDefault, "SCHILY.acl.default"}};

std::optional<Acl> acl_of(const TarEntry& entry, const AclNames& names) {
  std::optional<Acl> acl;
  for (const auto& [name, value] : entry.xattrs) {
    if (value.empty()) continue;
    if (name == names.attribute) return parse_acl(value);
    if (name == names.text) acl = parse_acl_text(value);
  }
  return acl;
}

bool is_acl(std::string_view name) {
  return std::any_of(std::begin(kAcls), std::end(kAcls),
                     [&](const AclNames& acl) { return name == acl.attribute || name == acl.text; });
}

// What an ACL grants holds in the container, as owner and mode do: its numbers are of the same users.
void take_acls(const TarEntry& entry, Attributes& attributes, UnpackNotes& notes) {
  if (entry.type == TarType::hardlink) return;  // it has those of the file
  for (const AclNames& names : kAcls) {
    const auto acl = acl_of(entry, names);
    const bool access = names.attribute == kAclAccess;
    if (!acl || (access && acl->whole && acl->is_minimal())) continue;
    if (acl->whole && (entry.type == TarType::directory || (access && entry.type == TarType::file))) {
      const std::string value = format_acl(*acl);
      attributes.xattrs.emplace_back(names.attribute, access ? acl_with_mode(value, entry.mode) : value);
      continue;
    }
    ++notes.xattrs;
    if (access) attributes.mode = mode_without(*acl, attributes.mode);
  }
}

Result<Attributes> attributes_of(TarEntry& entry, UnpackNotes& notes) {
  constexpr std::size_t kValueMost = 65535;  // what EROFS can note; the kernel has 65536
  Attributes attributes;
  attributes.mode = entry.mode;
  attributes.uid = entry.uid;
  attributes.gid = entry.gid;
  attributes.mtime.tv_sec = entry.mtime_s;
  attributes.mtime.tv_nsec = entry.mtime_ns;
  take_acls(entry, attributes, notes);
  for (auto& [name, value] : entry.xattrs) {
    if (is_acl(name)) continue;
    if (!is_allowed(entry, name, value)) {
      ++notes.xattrs;
      continue;
    }
    if (value.size() > kValueMost)
      return Error::make(Code::unsupported, "extended attribute ", printable(shown(name)), " has ", value.size(),
                         " bytes; at most ", kValueMost, " can be kept");
    attributes.xattrs.emplace_back(std::move(name), std::move(value));
  }
  return attributes;
}

enum class Mark { none, whiteout, opaque };

// The grammar of the image-spec's whiteouts; every other name in their space is refused (A60).
Result<Mark> mark_of(const TarEntry& entry, const std::string& parent, std::string_view name) {
  for (const auto& component : components_of(parent))
    if (component.starts_with(kWhiteout)) return Error::make(Code::corrupt, "a whiteout cannot be a directory");
  if (!name.starts_with(kWhiteout)) return Mark::none;
  // Hard links: layers made on AUFS had all whiteouts as links to one file.
  if (entry.type != TarType::file && entry.type != TarType::hardlink)
    return Error::make(Code::corrupt, "a whiteout that is no regular file");
  if (name == kOpaque) return Mark::opaque;
  const std::string_view target = name.substr(kWhiteout.size());
  if (target.empty() || target == "." || target == ".." || target.starts_with(kWhiteout))
    return Error::make(Code::corrupt, "a whiteout of nothing");
  return Mark::whiteout;
}

Result<void> write_device(const TarEntry& entry, const std::string& path, LayerWriter& writer, UnpackNotes& notes) {
  // Character device 0:0 is how overlayfs spells a whiteout: it would hide files of the layers below.
  if (entry.type == TarType::char_device && entry.major == 0 && entry.minor == 0)
    return Error::make(Code::corrupt, "character device 0:0 is not allowed in a layer");
  if (entry.major > 0xfff || entry.minor > 0xfffff) return Error::make(Code::corrupt, "device number out of range");
  ++notes.devices;
  return writer.leave_out(path);
}

Result<void> write_hardlink(const TarEntry& entry, const std::string& path, LayerWriter& writer, UnpackNotes& notes) {
  const std::string target = TRY(normalise_path(entry.link));
  if (target.empty()) return Error::make(Code::corrupt, "hard link to the root of the layer");
  if (!TRY(writer.hardlink(path, target))) ++notes.devices;
  return {};
}

Result<void> write_file(const std::string& path, const Attributes& attributes, TarReader& reader, LayerWriter& writer,
                        RecordingSource* recording) {
  EntryData data(reader);
  if (recording != nullptr) recording->begin_content();
  TRY(writer.regular(path, attributes, data));
  return recording != nullptr ? recording->end_content(writer.placement()) : Result<void>();
}

Result<void> write_entry(TarEntry& entry, TarReader& reader, LayerWriter& writer, UnpackNotes& notes,
                         RecordingSource* recording) {
  const std::string path = TRY(normalise_path(entry.name));
  // The root itself cannot become anything else (A03, CVE-2021-29136).
  if (path.empty() && entry.type != TarType::directory)
    return Error::make(Code::corrupt, "the root of a layer can only be a directory");
  const auto [parent, name] = split_path(path);
  switch (TRY(mark_of(entry, parent, name))) {
    case Mark::opaque: return writer.opaque(parent);
    case Mark::whiteout: return writer.whiteout(join_path(parent, name.substr(kWhiteout.size())));
    case Mark::none: break;
  }
  const Attributes attributes = TRY(attributes_of(entry, notes));
  switch (entry.type) {
    case TarType::directory: return writer.directory(path, attributes);
    case TarType::file: return write_file(path, attributes, reader, writer, recording);
    case TarType::fifo: return writer.fifo(path, attributes);
    case TarType::symlink:
      if (entry.link.empty() || entry.link.size() >= kPathMost || entry.link.find('\0') != entry.link.npos)
        return Error::make(Code::corrupt, "a symbolic link with an impossible target");
      return writer.symlink(path, entry.link, attributes);
    case TarType::hardlink: return write_hardlink(entry, path, writer, notes);
    case TarType::char_device:
    case TarType::block_device: return write_device(entry, path, writer, notes);
  }
  return {};
}

}  // namespace

Result<UnpackNotes> unpack_layer(ByteSource& tar, LayerWriter& writer, const UnpackLimits& limits,
                                 RecordingSource* recording) {
  TarReader reader(tar);
  TarEntry entry;
  UnpackNotes notes;
  for (std::uint64_t count = 0; TRY(reader.next(entry)); ++count) {
    if (count == limits.entries)
      return Error::make(Code::unsupported, "more than ", limits.entries, " entries in one layer");
    TRY_CTX(write_entry(entry, reader, writer, notes, recording), "entry ", printable(shown(entry.name)));
  }
  return notes;
}

}  // namespace skink::image
