// SPDX-License-Identifier: Apache-2.0
#include "image/loader.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <numeric>

#include "base/text.h"
#include "image/check.h"
#include "image/erofs_format.h"
#include "image/importer.h"
#include "image/layer_files.h"
#include "image/layer_mount.h"
#include "image/recipe.h"
#include "image/records.h"
#include "image/scaffold.h"
#include "image/seal.h"
#include "image/source.h"
#include "image/stored_layer.h"
#include "image/unpack.h"
#include "image/window_room.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::image {
namespace {

constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE

Result<std::uint64_t> free_space(int store_fd) {
  struct statvfs space {};
  if (::fstatvfs(store_fd, &space) != 0) return Error::from_errno(errno, "statvfs");
  // Something stays free, so that the containers that run can still write their state.
  return static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize / 20 * 19;
}

// Waits for all that anybody has written to the file system: for trees, of which nobody lists the files again.
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

Result<void> set_uuid(int layer_fd, const LayerUuid& uuid) {
  constexpr auto kAt = static_cast<off_t>(erofs::kSuperOffset + offsetof(erofs::SuperBlock, uuid));
  if (::pwrite(layer_fd, uuid.data(), uuid.size(), kAt) == static_cast<ssize_t>(uuid.size())) return {};
  return Error::from_errno(errno, "write of the layer");
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

// The small files of a directory, and its entries. The writing of all begins before one is waited for: then they are in
// one transaction of the file system's journal.
Result<void> sync_files(int dir_fd) {
  std::vector<UniqueFd> files;
  for (const auto& entry : TRY(fs::list(dir_fd))) {
    if (entry.type != DT_REG) continue;
    auto file = sys::open_beneath(dir_fd, entry.name.c_str(), O_RDONLY | O_NOFOLLOW);
    // Another load of the same layer takes its mark away when it has seen to all of this.
    if (!file && file.error().errnum() == ENOENT) continue;
    files.push_back(TRY(std::move(file)));
    (void)::sync_file_range(files.back().get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  for (const auto& file : files)
    if (::fsync(file.get()) != 0) return Error::from_errno(errno, "write the layers to disk");
  return sync_directory(dir_fd, "what describes a layer or an image");
}

}  // namespace

// Each layer once, in the order in which images have them.
std::vector<Loader::Task> Loader::tasks_of(const std::vector<FoundImage>& images, const std::vector<bool>& wanted) {
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < images.size(); ++i) {
    std::size_t number = 0;
    for (const auto& blob : images[i].layers) {
      ++number;
      if (!wanted[i] || !checked_.insert(str(blob.diff_id.hex(), ' ', blob.label)).second) continue;
      tasks.push_back({.blob = blob, .number = number, .progress = {.label = blob.label}});
    }
  }
  return tasks;
}

void Loader::tell(const std::vector<Task>& tasks) const {
  if (!progress_ || tasks.empty()) return;
  std::vector<LayerProgress> all;
  for (const auto& task : tasks) {
    all.push_back(task.progress);
    if (!task.job) continue;
    all.back().bytes = std::min(task.job->progress(), task.progress.size);
    if (task.writes && task.job->is_syncing()) all.back().state = LayerProgress::State::syncing;
  }
  progress_(all);
}

// Several at once. Whoever waits for another load's layer holds none itself: then nobody waits in a circle.
Result<void> Loader::work_off(std::vector<Task>& tasks) {
  const std::size_t most = jobs_most();
  std::vector<std::size_t> waiting(tasks.size());
  std::iota(waiting.begin(), waiting.end(), std::size_t{0});
  for (;;) {
    const auto running = [&] {
      return static_cast<std::size_t>(
          std::count_if(tasks.begin(), tasks.end(), [](const Task& t) { return t.job.has_value(); }));
    };
    for (auto next = waiting.begin(); next != waiting.end() && running() < most;) {
      Task& task = tasks[*next];
      const auto begun = TRY_CTX(begin(task, running() == 0 ? May::wait : May::not_wait), "blob ", task.blob.label,
                                 ": layer ", task.number);
      next = begun == Begun::yes ? waiting.erase(next) : next + 1;
    }
    tell(tasks);
    if (running() == 0 && waiting.empty()) return {};
    if (running() > 0) TRY(wait_for_any(tasks));
  }
}

Result<void> Loader::wait_for_any(std::vector<Task>& tasks) {
  constexpr int kTellEvery = 100;  // milliseconds
  std::vector<pollfd> ends;
  for (const auto& task : tasks)
    if (task.job) ends.push_back({task.job->answer_fd(), POLLIN, 0});
  const int ready = ::poll(ends.data(), static_cast<nfds_t>(ends.size()), progress_ ? kTellEvery : -1);
  if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
  if (ready <= 0) return {};
  for (auto& task : tasks) {
    if (!task.job) continue;
    const auto end =
        std::find_if(ends.begin(), ends.end(), [&](const pollfd& one) { return one.fd == task.job->answer_fd(); });
    if (end->revents == 0) continue;
    TRY_CTX(finish(task), "blob ", task.blob.label, ": layer ", task.number);
  }
  return {};
}

// Whoever has to wait longer than a moment says for whom: that load may have been stopped.
Result<fs::Lock> Loader::lock_for_writing(const std::string& hex, May may) const {
  constexpr int kTries = 10;
  constexpr useconds_t kPause = 100'000;
  for (int i = 0; i < kTries && (i == 0 || waits_); ++i) {
    if (i > 0) ::usleep(kPause);
    auto lock = lock_layer(store_fd_, hex, LayerLock::try_write);
    if (lock || lock.error().code() != Code::busy || may == May::not_wait) return lock;
  }
  const auto writer = writer_of_layer(store_fd_, hex);
  if (waits_)
    waits_(str("waiting for another load", writer ? str(" (process ", *writer, ")") : std::string(),
               ", which stores the layer sha256:", hex));
  return lock_layer(store_fd_, hex, LayerLock::write);
}

// A layer that is to be written, or only looked at, or not even that.
Result<Loader::Begun> Loader::begin(Task& task, May may) {
  const std::string& hex = task.blob.diff_id.hex();
  if (archive_ == nullptr && !TRY(is_whole(hex)))
    return Error::make(Code::corrupt, "it was damaged as soon as it was stored");
  if (seen_.insert(hex).second) uses_.push_back(TRY(lock_layer(store_fd_, hex, LayerLock::use)));
  if (anew_ || !TRY(is_whole(hex))) {
    // Another load may be writing it: then this waits, and finds it written (F44).
    auto lock = lock_for_writing(hex, may);
    if (!lock && lock.error().code() == Code::busy) return Begun::no;
    task.write_lock = TRY(std::move(lock));
    if (anew_ || !TRY(is_whole(hex))) {
      TRY(begin_write(task));
      return Begun::yes;
    }
    task.write_lock.reset();
  }
  TRY(begin_check(task));
  return Begun::yes;
}

// A configuration can claim the diffID of a stored layer for a blob of other content (A65): what has not been seen to
// unpack to it is unpacked and hashed, though not written again.
Result<void> Loader::begin_check(Task& task) {
  const LayerBlob& blob = task.blob;
  reused_.insert(blob.diff_id.hex());
  task.progress.state = LayerProgress::State::reused;
  const UniqueFd marks = TRY(open_marks(store_fd_, blob.diff_id.hex()));
  if (blob.digest && sys::is_there(marks.get(), str(kBlobMark, blob.digest->hex()).c_str())) return {};
  return start_job(task, ~std::uint64_t{0});
}

Result<void> Loader::begin_write(Task& task) {
  task.writes = true;
  const Form form = TRY(this->form());
  if (form == Form::file) {
    task.file = TRY(make_layer_file(session_.fd(), task.staged()));
    TRY(sys::mkdir_at(session_.fd(), task.staged_marks().c_str(), 0700));
    task.recipe = TRY(make_layer_file(TRY(open_part(session_.fd(), task.staged_marks())).get(), kRecipeFile));
    return start_job(task, TRY(free_space(store_fd_)));
  }
  const Part part = TRY(archive_->open_member(task.blob.member));
  FileSource packed = part.source();
  note(TRY(unpack_directory(packed, &task.blob, task.staged())).notes, task.number);
  TRY(publish(task.blob, task.staged(), task.staged(), form));
  task.write_lock.reset();
  task.progress.state = LayerProgress::State::written;
  return {};
}

Result<void> Loader::start_job(Task& task, std::uint64_t budget) {
  task.packed = TRY(archive_->open_member(task.blob.member));
  FileSource packed = task.packed.source(), again = task.packed.source();
  task.window = TRY(window_for(task.blob.compression));
  task.job.emplace(TRY(LayerJob::start({.packed = packed,
                                        .hashed = task.blob.digest ? &again : nullptr,
                                        .packed_fd = task.packed.fd,
                                        .packed_size = task.packed.size,
                                        .compression = task.blob.compression,
                                        .window_fd = task.window.get(),
                                        .budget = budget,
                                        .layer_fd = task.file.get(),
                                        .recipe_fd = task.recipe.get(),
                                        .uuid = uuid_of(task.blob.diff_id.hex()),
                                        .seals = true})));
  // The job has them; fs-verity wants no writer beside it, and the next job would inherit them.
  task.file.reset();
  task.recipe.reset();
  task.window.reset();
  task.progress.size = task.packed.size;
  if (task.writes) task.progress.state = LayerProgress::State::running;
  return {};
}

Result<void> Loader::finish(Task& task) {
  auto imported = task.job->end();
  task.job.reset();
  const Imported facts = TRY(std::move(imported));
  const LayerBlob& blob = task.blob;
  TRY(compare(blob, facts.digest, facts.diff_id));
  task.progress.bytes = task.progress.size;
  task.packed.own.reset();
  if (task.writes) {
    note(facts.notes, task.number);
    TRY(publish(blob, task.staged(), task.staged_marks(), Form::file, facts.seal));
    task.write_lock.reset();
    task.progress.state = LayerProgress::State::written;
    return {};
  }
  if (!blob.digest) return {};
  const UniqueFd marks = TRY(open_marks(store_fd_, blob.diff_id.hex()));
  return fs::write_file_atomic(marks.get(), str(kBlobMark, blob.digest->hex()).c_str(), "", 0600);
}

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

// Stored, and not damaged as far as a glance tells. A tree of files is not replaced here: it may be in use, and would
// be drawn from under its container.
Result<bool> Loader::is_whole(const std::string& hex) {
  if (!TRY(is_stored(hex))) return false;
  const auto glance = glance_at_layer(store_fd_, hex);
  if (glance) return true;
  if (TRY(find_form(store_fd_, kLayers, hex)) != Form::directory) return false;
  return Error(glance.error())
      .context("layer sha256:", hex, " is stored, but damaged (skink image verify --repair mends it)");
}

Result<Loader::Lack> Loader::find_lack(const FoundImage& image) {
  const UniqueFd stored = TRY(open_part(store_fd_, kImages));
  Lack lack{.is_new = !TRY(exists(stored.get(), image.id.hex()))};
  if (lack.is_new) return lack;
  const auto glance = glance_at_image(store_fd_, image.id.hex());
  lack.is_new = !glance && glance.error().code() == Code::not_found;  // removed meanwhile
  // The manifest is one of those that an image can have: another archive's would be another one.
  const auto manifest = recorded_manifest(store_fd_, image.id.hex());
  const bool fits = !manifest || *manifest == image.manifest;
  lack.documents = !glance && !lack.is_new && fits;
  if (!glance && !lack.is_new && !fits) notes_.push_back(str(printable(glance.error().text())));
  for (const auto& layer : image.layers) lack.layers = lack.layers || !TRY(is_whole(layer.diff_id.hex()));
  return lack;
}

// How layers are stored here; found out when the first one is to be written.
Result<Form> Loader::form() {
  if (!form_) form_ = TRY(can_mount_layers(session_.fd())) ? Form::file : Form::directory;
  return *form_;
}

Result<void> Loader::write_marks(const LayerBlob& blob, int marks_fd, Synced synced) {
  if (synced == Synced::no) TRY(fs::write_file_atomic(marks_fd, kUnsyncedFile, TRY(sys::boot_id()), 0600));
  if (!blob.digest) return {};
  return fs::write_file_atomic(marks_fd, str(kBlobMark, blob.digest->hex()).c_str(), "", 0600);
}

// Where the inflater may keep what is more than it has memory for: only zstd has such windows.
Result<UniqueFd> Loader::window_for(std::optional<oci::Compression> compression) const {
  const bool may_want_one = !compression || *compression == oci::Compression::zstd;
  return may_want_one ? make_unnamed_file(session_.fd()) : UniqueFd();
}

// Into a directory of the session. `blob` says what it must be; without one it is what it is. The whole tar is its
// recipe: files of a directory do not say where in it they were.
Result<Loader::Unpacked> Loader::unpack_directory(ByteSource& bytes, const LayerBlob* blob, const std::string& staged) {
  const auto writer = TRY(make_stored(session_.fd(), staged, Form::directory, {}));
  const UniqueFd recipe_file = TRY(make_layer_file(TRY(open_part(session_.fd(), staged)).get(), kRecipeFile));
  const auto recipe = TRY(RecipeWriter::create(recipe_file.get()));
  HashingSource packed(bytes);
  const UniqueFd window = TRY(make_unnamed_file(session_.fd()));
  WindowRoom room = TRY(WindowRoom::map(window.get()));
  const auto inflated =
      TRY(blob != nullptr ? make_inflater(blob->compression, packed, &room) : detect_and_inflate(packed, &room));
  HashingSource tar(*inflated, bomb_check([&packed] { return packed.count(); }, TRY(free_space(store_fd_))));
  RecordingSource recording(tar, *recipe);
  auto notes = unpack_layer(recording, *writer, UnpackLimits{});
  if (!notes && notes.error().code() != Code::corrupt) return std::move(notes).error();
  const auto rest = [&]() -> Result<oci::Digest> {
    if (!notes) return notes.error();
    std::vector<char> piece(256U << 10);
    while (TRY(recording.read(piece.data(), piece.size())) > 0) continue;
    return tar.finish();
  };
  Result<oci::Digest> diff_id = rest();
  if (!diff_id && diff_id.error().code() != Code::corrupt) return std::move(diff_id).error();
  if (blob != nullptr)
    TRY(compare(*blob, blob->digest ? packed.finish() : Result<oci::Digest>(blob->diff_id), diff_id));
  const oci::Digest is = TRY(std::move(diff_id));
  TRY(writer->finish());
  TRY(recipe->finish());
  return Unpacked{*notes, is, tar.count()};
}

// Into a file of the session, whose uuid is known last.
Result<Loader::Unpacked> Loader::import_file(int tar_fd, const std::string& staged, const std::string& marks) {
  const UniqueFd file = TRY(make_layer_file(session_.fd(), staged));
  TRY(sys::mkdir_at(session_.fd(), marks.c_str(), 0700));
  const UniqueFd recipe = TRY(make_layer_file(TRY(open_part(session_.fd(), marks)).get(), kRecipeFile));
  const UniqueFd window = TRY(window_for(std::nullopt));
  const auto status = TRY(sys::stat_fd(tar_fd, "tar"));
  StreamSource packed(tar_fd);
  Task task{.blob = {}, .progress = {.state = LayerProgress::State::running, .label = "tar"}};
  task.progress.size = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  std::vector<Task> tasks;
  tasks.push_back(std::move(task));
  tasks.front().job.emplace(TRY(LayerJob::start({.packed = packed,
                                                 .packed_fd = tar_fd,
                                                 .packed_size = tasks.front().progress.size,
                                                 .compression = std::nullopt,
                                                 .window_fd = window.get(),
                                                 .budget = TRY(free_space(store_fd_)),
                                                 .layer_fd = file.get(),
                                                 .recipe_fd = recipe.get()})));
  for (pollfd end{tasks.front().job->answer_fd(), POLLIN, 0}; progress_ && ::poll(&end, 1, 100) == 0;) tell(tasks);
  const Imported imported = TRY(tasks.front().job->end());
  const oci::Digest diff_id = TRY(imported.diff_id);
  TRY(set_uuid(file.get(), uuid_of(diff_id.hex())));
  return Unpacked{imported.notes, diff_id, imported.tar_size};
}

Result<Loader::Tree> Loader::import_tree(int tar_fd) {
  const std::string staged = "tree", marks = "tree-marks";
  const Form form = TRY(this->form());
  StreamSource packed(tar_fd);
  const Unpacked tree =
      TRY(form == Form::file ? import_file(tar_fd, staged, marks) : unpack_directory(packed, nullptr, staged));
  note(tree.notes, 1);
  LayerBlob blob;
  blob.digest = blob.diff_id = tree.diff_id;
  const std::string& hex = tree.diff_id.hex();
  if (seen_.insert(hex).second) uses_.push_back(TRY(lock_layer(store_fd_, hex, LayerLock::use)));
  const auto write_lock = TRY(lock_layer(store_fd_, hex, LayerLock::write));
  if (!TRY(is_whole(hex))) {
    TRY(publish(blob, staged, form == Form::file ? marks : staged, form));
  } else {
    const UniqueFd there = TRY(open_marks(store_fd_, hex));
    TRY(fs::write_file_atomic(there.get(), str(kBlobMark, hex).c_str(), "", 0600));
  }
  return Tree{tree.diff_id, tree.tar_size};
}

void Loader::note(const UnpackNotes& notes, std::size_t number) {
  if (notes.devices > 0)
    notes_.push_back(
        str("layer ", number, ": ", notes.devices, " device nodes were left out; a container has a /dev of its own"));
  if (notes.xattrs > 0)
    notes_.push_back(str("layer ", number, ": ", notes.xattrs,
                         " extended attributes were left out; user.* and security.capability are kept"));
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
  TRY(write_image(dir.get(), image, facts));
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

Result<bool> Loader::run(const std::vector<FoundImage>& images) {
  const UniqueFd stored = TRY(open_part(store_fd_, kImages));
  std::vector<std::optional<Staged>> staged(images.size());
  std::vector<Lack> lacks;
  for (const auto& image : images) lacks.push_back(TRY(find_lack(image)));
  std::vector<bool> wanted;
  for (const Lack& lack : lacks) wanted.push_back(lack.is_new || lack.documents || lack.layers);
  std::vector<Task> tasks = tasks_of(images, wanted);
  TRY(work_off(tasks));
  for (std::size_t i = 0; i < images.size(); ++i)
    if (lacks[i].is_new || lacks[i].documents) staged[i] = TRY_CTX(stage(images[i]), "image ", images[i].id.text());
  if (std::find(wanted.begin(), wanted.end(), true) != wanted.end()) TRY(sync(staged));
  const auto lock = TRY(lock_store(store_fd_));
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!TRY(exists(stored.get(), images[i].id.hex()))) {
      if (!staged[i]) return false;
      TRY(reveal(images[i], *staged[i]));
    } else if (lacks[i].documents) {
      TRY(replace_image(images[i], *staged[i]));
      ++mended_;
      notes_.push_back(str("image ", images[i].id.text(), " was stored, but damaged; its documents were written anew"));
    }
    TRY(give_names(images[i]));
  }
  return true;
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
  const auto unheld =
      TRY(fs::Lock::take(TRY(open_part(store_fd_, str(kImages, '/', hex))), fs::Lock::Mode::exclusive, "image"));
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

Result<void> Loader::repair(const std::vector<FoundImage>& layers, const std::vector<FoundImage>& images) {
  anew_ = true;
  std::vector<Task> tasks = tasks_of(layers, std::vector<bool>(layers.size(), true));
  TRY(work_off(tasks));
  std::vector<std::optional<Staged>> staged;
  for (const auto& image : images) staged.emplace_back(TRY_CTX(stage(image), "image ", image.id.text()));
  TRY(sync(staged));
  const auto lock = TRY(lock_store(store_fd_));
  for (std::size_t i = 0; i < images.size(); ++i) TRY(replace_image(images[i], *staged[i]));
  return {};
}

Result<void> Loader::undo() {
  uses_.clear();
  if (seen_.empty()) return {};
  const auto lock = TRY(lock_store(store_fd_));
  return take_unreferenced(store_fd_, {seen_.begin(), seen_.end()}, session_);
}

}  // namespace skink::image
