// SPDX-License-Identifier: Apache-2.0
// The store on disk: where things are, one load's temporary directory, and the locks.
//
//   lock                           held while images and names change
//   layers/sha256/HEX.erofs        a layer by diffID, as one file
//   marks/HEX/                     what is known of it: `unsynced` while its data may not be on disk, blob-DIGEST,
//                                  `recipe` (recipe.h), `seal` and `verity` (seal.h)
//   layers/sha256/HEX/             a layer as a directory (layer_files.h), with the same marks in it
//   images/sha256/HEX/             config, manifest, image.json, names/ENCODED (one empty file a name)
//   scaffolds/sha256/HEX.erofs, HEX/    the topmost lower of an image, in the form of a layer
//   names/ENCODED                  "sha256:HEX": the image of a name
//   locks/HEX.use, HEX.write       of a layer by diffID, see lock_layer()
//   tmp/RANDOM.PID/                one for each command that writes, locked while it lives
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "fs/dir.h"

namespace skink::image {

inline constexpr char kLayers[] = "layers/sha256";
inline constexpr char kMarks[] = "marks";
inline constexpr char kImages[] = "images/sha256";
inline constexpr char kScaffolds[] = "scaffolds/sha256";
inline constexpr char kNames[] = "names";
inline constexpr char kLocks[] = "locks";
inline constexpr char kTemporary[] = "tmp";
inline constexpr char kConfigFile[] = "config";
inline constexpr char kManifestFile[] = "manifest";
inline constexpr char kRecordFile[] = "image.json";
inline constexpr char kUnsyncedFile[] = "unsynced";
/// Among a layer's marks, an empty file for each packed blob that was found to unpack to it: "blob-" and its digest.
inline constexpr char kBlobMark[] = "blob-";

/// Whether a store may be made here: unsupported where names that differ in case alone are one.
Result<void> check_case(int store_fd);
/// Makes the directories of a store.
Result<void> make_layout(int store_fd);
/// Opens one of the directories above, or one below it.
Result<UniqueFd> open_part(int store_fd, const std::string& path);
/// Whether something is there.
Result<bool> exists(int dir_fd, const std::string& name);

/// Whether `name` is still that of the open file: what was locked counts only then, as another command may have removed
/// it in between.
Result<bool> is_still(int fd, int dir_fd, const std::string& name);

/// A directory of one command's own below tmp/. While the object lives, its lock says that the command does.
class Session {
 public:
  static Result<Session> begin(int store_fd);
  [[nodiscard]] int fd() const { return lock_.fd(); }
  /// Moves `name` of `from_fd` into the session, out of everybody's sight. Nothing there is success.
  Result<void> take(int from_fd, const std::string& name);
  /// Removes the directory with all that is in it.
  Result<void> end();

 private:
  Session(int store_fd, std::string name, fs::Lock lock)
      : store_fd_(store_fd), name_(std::move(name)), lock_(std::move(lock)) {}
  int store_fd_;  // the store outlives its sessions
  std::string name_;
  fs::Lock lock_;
};

/// An empty file below `dir_fd` without a name: it goes with its last descriptor.
Result<UniqueFd> make_unnamed_file(int dir_fd);

/// What sweep_sessions() has removed.
struct Swept {
  std::size_t count = 0;
  std::int64_t bytes = 0;  ///< on the disk
};
/// Removes what dead commands left below tmp/ (attack F06).
Result<Swept> sweep_sessions(int store_fd);

/// Held while images and names change. Errors: busy, for who does not wait.
Result<fs::Lock> lock_store(int store_fd, bool waits = true);

enum class LayerLock {
  use,        ///< shared, by each load that counts on the layer: it will not be removed. Waits for a removal only.
  write,      ///< exclusive, while one layer is written. Who holds one waits for no other, so nobody waits in a circle:
  try_write,  ///< the same without waiting (busy), for who holds others.
  remove      ///< exclusive on the same file as use; never waits: busy when a load counts on the layer
};
Result<fs::Lock> lock_layer(int store_fd, const std::string& hex, LayerLock how);
/// The process that has locked a layer to write it, as far as the kernel tells.
std::optional<pid_t> writer_of_layer(int store_fd, const std::string& hex);

/// A reference as a file name, and back. References hold neither ',' nor '%'.
std::string encode_name(std::string_view reference);
std::string decode_name(std::string_view file);

}  // namespace skink::image
