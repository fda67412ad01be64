// SPDX-License-Identifier: Apache-2.0
// Interrupt: a signal that ends what this process is doing, so that it can take back what it has made. For commands
// that make something that outlives them; without one the signals do what they always do.
#pragma once

#include <cerrno>

namespace skink::sys {

/// While it lives, TERM, INT, HUP and QUIT end whatever blocks, in any call and at any time, by EINTR: a timer sees to
/// it that none that comes between a look and a call is missed (man 7 signal). What the caller of this process ignores
/// (nohup(1)) stays ignored. One at a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
};

/// True from the signal on, until it is taken: a call that answered EINTR is not to be made again.
bool interrupted();

/// For loops: the call was interrupted by something that is no reason to give up.
inline bool must_retry() { return errno == EINTR && !interrupted(); }

/// Takes the signal, 0 for none. From then on nothing is interrupted any more, and further ones have no effect: what is
/// taken back is taken back whole.
int take_interrupt();

/// The one that was taken, or came until the end of the Interrupt; 0 for none.
int taken_interrupt();

}  // namespace skink::sys
