// SPDX-License-Identifier: Apache-2.0
// libdeflate unpacks a gzip member in one call, from memory to memory, and looks back no more than 32 KiB. So it is
// given addresses for all of it, of which two pieces of the input and two of the output are there. When it comes to the
// next one the kernel sends SIGSEGV; then what is in the older of the two pieces goes out, or is used up, and its pages
// move to where libdeflate goes on.
#include "image/gunzip.h"

#include <libdeflate.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

namespace skink::image {
namespace {

// libdeflate writes less than 400 bytes ahead, and copies a stored block of at most 64 KiB in any order: a byte of the
// next piece is touched only when the piece before the present one is final.
constexpr std::size_t kPiece = 512U << 10;
static_assert(kPiece >= (128U << 10));

// Where no kernel puts anything by itself on x86-64 and on aarch64 with 48 bits, nor AddressSanitizer its shadow; below
// TASK_SIZE / 3, from where mmap goes up when the stack has no limit. Reserving the ranges would count for RLIMIT_AS.
constexpr std::uintptr_t kInputStart = 0x1800'0000'0000;
constexpr std::uintptr_t kOutputStart = 0x2000'0000'0000;
constexpr std::uintptr_t kOutputEnd = 0x2a00'0000'0000;
constexpr std::uint64_t kInputMost = kOutputStart - kInputStart - 4 * kPiece;
constexpr std::uint64_t kOutputMost = kOutputEnd - kOutputStart - 4 * kPiece;

// A long row of addresses, two pieces of which have memory.
class Strip {
 public:
  explicit Strip(std::uintptr_t start) : start_(start) {}
  Strip(const Strip&) = delete;
  Strip& operator=(const Strip&) = delete;
  ~Strip() {
    if (mapped_) ::munmap(at(first_), 2 * kPiece);
  }
  Result<void> map() {
    constexpr int kHow = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void* got = ::mmap(at(0), 2 * kPiece, PROT_READ | PROT_WRITE, kHow, -1, 0);
    if (got == MAP_FAILED) return Error::make(Code::unsupported, "addresses for libdeflate");
    mapped_ = got == at(0);
    if (mapped_) return {};
    ::munmap(got, 2 * kPiece);  // a kernel before 4.17 takes the address for a wish
    return Error::make(Code::unsupported, "addresses for libdeflate");
  }
  [[nodiscard]] char* at(std::uint64_t offset) const { return reinterpret_cast<char*>(start_ + offset); }
  /// Offset of the first of the two pieces.
  [[nodiscard]] std::uint64_t first() const { return first_; }
  /// Whether the address is in the piece behind the two.
  [[nodiscard]] bool is_next(const void* address) const {
    const auto offset = reinterpret_cast<std::uintptr_t>(address) - start_;
    return offset >= first_ + 2 * kPiece && offset < first_ + 3 * kPiece;
  }
  /// The memory of the first piece becomes that of the next one.
  Result<void> slide() {
    if (::mremap(at(first_), kPiece, kPiece, MREMAP_MAYMOVE | MREMAP_FIXED, at(first_ + 2 * kPiece)) == MAP_FAILED)
      return Error::from_errno(errno, "mremap");
    first_ += kPiece;
    return {};
  }

 private:
  std::uintptr_t start_;
  std::uint64_t first_ = 0;
  bool mapped_ = false;
};

class Gunzip {
 public:
  Gunzip(ByteSource& packed, std::uint64_t size, const ByteSink& sink) : packed_(packed), size_(size), sink_(sink) {}
  Result<void> run();

 private:
  struct Free {
    void operator()(libdeflate_decompressor* decompressor) const { ::libdeflate_free_decompressor(decompressor); }
  };
  enum class Fault : char { mended, foreign, failed };

  static void on_fault(int signal, siginfo_t* info, void* context);
  Fault mend(const void* address);
  Result<bool> provide(const void* address);
  Result<void> fill(std::uint64_t offset);
  Result<void> flush(std::uint64_t end);
  Result<void> members();
  Result<void> member();
  Result<void> header();
  Result<void> body();
  Result<void> trailer();
  Result<unsigned char> byte();
  Result<std::uint32_t> number();
  bool call_libdeflate();
  void sum(std::uint64_t end);

