// SPDX-License-Identifier: Apache-2.0
// How what a load has made comes into its place in the store, and onto the disk, in an order that a power cut at any
// point cannot break.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <numeric>

#include "base/text.h"
#include "image/check.h"
#include "image/layer_files.h"
#include "image/loader.h"
#include "image/records.h"
#include "image/scaffold.h"
#include "image/seal.h"
#include "image/stored_layer.h"
#include "image/unpack.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::image {
namespace {

constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE

// Waits for all that anybody has written to the file system: for trees, of which nobody lists the files again.
Result<void> sync_file_system(int store_fd) {
  // syncfs reports what could not be written since the descriptor was opened (man 2 syncfs).
  if (::syncfs(store_fd) != 0) return Error::from_errno(errno, "write the layers to disk");
  return {};
}

Result<void> sync_directory(int dir_fd, const char* what) {
  if (::fsync(dir_fd) != 0) return Error::from_errno(errno, "fsync ", what);
  return {};
}

Result<void> sync_file(int dir_fd, const std::string& name) {
  const UniqueFd file = TRY(sys::open_beneath(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW));
  if (::fsync(file.get()) != 0) return Error::from_errno(errno, "write the layers to disk");
  return {};
}

// The small files of a directory, and its entries.
Result<void> sync_files(int dir_fd) {
  std::vector<UniqueFd> files;
  std::vector<int> all{dir_fd};
  for (const auto& entry : TRY(fs::list(dir_fd))) {
    if (entry.type != DT_REG) continue;
    auto file = sys::open_beneath(dir_fd, entry.name.c_str(), O_RDONLY | O_NOFOLLOW);
    // Another load of the same layer takes its mark away when it has seen to all of this.
    if (!file && file.error().errnum() == ENOENT) continue;
    files.push_back(TRY(std::move(file)));
    all.push_back(files.back().get());
  }
  TRY_CTX(fs::sync_all(all), "write the layers to disk");
  return {};
}

}  // namespace

// A layer that is whole, out of the session. Under its write lock.
Result<void> Loader::publish(const LayerBlob& blob, const std::string& staged, const std::string& marks, Form form,
                             const std::optional<Seal>& seal) {
  const std::string& hex = blob.diff_id.hex();
  const UniqueFd marks_dir = TRY(open_part(session_.fd(), marks));
  const bool is_file = form == Form::file;
  TRY(write_seal(marks_dir.get(), seal ? *seal : TRY(seal_of(session_.fd(), staged, is_file, marks_dir.get()))));
  if (is_file)
    if (const auto verity = TRY(enable_verity(session_.fd(), staged)))
      TRY(fs::write_file_atomic(marks_dir.get(), kVerityFile, *verity, 0600));
  const UniqueFd layers = TRY(open_part(store_fd_, kLayers));
  const UniqueFd all_marks = TRY(open_part(store_fd_, kMarks));
  // Images have it already: it must not be less after a power cut than it was.
  const bool was_there = TRY(find_form(store_fd_, kLayers, hex)).has_value();
  if (was_there && !anew_ && TRY(is_stored(hex))) {
    ++mended_;
    notes_.push_back(str("layer sha256:", hex, " was stored, but damaged; it was written anew"));
  }
  TRY(write_marks(blob, marks_dir.get(), was_there ? Synced::yes : Synced::no));
  if (was_there && !is_file) TRY(sync_file_system(store_fd_));
  if (was_there && is_file) {
    TRY(sync_file(session_.fd(), staged));
    TRY(sync_files(marks_dir.get()));
  }
  // Only a layer of a crashed boot can be there, or one that is repaired: the write lock is ours. Marks without a layer
  // count as none, so they come first.
  if (is_file) TRY(put_in_place(session_.fd(), marks, all_marks.get(), hex));
  else TRY(session_.take(all_marks.get(), hex));
  TRY(session_.take(layers.get(), stored_name(hex, is_file ? Form::directory : Form::file)));
  TRY(put_in_place(session_.fd(), staged, layers.get(), stored_name(hex, form)));
  written_.push_back(hex);
  return {};
}

