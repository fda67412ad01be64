// SPDX-License-Identifier: Apache-2.0
#include "image/source.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace skink::image {
namespace {
constexpr std::size_t kBuffer = 128U << 10;
}

Result<void> ByteSource::skip(std::uint64_t count) {
  char dropped[16384];
  while (count > 0) {
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(count, sizeof dropped));
    const std::size_t got = TRY(read(dropped, most));
    if (got == 0) return Error::make(Code::corrupt, "truncated: ", count, " bytes are missing");
    count -= got;
  }
  return {};
}

Result<std::size_t> read_full(ByteSource& source, char* into, std::size_t most) {
  std::size_t used = 0;
  while (used < most) {
    const std::size_t got = TRY(source.read(into + used, most - used));
    if (got == 0) break;
    used += got;
  }
  return used;
}

Result<std::size_t> FileSource::read(char* into, std::size_t most) {
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(most, end_ - at_));
  if (wanted == 0) return std::size_t{0};
  ssize_t got = -1;
  do {
    got = ::pread(fd_, into, wanted, static_cast<off_t>(at_));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::from_errno(errno, "read archive at byte ", at_);
  if (got == 0) return Error::make(Code::corrupt, "truncated: the file ends at byte ", at_, ", not at ", end_);
  at_ += static_cast<std::uint64_t>(got);
  return static_cast<std::size_t>(got);
}

Result<void> FileSource::skip(std::uint64_t count) {
  if (count > end_ - at_) return Error::make(Code::corrupt, "truncated: the file ends at byte ", end_);
  at_ += count;
  return {};
}

Result<std::size_t> StreamSource::read(char* into, std::size_t most) {
  for (;;) {
    const ssize_t got = ::read(fd_, into, most);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return Error::from_errno(errno, "read archive");
  }
}

Result<std::size_t> HashingSource::pull(char* into, std::size_t most) {
  const std::size_t got = TRY(inner_.read(into, most));
  hash_.update({into, got});
  count_ += got;
  if (check_) TRY(check_(count_));
  return got;
}

Result<std::size_t> HashingSource::read(char* into, std::size_t most) {
  if (next_ == filled_) {
    // Large pieces go straight through; tar headers of 512 bytes are served from the buffer.
    if (most >= kBuffer) return pull(into, most);
    buffer_.resize(kBuffer);
    next_ = 0;
    filled_ = TRY(pull(buffer_.data(), buffer_.size()));
  }
  const std::size_t count = std::min(most, filled_ - next_);
  if (count > 0) std::memcpy(into, buffer_.data() + next_, count);
  next_ += count;
  return count;
}

Result<oci::Digest> HashingSource::finish() {
  buffer_.resize(kBuffer);
  while (TRY(pull(buffer_.data(), buffer_.size())) > 0) continue;
  next_ = filled_ = 0;
  return oci::Digest::of_bytes(hash_.finish());
}

Result<std::size_t> CountingSource::read(char* into, std::size_t most) {
  const std::size_t got = TRY(inner_.read(into, most));
  count_ += got;
  return got;
}

}  // namespace skink::image
