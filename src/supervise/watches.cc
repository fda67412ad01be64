// SPDX-License-Identifier: Apache-2.0
#include "supervise/watches.h"

#include <algorithm>
#include <cerrno>

namespace skink::supervise {
namespace {

std::uint64_t data_of(int fd, std::uint32_t serial) {
  return static_cast<std::uint64_t>(serial) << 32 | static_cast<std::uint32_t>(fd);
}

int fd_of(std::uint64_t data) { return static_cast<int>(data & 0xffffffffU); }

}  // namespace

Result<Watches> Watches::make() {
  Watches watches;
  watches.epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!watches.epoll_) return Error::from_errno(errno, "epoll_create");
  return watches;
}

Result<void> Watches::add(int fd, std::uint32_t kind, std::uint32_t events) {
  if (++serial_ == 0) ++serial_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = data_of(fd, serial_);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    if (errno == EEXIST) return {};
    return Error::from_errno(errno, "epoll_ctl");
  }
  const auto index = static_cast<std::size_t>(fd);
  if (watches_.size() <= index) watches_.resize(index + 1);
  watches_[index] = {serial_, kind, events};
  return {};
}

void Watches::change(int fd, std::uint32_t events) {
  const auto index = static_cast<std::size_t>(fd);
  if (fd < 0 || index >= watches_.size() || watches_[index].serial == 0) return;
  Watch& watch = watches_[index];
  epoll_event event{};
  event.events = watch.events = events;
  event.data.u64 = data_of(fd, watch.serial);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Watches::forget(int fd) {
  const auto index = static_cast<std::size_t>(fd);
  if (fd < 0 || index >= watches_.size() || watches_[index].serial == 0) return;
  watches_[index] = {};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

const Watches::Watch* Watches::find(std::uint64_t data) const {
  const auto index = static_cast<std::size_t>(fd_of(data));
  if (index >= watches_.size()) return nullptr;
  const Watch& watch = watches_[index];
  return watch.serial != 0 && watch.serial == data >> 32 ? &watch : nullptr;
}

Result<void> Watches::wait(int timeout_ms) {
  at_ = count_ = 0;
  const int count = ::epoll_wait(epoll_.get(), fetched_.data(), static_cast<int>(fetched_.size()), timeout_ms);
  if (count < 0 && errno != EINTR) return Error::from_errno(errno, "epoll_wait");
  count_ = static_cast<std::size_t>(std::max(count, 0));
  // Of a descriptor that was closed, and whose file lives on with somebody else: by its number it can be got rid of no
  // more (EBADF, or another file's watch would go), and it would wake us at once each time.
  for (std::size_t i = 0; i < count_; ++i)
    if (find(fetched_[i].data.u64) == nullptr) return renew();
  return {};
}

Result<void> Watches::renew() {
  UniqueFd fresh(::epoll_create1(EPOLL_CLOEXEC));
  if (!fresh) return Error::from_errno(errno, "epoll_create");
  for (std::size_t fd = 0; fd < watches_.size(); ++fd) {
    if (watches_[fd].serial == 0) continue;
    epoll_event event{};
    event.events = watches_[fd].events;
    event.data.u64 = data_of(static_cast<int>(fd), watches_[fd].serial);
    if (::epoll_ctl(fresh.get(), EPOLL_CTL_ADD, static_cast<int>(fd), &event) != 0) watches_[fd] = {};
  }
  epoll_ = std::move(fresh);
  return {};
}

std::optional<Watches::Event> Watches::next() {
  while (at_ < count_) {
    const epoll_event& event = fetched_[at_++];
    if (const Watch* watch = find(event.data.u64)) return Event{fd_of(event.data.u64), watch->kind, event.events};
  }
  return std::nullopt;
}

}  // namespace skink::supervise
