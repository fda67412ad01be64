// SPDX-License-Identifier: Apache-2.0
// Security: seccomp profiles to BPF, default capability sets, default profile, users in an image.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace skink::security {

/// A compiled filter: struct sock_filter[] as bytes (8 each), and the flags for seccomp(2) SECCOMP_SET_MODE_FILTER.
struct SeccompProgram {
  std::string bpf;
  unsigned flags = 0;
  bool needs_listener = false;  ///< some rule notifies: SECCOMP_FILTER_FLAG_NEW_LISTENER has to be among the flags
  bool lets_start = false;      ///< allows what skink-init does from its wait for `start` on, execve included
};

/// Compiles linux.seccomp by libseccomp. Names that this libseccomp does not know are ignored, as runc does. Under a
/// profile with an errno default action, calls newer than any that the profile names answer ENOSYS.
/// The descriptor-only export of libseccomp 2.5.4 goes through a memfd.
Result<SeccompProgram> compile_seccomp(const oci::Seccomp& profile);

/// "2.5.4": the libseccomp that is linked in.
std::string seccomp_library_version();

/// A capability's place in a mask of them, as capabilities(7) numbers them.
constexpr std::uint64_t bit(unsigned capability) { return std::uint64_t{1} << capability; }

/// skink's own allow-list profile for a container with these capabilities (bounding mask): what docker's default
/// permits, minus io_uring, bpf, userfaultfd, keyctl, AF_ALG, AF_VSOCK, new user namespaces; unlisted calls answer
/// ENOSYS; TIOCSTI and TIOCLINUX are refused whatever the high 32 bits say (attacks A40 to A43).
oci::Seccomp default_seccomp(std::uint64_t capabilities);

/// What a host (or a container that we run in, or this process) lacks, where that can be the cause of `error`: "; this
/// process has not CAP_SYS_ADMIN". Empty where it is not.
std::string lacking_here(const Error& error);

/// docker's default capability set without CAP_NET_RAW.
std::uint64_t default_capabilities();
/// What this process has itself: more than that it cannot give to a child (root in a container or under systemd's
/// CapabilityBoundingSet= often lacks some).
std::uint64_t permitted_capabilities();
/// Every capability that this kernel knows (/proc/sys/kernel/cap_last_cap) and this process can hand on, as a mask.
std::uint64_t all_capabilities();

/// What this host has below /sys to be masked beyond the fixed list: the thermal_throttle directory of each CPU (attack
/// A49, GHSA-6fw5-f8r9-fgfm).
std::vector<std::string> host_masked_paths();

/// A user as an image or `-u` names one, resolved in the container's own /etc/passwd and /etc/group.
struct ResolvedUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  ///< supplementary, with the primary one
  std::string home = "/";
  std::string name;  ///< from passwd, or empty
};

/// `text` is USER, UID, USER:GROUP, UID:GID or empty (root). An all-digit string is never a name; 0..4294967294;
/// unknown names are errors, never root (A30). The files are opened below `root_fd` in-root, must be regular and at
/// most 10 MiB (A31). `extra_groups` are --group-add names or numbers.
Result<ResolvedUser> resolve_user(int root_fd, std::string_view text, const std::vector<std::string>& extra_groups);

/// The texts of /etc/passwd and /etc/group, and the same decision by them.
struct UserFiles {
  std::string passwd, group;
};
Result<ResolvedUser> resolve_user(const UserFiles& files, std::string_view text,
                                  const std::vector<std::string>& extra_groups);
/// The text of one of these, found as `fd` (O_PATH will do): a regular file of at most 10 MiB, else an error that names
/// `path` (A31).
Result<std::string> read_user_file(int fd, const char* path);

}  // namespace skink::security
