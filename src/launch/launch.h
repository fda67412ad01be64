// SPDX-License-Identifier: Apache-2.0
// Launch: turns a Spec into a container process. The caller must have one thread. The process that runs between clone
// and execve is the freestanding skink-init (src/child); see docs/run.md for the stages.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"
#include "cgroup/cgroup.h"
#include "oci/spec.h"
#include "sys/process.h"

namespace skink::launch {

/// Where standard input, output and error of the process come from; borrowed. Ignored when process.terminal is set.
struct Stdio {
  int in = 0;
  int out = 1;
  int err = 2;
};

/// Is told of each step that was taken, for people who look for a fault; empty: nobody wants to know.
using Trace = std::function<void(const std::string&)>;
/// Tells it, if anybody wants to know.
template <typename... Pieces>
void tell(const Trace& trace, const Pieces&... pieces) {
  if (trace) trace(str(pieces...));
}

/// A container to be made. Everything borrowed stays valid until the call returns.
struct ContainerRequest {
  const oci::Spec* spec = nullptr;
  std::string id;
  /// The root file system: a detached mount (an overlay made by fsmount(2)), else spec.root.path below the bundle.
  int root_mount_fd = -1;
  /// With a spec that has no mount namespace: root_mount_fd is attached in the host's mount namespace by the caller,
  /// who takes it off again. Without it such a spec is refused.
  bool root_is_attached = false;
  std::string bundle;  ///< absolute; cwd of hooks, base of a relative root.path
  /// Groups made and limited by the caller, or nullptr for none (--cgroup-manager disabled).
  cgroup::Group* group = nullptr;
  /// Where they are, for the container's view of them; nullptr: ask the group.
  const cgroup::Location* location = nullptr;
  /// Makes what is missing of the group (cgroup::Group::complete) and limits it; empty: nothing is missing. Called
  /// once, where that can be while the container's process is at work already; not if that dies before.
  std::function<Result<void>()> complete_group;
  /// Moves a process into the group where the kernel does not let us (cgroup::Group::lets_in); empty: nobody can.
  std::function<Result<void>(pid_t)> attach;
  Stdio stdio;
  unsigned preserve_fds = 0;  ///< 3 .. 3+N-1 are passed on
  /// A listening SOCK_SEQPACKET socket on which `start` comes in; -1: go on to execve without waiting.
  int start_listener_fd = -1;
  /// Make the process a child of the caller's parent (CLONE_PARENT): the guard reaps it.
  bool as_sibling = false;
  bool no_pivot = false;
  bool new_keyring = true;
  bool plain_output = false;    ///< its terminal does not turn line ends into CR LF
  bool reset_affinity = false;  ///< it runs on all CPUs of its cpuset, not on those of the caller
  /// Where compiled seccomp programs are kept (a private directory), -1 for no cache.
  int seccomp_cache_fd = -1;
  /// How long it may take until it waits for start or is executed, 0: for ever (as in ExecRequest).
  std::int64_t patience_ns = 0;
  /// Called with the process's identity as soon as it exists and before it does anything that outlives us: store it.
  std::function<Result<void>(const sys::ProcessIdentity&)> record;
  Trace trace;
};

/// A process that is running or, with start_listener_fd, ready to.
struct Launched {
  sys::ProcessIdentity identity;
  UniqueFd pidfd;
  UniqueFd console;  ///< the master of its terminal when process.terminal is set
  /// Capabilities that were asked for and could not be given: a warning is due.
  std::uint64_t withheld_capabilities = 0;
  std::uint64_t withheld_ambient = 0;  ///< likewise: of the ambient set, for want of being permitted and inheritable
};

/// Makes the container: namespaces, mounts, devices, security, hooks (prestart, createRuntime, createContainer; without
/// a start listener startContainer too), and checks that the program can be executed. Returns when execve has
/// succeeded, or, with start_listener_fd, when only `start` is missing. Errors: not_found and denied for the program
/// itself have the texts `exec: "foo": executable file not found in $PATH`, `exec: "/x": stat /x: no such file or
/// directory` and `exec: "/etc": permission denied`. On failure the process is dead and, unless as_sibling, reaped; the
/// groups are the caller's to remove.
Result<Launched> launch_container(const ContainerRequest& request);

/// A container that waits at its start listener.
struct StartRequest {
  int dir_fd = -1;  ///< with `socket_name`, the listener's file
  const char* socket_name = nullptr;
  int connected_fd = -1;                    ///< what connect_to_start() gave, made ahead; -1: it is connected to now
  std::function<Result<oci::Spec>()> spec;  ///< asked only for a listener to hand over, or for the words of a failure
  std::string id, bundle;
  sys::ProcessIdentity init;
  int init_pidfd = -1;                         ///< of that process, or -1: it is looked for
  const cgroup::Location* location = nullptr;  ///< its control groups, if it has any
  int aside_ms = 0;                            ///< how long to leave the processor to the program when it goes on
  Trace trace;
};

/// Tells a container made with a start listener to go on; waits until its startContainer hooks have run and its program
/// is executed, or something of that has failed. Errors: busy when it is not waiting any more, or has ended before it
/// heard of it.
Result<void> start_container(const StartRequest& request);

/// The way in which start_container() talks to the process, for who has the time before it has to start: the process
/// waits for the word on it then, and when it is closed for the next one. Errors: not_found or denied, by errno; with
/// ECONNREFUSED nobody waits there any more.
Result<UniqueFd> connect_to_start(int dir_fd, const char* socket_name);

/// True while a container made with a start listener still waits for start.
bool awaits_start(int dir_fd, const char* socket_name);

/// One more process in a running container.
struct ExecRequest {
  const oci::Spec* spec = nullptr;        ///< the container's own
  const oci::Process* process = nullptr;  ///< what to run; all its members are used as they are
  sys::ProcessIdentity target;            ///< the container's init
  std::string id, bundle;                 ///< for the state that a seccomp supervisor is sent
  cgroup::Group* group = nullptr;
  std::function<Result<void>(pid_t)> attach;  ///< as in ContainerRequest
  Stdio stdio;
  unsigned preserve_fds = 0;
  bool as_sibling = false;
  bool new_keyring = true;
  bool plain_output = false;    ///< as in ContainerRequest
  bool reset_affinity = false;  ///< likewise; process.execCPUAffinity comes before it
  int seccomp_cache_fd = -1;
  /// How long it may take until the program is executed, 0: for ever. What is in the container can stop the process on
  /// its way (a signal to all, a frozen group, no CPU time); it is killed then, and the error is busy.
  std::int64_t patience_ns = 0;
  std::function<Result<void>(const sys::ProcessIdentity&)> record;
  Trace trace;
};

/// Joins the namespaces of `target` and becomes a container process by the same code as launch_container (attack A83).
Result<Launched> exec_in_container(const ExecRequest& request);

/// Whether a failure is the program's (docker's exit codes): 127 not found, 126 not executable, 125 anything else.
int exit_status_of(const Error& error);

/// Whether a launch came to nothing because somebody killed the process while it was being set up, and not for want of
/// memory: that says nothing of the container.
bool was_killed(const Error& error);

/// What launch_container would refuse for the configuration's sake, before anything is made.
Result<void> check_launch(const oci::Spec& spec);

/// The spec as launch_container would carry it out, one step a line, for people and golden tests; makes nothing.
Result<std::string> describe_plan(const oci::Spec& spec);

}  // namespace skink::launch
