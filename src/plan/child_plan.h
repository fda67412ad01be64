// SPDX-License-Identifier: Apache-2.0
// ChildPlan: everything skink-init will have to do, as one flat block of bytes that it maps from a sealed memfd.
// Freestanding: fixed-width numbers and offsets only. Also the protocol between the launcher and skink-init.
#pragma once

#include <linux/types.h>

namespace skink::plan {

using U8 = __u8;
using U16 = __u16;
using U32 = __u32;
using U64 = __u64;
using I32 = __s32;
using I64 = __s64;

inline constexpr U32 kMagic = 0x6b6e6b73;  // "sknk"
inline constexpr U32 kVersion = 2;
inline constexpr U32 kLargestPlan = 64U << 20;

/// Bytes from the start of the plan; 0 is "none". Strings end with a zero byte.
using Offset = U32;

/// An array of `count` records at `at`.
struct Span {
  Offset at;
  U32 count;
};

/// What failed, in the order in which skink-init works. The launcher has the same plan and finds the words.
enum class Step : U32 {
  none,
  read_plan,
  protect_self,  // no core dump, no ptrace by the container
  set_death_signal,
  join_group,  // index: of groups
  set_cpus,
  own_copies,      // of the host's trees, for a user namespace
  join_namespace,  // index: of namespaces
  time_offsets,
  clone_inner,
  network_namespace,
  become_root,  // of a user namespace
  new_session,
  propagation,  // our copy of the host's mounts
  attach_root,
  mount_source,  // index: of mounts; these eight share it
  mount_target,
  mount_fsopen,
  mount_option,  // detail: which
  mount_create,
  mount_attributes,
  mount_copy_up,
  mount_attach,
  mount_propagation,
  cgroup_namespace,
  make_device,       // index: of devices
  make_device_link,  // index: of links
  make_workdir,
  open_terminal,
  attach_console,
  loopback_up,
  open_procfs,
  write_sysctl,           // index: of sysctls
  mask_path,              // index: of masked paths
  readonly_path,          // index: of read-only paths
  create_container_hook,  // index: of the hooks; detail: its status when it ended by itself; these two share it
  start_container_hook,
  pivot_root,
  root_propagation,
  root_readonly,
  set_hostname,
  set_domainname,
  join_keyring,
  set_rlimit,  // index: of rlimits
  set_scheduler,
  set_io_priority,
  set_memory_policy,
  set_personality,
  security_label,
  drop_bounding,  // index: capability
  set_groups,
  set_gid,
  set_uid,
  verify_ids,
  set_capabilities,
  raise_ambient,  // index: capability
  no_new_privileges,
  change_directory,
  directory_outside,  // the working directory is not inside the root (CVE-2024-21626)
  find_program,       // detail: 1 searched in PATH, 2 a path; err ENOENT or EACCES
  listen_start,
  close_descriptors,
  seccomp,
  fork_program,  // --init
  execute,
  protocol,  // an answer out of order
};

/// One message either way on the SOCK_SEQPACKET socket; descriptors travel beside it (SCM_RIGHTS).
///
///   skink-init                                    launcher
///   ----------                                    --------
///   [1 inner {arg: pid, fd: pidfd}] ------------>            only when it had to clone again to join namespaces
///                                   <------------ [2 placed {arg, fds}] the process is recorded and mapped; with
///                                                 kGroupsFollow come `arg` files of v1 groups, each takes "0", and
///                                                 then the sources of mounts that bind the container's groups
///   [9 map {arg: index, fd: tree}]  ------------>            only for idmapped binds of what is inside the root
///                                   <------------ [5 proceed]
///   [3 console {fd: master}]        ------------>            only with a terminal
///   [4 hooks]                       ------------>            only with hooks before pivot_root
///                                   <------------ [5 proceed]
///   [6 ready]                       ------------>            everything but start and execve is done
///   [7 listener {arg: fd}]          ------------>            only with a seccomp notify rule; after `start`, to it
///                                   <------------ [5 proceed] the supervisor has it
///   [8 fault]                       ------------>            at any time, the last message
///   end of file                     ------------>            after ready: execve worked (or, without ready: it died)
enum class Kind : U32 { none, inner, placed, console, hooks, proceed, listener, ready, fault, start, map, going };

struct Message {
  U32 kind;
  U32 step;  // fault: Step
  U32 index;
  U32 detail;
  I32 err;  // fault: errno
  I32 arg;
};

struct Namespace {
  I32 fd;
  U32 flag;  // CLONE_NEW*
};

enum class MountKind : U32 {
  tree,     // `fd` is a detached tree, or with the flags below what is to be cloned
  fs,       // fsopen(type), params, attributes
  remount,  // change attributes of what is mounted at the target
  link      // a symlink named `type` in the directory `target`, to `source`
};

inline constexpr U32 kMountTargetIsFile = 1;
inline constexpr U32 kMountCopyUp = 2;
inline constexpr U32 kMountKeepMode = 16;    // copy-up leaves the mode of the top as the options say
inline constexpr U32 kMountKeepUid = 16384;  // likewise its owner
inline constexpr U32 kMountKeepGid = 32768;
inline constexpr U32 kMountTakesMode = 64;       // a tmpfs without mode=: that of the directory below it
inline constexpr U32 kMountLate = 128;           // done when everything that is to be in the mounts is there
inline constexpr U32 kMountReplacesFlags = 256;  // attr_set and no others, as far as a user namespace may
inline constexpr U32 kMountNeedsCgroup = 4;
// Sources of trees that are cloned when it is their turn, so that mounts get their numbers in the order of the list:
inline constexpr U32 kMountOfHost = 512;   // `fd` is open on the source in the launcher's mount namespace
inline constexpr U32 kMountOfRoot = 1024;  // `source` is a path inside the root, with what is mounted there by then
inline constexpr U32 kMountRecursive = 2048;
inline constexpr U32 kMountMapped = 4096;  // the launcher is to map its ids
inline constexpr U32 kMountSourceNofollow = 8192;
inline constexpr U32 kMountTargetNofollow = 32;
inline constexpr U32 kMountTargetIsRealDir = 8;  // /proc and /sys: no symlink on the way (attack A13)

struct Param {
  Offset key;
  Offset value;  // 0: a flag
};

struct Mount {
  U32 kind;
  I32 fd;
  Offset target;
  Offset type;
  Offset source;
  Span params;  // Param
  U32 flags;
  U32 propagation;  // MS_*, 0: none
  U32 propagation_recursive;
  U64 attr_set, attr_clr;
  U64 named_clr;  // with kMountReplacesFlags: what has to be off
  U64 rec_set, rec_clr;
};

struct DeviceNode {
  Offset path;  // inside the root
  I32 bind_fd;  // a detached tree of the host's node, where mknod is not possible; else -1
  U32 stage;    // 1: made where it is still possible, and bound (kOwnCopies); uid and gid are the host's then
  U32 mode;     // with S_IFMT
  U32 uid, gid;
  U64 dev;
};

struct Link {
  Offset target;
  Offset path;
};

struct Rlimit {
  U32 resource;
  U64 soft, hard;
};

struct Sysctl {
  Offset path;  // below /proc, "sys/net/ipv4/ip_forward"
  Offset value;
};

/// A hook that skink-init runs itself. The container's state comes as `head`, the process id as this process sees it
/// itself, and `tail`.
struct Hook {
  Offset path;
  Offset argv;  // as Plan::argv
  Offset envp;
  Offset head, tail;
  I32 timeout_seconds;  // -1: none
  I32 output_fd;        // skink-init's: both ends of a pipe as one, for the hook,
  I32 read_fd;          // and the one to read it by
};

/// As much of what a hook has printed is kept: its end.
inline constexpr U32 kHookOutput = 4096;

/// Fault::detail of a hook that a signal has ended: this and the signal.
inline constexpr U32 kHookSignal = 256;

inline constexpr U32 kHasUserNamespace = 1;
inline constexpr U32 kNewCgroupNamespace = 2;
inline constexpr U32 kTerminal = 4;
inline constexpr U32 kNewNetwork = 8;
inline constexpr U32 kRootReadonly = 16;
inline constexpr U32 kNoPivot = 32;
inline constexpr U32 kHooks = 64;
inline constexpr U32 kNoNewPrivileges = 128;
inline constexpr U32 kNewKeyring = 256;
inline constexpr U32 kInit = 512;
inline constexpr U32 kExec = 1024;       // joins a running container: no mounts are made
inline constexpr U32 kTwoStages = 2048;  // namespaces are joined before the process is cloned
inline constexpr U32 kSetgroupsDenied = 4096;
inline constexpr U32 kDeathSignal = 8192;
inline constexpr U32 kHostMounts = 16384;  // the launcher's mount namespace: the root is attached there and chrooted to
inline constexpr U32 kSetScheduler = 65536;
inline constexpr U32 kSetIoPriority = 1U << 17;
inline constexpr U32 kSetPersonality = 1U << 18;
inline constexpr U32 kMakeWorkdir = 1U << 19;
inline constexpr U32 kSetMemoryPolicy = 1U << 20;
inline constexpr U32 kJoinedMounts = 1U << 21;  // the mount namespace is somebody else's: its root stays where it is
inline constexpr U32 kPlainOutput = 1U << 22;   // the terminal does not turn line ends into CR LF
inline constexpr U32 kBindDevices = 1U << 23;   // of the host's, for none can be made
inline constexpr U32 kGroupsFollow = 1U << 24;  // the files of its v1 groups come with `placed`
inline constexpr U32 kOwnCopies = 1U << 25;     // trees of the host's are copied by the kernel, which locks their flags
inline constexpr U32 kMakeNetwork = 1U << 26;   // its network namespace is not among those of clone3
inline constexpr U32 kFilterWaits = 1U << 27;   // the filter is loaded before the wait for `start`: it allows the rest

// Two flags with one bit would make one step of isolation turn another off.
static_assert((kHasUserNamespace + kNewCgroupNamespace + kTerminal + kNewNetwork + kRootReadonly + kNoPivot + kHooks +
               kNoNewPrivileges + kNewKeyring + kInit + kExec + kTwoStages + kSetgroupsDenied + kDeathSignal +
               kHostMounts + kSetScheduler + kSetIoPriority + kSetPersonality + kMakeWorkdir + kSetMemoryPolicy +
               kJoinedMounts + kPlainOutput + kBindDevices + kGroupsFollow + kOwnCopies + kMakeNetwork +
               kFilterWaits) ==
              (kHasUserNamespace | kNewCgroupNamespace | kTerminal | kNewNetwork | kRootReadonly | kNoPivot | kHooks |
               kNoNewPrivileges | kNewKeyring | kInit | kExec | kTwoStages | kSetgroupsDenied | kDeathSignal |
               kHostMounts | kSetScheduler | kSetIoPriority | kSetPersonality | kMakeWorkdir | kSetMemoryPolicy |
               kJoinedMounts | kPlainOutput | kBindDevices | kGroupsFollow | kOwnCopies | kMakeNetwork | kFilterWaits));

/// At most so many descriptors with `placed`: SCM_MAX_FD of the kernel.
inline constexpr U32 kMostGroups = 253;

struct Plan {
  U32 magic, version, size, flags;
  I32 sync_fd;          // our end of the SEQPACKET socket
  I32 listener_fd;      // start comes in here; -1: none
  I32 root_fd;          // the detached root tree; -1 for exec
  I32 host_mounts_fd;   // the launcher's mount namespace, for kMountOfHost; -1: none
  I32 cgroup_fd;        // for CLONE_INTO_CGROUP by the first stage; -1: none
  U64 clone_flags;      // second stage: new namespaces
  Span cpus;            // U64: a mask for sched_setaffinity; none: as it is
  Span groups_to_join;  // I32: files of v1 control groups, each takes "0"
  Span joins;           // Namespace
  Offset time_offsets;  // text for /proc/self/timens_offsets
  I32 time_offsets_fd;
  U32 propagation;       // MS_* for our copy of the host's mounts
  U32 root_propagation;  // MS_* for the container's root, 0: as it is
  Span mounts, devices, links, sysctls, rlimits;
  Span masked, readonly;  // Offset each
  Offset hostname, domainname, keyring;
  Offset label_path, label;  // "attr/apparmor/exec" and what to write; 0: none
  U16 console_rows, console_columns;
  U32 umask;
  U32 personality;
  U32 uid, gid;
  Span groups;  // U32
  U64 bounding, effective, permitted, inheritable, ambient;
  U32 last_capability;
  Offset seccomp;  // struct sock_filter[]
  U32 seccomp_count;
  U32 seccomp_flags;
  U32 seccomp_listener;
  U32 sched_policy;
  I32 sched_nice, sched_priority;
  U64 sched_flags, sched_runtime, sched_deadline, sched_period;
  U32 io_priority;
  U32 memory_mode;    // MPOL_* with MPOL_F_*
  Span memory_nodes;  // U64 each, node N is bit N
  U32 preserve_fds;
  Offset cwd;
  Offset argv;  // U64 offsets, a zero at the end; skink-init turns them into pointers in place
  Offset envp;
  Offset path;                                         // PATH of the program's environment, 0: none
  Offset attach_path;                                  // where hooks find the root before it is entered; 0: over "/"
  Offset stage_path;                                   // a directory of the host's, covered inside (kOwnCopies)
  Span create_container_hooks, start_container_hooks;  // Hook
};

}  // namespace skink::plan
