// SPDX-License-Identifier: Apache-2.0
#include "image/tar_writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kTarBlock = 512;

// POSIX.1-2017, pax, "ustar Interchange Format".
struct Header {
  std::array<char, 100> name{};
  std::array<char, 8> mode{}, uid{}, gid{};
  std::array<char, 12> size{}, mtime{};
  std::array<char, 8> checksum{};
  char type = '0';
  std::array<char, 100> link{};
  std::array<char, 6> magic{'u', 's', 't', 'a', 'r', '\0'};
  std::array<char, 2> version{'0', '0'};
  std::array<char, 247> rest{};
};
static_assert(sizeof(Header) == kTarBlock);

// Octal digits and a NUL; what has no room is GNU's base-256.
template <std::size_t Size>
void put_number(std::array<char, Size>& field, std::uint64_t value) {
  if (value >> (3 * (Size - 1)) == 0) {
    for (std::size_t i = Size - 1; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7U));
    return;
  }
  for (std::size_t i = Size; i-- > 1; value >>= 8) field[i] = static_cast<char>(value & 0xffU);
  field[0] = static_cast<char>(0x80);
}

}  // namespace

Result<void> TarWriter::header(const std::string& name, char type, std::uint64_t size) {
  Header header;
  if (name.size() >= header.name.size()) return Error::make(Code::internal, "a member's name is too long: ", name);
  std::copy(name.begin(), name.end(), header.name.begin());
  put_number(header.mode, type == '5' ? 0755U : 0644U);
  put_number(header.uid, 0);
  put_number(header.gid, 0);
  put_number(header.size, size);
  // The same images are the same bytes, whenever they are saved.
  put_number(header.mtime, 0);
  header.type = type;
  header.checksum.fill(' ');
  std::array<unsigned char, kTarBlock> bytes{};
  std::memcpy(bytes.data(), &header, kTarBlock);
  std::uint64_t sum = 0;
  for (const unsigned char byte : bytes) sum += byte;
  std::array<char, 7> digits{};
  put_number(digits, sum);
  std::copy(digits.begin(), digits.end(), header.checksum.begin());
  return sys::write_all(fd_, {reinterpret_cast<const char*>(&header), sizeof header}, "archive");
}

Result<void> TarWriter::directory(const std::string& name) { return header(name, '5', 0); }

Result<void> TarWriter::file(const std::string& name, std::string_view bytes) {
  TRY(begin(name, bytes.size()));
  TRY(write(bytes));
  return end();
}

Result<void> TarWriter::begin(const std::string& name, std::uint64_t size) {
  left_ = size_ = size;
  return header(name, '0', size);
}

Result<void> TarWriter::write(std::string_view bytes) {
  if (bytes.size() > left_) return Error::make(Code::internal, "a member of the archive is longer than it said");
  left_ -= bytes.size();
  return sys::write_all(fd_, bytes, "archive");
}

Result<void> TarWriter::end() {
  if (left_ > 0) return Error::make(Code::internal, "a member of the archive is shorter than it said");
  return sys::write_all(fd_, std::string((kTarBlock - size_ % kTarBlock) % kTarBlock, '\0'), "archive");
}

Result<void> TarWriter::finish() { return sys::write_all(fd_, std::string(2 * kTarBlock, '\0'), "archive"); }

}  // namespace skink::image
