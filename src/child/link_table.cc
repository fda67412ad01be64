// SPDX-License-Identifier: Apache-2.0
#include "child/copy_up.h"

namespace skink::child {

LinkTable::~LinkTable() {
  if (memory_ != nullptr) call(__NR_munmap, arg(memory_), static_cast<long>(kRoom));
}

// The heads are at the start of the memory, zero as it comes.
LinkTable::Entry** LinkTable::head_of(const FileStatus& status) const {
  return reinterpret_cast<Entry**>(memory_) + status.inode % kHeads;
}

const char* LinkTable::find(const FileStatus& status) const {
  if (memory_ == nullptr) return nullptr;
  for (Entry* entry = *head_of(status); entry != nullptr; entry = entry->next)
    if (entry->inode == status.inode && entry->dev_major == status.dev_major && entry->dev_minor == status.dev_minor)
      return entry->path();
  return nullptr;
}

long LinkTable::add(const FileStatus& status, const char* path, Size length) {
  if (memory_ == nullptr) {
    constexpr int kReadWrite = 3, kPrivateAnonymousNoreserve = 2 | 0x20 | 0x4000;
    const long at = call(__NR_mmap, 0, static_cast<long>(kRoom), kReadWrite, kPrivateAnonymousNoreserve, -1, 0);
    if (at < 0 && at > -4096) return at;
    memory_ = reinterpret_cast<char*>(at);
    used_ = kHeads * sizeof(void*);
  }
  const Size size = (sizeof(Entry) + length + 1 + 7) & ~Size{7};
  if (size > kRoom - used_) return -ENOSPC;
  auto* entry = reinterpret_cast<Entry*>(memory_ + used_);
  used_ += size;
  entry->inode = status.inode;
  entry->dev_major = status.dev_major;
  entry->dev_minor = status.dev_minor;
  for (Size i = 0; i < length; ++i) entry->path()[i] = path[i];
  entry->path()[length] = 0;
  Entry** head = head_of(status);
  entry->next = *head;
  *head = entry;
  return 0;
}

}  // namespace skink::child
