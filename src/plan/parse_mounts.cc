// SPDX-License-Identifier: Apache-2.0
// -v, --mount and --tmpfs. Option words are looked up in tables and everything else is an error: what reaches the
// kernel as a mount option is never a stranger's text (attack A57, CVE-2024-9407).
#include <algorithm>

#include "base/table_text.h"
#include "base/text.h"
#include "plan/mount_options.h"
#include "plan/parse_options.h"
#include "plan/run_mounts.h"

namespace skink::plan {
namespace {

constexpr std::string_view kNoNamedVolumes = "named volumes are not there yet: give an absolute host path";

constexpr TableText<14> kAttributeWords[] = {
    "ro",      "rw",    "nosuid",   "suid",       "nodev",    "dev",        "noexec",      "exec",
    "noatime", "atime", "relatime", "norelatime", "diratime", "nodiratime", "strictatime", "nostrictatime",
};
// docker's words for macOS, for SELinux and for volumes that it made itself: nothing to do here.
constexpr std::string_view kIgnored[] = {"z", "Z", "cached", "delegated", "consistent", "nocopy"};
constexpr std::string_view kSync[] = {"sync", "async", "dirsync"};

template <typename Text, std::size_t N>
bool is_one_of(const Text (&words)[N], std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

bool has_word(const oci::Strings& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

Error bad_mount(std::string_view value, std::string_view why) {
  return Error::make(Code::invalid_config, quoted(value), ": ", why);
}

/// The words with each in the list at most once, and of "ro" and "rw" only one.
Result<void> add_word(oci::Strings& words, std::string_view word, std::string_view whole) {
  const bool opposite = (word == "rw" && (has_word(words, "ro") || has_word(words, "rro"))) ||
                        ((word == "ro" || word == "rro") && has_word(words, "rw"));
  if (opposite) return bad_mount(whole, "read-only and read-write at once");
  if (!has_word(words, word)) words.emplace_back(word);
  return {};
}

/// Read-only means the whole tree, as docker has it: a file system mounted below the source is not left writable.
Result<void> add_read_only(oci::Strings& words, std::string_view whole) {
  TRY(add_word(words, "ro", whole));
  return add_word(words, "rro", whole);
}

Result<void> add_volume_word(oci::Strings& words, std::string_view word, std::string_view whole) {
  if (is_one_of(kIgnored, word)) return {};
  if (word == "ro" || word == "rro") return add_read_only(words, whole);
  const bool known = word == "bind" || word == "rbind" || is_one_of(kAttributeWords, word) ||
                     parse_propagation(std::string(word)).has_value();
  if (!known)
    return Error::make(Code::invalid_config, quoted(whole), ": unknown option ", quoted(word),
                       "; expected ro, rw, noexec, nosuid, nodev, rprivate, rslave, rshared or bind");
  return add_word(words, word, whole);
}

Result<std::string> bind_source(std::string_view source, std::string_view whole) {
  if (source.empty()) return bad_mount(whole, "the source is empty; expected SRC:DST");
  if (!source.starts_with('/')) return bad_mount(whole, kNoNamedVolumes);
  if (source.find('\0') != std::string_view::npos) return bad_mount(whole, "the source has a NUL byte");
  return std::string(source);
}

Result<std::string> destination(std::string_view path, std::string_view whole) {
  auto clean = clean_path(path);
  if (!clean) return std::move(clean).error().context(quoted(whole), ": destination ", quoted(path));
  if (*clean == "/") return bad_mount(whole, "the destination is /; give a directory in the container");
  return clean;
}

// ---- tmpfs options ----

Result<std::string> tmpfs_size(std::string_view value, std::string_view whole) {
  if (value.ends_with('%')) {
    const auto percent = parse_int<unsigned>(value.substr(0, value.size() - 1));
    if (!percent || *percent == 0 || *percent > 100) return bad_mount(whole, "size: expected 1% to 100%");
    return str("size=", *percent, '%');
  }
  const std::int64_t bytes = TRY_CTX(parse_size(value), quoted(whole), ": size");
  if (bytes < 0) return bad_mount(whole, "size: expected a size such as 64m, or 0 for no limit");
  return str("size=", bytes);
}

Result<std::string> tmpfs_mode(std::string_view value, std::string_view whole) {
  const auto mode = parse_int<unsigned>(value, 8);
  if (!mode || *mode > 07777 || value.starts_with('-'))
    return bad_mount(whole, "mode: expected octal digits such as 1777");
  return str("mode=", value);
}

Result<void> add_tmpfs_word(oci::Strings& words, std::string_view word, std::string_view whole) {
  const auto pair = split_once(word, '=');
  if (!pair) {
    const bool known = is_one_of(kAttributeWords, word) || is_one_of(kSync, word) || word == "tmpcopyup" ||
                       word == "notmpcopyup" || parse_propagation(std::string(word)).has_value();
    if (!known)
      return Error::make(Code::invalid_config, quoted(whole), ": unknown option ", quoted(word),
                         "; expected size=64m, mode=1777, uid=, gid=, nr_inodes=, ro, exec, suid, dev or notmpcopyup");
    return add_word(words, word, whole);
  }
  const auto& [key, value] = *pair;
  if (key == "size") {
    words.push_back(TRY(tmpfs_size(value, whole)));
  } else if (key == "mode") {
    words.push_back(TRY(tmpfs_mode(value, whole)));
  } else if (key == "uid" || key == "gid" || key == "nr_inodes") {
    const auto number = parse_int<std::uint32_t>(value);
    if (!number || *number == 0xffffffff) return bad_mount(whole, str(key, ": expected a number"));
    words.push_back(str(key, '=', *number));
  } else {
    return Error::make(Code::invalid_config, quoted(whole), ": unknown option ", quoted(key),
                       "; expected size, mode, uid, gid or nr_inodes");
  }
  return {};
}

// ---- --mount ----

/// One line of comma-separated values: a field in double quotes may hold commas, "" in it is one quote (RFC 4180).
Result<std::vector<std::string>> csv_fields(std::string_view text) {
  std::vector<std::string> fields(1);
  bool in_quotes = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_quotes && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      fields.back() += text[i++];
    } else if (c == '"' && (in_quotes || fields.back().empty())) {
      in_quotes = !in_quotes;
    } else if (c == ',' && !in_quotes) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  if (in_quotes) return bad_mount(text, "a quote is not closed");
  return fields;
}

struct MountRequest {
  std::string_view whole;
  std::string type, source, target;
  oci::Strings bind_words, tmpfs_words;
};

Result<bool> switch_value(std::string_view value, std::string_view key, std::string_view whole) {
  if (value.empty() || value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return bad_mount(whole, str(key, ": expected true or false"));
}

Result<void> set_bind_recursion(MountRequest& request, std::string_view value) {
  if (value == "enabled") return {};
  if (value == "disabled") return add_word(request.bind_words, "bind", request.whole);
  if (value == "readonly") return add_word(request.bind_words, "rro", request.whole);
  if (value != "writable")
    return bad_mount(request.whole, "bind-recursive: expected enabled, disabled, writable or readonly");
  std::erase(request.bind_words, "rro");
  return {};
}

Result<void> set_mount_key(MountRequest& request, std::string_view key, std::string_view value) {
  const std::string_view whole = request.whole;
  if (key == "type") {
    request.type = std::string(value);
  } else if (key == "source" || key == "src") {
    request.source = std::string(value);
  } else if (key == "target" || key == "destination" || key == "dst") {
    request.target = std::string(value);
  } else if (key == "readonly" || key == "ro") {
    if (!TRY(switch_value(value, key, whole))) return {};
    TRY(add_read_only(request.bind_words, whole));
    TRY(add_word(request.tmpfs_words, "ro", whole));
  } else if (key == "bind-propagation") {
    if (!parse_propagation(std::string(value)))
      return bad_mount(whole, "bind-propagation: expected rprivate, private, rslave, slave, rshared or shared");
    request.bind_words.emplace_back(value);
  } else if (key == "bind-nonrecursive") {
    if (TRY(switch_value(value, key, whole))) return add_word(request.bind_words, "bind", whole);
  } else if (key == "bind-recursive") {
    return set_bind_recursion(request, value);
  } else if (key == "tmpfs-size") {
    request.tmpfs_words.push_back(TRY(tmpfs_size(value, whole)));
  } else if (key == "tmpfs-mode") {
    request.tmpfs_words.push_back(TRY(tmpfs_mode(value, whole)));
  } else if (key != "consistency") {
    return Error::make(Code::invalid_config, quoted(whole), ": unknown field ", quoted(key),
                       "; expected type, source, target, readonly, bind-propagation, bind-recursive, tmpfs-size or "
                       "tmpfs-mode");
  }
  return {};
}

Result<void> check_mount_keys(std::string_view text, std::string_view type, std::string_view key) {
  const bool other = (type == "tmpfs" && key.starts_with("bind-")) || (type == "bind" && key.starts_with("tmpfs-"));
  if (other) return bad_mount(text, str(key, " is not a field of a ", type, " mount"));
  return {};
}

}  // namespace

Result<VolumeOption> parse_volume(std::string_view text) {
  const auto parts = split(text, ':');
  if (parts.size() == 1 && text.starts_with('/'))
    return bad_mount(text, "anonymous volumes are not there yet: give SRC:DST, or --tmpfs DST");
  if (parts.size() < 2 || parts.size() > 3) return bad_mount(text, "expected SRC:DST or SRC:DST:OPTION,...");
  VolumeOption volume;
  volume.source = TRY(bind_source(parts[0], text));
  volume.destination = TRY(destination(parts[1], text));
  if (parts.size() == 3)
    for (const std::string_view word : split(parts[2], ',')) TRY(add_volume_word(volume.options, word, text));
  return volume;
}

Result<VolumeOption> parse_mount(std::string_view text) {
  MountRequest request;
  request.whole = text;
  const std::vector<std::string> fields = TRY(csv_fields(text));
  for (const std::string& field : fields) {
    const auto pair = split_once(field, '=');
    TRY(set_mount_key(request, pair ? pair->first : std::string_view(field), pair ? pair->second : std::string_view()));
  }
  if (request.type.empty() || request.type == "volume") return bad_mount(text, kNoNamedVolumes);
  if (request.type != "bind" && request.type != "tmpfs") return bad_mount(text, "type: expected bind or tmpfs");
  for (const std::string& field : fields) TRY(check_mount_keys(text, request.type, field.substr(0, field.find('='))));
  VolumeOption volume;
  volume.destination = TRY(destination(request.target, text));
  if (request.type == "bind") {
    volume.source = TRY(bind_source(request.source, text));
    volume.options = std::move(request.bind_words);
    return volume;
  }
  if (!request.source.empty()) return bad_mount(text, "a tmpfs mount has no source");
  volume.kind = VolumeOption::Kind::tmpfs;
  volume.options = std::move(request.tmpfs_words);
  return volume;
}

Result<VolumeOption> parse_tmpfs(std::string_view text) {
  const auto pair = split_once(text, ':');
  VolumeOption volume;
  volume.kind = VolumeOption::Kind::tmpfs;
  volume.destination = TRY(destination(pair ? pair->first : text, text));
  if (pair && !pair->second.empty())
    for (const std::string_view word : split(pair->second, ',')) TRY(add_tmpfs_word(volume.options, word, text));
  return volume;
}

}  // namespace skink::plan
