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
#include "image/layout.h"
#include "image/store.h"
#include "image/stored_layer.h"
#include "image/unpack.h"

namespace skink::image {

class Loader {
 public:
  Loader(int store_fd, Session& session, const Archive& archive)
      : store_fd_(store_fd), session_(session), archive_(archive) {}

  /// Stores what is not stored yet, and makes all images visible after all of their data is on disk. False when an
  /// image that was stored already was removed meanwhile: then again.
  Result<bool> run(const std::vector<FoundImage>& images);
  /// After a failure: takes back the layers that no image needs.
  Result<void> undo();

  [[nodiscard]] std::uint64_t written() const { return written_.size(); }
  [[nodiscard]] std::uint64_t reused() const { return reused_.size(); }
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Staged {
    std::string image, scaffold;  // names in the session
  };
  Result<void> add(const FoundImage& image);
  Result<void> add_layer(const LayerBlob& blob, std::size_t number);
  Result<bool> is_stored(const std::string& hex);
  Result<void> check_reused(const LayerBlob& blob);
  Result<void> write_layer(const LayerBlob& blob, std::size_t number);
  static Result<void> write_marks(const LayerBlob& blob, int marks_fd);
  struct Target {
    int layer_fd;
    std::uint64_t budget;
  };
  Result<UnpackNotes> import_blob(const LayerBlob& blob, const Target& target);
  Result<UnpackNotes> unpack(const LayerBlob& blob, LayerWriter& writer, std::uint64_t budget);
  Result<UnpackNotes> fill_layer(const LayerBlob& blob, const std::string& staged, Form form);
  void note(const UnpackNotes& notes, std::size_t number);
  Result<Form> form();
  Result<Staged> stage(const FoundImage& image);
  Result<void> sync();
  Result<void> reveal(const FoundImage& image, const Staged& staged);
  Result<void> give_names(const FoundImage& image);

  int store_fd_;
  Session& session_;
  const Archive& archive_;
  std::vector<fs::Lock> uses_;     // the layers of this load stay while these are held
  std::set<std::string> seen_;     // diffIDs
  std::set<std::string> checked_;  // which blob was found to unpack to which diffID
  std::vector<std::string> written_;
  std::set<std::string> reused_;
  std::vector<std::string> notes_;
  std::optional<Form> form_;
};

}  // namespace skink::image
