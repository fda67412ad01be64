// SPDX-License-Identifier: Apache-2.0
#include "image/archive_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "base/text.h"
#include "image/importer.h"
#include "image/layout.h"
#include "image/path.h"
#include "image/tar_reader.h"
#include "image/window_room.h"
#include "image/worker.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kMembersMost = 100'000;
constexpr std::size_t kDescriptionMost = 64U << 20;
constexpr std::size_t kPiece = 256U << 10;
constexpr std::size_t kIndexAnswerMost = kDescriptionMost + (64U << 10);  // with the member that is too much

// One member of the description; its name and its target follow.
struct __attribute__((packed)) Record {
  char kind = 0;
  std::uint16_t name_length = 0;
  std::uint16_t target_length = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// The answer of the process begins with what has become of the input.
struct __attribute__((packed)) Spooled {
  std::uint64_t size = 0;
};

Result<oci::Compression> peek(int file_fd) {
  char start[4];
  const ssize_t got = ::pread(file_fd, start, sizeof start, 0);
  if (got < 0) return Error::from_errno(errno, "read");
  return detect_compression({start, static_cast<std::size_t>(got)});
}

Result<std::uint64_t> spool_space(int spool_fd) {
  struct statvfs space {};
  if (::fstatvfs(spool_fd, &space) != 0) return Error::from_errno(errno, "statvfs");
  return static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize / 20 * 19;
}

// What is read, and into what it is unpacked first, if it has to be.
struct Input {
  int fd = -1;
  std::uint64_t size = 0;
  bool is_stream = false;
  int spool_fd = -1;
  std::uint64_t spool_most = 0;
  std::optional<WindowRoom> room = {};
};

// Writes what `source` unpacks to into the spool file: how many bytes.
Result<std::uint64_t> spool(ByteSource& source, Input& input) {
  CountingSource packed(source);
  const auto inflater = TRY(detect_and_inflate(packed, input.room ? &*input.room : nullptr));
  const auto check = bomb_check([&packed] { return packed.count(); }, input.spool_most);
  std::vector<char> buffer(kPiece);
  for (std::uint64_t total = 0;;) {
    const std::size_t got = TRY(inflater->read(buffer.data(), buffer.size()));
    if (got == 0) return total;
    total += got;
    TRY_CTX(check(total), "spool the archive to the store");
    TRY(sys::write_all(input.spool_fd, {buffer.data(), got}, "spool file"));
  }
}

Result<std::string> walk(Input& input) {
  Spooled spooled{input.size};
  const bool spools = input.spool_fd >= 0;
  if (spools) {
    StreamSource stream(input.fd);
    FileSource file(input.fd, 0, input.size);
    spooled.size = TRY(spool(input.is_stream ? static_cast<ByteSource&>(stream) : file, input));
  }
  FileSource tar(spools ? input.spool_fd : input.fd, 0, spooled.size);
  std::string answer(reinterpret_cast<const char*>(&spooled), sizeof spooled);
  if (spooled.size == 0) return Error::make(Code::corrupt, "the file is empty");
  return answer + TRY(describe_members(tar));
}

// The processes that read strangers' bytes get this descriptor, and must not be able to change what it leads to. A
// socket cannot be opened anew (ENXIO, man 2 open); whoever is at its other end has made the bytes himself.
Result<UniqueFd> read_only(UniqueFd file) {
  if (S_ISSOCK(TRY(sys::stat_fd(file.get(), "archive")).st_mode)) return file;
  const int flags = ::fcntl(file.get(), F_GETFL);
  if (flags < 0) return Error::from_errno(errno, "fcntl");
  if ((flags & O_ACCMODE) == O_RDONLY) return file;
  return sys::open_at(AT_FDCWD, str("/proc/self/fd/", file.get()).c_str(), O_RDONLY);
}

}  // namespace

