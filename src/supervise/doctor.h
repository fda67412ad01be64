// SPDX-License-Identifier: Apache-2.0
// The parts of Engine::diagnose(). Each looks at one kind of thing and changes nothing; what can be done about a
// finding comes with it as a function, which looks again under the locks that the other verbs take.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "skink/engine.h"
#include "supervise/records.h"

namespace skink::supervise {

/// Repairs one finding. busy: another command is at work on it.
using Repair = std::function<Result<void>()>;

class Ward {
 public:
  /// Borrowed; `options` has absolute paths.
  Ward(const Roots& roots, const EngineOptions& options) : roots_(roots), options_(options) {}

  [[nodiscard]] const Roots& roots() const { return roots_; }
  [[nodiscard]] const EngineOptions& options() const { return options_; }

  /// Adds a finding. `advice` of one with a repair says what that does: "--fix removes it".
  void problem(std::string kind, std::string where, std::string what, std::string advice, Repair repair = {});
  void note(std::string kind, std::string where, std::string what, std::string advice);

  struct Found {
    Finding finding;
    Repair repair;
  };
  [[nodiscard]] std::vector<Found>& found() { return found_; }

 private:
  const Roots& roots_;
  const EngineOptions& options_;
  std::vector<Found> found_;
};

/// The name of a temporary file of fs::write_file_atomic().
bool is_temporary(std::string_view name);

void check_mounts(Ward& ward);        ///< doctor_mounts.cc: below STORE and RUN, and by our names elsewhere
void check_containers(Ward& ward);    ///< doctor_containers.cc: records, drafts, removals, keepers
void check_names(Ward& ward);         ///< doctor_store.cc: STORE/container-names
void check_run_dirs(Ward& ward);      ///< doctor_store.cc: RUN/containers/ID without a container
void check_images(Ward& ward);        ///< doctor_store.cc: the image store
void check_layer_mounts(Ward& ward);  ///< doctor_store.cc: layers that are mounted
void check_cache(Ward& ward);         ///< doctor_store.cc: compiled seccomp filters
void check_groups(Ward& ward);        ///< doctor_groups.cc: control groups without a container
void check_events(Ward& ward);        ///< doctor_host.cc: whether events can be told
void check_disks(Ward& ward);         ///< doctor_host.cc: space and inodes
void check_clock(Ward& ward);         ///< doctor_host.cc: records of the future
void check_kernel(Ward& ward);        ///< doctor_host.cc: what this kernel and this process lack
void check_limits(Ward& ward);        ///< doctor_host.cc: limits that are nearly reached

/// STORE, RUN and their fixed directories: owner and mode. Before an engine is opened, which refuses what is found
/// here.
std::vector<Ward::Found> check_directories(const EngineOptions& options);

}  // namespace skink::supervise
