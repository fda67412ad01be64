// SPDX-License-Identifier: Apache-2.0
// Context: the mapped plan, and the Fault by which every step of skink-init fails.
#pragma once

#include "child/sys.h"
#include "plan/child_plan.h"

namespace skink::child {

using plan::Step;

/// Why a step failed; err 0 is success. The launcher, which has the same plan, says it in words.
struct [[nodiscard]] Fault {
  Step step = Step::none;
  unsigned index = 0;
  int err = 0;
  unsigned detail = 0;
  int output_fd = -1;  // what a hook has printed
  explicit operator bool() const { return err != 0; }
};

/// A negative system call result as a Fault of this step; else success.
inline Fault check(long result, Step step, unsigned index = 0, unsigned detail = 0) {
  if (result >= 0) return {};
  return {step, index, static_cast<int>(-result), detail};
}

#define CHILD_TRY(expr)                      \
  do {                                       \
    const ::skink::child::Fault f_ = (expr); \
    if (f_) return f_;                       \
  } while (false)

/// The plan in memory. The mapping is private and writable, so argv and envp are made into pointers in place.
class Context {
 public:
  explicit Context(plan::Plan* p) : plan_(p) {}
  [[nodiscard]] const plan::Plan& plan() const { return *plan_; }
  [[nodiscard]] bool has(unsigned flag) const { return (plan_->flags & flag) != 0; }
  [[nodiscard]] const char* text(plan::Offset at) const { return base() + at; }
  [[nodiscard]] char* bytes(plan::Offset at) const { return base() + at; }
  template <typename T>
  [[nodiscard]] const T* array(plan::Span span) const {
    return reinterpret_cast<const T*>(base() + span.at);
  }

  /// Where the container's root is reached: the attached root tree before pivot_root, "/" afterwards and for exec.
  int root_fd = -1;
  int covered_root_fd = -1;  // the first of those that a mount on "/" has covered: sources in the root are there
  /// True once the launcher has said that the process is in its groups and recorded.
  bool placed = false;
  /// True once the working directory has been entered.
  bool in_directory = false;
  /// True once this process, or the stage before it, has joined its control groups.
  bool grouped = false;
  /// True once this process has made its own cgroup namespace, or was to.
  bool in_cgroup_namespace = false;
  /// Our own mount namespace and our root in it, while another one is visited for sources; -1: it is not needed.
  int own_mounts_fd = -1;
  int old_root_fd = -1;
  /// The slave of the container's terminal; -1 without.
  int terminal_fd = -1;
  /// Where hooks find the root before it is entered; -1: it lies over "/".
  int attach_fd = -1;
  /// True once this process has its filter.
  bool filtered = false;

