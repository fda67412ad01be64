// SPDX-License-Identifier: Apache-2.0
#include "image/recipe.h"

#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include "image/erofs_format.h"
#include "sys/file.h"

namespace skink::image {
namespace {

static_assert(std::endian::native == std::endian::little, "recipes are little-endian");

// In the zstd frame: a length; with the top bit it is contents, and two offsets follow; without it as many bytes
// follow. Length 0 is the end.
constexpr std::uint64_t kIsContent = 1ULL << 63;
constexpr std::size_t kLiteralMost = 64U << 10;
constexpr std::size_t kRecipePiece = 256U << 10;
constexpr int kLevel = 3;

class PackedRecipe final : public RecipeWriter {
 public:
  explicit PackedRecipe(int recipe_fd) : fd_(recipe_fd), packed_(::ZSTD_CStreamOutSize()) {}
  Result<void> start();
  Result<void> literal(std::string_view bytes) override;
  Result<void> content(const Placement& placement) override;
  Result<void> finish() override;

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ::ZSTD_freeCCtx(context); }
  };
  Result<void> pack(std::string_view bytes, ZSTD_EndDirective how);
  Result<void> number(std::uint64_t value) {
    return pack({reinterpret_cast<const char*>(&value), sizeof value}, ZSTD_e_continue);
  }
  Result<void> flush_literal();

  int fd_;
  std::unique_ptr<ZSTD_CCtx, Free> context_;
  std::vector<char> packed_;
  std::string literal_;
  std::uint64_t tar_size_ = 0;
};

Result<void> PackedRecipe::start() {
  context_.reset(::ZSTD_createCCtx());
  if (!context_) return Error::from_errno(ENOMEM, "zstd");
  (void)::ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
  // Its place; finish() fills it.
  return sys::write_all(fd_, std::string(sizeof(RecipeHeader), '\0'), "recipe");
}

Result<void> PackedRecipe::pack(std::string_view bytes, ZSTD_EndDirective how) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{packed_.data(), packed_.size(), 0};
    const std::size_t left = ::ZSTD_compressStream2(context_.get(), &out, &in, how);
    if (::ZSTD_isError(left) != 0)
      return Error::make(Code::internal, "recipe: zstd: ", std::string_view(::ZSTD_getErrorName(left)));
    if (out.pos > 0) TRY(sys::write_all(fd_, {packed_.data(), out.pos}, "recipe"));
    if (how == ZSTD_e_end ? left == 0 : in.pos == in.size) return {};
  }
}

Result<void> PackedRecipe::flush_literal() {
  if (literal_.empty()) return {};
  TRY(number(literal_.size()));
  TRY(pack(literal_, ZSTD_e_continue));
  literal_.clear();
  return {};
}

Result<void> PackedRecipe::literal(std::string_view bytes) {
  tar_size_ += bytes.size();
  literal_.append(bytes);
  return literal_.size() < kLiteralMost ? Result<void>() : flush_literal();
}

Result<void> PackedRecipe::content(const Placement& placement) {
  if (placement.size == 0) return {};
  TRY(flush_literal());
  tar_size_ += placement.size;
  TRY(number(placement.size | kIsContent));
  TRY(number(placement.data));
  return number(placement.tail);
}

Result<void> PackedRecipe::finish() {
  TRY(flush_literal());
  TRY(number(0));
  TRY(pack({}, ZSTD_e_end));
  RecipeHeader header;
  header.tar_size = tar_size_;
  if (::pwrite(fd_, &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header))
    return Error::from_errno(errno, "write of the recipe");
  return {};
}

Error damaged_recipe(std::string_view what) {
  return Error::make(Code::corrupt, "the recipe of the layer is damaged_recipe: ", what);
}

class Replay {
 public:
  Replay(ByteSource& ops, int layer_fd, std::uint64_t left, const TakeBytes& out)
      : ops_(ops), layer_fd_(layer_fd), left_(left), out_(out), piece_(kRecipePiece) {}
  Result<void> run();

 private:
  Result<std::uint64_t> number();
  Result<void> give(std::size_t count);
  Result<void> literal(std::uint64_t size);
  Result<void> from_layer(std::uint64_t offset, std::uint64_t size);

