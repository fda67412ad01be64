// SPDX-License-Identifier: Apache-2.0
// A layer's tar: whatever is not refused becomes a file that the check takes for ours, that can be read, that
// fsck.erofs(1) accepts, and of which the tar can be made again.
#include "image/layer.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "image/layer_check.h"
#include "image/recipe.h"
#include "image/unpack.h"
#include "tar_mutator.h"
#include "target.h"

using namespace skink;

namespace {

std::uint64_t size_of(const UniqueFd& file) {
  struct stat facts {};
  if (::fstat(file.get(), &facts) != 0) std::abort();
  return static_cast<std::uint64_t>(facts.st_size);
}

Result<void> write_layer(image::ByteSource& source, int layer_fd, int recipe_fd) {
  const auto writer = TRY(image::make_erofs_writer(UniqueFd(::dup(layer_fd)), {}));
  const auto recipe = TRY(image::RecipeWriter::create(recipe_fd));
  image::RecordingSource recording(source, *recipe);
  constexpr std::uint64_t kEntries = 2000;
  TRY(image::unpack_layer(recording, *writer, image::UnpackLimits{kEntries}, &recording));
  char rest[4096];
  while (TRY(recording.read(rest, sizeof rest)) > 0) continue;
  TRY(writer->finish());
  return recipe->finish();
}

// A process each time: one of a few hundred is enough while inputs are made by the thousand, and each of a corpus.
bool is_asked_about() {
  static const bool has_fsck = ::access("/usr/bin/fsck.erofs", X_OK) == 0;
  static const char* const often = std::getenv("FUZZ_FSCK_EVERY");
  static const unsigned every = often != nullptr ? static_cast<unsigned>(std::atoi(often)) : 1;
  static unsigned count = 0;
  return has_fsck && every != 0 && count++ % every == 0;
}

bool is_accepted(int layer_fd) {
  const std::string path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(layer_fd);
  std::string name = "fsck.erofs", level = "-d0", file = path;
  char* words[] = {name.data(), level.data(), file.data(), nullptr};
  pid_t pid = 0;
  if (::posix_spawn(&pid, "/usr/bin/fsck.erofs", nullptr, nullptr, words, environ) != 0) return true;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) continue;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  fuzz::Bytes tar(bytes);
  const UniqueFd layer = fuzz::file_of(), recipe = fuzz::file_of();
  if (!write_layer(tar, layer.get(), recipe.get())) return 0;
  const auto walked = image::walk_layer_file(layer.get(), size_of(layer));
  fuzz::demand(walked.has_value(), "a layer that is written passes the check", walked ? "" : walked.error().text());
  const auto reader = image::open_erofs_layer(UniqueFd(::dup(layer.get())));
  fuzz::demand(reader.has_value(), "it can be read", reader ? "" : reader.error().text());
  for (const auto& path : (*reader)->implied())
    fuzz::demand((*reader)->lookup(path).has_value(), "what is implied can be looked up", path);
  std::string again;
  const auto replayed =
      image::replay_recipe(recipe.get(), size_of(recipe), layer.get(), [&](std::string_view piece) -> Result<void> {
        again += piece;
        return {};
      });
  fuzz::demand(replayed.has_value(), "its recipe is good", replayed ? "" : replayed.error().text());
  fuzz::demand(again == bytes, "the recipe makes the same tar");
  if (is_asked_about()) fuzz::demand(is_accepted(layer.get()), "fsck.erofs accepts it");
  return 0;
}
