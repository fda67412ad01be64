// SPDX-License-Identifier: Apache-2.0
// WindowRoom: where an inflater keeps the window of zstd data that is too large for the memory of a confined process:
// in an unnamed file of the store. Its pages are page cache, which the kernel takes back when others need the room.
#pragma once

#include <cstddef>

#include "base/result.h"

namespace skink::image {

class WindowRoom {
 public:
  /// The largest window that is read, what every decoder must support at most by default (RFC 8878, 3.1.1.1.2); a frame
  /// may ask for 2 GiB (attack A70).
  static constexpr int kWindowLogMost = 27;
  /// Bytes of the file at most: such a window, a block on either side of it and what the decoder keeps besides.
  static constexpr std::size_t kSize = (std::size_t{1} << kWindowLogMost) + (1U << 20);
  /// What is not larger is left to the heap: windows of up to 8 MiB, which is what images are packed with.
  static constexpr std::size_t kHeapMost = 9U << 20;

  /// Maps an empty file, which has to stay open and takes room as far as it is used: for the process that inflates and
  /// those that it is forked from.
  static Result<WindowRoom> map(int file_fd);
  WindowRoom(WindowRoom&& other) noexcept;
  WindowRoom& operator=(WindowRoom&&) = delete;
  WindowRoom(const WindowRoom&) = delete;
  WindowRoom& operator=(const WindowRoom&) = delete;
  ~WindowRoom();

  /// As malloc(3), with the file for what is too large for the heap; one at a time of that. Who writes there when the
  /// disk is full gets SIGBUS.
  void* allocate(std::size_t size);
  void free(void* memory);

 private:
  WindowRoom(int file_fd, void* base) : fd_(file_fd), base_(base) {}
  int fd_;
  void* base_;
  bool is_taken_ = false;
};

}  // namespace skink::image