// In one step, so that there is always one of the two; the old one goes with the session. A file system without
// RENAME_EXCHANGE (EINVAL, man 2 rename) can do that with files; of directories there is none for a moment, which is
// what a repair, or a load, finds and mends again.
Result<void> Loader::put_in_place(int from_fd, const std::string& from, int to_fd, const std::string& to) {
  auto exchanged = sys::rename_at(from_fd, from.c_str(), to_fd, to.c_str(), kExchange);
  if (exchanged) return exchanged;
  const int error = exchanged.error().errnum();
  if (error != ENOENT && error != EINVAL) return exchanged;
  auto renamed = sys::rename_at(from_fd, from.c_str(), to_fd, to.c_str());
  if (error != EINVAL || renamed) return renamed;
  TRY(session_.take(to_fd, to));
  return sys::rename_at(from_fd, from.c_str(), to_fd, to.c_str());
}

Result<void> Loader::write_marks(const LayerBlob& blob, int marks_fd, Synced synced) {
  if (synced == Synced::no) TRY(fs::write_file_atomic(marks_fd, kUnsyncedFile, TRY(sys::boot_id()), 0600));
  if (!blob.digest) return {};
  return fs::write_file_atomic(marks_fd, str(kBlobMark, blob.digest->hex()).c_str(), "", 0600);
}

Result<ScaffoldSeal> Loader::seal_scaffold(const std::string& staged) {
  const bool is_file = TRY(form()) == Form::file;
  ScaffoldSeal seal{.digest = TRY(seal_of(session_.fd(), staged, is_file, session_.fd())).layer, .verity = {}};
  if (is_file) seal.verity = TRY(enable_verity(session_.fd(), staged)).value_or("");
  return seal;
}

// Image record and scaffold, complete but where nobody looks.
Result<Loader::Staged> Loader::stage(const FoundImage& image) {
  std::vector<std::unique_ptr<LayerReader>> readers;
  std::vector<const LayerReader*> topmost_first;
  std::set<std::string> distinct;
  ImpliedCount implied(ImpliedCount::Kind::implied);
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
  {
    const auto writer = TRY(make_stored(session_.fd(), staged.scaffold, TRY(form()), uuid_of(image.id.hex())));
    TRY_CTX(write_scaffold(topmost_first, *writer), "scaffold");
  }
  facts.scaffold = TRY_CTX(seal_scaffold(staged.scaffold), "scaffold");
  const UniqueFd dir = TRY(open_part(session_.fd(), staged.image));
  TRY(write_image(dir.get(), TRY(with_manifest(image)), facts));
  return staged;
}

Result<void> Loader::sync_staged(const Staged& staged) {
  TRY(sync_file(session_.fd(), staged.scaffold));
  const UniqueFd image = TRY(open_part(session_.fd(), staged.image));
  TRY(sync_files(TRY(open_part(image.get(), kNames)).get()));
  return sync_files(image.get());
}

// Layers that are files, with their marks: those of another load, which has not said yet that they are on disk, as
// well. False where one is a tree.
Result<bool> Loader::sync_layers(const std::vector<std::string>& unsynced) {
  const UniqueFd layers = TRY(open_part(store_fd_, kLayers));
  const UniqueFd all_marks = TRY(open_part(store_fd_, kMarks));
  for (const auto& hex : unsynced) {
    const auto form = TRY(find_form(store_fd_, kLayers, hex));
    if (form != Form::file) return false;
    // Its job has done that: there is nothing to wait for, but for what came after it, such as fs-verity.
    TRY(sync_file(layers.get(), stored_name(hex, Form::file)));
    TRY(sync_files(TRY(open_part(all_marks.get(), hex)).get()));
  }
  TRY(sync_directory(all_marks.get(), kMarks));
  TRY(sync_directory(layers.get(), kLayers));
  return true;
}