  static Gunzip* active;

  ByteSource& packed_;
  std::uint64_t size_;
  const ByteSink& sink_;
  std::unique_ptr<libdeflate_decompressor, Free> decompressor_;
  Strip in_{kInputStart};
  Strip out_{kOutputStart};
  std::uint64_t next_ = 0;     // the input's byte that comes next
  std::uint64_t read_ = 0;     // bytes of the input that were read
  std::uint64_t written_ = 0;  // unpacked bytes up to here
  std::uint64_t body_ = 0;     // of which those of the present member begin here
  std::uint64_t summed_ = 0;   // and are in sum_ up to here
  std::uint32_t sum_ = 0;      // CRC-32
  std::size_t used_ = 0;       // what libdeflate answers
  std::size_t unpacked_ = 0;
  libdeflate_result answer_ = LIBDEFLATE_SUCCESS;
  sigjmp_buf leave_{};
  std::optional<Error> failed_;  // why it was left
};

Gunzip* Gunzip::active = nullptr;

// In the middle of libdeflate, which neither allocates nor locks anything: all calls are allowed here. Nothing with a
// destructor may live where the jump begins.
void Gunzip::on_fault(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const Fault fault = active->mend(info->si_addr);
  if (fault == Fault::failed) ::siglongjmp(active->leave_, 1);
  if (fault == Fault::foreign) (void)::signal(SIGSEGV, SIG_DFL);  // it happens again, for good
}

Gunzip::Fault Gunzip::mend(const void* address) {
  auto provided = provide(address);
  if (provided) return *provided ? Fault::mended : Fault::foreign;
  failed_ = std::move(provided).error();
  return Fault::failed;
}

Result<bool> Gunzip::provide(const void* address) {
  if (out_.is_next(address)) {
    TRY(flush(out_.first() + kPiece));
    TRY(out_.slide());
    return true;
  }
  if (!in_.is_next(address)) return false;
  TRY(in_.slide());
  TRY(fill(in_.first() + kPiece));
  return true;
}

Result<void> Gunzip::fill(std::uint64_t offset) {
  const std::uint64_t wanted = offset < size_ ? std::min<std::uint64_t>(kPiece, size_ - offset) : 0;
  if (wanted == 0) return {};
  const std::size_t got = TRY(read_full(packed_, in_.at(offset), wanted));
  read_ += got;
  if (got != wanted) return Error::make(Code::corrupt, "gzip data ends early, at byte ", read_);
  return {};
}

// Of the first piece; the bytes before it are gone.
Result<void> Gunzip::flush(std::uint64_t end) {
  sum(end);
  return sink_({out_.at(out_.first()), end - out_.first()});
}

void Gunzip::sum(std::uint64_t end) {
  if (end <= summed_) return;
  sum_ = ::libdeflate_crc32(sum_, out_.at(summed_), end - summed_);
  summed_ = end;
}

Result<void> Gunzip::run() {
  decompressor_.reset(::libdeflate_alloc_decompressor());
  if (!decompressor_) return Error::make(Code::os, "libdeflate is out of memory");
  TRY(in_.map());
  TRY(out_.map());
  TRY(fill(0));
  TRY(fill(kPiece));
  return members();
}

Result<void> Gunzip::members() {
  do TRY(member());
  while (next_ != size_);
  while (out_.first() + kPiece < written_) {
    TRY(flush(out_.first() + kPiece));
    TRY(out_.slide());
  }
  return written_ > out_.first() ? flush(written_) : Result<void>{};
}

Result<void> Gunzip::member() {
  const std::uint64_t begin = next_;
  auto headed = header();
  if (!headed && headed.error().code() == Code::corrupt && begin != 0)
    return Error::make(Code::corrupt, "what follows the gzip data is corrupt at byte ", begin, ": no gzip header");
  TRY(std::move(headed));
  TRY(body());
  return trailer();
}

Result<unsigned char> Gunzip::byte() {
  if (next_ == size_) return Error::make(Code::corrupt, "gzip data ends early, at byte ", size_);
  const char* at = in_.at(next_++);
  if (in_.is_next(at)) TRY(provide(at));
  return static_cast<unsigned char>(*at);
}

// RFC 1952, 2.1: least significant byte first.
Result<std::uint32_t> Gunzip::number() {
  std::uint32_t value = 0;
  for (unsigned shift = 0; shift < 32; shift += 8) value |= std::uint32_t{TRY(byte())} << shift;
  return value;
}

// RFC 1952, 2.3.
Result<void> Gunzip::header() {
  constexpr unsigned kMagic1 = 0x1f, kMagic2 = 0x8b, kDeflate = 8;
  constexpr unsigned kHeaderSum = 2, kExtra = 4, kName = 8, kComment = 16, kReserved = 0xe0;
  constexpr int kTimeLevelSystem = 6;
  const std::uint64_t begin = next_;
  const bool known = TRY(byte()) == kMagic1 && TRY(byte()) == kMagic2 && TRY(byte()) == kDeflate;
  const unsigned flags = known ? TRY(byte()) : kReserved;
  if ((flags & kReserved) != 0)
    return Error::make(Code::corrupt, "gzip data is corrupt at byte ", begin, ": no gzip header");
  for (int skipped = 0; skipped < kTimeLevelSystem; ++skipped) TRY(byte());
  if ((flags & kExtra) != 0) {
    unsigned length = TRY(byte());
    length |= unsigned{TRY(byte())} << 8U;
    for (; length > 0; --length) TRY(byte());
  }
  for (const unsigned text : {kName, kComment})
    while ((flags & text) != 0 && TRY(byte()) != 0) continue;
  if ((flags & kHeaderSum) != 0)
    for (int skipped = 0; skipped < 2; ++skipped) TRY(byte());
  return {};
}

// False when the handler left it. Without locals, as their values would be lost.
bool Gunzip::call_libdeflate() {
  if (sigsetjmp(leave_, 0) != 0) return false;
  answer_ = ::libdeflate_deflate_decompress_ex(decompressor_.get(), in_.at(next_), size_ - next_, out_.at(written_),
                                               kOutputMost - written_, &used_, &unpacked_);
  return true;
}

Result<void> Gunzip::body() {
  struct sigaction ours {};
  struct sigaction before {};
  ours.sa_sigaction = on_fault;
  // SA_NODEFER: no call is needed to restore the mask when the handler is left by the jump.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER;
  active = this;
  if (::sigaction(SIGSEGV, &ours, &before) != 0) return Error::from_errno(errno, "sigaction");
  summed_ = body_ = written_;
  sum_ = 0;
  const bool returned = call_libdeflate();
  (void)::sigaction(SIGSEGV, &before, nullptr);
  if (!returned) return *std::move(failed_);
  if (answer_ == LIBDEFLATE_INSUFFICIENT_SPACE)
    return Error::from_errno(EFBIG, "gzip data unpacks to more than ", kOutputMost, " bytes");
  // It does not say where.
  if (answer_ != LIBDEFLATE_SUCCESS)
    return Error::make(Code::corrupt, "gzip data is corrupt", read_ == size_ ? " or ends early" : "", ", behind byte ",
                       std::max(next_, in_.first()));
  next_ += used_;
  written_ += unpacked_;
  sum(written_);
  return {};
}

Result<void> Gunzip::trailer() {
  const std::uint64_t begin = next_;
  const bool same_sum = TRY(number()) == sum_;
  const bool same_length = TRY(number()) == static_cast<std::uint32_t>(written_ - body_);
  if (same_sum && same_length) return {};
  return Error::make(Code::corrupt, "gzip data is corrupt at byte ", begin, ": incorrect ",
                     same_sum ? "length" : "data", " check");
}

}  // namespace

Result<void> gunzip(ByteSource& packed, std::uint64_t size, const ByteSink& sink) {
  if (size > kInputMost) return Error::make(Code::unsupported, "too much for libdeflate");
  return Gunzip(packed, size, sink).run();
}

}  // namespace skink::image
