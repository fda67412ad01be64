// SPDX-License-Identifier: Apache-2.0
#include "plan/mount_options.h"

#include <linux/mount.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/table_text.h"
#include "base/text.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

namespace skink::plan {
namespace {

constexpr unsigned kMsRec = 16384, kMsUnbindable = 1U << 17, kMsPrivate = 1U << 18, kMsSlave = 1U << 19,
                   kMsShared = 1U << 20;

struct Attribute {
  TableText<14> word;
  std::uint64_t set, clear;
};

// Each of these has a recursive form with an "r" in front. Setting one access time mode clears the two others first.
constexpr std::array<Attribute, 18> kAttributes{{
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    // Not the kernel's default, which is relatime: one has to ask for strictatime.
    {"norelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
}};

struct Propagation {
  std::string_view word;
  unsigned flag;
};
constexpr std::array<Propagation, 4> kPropagations{
    {{"private", kMsPrivate}, {"slave", kMsSlave}, {"shared", kMsShared}, {"unbindable", kMsUnbindable}}};

// Flags of the superblock, which fsconfig takes under their mount(8) names.
constexpr std::array<std::string_view, 6> kSuperblock{"sync", "dirsync", "mand", "lazytime", "async", "nolazytime"};
// Words without an effect on a new mount: defaults, what is for mount(8) itself, and what a kernel no longer has. That
// counts file versions (iversion) where the file system has any, whatever is said: fsconfig(2) knows no such flag.
constexpr std::array<std::string_view, 10> kNothing{"defaults",   "loud", "silent", "nomand", "iversion",
                                                    "noiversion", "acl",  "noacl",  "nofail", ""};

const Attribute* find_attribute(std::string_view word) {
  for (const auto& each : kAttributes)
    if (each.word == word) return &each;
  return nullptr;
}

void add(std::uint64_t& set, std::uint64_t& clear, const Attribute& what) {
  set = (set & ~what.clear) | what.set;
  clear = (clear & ~what.set) | what.clear;
}

// Access times of a bind. A word that only says what is not wanted leaves those of the source, as with mount(8): the
// kernel takes them all from the source unless one is asked for, and then none.
struct BindTimes {
  std::optional<std::uint64_t> mode;
  bool no_directories = false;

  void take(std::string_view word) {
    if (word == "noatime") mode = MOUNT_ATTR_NOATIME;
    else if (word == "strictatime") mode = MOUNT_ATTR_STRICTATIME;
    else if (word == "relatime") mode = MOUNT_ATTR_RELATIME;
    else if (word == "nodiratime" || word == "diratime") no_directories = word == "nodiratime";
    else if (word == "atime") drop(MOUNT_ATTR_NOATIME);
    else if (word == "nostrictatime") drop(MOUNT_ATTR_STRICTATIME);
    else if (word == "norelatime") drop(MOUNT_ATTR_RELATIME);
  }
  void drop(std::uint64_t other) {
    if (mode == other) mode.reset();
  }
};

void replace_flags(MountOptions& out, const BindTimes& times) {
  constexpr std::uint64_t kFlags =
      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
  out.named_clear = out.attr_clear & kFlags;
  out.attr_set &= kFlags;
  out.attr_clear = kFlags & ~out.attr_set;
  if (!times.mode && !times.no_directories) return;
  out.attr_set |= times.mode.value_or(MOUNT_ATTR_RELATIME);
  out.attr_clear |= MOUNT_ATTR__ATIME;
  (times.no_directories ? out.attr_set : out.attr_clear) |= MOUNT_ATTR_NODIRATIME;
}

bool apply_switch(MountOptions& out, std::string_view word) {
  if (word == "bind" || word == "rbind") {
    out.bind = true;
    // "bind" beside it takes nothing back, as for mount(2), where it is the same flag and one more.
    out.recursive = out.recursive || word == "rbind";
  } else if (word == "remount") {
    out.remount = true;
  } else if (word == "tmpcopyup") {
    out.copy_up = true;
  } else if (word == "src-nofollow") {
    out.source_nofollow = true;
  } else if (word == "src-flags") {
    out.source_flags = true;
  } else if (word == "copy-symlink") {
    out.copy_symlink = true;
  } else if (word == "dest-nofollow") {
    out.dest_nofollow = true;
  } else if (word == "idmap" || word == "ridmap" || word.starts_with("idmap=") || word.starts_with("ridmap=")) {
    out.idmap = true;
    out.idmap_recursive = word.starts_with('r');
    const auto mapping = split_once(word, '=');
    if (mapping) out.idmap_text = mapping->second;
  } else {
    return false;
  }
  return true;
}

bool apply_attribute(MountOptions& out, BindTimes& times, std::string_view word) {
  if (const auto* plain = find_attribute(word)) {
    add(out.attr_set, out.attr_clear, *plain);
    times.take(word);
    out.replaces_flags = out.bind;
    return true;
  }
  const auto* recursive = word.starts_with('r') ? find_attribute(word.substr(1)) : nullptr;
  if (recursive == nullptr) return false;
  add(out.rec_set, out.rec_clear, *recursive);
  return true;
}

template <typename List>
bool contains(const List& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

}  // namespace

std::optional<unsigned> parse_propagation(const std::string& word) {
  std::string_view name(word);
  const bool recursive = name.starts_with('r');
  if (recursive) name.remove_prefix(1);
  for (const auto& each : kPropagations)
    if (each.word == name) return each.flag | (recursive ? kMsRec : 0);
  return std::nullopt;
}

MountOptions parse_mount_options(const oci::Mount& mount) {
  MountOptions out;
  const auto is_bind = [](const std::string& word) { return word == "bind" || word == "rbind"; };
  out.bind = mount.type == "bind" || std::any_of(mount.options.begin(), mount.options.end(), is_bind);
  BindTimes times;
  for (const auto& word : mount.options) {
    if (apply_switch(out, word) || apply_attribute(out, times, word) || contains(kNothing, word)) continue;
    if (const auto propagation = parse_propagation(word)) {
      out.propagation = *propagation & ~kMsRec;
      out.propagation_recursive = (*propagation & kMsRec) != 0;
      continue;
    }
    if (contains(kSuperblock, word)) {
      out.params.emplace_back(word, std::nullopt);
      continue;
    }
    const auto pair = split_once(word, '=');
    if (pair) out.params.emplace_back(std::string(pair->first), std::string(pair->second));
    else out.params.emplace_back(word, std::nullopt);
  }
  out.replaces_flags = out.replaces_flags && !out.remount && !out.source_flags;
  if (out.replaces_flags) replace_flags(out, times);
  return out;
}

std::vector<std::string> known_mount_options() {
  std::vector<std::string> words{"bind",          "rbind",        "remount",   "tmpcopyup", "src-nofollow",
                                 "dest-nofollow", "copy-symlink", "src-flags", "idmap",     "ridmap"};
  for (const auto& each : kAttributes) {
    words.emplace_back(each.word);
    words.push_back(str('r', each.word));
  }
  for (const auto& each : kPropagations) {
    words.emplace_back(each.word);
    words.push_back(str('r', each.word));
  }
  for (const auto word : kSuperblock) words.emplace_back(word);
  for (const auto word : kNothing)
    if (!word.empty() && word != "nofail") words.emplace_back(word);
  std::sort(words.begin(), words.end());
  return words;
}

}  // namespace skink::plan
