// SPDX-License-Identifier: Apache-2.0
// What every way into the store has in common: a session, a sweep before it, and all or nothing after it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/catalog.h"
#include "image/layout.h"
#include "image/loader.h"
#include "image/store.h"

namespace skink::image {

/// Runs `work` in a session of its own; errors get `words` in front and can be printed.
Result<Loaded> load_with_session(int store_fd, const std::string& words,
                                 const std::function<Result<Loaded>(Session& session)>& work);
/// One archive, or a directory with a layout. `stem` names images that have no name, or a bare tag.
Result<Loaded> load_archive(int store_fd, Session& session, const std::string& file, const std::string& stem,
                            const LoadOptions& options);
/// Loads what `make` says, which may store layers by itself. After a failure the layers are taken back.
Result<Loaded> load_images(int store_fd, Loader& loader, const std::function<Result<Catalog>()>& make);

}  // namespace skink::image
