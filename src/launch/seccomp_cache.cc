// SPDX-License-Identifier: Apache-2.0
#include "launch/seccomp_cache.h"

#include <cstring>

#include "base/sha256.h"
#include "base/text.h"
#include "fs/dir.h"

namespace skink::launch {
namespace {

constexpr std::size_t kMostInstructions = 4096;  // BPF_MAXINSNS

// File: magic, flags, listener, sha256 of the instructions, instructions.
struct Header {
  char magic[8];
  std::uint32_t flags;
  std::uint32_t listener;
  std::uint32_t lets_start;
  Sha256::Bytes digest;
};
constexpr char kMagic[8] = {'s', 'k', 'b', 'p', 'f', '0', '3', 0};

// With the version in it, so that what another version has left can be told.
constexpr std::string_view kPrefix = "seccomp-" SKINK_VERSION "-";

// Every part of the profile with its length, so that no two profiles give the same bytes.
std::string key_of(const oci::Seccomp& profile) {
  std::string text;
  const auto add = [&](std::string_view piece) { text += str(piece.size(), ':', piece, ','); };
  const auto add_all = [&](const oci::Strings& pieces) {
    text += str(pieces.size(), '[');
    for (const auto& piece : pieces) add(piece);
    text += ']';
  };
  add(profile.default_action);
  add(profile.default_errno_ret ? str(*profile.default_errno_ret) : "-");
  add_all(profile.architectures);
  add_all(profile.flags);
  for (const auto& rule : profile.syscalls) {
    add_all(rule.names);
    add(rule.action);
    add(rule.errno_ret ? str(*rule.errno_ret) : "-");
    for (const auto& arg : rule.args) text += str(arg.index, ' ', arg.value, ' ', arg.value_two, ' ', arg.op, ';');
    text += '|';
  }
  const auto digest = Sha256::of(text);
  return str(kPrefix, to_hex(digest.data(), digest.size()));
}

bool read_cached(int cache_fd, const std::string& name, security::SeccompProgram& program) {
  const auto bytes = fs::read_file(cache_fd, name.c_str(), sizeof(Header) + kMostInstructions * 8);
  if (!bytes || bytes->size() <= sizeof(Header) || (bytes->size() - sizeof(Header)) % 8 != 0) return false;
  Header header{};
  std::memcpy(&header, bytes->data(), sizeof header);
  std::string bpf = bytes->substr(sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.digest != Sha256::of(bpf)) return false;
  program.bpf = std::move(bpf);
  program.flags = header.flags;
  program.needs_listener = header.listener != 0;
  program.lets_start = header.lets_start != 0;
  return true;
}

}  // namespace

bool is_of_other_version(std::string_view entry) {
  return entry.starts_with("seccomp-") && !entry.starts_with(kPrefix);
}

Result<security::SeccompProgram> cached_seccomp(const oci::Seccomp& profile, int cache_fd) {
  if (cache_fd < 0) return security::compile_seccomp(profile);
  const std::string name = key_of(profile);
  security::SeccompProgram program;
  if (read_cached(cache_fd, name, program)) return program;
  program = TRY(security::compile_seccomp(profile));
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.flags = program.flags;
  header.listener = program.needs_listener ? 1 : 0;
  header.lets_start = program.lets_start ? 1 : 0;
  header.digest = Sha256::of(program.bpf);
  std::string file(reinterpret_cast<const char*>(&header), sizeof header);
  file += program.bpf;
  // Not being able to keep it (a full disk) costs time, not correctness.
  (void)fs::write_file_atomic(cache_fd, name.c_str(), file, 0600);
  return program;
}

}  // namespace skink::launch
