// SPDX-License-Identifier: Apache-2.0
// bench-stamp: the workload of tools/bench. `stamp FILE` appends the time of its start to FILE and sleeps for ever;
// `stamp` only sleeps; `stamp exit` ends at once.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <string_view>

int main(int argc, char** argv) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
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
