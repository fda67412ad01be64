// SPDX-License-Identifier: Apache-2.0
#include "image/loader.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "base/text.h"
#include "image/importer.h"
#include "image/layer_files.h"
#include "image/layer_mount.h"
#include "image/records.h"
#include "image/scaffold.h"
#include "image/source.h"
#include "image/stored_layer.h"
#include "image/unpack.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::image {
namespace {

Result<std::uint64_t> free_space(int store_fd) {
  struct statvfs space {};
  if (::fstatvfs(store_fd, &space) != 0) return Error::from_errno(errno, "statvfs");
  // Something stays free, so that the containers that run can still write their state.
  return static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize / 20 * 19;
}

Result<void> sync_file_system(int store_fd) {
  // syncfs reports what could not be written since the descriptor was opened (man 2 syncfs).
  if (::syncfs(store_fd) != 0) return Error::from_errno(errno, "write the layers to disk");
  return {};
}

// Whether the bytes are what the documents promise. Those that are not explain whatever went wrong with them, so that
// is said first (A64).
Result<void> compare(const LayerBlob& blob, const Result<oci::Digest>& digest, Result<oci::Digest> diff_id) {
  if (blob.digest) {
    if (digest && *digest != *blob.digest) {
      Error error = Error::make(Code::corrupt, "its bytes have the digest ", digest->text());
      return diff_id ? std::move(error) : std::move(error.also(diff_id.error()));
    }
    if (!digest) return digest.error();
  }
  if (!diff_id) return std::move(diff_id).error();
  if (*diff_id == blob.diff_id) return {};
  return Error::make(Code::corrupt, "unpacked, it is ", diff_id->text(), ", but the configuration says ",
                     blob.diff_id.text());
}

Result<void> sync_directory(int dir_fd, const char* what) {
  if (::fsync(dir_fd) != 0) return Error::from_errno(errno, "fsync ", what);
  return {};
}

}  // namespace

Result<void> Loader::add(const FoundImage& image) {
  for (std::size_t i = 0; i < image.layers.size(); ++i)
    TRY_CTX(add_layer(image.layers[i], i + 1), "blob ", image.layers[i].label, ": layer ", i + 1);
  return {};
}

Result<void> Loader::add_layer(const LayerBlob& blob, std::size_t number) {
  const std::string& hex = blob.diff_id.hex();
  if (!checked_.insert(str(hex, ' ', blob.label)).second) return {};
  if (seen_.insert(hex).second) uses_.push_back(TRY(lock_layer(store_fd_, hex, LayerLock::use)));
  if (!TRY(is_stored(hex))) {
    // Another load may be writing it: then this waits, and finds it written (F44).
    const auto write_lock = TRY(lock_layer(store_fd_, hex, LayerLock::write));
    if (!TRY(is_stored(hex))) return write_layer(blob, number);
  }
  reused_.insert(hex);
  return check_reused(blob);
}

// A configuration can claim the diffID of a stored layer for a blob of other content (A65): what has not been seen to
// unpack to it is unpacked and hashed, though not written again.
Result<void> Loader::check_reused(const LayerBlob& blob) {
  const UniqueFd marks = TRY(open_marks(store_fd_, blob.diff_id.hex()));
  const std::string mark = blob.digest ? str(kBlobMark, blob.digest->hex()) : "";
  if (blob.digest && sys::stat_at(marks.get(), mark.c_str(), AT_SYMLINK_NOFOLLOW)) return {};
  TRY(import_blob(blob, {-1, ~std::uint64_t{0}}));
  if (blob.digest) return fs::write_file_atomic(marks.get(), mark.c_str(), "", 0600);
  return {};
}

// A layer whose load was cut off by a crash of the host may have names without data: its mark is from another boot.
Result<bool> Loader::is_stored(const std::string& hex) {
  if (!TRY(find_form(store_fd_, kLayers, hex))) return false;
  const auto marks = open_marks(store_fd_, hex);
  // Its marks come before it: without them nobody knows how it was stored.
  if (!marks && marks.error().code() == Code::not_found) return false;
  if (!marks) return marks.error();
  const auto mark = fs::read_file(marks->get(), kUnsyncedFile, 256);
  if (!mark && mark.error().errnum() == ENOENT) return true;
  return mark && *mark == TRY(sys::boot_id());
}

// How layers are stored here; found out when the first one is to be written.
Result<Form> Loader::form() {
  if (!form_) form_ = TRY(can_mount_layers(session_.fd())) ? Form::file : Form::directory;
  return *form_;
}

