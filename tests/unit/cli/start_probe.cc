// SPDX-License-Identifier: Apache-2.0
// What the start of a program owes it, asked of one that starts by src/cli/libc_start.cc: `start-probe a "b c"` with
// PROBE=1 in the environment. Its output is compared by start_test.py.
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Object {
  Object() { std::puts("constructed"); }
  ~Object() { std::puts("destroyed"); }
};
Object object;  // NOLINT: its construction is what is looked at
thread_local int thread_value = 7;

[[gnu::constructor]] void construct(int argc, char** argv, char** environment) {
  std::printf("constructor %d %s %d\n", argc, argv[1], environment == environ ? 1 : 0);
}

// Every size at which memcpy() may take another way, and across the largest caches.
bool copies_well() {
  std::vector<unsigned char> from(9U << 20), to(9U << 20);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<unsigned char>(i * 2654435761U >> 13);
  for (std::size_t size = 1; size < from.size() - 64; size = size < 600 ? size + 1 : size * 9 / 8 + 1) {
    std::memset(to.data(), 0, size + 64);
    std::memcpy(to.data() + 3, from.data() + 1, size);
    if (std::memcmp(to.data() + 3, from.data() + 1, size) != 0 || to[size + 3] != 0 || to[2] != 0) return false;
    std::memmove(to.data() + 5, to.data() + 3, size);
    if (std::memcmp(to.data() + 5, from.data() + 1, size) != 0) return false;
    std::memmove(to.data() + 1, to.data() + 5, size);
    if (std::memcmp(to.data() + 1, from.data() + 1, size) != 0) return false;
  }
  return true;
}

void look_at_guards() {
  std::uintptr_t stack = 0, pointers = 0;
  __asm__("mov %%fs:0x28, %0" : "=r"(stack));
  __asm__("mov %%fs:0x30, %0" : "=r"(pointers));
  std::printf("guards %d %d %d\n", stack != 0 ? 1 : 0, (stack & 0xff) == 0 ? 1 : 0, pointers != 0 ? 1 : 0);
  std::fprintf(stderr, "%llx %llx\n", static_cast<unsigned long long>(stack),
               static_cast<unsigned long long>(pointers));
}

}  // namespace

int main(int argc, char** argv) {
  std::atexit([] { std::puts("at exit"); });
  std::printf("main %d %s %s %s\n", argc, argv[1], argv[2], std::getenv("PROBE"));
  look_at_guards();
  int seen = 0;
  std::thread([&seen] { seen = thread_value++; }).join();
  std::printf("thread %d %d\n", seen, thread_value);
  std::printf("copies %d\n", copies_well() ? 1 : 0);
  std::string text = "a text that is long enough for the heap: ";
  text += std::to_string(1.5);
  std::printf("%s %zu %s\n", text.c_str(), std::strlen(text.c_str()), std::strstr(text.c_str(), "heap"));
  try {
    throw std::string("thrown");
  } catch (const std::string& caught) {
    std::puts(caught.c_str());
  }
  std::printf("page %ld locale %s\n", ::sysconf(_SC_PAGESIZE), std::setlocale(LC_ALL, nullptr));
  return 3;
}
