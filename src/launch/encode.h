// SPDX-License-Identifier: Apache-2.0
// Encoding: a LaunchPlan and the descriptors opened for it as the flat bytes that skink-init maps.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "launch/hooks.h"
#include "plan/launch_plan.h"

namespace skink::launch {

/// What was opened for a plan; kept by the launcher until the process has its own copies.
struct Descriptors {
  std::vector<UniqueFd> mounts;    ///< one for each plan.mounts; empty where there is nothing to open
  std::vector<bool> target_files;  ///< the source of the mount is not a directory
  std::vector<UniqueFd> joins;     ///< one for each plan.joins
  std::vector<UniqueFd> devices;   ///< with a user namespace: trees of the host's nodes, one for each plan.devices
  std::vector<bool> made_devices;  ///< likewise: those that the host has not and that are made for it,
  std::vector<std::pair<std::uint32_t, std::uint32_t>> device_owners;  ///< and if there are, the host's ids of all
  std::vector<UniqueFd> groups;                                        ///< of cgroup::Group::open_join_files
  int pidfd_to_join = -1;  ///< exec: all namespaces of this process in one setns(2)
  std::uint32_t pidfd_flags = 0;
  int root = -1;
  UniqueFd host_mounts;  ///< our mount namespace, when a source is to be cloned later (kMountOfHost)
  int listener = -1;
  int sync = -1;
  int cgroup = -1;
  unsigned preserve = 0;
};

struct EncodeOptions {
  std::string keyring;  ///< empty: the caller's session keyring is kept
  bool no_pivot = false;
  std::string attach_path;          ///< where hooks find the root; empty: over "/"
  std::string stage_path;           ///< with kOwnCopies: a directory that nobody looks at in the container's mounts
  StateText creating, created;      ///< for createContainer and startContainer hooks
  std::vector<unsigned long> cpus;  ///< for sched_setaffinity(2); empty: as the caller's
  bool groups_follow = false;       ///< the files of v1 groups are sent with `placed`
  bool plain_output = false;        ///< the terminal does not turn line ends into CR LF
};

/// The bytes of the flat plan.
std::string encode(const plan::LaunchPlan& plan, const Descriptors& descriptors, const EncodeOptions& options);

/// The numbers of all descriptors that the process needs, for clearing close-on-exec.
std::vector<int> numbers(const Descriptors& descriptors);

}  // namespace skink::launch
