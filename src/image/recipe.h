// SPDX-License-Identifier: Apache-2.0
// Recipes: how a layer's tar is made again, to the byte, of what its EROFS file holds. A recipe has the bytes of the
// tar that are no file's contents (headers, padding, extended headers, what trails), packed with zstd, and between them
// where in the layer's file the contents lie.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/layer.h"
#include "image/source.h"

namespace skink::image {

/// The name of a layer's recipe among its marks.
inline constexpr char kRecipeFile[] = "recipe";

/// The beginning of a recipe; the rest is one zstd frame.
struct RecipeHeader {
  char magic[8] = {'s', 'k', 'i', 'n', 'k', 'R', 'c', '1'};
  std::uint64_t tar_size = 0;  ///< bytes that it makes
};
static_assert(sizeof(RecipeHeader) == 16);

/// Writes a recipe.
class RecipeWriter {
 public:
  /// `recipe_fd` is borrowed: a regular file that is empty.
  static Result<std::unique_ptr<RecipeWriter>> create(int recipe_fd);
  virtual ~RecipeWriter() = default;
  virtual Result<void> literal(std::string_view bytes) = 0;
  /// A file's whole contents.
  virtual Result<void> content(const Placement& placement) = 0;
  /// The last call.
  virtual Result<void> finish() = 0;
};

/// Passes a tar on and writes its recipe meanwhile. Whoever reads a file's contents out of it says so.
class RecordingSource final : public ByteSource {
 public:
  RecordingSource(ByteSource& inner, RecipeWriter& recipe) : inner_(inner), recipe_(recipe) {}
  Result<std::size_t> read(char* into, std::size_t most) override;
  /// What is read from now on is contents, until where they were put is said.
  void begin_content() { recording_ = false; }
  /// Without a place for them, a recipe cannot be made: an error.
  Result<void> end_content(const std::optional<Placement>& placement);

 private:
  ByteSource& inner_;
  RecipeWriter& recipe_;
  bool recording_ = true;
  std::uint64_t content_ = 0;  // bytes read meanwhile
};

/// The header of a recipe, checked.
Result<RecipeHeader> read_recipe_header(int recipe_fd);
/// Makes the tar of a recipe with `recipe_size` bytes: `out` gets it piece by piece. Both files are read by pread alone
/// and may be damaged or hostile: no more comes than the header says, and an end before that is an error.
using TakeBytes = std::function<Result<void>(std::string_view bytes)>;
Result<void> replay_recipe(int recipe_fd, std::uint64_t recipe_size, int layer_fd, const TakeBytes& out);

}  // namespace skink::image
