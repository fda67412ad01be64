// SPDX-License-Identifier: Apache-2.0
// A layer's file from a process that was taken over: what the check accepts can be read without harm.
#include "image/layer_check.h"

#include <vector>

#include "image/layer.h"
#include "target.h"

using namespace skink;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const UniqueFd layer = fuzz::file_of(fuzz::text_of(data, size));
  if (!image::walk_layer_file(layer.get(), size)) return 0;
  const auto reader = image::open_erofs_layer(UniqueFd(::dup(layer.get())));
  if (!reader) return 0;
  std::vector<std::string> paths = (*reader)->implied();
  for (const char* const path : {"", "a", "d", "d/f", "link", "etc/passwd"}) paths.emplace_back(path);
  for (const auto& path : paths) {
    const auto node = (*reader)->lookup(path);
    if (node && *node && S_ISLNK((*node)->status.st_mode)) (void)(*reader)->read_link(path);
  }
  return 0;
}
