// SPDX-License-Identifier: Apache-2.0
#include "image/archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <vector>

#include "base/text.h"
#include "image/path.h"
#include "image/tar_reader.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kMembersMost = 100'000;
constexpr int kLinksMost = 8;

Result<UniqueFd> open_input(const std::string& file) {
  if (file == "-") return sys::dup_fd(STDIN_FILENO);
  return sys::open_at(AT_FDCWD, file.c_str(), O_RDONLY | O_NOCTTY);
}

Result<oci::Compression> peek(int file_fd) {
  char start[4];
  const ssize_t got = ::pread(file_fd, start, sizeof start, 0);
  if (got < 0) return Error::from_errno(errno, "read");
  return detect_compression({start, static_cast<std::size_t>(got)});
}

// Copies `source` to an unnamed file that ends with its descriptor. It may take what is free, less a reserve.
Result<UniqueFd> spool(ByteSource& source, int spool_fd) {
  UniqueFd file = TRY(sys::open_at(spool_fd, ".", O_RDWR | O_TMPFILE, 0600));
  struct statvfs space {};
  if (::fstatvfs(file.get(), &space) != 0) return Error::from_errno(errno, "statvfs");
  const std::uint64_t most = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize / 20 * 19;
  std::vector<char> buffer(256U << 10);
  for (std::uint64_t total = 0;;) {
    const std::size_t got = TRY(source.read(buffer.data(), buffer.size()));
    if (got == 0) return file;
    total += got;
    if (total > most) return Error::from_errno(ENOSPC, "spool the archive to the store");
    TRY(sys::write_all(file.get(), {buffer.data(), got}, "spool file"));
  }
}

Result<UniqueFd> unpacked(UniqueFd file, int spool_fd) {
  const oci::Compression compression = TRY(peek(file.get()));
  if (compression == oci::Compression::none) return file;
  const auto status = TRY(sys::stat_fd(file.get(), "archive"));
  FileSource packed(file.get(), 0, static_cast<std::uint64_t>(status.st_size));
  const auto inflater = TRY(make_inflater(compression, packed));
  return spool(*inflater, spool_fd);
}

// The processes that read strangers' bytes get this descriptor, and must not be able to change what it leads to.
Result<UniqueFd> read_only(UniqueFd file) {
  const int flags = ::fcntl(file.get(), F_GETFL);
  if (flags < 0) return Error::from_errno(errno, "fcntl");
  if ((flags & O_ACCMODE) == O_RDONLY) return file;
  return sys::open_at(AT_FDCWD, str("/proc/self/fd/", file.get()).c_str(), O_RDONLY);
}

}  // namespace

Result<Archive> Archive::open(const std::string& file, int spool_fd) {
  UniqueFd input = TRY(open_input(file));
  auto status = TRY(sys::stat_fd(input.get(), file));
  if (S_ISDIR(status.st_mode))
    return Error::make(Code::invalid_config, "it is a directory; pack it first: tar -C ", printable(file),
                       " -cf image.tar .");
  if (!S_ISREG(status.st_mode)) {
    StreamSource stream(input.get());
    input = TRY(spool(stream, spool_fd));
  }
  input = TRY(read_only(TRY(unpacked(std::move(input), spool_fd))));
  status = TRY(sys::stat_fd(input.get(), file));
  if (status.st_size == 0) return Error::make(Code::corrupt, "the file is empty");
  Archive archive(std::move(input));
  TRY(archive.index(static_cast<std::uint64_t>(status.st_size)));
  return archive;
}

Result<void> Archive::index(std::uint64_t size) {
  FileSource source(file_.get(), 0, size);
  TarReader reader(source);
  TarEntry entry;
  std::string last = "the start";
  while (TRY_CTX(reader.next(entry), "behind ", last)) {
    last = "member " + printable(entry.name);
    if (entry.type == TarType::directory) continue;
    const std::string name = TRY(normalise_path(entry.name));
    Member member;
    member.offset = entry.data_offset;
    member.size = entry.size;
    if (entry.type == TarType::symlink) {
      member.kind = Member::Kind::symlink;
      // Old `docker save` spells equal layers as ../ID/layer.tar. Only names of members come out of this.
      member.target = TRY(normalise_path(join_path(split_path(name).first, entry.link)));
    } else if (entry.type != TarType::file) {
      member.kind = Member::Kind::refused;
    }
    // Which of two members with one name counts is a matter of the reader: neither.
    if (!members_.emplace(name, std::move(member)).second)
      return Error::make(Code::corrupt, "two members are named ", skink::quoted(name));
    if (members_.size() > kMembersMost) return Error::make(Code::corrupt, "more than ", kMembersMost, " members");
  }
  return {};
}

Result<const Archive::Member*> Archive::find(std::string_view name) const {
  std::string at = TRY(normalise_path(name));
  for (int links = 0; links <= kLinksMost; ++links) {
    const auto member = members_.find(at);
    if (member == members_.end()) return Error::make(Code::corrupt, "the archive has no member ", skink::quoted(at));
    if (member->second.kind == Member::Kind::file) return &member->second;
    if (member->second.kind == Member::Kind::refused)
      return Error::make(Code::corrupt, "member ", skink::quoted(at), " is not a regular file");
    at = member->second.target;
  }
  return Error::make(Code::corrupt, "member ", skink::quoted(name), " is a link that leads nowhere");
}

Result<std::uint64_t> Archive::size_of(std::string_view name) const { return TRY(find(name))->size; }

Result<std::string> Archive::read(std::string_view name, std::size_t most) const {
  const Member* member = TRY(find(name));
  if (member->size > most)
    return Error::make(Code::corrupt, printable(name), ": ", member->size, " bytes; at most ", most, " are read");
  std::string bytes(static_cast<std::size_t>(member->size), '\0');
  FileSource source(file_.get(), member->offset, member->size);
  if (!bytes.empty()) TRY_CTX(read_full(source, bytes.data(), bytes.size()), printable(name));
  return bytes;
}

Result<oci::Compression> Archive::compression_of(std::string_view name) const {
  const auto source = TRY(open_member(name));
  char start[4];
  const std::size_t got = TRY(read_full(*source, start, sizeof start));
  return detect_compression({start, got});
}

Result<std::unique_ptr<ByteSource>> Archive::open_member(std::string_view name) const {
  const Member* member = TRY(find(name));
  return std::unique_ptr<ByteSource>(std::make_unique<FileSource>(file_.get(), member->offset, member->size));
}

}  // namespace skink::image
