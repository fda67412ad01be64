// SPDX-License-Identifier: Apache-2.0
// Check: what dead commands have left in an image store and what of it is damaged, as far as a glance tells.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace skink::image {

/// One thing that should not be there, or is not as it should be.
struct StoreFlaw {
  enum class Kind {
    session,   ///< temporary directory of a command that was killed
    layer,     ///< no image needs it, and no load counts on it
    scaffold,  ///< the image that it belongs to is not there
    name,      ///< leads to no image
    foreign,   ///< nothing that skink makes: nothing is done about it here
    damaged    ///< an image that cannot be used: nothing is done about it here
  } kind = Kind::damaged;
  std::string path;    ///< below the store
  std::string reason;  ///< of damaged
};

/// Looks, and changes nothing. What a load is making just now may be among it: ask twice, with some time in between.
Result<std::vector<StoreFlaw>> check_store(int store_fd);

/// What can be seen of damage to a stored layer without reading all of it: that it and its seal are there, the front of
/// its file, its size, its lists, and its fs-verity digest (seal.h). Corrupt: that is damaged.
Result<void> glance_at_layer(int store_fd, const std::string& hex);
/// The same of an image's documents and scaffold, not of its layers.
Result<void> glance_at_image(int store_fd, const std::string& hex);

/// Those of them that take room and nobody needs: sessions, layers and scaffolds.
Result<std::vector<StoreFlaw>> find_orphans(int store_fd);

/// Removes what such a flaw names, under the locks that loads and removals take, if it is still one. Nothing of
/// `damaged` and `foreign`.
Result<void> clear_flaw(int store_fd, const StoreFlaw& flaw);

}  // namespace skink::image
