// SPDX-License-Identifier: Apache-2.0
#include "supervise/diet.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "security/security.h"

namespace skink::supervise {

void keep_heap_small() {
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 10);
}

namespace {

// Not inlined: the pages below this frame are nobody's but of those that are called from here.
[[gnu::noinline]] void shed_stack() {
  constexpr std::uintptr_t kDeepest = 1U << 20;
  constexpr std::uintptr_t kOwnFrames = 512;  // this one's and madvise(2)'s, amply
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  // What is not mapped of it is passed over (ENOMEM).
  const std::uintptr_t end = (here - kOwnFrames) & ~(page - 1);
  ::madvise(reinterpret_cast<void*>(end - kDeepest), kDeepest, MADV_DONTNEED);  // NOLINT: an address is a number here
}

}  // namespace

void shed_memory() {
  ::malloc_trim(0);
  shed_stack();
}

void PackedCalls::pack(oci::Spec& spec, bool own) {
  if (packed_ || !spec.linux.seccomp) return;
  packed_ = true;
  own_ = own && spec.process && spec.process->capabilities;
  if (own_) {
    spec.linux.seccomp->syscalls = {};
    return;
  }
  for (auto& rule : spec.linux.seccomp->syscalls) {
    std::string all;
    std::size_t size = 0;
    for (const auto& name : rule.names) size += name.size() + 1;
    all.reserve(size);
    for (const auto& name : rule.names) all.append(name).push_back('\0');
    names_.push_back(std::move(all));
    rule.names = oci::Strings();
  }
}

void PackedCalls::unpack(oci::Spec& spec) {
  if (!packed_) return;
  packed_ = false;
  if (own_) {
    spec.linux.seccomp = security::default_seccomp(spec.process->capabilities->bounding);
    return;
  }
  auto names = names_.begin();
  for (auto& rule : spec.linux.seccomp->syscalls) {
    rule.names.reserve(static_cast<std::size_t>(std::ranges::count(*names, '\0')));
    for (std::size_t at = 0; at < names->size();) {
      const std::size_t end = names->find('\0', at);
      rule.names.push_back(names->substr(at, end - at));
      at = end + 1;
    }
    ++names;
  }
  names_ = {};
}

}  // namespace skink::supervise
