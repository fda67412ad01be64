// SPDX-License-Identifier: Apache-2.0
// Loader: one load, from the layers of an archive to images that everybody sees.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "image/archive.h"
#include "image/catalog.h"
#include "image/layer_job.h"
#include "image/layout.h"
#include "image/store.h"
#include "image/stored_layer.h"
#include "image/unpack.h"
#include "sys/descriptors.h"

namespace skink::image {

class Loader {
 public:
  /// `archive` may be null for import_tree() and what comes of it.
  Loader(int store_fd, Session& session, const Archive* archive, ProgressFunction progress = {},
         WaitFunction waits = {})
      : store_fd_(store_fd),
        session_(session),
        archive_(archive),
        progress_(std::move(progress)),
        waits_(std::move(waits)) {}

  /// What import_tree() has found out.
  struct Tree {
    oci::Digest diff_id;
    std::uint64_t tar_size = 0;
  };
  /// Stores the tar of a root file system that `tar_fd` reads from its start (or as a pipe), packed or not, as a layer.
  Result<Tree> import_tree(int tar_fd);

  /// Stores what is not stored yet, and what is damaged as far as a glance tells (check.h), and makes all images
  /// visible after all of their data is on disk. False when an image that was stored already was removed meanwhile:
  /// then again.
  Result<bool> run(const std::vector<FoundImage>& images);
  /// Writes the layers of `layers` anew, whatever is stored of them, and then the records and scaffolds of `images`,
  /// which are stored. Each takes the place of what was there in one step.
  Result<void> repair(const std::vector<FoundImage>& layers, const std::vector<FoundImage>& images);
  /// After a failure: takes back the layers that no image needs.
  Result<void> undo();

  [[nodiscard]] std::uint64_t written() const { return written_.size(); }
  [[nodiscard]] std::uint64_t reused() const { return reused_.size(); }
  /// Layers and images that were stored, but damaged.
  [[nodiscard]] std::uint64_t mended() const { return mended_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Staged {
    std::string image, scaffold;  // names in the session
  };
  // A layer on its way: not yet begun, with a job, done.
  struct Task {
    LayerBlob blob;
    std::size_t number = 0;  // in its image
    LayerProgress progress;
    std::optional<fs::Lock> write_lock = {};
    bool writes = false;
    Part packed = {};
    UniqueFd file = {}, recipe = {}, window = {};
    std::optional<LayerJob> job = {};
    void unlock();
    [[nodiscard]] std::string staged() const { return "layer-" + blob.diff_id.hex(); }
    [[nodiscard]] std::string staged_marks() const { return "marks-" + blob.diff_id.hex(); }
  };
  enum class Begun { no, yes };
  enum class May { wait, not_wait };
  std::vector<Task> tasks_of(const std::vector<FoundImage>& images, const std::vector<bool>& wanted);
  Result<void> work_off(std::vector<Task>& tasks);
  Result<void> wait_for_any(std::vector<Task>& tasks);
  Result<Begun> begin(Task& task, May may);
  Result<fs::Lock> lock_for_writing(const std::string& hex, May may) const;
  Result<void> begin_check(Task& task);
  Result<void> begin_write(Task& task);
  Result<void> start_job(Task& task, std::uint64_t budget);
  Result<void> finish(Task& task);
  Result<void> publish(const LayerBlob& blob, const std::string& staged, const std::string& marks, Form form,
                       const std::optional<Seal>& seal = {});
  void tell(const std::vector<Task>& tasks) const;
  Result<bool> is_stored(const std::string& hex);
  Result<bool> is_whole(const std::string& hex);
  struct Lack {
    bool is_new = false;     // the image
    bool documents = false;  // its documents or its scaffold
    bool layers = false;     // some of its layers
  };
  Result<Lack> find_lack(const FoundImage& image);
  Result<FoundImage> with_manifest(const FoundImage& image);
  enum class Synced { no, yes };
  static Result<void> write_marks(const LayerBlob& blob, int marks_fd, Synced synced);
  struct Unpacked {
    UnpackNotes notes;
    oci::Digest diff_id;
    std::uint64_t tar_size = 0;
  };
  Result<UniqueFd> window_for(std::optional<oci::Compression> compression) const;
  Result<Unpacked> unpack_directory(ByteSource& packed, const LayerBlob* blob, const std::string& staged);
  Result<Unpacked> import_file(int tar_fd, const std::string& staged, const std::string& marks);
  void note(const UnpackNotes& notes, std::size_t number);
  Result<Form> form();
  Result<ScaffoldSeal> seal_scaffold(const std::string& staged);
  Result<Staged> stage(const FoundImage& image);
  Result<void> sync(const std::vector<std::optional<Staged>>& staged);
  Result<bool> sync_layers(const std::vector<std::string>& unsynced);
  Result<void> sync_staged(const Staged& staged);
  Result<void> reveal(const FoundImage& image, const Staged& staged);
  Result<void> give_names(const FoundImage& image);

  Result<void> put_in_place(int from_fd, const std::string& from, int to_fd, const std::string& to);
  Result<void> put_image_in_place(const Staged& staged, int images_fd, const std::string& hex);
  Result<void> replace_image(const FoundImage& image, const Staged& staged);

  int store_fd_;
  Session& session_;
  const Archive* archive_;
  ProgressFunction progress_;
  WaitFunction waits_;
  sys::ManyDescriptors descriptors_;  // a lock for each layer
  std::vector<fs::Lock> uses_;        // the layers of this load stay while these are held
  std::set<std::string> seen_;        // diffIDs
  PackedDigests packed_;              // of the layers that were read
  std::set<std::string> checked_;     // which blob was found to unpack to which diffID
  std::vector<std::string> written_;
  std::set<std::string> reused_;
  std::vector<std::string> notes_;
  std::uint64_t mended_ = 0;
  std::optional<Form> form_;
  bool anew_ = false;  // layers are written though they are stored
};

}  // namespace skink::image
