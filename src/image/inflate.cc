// SPDX-License-Identifier: Apache-2.0
// Inflaters: gzip by zlib and zstd, streaming, in this process (no helper programs: attack A07).
#include <zlib.h>
// For the contexts with an allocator of ours.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include "image/source.h"
#include "image/window_room.h"

namespace skink::image {
namespace {

constexpr std::size_t kInput = 128U << 10;

class GzipSource final : public ByteSource {
 public:
  static Result<std::unique_ptr<ByteSource>> create(ByteSource& packed) {
    std::unique_ptr<GzipSource> source(new GzipSource(packed));
    constexpr int kGzipOnly = 15 + 16;  // zlib.h: window bits, and 16 for a gzip header
    if (::inflateInit2(&source->stream_, kGzipOnly) != Z_OK)
      return Error::make(Code::internal, "zlib refused to start");
    source->started_ = true;
    return std::unique_ptr<ByteSource>(std::move(source));
  }
  ~GzipSource() override {
    if (started_) ::inflateEnd(&stream_);
  }

  Result<std::size_t> read(char* into, std::size_t most) override {
    const auto room = static_cast<uInt>(std::min<std::size_t>(most, std::numeric_limits<uInt>::max()));
    stream_.next_out = reinterpret_cast<Bytef*>(into);
    stream_.avail_out = room;
    while (stream_.avail_out == room) {
      if (stream_.avail_in == 0 && !input_ended_) TRY(refill());
      if (between_members_ && stream_.avail_in == 0) return std::size_t{0};
      if (between_members_) ::inflateReset(&stream_);
      between_members_ = false;
      const int answer = ::inflate(&stream_, Z_NO_FLUSH);
      if (answer == Z_STREAM_END) {
        between_members_ = true;
        ++members_;
      } else if (answer == Z_BUF_ERROR && input_ended_) {
        return Error::make(Code::corrupt, "gzip data ends early, at byte ", position());
      } else if (answer != Z_OK && answer != Z_BUF_ERROR) {
        return describe(answer);
      }
    }
    return static_cast<std::size_t>(room - stream_.avail_out);
  }

 private:
  explicit GzipSource(ByteSource& packed) : packed_(packed) {}

  Result<void> refill() {
    const std::size_t got = TRY(packed_.read(input_.data(), input_.size()));
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(got);
    consumed_ += got;
    input_ended_ = got == 0;
    return {};
  }
  [[nodiscard]] std::uint64_t position() const { return consumed_ - stream_.avail_in; }
  [[nodiscard]] Error describe(int answer) const {
    if (answer == Z_MEM_ERROR) return Error::make(Code::os, "zlib is out of memory");
    const std::string_view why = stream_.msg != nullptr ? stream_.msg : "bad data";
    const std::string_view where = members_ > 0 && stream_.total_out == 0 ? "what follows the gzip data" : "gzip data";
    return Error::make(Code::corrupt, where, " is corrupt at byte ", position(), ": ", why);
  }

  ByteSource& packed_;
  z_stream stream_{};
  bool started_ = false;
  bool input_ended_ = false;
  bool between_members_ = false;
  std::uint64_t members_ = 0;
  std::uint64_t consumed_ = 0;
  std::array<char, kInput> input_{};
};

class ZstdSource final : public ByteSource {
 public:
  static Result<std::unique_ptr<ByteSource>> create(ByteSource& packed, WindowRoom* room) {
    std::unique_ptr<ZstdSource> source(new ZstdSource(packed));
    const ZSTD_customMem in_room{allocate_in_room, free_in_room, room};
    source->context_.reset(::ZSTD_createDCtx_advanced(room != nullptr ? in_room : ZSTD_defaultCMem));
    if (!source->context_) return Error::make(Code::os, "zstd is out of memory");
    const std::size_t set =
        ::ZSTD_DCtx_setParameter(source->context_.get(), ZSTD_d_windowLogMax, WindowRoom::kWindowLogMost);
    if (::ZSTD_isError(set) != 0) return Error::make(Code::internal, "zstd refused the window limit");
    return std::unique_ptr<ByteSource>(std::move(source));
  }

  Result<std::size_t> read(char* into, std::size_t most) override {
    ZSTD_outBuffer out{into, most, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size && !input_ended_) TRY(refill());
      // 0 from the decoder: a frame is complete and flushed, so an end of input is right here and only here.
      if (frame_done_ && in_.pos == in_.size) return std::size_t{0};
      const std::size_t before = in_.pos;
      const std::size_t answer = ::ZSTD_decompressStream(context_.get(), &out, &in_);
      if (::ZSTD_isError(answer) != 0) return describe(answer);
      frame_done_ = answer == 0;
      if (input_ended_ && out.pos == 0 && in_.pos == before && !frame_done_)
        return Error::make(Code::corrupt, "zstd data ends early, at byte ", consumed_);
    }
    return out.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ::ZSTD_freeDCtx(context); }
  };
  explicit ZstdSource(ByteSource& packed) : packed_(packed) {}
  static void* allocate_in_room(void* room, std::size_t size) { return static_cast<WindowRoom*>(room)->allocate(size); }
  static void free_in_room(void* room, void* memory) { static_cast<WindowRoom*>(room)->free(memory); }

