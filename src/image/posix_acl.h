// SPDX-License-Identifier: Apache-2.0
// POSIX ACLs: as a tar brings them, and as the kernel takes them for an extended attribute.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skink::image {

inline constexpr std::string_view kAclAccess = "system.posix_acl_access";
inline constexpr std::string_view kAclDefault = "system.posix_acl_default";

struct AclEntry {
  enum class Tag : std::uint16_t { user_obj = 1, user = 2, group_obj = 4, group = 8, mask = 16, other = 32 };
  Tag tag = Tag::user_obj;
  std::uint16_t rights = 0;  ///< as three bits of a mode
  std::uint32_t id = ~0U;    ///< of a named user or group
};

struct Acl {
  std::vector<AclEntry> entries;
  /// All of it is there. Otherwise it cannot be kept: it is none, or names somebody who has no number in the archive;
  /// then `entries` is what is known of it.
  bool whole = false;
  /// Says no more than a mode can.
  [[nodiscard]] bool is_minimal() const { return entries.size() == 3; }
};

/// The value of the extended attribute (linux/posix_acl_xattr.h), which has to be in order: version 2, entries sorted,
/// none twice, none missing.
Acl parse_acl(std::string_view value);
/// The text of a pax record SCHILY.acl.access or SCHILY.acl.default: "user::rwx,user:bob:r-x:1000,..." of star and
/// libarchive, or lines, as GNU tar has them. Names without a number are nobody's: the host's accounts are not the
/// image's.
Acl parse_acl_text(std::string_view text);
/// The value again.
std::string format_acl(const Acl& acl);
/// What chmod(2) makes of an access ACL: its mask is the mode's group.
std::string acl_with_mode(std::string_view value, mode_t mode);
/// `mode` where this access ACL cannot be kept, so that nobody gains by that: the mode's group bits are its mask, not
/// the rights of the group, and who is named may have less than others.
mode_t mode_without(const Acl& acl, mode_t mode);
/// What fsetxattr(2) of an ACL answers where the file system has none, or none as large.
inline bool has_no_room_for_acl(int errnum) { return errnum == EOPNOTSUPP || errnum == ENOSPC || errnum == E2BIG; }

}  // namespace skink::image
