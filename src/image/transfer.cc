// SPDX-License-Identifier: Apache-2.0
#include "image/transfer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/text.h"
#include "fs/dir.h"
#include "image/load_session.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr char kFetched[] = "fetched";

Result<UniqueFd> open_tar(const std::string& file) {
  if (file == "-") return sys::dup_fd(STDIN_FILENO);
  UniqueFd tar = TRY(sys::open_at(AT_FDCWD, file.c_str(), O_RDONLY | O_NOCTTY));
  const auto status = TRY(sys::stat_fd(tar.get(), file));
  if (S_ISDIR(status.st_mode))
    return Error::make(Code::invalid_config, "it is a directory; pipe it: tar -C ", printable(file),
                       " -c . | skink import - NAME");
  return tar;
}

Result<FoundImage> image_of(const Loader::Tree& tree, const ImportOptions& options) {
  const std::string now = fs::rfc3339_now();
  oci::Json config{{"created", now}, {"os", options.platform.os}, {"architecture", options.platform.architecture}};
  if (!options.platform.variant.empty()) config["variant"] = options.platform.variant;
  config["config"] = options.config;
  config["rootfs"] = {{"type", "layers"}, {"diff_ids", {tree.diff_id.text()}}};
  config["history"] = {{{"created", now}, {"created_by", "skink import"}, {"comment", options.message}}};
  FoundImage image;
  image.config_text = oci::dump_json(config);
  image.id = oci::Digest::of_bytes(Sha256::of(image.config_text));
  image.config = TRY(oci::parse_image_config(image.config_text));
  const oci::Json manifest{{"schemaVersion", 2},
                           {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                           {"config",
                            {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                             {"digest", image.id.text()},
                             {"size", image.config_text.size()}}},
                           {"layers",
                            {{{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                              {"digest", tree.diff_id.text()},
                              {"size", tree.tar_size}}}}};
  image.manifest_text = oci::dump_json(manifest);
  image.manifest = oci::Digest::of_bytes(Sha256::of(image.manifest_text));
  LayerBlob layer;
  layer.label = tree.diff_id.text();
  layer.digest = layer.diff_id = tree.diff_id;
  image.layers.push_back(std::move(layer));
  if (options.name) image.names.push_back(*options.name);
  return image;
}

}  // namespace

Result<Loaded> import_image(const Store& store, const std::string& file, const ImportOptions& options) {
  const std::string words = str("import ", file == "-" ? "standard input" : printable(file));
  return load_with_session(store.dir_fd(), words, [&](Session& session) -> Result<Loaded> {
    const UniqueFd tar = TRY(open_tar(file));
    Loader loader(store.dir_fd(), session, nullptr, options.progress);
    return load_images(store.dir_fd(), loader, [&]() -> Result<Catalog> {
      Catalog catalog;
      catalog.images.push_back(TRY(image_of(TRY(loader.import_tree(tar.get())), options)));
      return catalog;
    });
  });
}

Result<Loaded> fetch_image(const Store& store, const Fetch& fetch, const LoadOptions& options) {
  return load_with_session(store.dir_fd(), "pull", [&](Session& session) -> Result<Loaded> {
    TRY(sys::mkdir_at(session.fd(), kFetched, 0700));
    // By a name that the program can open, wherever the store is.
    const std::string directory = TRY(sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", session.fd()).c_str()));
    const std::string layout = str(directory, '/', std::string_view(kFetched));
    TRY(fetch(layout));
    // The directory's name is ours and no image's.
    return load_archive(store.dir_fd(), session, layout, "", options);
  });
}

}  // namespace skink::image