  [[nodiscard]] Error describe(std::size_t answer) const {
    const std::uint64_t at = consumed_ - (in_.size - in_.pos);
    switch (::ZSTD_getErrorCode(answer)) {
      case ZSTD_error_frameParameter_windowTooLarge:
        return Error::make(Code::unsupported, "the zstd data at byte ", at, " wants a window of more than ",
                           std::size_t{1} << (WindowRoom::kWindowLogMost - 20),
                           " MiB, the most that skink reads; pack it with a smaller one (zstd --long=",
                           WindowRoom::kWindowLogMost, ")");
      case ZSTD_error_memory_allocation: return Error::from_errno(ENOMEM, "zstd data at byte ", at);
      default:
        return Error::make(Code::corrupt, "zstd data is corrupt at byte ", at, ": ",
                           std::string_view(::ZSTD_getErrorName(answer)));
    }
  }

  Result<void> refill() {
    const std::size_t got = TRY(packed_.read(input_.data(), input_.size()));
    in_ = {input_.data(), got, 0};
    consumed_ += got;
    input_ended_ = got == 0;
    return {};
  }

  ByteSource& packed_;
  std::unique_ptr<ZSTD_DCtx, Free> context_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool input_ended_ = false;
  bool frame_done_ = false;
  std::uint64_t consumed_ = 0;
  std::array<char, kInput> input_{};
};

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(ByteSource& inner) : inner_(inner) {}
  Result<std::size_t> read(char* into, std::size_t most) override { return inner_.read(into, most); }

 private:
  ByteSource& inner_;
};

// Gives back the bytes that were looked at, then unpacks all of them.
class DetectedSource final : public ByteSource {
 public:
  static Result<std::unique_ptr<ByteSource>> create(ByteSource& packed, WindowRoom* room) {
    std::unique_ptr<DetectedSource> source(new DetectedSource(packed));
    source->front_.resize(4);
    source->front_.resize(TRY(read_full(packed, source->front_.data(), source->front_.size())));
    source->inflater_ = TRY(make_inflater(detect_compression(source->front_), source->whole_, room));
    return std::unique_ptr<ByteSource>(std::move(source));
  }
  Result<std::size_t> read(char* into, std::size_t most) override { return inflater_->read(into, most); }

 private:
  struct Whole final : ByteSource {
    explicit Whole(DetectedSource& owner) : all(owner) {}
    Result<std::size_t> read(char* into, std::size_t most) override {
      if (all.front_.empty()) return all.packed_.read(into, most);
      const std::size_t count = all.front_.copy(into, most);
      all.front_.erase(0, count);
      return count;
    }
    DetectedSource& all;
  };
  explicit DetectedSource(ByteSource& packed) : packed_(packed), whole_(*this) {}

  ByteSource& packed_;
  std::string front_;
  Whole whole_;
  std::unique_ptr<ByteSource> inflater_;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> detect_and_inflate(ByteSource& packed, WindowRoom* room) {
  return DetectedSource::create(packed, room);
}

Result<std::unique_ptr<ByteSource>> make_inflater(oci::Compression compression, ByteSource& packed, WindowRoom* room) {
  switch (compression) {
    case oci::Compression::gzip: return GzipSource::create(packed);
    case oci::Compression::zstd: return ZstdSource::create(packed, room);
    case oci::Compression::none: break;
  }
  return std::unique_ptr<ByteSource>(std::make_unique<PlainSource>(packed));
}

oci::Compression detect_compression(std::string_view start) {
  using namespace std::string_view_literals;
  if (start.starts_with("\x1f\x8b"sv)) return oci::Compression::gzip;
  if (start.starts_with("\x28\xb5\x2f\xfd"sv)) return oci::Compression::zstd;
  // A zstd skippable frame: 0x184D2A50 to 5F, little endian (RFC 8878, 3.1.2).
  const bool skippable = start.size() >= 4 && (static_cast<unsigned char>(start[0]) & 0xf0U) == 0x50 &&
                         start.substr(1, 3) == "\x2a\x4d\x18"sv;
  return skippable ? oci::Compression::zstd : oci::Compression::none;
}

}  // namespace skink::image
