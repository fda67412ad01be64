// SPDX-License-Identifier: Apache-2.0
// Copy-up: the files of several names that have been copied, by their inodes. Freestanding: its memory is mapped.
#pragma once

#include "child/sys.h"

namespace skink::child {

/// Finds the first name of a file that was copied before. Its memory is taken when the first one is added.
class LinkTable {
 public:
  LinkTable() = default;
  ~LinkTable();
  LinkTable(const LinkTable&) = delete;
  LinkTable& operator=(const LinkTable&) = delete;

  /// The path that the file was added with; null for none.
  [[nodiscard]] const char* find(const FileStatus& status) const;
  /// 0 or -errno; -ENOSPC when there is no room for more.
  long add(const FileStatus& status, const char* path, Size length);

 private:
  struct Entry {
    unsigned long inode;
    unsigned dev_major, dev_minor;
    Entry* next;
    // Behind it, as long as it is.
    char* path() { return reinterpret_cast<char*>(this + 1); }
  };
  static constexpr Size kHeads = 4096;
  static constexpr Size kRoom = 64U << 20;  // addresses; a page is there when it is written to
  [[nodiscard]] Entry** head_of(const FileStatus& status) const;

  char* memory_ = nullptr;
  Size used_ = 0;
};

}  // namespace skink::child
