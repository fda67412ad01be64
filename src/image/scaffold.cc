// SPDX-License-Identifier: Apache-2.0
#include "image/scaffold.h"

#include <algorithm>
#include <array>
#include <map>

#include "image/layer_files.h"
#include "image/path.h"

namespace skink::image {
namespace {

constexpr int kScaffoldLinksMost = 40;
constexpr std::size_t kKnownMost = 64U << 20;  // bytes that a view remembers

bool is_implied(const LayerReader& layer, const std::string& path) {
  const auto& list = layer.implied();
  return std::binary_search(list.begin(), list.end(), path);
}

}  // namespace

// What overlayfs makes of `path`, where `look` sees it in each of these places. An opaque directory hides what is in
// those below it; what it is itself, the topmost entry for it says, wherever that is.
Result<std::optional<MergedView::Node>> MergedView::merge(
    const std::vector<Source>& places, const std::string& path,
    const std::function<Result<std::optional<LayerNode>>(const Source&)>& look) const {
  std::optional<Node> found;
  bool described = false;  // by a layer that has an entry for it
  bool hidden = false;     // what is in it further down
  for (const Source& place : places) {
    if (hidden && described) break;
    const auto here = TRY(look(place));
    if (!here) continue;
    if (here->whiteout) break;
    const Source source{place.layer, here->status.st_ino};
    if (!here->is_directory()) {
      if (!found) found = Node{*here, {source}, place.layer};
      break;
    }
    const bool has_entry = !described && !is_implied(*layers_[place.layer], path);
    if (!found) {
      found = Node{*here, {}, place.layer};
    } else if (has_entry) {
      found->node = *here;
      found->described_by = place.layer;
    }
    described = described || has_entry;
    if (!hidden) found->sources.push_back(source);
    hidden = hidden || here->opaque;
  }
  return found;
}

Result<std::optional<MergedView::Node>> MergedView::look_at_root() const {
  std::vector<Source> all;
  for (std::size_t i = 0; i < layers_.size(); ++i) all.push_back({i, 0});
  return merge(all, "", [&](const Source& place) { return layers_[place.layer]->lookup(""); });
}

Result<std::optional<MergedView::Node>> MergedView::step(const Node& parent, const std::string& path) const {
  return merge(parent.sources, path,
               [&](const Source& place) { return layers_[place.layer]->lookup_below(place.inode, path); });
}

void MergedView::keep(const std::string& path, const std::optional<Node>& node) {
  known_[path] = node;
  known_bytes_ += path.size() + sizeof(Node) + (node ? node->sources.size() * sizeof(Source) : 0);
}

// Up to what is known, then down again: a loop, as names may be deep.
Result<std::optional<MergedView::Node>> MergedView::lookup(const std::string& path) {
  if (known_bytes_ > kKnownMost) {
    known_.clear();
    known_bytes_ = 0;
  }
  if (!known_.contains("")) keep("", TRY(look_at_root()));
  std::size_t end = path.size();
  auto known = known_.find(path);
  while (known == known_.end()) {
    const std::size_t slash = path.rfind('/', end - 1);
    end = slash == path.npos ? 0 : slash;
    known = known_.find(path.substr(0, end));
  }
  std::optional<Node> here = known->second;
  while (end < path.size()) {
    end = std::min(path.find('/', end + 1), path.size());
    const std::string next = path.substr(0, end);
    if (here && here->node.is_directory()) here = TRY(step(*here, next));
    else here.reset();
    keep(next, here);
  }
  return here;
}

Result<std::optional<std::string>> MergedView::resolve_directory(const std::string& path) {
  std::vector<std::string> todo = components_of(path);
  std::reverse(todo.begin(), todo.end());
  std::string at;
  for (int links = 0; !todo.empty();) {
    const std::string name = std::move(todo.back());
    todo.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      at = split_path(at).first;
      continue;
    }
    const std::string next = join_path(at, name);
    const auto node = TRY(lookup(next));
    if (!node) return std::optional<std::string>();
    if (S_ISLNK(node->node.status.st_mode)) {
      if (++links > kScaffoldLinksMost) return std::optional<std::string>();
      const std::string target = TRY(layers_[node->described_by]->read_link(next));
      if (target.starts_with('/')) at.clear();
      const auto more = components_of(target);
      todo.insert(todo.end(), more.rbegin(), more.rend());
    } else if (node->node.is_directory()) {
      at = next;
    } else {
      return std::optional<std::string>();
    }
  }
  return std::optional<std::string>(at);
}

