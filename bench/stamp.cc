// SPDX-License-Identifier: Apache-2.0
// bench-stamp: the workload of tools/bench. `stamp FILE` appends the time of its start to FILE and sleeps for ever;
// `stamp` only sleeps; `stamp exit` ends at once. The time is that of its first instruction: until main() libc asks the
// processor some eighty times what it can do, and in a virtual machine each of these questions (CPUID) goes to the
// host.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <string_view>

// The program's entry (meson.build): clock_gettime(CLOCK_MONOTONIC, &stamp_entered), then libc's own entry.
extern "C" {
[[gnu::visibility("hidden")]] timespec stamp_entered;
}
#if defined(__x86_64__)
__asm__(
    ".text\n.globl stamp_entry\n.type stamp_entry,@function\nstamp_entry:\n"
    "mov %rdx,%r12\nmov $228,%eax\nmov $1,%edi\nlea stamp_entered(%rip),%rsi\nsyscall\n"
    "mov %r12,%rdx\njmp _start\n.size stamp_entry,.-stamp_entry\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl stamp_entry\n.type stamp_entry,%function\nstamp_entry:\n"
    "mov x19,x0\nmov x8,#113\nmov x0,#1\nadrp x1,stamp_entered\nadd x1,x1,:lo12:stamp_entered\nsvc #0\n"
    "mov x0,x19\nb _start\n.size stamp_entry,.-stamp_entry\n");
#endif

int main(int argc, char** argv) {
  const timespec now = stamp_entered;
  if (argc > 1 && std::string_view{argv[1]} == "exit") return 0;
  if (argc > 1) {
    std::array<char, 32> line{};
    const int length = std::snprintf(line.data(), line.size(), "%" PRId64 "\n",
                                     std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec);
    const int fd = open(argv[1], O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0 || write(fd, line.data(), static_cast<std::size_t>(length)) != length) return 1;
    close(fd);
  }
  for (;;) pause();
}
