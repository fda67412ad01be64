// SPDX-License-Identifier: Apache-2.0
// resolve_user: names of users and groups to numbers by the files of the container's own root, never by NSS.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "security/security.h"
#include "sys/file.h"

namespace skink::security {
namespace {

constexpr std::size_t kFileLimit = 10U << 20;   // containerd's limit
constexpr std::size_t kGroupLimit = 65536;      // NGROUPS_MAX
constexpr std::uint32_t kMostId = 4294967294U;  // (uid_t)-1 means "leave alone" to setresuid(2)

/// The text of /etc/passwd or /etc/group below the root; empty when there is none. The image chooses what is there, so
/// it is looked at before it is opened: a FIFO would block, a device would act, a link leads nowhere but into the root
/// (attack A31).
Result<std::string> read_database(int root_fd, const char* path) {
  auto found = sys::open_in_root(root_fd, path, O_PATH);
  if (!found) {
    if (found.error().code() == Code::not_found || found.error().errnum() == ENOTDIR) return std::string();
    return std::move(found).error();
  }
  return read_user_file(found->get(), path);
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::uint32_t> parse_id(std::string_view text) {
  if (!all_digits(text)) return std::nullopt;
  const auto id = parse_int<std::uint64_t>(text);  // 64 bits first: 4294967296 must not become 0 (CVE-2024-40635)
  if (!id || *id > kMostId) return std::nullopt;
  return static_cast<std::uint32_t>(*id);
}

/// What nobody calls a user, but a slip or an attack might: "-1", "+1", " 1", "0x0", bytes that no name has (attack
/// A30).
bool is_name(std::string_view text) {
  if (text.empty() || text.front() == '-' || text.front() == '+') return false;
  if (text.starts_with("0x") || text.starts_with("0X")) return false;
  return std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte <= ' ' || byte == 0x7f || c == ':' || c == ',';
  });
}

/// Calls `use` with the fields of each line; lines with a NUL are nobody's.
template <typename Use>
void each_line(std::string_view text, std::size_t most_fields, Use use) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#' || line.find('\0') != std::string_view::npos) continue;
    std::vector<std::string_view> fields = split(line, ':');
    fields.resize(most_fields);
    if (!use(fields)) return;
  }
}

struct Passwd {
  std::string name;
  std::uint32_t uid = 0, gid = 0;
  std::string home;
};

std::string home_or_root(std::string_view home) {
  const bool odd = std::any_of(home.begin(), home.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < ' ' || byte == 0x7f;
  });
  return home.starts_with('/') && !odd ? std::string(home) : std::string("/");
}

/// The first line with this uid, or with this name. A line without proper numbers is no line.
template <typename Matches>
std::optional<Passwd> find_user(std::string_view passwd, Matches matches) {
  std::optional<Passwd> found;
  each_line(passwd, 7, [&](const std::vector<std::string_view>& f) {
    const auto uid = parse_id(f[2]);
    const auto gid = parse_id(f[3]);
    if (!uid || !gid || !matches(f[0], *uid)) return true;
    found = Passwd{std::string(f[0]), *uid, *gid, home_or_root(f[5])};
    return false;
  });
  return found;
}

Result<std::uint32_t> find_group(std::string_view groups, std::string_view text, std::string_view what) {
  if (all_digits(text)) {
    if (const auto id = parse_id(text)) return *id;
    return Error::make(Code::invalid_config, what, ' ', quoted(text), ": not a number from 0 to ", kMostId);
  }
  if (!is_name(text))
    return Error::make(Code::invalid_config, what, ' ', quoted(text), ": neither a name nor a number from 0 to ",
                       kMostId);
  std::optional<std::uint32_t> found;
  each_line(groups, 4, [&](const std::vector<std::string_view>& f) {
    if (f[0] == text) found = parse_id(f[2]);
    return !found;
  });
  if (!found) return Error::make(Code::not_found, what, ' ', quoted(text), ": no such group in the image's /etc/group");
  return *found;
}

void add_group(std::vector<std::uint32_t>& groups, std::uint32_t gid) {
  if (std::find(groups.begin(), groups.end(), gid) == groups.end()) groups.push_back(gid);
}

