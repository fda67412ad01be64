// SPDX-License-Identifier: Apache-2.0
#include "plan/parse_options.h"

#include <arpa/inet.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "base/text.h"
#include "plan/run_mounts.h"

namespace skink::plan {
namespace {

Error bad(std::string_view value, std::string_view expected) {
  return Error::make(Code::invalid_config, quoted(value), ": expected ", expected);
}

bool is_letter_or_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < ' ' || byte == 0x7f;
  });
}

bool has_space(std::string_view text) { return text.find_first_of(" \t\v\f\r\n") != std::string_view::npos; }

bool is_domain(std::string_view text) {
  return !text.empty() && text.size() <= 253 && text.front() != '-' && text.front() != '.' &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_letter_or_digit(c) || c == '-' || c == '.' || c == '_'; });
}

bool is_address(const std::string& text) {
  in6_addr buffer{};
  return ::inet_pton(AF_INET, text.c_str(), &buffer) == 1 || ::inet_pton(AF_INET6, text.c_str(), &buffer) == 1;
}

std::optional<std::uint64_t> limit_value(std::string_view text) {
  if (text == "-1" || text == "unlimited") return std::uint64_t{RLIM_INFINITY};
  return parse_int<std::uint64_t>(text);
}

bool is_access(std::string_view text) {
  return !text.empty() && text.find_first_not_of("rwm") == std::string_view::npos;
}

std::optional<std::optional<std::int64_t>> device_number(std::string_view text) {
  if (text == "*") return std::optional<std::int64_t>();
  const auto number = parse_int<std::uint32_t>(text);
  if (!number) return std::nullopt;
  return std::optional<std::int64_t>(*number);
}

}  // namespace

// ---- limits and devices ----

Result<oci::Rlimit> parse_ulimit(std::string_view text) {
  constexpr std::string_view kForm = "NAME=SOFT[:HARD], as in nofile=1024:2048";
  const auto pair = split_once(text, '=');
  if (!pair) return bad(text, kForm);
  oci::Rlimit limit;
  limit.resource = oci::rlimit_number(pair->first);
  if (limit.resource < 0)
    return Error::make(Code::invalid_config, quoted(text), ": no such limit ", quoted(pair->first), "; expected ",
                       kForm);
  const auto values = split_once(pair->second, ':');
  const auto soft = limit_value(values ? values->first : pair->second);
  const auto hard = values ? limit_value(values->second) : soft;
  if (!soft || !hard) return bad(text, kForm);
  if (*soft > *hard) return bad(text, "a soft limit that is not above the hard one");
  limit.soft = *soft;
  limit.hard = *hard;
  return limit;
}

Result<double> parse_cpus(std::string_view text) {
  constexpr std::string_view kForm = "a number of CPUs such as 1.5";
  const auto parts = split_once(text, '.');
  const std::string_view whole = parts ? parts->first : text;
  const std::string_view fraction = parts ? parts->second : std::string_view();
  const auto digits = [](std::string_view part) {
    return part.find_first_not_of("0123456789") == std::string_view::npos;
  };
  if ((whole.empty() && fraction.empty()) || whole.size() > 6 || fraction.size() > 9 || !digits(whole) ||
      !digits(fraction))
    return bad(text, kForm);
  double value = 0, unit = 1;
  for (const char c : whole) value = value * 10 + (c - '0');
  for (const char c : fraction) value += (unit /= 10) * (c - '0');
  return value;
}

Result<std::string> parse_cpuset(std::string_view text) {
  constexpr std::string_view kForm = "numbers and ranges such as 0-3,7";
  for (const std::string_view part : split(text, ',')) {
    const auto range = split_once(part, '-');
    const auto first = parse_int<std::uint16_t>(range ? range->first : part);
    const auto last = range ? parse_int<std::uint16_t>(range->second) : first;
    if (!first || !last || *first > *last) return bad(text, kForm);
  }
  return std::string(text);
}

Result<std::int64_t> parse_number(std::string_view text, std::int64_t least, std::int64_t most) {
  const auto number = parse_int<std::int64_t>(text);
  if (number && *number >= least && *number <= most) return *number;
  if (most == std::numeric_limits<std::int64_t>::max()) return bad(text, str("a whole number of at least ", least));
  return bad(text, str("a whole number from ", least, " to ", most));
}

