// SPDX-License-Identifier: Apache-2.0
// sd_notify(3) out of a container: when a service manager (systemd, Type=notify) has started us, the container's
// program finds a socket at /run/notify/notify.sock, and that it is ready goes on to the manager. As runc does it.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace skink::cli {

/// The manager's socket, NOTIFY_SOCKET of our own environment: a path, or "@NAME" for an abstract one. Empty: none.
std::string notify_address();

/// Gives the process NOTIFY_SOCKET, and the container a read-only mount of `directory`/notify at /run/notify.
void add_notify(oci::Spec& spec, const std::string& directory);

/// Makes that directory in the container's own. The socket comes later: nobody reads it before `start`.
Result<void> make_notify_directory(int container_fd);

/// Whether it was made, and so the container can say anything.
bool has_notify_directory(int container_fd);

/// The socket that the container sends to, and the way to the manager.
class NotifyRelay {
 public:
  /// Order: before the program runs, which may send at once. An error names the manager's socket.
  static Result<NotifyRelay> open(const std::string& address, int container_fd);

  /// Until the program has said READY=1 and the manager knows it, or the process has ended: there is no other limit, as
  /// a service may take its time (TimeoutStartSec= is the manager's).
  Result<void> wait(int pidfd, pid_t main_pid);

  // The same in steps, for a loop that waits for more. Readable: take() or settle() has something to do.
  [[nodiscard]] int socket() const { return socket_.get(); }
  [[nodiscard]] int barrier() const { return barrier_.get(); }  ///< -1 unless the manager is being waited for
  /// Takes what has come. READY goes on, with `main_pid` as what the manager is to watch; whatever else a container
  /// says stays here (it must not choose MAINPID or store descriptors).
  Result<void> take(pid_t main_pid);
  /// The manager has let go of the barrier.
  void settle() { barrier_.reset(); }

 private:
  Result<void> tell(std::string_view ready, pid_t main_pid);
  Result<void> await_barrier();
  UniqueFd socket_, manager_, barrier_;
  bool told_ = false;
};

}  // namespace skink::cli
