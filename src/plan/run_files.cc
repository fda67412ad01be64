// SPDX-License-Identifier: Apache-2.0
// The texts of /etc/hosts and /etc/resolv.conf in a container.
#include <arpa/inet.h>

#include <algorithm>

#include "base/text.h"
#include "plan/run_options.h"

namespace skink::plan {
namespace {

bool is_server(const std::string& text) {
  in6_addr buffer{};
  const std::string bare = text.substr(0, text.find('%'));  // fe80::1%eth0
  return ::inet_pton(AF_INET, text.c_str(), &buffer) == 1 || ::inet_pton(AF_INET6, bare.c_str(), &buffer) == 1;
}

/// An address that means the container itself where the host meant the host.
bool is_loopback(std::string_view address) {
  return address.starts_with("127.") || address == "::1" || address == "0.0.0.0" || address == "::";
}

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : line.substr(0, line.find_first_of("#;"))) {
    if (c != ' ' && c != '\t' && c != '\r') {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, {}));
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

/// The parts of a resolv.conf(5) that a container takes over.
struct Resolver {
  std::vector<std::string> nameservers, search, options;
};

Resolver read_resolver(const std::string& text) {
  Resolver resolver;
  for (const std::string_view line : split(text, '\n')) {
    std::vector<std::string> words = words_of(line);
    if (words.size() < 2) continue;
    const std::string key = words.front();
    words.erase(words.begin());
    if (key == "nameserver") resolver.nameservers.push_back(words.front());
    if (key == "search" || key == "domain") resolver.search = words;  // the last one counts
    if (key == "options") resolver.options.insert(resolver.options.end(), words.begin(), words.end());
  }
  return resolver;
}

void append_line(std::string& out, std::string_view key, const std::vector<std::string>& words) {
  if (words.empty()) return;
  out += key;
  for (const std::string& word : words) out += str(' ', word);
  out += '\n';
}

}  // namespace

std::string make_hosts(const RunOptions& options, const std::string& hostname) {
  std::string text =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\n"
      "ff00::0\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  for (const std::string& entry : options.add_host)
    if (const auto parts = split_once(entry, ':')) text += str(parts->second, '\t', parts->first, '\n');
  if (!hostname.empty()) {
    const std::string_view first = std::string_view(hostname).substr(0, hostname.find('.'));
    text += str("127.0.1.1\t", hostname);
    if (first.size() != hostname.size() && !first.empty()) text += str(' ', first);
    text += '\n';
  }
  return text;
}

Result<std::string> make_resolv_conf(const RunOptions& options, const std::string& host_resolv) {
  Resolver resolver = read_resolver(host_resolv);
  if (!options.dns.empty()) {
    for (const std::string& address : options.dns)
      if (!is_server(address))
        return Error::make(Code::invalid_config, "--dns ", quoted(address), ": expected an IP address");
    resolver.nameservers = options.dns;
  } else if (!options.host_network) {
    // A resolver on the host's loopback is not on the container's. Where there is no other, the host's text stands: it
    // says at least what was meant.
    std::vector<std::string> reachable = resolver.nameservers;
    std::erase_if(reachable, [](const std::string& address) { return is_loopback(address); });
    if (!reachable.empty()) resolver.nameservers = std::move(reachable);
  }
  if (!options.dns_search.empty()) {
    resolver.search = options.dns_search;
    std::erase(resolver.search, ".");  // "--dns-search ." is docker's way to have none
  }
  for (const std::string& domain : resolver.search)
    if (domain.find_first_of("\n\r\t ") != std::string::npos)
      return Error::make(Code::invalid_config, "--dns-search ", quoted(domain), ": expected a domain name");
  std::string text;
  append_line(text, "search", resolver.search);
  for (const std::string& address : resolver.nameservers) text += str("nameserver ", address, '\n');
  append_line(text, "options", resolver.options);
  return text;
}

}  // namespace skink::plan