  ByteSource& ops_;
  int layer_fd_;
  std::uint64_t left_;
  const TakeBytes& out_;
  std::vector<char> piece_;
};

Result<std::uint64_t> Replay::number() {
  std::uint64_t value = 0;
  if (TRY(read_full(ops_, reinterpret_cast<char*>(&value), sizeof value)) < sizeof value)
    return damaged_recipe("it ends early");
  return value;
}

Result<void> Replay::give(std::size_t count) {
  if (count > left_) return damaged_recipe("it makes more than it says");
  left_ -= count;
  return out_({piece_.data(), count});
}

Result<void> Replay::literal(std::uint64_t size) {
  while (size > 0) {
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(size, piece_.size()));
    const std::size_t got = TRY(ops_.read(piece_.data(), most));
    if (got == 0) return damaged_recipe("it ends early");
    TRY(give(got));
    size -= got;
  }
  return {};
}

Result<void> Replay::from_layer(std::uint64_t offset, std::uint64_t size) {
  while (size > 0) {
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(size, piece_.size()));
    const ssize_t got = ::pread(layer_fd_, piece_.data(), most, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read of the layer");
    if (got == 0) return damaged_recipe("it leads beyond the end of the layer");
    TRY(give(static_cast<std::size_t>(got)));
    offset += static_cast<std::uint64_t>(got);
    size -= static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<void> Replay::run() {
  constexpr std::uint64_t kOffsetMost = 1ULL << 62;
  while (const std::uint64_t op = TRY(number())) {
    const std::uint64_t size = op & ~kIsContent;
    if (size == 0) return damaged_recipe("a piece of nothing");
    if (size > left_) return damaged_recipe("it makes more than it says");
    if (size == op) {
      TRY(literal(size));
      continue;
    }
    const std::uint64_t data = TRY(number()), tail = TRY(number());
    if (data > kOffsetMost || tail > kOffsetMost) return damaged_recipe("it leads beyond the end of the layer");
    const std::uint64_t in_tail = size % erofs::kBlock;
    TRY(from_layer(data, size - in_tail));
    TRY(from_layer(tail, in_tail));
  }
  return left_ == 0 ? Result<void>() : damaged_recipe("it makes less than it says");
}

}  // namespace

Result<std::unique_ptr<RecipeWriter>> RecipeWriter::create(int recipe_fd) {
  auto recipe = std::make_unique<PackedRecipe>(recipe_fd);
  TRY(recipe->start());
  return std::unique_ptr<RecipeWriter>(std::move(recipe));
}

Result<std::size_t> RecordingSource::read(char* into, std::size_t most) {
  const std::size_t got = TRY(inner_.read(into, most));
  if (recording_) TRY(recipe_.literal({into, got}));
  else content_ += got;
  return got;
}

Result<void> RecordingSource::end_content(const std::optional<Placement>& placement) {
  recording_ = true;
  if (!placement || placement->size != std::exchange(content_, 0))
    return Error::make(Code::internal, "recipe: contents without a place");
  return recipe_.content(*placement);
}

Result<RecipeHeader> read_recipe_header(int recipe_fd) {
  RecipeHeader header;
  const RecipeHeader good;
  const ssize_t got = ::pread(recipe_fd, &header, sizeof header, 0);
  if (got < 0) return Error::from_errno(errno, "read of the recipe");
  if (got != static_cast<ssize_t>(sizeof header) || std::memcmp(header.magic, good.magic, sizeof good.magic) != 0)
    return damaged_recipe("it does not begin like one");
  constexpr std::uint64_t kTarMost = 1ULL << 60;
  if (header.tar_size > kTarMost) return damaged_recipe("it makes more than any tar");
  return header;
}

Result<void> replay_recipe(int recipe_fd, std::uint64_t recipe_size, int layer_fd, const TakeBytes& out) {
  const RecipeHeader header = TRY(read_recipe_header(recipe_fd));
  FileSource packed(recipe_fd, sizeof header, recipe_size - sizeof header);
  const auto ops = TRY(make_inflater(oci::Compression::zstd, packed));
  return Replay(*ops, layer_fd, header.tar_size, out).run();
}

}  // namespace skink::image