// Twice: a mark may go only after the data behind it is safe, and an image may come only after its layers' marks went.
Result<void> Loader::sync(const std::vector<std::optional<Staged>>& staged) {
  std::vector<std::string> unsynced;
  for (const auto& hex : seen_)
    if (sys::is_there(TRY(open_marks(store_fd_, hex)).get(), kUnsyncedFile)) unsynced.push_back(hex);
  const bool are_files = TRY(form()) == Form::file && TRY(sync_layers(unsynced));
  if (!are_files) TRY(sync_file_system(store_fd_));
  for (const auto& one : staged)
    if (are_files && one) TRY(sync_staged(*one));
  std::vector<UniqueFd> unmarked;
  for (const auto& hex : unsynced) {
    unmarked.push_back(TRY(open_marks(store_fd_, hex)));
    auto removed = sys::unlink_at(unmarked.back().get(), kUnsyncedFile);
    if (!removed && removed.error().errnum() != ENOENT) return removed;
  }
  if (!are_files) return unmarked.empty() ? Result<void>{} : sync_file_system(store_fd_);
  for (const auto& marks : unmarked) TRY(sync_directory(marks.get(), kMarks));
  return {};
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

// As put_in_place(), where that would leave no image for a moment, and names that lead nowhere: its files one by one,
// the record, which says what the manifest is, last.
Result<void> Loader::put_image_in_place(const Staged& staged, int images_fd, const std::string& hex) {
  auto exchanged = sys::rename_at(session_.fd(), staged.image.c_str(), images_fd, hex.c_str(), kExchange);
  if (exchanged || exchanged.error().errnum() != EINVAL) return exchanged;
  const UniqueFd from = TRY(open_part(session_.fd(), staged.image)), to = TRY(open_part(images_fd, hex));
  for (const char* name : {kConfigFile, kManifestFile, kRecordFile}) {
    TRY(sys::rename_at(from.get(), name, to.get(), name));
    TRY(sync_directory(to.get(), "an image"));
  }
  // Those that are noted stay; a list that cannot be read is replaced.
  if (check_noted_names(store_fd_, hex)) return {};
  TRY(session_.take(to.get(), kNames));
  TRY(sys::rename_at(from.get(), kNames, to.get(), kNames));
  return sync_directory(to.get(), "an image");
}

// The names that it has stay; its scaffold comes first, as it is made of layers alone and any record of the image takes
// it.
Result<void> Loader::replace_image(const FoundImage& image, const Staged& staged) {
  const std::string& hex = image.id.hex();
  const UniqueFd scaffolds = TRY(open_part(store_fd_, kScaffolds));
  const UniqueFd images = TRY(open_part(store_fd_, kImages));
  // Without what names lead to, nobody knows which it has.
  TRY(open_part(store_fd_, kNames));
  if (!TRY(exists(images.get(), hex))) return {};  // removed meanwhile
  // Whoever makes a container of it holds the directory that is replaced, until he has written down that he needs it.
  // Not waited for, as a save lasts as long as its reader likes, and the store is locked.
  const auto unheld =
      fs::Lock::try_take(TRY(open_part(store_fd_, str(kImages, '/', hex))), fs::Lock::Mode::exclusive, image.id.text());
  if (!unheld && unheld.error().code() == Code::busy)
    return Error::make(Code::busy, "image ", image.id.text(),
                       " is damaged and cannot be mended now: a container is being made of it, or it is being saved");
  if (!unheld) return unheld.error();
  const UniqueFd staged_names = TRY(open_part(session_.fd(), str(staged.image, '/', std::string_view(kNames))));
  for (const auto& name : TRY(names_of_image(store_fd_, hex)))
    TRY(fs::write_file_atomic(staged_names.get(), encode_name(name).c_str(), "", 0600, fs::Durability::durable));
  const Form form = TRY(this->form());
  TRY(session_.take(scaffolds.get(), stored_name(hex, form == Form::file ? Form::directory : Form::file)));
  TRY(put_in_place(session_.fd(), staged.scaffold, scaffolds.get(), stored_name(hex, form)));
  TRY(sync_directory(scaffolds.get(), kScaffolds));
  TRY(put_image_in_place(staged, images.get(), hex));
  return sync_directory(images.get(), kImages);
}

}  // namespace skink::image
