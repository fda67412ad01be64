// SPDX-License-Identifier: Apache-2.0
// What is done to the host's mounts when the old root cannot be left (--no-pivot).
#include "child/context.h"

namespace skink::child {
namespace {

constexpr Size kMostLine = 8192;  // a mount point has at most 4096 bytes, and each may be written as four

// Reads a file line by line, without its end. Longer lines are cut.
class Lines {
 public:
  explicit Lines(int fd) : fd_(fd) {}
  const char* next() {
    line_[0] = 0;
    Size length = 0;
    for (;;) {
      if (at_ == end_ && !refill()) return length > 0 ? line_ : nullptr;
      const char c = piece_[at_++];
      if (c == '\n') return line_;
      if (length + 1 < kMostLine) line_[length++] = c;
      line_[length] = 0;
    }
  }

 private:
  bool refill() {
    const long got = read_bytes(fd_, piece_, sizeof piece_);
    at_ = 0;
    end_ = got > 0 ? static_cast<Size>(got) : 0;
    return got > 0;
  }
  int fd_;
  char piece_[4096] = {};
  Size at_ = 0, end_ = 0;
  char line_[kMostLine] = {};
};

// proc_pid_mountinfo(5): "36 35 98:0 /root /point options - type source ...".
bool is_kernel_view(const char* line) {
  for (; *line != 0; ++line)
    if (starts_with(line, " - ")) return starts_with(line, " - proc ") || starts_with(line, " - sysfs ");
  return false;
}

int octal(const char* text) {
  for (int i = 0; i < 3; ++i)
    if (text[i] < '0' || text[i] > '7') return -1;
  return (text[0] - '0') * 64 + (text[1] - '0') * 8 + (text[2] - '0');
}

// The fifth field, with the kernel's \ooo undone.
void mount_point(const char* line, char* point) {
  for (int field = 0; field < 4 && *line != 0; ++line)
    if (*line == ' ') ++field;
  while (*line != 0 && *line != ' ') {
    const int code = *line == '\\' ? octal(line + 1) : -1;
    *point++ = code >= 0 ? static_cast<char>(code) : *line;
    line += code >= 0 ? 4 : 1;
  }
  *point = 0;
}

bool is_below(const char* point, const char* top) {
  const Size length = length_of(top);
  return length > 1 && starts_with(point, top) && (point[length] == 0 || point[length] == '/');
}

// Where the container's root is attached as this process sees it: "/" when it lies over ours.
long place_of_root(int root_fd, char* path, Size size) {
  char link[32] = "/proc/self/fd/";
  Size at = length_of(link);
  char digits[12];
  Size count = 0;
  do {
    digits[count++] = static_cast<char>('0' + root_fd % 10);
    root_fd /= 10;
  } while (root_fd != 0);
  while (count > 0) link[at++] = digits[--count];
  link[at] = 0;
  const long length = call(__NR_readlinkat, kHere, arg(link), arg(path), static_cast<long>(size - 1));
  if (length >= 0) path[length] = 0;
  return length;
}

// True when something was taken off, which can have uncovered something else.
bool take_off_once(int mounts_fd, const char* own_root) {
  constexpr int kDetach = 2, kNofollow = 8;  // MNT_DETACH, UMOUNT_NOFOLLOW
  call(__NR_lseek, mounts_fd, 0, 0);
  Lines lines(mounts_fd);
  bool changed = false;
  char point[kMostLine];
  while (const char* line = lines.next()) {
    if (!is_kernel_view(line)) continue;
    mount_point(line, point);
    // By its path from the old root; one of the container's over "/" has the same path and is not reached by it.
    if (!is_below(point, own_root)) changed = call(__NR_umount2, arg(point), kDetach | kNofollow) >= 0 || changed;
  }
  return changed;
}

}  // namespace

// The kernel lets a user namespace mount a procfs or sysfs of its own while one without anything over it is visible in
// the mount namespace (mount_too_revealing), and the host's are: a process would get round every mask. They are
// taken off in our copy of the mounts. What a user namespace inherited is locked and stays, and so do its masks.
Fault take_off_host_views(const Context& context) {
  char own_root[4096];
  const long mounts = open_at(kHere, "/proc/self/mountinfo", kOpenRead);
  if (mounts == -ENOENT) return {};  // no procfs here
  CHILD_TRY(check(mounts, Step::pivot_root));
  CHILD_TRY(check(place_of_root(context.root_fd, own_root, sizeof own_root), Step::pivot_root));
  constexpr int kMostLayers = 64;
  const int fd = static_cast<int>(mounts);
  for (int layer = 0; layer < kMostLayers; ++layer)
    if (!take_off_once(fd, own_root)) break;
  close_fd(fd);
  return {};
}

}  // namespace skink::child
