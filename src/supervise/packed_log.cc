// SPDX-License-Identifier: Apache-2.0
#include "supervise/packed_log.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::string_view kPackingPrefix = "log.packing.";
constexpr std::size_t kHead = 18, kFoot = 8;  // of a member: RFC 1952, with one extra field of six bytes
constexpr std::size_t kMostMember = 0x10000;

void put(std::string& out, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

std::uint32_t get(std::string_view in, std::size_t at, int bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < bytes; ++i)
    value |= std::uint32_t{static_cast<unsigned char>(in[at + static_cast<std::size_t>(i)])} << (8 * i);
  return value;
}

Bytef* bytes_of(std::string& text) { return reinterpret_cast<Bytef*>(text.data()); }

class Deflater {
 public:
  Deflater() = default;
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  ~Deflater() {
    if (started_) ::deflateEnd(&stream_);
  }
  Result<void> start() {
    constexpr int kRaw = -15, kMemory = 8;
    started_ = ::deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kRaw, kMemory, Z_DEFAULT_STRATEGY) == Z_OK;
    return started_ ? Result<void>{} : Error::make(Code::os, "zlib refused to start");
  }
  /// One member; what does not get smaller goes in as it is.
  std::string member(std::string& bytes) {
    std::string body(kMostMember - kHead - kFoot, '\0');
    ::deflateReset(&stream_);
    stream_.next_in = bytes_of(bytes);
    stream_.avail_in = static_cast<uInt>(bytes.size());
    stream_.next_out = bytes_of(body);
    stream_.avail_out = static_cast<uInt>(body.size());
    if (::deflate(&stream_, Z_FINISH) == Z_STREAM_END) {
      body.resize(body.size() - stream_.avail_out);
    } else {
      body = '\1';  // RFC 1951, 3.2.4: the last block, stored
      put(body, static_cast<std::uint32_t>(bytes.size()), 2);
      put(body, ~static_cast<std::uint32_t>(bytes.size()), 2);
      body += bytes;
    }
    std::string out("\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0", kHead - 2);
    put(out, static_cast<std::uint32_t>(kHead + body.size() + kFoot - 1), 2);
    out += body;
    put(out, static_cast<std::uint32_t>(::crc32(0, bytes_of(bytes), static_cast<uInt>(bytes.size()))), 4);
    put(out, static_cast<std::uint32_t>(bytes.size()), 4);
    return out;
  }

 private:
  z_stream stream_{};
  bool started_ = false;
};

