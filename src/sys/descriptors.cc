// SPDX-License-Identifier: Apache-2.0
#include "sys/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <cerrno>

#include "sys/file.h"

namespace skink::sys {

bool is_want_of_descriptors(const Error& error) { return error.errnum() == EMFILE || error.errnum() == ENFILE; }

std::string descriptor_limit(const Error& error) {
  if (error.errnum() == ENFILE)
    return "; the host has as many files open as it may (sysctl fs.file-max): raise that, or end what holds them";
  rlimit limit{};
  if (error.errnum() != EMFILE || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  return str("; this process may have ", limit.rlim_cur,
             " files open (RLIMIT_NOFILE): raise that where it is started, by ulimit -n or a unit's LimitNOFILE=");
}

Result<SpareDescriptors> SpareDescriptors::hold(std::size_t count) {
  SpareDescriptors spare;
  spare.held_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto fd = open_at(AT_FDCWD, "/", O_PATH);
    if (!fd) return Error::from_errno(fd.error().errnum(), "hold descriptors back");
    spare.held_.push_back(*std::move(fd));
  }
  return spare;
}

ManyDescriptors::ManyDescriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  const rlimit raised{limit.rlim_max, limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) soft_ = limit.rlim_cur;
}

ManyDescriptors::~ManyDescriptors() {
  rlimit limit{};
  if (!soft_ || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = *soft_;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace skink::sys
