// SPDX-License-Identifier: Apache-2.0
// Gunzip: gzip unpacked by libdeflate, twice as fast as zlib, a piece at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "image/source.h"

namespace skink::image {

/// Takes unpacked bytes in their order; an error ends the work.
using ByteSink = std::function<Result<void>(std::string_view bytes)>;

/// Unpacks the `size` bytes of `packed`, gzip members one after the other (RFC 1952), into `sink`. Takes 2 MiB of
/// memory, whatever comes. The process must have one thread, and may use SIGSEGV for nothing else meanwhile; it must be
/// allowed mmap, mremap, munmap and rt_sigaction.
/// Errors: what `packed` and `sink` answer; corrupt; EFBIG for more than 10 TiB unpacked; unsupported, before anything
/// is read, where `size` is too much or the addresses are taken: make_inflater does it then.
Result<void> gunzip(ByteSource& packed, std::uint64_t size, const ByteSink& sink);

}  // namespace skink::image