/// Every group that lists `name` as a member.
Result<void> add_memberships(std::string_view text, std::string_view name, std::vector<std::uint32_t>& groups) {
  each_line(text, 4, [&](const std::vector<std::string_view>& f) {
    const auto gid = parse_id(f[2]);
    const auto members = split(f[3], ',');
    if (gid && std::find(members.begin(), members.end(), name) != members.end()) add_group(groups, *gid);
    return groups.size() <= kGroupLimit;
  });
  if (groups.size() > kGroupLimit)
    return Error::make(Code::invalid_config, "user ", quoted(name), ": member of more than ", kGroupLimit,
                       " groups in the image's /etc/group");
  return {};
}

struct Asked {
  std::string_view user, group;
  bool has_group = false;
};

Result<Asked> split_request(std::string_view text) {
  Asked asked{text.empty() ? std::string_view("0") : text, {}, false};
  if (const auto parts = split_once(text, ':')) {
    if (parts->first.empty() || parts->second.empty())
      return Error::make(Code::invalid_config, "user ", quoted(text), ": expected USER, UID, USER:GROUP or UID:GID");
    asked = {parts->first, parts->second, true};
  }
  return asked;
}

Result<ResolvedUser> resolve_primary(std::string_view passwd, std::string_view user) {
  ResolvedUser resolved;
  std::optional<Passwd> entry;
  if (all_digits(user)) {
    const auto uid = parse_id(user);
    if (!uid) return Error::make(Code::invalid_config, "user ", quoted(user), ": not a number from 0 to ", kMostId);
    resolved.uid = *uid;
    // A line for the number gives group and home. Digits are never compared with names (CVE-2016-3697).
    entry = find_user(passwd, [&](std::string_view, std::uint32_t id) { return id == *uid; });
  } else if (!is_name(user)) {
    return Error::make(Code::invalid_config, "user ", quoted(user), ": neither a name nor a number from 0 to ",
                       kMostId);
  } else {
    entry = find_user(passwd, [&](std::string_view name, std::uint32_t) { return name == user; });
    if (!entry) return Error::make(Code::not_found, "user ", quoted(user), ": no such user in the image's /etc/passwd");
  }
  if (!entry) return resolved;
  resolved.uid = entry->uid;
  resolved.gid = entry->gid;
  resolved.home = entry->home;
  resolved.name = entry->name;
  return resolved;
}

}  // namespace

Result<std::string> read_user_file(int fd, const char* path) {
  const struct stat about = TRY(sys::stat_fd(fd, path));
  if (!S_ISREG(about.st_mode)) return Error::make(Code::invalid_config, path, " in the image is not a regular file");
  if (about.st_size > static_cast<off_t>(kFileLimit))
    return Error::make(Code::invalid_config, path, " in the image has ", about.st_size, " bytes, more than ",
                       kFileLimit);
  const std::string again = str("/proc/self/fd/", fd);
  const UniqueFd file = TRY_CTX(sys::open_at(AT_FDCWD, again.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY), path);
  return sys::read_all(file.get(), kFileLimit, path);
}

Result<ResolvedUser> resolve_user(int root_fd, std::string_view text, const std::vector<std::string>& extra_groups) {
  const UserFiles files{TRY(read_database(root_fd, "/etc/passwd")), TRY(read_database(root_fd, "/etc/group"))};
  return resolve_user(files, text, extra_groups);
}

Result<ResolvedUser> resolve_user(const UserFiles& files, std::string_view text,
                                  const std::vector<std::string>& extra_groups) {
  const Asked asked = TRY(split_request(text));
  ResolvedUser resolved = TRY(resolve_primary(files.passwd, asked.user));
  const std::string& groups = files.group;
  if (asked.has_group) resolved.gid = TRY(find_group(groups, asked.group, "group"));
  // The primary group is in the list too: a file that denies a group access must deny it here (attack A33,
  // CVE-2022-36109).
  resolved.groups = {resolved.gid};
  // Who names a group gets that one, as docker does.
  if (!asked.has_group && !resolved.name.empty()) TRY(add_memberships(groups, resolved.name, resolved.groups));
  for (const std::string& extra : extra_groups)
    add_group(resolved.groups, TRY(find_group(groups, extra, "--group-add")));
  return resolved;
}

}  // namespace skink::security
