// SPDX-License-Identifier: Apache-2.0
#include "cli/changes.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "sys/process.h"

namespace skink::cli {

namespace {

constexpr std::string_view kBlanks = " \t";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::string upper(std::string_view word) {
  std::string name(word);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return name;
}

// Words between blanks; quotes and backslashes keep blanks in a word, as in a Dockerfile.
Result<std::vector<std::string>> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool is_open = false;
  char quote = '\0';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      word += text[++i];
      is_open = true;
    } else if (quote != '\0') {
      if (c == quote) quote = '\0';
      else word += c;
    } else if (c == '"' || c == '\'') {
      quote = c;
      is_open = true;
    } else if (kBlanks.find(c) == kBlanks.npos) {
      word += c;
      is_open = true;
    } else if (is_open) {
      words.push_back(std::exchange(word, {}));
      is_open = false;
    }
  }
  if (quote != '\0') return Error::make(Code::invalid_config, "a quotation mark is not closed");
  if (is_open) words.push_back(std::move(word));
  return words;
}

// ["a", "b"], or nothing when it is not written so.
std::optional<std::vector<std::string>> list_of(std::string_view text) {
  if (!text.starts_with('[')) return std::nullopt;
  const auto json = oci::parse_json(text);
  if (!json || !json->is_array()) return std::nullopt;
  std::vector<std::string> words;
  for (const auto& item : *json) {
    const auto* word = item.get_ptr<const std::string*>();
    if (word == nullptr) return std::nullopt;
    words.push_back(*word);
  }
  return words;
}

Result<void> set_program(oci::Json& config, const char* key, std::string_view text) {
  const auto list = list_of(text);
  config[key] = list ? *list : std::vector<std::string>{"/bin/sh", "-c", std::string(text)};
  return {};
}

// KEY=VALUE..., or of old KEY VALUE.
Result<std::vector<std::pair<std::string, std::string>>> pairs_of(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto words = TRY(words_of(text));
  if (words.front().find('=') == std::string::npos) {
    const std::size_t blank = text.find_first_of(kBlanks);
    if (blank == text.npos) return Error::make(Code::invalid_config, "a value is missing; write KEY=VALUE");
    pairs.emplace_back(text.substr(0, blank), trimmed(text.substr(blank)));
    return pairs;
  }
  for (const auto& word : words) {
    const auto pair = split_once(word, '=');
    if (!pair || pair->first.empty()) return Error::make(Code::invalid_config, quoted(word), " is not KEY=VALUE");
    pairs.emplace_back(pair->first, pair->second);
  }
  return pairs;
}

Result<void> set_environment(oci::Json& config, const char* key, std::string_view text) {
  oci::Json& all = config[key];
  if (!all.is_array()) all = oci::Json::array();
  for (const auto& [name, value] : TRY(pairs_of(text))) {
    const std::string start = name + "=";
    const auto same = std::find_if(all.begin(), all.end(), [&](const oci::Json& one) {
      return one.get_ref<const std::string&>().starts_with(start);
    });
    if (same != all.end()) *same = start + value;
    else all.push_back(start + value);
  }
  return {};
}

Result<void> set_labels(oci::Json& config, const char* key, std::string_view text) {
  for (const auto& [name, value] : TRY(pairs_of(text))) config[key][name] = value;
  return {};
}

Result<void> set_ports(oci::Json& config, const char* key, std::string_view text) {
  for (const auto& word : TRY(words_of(text))) {
    const auto parts = split_once(word, '/');
    const std::string_view protocol = parts ? parts->second : "tcp";
    const auto port = parse_int<std::uint16_t>(parts ? parts->first : std::string_view(word));
    if (!port || (protocol != "tcp" && protocol != "udp" && protocol != "sctp"))
      return Error::make(Code::invalid_config, quoted(word), " is not a port such as 80 or 53/udp");
    config[key][str(*port, '/', protocol)] = oci::Json::object();
  }
  return {};
}

Result<void> set_volumes(oci::Json& config, const char* key, std::string_view text) {
  const auto list = list_of(text);
  for (const auto& word : list ? *list : TRY(words_of(text))) config[key][word] = oci::Json::object();
  return {};
}

Result<void> set_word(oci::Json& config, const char* key, std::string_view text) {
  config[key] = std::string(text);
  return {};
}

Result<void> set_signal(oci::Json& config, const char* key, std::string_view text) {
  if (sys::parse_signal(text) < 0) return Error::make(Code::invalid_config, quoted(text), " is not a signal");
  return set_word(config, key, text);
}

