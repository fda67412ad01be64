// SPDX-License-Identifier: Apache-2.0
#include "image/window_room.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace skink::image {

// Beyond the end of the file there is nothing to touch, but its place is kept: a confined process maps no file.
Result<WindowRoom> WindowRoom::map(int file_fd) {
  void* base = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file_fd, 0);
  if (base == MAP_FAILED) return Error::from_errno(errno, "mmap of the room for a zstd window");
  return WindowRoom(file_fd, base);
}

WindowRoom::WindowRoom(WindowRoom&& other) noexcept
    : fd_(other.fd_), base_(std::exchange(other.base_, nullptr)), is_taken_(other.is_taken_) {}

WindowRoom::~WindowRoom() {
  if (base_ != nullptr) ::munmap(base_, kSize);
}

void* WindowRoom::allocate(std::size_t size) {
  if (size <= kHeapMost) return std::malloc(size);
  if (is_taken_ || size > kSize || ::ftruncate(fd_, static_cast<off_t>(size)) != 0) return nullptr;
  is_taken_ = true;
  return base_;
}

void WindowRoom::free(void* memory) {
  if (memory != base_) return std::free(memory);
  is_taken_ = false;
}

}  // namespace skink::image
