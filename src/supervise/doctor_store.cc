// SPDX-License-Identifier: Apache-2.0
// Doctor: names, run directories, images and compiled filters.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "fs/dir.h"
#include "image/check.h"
#include "image/lowers.h"
#include "launch/seccomp_cache.h"
#include "supervise/doctor.h"
#include "supervise/engine_impl.h"
#include "supervise/removal.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr const char* kCache = "seccomp-cache";

// Order: the draft is looked for before the container, as it becomes that by a rename.
bool is_somebody(const Roots& roots, const std::string& id) {
  const int containers = roots.store_containers.get();
  return sys::is_there(containers, str(kNewPrefix, id).c_str()) || sys::is_there(containers, id.c_str());
}

void check_run_dir(Ward& ward, const std::string& id) {
  const Roots& roots = ward.roots();
  const auto dir = open_run_dir(roots, id);
  if (!dir || is_somebody(roots, id)) return;
  const std::string path = str(ward.options().run, '/', std::string_view(kContainers), '/', id);
  const auto text = fs::read_file(dir->get(), kStatusFile, kRecordLimit);
  const auto status = text ? parse_status(*text) : Result<Status>(text.error());
  const auto boot = sys::boot_id();
  if (status && boot && status->boot_id != *boot) {
    ward.problem("former-boot", path, "state of a former boot, of a container that is gone", "--fix removes it",
                 [&roots, id]() -> Result<void> {
                   if (is_somebody(roots, id)) return {};
                   return remove_run_dir(roots.run_containers.get(), id);
                 });
    return;
  }
  ward.note("stray-state", path, "state of this boot, of a container that is not in this store",
            "it may be of another --root with the same --run; if there is none, remove the directory");
}

struct Words {
  const char *kind, *what, *advice;
};

Words words_for(image::StoreFlaw::Kind kind) {
  using Kind = image::StoreFlaw::Kind;
  switch (kind) {
    case Kind::session: return {"temporary-directory", "a load, tag or rmi was killed at work", "--fix removes it"};
    case Kind::layer:
      return {"orphaned-layer", "no image needs this layer: a load or rmi was killed half-way", "--fix removes it"};
    case Kind::scaffold:
      return {"orphaned-layer", "the image that this scaffold belongs to is not there", "--fix removes it"};
    case Kind::name:
      return {"image-name", "this name leads to no image: a load or rmi was killed half-way", "--fix removes it"};
    case Kind::foreign: return {"foreign", "it is nothing that skink makes", "move it away; skink never touches it"};
    case Kind::damaged: break;
  }
  return {"damaged-image", "this image cannot be used", ""};
}

void check_cache_entry(Ward& ward, int cache, const std::string& name) {
  constexpr std::int64_t kLongAgo = 60'000'000'000;
  const std::string path = str(ward.options().store, '/', std::string_view(kCache), '/', name);
  const auto remove = [&roots = ward.roots(), name]() -> Result<void> {
    const UniqueFd dir = TRY(sys::open_at(roots.store.get(), kCache, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (::unlinkat(dir.get(), name.c_str(), 0) == 0 || errno == ENOENT) return {};
    return Error::from_errno(errno, "unlink");
  };
  if (launch::is_of_other_version(name) && !is_temporary(name)) {
    ward.problem("old-cache-entry", path,
                 "a filter that another version of skink has compiled, which this one never reads", "--fix removes it",
                 remove);
    return;
  }
  if (!is_temporary(name)) return;
  // Whoever writes one holds no lock.
  const auto status = sys::stat_at(cache, name.c_str(), AT_SYMLINK_NOFOLLOW);
  if (status && fs::now_ns() - status->st_mtim.tv_sec * 1'000'000'000 > kLongAgo)
    ward.problem("temporary-file", path, "a launch was killed while it wrote this file", "--fix removes it", remove);
}

}  // namespace

void check_names(Ward& ward) {
  const Roots& roots = ward.roots();
  const auto entries = fs::list(roots.names.get());
  if (!entries) return;
  for (const auto& entry : *entries) {
    const std::string path = str(ward.options().store, '/', std::string_view(kNames), '/', entry.name);
    const auto id = find_name(roots, entry.name);
    if (!id) ward.problem("foreign", path, "it is no link that skink makes", "move it away; skink never touches it");
    else if (!is_somebody(roots, *id))
      ward.problem("name", path, "this name leads to no container: a create or rm was killed half-way",
                   "--fix removes it", [&roots, name = entry.name, id = *id]() -> Result<void> {
                     if (is_somebody(roots, id)) return {};
                     return remove_name(roots.names.get(), name, id);
                   });
  }
}

void check_run_dirs(Ward& ward) {
  const auto entries = fs::list(ward.roots().run_containers.get());
  if (!entries) return;
  for (const auto& entry : *entries) {
    if (is_id(entry.name)) check_run_dir(ward, entry.name);
    else
      ward.problem("foreign", str(ward.options().run, '/', std::string_view(kContainers), '/', entry.name),
                   "it is nothing that skink makes", "move it away; skink never touches it");
  }
}

void check_images(Ward& ward) {
  const int store = ward.roots().store.get();
  const auto flaws = image::check_store(store);
  if (!flaws) {
    ward.problem("damaged-image", ward.options().store, str("the images cannot be looked at: ", flaws.error().text()),
                 "");
    return;
  }
  for (const auto& flaw : *flaws) {
    const Words words = words_for(flaw.kind);
    const std::string path = str(ward.options().store, '/', flaw.path);
    if (flaw.kind == image::StoreFlaw::Kind::damaged)
      ward.problem(words.kind, path, str(words.what, ": ", flaw.reason),
                   "move this directory away, then load the image again");
    else if (flaw.kind == image::StoreFlaw::Kind::foreign) ward.problem(words.kind, path, words.what, words.advice);
    else
      ward.problem(words.kind, path, words.what, words.advice,
                   [store, flaw] { return image::clear_flaw(store, flaw); });
  }
}

void check_layer_mounts(Ward& ward) {
  const int store = ward.roots().store.get();
  const std::string& run = ward.options().run;
  const auto needless = image::find_needless_mounts(store, run);
  if (!needless || needless->places.empty()) return;
  ward.problem("layer-mount", str(run, "/layers"),
               str(needless->places.size(), " layers are mounted that are no longer stored, and keep their space"),
               "--fix takes them off", [store, run]() -> Result<void> {
                 TRY(image::sweep_layer_mounts(store, run));
                 return {};
               });
}

void check_cache(Ward& ward) {
  const auto cache = sys::open_at(ward.roots().store.get(), kCache, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const auto entries = cache ? fs::list(cache->get()) : Result<std::vector<fs::Entry>>(cache.error());
  if (!entries) return;
  for (const auto& entry : *entries) check_cache_entry(ward, cache->get(), entry.name);
}

}  // namespace skink::supervise
