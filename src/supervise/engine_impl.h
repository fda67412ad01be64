// SPDX-License-Identifier: Apache-2.0
// Engine::Impl and the steps that several of the engine's verbs share.
#pragma once

#include <optional>
#include <string>

#include "fs/dir.h"
#include "skink/engine.h"
#include "supervise/control.h"
#include "supervise/patience.h"
#include "supervise/records.h"
#include "supervise/status.h"

namespace skink {

struct Engine::Impl {
  EngineOptions options;
  supervise::Roots roots;
  image::Store images;
};

namespace supervise {

/// The verbs that change a container exclude each other by an flock on STORE/containers/ID (fault F11). busy when one
/// of them does not come to its end: unasked that is more time than any needs that gets on.
Result<fs::Lock> lock_container(const Roots& roots, const std::string& id, std::int64_t patience_ns = 120'000'000'000);

/// STORE/containers/ID/alive, for await_no_supervisor.
Result<UniqueFd> open_alive(int store_dir_fd);

/// A connection to the supervisor: not_found when there is none. While one is being started or replaced it is waited
/// for as long as patience lasts. `held` as for has_keepers().
Result<UniqueFd> connect_supervisor(const Roots& roots, const std::string& id, Patience& patience,
                                    const fs::Lock* held = nullptr);

/// What the container's supervisor has written; not_found without a run directory.
Result<Status> status_of(const Roots& roots, const std::string& id);

/// Whether guard and supervisor died in the middle of their work, by what the last supervisor wrote.
bool is_abandoned(const Status& status);
/// Gives a container whose guard and supervisor were killed together new ones, which adopt it as it is. busy when
/// another command is at work on it, not_found when there is nothing to adopt.
Result<void> revive(const Roots& roots, const std::string& id);
/// The same for who has the container's lock.
Result<void> revive_locked(const Roots& roots, const std::string& id, const fs::Lock& lock);

/// Whether a container has its keepers, or new ones by now; or another command has its lock and gives it those or ends
/// it. `held`: the container's lock, of who has it already.
bool has_keepers(const Roots& roots, const std::string& id, int store_dir_fd, const fs::Lock* held = nullptr);

/// Removes a container that its `run --rm` was going to start, when that was killed before there was a guard. False
/// when it is none or another command is at work on it.
bool remove_orphan(const Roots& roots, const std::string& id);

void pause_ms(long milliseconds);

/// The event of a container that is gone; `container` as read_container() gave it before.
void tell_destroyed(const Roots& roots, const std::string& id, const Result<Container>& container);

/// Puts on record, for a container without guard and supervisor, the end of a run that nobody saw: both were killed
/// with it, or the machine went down. Nothing happens where the end is on record.
Result<void> record_unseen_end(const Roots& roots, const std::string& id);
/// Ends whatever a container without guard and supervisor left in its groups, removes the groups and RUN/containers/ID.
Result<void> clean_leftovers(const Roots& roots, const std::string& id);

/// A supervisor that answers: the one that is there, or a new one.
struct Supervised {
  UniqueFd socket;
  UniqueFd store_dir;  ///< STORE/containers/ID
  UniqueFd alive;      ///< for await_no_supervisor
};
/// Puts the first requests of a command on a new connection.
using Greeting = std::function<Result<void>(int socket_fd)>;
/// Who starts a container.
enum class Starter {
  somebody,  ///< who hears of a first launch that fails, and that is all
  heal       ///< what ran before: a launch that fails is tried again by the restart policy
};
/// `before_start` is called when a new supervisor is about to be started and nobody writes logs; `greet` before it
/// lives, so that it cannot end without having been asked.
Result<Supervised> ensure_supervisor(const Roots& roots, const std::string& id,
                                     const std::function<Result<void>(int store_dir_fd)>& before_start,
                                     const Greeting& greet, Starter starter = Starter::somebody);

/// With --log-driver passthrough: an error when the output, which is ours, is a terminal. For who starts a container.
Result<void> check_passed_output(int store_dir_fd, const std::string& id);

/// One request; a supervisor that dies before it answers is replaced by another, which is asked again. not_found when
/// there is none. `held` as for has_keepers().
Result<void> ask_supervisor(const Roots& roots, const std::string& id, const oci::Json& request, Patience& patience,
                            const fs::Lock* held = nullptr);

/// The status of an end that somebody saw; of another one an error.
Result<int> status_of_end(const LastExit& last);
/// How the last run ended, when nobody is there to be asked; nothing when somebody is again.
Result<std::optional<LastExit>> recorded_end(const Roots& roots, const std::string& id, int store_dir_fd);

/// True for the error of a connection whose other end has died.
bool is_hang_up(const Error& error);

/// Whether a supervisor could read what it needs; the error tells what is damaged.
Result<void> check_files(int store_dir_fd, const std::string& id);

/// Puts a container's records on disk and takes its mark (is_passing) away: one commit of the file system, or two. For
/// durable ones, before anybody is told that it exists, and beside its launch where there is one.
Result<void> settle(const Roots& roots, int store_dir_fd);

/// A made-up name that is free, "brisk_gecko" or "brisk_gecko_3".
std::string make_up_name(const Roots& roots);

}  // namespace supervise
}  // namespace skink
