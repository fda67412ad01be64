// SPDX-License-Identifier: Apache-2.0
// Watches: which descriptors a loop waits for, and the events of one turn, without those that mean nothing any more.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

/// An epoll instance (man 7 epoll) that answers its two traps. An event that was fetched with others can be of a
/// descriptor that the handler of one before it has closed, and whose number is in use again. And a watch ends when the
/// file ends, not its descriptor: one that is parked with the guard, or that a child has, tells its event for ever.
class Watches {
 public:
  struct Event {
    int fd = -1;
    std::uint32_t kind = 0;    ///< as given to add()
    std::uint32_t events = 0;  ///< EPOLLIN and so on
  };

  static Result<Watches> make();

  /// Level-triggered. Nothing happens when it is watched already.
  Result<void> add(int fd, std::uint32_t kind, std::uint32_t events);
  /// What else to wait for; nothing happens when it is not watched.
  void change(int fd, std::uint32_t events);
  /// No event of it comes any more, not even one that was fetched. Order: before it is closed.
  void forget(int fd);

  /// Begins a turn: waits for events, at most `timeout_ms` (-1: for ever). A signal ends it without any.
  Result<void> wait(int timeout_ms);
  /// The next event of the turn; nothing at its end.
  std::optional<Event> next();

 private:
  struct Watch {
    std::uint32_t serial = 0;  // of the registration; 0: none
    std::uint32_t kind = 0;
    std::uint32_t events = 0;
  };

  [[nodiscard]] const Watch* find(std::uint64_t data) const;
  Result<void> renew();

  UniqueFd epoll_;
  std::vector<Watch> watches_;  // by number of the descriptor
  std::array<epoll_event, 16> fetched_{};
  std::size_t count_ = 0, at_ = 0;
  std::uint32_t serial_ = 0;
};

}  // namespace skink::supervise
