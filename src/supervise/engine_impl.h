// SPDX-License-Identifier: Apache-2.0
// Engine::Impl and the steps that several of the engine's verbs share.
#pragma once

#include <optional>
#include <string>

#include "fs/dir.h"
#include "skink/engine.h"
#include "supervise/control.h"
#include "supervise/records.h"
#include "supervise/status.h"

namespace skink {

struct Engine::Impl {
  EngineOptions options;
  supervise::Roots roots;
  image::Store images;
};

namespace supervise {

/// The verbs that change a container exclude each other by an flock on STORE/containers/ID (fault F11).
Result<fs::Lock> lock_container(const Roots& roots, const std::string& id);

/// Blocks until no guard and no supervisor of the container lives, or the time is over (busy). `alive_fd` is an open
/// STORE/containers/ID/alive: it works when the container's files are gone already.
Result<void> await_no_supervisor(int alive_fd, std::int64_t patience_ns);
Result<UniqueFd> open_alive(int store_dir_fd);

/// A connection to the supervisor: not_found when there is none. While one is being started or replaced it is waited
/// for, at most `patience_ns`.
Result<UniqueFd> connect_supervisor(const Roots& roots, const std::string& id, std::int64_t patience_ns);

/// Whether guard and supervisor died in the middle of their work, by what the last supervisor wrote.
bool is_abandoned(const Status& status);
/// Gives a container whose guard and supervisor were killed together new ones, which adopt it as it is. busy when
/// another command is at work on it, not_found when there is nothing to adopt.
Result<void> revive(const Roots& roots, const std::string& id);

/// Ends whatever a container without guard and supervisor left in its groups, removes the groups and RUN/containers/ID.
Result<void> clean_leftovers(const Roots& roots, const std::string& id);

/// A supervisor that answers: the one that is there, or a new one.
struct Supervised {
  UniqueFd socket;
  UniqueFd store_dir;  ///< STORE/containers/ID
  UniqueFd alive;      ///< for await_no_supervisor
};
/// `before_start` is called when a new supervisor is about to be started and nobody writes logs.
Result<Supervised> ensure_supervisor(const Roots& roots, const std::string& id,
                                     const std::function<Result<void>(int store_dir_fd)>& before_start);

/// True for the error of a connection whose other end has died.
bool is_hang_up(const Error& error);

/// The last exit of a container that nobody supervises, from exit.json; nothing when it never ran.
std::optional<RunRecord> read_run_record(int store_dir_fd);

/// How long a command waits for a supervisor that should answer at once (fault F24).
inline constexpr std::int64_t kPatienceNs = 20'000'000'000;

/// Whether a supervisor could read what it needs; the error tells what is damaged.
Result<void> check_files(int store_dir_fd, const std::string& id);

/// A made-up name that is free, "brisk_gecko" or "brisk_gecko_3".
std::string make_up_name(const Roots& roots);

}  // namespace supervise
}  // namespace skink