Result<std::int64_t> parse_storage_opt(std::string_view text) {
  const auto pair = split_once(text, '=');
  if (!pair || pair->first != "size") return bad(text, "size=BYTES, as in size=1g");
  const std::int64_t size = TRY(parse_size(pair->second));
  if (size <= 0) return bad(text, "a size above zero");
  return size;
}

Result<DeviceOption> parse_device(std::string_view text) {
  constexpr std::string_view kForm = "/dev/NAME, /dev/NAME:/dev/INSIDE or /dev/NAME:/dev/INSIDE:rwm";
  const auto parts = split(text, ':');
  if (parts.size() > 3 || !parts[0].starts_with('/')) return bad(text, kForm);
  DeviceOption device{std::string(parts[0]), std::string(parts[0]), "rwm"};
  std::string_view inside = parts[0];
  if (parts.size() == 2 && is_access(parts[1])) device.access = std::string(parts[1]);
  else if (parts.size() >= 2 && !parts[1].empty()) inside = parts[1];
  if (parts.size() == 3) {
    if (!is_access(parts[2])) return bad(text, kForm);
    device.access = std::string(parts[2]);
  }
  auto clean = clean_path(inside);
  if (!clean || *clean == "/" || device.host_path.find('\0') != std::string::npos) return bad(text, kForm);
  device.container_path = *clean;
  return device;
}

Result<oci::DeviceRule> parse_device_rule(std::string_view text) {
  constexpr std::string_view kForm = "TYPE MAJOR:MINOR ACCESS, as in \"c 10:200 rwm\"";
  const auto words = split(text, ' ');
  if (words.size() != 3 || words[0].size() != 1 || std::string_view("abc").find(words[0][0]) == std::string_view::npos)
    return bad(text, kForm);
  const auto numbers = split_once(words[1], ':');
  if (!numbers || !is_access(words[2])) return bad(text, kForm);
  const auto major = device_number(numbers->first);
  const auto minor = device_number(numbers->second);
  if (!major || !minor) return bad(text, kForm);
  return oci::DeviceRule{true, words[0][0], *major, *minor, std::string(words[2])};
}

// ---- security ----

namespace {

Result<void> set_label(std::string_view text, std::string_view value, RunOptions& options) {
  if (value == "disable") {
    options.selinux_label.clear();
    return {};
  }
  const auto parts = split(value, ':');
  if (parts.size() < 3 || has_control(value) || has_space(value))
    return bad(text, "label=disable, or a whole context: label=USER:ROLE:TYPE[:LEVEL]");
  options.selinux_label = std::string(value);
  return {};
}

Result<void> set_seccomp(std::string_view text, std::string_view value, RunOptions& options, std::string& file) {
  if (value.empty()) return bad(text, "seccomp=unconfined, seccomp=builtin or seccomp=FILE");
  options.seccomp_unconfined = value == "unconfined";
  file = value == "unconfined" || value == "builtin" || value == "default" ? std::string() : std::string(value);
  return {};
}

}  // namespace

Result<void> apply_security_opt(std::string_view text, RunOptions& options, std::string& seccomp_file) {
  // docker took NAME:VALUE first and takes it still.
  const auto at = text.find_first_of("=:");
  const std::string_view key = text.substr(0, at);
  const std::string_view value = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  if (key == "seccomp") return set_seccomp(text, value, options, seccomp_file);
  if (key == "label") return set_label(text, value, options);
  if (key == "apparmor") {
    if (value.empty() || has_control(value)) return bad(text, "apparmor=PROFILE or apparmor=unconfined");
    options.apparmor_profile = std::string(value);
    return {};
  }
  if (key == "no-new-privileges") {
    if (!value.empty() && value != "true" && value != "false")
      return bad(text, "no-new-privileges, or no-new-privileges=true or =false");
    options.no_new_privileges = value != "false";
    return {};
  }
  if (key == "systempaths" && value == "unconfined") {
    options.unmask_all = true;
    return {};
  }
  return bad(text,
             "seccomp=unconfined|FILE, apparmor=PROFILE, label=disable|CONTEXT, no-new-privileges[=false] or "
             "systempaths=unconfined");
}

Result<std::string> parse_capability(std::string_view text) {
  if (text == "ALL" || text == "all" || text == "CAP_ALL" || oci::capability_number(text) >= 0)
    return std::string(text);
  return bad(text, "a capability such as NET_ADMIN, or ALL");
}

