// SPDX-License-Identifier: Apache-2.0
// Packed data: what libdeflate is believed of is what zlib says too, wherever the seams between its pieces lie; and
// zstd with large windows does no harm.
//   An input is one byte that says what the rest is, two that say where it lies, and the rest.
#include <zlib.h>

#include <algorithm>
#include <optional>

#include "image/gunzip.h"
#include "image/window_room.h"
#include "target.h"

using namespace skink;

namespace {

// More is not looked at, as a bomb would take the time of a thousand inputs.
constexpr std::size_t kMost = 3U << 20;
// Where gunzip has to go on to its third piece for the first time, of the input and of the output.
constexpr std::size_t kSeam = 1U << 20;

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

std::string member(std::string_view deflated, std::string_view bytes) {
  const auto sum = ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  return std::string("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10) + std::string(deflated) + little_endian(sum, 4) +
         little_endian(bytes.size(), 4);
}

// A member of so many bytes, in stored blocks.
std::string filler(std::size_t size) {
  constexpr std::size_t kBlock = 0xffff;
  const std::string bytes(size, 'f');
  std::string deflated;
  for (std::size_t at = 0; at < size; at += kBlock) {
    const std::size_t length = std::min(kBlock, size - at);
    deflated += at + length == size ? '\1' : '\0';
    deflated += little_endian(length, 2) + little_endian(~length, 2) + bytes.substr(at, length);
  }
  return member(deflated, bytes);
}

struct Unpacked {
  std::string bytes;
  std::string error;
  [[nodiscard]] bool is_too_much() const { return bytes.size() > kMost; }
};

Unpacked read_all(image::ByteSource& source) {
  Unpacked unpacked;
  std::string piece(64U << 10, '\0');
  while (!unpacked.is_too_much()) {
    const auto got = source.read(piece.data(), piece.size());
    if (!got) unpacked.error = got.error().text();
    if (!got || *got == 0) break;
    unpacked.bytes.append(piece, 0, *got);
  }
  return unpacked;
}

Unpacked by_zlib(std::string_view packed) {
  fuzz::Bytes source(packed);
  const auto inflater = image::make_inflater(oci::Compression::gzip, source);
  return read_all(**inflater);
}

Unpacked by_libdeflate(std::string_view packed) {
  fuzz::Bytes source(packed);
  Unpacked unpacked;
  const auto done = image::gunzip(source, packed.size(), [&](std::string_view more) -> Result<void> {
    unpacked.bytes += more;
    return unpacked.is_too_much() ? Result<void>(Error::from_errno(EFBIG, "too much")) : Result<void>{};
  });
  if (!done) unpacked.error = done.error().text();
  return unpacked;
}

void compare(std::string_view packed) {
  const Unpacked theirs = by_zlib(packed);
  if (theirs.is_too_much()) return;
  const Unpacked ours = by_libdeflate(packed);
  // The sum of a header, which RFC 1952 lets one ignore, is ignored.
  if (theirs.error.find("header crc mismatch") != std::string::npos) return;
  fuzz::demand(theirs.error.empty() == ours.error.empty(), "both take it or neither",
               theirs.error + " | " + ours.error);
  fuzz::demand(!theirs.error.empty() || theirs.bytes == ours.bytes, "both make the same of it");
}

// Nearly every change of a member is noticed by its sums alone: here they are made for whatever comes out.
std::optional<std::string> summed(std::string_view deflated) {
  z_stream stream{};
  std::string bytes(kMost, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(deflated.data()));
  stream.avail_in = static_cast<uInt>(deflated.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  if (::inflateInit2(&stream, -MAX_WBITS) != Z_OK) std::abort();
  const bool is_whole = ::inflate(&stream, Z_FINISH) == Z_STREAM_END;
  bytes.resize(stream.total_out);
  const std::size_t used = stream.total_in;
  ::inflateEnd(&stream);
  return is_whole ? std::optional(member(deflated.substr(0, used), bytes)) : std::nullopt;
}

void unzstd(std::string_view packed) {
  const UniqueFd file = fuzz::file_of();
  auto room = image::WindowRoom::map(file.get());
  if (!room) std::abort();
  fuzz::Bytes source(packed);
  const auto inflater = image::make_inflater(oci::Compression::zstd, source, &*room);
  const Unpacked in_room = read_all(**inflater);
  fuzz::Bytes again(packed);
  const auto other = image::make_inflater(oci::Compression::zstd, again);
  const Unpacked in_memory = read_all(**other);
  fuzz::demand(in_room.bytes == in_memory.bytes && in_room.error == in_memory.error, "a room makes no difference",
               in_room.error + " | " + in_memory.error);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kFront = 3;
  if (size < kFront) return 0;
  const unsigned kind = data[0];
  const std::size_t before = data[1] | std::size_t{data[2]} << 8U;
  const std::string_view bytes = fuzz::text_of(data + kFront, size - kFront);
  if ((kind & 3U) == 2) {
    unzstd(bytes);
    return 0;
  }
  const std::string front = (kind & 4U) != 0 ? filler(kSeam - before) : std::string();
  const auto made = (kind & 3U) == 1 ? summed(bytes) : std::nullopt;
  compare(front + (made ? *made : std::string(bytes)));
  return 0;
}