Result<void> Loader::write_marks(const LayerBlob& blob, int marks_fd) {
  TRY(fs::write_file_atomic(marks_fd, kUnsyncedFile, TRY(sys::boot_id()), 0600));
  if (!blob.digest) return {};
  return fs::write_file_atomic(marks_fd, str(kBlobMark, blob.digest->hex()).c_str(), "", 0600);
}

Result<void> Loader::write_layer(const LayerBlob& blob, std::size_t number) {
  const std::string& hex = blob.diff_id.hex();
  const Form form = TRY(this->form());
  const std::string staged = "layer-" + hex;
  note(TRY(fill_layer(blob, staged, form)), number);
  std::string marks = staged;
  if (form == Form::file) {
    marks = "marks-" + hex;
    TRY(sys::mkdir_at(session_.fd(), marks.c_str(), 0700));
  }
  TRY(write_marks(blob, TRY(open_part(session_.fd(), marks)).get()));
  const UniqueFd layers = TRY(open_part(store_fd_, kLayers));
  const UniqueFd all_marks = TRY(open_part(store_fd_, kMarks));
  // Only a layer of a crashed boot can be there: the write lock is ours.
  for (const Form old : {Form::file, Form::directory}) TRY(session_.take(layers.get(), stored_name(hex, old)));
  TRY(session_.take(all_marks.get(), hex));
  if (form == Form::file) TRY(sys::rename_at(session_.fd(), marks.c_str(), all_marks.get(), hex.c_str()));
  TRY(sys::rename_at(session_.fd(), staged.c_str(), layers.get(), stored_name(hex, form).c_str()));
  written_.push_back(hex);
  return {};
}

Result<UnpackNotes> Loader::import_blob(const LayerBlob& blob, const Target& target) {
  const auto member = TRY(archive_.open_member(blob.member));
  const auto again = TRY(archive_.open_member(blob.member));
  auto imported = TRY(import_layer({.packed = *member,
                                    .hashed = blob.digest ? again.get() : nullptr,
                                    .packed_fd = archive_.fd(),
                                    .packed_size = TRY(archive_.size_of(blob.member)),
                                    .compression = blob.compression,
                                    .budget = target.budget,
                                    .layer_fd = target.layer_fd,
                                    .uuid = uuid_of(blob.diff_id.hex())}));
  TRY(compare(blob, imported.digest, std::move(imported.diff_id)));
  return imported.notes;
}

Result<UnpackNotes> Loader::unpack(const LayerBlob& blob, LayerWriter& writer, std::uint64_t budget) {
  const auto member = TRY(archive_.open_member(blob.member));
  HashingSource packed(*member);
  const auto inflated = TRY(make_inflater(blob.compression, packed));
  HashingSource tar(*inflated, bomb_check([&packed] { return packed.count(); }, budget));
  auto notes = unpack_layer(tar, writer, UnpackLimits{});
  if (!notes && notes.error().code() != Code::corrupt) return std::move(notes).error();
  Result<oci::Digest> diff_id = notes ? tar.finish() : Result<oci::Digest>(notes.error());
  if (!diff_id && diff_id.error().code() != Code::corrupt) return std::move(diff_id).error();
  TRY(compare(blob, blob.digest ? packed.finish() : Result<oci::Digest>(blob.diff_id), std::move(diff_id)));
  TRY(writer.finish());
  return *notes;
}

Result<UnpackNotes> Loader::fill_layer(const LayerBlob& blob, const std::string& staged, Form form) {
  const std::uint64_t budget = TRY(free_space(store_fd_));
  if (form == Form::file) {
    const UniqueFd file = TRY(make_layer_file(session_.fd(), staged));
    return import_blob(blob, {file.get(), budget});
  }
  const auto writer = TRY(make_stored(session_.fd(), staged, form, {}));
  return unpack(blob, *writer, budget);
}

void Loader::note(const UnpackNotes& notes, std::size_t number) {
  if (notes.devices > 0)
    notes_.push_back(
        str("layer ", number, ": ", notes.devices, " device nodes were left out; a container has a /dev of its own"));
  if (notes.xattrs > 0)
    notes_.push_back(str("layer ", number, ": ", notes.xattrs,
                         " extended attributes were left out; user.* and security.capability are kept"));
}

