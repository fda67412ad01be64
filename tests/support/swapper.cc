// SPDX-License-Identifier: Apache-2.0
// Exchanges two paths as fast as the kernel does it, for races: usage: swapper A B [SECONDS]
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const time_t until = time(nullptr) + (argc > 3 ? atol(argv[3]) : 3600);
  while (time(nullptr) < until)
    for (int i = 0; i < 1000; ++i)
      // By number: this is 2 (RENAME_EXCHANGE), and some libraries lack the name.
      if (syscall(SYS_renameat2, AT_FDCWD, argv[1], AT_FDCWD, argv[2], 2U) != 0 && errno != ENOENT) {
        fprintf(stderr, "swapper: %s\n", strerror(errno));
        return 1;
      }
  return 0;
}
