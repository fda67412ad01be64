// SPDX-License-Identifier: Apache-2.0
// Mount options of config.json, word by word, as attributes, propagation and file system parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace skink::plan {

/// What the option words of one mount mean (config.md, "Linux mount options").
struct MountOptions {
  bool bind = false, recursive = false, remount = false;
  bool copy_up = false;          ///< tmpcopyup
  bool source_nofollow = false;  ///< src-nofollow (crun): a symlink as source is mounted itself
  bool copy_symlink = false;     ///< copy-symlink (crun): a symlink as source is made again at the destination
  bool source_flags = false;     ///< src-flags: a bind keeps the flags of its source that no word names
  bool dest_nofollow = false;    ///< dest-nofollow (crun): a symlink at the destination is mounted upon
  bool idmap = false, idmap_recursive = false;
  std::string idmap_text;                      ///< crun's own mapping, "uids=0-1-10#10-11-10;gids=0-100-10"
  std::uint64_t attr_set = 0, attr_clear = 0;  ///< MOUNT_ATTR_*
  std::uint64_t rec_set = 0, rec_clear = 0;    ///< the same, for the whole tree (rro, rnosuid, ...)
  /// A bind with any word of mount(8)'s, and without src-flags, has these flags and no others: attr_clear is then all
  /// the rest, and named_clear what the words themselves take off ("rw", "dev", ...).
  bool replaces_flags = false;
  std::uint64_t named_clear = 0;
  unsigned propagation = 0;  ///< MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE; 0: not said
  bool propagation_recursive = false;
  /// The rest, for fsconfig(2): key and value, or a flag.
  std::vector<std::pair<std::string, std::optional<std::string>>> params;
};

/// Never fails: a word that is not an option of mount(8) is the file system's, which refuses what it does not know.
MountOptions parse_mount_options(const oci::Mount& mount);

/// All option words that parse_mount_options itself gives a meaning, sorted: for `features`.
std::vector<std::string> known_mount_options();

/// MS_* (with MS_REC) of "rslave" and the like; nothing for another word.
std::optional<unsigned> parse_propagation(const std::string& word);

}  // namespace skink::plan
