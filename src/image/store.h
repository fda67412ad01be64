// SPDX-License-Identifier: Apache-2.0
// The image store: images by name and digest, layers by diffID, written atomically, shared by any number of processes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "oci/image.h"

namespace skink::fs {
class Lock;
}  // namespace skink::fs

namespace skink::image {

/// A normalised reference, "docker.io/library/busybox:1.36" style names shortened as they are given: a repository and a
/// tag. "web" means "web:latest". Only letters, digits, '.', '_', '-', '/', ':' (a registry port) and a tag of at most
/// 128. Or a repository and a digest, "web@sha256:HEX": then a tag that was said counts for nothing, as with docker.
struct Reference {
  std::string repository;
  std::string tag;
  std::string digest = {};  ///< "sha256:HEX"; empty when there is none
  [[nodiscard]] std::string text() const { return digest.empty() ? repository + ":" + tag : repository + "@" + digest; }
};
Result<Reference> parse_reference(std::string_view text);

/// What a scaffold is to the last byte (seal.h); nothing of images that were stored before there were seals.
struct ScaffoldSeal {
  std::optional<oci::Digest> digest;
  std::string verity;  ///< empty: its file system has no fs-verity
};

struct Image {
  oci::Digest id;        ///< digest of the image configuration, docker's image id
  oci::Digest manifest;  ///< digest of the manifest (for a docker-archive: of one that skink writes)
  std::vector<std::string> names;
  oci::ImageConfig config;
  std::vector<oci::Digest> lowers;  ///< diffIDs of the layers that an overlay needs, topmost first
  std::int64_t size = 0;            ///< bytes of the unpacked layers
  std::string loaded;               ///< RFC 3339, when it was stored
  ScaffoldSeal scaffold;
};

/// How far one layer of a load is.
struct LayerProgress {
  enum class State { waiting, running, syncing, written, reused } state = State::waiting;
  std::string label;        ///< its blob's digest or its name in the archive
  std::uint64_t bytes = 0;  ///< packed ones that were read
  std::uint64_t size = 0;   ///< of the blob; 0: nobody knows yet
};
/// Gets all layers of the load, in their order.
using ProgressFunction = std::function<void(const std::vector<LayerProgress>& layers)>;

/// Gets a sentence on what a load waits for, when that takes longer than a second.
using WaitFunction = std::function<void(const std::string& words)>;

struct LoadOptions {
  std::optional<oci::Platform> platform;  ///< default: the host's
  bool all_platforms = false;             ///< all of them; `platform` says which one gets the names as they are
  std::string name;                       ///< a name to give when the archive carries none (run FILE.tar)
  std::vector<Reference> names;           ///< names to give, whatever the archive says, to its only image
  ProgressFunction progress;              ///< told now and then, if there is one
  WaitFunction waits;                     ///< told of another load that it waits for, likewise
};

struct Loaded {
  std::vector<Image> images;
  std::uint64_t layers_written = 0;
  std::uint64_t layers_reused = 0;
  std::uint64_t mended = 0;        ///< layers and images that were stored, but damaged; among those written
  std::vector<std::string> notes;  ///< what was left out and why, for people; already printable
};

/// What an overlay of this image is made of, topmost first: scaffold, then layers.
struct Lowers {
  std::vector<UniqueFd> dirs;        ///< O_PATH, valid while they are held
  UniqueFd space;                    ///< the mount namespace that they are attached in; without one, the caller's
  std::vector<std::size_t> outside;  ///< those that are attached in the caller's nevertheless
  int detached = -1;                 ///< one of them that is the top of a detached mount
};

/// Which containers use which images: names of containers by the image's id as text. Asked under the store's lock: what
/// it says holds until the image has gone. None: nobody uses any.
using ImageUsers = std::function<Result<std::map<std::string, std::vector<std::string>>>()>;

struct RemoveOptions {
  bool force = false;        ///< all names of an image that is named by its id
  bool keep_layers = false;  ///< layers that nobody needs any more stay until prune_store()
};

class Store {
 public:
  /// Opens or makes the store at `path` (0700, owned by the caller's euid; anything else is refused, attack A34).
  /// Layers that are files are mounted once for all containers, and kept so, in a mount namespace that `run` leads to;
  /// with none, anew for each open_lowers().
  static Result<Store> open(const std::string& path, const std::string& run = "");

  /// Loads every image of an oci-archive or docker-archive (plain file or pipe) that is not stored yet. Everything is
  /// verified before any of it is visible; on failure the store is as it was. Errors name blob, layer and entry.
  Result<Loaded> load(const std::string& file, const LoadOptions& options);

  /// By name ("web", "web:1.1"), by digest (of the configuration or of the manifest, with or without a repository in
  /// front, "web@sha256:HEX"), or by an id's prefix (at least 2 hex digits, "sha256:" optional). Several that fit a
  /// prefix are an error that names them.
  Result<Image> find(std::string_view name) const;
  /// The same, as the digits of the id, whether or not the image is damaged.
  Result<std::string> find_id(std::string_view name) const;
  /// Such digits of every image.
  Result<std::vector<std::string>> list_ids() const;
  /// Newest first. What is wrong with those that cannot be read is put into `damaged`; with none, it is the error.
  Result<std::vector<Image>> list(std::vector<Error>* damaged = nullptr) const;
  /// Gives the image another name, taking it from an image that had it.
  Result<void> tag(const Image& image, const Reference& name);
  /// Removes the name; with the last name the image, and layers that no image needs. An image that a container uses, or
  /// that one is being made of (hold()), is kept (busy) unless only a further name goes. Returns what was removed, for
  /// people.
  Result<std::vector<std::string>> remove(std::string_view name, const RemoveOptions& options = {},
                                          const ImageUsers& users = {});
  /// Keeps the image from being removed while the lock lives: for who is about to write down that he needs it. Shared
  /// by all who do that, and waits for nobody but a removal; not_found after one.
  Result<fs::Lock> hold(const Image& image) const;
  /// Takes off the mounts of layers that are no longer stored, which would keep their room: how many there were.
  Result<std::size_t> sweep_mounts() const;
  /// The raw configuration and manifest documents, for inspect.
  Result<std::string> read_config(const oci::Digest& id) const;
  Result<std::string> read_manifest(const Image& image) const;

  /// Bytes of the files in a stored layer.
  Result<std::int64_t> size_of_layer(const oci::Digest& diff_id) const;

  /// Opens the layers of an image for one container's overlay.
  Result<Lowers> open_lowers(const Image& image) const;

  /// The store's directory, for what other modules keep beside the images (containers/).
  [[nodiscard]] int dir_fd() const { return dir_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Store(std::string path, std::string run, UniqueFd dir)
      : path_(std::move(path)), run_(std::move(run)), dir_(std::move(dir)) {}
  std::string path_, run_;
  UniqueFd dir_;
};

}  // namespace skink::image
