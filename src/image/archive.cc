// SPDX-License-Identifier: Apache-2.0
#include "image/archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "image/path.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr int kIndexLinksMost = 8;

// A name that leads to a pipe waits for its writer, as everybody's programs do.
Result<UniqueFd> open_input(const std::string& file) {
  if (file == "-") return sys::dup_fd(STDIN_FILENO);
  return sys::open_at(AT_FDCWD, file.c_str(), O_RDONLY | O_NOCTTY);
}

}  // namespace

Result<Archive> Archive::open(const std::string& file, int spool_fd) {
  UniqueFd input = TRY(open_input(file));
  const auto status = TRY(sys::stat_fd(input.get(), file));
  Archive archive;
  if (S_ISDIR(status.st_mode)) {
    archive.directory_ = std::move(input);
    if (archive.contains("index.json")) return archive;
    return Error::make(Code::invalid_config,
                       "a directory without index.json: neither an OCI layout nor an archive of an image");
  }
  auto indexed = TRY(index_archive(std::move(input), spool_fd));
  archive.file_ = std::move(indexed.file);
  archive.members_ = std::move(indexed.members);
  return archive;
}

bool Archive::contains(const std::string& name) const {
  return directory_ ? sys::is_there(directory_.get(), name.c_str()) : members_.contains(name);
}

Result<const ArchiveMember*> Archive::find(std::string_view name) const {
  std::string at = TRY(normalise_path(name));
  for (int links = 0; links <= kIndexLinksMost; ++links) {
    const auto member = members_.find(at);
    if (member == members_.end()) return Error::make(Code::corrupt, "the archive has no member ", skink::quoted(at));
    if (member->second.kind == ArchiveMember::Kind::file) return &member->second;
    if (member->second.kind == ArchiveMember::Kind::refused)
      return Error::make(Code::corrupt, "member ", skink::quoted(at), " is not a regular file");
    at = member->second.target;
  }
  return Error::make(Code::corrupt, "member ", skink::quoted(name), " is a link that leads nowhere");
}

// Of a layout that is a directory. Whoever made it chose the names: no link is followed, no pipe waited for.
Result<Part> Archive::open_file(std::string_view name) const {
  const std::string path = TRY(normalise_path(name));
  auto opened = sys::open_beneath(directory_.get(), path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!opened && opened.error().errnum() == ENOENT)
    return Error::make(Code::corrupt, "the layout has no file ", skink::quoted(path));
  if (!opened && opened.error().errnum() == ELOOP)
    return Error::make(Code::corrupt, "file ", skink::quoted(path), " is a symbolic link, or behind one");
  Part part{.own = TRY(std::move(opened))};
  const auto status = TRY(sys::stat_fd(part.own.get(), path));
  if (!S_ISREG(status.st_mode)) return Error::make(Code::corrupt, skink::quoted(path), " is not a regular file");
  part.fd = part.own.get();
  part.size = static_cast<std::uint64_t>(status.st_size);
  return part;
}

Result<Part> Archive::open_member(std::string_view name) const {
  if (directory_) return open_file(name);
  const ArchiveMember* member = TRY(find(name));
  return Part{.own = {}, .fd = file_.get(), .offset = member->offset, .size = member->size};
}

Result<std::string> Archive::read(std::string_view name, std::size_t most) const {
  const Part part = TRY(open_member(name));
  if (part.size > most)
    return Error::make(Code::corrupt, printable(name), ": ", part.size, " bytes; at most ", most, " are read");
  std::string bytes(static_cast<std::size_t>(part.size), '\0');
  FileSource source = part.source();
  if (!bytes.empty()) TRY_CTX(read_full(source, bytes.data(), bytes.size()), printable(name));
  return bytes;
}

Result<oci::Compression> Archive::compression_of(std::string_view name) const {
  const Part part = TRY(open_member(name));
  FileSource source = part.source();
  char start[4];
  const std::size_t got = TRY(read_full(source, start, sizeof start));
  return detect_compression({start, got});
}

}  // namespace skink::image
