// SPDX-License-Identifier: Apache-2.0
#include "supervise/probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "base/durations.h"
#include "base/text.h"

namespace skink {
namespace {

constexpr std::pair<std::string_view, Probe::Kind> kSchemes[] = {
    {"http", Probe::Kind::http},        {"https", Probe::Kind::https}, {"tcp", Probe::Kind::tcp},
    {"unix", Probe::Kind::unix_socket}, {"grpc", Probe::Kind::grpc},   {"exec", Probe::Kind::exec}};

constexpr std::string_view kOptions = ",interval=T ,timeout=T ,delay=T ,grace=T ,failures=N ,successes=N";

Error refuse(std::string_view text, std::string_view why) {
  return Error::make(Code::invalid_config, quoted(text), ": ", why,
                     "; expected http://:PORT/PATH, https://:PORT/PATH, tcp://:PORT, grpc://:PORT[/SERVICE], "
                     "unix:///PATH or exec:COMMAND, and then ",
                     kOptions);
}

bool is_word(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == ' ';
  });
}

// A misspelt option must not become a part of the path, and all options before it with it.
Result<void> refuse_unknown_options(std::string_view address, std::string_view whole) {
  const auto words = split(address, ',');
  const bool has_options = std::any_of(words.begin() + 1, words.end(), [](std::string_view word) {
    const auto parts = split_once(word, '=');
    return parts && is_word(parts->first);
  });
  if (!has_options) return {};
  // Options are read from the end on, so that the last one was the first that is none.
  const std::string_view name = words.back().substr(0, words.back().find('='));
  constexpr std::pair<std::string_view, std::string_view> kDockers[] = {
      {"retries", "failures"}, {"start-period", "grace"}, {"start_period", "grace"}};
  std::string hint;
  for (const auto& [theirs, ours] : kDockers)
    if (name == theirs) hint = str(" (docker's ", theirs, " is ", ours, ')');
  return Error::make(Code::invalid_config, quoted(whole), ": ", quoted(name), " is no option of a probe", hint,
                     "; there are ", kOptions, "; a comma of the path itself is written %2C");
}

// Of a path in a URL that is not sent to anybody.
std::string with_commas(std::string_view path) {
  constexpr std::string_view kComma = "%2C";
  std::string text;
  while (!path.empty()) {
    const bool escaped = path.starts_with(kComma) || path.starts_with("%2c");
    text += escaped ? ',' : path.front();
    path.remove_prefix(escaped ? kComma.size() : 1);
  }
  return text;
}

// One "key=value" of the options; false when it is none, and so a part of what stands before.
Result<bool> take_option(std::string_view word, Probe& probe) {
  const auto parts = split_once(word, '=');
  if (!parts) return false;
  const auto& [key, value] = *parts;
  constexpr std::pair<std::string_view, std::int64_t Probe::*> kTimes[] = {{"interval", &Probe::interval_ns},
                                                                           {"timeout", &Probe::timeout_ns},
                                                                           {"delay", &Probe::delay_ns},
                                                                           {"grace", &Probe::grace_ns}};
  for (const auto& [name, member] : kTimes)
    if (key == name) {
      probe.*member = TRY_CTX(parse_duration_ns(value), name);
      return true;
    }
  constexpr std::pair<std::string_view, std::uint32_t Probe::*> kCounts[] = {{"failures", &Probe::failures},
                                                                             {"successes", &Probe::successes}};
  for (const auto& [name, member] : kCounts)
    if (key == name) {
      const auto number = parse_int<std::uint32_t>(value);
      if (!number || *number == 0)
        return Error::make(Code::invalid_config, name, ": ", quoted(value), " is no number from 1 on");
      probe.*member = *number;
      return true;
    }
  return false;
}

// So that it can be given again.
std::string without_commas(std::string_view path) {
  std::string text;
  for (const char c : path) text += c == ',' ? std::string("%2C") : std::string(1, c);
  return text;
}

bool is_address(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

// [HOST]:PORT[/PATH]; only addresses, as nothing here looks names up.
Result<void> take_address(std::string_view text, Probe& probe, std::string_view whole) {
  const auto slash = std::min(text.find('/'), text.size());
  const std::string_view where = text.substr(0, slash);
  probe.path = std::string(text.substr(slash));
  const auto colon = where.rfind(':');
  const auto port = colon == std::string_view::npos ? std::nullopt : parse_int<std::uint16_t>(where.substr(colon + 1));
  if (!port || *port == 0) return refuse(whole, "a port is missing");
  probe.port = *port;
  std::string_view host = where.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  probe.address = std::string(host);
  if (!is_address(probe.address))
    return refuse(whole, str("the host ", quoted(host),
                             " is not an IP address, and no names are looked up; without one it is the "
                             "container itself, as in tcp://:",
                             probe.port));
  return {};
}

}  // namespace

