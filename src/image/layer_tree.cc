// SPDX-License-Identifier: Apache-2.0
#include "image/layer_tree.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "image/path.h"

namespace skink::image::erofs {
namespace {

constexpr std::size_t kTextChunk = 1U << 20;
constexpr std::size_t kTextChunksMost = 128;
constexpr std::size_t kDirectoriesMost = 1'000'000;  // one name of an entry can imply 512

void sip_round(std::uint64_t (&v)[4]) {
  v[0] += v[1];
  v[1] = std::rotl(v[1], 13) ^ v[0];
  v[0] = std::rotl(v[0], 32);
  v[2] += v[3];
  v[3] = std::rotl(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = std::rotl(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = std::rotl(v[1], 17) ^ v[2];
  v[2] = std::rotl(v[2], 32);
}

}  // namespace

LayerTree::LayerTree() : slots_(1024) {
  // A weak key would only cost time, never change what is written.
  if (::getrandom(key_, sizeof key_, 0) != static_cast<ssize_t>(sizeof key_)) key_[0] = 0x736b696e6b;
  directories.emplace_back();
}

// SipHash-1-3: whoever makes the tar cannot choose names that all fall into one place.
std::uint64_t LayerTree::hash(std::uint32_t directory, std::string_view name) const {
  std::uint64_t v[4] = {key_[0] ^ 0x736f6d6570736575, key_[1] ^ 0x646f72616e646f6d, key_[0] ^ 0x6c7967656e657261,
                        key_[1] ^ 0x7465646279746573};
  const auto mix = [&](std::uint64_t word) {
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  };
  mix((std::uint64_t{directory} << 32) | name.size());
  while (!name.empty()) {
    std::uint64_t word = 0;
    const std::size_t count = std::min(name.size(), sizeof word);
    std::memcpy(&word, name.data(), count);
    name.remove_prefix(count);
    mix(word);
  }
  v[2] ^= 0xff;
  for (int i = 0; i < 3; ++i) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

std::string_view LayerTree::text_of(const Name& name) const {
  const char* at = texts_[name.text / kTextChunk].get() + name.text % kTextChunk;
  return {at + 1, static_cast<unsigned char>(*at)};
}

// Where the entry of this name is in slots_, or would be.
std::size_t LayerTree::slot_of(std::uint32_t directory, std::string_view name) const {
  std::size_t slot = hash(directory, name) & (slots_.size() - 1);
  for (; slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
    const Name& there = names[slots_[slot] - 1];
    if (there.directory == directory && text_of(there) == name) break;
  }
  return slot;
}

const LayerTree::Name* LayerTree::find(std::uint32_t directory, std::string_view name) const {
  const std::uint32_t number = slots_[slot_of(directory, name)];
  return number == 0 ? nullptr : &names[number - 1];
}

void LayerTree::grow() {
  slots_.assign(slots_.size() * 2, 0);
  for (std::uint32_t number = 0; number < names.size(); ++number)
    slots_[slot_of(names[number].directory, text_of(names[number]))] = number + 1;
}

Result<std::uint32_t> LayerTree::keep_text(std::string_view name) {
  if (texts_.empty() || text_used_ + 1 + name.size() > kTextChunk) {
    if (texts_.size() == kTextChunksMost)
      return Error::make(Code::unsupported, "names of more than ", kTextChunksMost, " MiB in one layer");
    texts_.push_back(std::make_unique<char[]>(kTextChunk));
    text_used_ = 0;
  }
  char* at = texts_.back().get() + text_used_;
  *at = static_cast<char>(name.size());
  std::memcpy(at + 1, name.data(), name.size());
  const auto text = static_cast<std::uint32_t>((texts_.size() - 1) * kTextChunk + text_used_);
  text_used_ += 1 + name.size();
  return text;
}

Result<void> LayerTree::put(std::uint32_t directory, std::string_view name, FileType type, std::uint32_t target) {
  if (name.size() > kComponentMost) return Error::from_errno(ENAMETOOLONG, printable(name));
  std::size_t slot = slot_of(directory, name);
  if (slots_[slot] == 0) {
    if ((names.size() + 1) * 4 > slots_.size() * 3) {
      grow();
      slot = slot_of(directory, name);
    }
    names.push_back({.text = TRY(keep_text(name)), .directory = directory});
    slots_[slot] = static_cast<std::uint32_t>(names.size());
  }
  Name& entry = names[slots_[slot] - 1];
  entry.type = type;
  entry.target = target;
  if (type == FileType::directory) directories[target].name = slots_[slot] - 1;
  return {};
}

Result<std::uint32_t> LayerTree::put_directory(std::uint32_t parent, std::string_view name) {
  Directory made;
  made.parent = parent;
  const std::size_t depth = directories[parent].depth + 1U;
  const std::size_t length = directories[parent].length + name.size() + 1;
  // Longer paths could not be opened again; links in the layer could otherwise make them without end.
  if (depth > kDepthMost || length >= kPathMost) return Error::from_errno(ENAMETOOLONG, "mkdir ", printable(name));
  if (directories.size() >= kDirectoriesMost)
    return Error::make(Code::unsupported, "more than ", kDirectoriesMost, " directories in one layer");
  made.depth = static_cast<std::uint16_t>(depth);
  made.length = static_cast<std::uint16_t>(length);
  directories.push_back(made);
  const auto number = static_cast<std::uint32_t>(directories.size() - 1);
  TRY(put(parent, name, FileType::directory, number));
  return number;
}

std::uint32_t LayerTree::add_node(std::uint64_t nid) {
  nodes.push_back({.nid = nid});
  return static_cast<std::uint32_t>(nodes.size() - 1);
}

std::string LayerTree::path_of(std::uint32_t directory) const {
  std::vector<std::string_view> parts;
  for (; directory != kRoot; directory = directories[directory].parent)
    parts.push_back(text_of(names[directories[directory].name]));
  std::string path;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) path.append(path.empty() ? "" : "/").append(*part);
  return path;
}

std::vector<bool> LayerTree::reachable() const {
  std::vector<bool> reached(directories.size());
  reached[kRoot] = true;
  // A parent was made before what is in it, so its number is smaller.
  for (std::uint32_t number = 1; number < directories.size(); ++number) {
    const Name& name = names[directories[number].name];
    reached[number] = reached[directories[number].parent] && name.type == FileType::directory && name.target == number;
  }
  return reached;
}

std::vector<std::uint32_t> LayerTree::sorted_names(const std::vector<bool>& reached) const {
  std::vector<std::uint32_t> sorted;
  sorted.reserve(names.size());
  for (std::uint32_t number = 0; number < names.size(); ++number)
    if (names[number].type != FileType::none && reached[names[number].directory]) sorted.push_back(number);
  std::sort(sorted.begin(), sorted.end(), [&](std::uint32_t a, std::uint32_t b) {
    if (names[a].directory != names[b].directory) return names[a].directory < names[b].directory;
    return text_of(names[a]) < text_of(names[b]);  // char_traits compares as unsigned bytes, and so does EROFS
  });
  return sorted;
}

}  // namespace skink::image::erofs