// Image record and scaffold, complete but where nobody looks.
Result<Loader::Staged> Loader::stage(const FoundImage& image) {
  std::vector<std::unique_ptr<LayerReader>> readers;
  std::vector<const LayerReader*> topmost_first;
  std::set<std::string> distinct;
  ImpliedCount implied;
  ImageFacts facts;
  bool hidden = false;
  for (auto layer = image.layers.rbegin(); layer != image.layers.rend(); ++layer) {
    const std::string& hex = layer->diff_id.hex();
    // One directory twice is ELOOP for overlayfs, and the lower of the two is hidden by the upper anyway (A80).
    if (!distinct.insert(hex).second) continue;
    readers.push_back(TRY_CTX(open_stored(store_fd_, kLayers, hex), "layer sha256:", hex));
    topmost_first.push_back(readers.back().get());
    const auto& list = readers.back()->implied();
    const std::size_t bytes = std::accumulate(list.begin(), list.end(), list.size(),
                                              [](std::size_t sum, const auto& path) { return sum + path.size(); });
    TRY(implied.add(list.size(), bytes, "the layers of an image"));
    facts.size += readers.back()->size();
    if (!hidden) facts.lowers.push_back(layer->diff_id);
    // overlayfs does not look for an opaque mark on the root of a lower.
    hidden = hidden || readers.back()->hides_all_below();
  }
  const std::string unique = fs::random_hex(8);  // a second try stages anew
  Staged staged{"image-" + unique, "scaffold-" + unique};
  TRY(sys::mkdir_at(session_.fd(), staged.image.c_str(), 0700));
  const auto writer = TRY(make_stored(session_.fd(), staged.scaffold, TRY(form()), uuid_of(image.id.hex())));
  TRY_CTX(write_scaffold(topmost_first, *writer), "scaffold");
  const UniqueFd dir = TRY(open_part(session_.fd(), staged.image));
  TRY(write_image(dir.get(), image, facts));
  return staged;
}

// Twice: a mark may go only after the data behind it is safe, and an image may come only after its layers' marks went.
Result<void> Loader::sync() {
  TRY(sync_file_system(store_fd_));
  bool any = false;
  for (const auto& hex : seen_) {
    const UniqueFd marks = TRY(open_marks(store_fd_, hex));
    auto unmarked = sys::unlink_at(marks.get(), kUnsyncedFile);
    if (!unmarked && unmarked.error().errnum() != ENOENT) return unmarked;
    any = any || unmarked;
  }
  return any ? sync_file_system(store_fd_) : Result<void>{};
}

Result<void> Loader::reveal(const FoundImage& image, const Staged& staged) {
  const std::string& hex = image.id.hex();
  const UniqueFd scaffolds = TRY(open_part(store_fd_, kScaffolds));
  const UniqueFd images = TRY(open_part(store_fd_, kImages));
  // One of a load that did not come this far.
  for (const Form old : {Form::file, Form::directory}) TRY(session_.take(scaffolds.get(), stored_name(hex, old)));
  TRY(sys::rename_at(session_.fd(), staged.scaffold.c_str(), scaffolds.get(), stored_name(hex, TRY(form())).c_str()));
  TRY(sync_directory(scaffolds.get(), kScaffolds));
  // Order: names that nobody has come before the image and lead to nothing yet, so that image and names appear at once.
  for (const auto& name : image.names)
    if (!read_name(store_fd_, name.text())) TRY(write_name(store_fd_, session_, name.text(), hex));
  TRY(sys::rename_at(session_.fd(), staged.image.c_str(), images.get(), hex.c_str()));
  return sync_directory(images.get(), kImages);
}

Result<void> Loader::give_names(const FoundImage& image) {
  for (const auto& name : image.names) {
    const auto owner = read_name(store_fd_, name.text());
    TRY(add_name(store_fd_, image.id.hex(), name.text()));
    if (owner && *owner == image.id.hex()) continue;
    TRY(write_name(store_fd_, session_, name.text(), image.id.hex()));
    if (owner) TRY(drop_name(store_fd_, *owner, name.text()));
  }
  return {};
}

Result<bool> Loader::run(const std::vector<FoundImage>& images) {
  const UniqueFd stored = TRY(open_part(store_fd_, kImages));
  std::vector<std::optional<Staged>> staged(images.size());
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (TRY(exists(stored.get(), images[i].id.hex()))) continue;
    TRY(add(images[i]));
    staged[i] = TRY_CTX(stage(images[i]), "image ", images[i].id.text());
  }
  const bool any = std::any_of(staged.begin(), staged.end(), [](const auto& one) { return one.has_value(); });
  if (any) TRY(sync());
  const auto lock = TRY(lock_store(store_fd_));
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!TRY(exists(stored.get(), images[i].id.hex()))) {
      if (!staged[i]) return false;
      TRY(reveal(images[i], *staged[i]));
    }
    TRY(give_names(images[i]));
  }
  return true;
}

Result<void> Loader::undo() {
  uses_.clear();
  if (seen_.empty()) return {};
  const auto lock = TRY(lock_store(store_fd_));
  return take_unreferenced(store_fd_, {seen_.begin(), seen_.end()}, session_);
}

}  // namespace skink::image
