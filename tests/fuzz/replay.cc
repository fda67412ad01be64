// SPDX-License-Identifier: Apache-2.0
// A target without libFuzzer. usage: corpus-NAME ROUNDS DIRECTORY... calls it with each file of the directories, and
// with so many changes of each, always the same ones.
#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "target.h"

using Buffer = std::vector<std::uint8_t>;

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed)
    __attribute__((weak));

namespace {

std::mt19937 chance;  // NOLINT: the same numbers each time

std::size_t below(std::size_t most) { return std::size_t{chance()} % std::max<std::size_t>(most, 1); }

// No place is left behind the bytes, so that a sanitizer sees a read beyond them.
void call(Buffer bytes) {
  bytes.shrink_to_fit();
  (void)LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

Buffer changed(const Buffer& bytes) {
  constexpr std::size_t kMore = 64;
  Buffer copy = bytes;
  copy.resize(bytes.size() + kMore);
  const auto seed = static_cast<unsigned>(chance());
  const std::size_t size = LLVMFuzzerCustomMutator != nullptr
                               ? LLVMFuzzerCustomMutator(copy.data(), bytes.size(), copy.size(), seed)
                               : LLVMFuzzerMutate(copy.data(), bytes.size(), copy.size());
  copy.resize(size);
  return copy;
}

unsigned go_through(const std::string& path, int rounds) {
  DIR* const directory = ::opendir(path.c_str());
  if (directory == nullptr) return 0;
  std::vector<std::string> names;
  while (const dirent* const entry = ::readdir(directory))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(directory);
  std::ranges::sort(names);
  for (const auto& name : names) {
    std::fprintf(stderr, "%s/%s\n", path.c_str(), name.c_str());
    std::ifstream file(path + "/" + name, std::ios::binary);
    const Buffer bytes{std::istreambuf_iterator<char>(file), {}};
    call(bytes);
    for (int i = 0; i < rounds; ++i) call(changed(bytes));
  }
  return static_cast<unsigned>(names.size());
}

}  // namespace

// What libFuzzer has under this name, in small.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most) {
  constexpr std::uint8_t kTelling[] = {0, 1, 0x7f, 0x80, 0xff, '/', '.', '"', '9', ' '};
  for (std::size_t times = 1 + below(4); times > 0 && size > 0; --times) {
    const std::size_t at = below(size);
    switch (below(5)) {
      case 0: data[at] = static_cast<std::uint8_t>(chance()); break;
      case 1: data[at] = kTelling[below(std::size(kTelling))]; break;
      case 2: data[at] = static_cast<std::uint8_t>(data[at] ^ 1U << below(8)); break;
      case 3: size = at + 1; break;
      default: {  // bytes from somewhere else in between, and the rest moved on
        const std::size_t count = std::min({below(32), most - size, size - at});
        std::copy_backward(data + at, data + size, data + size + count);
        size += count;
      }
    }
  }
  return size;
}

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 0;
  unsigned count = 0;
  for (int i = 2; i < argc; ++i) count += go_through(argv[i], rounds);
  std::fprintf(stderr, "%u inputs\n", count);
  return count == 0 ? 1 : 0;
}