Result<Probe> parse_probe(std::string_view whole) {
  Probe probe;
  std::string_view text = whole;
  for (;;) {
    const auto comma = text.rfind(',');
    if (comma == std::string_view::npos || !TRY(take_option(text.substr(comma + 1), probe))) break;
    text = text.substr(0, comma);
  }
  const auto colon = std::min(text.find(':'), text.size());
  for (const auto& [name, kind] : kSchemes)
    if (text.substr(0, colon) == name) probe.kind = kind;
  if (probe.kind == Probe::Kind::none || colon == text.size()) return refuse(whole, "the kind is not known");
  std::string_view rest = text.substr(colon + 1);
  if (probe.kind == Probe::Kind::exec) {
    if (rest.empty()) return refuse(whole, "a command is missing");
    probe.command = {"/bin/sh", "-c", std::string(rest)};
  } else {
    if (!rest.starts_with("//")) return refuse(whole, "// is missing");
    rest.remove_prefix(2);
    TRY(refuse_unknown_options(rest, whole));
    if (probe.kind == Probe::Kind::unix_socket) {
      if (!rest.starts_with('/') || rest.size() > 4000) return refuse(whole, "an absolute path is missing");
      probe.path = with_commas(rest);
    } else {
      TRY(take_address(rest, probe, whole));
    }
  }
  if (probe.interval_ns <= 0 || probe.timeout_ns <= 0) return refuse(whole, "interval and timeout cannot be 0");
  return probe;
}

std::string to_text(const Probe& probe) {
  const std::string host = probe.address.find(':') == std::string::npos ? probe.address : str('[', probe.address, ']');
  switch (probe.kind) {
    case Probe::Kind::none: return "";
    case Probe::Kind::http:
    case Probe::Kind::https:
      return str(probe.kind == Probe::Kind::http ? "http://" : "https://", host, ':', probe.port,
                 probe.path.empty() ? "/" : probe.path);
    case Probe::Kind::tcp: return str("tcp://", host, ':', probe.port);
    case Probe::Kind::grpc: return str("grpc://", host, ':', probe.port, probe.path);
    case Probe::Kind::unix_socket: return str("unix://", without_commas(probe.path));
    case Probe::Kind::exec: break;
  }
  std::string words;
  for (const auto& word : probe.command) words += str(words.empty() ? "" : " ", word);
  return str("exec:", words);
}

namespace supervise {

oci::Json probe_json(const Probe& probe) {
  return oci::Json{{"kind", static_cast<int>(probe.kind)},
                   {"address", probe.address},
                   {"port", probe.port},
                   {"path", probe.path},
                   {"command", probe.command},
                   {"interval_ns", probe.interval_ns},
                   {"timeout_ns", probe.timeout_ns},
                   {"delay_ns", probe.delay_ns},
                   {"grace_ns", probe.grace_ns},
                   {"failures", probe.failures},
                   {"successes", probe.successes}};
}

Probe probe_of(const oci::Json* json) {
  Probe probe;
  if (json == nullptr) return probe;
  const std::int64_t kind = oci::get_int(*json, "kind");
  if (kind <= 0 || kind > static_cast<int>(Probe::Kind::https)) return probe;
  probe.kind = static_cast<Probe::Kind>(kind);
  probe.address = oci::get_string(*json, "address");
  probe.port = static_cast<std::uint16_t>(oci::get_int(*json, "port"));
  probe.path = oci::get_string(*json, "path");
  if (const oci::Json* words = oci::find(*json, "command"); words != nullptr && words->is_array())
    for (const auto& word : *words)
      if (word.is_string()) probe.command.push_back(word.get<std::string>());
  // A file may be damaged; and no time is so long that it overflows a clock.
  constexpr std::int64_t kLongest = 365LL * 24 * 3600 * 1'000'000'000, kMostCount = 1'000'000'000;
  const auto within = [json](std::string_view key, std::int64_t usual, std::int64_t least, std::int64_t most) {
    return std::clamp(oci::get_int(*json, key, usual), least, most);
  };
  probe.interval_ns = within("interval_ns", probe.interval_ns, kMillisecond, kLongest);
  probe.timeout_ns = within("timeout_ns", probe.timeout_ns, kMillisecond, kLongest);
  probe.delay_ns = within("delay_ns", 0, 0, kLongest);
  probe.grace_ns = within("grace_ns", 0, 0, kLongest);
  probe.failures = static_cast<std::uint32_t>(within("failures", probe.failures, 1, kMostCount));
  probe.successes = static_cast<std::uint32_t>(within("successes", probe.successes, 1, kMostCount));
  if (probe.kind == Probe::Kind::exec && probe.command.empty()) probe.kind = Probe::Kind::none;
  return probe;
}

}  // namespace supervise
}  // namespace skink
