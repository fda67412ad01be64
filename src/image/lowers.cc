// SPDX-License-Identifier: Apache-2.0
#include "image/lowers.h"

#include <fcntl.h>

#include <cerrno>
#include <set>

#include "fs/dir.h"
#include "image/layer.h"
#include "image/layer_mount.h"
#include "image/layer_space.h"
#include "image/layout.h"
#include "image/seal.h"
#include "image/stored_layer.h"
#include "sys/file.h"

namespace skink::image {
namespace {

struct LowerPart {
  std::string path;    // below the store, of a directory
  std::string what;    // for errors
  std::string verity;  // of its file, as it was written down when it was stored; "": nothing was
};

std::vector<LowerPart> parts_of(const Image& image) {
  std::vector<LowerPart> parts{
      {str(kScaffolds, '/', image.id.hex()), str("scaffold of ", image.id.text()), image.scaffold.verity}};
  for (const auto& layer : image.lowers) parts.push_back({str(kLayers, '/', layer.hex()), "layer " + layer.text(), ""});
  return parts;
}

class Opener {
 public:
  Opener(int store_fd, const std::string& run, const Image& image)
      : store_fd_(store_fd), run_(run), layers_(image.lowers), parts_(parts_of(image)) {}
  Result<Lowers> open();

 private:
  Result<bool> look_for_files();
  Result<void> check_files();
  Result<void> open_from_space();
  Result<UniqueFd> open_stored_file(std::size_t i) const;
  Result<void> open_file(std::size_t i);
  Result<void> open_directories();
  [[nodiscard]] bool is_file(std::size_t i) const { return !names_[i].empty(); }

  int store_fd_;
  const std::string& run_;
  const std::vector<oci::Digest>& layers_;
  std::vector<LowerPart> parts_;
  std::vector<std::string> names_;  // of files, as a LayerSpace knows them; "" of directories
  std::optional<LayerSpace> space_;
  LayerSpace::Owner store_;
  Lowers lowers_;
};

// Whether any of the parts is a file.
Result<bool> Opener::look_for_files() {
  bool any = false;
  for (const auto& part : parts_) {
    auto name = file_name(store_fd_, stored_name(part.path, Form::file).c_str());
    if (!name && name.error().errnum() != ENOENT) return std::move(name).error();
    any = any || name;
    names_.push_back(name ? std::move(*name) : "");
  }
  return any;
}

// Those that have fs-verity have it still, and the digest that they had when they were stored: then the kernel lets
// nobody read a byte that was changed since. At each start, whether they are mounted or not.
Result<void> Opener::check_files() {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (!is_file(i)) continue;
    LowerPart& part = parts_[i];
    if (i > 0) part.verity = TRY(recorded_verity(store_fd_, layers_[i - 1].hex())).value_or("");
    if (!part.verity.empty())
      TRY_CTX(check_verity(TRY(open_stored_file(i)).get(), part.verity), std::string_view(part.what));
  }
  return {};
}

Result<UniqueFd> Opener::open_stored_file(std::size_t i) const {
  return sys::open_beneath(store_fd_, stored_name(parts_[i].path, Form::file).c_str(), O_RDONLY | O_NOFOLLOW);
}

// Mounts one file: where it stays for all, if there is such a place.
Result<void> Opener::open_file(std::size_t i) {
  if (!space_) {
    lowers_.dirs[i] = TRY(mount_layer_file(TRY(open_stored_file(i)).get()));
    lowers_.detached = static_cast<int>(i);
    return {};
  }
  // Who comes first mounts it, the others wait and find it.
  const auto lock = TRY(fs::Lock::take(TRY(open_stored_file(i)), fs::Lock::Mode::exclusive, parts_[i].what));
  // Opened again: a loop device would keep the lock with the open file.
  const UniqueFd file = TRY(open_stored_file(i));
  const std::string name = TRY(file_name(file.get(), ""));
  lowers_.dirs[i] = std::move(TRY(space_->look_up(store_, {name})).front());
  if (!lowers_.dirs[i]) lowers_.dirs[i] = TRY(space_->attach(store_, name, TRY(mount_layer_file(file.get())).get()));
  return {};
}

Result<void> Opener::open_from_space() {
  if (!run_.empty()) {
    store_ = TRY(owner_of(store_fd_));
    auto space = LayerSpace::open(run_);
    // Where no namespace can be kept (a container's few privileges), each start has mounts of its own.
    if (space) space_ = std::move(*space);
  }
  if (space_) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (is_file(i)) names.push_back(names_[i]);
    auto roots = TRY(space_->look_up(store_, names));
    auto next = roots.begin();
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (is_file(i)) lowers_.dirs[i] = std::move(*next++);
  }
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (is_file(i) && !lowers_.dirs[i])
      TRY_CTX(open_file(i), parts_[i].what, ": mount of its file (if that cannot be made to work here, skink rmi and ",
              "load the image again: it is stored in another way then)");
  return {};
}

Result<void> Opener::open_directories() {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (is_file(i)) continue;
    lowers_.dirs[i] = TRY_CTX(open_layer_root(store_fd_, parts_[i].path), parts_[i].what);
    if (space_) lowers_.outside.push_back(i);
  }
  return {};
}

Result<Lowers> Opener::open() {
  lowers_.dirs.resize(parts_.size());
  if (TRY(look_for_files())) {
    TRY(check_files());
    TRY(open_from_space());
  }
  TRY(open_directories());
  if (space_) lowers_.space = std::move(*space_).release();
  return std::move(lowers_);
}

}  // namespace

Result<Lowers> open_image_lowers(int store_fd, const std::string& run, const Image& image) {
  return Opener(store_fd, run, image).open();
}

namespace {

Result<std::set<std::string>> list_stored_files(int store_fd) {
  std::set<std::string> stored;
  for (const char* part : {kLayers, kScaffolds}) {
    const UniqueFd all = TRY(open_part(store_fd, part));
    for (const auto& entry : TRY(fs::list(all.get())))
      if (auto name = file_name(all.get(), entry.name.c_str())) stored.insert(std::move(*name));
      else if (name.error().errnum() != ENOENT) return std::move(name).error();
  }
  return stored;
}

}  // namespace

Result<NeedlessMounts> find_needless_mounts(int store_fd, const std::string& run) {
  NeedlessMounts needless;
  if (run.empty()) return needless;
  needless.space = TRY(LayerSpace::find(run));
  if (!needless.space) return needless;
  needless.places =
      TRY(needless.space->find_needless(TRY(owner_of(store_fd)), [&] { return list_stored_files(store_fd); }));
  return needless;
}

Result<std::size_t> sweep_layer_mounts(int store_fd, const std::string& run) {
  const auto needless = TRY(find_needless_mounts(store_fd, run));
  if (needless.space && !needless.places.empty()) TRY(needless.space->take_off(needless.places));
  return needless.places.size();
}

}  // namespace skink::image