 private:
  [[nodiscard]] char* base() const { return reinterpret_cast<char*>(plan_); }
  plan::Plan* plan_;
};

// protocol.cc
/// Sends one message, with a descriptor unless it is -1.
long send_message(const Context& context, const plan::Message& message, int fd = -1);
/// Waits for a message of this kind; -EPROTO for another, -EPIPE at end of file.
long await_message(const Context& context, plan::Kind kind);
void send_fault(int socket_fd, const Fault& fault);
/// Sends one message by write(2).
long write_message(const Context& context, const plan::Message& message);
/// Blocks until the launcher has said `placed`, the first time it is called.
Fault ensure_placed(Context& context);

// join.cc: first stage
Fault join_namespaces(Context& context);
/// Moves this process into its control groups; those of the unified hierarchy are entered by clone3.
Fault join_groups(Context& context);
/// Puts this process into the groups that these files belong to, and closes them.
Fault enter_groups(const int* files, unsigned count);
/// Once we are placed: the namespace whose root our groups are, if there is to be one. The first time it is called.
Fault make_cgroup_namespace(Context& context);
Fault set_cpus(const Context& context);
/// Joins, then clones the second stage: `pid` is 0 in it.
Fault first_stage(Context& context, long& pid);

// mounts.cc, targets.cc, sources.cc, bind_flags.cc, devices.cc, masks.cc
/// Nothing that is mounted here propagates to the host.
Fault make_mounts_private(const Context& context);
Fault make_private_and_attach_root(Context& context);
/// The mounts in their order, or those that come last (kMountLate).
Fault make_mounts(Context& context, bool late);
/// What the options of a tmpfs name of its top.
struct KeptOptions {
  bool mode, uid, gid;
};
Fault copy_up(int from_fd, int to_fd, const KeptOptions& kept);
/// Clones, from mounts[first] on, the sources of the host that come one after another (kMountOfHost).
Fault clone_host_sources(Context& context, unsigned first);
/// Clones a source inside the root (kMountOfRoot): mounts[index].fd, and what its target has to be.
Fault clone_root_source(Context& context, unsigned index);
/// For clone_host_sources; before the root is attached.
Fault remember_own_mounts(Context& context);
void forget_own_mounts(Context& context);
/// mount_setattr(2) on what `fd` is; `flags` may be AT_RECURSIVE.
long set_attributes(int fd, unsigned flags, __u64 set, __u64 clear, __u64 propagation);
/// Attaches a detached tree, or moves a mount, to what `to_fd` is.
long move_mount(int from_fd, int to_fd);
/// Gives a mount what its options say of attributes.
Fault apply_attributes(const Context& context, const plan::Mount& mount, unsigned index, int fd);
/// Gives a bind the flags of its words instead of those of its source. `in_user_namespace`: of the container's own.
long replace_flags(const plan::Mount& mount, int tree_fd, bool in_user_namespace);
/// Opens `path` inside the root, making what is missing; what a symlink leads to that leads nowhere only with `follow`.
long make_target(int root_fd, const char* path, bool file, unsigned long resolve, bool follow);
/// Makes a node, or finds the same one there.
long make_node(int parent_fd, const char* name, const plan::DeviceNode& device);
Fault make_devices(Context& context);
Fault make_workdir(Context& context);
Fault open_terminal(Context& context);
/// A network namespace of its own (kMakeNetwork), with its loopback interface up.
Fault prepare_network(const Context& context);
Fault write_sysctls(Context& context);
Fault hide_paths(Context& context);
Fault enter_root(Context& context);
// old_root.cc
Fault take_off_host_views(const Context& context);

// own_copies.cc
/// First stage, with the caller's privilege: a mount namespace of its own in which all trees of the host stand, for the
/// second one to be given a copy of.
Fault stage_own_copies(Context& context);
/// Second stage, with that of the user namespace: the root, the sources of binds and the nodes become those copies.
Fault take_own_copies(Context& context);

// identity.cc
Fault protect_self(const Context& context);
Fault set_names_and_limits(Context& context);
Fault write_label(Context& context);
Fault change_identity(Context& context);
Fault load_seccomp(Context& context);
/// The filter for a hook inside: the same, but calls that a supervisor would be asked about answer ENOSYS.
Fault load_seccomp_for_hook(const Context& context);

// hooks.cc
enum class HookPlace { create_container, start_container };
/// Argument and environment vectors of the hooks, as execve takes them, and the pipes that they will print into.
Fault prepare_hooks(Context& context);
/// Runs the hooks of this place in their order; the first failure ends it.
Fault run_hooks(const Context& context, HookPlace place);

// program.cc
/// Enters process.cwd as far as root can.
void try_directory(Context& context);
Fault change_directory(const Context& context);
Fault find_program(const Context& context, const char*& path, char* buffer, Size size);
Fault await_start(Context& context);
Fault run_program(Context& context, const char* path);
/// With kFilterWaits: what run_program() does but execve. A failure is for the one who says `start`.
Fault load_seccomp_early(Context& context);
/// Every signal to its default; execve leaves ignored ones ignored.
void reset_signals();
void unblock_signals();
void make_pointers(Context& context, plan::Offset at);
/// A private /proc of our own, opened by descriptor and checked (attack A13).
long open_private_procfs();

}  // namespace skink::child