namespace {

struct Wanted {
  const char* parent;
  const char* name;
  mode_t mode;
};
// Where a container's mounts go. A link there would lead the mount elsewhere, so only a directory will do (A09).
constexpr std::array<Wanted, 3> kMountPoints{{{"", "proc", 0555}, {"", "dev", 0755}, {"", "sys", 0555}}};
// Directories that programs expect; a link to a directory (/var/tmp to /tmp) is as good. Parents stand first.
constexpr std::array<Wanted, 5> kDirectories{
    {{"", "tmp", 01777}, {"", "run", 0755}, {"", "etc", 0755}, {"", "var", 0755}, {"var", "tmp", 01777}}};
// What each container has its own of, bound over these.
constexpr std::array<Wanted, 3> kFiles{
    {{"etc", "hosts", 0644}, {"etc", "hostname", 0644}, {"etc", "resolv.conf", 0644}}};

Attributes plain(mode_t mode) {
  Attributes attributes;
  attributes.mode = mode;
  return attributes;
}

Attributes attributes_of(const LayerNode& node) {
  Attributes attributes;
  attributes.mode = node.status.st_mode & 07777;
  attributes.uid = node.status.st_uid;
  attributes.gid = node.status.st_gid;
  attributes.mtime = node.status.st_mtim;
  return attributes;
}

class Scaffold {
 public:
  Scaffold(const std::vector<const LayerReader*>& layers, LayerWriter& writer)
      : layers_(layers), view_(layers), writer_(writer) {}
  Result<void> write();

 private:
  Result<Attributes> attributes_at(const std::string& path, mode_t otherwise);
  Result<void> add_directory(const std::string& path, mode_t mode);
  Result<void> add_implied();
  Result<void> add_covering();
  Result<void> add_wanted();
  Result<void> add_file(const Wanted& file);
  Result<std::string> place_of(const Wanted& wanted);

  const std::vector<const LayerReader*>& layers_;
  MergedView view_;
  LayerWriter& writer_;
  std::map<std::string, Attributes> directories_;  // in the order of names: parents first
  ImpliedCount count_{ImpliedCount::Kind::any};    // of them
};

// A directory of the image keeps the image's attributes, since the scaffold is topmost and its are seen.
Result<Attributes> Scaffold::attributes_at(const std::string& path, mode_t otherwise) {
  const auto node = TRY(view_.lookup(path));
  if (!node || !node->node.is_directory()) return plain(otherwise);
  Attributes attributes = attributes_of(node->node);
  attributes.xattrs = TRY(layers_[node->described_by]->shown_xattrs(node->node.status.st_ino, path));
  return attributes;
}

// `path`, which no link is part of, and its ancestors.
Result<void> Scaffold::add_directory(const std::string& path, mode_t mode) {
  for (std::string at = path; !directories_.contains(at); at = split_path(at).first) {
    Attributes attributes = TRY(attributes_at(at, at == path ? mode : 0755));
    std::size_t bytes = at.size() + 1;
    for (const auto& [name, value] : attributes.xattrs) bytes += name.size() + value.size();
    TRY(count_.add(1, bytes, "the layers of an image"));
    directories_.emplace(at, std::move(attributes));
  }
  return {};
}

// Directories that a layer only implies show that layer's made-up attributes unless the scaffold knows better.
Result<void> Scaffold::add_implied() {
  for (const auto* layer : layers_)
    for (const auto& path : layer->implied()) {
      const auto node = TRY(view_.lookup(path));
      if (node && node->node.is_directory() && node->described_by != node->sources.front().layer)
        TRY(add_directory(path, 0755));
    }
  return {};
}

// A directory of one layer alone is shown as it is. With a second one above it, it is merged, and its whiteouts, which
// hide nothing there, are no names that lead nowhere.
Result<void> Scaffold::add_covering() {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto covering = TRY(layers_[i]->covering());
    for (const auto& path : covering) {
      const auto node = TRY(view_.lookup(path));
      if (node && node->node.is_directory() && node->sources.size() == 1 && node->sources.front().layer == i)
        TRY(add_directory(path, 0755));
    }
  }
  return {};
}

// The parent of what is wanted, with links followed as the image has them.
Result<std::string> Scaffold::place_of(const Wanted& wanted) {
  const auto parent = TRY(view_.resolve_directory(wanted.parent));
  return join_path(parent.value_or(wanted.parent), wanted.name);
}

Result<void> Scaffold::add_wanted() {
  for (const auto& wanted : kMountPoints) {
    const auto node = TRY(view_.lookup(wanted.name));
    if (!node || !node->node.is_directory()) TRY(add_directory(wanted.name, wanted.mode));
  }
  for (const auto& wanted : kDirectories)
    if (!TRY(view_.resolve_directory(join_path(wanted.parent, wanted.name))))
      TRY(add_directory(TRY(place_of(wanted)), wanted.mode));
  return {};
}

Result<void> Scaffold::add_file(const Wanted& file) {
  struct Nothing final : ByteSource {
    Result<std::size_t> read(char*, std::size_t) override { return std::size_t{0}; }
  } nothing;
  const std::string path = TRY(place_of(file));
  const auto node = TRY(view_.lookup(path));
  if (node && S_ISREG(node->node.status.st_mode)) return {};
  return writer_.regular(path, plain(file.mode), nothing);
}

Result<void> Scaffold::write() {
  TRY(add_directory("", 0755));
  TRY(add_implied());
  TRY(add_covering());
  TRY(add_wanted());
  for (const auto& file : kFiles) TRY(add_directory(split_path(TRY(place_of(file))).first, 0755));
  for (const auto& [path, attributes] : directories_) TRY(writer_.directory(path, attributes));
  for (const auto& file : kFiles) TRY(add_file(file));
  return writer_.finish();
}

}  // namespace

Result<void> write_scaffold(const std::vector<const LayerReader*>& layers, LayerWriter& writer) {
  return Scaffold(layers, writer).write();
}

}  // namespace skink::image
