// SPDX-License-Identifier: Apache-2.0
#include "image/loader.h"

#include <poll.h>
#include <sys/file.h>
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
#include "image/seal.h"
#include "image/source.h"
#include "image/stored_layer.h"
#include "image/unpack.h"
#include "image/window_room.h"
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

}  // namespace

// A lock belongs to the open file (man 2 flock), of which jobs that were started meanwhile have copies: closing it here
// does not end it.
void Loader::Task::unlock() {
  if (write_lock) (void)::flock(write_lock->fd(), LOCK_UN);
  write_lock.reset();
}

// Each layer once, in the order in which images have them.
std::vector<Loader::Task> Loader::tasks_of(const std::vector<FoundImage>& images, const std::vector<bool>& wanted) {
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < images.size(); ++i) {
    std::size_t number = 0;
    for (const auto& blob : images[i].layers) {
      ++number;
      if (!wanted[i] || !checked_.insert(str(blob.diff_id.hex(), ' ', blob.member)).second) continue;
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
    task.unlock();
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
  task.unlock();
  task.progress.state = LayerProgress::State::written;
  return {};
}

Result<void> Loader::start_job(Task& task, std::uint64_t budget) {
  task.packed = TRY(archive_->open_member(task.blob.member));
  FileSource packed = task.packed.source(), again = task.packed.source();
  const bool is_hashed = task.blob.digest || task.blob.compression != oci::Compression::none;
  task.window = TRY(window_for(task.blob.compression));
  task.job.emplace(TRY(LayerJob::start({.packed = packed,
                                        .hashed = is_hashed ? &again : nullptr,
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
  if (facts.digest) packed_.emplace(blob.member, *facts.digest);
  task.progress.bytes = task.progress.size;
  task.packed.own.reset();
  if (task.writes) {
    note(facts.notes, task.number);
    TRY(publish(blob, task.staged(), task.staged_marks(), Form::file, facts.seal));
    task.unlock();
    task.progress.state = LayerProgress::State::written;
    return {};
  }
  if (!blob.digest) return {};
  const UniqueFd marks = TRY(open_marks(store_fd_, blob.diff_id.hex()));
  return fs::write_file_atomic(marks.get(), str(kBlobMark, blob.digest->hex()).c_str(), "", 0600);
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

// The jobs have found the digests of its layers by then, but for an image that is looked at before them.
Result<FoundImage> Loader::with_manifest(const FoundImage& image) {
  FoundImage whole = image;
  if (whole.manifest_text.empty()) TRY(complete_manifest(*archive_, whole, packed_));
  return whole;
}

Result<Loader::Lack> Loader::find_lack(const FoundImage& image) {
  const UniqueFd stored = TRY(open_part(store_fd_, kImages));
  Lack lack{.is_new = !TRY(exists(stored.get(), image.id.hex()))};
  if (lack.is_new) return lack;
  const auto glance = glance_at_image(store_fd_, image.id.hex());
  lack.is_new = !glance && glance.error().code() == Code::not_found;  // removed meanwhile
  if (!glance && !lack.is_new) {
    // The manifest is one of those that an image can have: another archive's would be another one.
    const auto manifest = recorded_manifest(store_fd_, image.id.hex());
    lack.documents = !manifest || *manifest == TRY(with_manifest(image)).manifest;
    if (!lack.documents) notes_.push_back(str(printable(glance.error().text())));
  }
  for (const auto& layer : image.layers) lack.layers = lack.layers || !TRY(is_whole(layer.diff_id.hex()));
  return lack;
}

// How layers are stored here; found out when the first one is to be written.
Result<Form> Loader::form() {
  if (!form_) form_ = TRY(can_mount_layers(session_.fd())) ? Form::file : Form::directory;
  return *form_;
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
  if (blob != nullptr) {
    const auto digest = packed.finish();
    TRY(compare(*blob, digest, diff_id));
    if (digest) packed_.emplace(blob->member, *digest);
  }
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
    notes_.push_back(
        str("layer ", number, ": ", notes.xattrs,
            " extended attributes were left out; user.*, security.capability and ACLs without names are kept"));
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
