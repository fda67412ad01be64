// SPDX-License-Identifier: Apache-2.0
// LayerSpace: where layers are mounted once for all containers of a host, so that these share the layers' page cache: a
// mount namespace of skink's own, kept by RUN/layers/pin. The host's mounts show that alone, however many layers there
// are; a kill at any moment leaves it usable; a reboot ends it.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::image {

class LayerSpace {
 public:
  /// Of the run directory at this path; made if there is none yet.
  static Result<LayerSpace> open(const std::string& run);
  /// The one that there is.
  static Result<std::optional<LayerSpace>> find(const std::string& run);

  /// A store: a name for it, and its path, by which sweep() finds out that it is gone.
  struct Owner {
    std::string name, path;
  };
  /// The roots (O_PATH) of the layers that are mounted under these names for a store, an empty descriptor for each that
  /// is not. A name holds no '/'.
  Result<std::vector<UniqueFd>> look_up(const Owner& store, const std::vector<std::string>& names) const;
  /// Attaches a detached mount under a name, and opens its root.
  Result<UniqueFd> attach(const Owner& store, const std::string& name, int mount_fd) const;
  /// What a store has mounted and is not among the names of `list_needed`, which is called after the mounts were
  /// listed; and what stores have that are gone.
  Result<std::vector<std::string>> find_needless(
      const Owner& store, const std::function<Result<std::set<std::string>>()>& list_needed) const;
  /// Takes these off; with the last mount of the last store, the namespace.
  Result<void> take_off(const std::vector<std::string>& needless) const;
  /// The namespace.
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] UniqueFd release() && { return std::move(fd_); }

 private:
  LayerSpace(std::string run, UniqueFd fd) : run_(std::move(run)), fd_(std::move(fd)) {}
  Result<void> remove_if_empty() const;
  std::string run_;
  UniqueFd fd_;
};

/// The store in this directory as the functions above know it.
Result<LayerSpace::Owner> owner_of(int store_fd);
/// The name of a layer's file there ("" for what is no file): another file has another name, also one in the place of
/// the first; chown, chmod and links do not change it where the file system keeps the time of birth. `path` may be "".
Result<std::string> file_name(int dir_fd, const char* path);

}  // namespace skink::image
