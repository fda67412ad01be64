// SPDX-License-Identifier: Apache-2.0
#include "image/save.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>

#include "base/sha256.h"
#include "base/text.h"
#include "image/layout.h"
#include "image/recipe.h"
#include "image/stored_layer.h"
#include "image/tar_writer.h"
#include "image/worker.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr char kSavedManifest[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
constexpr char kSavedConfig[] = "application/vnd.oci.image.config.v1+json";
constexpr char kSavedLayer[] = "application/vnd.oci.image.layer.v1.tar";

std::string blob_name(const oci::Digest& digest) { return "blobs/sha256/" + digest.hex(); }

oci::Json descriptor_of(const char* type, const oci::Digest& digest, std::uint64_t size) {
  return oci::Json{{"mediaType", type}, {"digest", digest.text()}, {"size", size}};
}

// What makes one layer's tar.
struct LayerFiles {
  UniqueFd recipe;
  UniqueFd layer;  // of one that is a directory, nothing: its recipe has all
  std::uint64_t recipe_size = 0;
  std::uint64_t size = 0;  // of the tar
};

Result<LayerFiles> open_layer_files(int store_fd, const oci::Digest& diff_id) {
  const std::string& hex = diff_id.hex();
  const UniqueFd marks = TRY(open_marks(store_fd, hex));
  auto recipe = sys::open_beneath(marks.get(), kRecipeFile, O_RDONLY | O_NOFOLLOW);
  if (!recipe && recipe.error().errnum() == ENOENT)
    return Error::make(Code::unsupported,
                       "it was stored by an older skink, which did not keep how its tar was made; remove the image and "
                       "load it again");
  LayerFiles files{.recipe = TRY(std::move(recipe)), .layer = {}};
  files.recipe_size = static_cast<std::uint64_t>(TRY(sys::stat_fd(files.recipe.get(), "recipe")).st_size);
  files.size = TRY(read_recipe_header(files.recipe.get())).tar_size;
  const auto form = TRY(find_form(store_fd, kLayers, hex));
  if (!form) return Error::make(Code::not_found, "it is not in the store; load the image again");
  if (*form == Form::file) {
    const UniqueFd all = TRY(open_part(store_fd, kLayers));
    files.layer = TRY(sys::open_beneath(all.get(), stored_name(hex, Form::file).c_str(), O_RDONLY | O_NOFOLLOW));
  }
  return files;
}

struct WidePipe {
  UniqueFd read, write;
};

Result<WidePipe> make_wide_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  constexpr int kRoom = 1 << 20;
  (void)::fcntl(ends[1], F_SETPIPE_SZ, kRoom);
  return WidePipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// What the process gives that makes the tar: it has read what a stranger's tar has led to, so it is confined.
Result<void> copy_tar(int from_fd, TarWriter& archive, std::uint64_t size, const oci::Digest& diff_id) {
  StreamSource stream(from_fd);
  Sha256 hash;
  std::vector<char> piece(256U << 10);
  for (std::uint64_t left = size; left > 0;) {
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(left, piece.size()));
    const std::size_t got = TRY(stream.read(piece.data(), most));
    if (got == 0) return Error::make(Code::corrupt, "its recipe makes too little");
    hash.update({piece.data(), got});
    TRY(archive.write({piece.data(), got}));
    left -= got;
  }
  const auto is = oci::Digest::of_bytes(hash.finish());
  if (is == diff_id) return {};
  return Error::make(Code::corrupt, "its tar, made again, has the digest ", is.text(),
                     "; the store is damaged: remove the image and load it again");
}

Result<void> write_layer(const LayerFiles& files, const oci::Digest& diff_id, TarWriter& archive) {
  WidePipe pipe = TRY(make_wide_pipe());
  WorkerTerms terms{.name = "recipe reader", .keep = {files.recipe.get(), pipe.write.get()}, .limits = {}};
  if (files.layer) terms.keep.push_back(files.layer.get());
  terms.limits = worker_limits(kWorkerMemory, files.size);
  terms.limits.file_size = 0;
  Worker worker = TRY(Worker::start(terms, [&]() -> Result<std::string> {
    TRY(replay_recipe(files.recipe.get(), files.recipe_size, files.layer.get(),
                      [&](std::string_view bytes) { return sys::write_all(pipe.write.get(), bytes, "tar"); }));
    return std::string();
  }));
  pipe.write.reset();
  auto copied = copy_tar(pipe.read.get(), archive, files.size, diff_id);
  if (!copied && copied.error().code() != Code::corrupt) {
    worker.stop();
    return copied;
  }
  pipe.read.reset();
  // Why it has made too little, it says itself.
  auto made = worker.end();
  if (!made && made.error().errnum() != EPIPE) return std::move(made).error();
  return copied;
}

}  // namespace

Result<void> check_layer_tar(int store_fd, const oci::Digest& diff_id) {
  const LayerFiles files = TRY(open_layer_files(store_fd, diff_id));
  const UniqueFd nowhere = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_WRONLY));
  TarWriter archive(nowhere.get());
  TRY(archive.begin("layer", files.size));
  return write_layer(files, diff_id, archive);
}

