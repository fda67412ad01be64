// SPDX-License-Identifier: Apache-2.0
#include "image/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/text.h"
#include "fs/dir.h"
#include "image/archive.h"
#include "image/catalog.h"
#include "image/layer.h"
#include "image/layout.h"
#include "image/load_session.h"
#include "image/loader.h"
#include "image/lowers.h"
#include "image/records.h"
#include "image/stored_layer.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kLowersMost = 500;  // OVL_MAX_STACK of the kernel's fs/overlayfs/params.h
constexpr std::size_t kPrefixLeast = 2;
constexpr std::size_t kHexLength = 64;

// Set-id programs of images lie below, so nobody else may look in (A34, CVE-2021-41103).
Result<void> check_closed(int dir_fd, const std::string& path) {
  TRY(fs::check_private(dir_fd, printable(path)));
  const auto status = TRY(sys::stat_fd(dir_fd, path));
  if ((status.st_mode & 077U) == 0) return {};
  // A directory that was just made for us is closed; one that others may be using is not changed under them.
  if (TRY(fs::list(dir_fd)).empty() && ::fchmod(dir_fd, 0700) == 0) return {};
  return Error::make(Code::denied, printable(path), ": open to other users, and images may hold set-user-id programs; ",
                     "chmod 0700 it or choose another directory");
}

std::string missing(std::string_view name) {
  return str("no image ", skink::quoted(name), "; skink images lists what there is, skink load adds one");
}

// The hex digits of an id or its prefix, when `text` can be one.
std::optional<std::string> id_prefix(std::string_view text) {
  if (text.starts_with("sha256:")) text.remove_prefix(7);
  const bool fits = text.size() >= kPrefixLeast && text.size() <= kHexLength &&
                    text.find_first_not_of("0123456789abcdef") == text.npos;
  return fits ? std::optional<std::string>(text) : std::nullopt;
}

Error ambiguous(std::string_view name, const std::vector<std::string>& found) {
  constexpr std::size_t kShown = 4, kDigits = 16;
  std::string ids;
  for (std::size_t i = 0; i < std::min(found.size(), kShown); ++i)
    ids += str(i == 0 ? "" : ", ", found[i].substr(0, kDigits));
  return Error::make(Code::invalid_config, skink::quoted(name), ": ", found.size(), " image ids begin so: ", ids,
                     found.size() > kShown ? ", ..." : "", "; give more digits");
}

Result<std::string> find_by_prefix(int store_fd, std::string_view name) {
  const auto prefix = id_prefix(name);
  if (!prefix) return Error(Code::not_found, missing(name));
  // A whole id, as containers have it, is found by itself, however many images there are.
  if (prefix->size() == kHexLength && TRY(exists(TRY(open_part(store_fd, kImages)).get(), *prefix))) return *prefix;
  std::vector<std::string> found;
  for (auto& hex : TRY(list_images(store_fd)))
    if (hex.starts_with(*prefix)) found.push_back(std::move(hex));
  if (found.size() > 1) return ambiguous(name, found);
  if (found.empty()) return Error(Code::not_found, missing(name));
  return std::move(found.front());
}

bool is_in_repository(const Image& image, const std::string& repository) {
  return repository.empty() || std::any_of(image.names.begin(), image.names.end(), [&](const std::string& name) {
           return name.size() > repository.size() && name.starts_with(repository) &&
                  (name[repository.size()] == ':' || name[repository.size()] == '@');
         });
}

// "sha256:HEX", with or without a repository in front: of a manifest, or an image's id. Each image has to be read for
// that, so it comes after all that is found by itself.
Result<std::optional<std::string>> find_by_digest(int store_fd, std::string_view text) {
  const auto reference = parse_reference(text);
  const bool has_repository = reference && !reference->digest.empty();
  const auto digest = oci::Digest::parse(has_repository ? std::string_view(reference->digest) : text);
  if (!digest) return std::optional<std::string>();
  const std::string repository = has_repository ? reference->repository : "";
  for (const auto& hex : TRY(list_images(store_fd))) {
    const auto image = read_image(store_fd, hex);
    if (!image || (image->manifest != *digest && image->id != *digest)) continue;
    if (is_in_repository(*image, repository)) return std::optional(hex);
  }
  return std::optional<std::string>();
}

// The reference by which `text` names an image, if it does. Podman and buildah put "localhost/" before names without a
// registry; people leave it out.
Result<std::optional<std::pair<std::string, std::string>>> find_by_name(int store_fd, std::string_view text) {
  using Named = std::optional<std::pair<std::string, std::string>>;
  const auto reference = parse_reference(text);
  if (!reference) return Named();
  const UniqueFd images = TRY(open_part(store_fd, kImages));
  for (const auto& candidate : {reference->text(), "localhost/" + reference->text()}) {
    auto hex = read_name(store_fd, candidate);
    if (!hex && hex.error().code() == Code::not_found) continue;
    if (!hex) return std::move(hex).error();
    if (TRY(exists(images.get(), *hex))) return Named(std::pair(candidate, *hex));
  }
  return Named();
}

