// SPDX-License-Identifier: Apache-2.0
// check_spec: what types and ranges cannot say about a Spec, all findings at once.
#include "oci/check.h"

#include <algorithm>

#include "base/text.h"

namespace skink::oci {
namespace {

constexpr std::size_t kMostHostName = 64;  // __NEW_UTS_LEN

bool any_of(const Strings& list, std::string_view a, std::string_view b) {
  return std::any_of(list.begin(), list.end(), [&](const std::string& word) { return word == a || word == b; });
}

bool is_version_number(std::string_view text) {
  return parse_int<std::uint32_t>(text).has_value() && (text == "0" || !text.starts_with('0')) &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Identifiers between dots, none of them empty; a number of a pre-release has no zero in front.
bool are_identifiers(std::string_view text, bool numbers_too) {
  constexpr std::string_view kDigits = "0123456789";
  for (const std::string_view one : split(text, '.')) {
    const bool number = one.find_first_not_of(kDigits) == std::string_view::npos;
    const bool made_of_them = std::all_of(one.begin(), one.end(), [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
    });
    if (one.empty() || !made_of_them || (!numbers_too && number && one.size() > 1 && one.front() == '0')) return false;
  }
  return true;
}

// SemVer 2.0.0: config.md "Specification version" wants it. The first number, when it is one.
std::string_view major_version(std::string_view text) {
  const auto build = split_once(text, '+');
  if (build && !are_identifiers(build->second, true)) return {};
  const auto before = split_once(build ? build->first : text, '-');
  if (before && !are_identifiers(before->second, false)) return {};
  const auto numbers = split(before ? before->first : build ? build->first : text, '.');
  if (numbers.size() != 3 || !std::all_of(numbers.begin(), numbers.end(), is_version_number)) return {};
  return numbers.front();
}

void check_version(const Spec& spec, Findings& findings) {
  if (major_version(spec.oci_version) == "1") return;
  findings.add(Error::make(Code::unsupported, "ociVersion: ", brief(spec.oci_version),
                           " is not a version that skink implements; write ", kSpecVersion));
}

// Both names belong to the uts namespace: without one of its own the container would rename the host.
void check_host_name(const Spec& spec, std::string_view path, const std::string& name, Findings& findings) {
  if (name.empty()) return;
  if (name.size() > kMostHostName)
    findings.add(std::string(path), brief(name), " is longer than ", kMostHostName, " bytes");
  if (has_control(name) || name.find(' ') != std::string::npos)
    findings.add(std::string(path), brief(name), " has a space or control byte in it");
  if (spec.find_namespace(NamespaceType::uts) == nullptr)
    findings.add(std::string(path), "would be the host's own; add a uts namespace to linux.namespaces");
}

void check_mount(const Mount& mount, const std::string& path, Findings& findings) {
  if (mount.destination.empty()) findings.add(path + ".destination", "is empty");
  if (mount.source.empty() && any_of(mount.options, "bind", "rbind"))
    findings.add(path + ".source", "is missing; a bind mount needs one");
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty())
    findings.add(path, "has one of uidMappings and gidMappings; both are needed");
  check_mappings(path + ".uidMappings", mount.uid_mappings, findings);
  check_mappings(path + ".gidMappings", mount.gid_mappings, findings);
}

// config.md "Linux mount options": idmap without a mapping takes the container's, and without one is an error.
void check_idmap(const Spec& spec, const Mount& mount, const std::string& path, Findings& findings) {
  if (!any_of(mount.options, "idmap", "ridmap") || !mount.uid_mappings.empty()) return;
  if (spec.find_namespace(NamespaceType::user) == nullptr)
    findings.add(path + ".uidMappings", "is missing; idmap needs it where the container has no user namespace");
}

void check_hook_list(std::string_view name, const std::vector<Hook>& hooks, Findings& findings) {
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    const std::string path = at(str("hooks.", name), i);
    check_absolute(path + ".path", hooks[i].path, findings);
    check_env(path + ".env", hooks[i].env, findings);
    if (hooks[i].timeout_seconds.value_or(1) <= 0) findings.add(path + ".timeout", "is not above 0");
  }
}

void check_hooks(const Hooks& hooks, Findings& findings) {
  check_hook_list("prestart", hooks.prestart, findings);
  check_hook_list("createRuntime", hooks.create_runtime, findings);
  check_hook_list("createContainer", hooks.create_container, findings);
  check_hook_list("startContainer", hooks.start_container, findings);
  check_hook_list("poststart", hooks.poststart, findings);
  check_hook_list("poststop", hooks.poststop, findings);
}

}  // namespace

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < 0x20) || c == 0x7f; });
}

