// SPDX-License-Identifier: Apache-2.0
// LoadProgress: a bar for each layer of a load while somebody looks at a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"
#include "image/store.h"

namespace skink::cli {

/// One line of at most `width` characters: name, bar, bytes, rate and time left.
std::string progress_line(const image::LayerProgress& layer, std::int64_t elapsed_ns, std::size_t width);

class LoadProgress {
 public:
  /// What a load takes; nothing when standard error is no terminal. The object outlives the load.
  image::ProgressFunction function();
  /// Takes the bars away, for what is said next.
  void clear();
  /// What says whom a load waits for, above the lines.
  image::WaitFunction waits(Context& context);

 private:
  void show(const std::vector<image::LayerProgress>& layers);
  std::vector<std::int64_t> begun_ns_;  // of each layer, 0: not yet
  std::vector<bool> is_told_;           // that it is done
  std::size_t lines_ = 0;               // that are on the screen
};

}  // namespace skink::cli