Result<std::string> read_whole(int fd, std::uint64_t from, std::size_t count, std::string_view what) {
  std::string bytes(count, '\0');
  for (std::size_t done = 0; done < count;) {
    const ssize_t got = ::pread(fd, bytes.data() + done, count - done, static_cast<off_t>(from + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read ", what);
    if (got == 0) return Error::make(Code::corrupt, what, " is too short");
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

std::string name_of(Stream stream, std::uint64_t from, std::uint64_t to) {
  return str(std::string_view(kStreamFiles[static_cast<std::size_t>(stream)]), '.', from, '-', to, ".gz");
}

}  // namespace

std::vector<PackedPart> list_packed(int dir_fd, Stream stream) {
  std::vector<PackedPart> parts;
  const auto entries = fs::list(dir_fd);
  if (!entries) return parts;
  for (const auto& entry : *entries) {
    std::string_view name = entry.name;
    const std::string prefix = str(std::string_view(kStreamFiles[static_cast<std::size_t>(stream)]), '.');
    if (!name.starts_with(prefix) || !name.ends_with(".gz")) continue;
    name.remove_prefix(prefix.size());
    name.remove_suffix(3);
    const auto ends = split_once(name, '-');
    const auto from = ends ? parse_int<std::uint64_t>(ends->first) : std::nullopt;
    const auto to = ends ? parse_int<std::uint64_t>(ends->second) : std::nullopt;
    if (from && to && *from < *to) parts.push_back({*from, *to, entry.name});
  }
  std::ranges::sort(parts, {}, &PackedPart::from);
  return parts;
}

Result<void> pack_log(int dir_fd, Stream stream, std::uint64_t from, std::uint64_t to) {
  const char* const source_name = kStreamFiles[static_cast<std::size_t>(stream)];
  const UniqueFd source = TRY(sys::open_at(dir_fd, source_name, O_RDONLY | O_NOFOLLOW));
  // A name of its own: one whose supervisor was killed may not have ended yet.
  const std::string packing = str(kPackingPrefix, fs::random_hex(8));
  const auto make = [&]() -> Result<void> {
    const UniqueFd file = TRY(sys::open_at(dir_fd, packing.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    Deflater deflater;
    TRY(deflater.start());
    for (std::uint64_t at = from; at < to; at += kPackedBlock) {
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(to - at, kPackedBlock));
      std::string bytes = TRY(read_whole(source.get(), at, count, source_name));
      TRY(sys::write_all(file.get(), deflater.member(bytes), packing));
    }
    // Order: on disk before the spool gives these bytes back.
    if (::fdatasync(file.get()) != 0) return Error::from_errno(errno, "fdatasync ", packing);
    TRY(sys::rename_at(dir_fd, packing.c_str(), dir_fd, name_of(stream, from, to).c_str()));
    // Its name too.
    const UniqueFd directory = TRY(sys::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
    return ::fsync(directory.get()) == 0 ? Result<void>{} : Error::from_errno(errno, "fsync");
  };
  auto made = make();
  if (!made) (void)::unlinkat(dir_fd, packing.c_str(), 0);
  return made;
}

void sweep_packing(int dir_fd) {
  const auto entries = fs::list(dir_fd);
  if (!entries) return;
  for (const auto& entry : *entries)
    if (entry.name.starts_with(kPackingPrefix)) (void)::unlinkat(dir_fd, entry.name.c_str(), 0);
}

Result<PackedReader> PackedReader::open(int dir_fd, const PackedPart& part) {
  PackedReader reader;
  reader.part_ = part;
  reader.file_ = TRY(sys::open_at(dir_fd, part.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  reader.blocks_ = {0};
  return reader;
}

Result<std::string_view> PackedReader::read(std::uint64_t from) {
  if (!covers(from)) return Error::make(Code::internal, part_.name, " does not have byte ", from);
  const auto block = static_cast<std::size_t>((from - part_.from) / kPackedBlock);
  if (block != loaded_) TRY(load(block));
  const auto skip = static_cast<std::size_t>((from - part_.from) % kPackedBlock);
  if (skip >= bytes_.size()) return Error::make(Code::corrupt, part_.name, " is too short");
  return std::string_view(bytes_).substr(skip);
}

Result<void> PackedReader::load(std::size_t block) {
  const auto damaged = [this] { return Error::make(Code::corrupt, part_.name, " is damaged"); };
  loaded_ = ~std::size_t{0};
  // Members are hopped over by their heads.
  std::size_t size = 0;
  for (std::size_t i = std::min(block, blocks_.size() - 1);; ++i) {
    const std::string head = TRY(read_whole(file_.get(), blocks_[i], kHead, part_.name));
    if (get(head, 0, 2) != 0x8b1f || head.substr(12, 4) != std::string_view("BC\2\0", 4)) return damaged();
    size = get(head, 16, 2) + std::size_t{1};
    if (size < kHead + kFoot) return damaged();
    if (i + 1 == blocks_.size()) blocks_.push_back(blocks_[i] + size);
    if (i == block) break;
  }
  packed_ = TRY(read_whole(file_.get(), blocks_[block], size, part_.name));
  const std::size_t length = get(packed_, size - 4, 4);
  if (length > kPackedBlock) return damaged();
  bytes_.resize(length);
  z_stream stream{};
  constexpr int kGzipOnly = 15 + 16;
  if (::inflateInit2(&stream, kGzipOnly) != Z_OK) return Error::make(Code::os, "zlib refused to start");
  stream.next_in = bytes_of(packed_);
  stream.avail_in = static_cast<uInt>(packed_.size());
  stream.next_out = bytes_of(bytes_);
  stream.avail_out = static_cast<uInt>(bytes_.size());
  const int answer = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  if (answer != Z_STREAM_END || stream.avail_out != 0) return damaged();
  loaded_ = block;
  return {};
}

}  // namespace skink::supervise