// Durations as Go writes them, "1m30s": docker's options of HEALTHCHECK.
Result<void> set_health_option(oci::Json& check, std::string_view option) {
  constexpr std::array<std::pair<std::string_view, const char*>, 4> kTimes{{{"--interval", "Interval"},
                                                                            {"--timeout", "Timeout"},
                                                                            {"--start-period", "StartPeriod"},
                                                                            {"--start-interval", "StartInterval"}}};
  const auto pair = split_once(option, '=');
  if (!pair) return Error::make(Code::invalid_config, quoted(option), " is not OPTION=VALUE");
  for (const auto& [name, key] : kTimes) {
    if (pair->first != name) continue;
    check[key] = TRY_CTX(parse_duration_ns(pair->second), name);
    return {};
  }
  if (pair->first != "--retries")
    return Error::make(Code::invalid_config, quoted(option),
                       " is not one of --interval=, --timeout=, --start-period=, --start-interval= and --retries=");
  const auto retries = parse_int<std::int32_t>(pair->second);
  if (!retries || *retries < 0) return Error::make(Code::invalid_config, "--retries: ", quoted(pair->second));
  check["Retries"] = *retries;
  return {};
}

// [OPTION=VALUE...] CMD ..., or NONE.
Result<void> set_healthcheck(oci::Json& config, const char* key, std::string_view text) {
  oci::Json check = oci::Json::object();
  while (text.starts_with("--")) {
    const std::size_t end = std::min(text.find_first_of(kBlanks), text.size());
    TRY(set_health_option(check, text.substr(0, end)));
    text = trimmed(text.substr(end));
  }
  const std::size_t end = std::min(text.find_first_of(kBlanks), text.size());
  const std::string how = upper(text.substr(0, end));
  const std::string_view rest = trimmed(text.substr(end));
  if (how == "NONE" && rest.empty() && check.empty()) {
    check["Test"] = {"NONE"};
  } else if (how == "CMD" && !rest.empty()) {
    std::vector<std::string> test{"CMD-SHELL", std::string(rest)};
    if (const auto list = list_of(rest)) {
      test = {"CMD"};
      test.insert(test.end(), list->begin(), list->end());
    }
    check["Test"] = test;
  } else {
    return Error::make(Code::invalid_config, "write NONE alone, or [OPTION=VALUE...] CMD and a command");
  }
  config[key] = std::move(check);
  return {};
}

// For builders alone: nothing here runs it.
Result<void> add_trigger(oci::Json& config, const char* key, std::string_view text) {
  const std::string name = upper(text.substr(0, std::min(text.find_first_of(kBlanks), text.size())));
  for (const std::string_view refused : {"ONBUILD", "FROM", "MAINTAINER"})
    if (name == refused) return Error::make(Code::invalid_config, name, " cannot be a trigger");
  if (!config[key].is_array()) config[key] = oci::Json::array();
  config[key].push_back(std::string(text));
  return {};
}

struct Instruction {
  std::string_view name;
  const char* key;
  Result<void> (*set)(oci::Json& config, const char* key, std::string_view text);
};

constexpr std::array<Instruction, 11> kInstructions{{
    {"CMD", "Cmd", set_program},
    {"ENTRYPOINT", "Entrypoint", set_program},
    {"ENV", "Env", set_environment},
    {"EXPOSE", "ExposedPorts", set_ports},
    {"HEALTHCHECK", "Healthcheck", set_healthcheck},
    {"LABEL", "Labels", set_labels},
    {"ONBUILD", "OnBuild", add_trigger},
    {"STOPSIGNAL", "StopSignal", set_signal},
    {"USER", "User", set_word},
    {"VOLUME", "Volumes", set_volumes},
    {"WORKDIR", "WorkingDir", set_word},
}};

}  // namespace

Result<void> apply_change(oci::Json& config, std::string_view instruction) {
  const std::string_view text = trimmed(instruction);
  const std::size_t end = std::min(text.find_first_of(kBlanks), text.size());
  const std::string name = upper(text.substr(0, end));
  const std::string_view rest = trimmed(text.substr(end));
  for (const Instruction& each : kInstructions) {
    if (each.name != name) continue;
    if (rest.empty()) return Error::make(Code::invalid_config, name, ": nothing follows it");
    TRY_CTX(each.set(config, each.key, rest), name);
    return {};
  }
  std::string known;
  for (const Instruction& each : kInstructions) known += str(known.empty() ? "" : ", ", each.name);
  return Error::make(Code::invalid_config, quoted(name), " is not one of ", known);
}

}  // namespace skink::cli