Result<std::string> id_of(int store_fd, std::string_view name) {
  auto named = TRY(find_by_name(store_fd, name));
  if (named) return std::move(named->second);
  auto by_prefix = find_by_prefix(store_fd, name);
  if (by_prefix || by_prefix.error().code() != Code::not_found) return by_prefix;
  auto by_digest = TRY(find_by_digest(store_fd, name));
  return by_digest ? Result<std::string>(std::move(*by_digest)) : by_prefix;
}

// Layers that a load left behind when it was killed between storing them and publishing their image.
Result<void> sweep(int store_fd, Session& session) {
  if (TRY(sweep_sessions(store_fd)).count == 0) return {};
  const auto lock = TRY(lock_store(store_fd));
  auto taken = take_unreferenced(store_fd, TRY(list_layers(store_fd)), session);
  // With a damaged image every layer may be needed. They are no hindrance: the next prune finds them.
  if (!taken && taken.error().code() == Code::corrupt) return {};
  return taken;
}

}  // namespace

namespace {

// False when another command has removed one of them meanwhile.
Result<bool> read_loaded(int store_fd, const Catalog& catalog, std::vector<Image>& images) {
  images.clear();
  for (const auto& found : catalog.images) {
    auto image = read_image(store_fd, found.id.hex());
    if (!image && image.error().code() == Code::not_found) return false;
    images.push_back(TRY(std::move(image)));
  }
  return true;
}

}  // namespace

Result<Loaded> load_images(int store_fd, Loader& loader, const std::function<Result<Catalog>()>& make) {
  const auto load = [&]() -> Result<Loaded> {
    const Catalog catalog = TRY(make());
    constexpr int kTries = 8;
    Loaded loaded;
    bool done = false;
    for (int i = 0; i < kTries && !done; ++i)
      done = TRY(loader.run(catalog.images)) && TRY(read_loaded(store_fd, catalog, loaded.images));
    if (!done) return Error::make(Code::busy, "another command removes the image again and again");
    loaded.layers_written = loader.written();
    loaded.layers_reused = loader.reused();
    loaded.mended = loader.mended();
    loaded.notes = catalog.notes;
    loaded.notes.insert(loaded.notes.end(), loader.notes().begin(), loader.notes().end());
    return loaded;
  };
  auto loaded = load();
  if (loaded) return loaded;
  auto undone = loader.undo();
  if (!undone) loaded.error().also(undone.error());
  return loaded;
}

Result<Loaded> load_archive(int store_fd, Session& session, const std::string& file, const std::string& stem,
                            const LoadOptions& options) {
  const Archive archive = TRY(Archive::open(file, session.fd()));
  Loader loader(store_fd, session, &archive, options.progress, options.waits);
  return load_images(store_fd, loader, [&] { return read_catalog(archive, options, stem); });
}

Result<Loaded> load_with_session(int store_fd, const std::string& words,
                                 const std::function<Result<Loaded>(Session& session)>& work) {
  auto session = Session::begin(store_fd);
  if (!session) return std::move(session).error().context(words);
  const auto swept_and_done = [&]() -> Result<Loaded> {
    TRY(sweep(store_fd, *session));
    return work(*session);
  };
  auto loaded = swept_and_done();
  auto ended = session->end();
  if (loaded) return loaded;
  if (!ended) loaded.error().also(ended.error());
  // Names of entries are in the texts of system calls too (A78).
  const Error& why = loaded.error();
  Error safe = why.text() == printable(why.text()) ? why : Error::make(why.code(), printable(why.text()));
  return std::move(safe).context(words);
}

Result<Store> Store::open(const std::string& path, const std::string& run) {
  UniqueFd dir = TRY_CTX(fs::make_dirs(path), "image store");
  TRY_CTX(check_closed(dir.get(), path), "image store");
  TRY_CTX(make_layout(dir.get()), "image store ", printable(path));
  return Store(path, run, std::move(dir));
}

Result<Loaded> Store::load(const std::string& file, const LoadOptions& options) {
  const std::string words = str("load ", file == "-" ? "standard input" : printable(file));
  const bool has_name = !options.name.empty() || file == "-";
  const std::string stem = has_name ? options.name : stem_of(file);
  auto loaded = load_with_session(
      dir_.get(), words, [&](Session& session) { return load_archive(dir_.get(), session, file, stem, options); });
  // What took the place of a damaged layer is another file.
  if (loaded && loaded->mended > 0) TRY(sweep_mounts());
  return loaded;
}

Result<Image> Store::find(std::string_view name) const { return read_image(dir_.get(), TRY(find_id(name))); }

Result<std::string> Store::find_id(std::string_view name) const { return id_of(dir_.get(), name); }

Result<std::vector<std::string>> Store::list_ids() const { return list_images(dir_.get()); }

Result<std::vector<Image>> Store::list(std::vector<Error>* damaged) const {
  std::vector<Image> images;
  for (const auto& hex : TRY(list_images(dir_.get()))) {
    auto image = read_image(dir_.get(), hex);
    if (!image && image.error().code() == Code::not_found) continue;  // removed meanwhile
    if (!image && damaged == nullptr) return std::move(image).error();
    if (image) images.push_back(std::move(image).value());
    else damaged->push_back(std::move(image).error());
  }
  std::sort(images.begin(), images.end(), [](const Image& a, const Image& b) { return a.loaded > b.loaded; });
  return images;
}

