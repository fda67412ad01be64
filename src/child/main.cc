// SPDX-License-Identifier: Apache-2.0
#include "sys/raw.h"
extern "C" [[noreturn]] void freestanding_main(long argc, char** argv) {
  (void)argv;
  for (;;) skink::sys::raw::call(__NR_exit_group, argc);
}