bool is_file_name(std::string_view name) {
  constexpr std::size_t kMost = 255;  // NAME_MAX
  return !name.empty() && name != "." && name != ".." && name.size() <= kMost &&
         name.find('/') == std::string_view::npos && !has_control(name);
}

bool has_dotdot(std::string_view path) {
  const auto components = split(path, '/');
  return std::find(components.begin(), components.end(), "..") != components.end();
}

namespace {

struct NumberRange {
  std::uint32_t first, last;
};

std::optional<NumberRange> number_range(std::string_view piece) {
  const auto trimmed = [](std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
  };
  const auto ends = split_once(piece, '-');
  const auto first = parse_int<std::uint32_t>(trimmed(ends ? ends->first : piece));
  const auto last = ends ? parse_int<std::uint32_t>(trimmed(ends->second)) : first;
  if (!first || !last || *first > *last) return std::nullopt;
  return NumberRange{*first, *last};
}

}  // namespace

bool is_number_list(std::string_view text, std::uint32_t most) {
  const auto pieces = split(text, ',');
  return std::all_of(pieces.begin(), pieces.end(), [&](std::string_view piece) {
    const auto range = number_range(piece);
    return range && range->last <= most;
  });
}

std::optional<std::vector<std::uint64_t>> number_list_bits(std::string_view text, std::uint32_t most) {
  std::vector<std::uint64_t> words;
  for (const std::string_view piece : split(text, ',')) {
    const auto range = number_range(piece);
    if (!range || range->last > most) return std::nullopt;
    if (words.size() <= range->last / 64) words.resize(range->last / 64 + 1);
    for (std::uint32_t number = range->first; number <= range->last; ++number)
      words[number / 64] |= std::uint64_t{1} << (number % 64);
  }
  return words;
}

bool is_interface_name(std::string_view name) {
  constexpr std::size_t kMost = 15;  // IFNAMSIZ with its NUL
  return is_file_name(name) && name.size() <= kMost && name.find_first_of(" :") == std::string_view::npos;
}

void check_env(const std::string& path, const Strings& env, Findings& findings) {
  for (std::size_t i = 0; i < env.size(); ++i)
    if (env[i].find('=') == std::string::npos || env[i].starts_with('='))
      findings.add(at(path, i), brief(env[i]), " is not NAME=VALUE");
}

void check_absolute(const std::string& path, std::string_view value, Findings& findings) {
  if (!value.starts_with('/')) findings.add(path, brief(value), " is not an absolute path");
}

void check_mappings(const std::string& path, const std::vector<IdMapping>& mappings, Findings& findings) {
  constexpr std::size_t kMostMappings = 340;  // UID_GID_MAP_MAX_EXTENTS
  constexpr std::uint64_t kIdCount = 4294967295;
  if (mappings.size() > kMostMappings) findings.add(path, "has more than the kernel's 340 entries");
  const auto overlap = [](std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size) {
    return a < b + b_size && b < a + a_size;
  };
  for (std::size_t i = 0; i < mappings.size() && i < kMostMappings; ++i) {
    const IdMapping& one = mappings[i];
    if (one.size == 0) findings.add(at(path, i) + ".size", "is 0");
    if (std::uint64_t{std::max(one.container_id, one.host_id)} + one.size > kIdCount)
      findings.add(at(path, i) + ".size", one.size, " reaches beyond the last id, 4294967294");
    for (std::size_t j = 0; j < i; ++j) {
      const IdMapping& other = mappings[j];
      if (overlap(one.container_id, one.size, other.container_id, other.size) ||
          overlap(one.host_id, one.size, other.host_id, other.size))
        findings.add(at(path, i), "overlaps with entry ", j);
    }
  }
}

std::vector<Error> check_spec(const Spec& spec) {
  Findings findings;
  check_version(spec, findings);
  if (spec.process) check_process(*spec.process, true, findings);
  if (spec.root.path.empty()) findings.add("root.path", "is missing");
  check_host_name(spec, "hostname", spec.hostname, findings);
  check_host_name(spec, "domainname", spec.domainname, findings);
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    check_mount(spec.mounts[i], at("mounts", i), findings);
    check_idmap(spec, spec.mounts[i], at("mounts", i), findings);
  }
  check_hooks(spec.hooks, findings);
  if (spec.annotations.contains("")) findings.add("annotations", "has an empty key");
  check_linux(spec, findings);
  return findings.take();
}

}  // namespace skink::oci
