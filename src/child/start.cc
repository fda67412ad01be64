// SPDX-License-Identifier: Apache-2.0
// Start-up of the freestanding programs: from the kernel's initial stack to freestanding_main, and the few functions
// that the compiler calls on its own (memcpy, memset, the stack protector).
#include <asm/unistd.h>

#include "sys/raw.h"

using Size = decltype(sizeof 0);

extern "C" {

[[noreturn]] void freestanding_main(long argc, char** argv);

// The compiler emits calls to these even in a freestanding program.
void* memcpy(void* to, const void* from, Size count);
void* memmove(void* to, const void* from, Size count);
void* memset(void* to, int value, Size count);
int memcmp(const void* a, const void* b, Size count);

// Set from AT_RANDOM before any protected function runs.
unsigned long __stack_chk_guard = 0x595e9fbd94fda766UL;

[[noreturn]] void __stack_chk_fail() {
  constexpr long kSigabrt = 6;
  const long self = skink::sys::raw::call(__NR_getpid);
  skink::sys::raw::call(__NR_kill, self, kSigabrt);
  for (;;) skink::sys::raw::call(__NR_exit_group, 127);
}

__attribute__((noreturn, used, no_stack_protector)) void freestanding_start(long* stack) {
  const long argc = stack[0];
  char** argv = reinterpret_cast<char**>(stack + 1);
  long* aux = stack + 1 + argc + 1;
  while (*aux != 0) ++aux;  // the environment
  ++aux;
  constexpr long kAtRandom = 25;  // AT_RANDOM, getauxval(3): 16 random bytes
  for (; aux[0] != 0; aux += 2)
    if (aux[0] == kAtRandom) __stack_chk_guard = *reinterpret_cast<const unsigned long*>(aux[1]) & ~0xffUL;
  freestanding_main(argc, argv);
}

#if defined(__x86_64__)
__asm__(
    ".text\n.globl _start\n.type _start,@function\n_start:\n"
    "xor %ebp,%ebp\nmov %rsp,%rdi\nand $-16,%rsp\ncall freestanding_start\nhlt\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl _start\n.type _start,%function\n_start:\n"
    "mov x29,#0\nmov x30,#0\nmov x0,sp\nand sp,x0,#-16\nbl freestanding_start\n");
#endif

// Byte loops behind a barrier, so that the compiler does not turn them into calls to themselves.
void* memcpy(void* to, const void* from, Size count) { return memmove(to, from, count); }

void* memmove(void* to, const void* from, Size count) {
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  if (out <= in) {
    for (Size i = 0; i < count; ++i) {
      out[i] = in[i];
      __asm__ volatile("" ::: "memory");
    }
  } else {
    for (Size i = count; i > 0; --i) {
      out[i - 1] = in[i - 1];
      __asm__ volatile("" ::: "memory");
    }
  }
  return to;
}

void* memset(void* to, int value, Size count) {
  char* out = static_cast<char*>(to);
  for (Size i = 0; i < count; ++i) {
    out[i] = static_cast<char>(value);
    __asm__ volatile("" ::: "memory");
  }
  return to;
}

int memcmp(const void* a, const void* b, Size count) {
  const unsigned char* x = static_cast<const unsigned char*>(a);
  const unsigned char* y = static_cast<const unsigned char*>(b);
  for (Size i = 0; i < count; ++i) {
    __asm__ volatile("" ::: "memory");
    if (x[i] != y[i]) return x[i] - y[i];
  }
  return 0;
}
}