namespace {

class Saver {
 public:
  Saver(const Store& store, int out_fd) : store_(store), archive_(out_fd) {}
  Result<void> add(const SavedImage& saved);
  Result<void> begin();
  Result<void> finish();

 private:
  Result<void> add_blob(const oci::Digest& digest, std::string_view bytes);
  Result<std::uint64_t> add_layer(const oci::Digest& diff_id);
  Result<std::string> manifest_of(const Image& image, std::uint64_t config_size, const oci::Json& layers) const;
  void list(const SavedImage& saved, const std::string& manifest);

  const Store& store_;
  TarWriter archive_;
  std::set<oci::Digest> written_;
  oci::Json manifests_ = oci::Json::array();
  oci::Json docker_ = oci::Json::array();
};

Result<void> Saver::begin() {
  TRY(archive_.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  TRY(archive_.directory("blobs/"));
  return archive_.directory("blobs/sha256/");
}

Result<void> Saver::add_blob(const oci::Digest& digest, std::string_view bytes) {
  if (!written_.insert(digest).second) return {};
  return archive_.file(blob_name(digest), bytes);
}

Result<std::uint64_t> Saver::add_layer(const oci::Digest& diff_id) {
  const LayerFiles files = TRY(open_layer_files(store_.dir_fd(), diff_id));
  if (!written_.insert(diff_id).second) return files.size;
  TRY(archive_.begin(blob_name(diff_id), files.size));
  TRY(write_layer(files, diff_id, archive_));
  TRY(archive_.end());
  return files.size;
}

// The manifest that the image came with, but for its layers, which are not packed here.
Result<std::string> Saver::manifest_of(const Image& image, std::uint64_t config_size, const oci::Json& layers) const {
  const auto came = TRY(oci::parse_json(TRY(store_.read_manifest(image))));
  oci::Json manifest = oci::Json::object();
  manifest["schemaVersion"] = 2;
  manifest["mediaType"] = kSavedManifest;
  manifest["config"] = descriptor_of(kSavedConfig, image.id, config_size);
  manifest["layers"] = layers;
  if (const oci::Json* annotations = oci::find(came, "annotations"); annotations != nullptr && annotations->is_object())
    manifest["annotations"] = *annotations;
  return oci::dump_json(manifest);
}

// "web:1" as containerd and docker write it in full.
std::string full_name(const Reference& name) {
  const std::string text = name.text();
  const std::string first = text.substr(0, text.find('/'));
  if (first.size() == text.size()) return "docker.io/library/" + text;
  const bool is_host = first.find_first_of(".:") != std::string::npos || first == "localhost";
  return is_host ? text : "docker.io/" + text;
}

void Saver::list(const SavedImage& saved, const std::string& manifest) {
  const auto& platform = saved.image.config.platform;
  oci::Json entry = descriptor_of(kSavedManifest, oci::Digest::of_bytes(Sha256::of(manifest)), manifest.size());
  entry["platform"] = {{"architecture", platform.architecture}, {"os", platform.os}};
  if (!platform.variant.empty()) entry["platform"]["variant"] = platform.variant;
  if (saved.names.empty()) manifests_.push_back(entry);
  oci::Json tags = oci::Json::array();
  for (const Reference& name : saved.names) {
    entry["annotations"] = {{"org.opencontainers.image.ref.name", name.text()},
                            {"io.containerd.image.name", full_name(name)}};
    manifests_.push_back(entry);
    if (name.digest.empty()) tags.push_back(name.text());
  }
  oci::Json layers = oci::Json::array();
  for (const auto& diff_id : saved.image.config.diff_ids) layers.push_back(blob_name(diff_id));
  docker_.push_back({{"Config", blob_name(saved.image.id)}, {"RepoTags", tags}, {"Layers", layers}});
}

Result<void> Saver::add(const SavedImage& saved) {
  const std::string config = TRY(store_.read_config(saved.image.id));
  TRY(add_blob(saved.image.id, config));
  oci::Json layers = oci::Json::array();
  for (const auto& diff_id : saved.image.config.diff_ids) {
    const auto size = TRY_CTX(add_layer(diff_id), "layer ", layers.size() + 1, ": ", diff_id.text());
    layers.push_back(descriptor_of(kSavedLayer, diff_id, size));
  }
  const std::string manifest = TRY(manifest_of(saved.image, config.size(), layers));
  TRY(add_blob(oci::Digest::of_bytes(Sha256::of(manifest)), manifest));
  list(saved, manifest);
  return {};
}

Result<void> Saver::finish() {
  const oci::Json index{{"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", manifests_}};
  TRY(archive_.file("manifest.json", oci::dump_json(docker_)));
  TRY(archive_.file("index.json", oci::dump_json(index)));
  return archive_.finish();
}

}  // namespace

Result<void> save_images(const Store& store, const std::vector<SavedImage>& images, int out_fd) {
  // Until all are written nobody takes them away, nor their layers.
  std::vector<fs::Lock> held;
  for (const auto& saved : images) held.push_back(TRY(store.hold(saved.image)));
  Saver saver(store, out_fd);
  TRY(saver.begin());
  for (const auto& saved : images) TRY_CTX(saver.add(saved), "image ", saved.image.id.text());
  return saver.finish();
}

}  // namespace skink::image