Result<void> Store::tag(const Image& image, const Reference& name) {
  const std::string text = name.text();
  Session session = TRY(Session::begin(dir_.get()));
  const auto tag_it = [&]() -> Result<void> {
    const auto lock = TRY(lock_store(dir_.get()));
    const auto owner = read_name(dir_.get(), text);
    if (owner && *owner == image.id.hex()) return {};
    TRY(add_name(dir_.get(), image.id.hex(), text));
    TRY(write_name(dir_.get(), session, text, image.id.hex()));
    return owner ? drop_name(dir_.get(), *owner, text) : Result<void>{};
  };
  auto done = tag_it();
  auto ended = session.end();
  return done ? ended : done;
}

namespace {

// Of an image with damaged documents: enough to remove it by.
Result<Image> what_is_left(int store_fd, const std::string& hex) {
  Image image;
  image.id = TRY(oci::Digest::parse("sha256:" + hex));
  if (auto names = names_of_image(store_fd, hex)) image.names = std::move(*names);
  return image;
}

// Which names go: the one that was said, or all of an image that was named by its id.
Result<std::vector<std::string>> names_to_drop(const Image& image, const std::optional<std::string>& said, bool force) {
  if (said) return std::vector<std::string>{*said};
  if (image.names.size() > 1 && !force) {
    std::string names;
    for (const auto& name : image.names) names += (names.empty() ? "" : ", ") + name;
    return Error::make(Code::busy, "image ", image.id.text(), " has several names (", names,
                       "); remove it by name, or with --force");
  }
  return image.names;
}

}  // namespace

Result<std::vector<std::string>> Store::remove(std::string_view name, const RemoveOptions& options,
                                               const ImageUsers& users) {
  Session session = TRY(Session::begin(dir_.get()));
  std::vector<std::string> removed;
  const auto remove_it = [&]() -> Result<void> {
    const auto lock = TRY(lock_store(dir_.get()));
    const auto named = TRY(find_by_name(dir_.get(), name));
    const std::string hex = named ? named->second : TRY(id_of(dir_.get(), name));
    auto read = read_image(dir_.get(), hex);
    const bool is_damaged = !read && read.error().errnum() == 0 && read.error().code() != Code::not_found;
    if (is_damaged && options.force) read = TRY(what_is_left(dir_.get(), hex));
    if (!read && is_damaged)
      return Error(read.error()).context("damaged, see skink image verify; --force removes it and leaves its layers");
    const Image image = TRY(std::move(read));
    const auto names =
        TRY(names_to_drop(image, named ? std::optional<std::string>(named->first) : std::nullopt, options.force));
    const bool last = names.size() >= image.names.size();
    std::optional<fs::Lock> unheld;
    if (last) unheld = TRY_CTX(lock_unused_image(dir_.get(), image, users), "image ", skink::quoted(name));
    std::vector<std::string> needless;
    if (last && !options.keep_layers && !is_damaged) {
      for (const auto& diff_id : image.config.diff_ids) needless.push_back(diff_id.hex());
      needless = TRY(unreferenced(dir_.get(), std::move(needless), image.id.hex()));
    }
    for (const auto& each : names) {
      TRY(drop_name(dir_.get(), image.id.hex(), each));
      removed.push_back("Untagged: " + each);
    }
    if (!last) return {};
    TRY(take_image(dir_.get(), image.id.hex(), session));
    TRY(take_unneeded(dir_.get(), needless, session));
    removed.push_back("Deleted: " + image.id.text());
    return {};
  };
  auto done = remove_it();
  // Mounted, they would keep their space.
  auto swept = done ? sweep_mounts() : Result<std::size_t>(0);
  auto ended = session.end();
  if (!done) return std::move(done).error();
  if (!ended) return std::move(ended).error();
  if (!swept) return std::move(swept).error();
  return removed;
}

Result<fs::Lock> Store::hold(const Image& image) const { return hold_image(dir_.get(), image.id.hex()); }

Result<std::size_t> Store::sweep_mounts() const { return sweep_layer_mounts(dir_.get(), run_); }

Result<std::string> Store::read_config(const oci::Digest& id) const { return read_config_text(dir_.get(), id.hex()); }

Result<std::string> Store::read_manifest(const Image& image) const { return read_manifest_text(dir_.get(), image); }

Result<std::int64_t> Store::size_of_layer(const oci::Digest& diff_id) const {
  const auto reader = TRY_CTX(open_stored(dir_.get(), kLayers, diff_id.hex()), "layer ", diff_id.text());
  return reader->size();
}

Result<Lowers> Store::open_lowers(const Image& image) const {
  if (image.lowers.size() >= kLowersMost)
    return Error::make(Code::unsupported, "image ", image.id.text(), ": ", image.lowers.size(), " layers; at most ",
                       kLowersMost - 1, " can be stacked");
  return open_image_lowers(dir_.get(), run_, image);
}

}  // namespace skink::image
