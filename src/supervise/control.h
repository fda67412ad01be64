// SPDX-License-Identifier: Apache-2.0
// Control: how commands talk to a container's supervisor. SOCK_SEQPACKET on a path socket (0600 in a 0700 directory,
// never abstract: attack A35), one small JSON document a message, descriptors by SCM_RIGHTS.
//
//   request                                     answers
//   {"op":"start"}                              {"ok"} once the program runs, or {"error",...}
//   {"op":"attach"}                             {"event":"started","tty":bool} + [stdin or terminal], at each
//   incarnation
//                                               {"event":"changed"} when its health or what it says of itself has
//   {"op":"wait"}                               {"event":"done","exit":LastExit} when the policy gives up
//   {"op":"stop","timeout_ns":N}                {"ok"} when stopped for good
//   {"op":"kill","signal":N}  {"op":"pause"}  {"op":"unpause"}  {"op":"ping"}      {"ok"} or {"error"}
//   {"op":"exec","tty":bool} + [process.json, in, out, err]    {"ok","pid","from"} (+ terminal), then
//   {"event":"exec-done"}
//   {"op":"exec-wait","pid":N,"from":N}         {"event":"exec-done","exit":LastExit}
//   {"op":"exec-signal","pid":N,"signal":N}     {"ok"} or {"error"}
//   wait, attach and exec, of too many          {"error",...,"refused":true}
//
// Each answer says by which supervisor it is: "by":[PID,START TIME].
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/json.h"

namespace skink::supervise {

inline constexpr std::size_t kMessageLimit = 32U << 10;
inline constexpr std::size_t kMostMessageFds = 4;

/// The text of the not_found error when the other end of a connection has died.
inline constexpr std::string_view kHangUp = "the other end is gone";

inline constexpr std::string_view kSpeaker = "by";

struct Message {
  oci::Json json;
  std::vector<UniqueFd> fds;
};

enum class Listener { blocks, does_not_block };
/// Makes the socket `name` (at most 64 bytes) in the directory, replacing a dead one, and listens.
Result<UniqueFd> listen_below(int run_dir_fd, const char* name, Listener kind);
/// The same of control.sock.
Result<UniqueFd> listen_control(int run_dir_fd);
/// Connects. not_found when nobody listens, busy when the queue of those who want to has no room for a while.
Result<UniqueFd> connect_control(int run_dir_fd);
/// Whether the process at the other end has our effective uid.
bool is_own_peer(int socket_fd);

/// Sends without blocking. busy when the other end does not read, not_found when it is gone.
Result<void> send_message(int socket_fd, const oci::Json& json, std::span<const int> fds = {});
/// Receives one message that is there. busy when there is none, not_found at the end of the stream, corrupt for
/// anything that is not a message of ours.
Result<Message> receive_message(int socket_fd);
/// As receive_message; waits until `deadline_ns` (CLOCK_BOOTTIME, 0: for ever). busy when the time is over.
Result<Message> await_message(int socket_fd, std::int64_t deadline_ns);

/// An error as a message, and back.
oci::Json error_json(const Error& error);
Error error_of(const oci::Json& json);

}  // namespace skink::supervise