Result<std::string> describe_members(ByteSource& tar) {
  TarReader reader(tar);
  TarEntry entry;
  std::string description;
  std::set<std::string> names;
  while (TRY(reader.next(entry))) {
    if (entry.type == TarType::directory) continue;
    const std::string name = TRY(normalise_path(entry.name));
    Record record{
        .kind = static_cast<char>(ArchiveMember::Kind::file), .offset = entry.data_offset, .size = entry.size};
    std::string target;
    if (entry.type == TarType::symlink) {
      record.kind = static_cast<char>(ArchiveMember::Kind::symlink);
      // Old `docker save` spells equal layers as ../ID/layer.tar. Only names of members come out of this.
      target = TRY(normalise_path(join_path(split_path(name).first, entry.link)));
    } else if (entry.type != TarType::file) {
      record.kind = static_cast<char>(ArchiveMember::Kind::refused);
    }
    // Which of two members with one name counts is a matter of the reader: neither.
    if (!names.insert(name).second)
      return Error::make(Code::corrupt, "two members are named ", skink::quoted(shown(name)));
    if (names.size() > kMembersMost) return Error::make(Code::corrupt, "more than ", kMembersMost, " members");
    record.name_length = static_cast<std::uint16_t>(name.size());
    record.target_length = static_cast<std::uint16_t>(target.size());
    description.append(reinterpret_cast<const char*>(&record), sizeof record).append(name).append(target);
    if (description.size() > kDescriptionMost)
      return Error::make(Code::corrupt, "names of members of more than ", kDescriptionMost >> 20, " MiB");
  }
  return description;
}

Result<ArchiveIndex> parse_members(std::string_view description, std::uint64_t file_size) {
  const auto bad = [](std::string_view why) { return Error::make(Code::corrupt, "index of the archive: ", why); };
  ArchiveIndex index;
  while (!description.empty()) {
    Record record;
    if (description.size() < sizeof record) return bad("it ends early");
    std::memcpy(&record, description.data(), sizeof record);
    description.remove_prefix(sizeof record);
    const std::size_t names = std::size_t{record.name_length} + record.target_length;
    if (description.size() < names) return bad("it ends early");
    if (record.kind != 'f' && record.kind != 'l' && record.kind != 'x') return bad("an unknown kind of member");
    if (record.offset > file_size || record.size > file_size - record.offset) {
      if (record.kind == 'f')
        return Error::make(Code::corrupt, "truncated: member ", printable(description.substr(0, record.name_length)),
                           " does not end in the file");
      return bad("a member that is not in the file");
    }
    ArchiveMember member{static_cast<ArchiveMember::Kind>(record.kind), record.offset, record.size,
                         std::string(description.substr(record.name_length, record.target_length))};
    if (!index.emplace(description.substr(0, record.name_length), std::move(member)).second)
      return bad("two members of one name");
    if (index.size() > kMembersMost) return bad("too many members");
    description.remove_prefix(names);
  }
  return index;
}

Result<IndexedArchive> index_archive(UniqueFd input, int spool_fd) {
  const auto status = TRY(sys::stat_fd(input.get(), "archive"));
  const bool is_stream = !S_ISREG(status.st_mode);
  const auto size = is_stream ? 0 : static_cast<std::uint64_t>(status.st_size);
  input = TRY(read_only(std::move(input)));
  UniqueFd spool_file, window_file;
  Input read{.fd = input.get(), .size = size, .is_stream = is_stream};
  WorkerTerms terms{.name = "archive reader", .keep = {input.get()}, .limits = {}, .answer_most = kIndexAnswerMost};
  if (is_stream || TRY(peek(input.get())) != oci::Compression::none) {
    spool_file = TRY(make_unnamed_file(spool_fd));
    window_file = TRY(make_unnamed_file(spool_fd));
    read.spool_fd = spool_file.get();
    read.spool_most = TRY(spool_space(spool_fd));
    read.room.emplace(TRY(WindowRoom::map(window_file.get())));
    terms.keep.insert(terms.keep.end(), {spool_file.get(), window_file.get()});
  }
  // What a pipe will bring nobody knows, but no more than there is room for.
  terms.limits = worker_limits(kWorkerMemory, is_stream ? read.spool_most : size, WindowRoom::kSize);
  terms.limits.file_size = spool_file ? std::max<std::uint64_t>(read.spool_most, WindowRoom::kSize) : 0;
  const std::string answer = TRY(run_worker(terms, [&] { return walk(read); }));
  Spooled spooled;
  if (answer.size() < sizeof spooled) return Error::make(Code::corrupt, "index of the archive: it ends early");
  std::memcpy(&spooled, answer.data(), sizeof spooled);
  IndexedArchive archive;
  archive.file = spool_file ? TRY(read_only(std::move(spool_file))) : std::move(input);
  const auto whole = TRY(sys::stat_fd(archive.file.get(), "archive"));
  if (spooled.size != static_cast<std::uint64_t>(whole.st_size))
    return Error::make(Code::corrupt, "the archive changed while it was read");
  archive.members = TRY(parse_members(std::string_view(answer).substr(sizeof spooled), spooled.size));
  return archive;
}

}  // namespace skink::image
