// SPDX-License-Identifier: Apache-2.0
// A recipe and a layer, damaged or hostile: no more comes of them than the header says.
#include "image/recipe.h"

#include <cstring>

#include "target.h"

using namespace skink;

// Two bytes say how long the recipe is; the rest is the layer.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint16_t length = 0;
  if (size < sizeof length) return 0;
  std::memcpy(&length, data, sizeof length);
  const std::string_view rest = fuzz::text_of(data + sizeof length, size - sizeof length);
  const std::string_view recipe_bytes = rest.substr(0, length);
  const UniqueFd recipe = fuzz::file_of(recipe_bytes), layer = fuzz::file_of(rest.substr(recipe_bytes.size()));
  const auto header = image::read_recipe_header(recipe.get());
  std::uint64_t made = 0;
  constexpr std::uint64_t kEnough = 16U << 20;  // a recipe of few bytes may make a large tar
  const auto replayed =
      image::replay_recipe(recipe.get(), recipe_bytes.size(), layer.get(), [&](std::string_view bytes) -> Result<void> {
        made += bytes.size();
        if (made > kEnough) return Error::make(Code::unsupported, "enough");
        return {};
      });
  fuzz::demand(!replayed || header, "a recipe without a header makes nothing");
  if (header) fuzz::demand(made <= header->tar_size, "no more comes than the header says");
  if (header && replayed) fuzz::demand(made == header->tar_size, "and no less");
  return 0;
}