Result<std::pair<std::string, std::string>> parse_sysctl(std::string_view text) {
  constexpr std::string_view kForm = "KEY=VALUE, as in net.core.somaxconn=1024";
  const auto pair = split_once(text, '=');
  if (!pair || pair->first.empty()) return bad(text, kForm);
  for (const char c : pair->second)
    if (c != '\t' && has_control({&c, 1})) return bad(text, kForm);
  // The key becomes a path below /proc/sys; which keys a container may set is checked with the whole configuration
  // (attack A19, CVE-2022-0811).
  const bool plain = std::all_of(pair->first.begin(), pair->first.end(), [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '/' || c == '_' || c == '-' || c == ':' || c == '*' || c == '@';
  });
  if (!plain || pair->first.find("..") != std::string_view::npos) return bad(text, kForm);
  return std::pair(std::string(pair->first), std::string(pair->second));
}

// ---- names and network ----

Result<std::string> parse_add_host(std::string_view text) {
  constexpr std::string_view kForm = "NAME:IP, as in db:10.0.0.7";
  const std::size_t at = text.find_first_of(":=");
  if (at == std::string_view::npos) return bad(text, kForm);
  const std::string_view name = text.substr(0, at);
  std::string address(text.substr(at + 1));
  if (address == "host-gateway")
    return Error::make(Code::unsupported, quoted(text), ": host-gateway is not there yet: give an IP address");
  if (address.size() > 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  if (!is_domain(name) || !is_address(address)) return bad(text, kForm);
  return str(name, ':', address);
}

Result<std::string> parse_dns(std::string_view text) {
  std::string address(text);
  if (!is_address(address)) return bad(text, "an IP address");
  return address;
}

Result<std::string> parse_dns_search(std::string_view text) {
  if (text != "." && !is_domain(text)) return bad(text, "a domain such as example.org, or . for none");
  return std::string(text);
}

Result<bool> parse_network(std::string_view text) {
  if (text == "none") return false;
  if (text == "host") return true;
  return Error::make(Code::unsupported, quoted(text), ": networks are not there yet: expected none or host");
}

Result<bool> parse_namespace_mode(std::string_view text) {
  if (text.empty() || text == "private") return false;
  if (text == "host") return true;
  if (text.starts_with("container:"))
    return Error::make(Code::unsupported, quoted(text),
                       ": another container's namespaces are not there yet: expected host");
  return bad(text, "host");
}

Error publish_error(std::string_view text) {
  return Error::make(Code::unsupported, quoted(text),
                     ": publishing ports is not there yet: give --network host, and the program listens on the host");
}

// ---- environment and labels ----

Result<std::string> parse_env(std::string_view text) {
  if (text.empty() || text.front() == '=' || text.find('\0') != std::string_view::npos)
    return bad(text, "NAME=VALUE or NAME");
  return std::string(text);
}

Result<std::pair<std::string, std::string>> parse_label(std::string_view text) {
  const auto pair = split_once(text, '=');
  const std::string_view key = pair ? pair->first : text;
  if (key.empty() || has_control(key) || !is_utf8(text)) return bad(text, "KEY=VALUE");
  return std::pair(std::string(key), std::string(pair ? pair->second : std::string_view()));
}

namespace {

/// Calls `use` with the text of every line that is neither blank nor a comment; an error gets file and line.
template <typename Use>
Result<void> each_file_line(std::string_view text, std::string_view file, Use use) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::size_t number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.empty() || line.front() == '#') continue;
    if (!is_utf8(line)) return Error::make(Code::invalid_config, printable(file), ':', number, ": is not UTF-8");
    TRY_CTX(use(line), printable(file), ':', number);
  }
  return {};
}

}  // namespace

Result<oci::Strings> parse_env_file(std::string_view text, std::string_view file) {
  oci::Strings entries;
  TRY(each_file_line(text, file, [&](std::string_view line) -> Result<void> {
    if (has_space(line.substr(0, line.find('=')))) return bad(line, "NAME=VALUE with no space in the name");
    entries.push_back(TRY(parse_env(line)));
    return {};
  }));
  return entries;
}

Result<std::vector<std::pair<std::string, std::string>>> parse_label_file(std::string_view text,
                                                                          std::string_view file) {
  std::vector<std::pair<std::string, std::string>> labels;
  TRY(each_file_line(text, file, [&](std::string_view line) -> Result<void> {
    labels.push_back(TRY(parse_label(line)));
    return {};
  }));
  return labels;
}

}  // namespace skink::plan
