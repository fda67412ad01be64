// SPDX-License-Identifier: Apache-2.0
// Notices: what a container's program says by sd_notify(3). The socket is a file in RUN/containers/ID/notify, which the
// container sees read-only at /run/notify; whoever sends has to be one of the container's processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace skink::supervise {

/// Below RUN/containers/ID.
inline constexpr const char* kNotifyDirectory = "notify";

/// The lines of one datagram that mean something here; what else there is (MAINPID, FDSTORE, ...) is passed over.
struct Notice {
  bool ready = false, stopping = false;
  bool alive = false;    ///< WATCHDOG=1
  bool trigger = false;  ///< WATCHDOG=trigger
  std::optional<std::string> status;
  std::optional<std::int64_t> watchdog_ns;  ///< WATCHDOG_USEC, 0: none
};
Notice parse_notice(std::string_view datagram);

/// Gives the process NOTIFY_SOCKET and, with a watchdog, WATCHDOG_USEC; and the container the mount of
/// `run_dir`/notify. An error when something else is mounted there.
Result<void> add_notify(oci::Spec& spec, const std::string& run_dir, std::int64_t watchdog_ns);

/// Makes the directory and the socket in it, in the place of one that nobody has any more.
Result<UniqueFd> listen_notices(int run_dir_fd);

/// One datagram, which stays in the queue.
struct Datagram {
  std::string text;  ///< empty when it was longer than anything that sd_notify sends
  pid_t sender = 0;  ///< as we see it; 0: not told
  /// It brings descriptors. They are not taken: closing one that somebody hostile has made can take for ever, as with
  /// a socket that lingers, and whoever takes the last one does that.
  bool has_descriptors = false;
  UniqueFd sender_pidfd;  ///< where the kernel gives one (6.5)
};
/// Nothing when none waits.
std::optional<Datagram> peek_notice(int socket_fd);
/// Takes the one that was looked at out of the queue. Only for one without descriptors.
void drop_notice(int socket_fd);
/// The same of one with descriptors, in a process that ends then: the kernel lets no socket linger there.
int drop_notice_and_exit(int socket_fd);

/// Whether a sender is, for sure, a process of the container whose groups and first process these are. One that has
/// ended meanwhile is not known any more (sd_notify_barrier(3) is how a short-lived one waits).
bool is_sender_inside(const Datagram& datagram, const std::function<bool(pid_t)>& inside);

}  // namespace skink::supervise
