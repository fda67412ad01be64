// SPDX-License-Identifier: Apache-2.0
#include "image/check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <functional>

#include "base/text.h"
#include "image/layout.h"
#include "image/recipe.h"
#include "image/records.h"
#include "image/seal.h"
#include "image/stored_layer.h"
#include "sys/file.h"

namespace skink::image {
namespace {

using Kind = StoreFlaw::Kind;
using Flaws = std::vector<StoreFlaw>;

// What has another name is not ours.
bool is_digest(std::string_view name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == name.npos;
}

Result<void> check_sessions(int store_fd, Flaws& flaws) {
  const UniqueFd all = TRY(open_part(store_fd, kTemporary));
  for (const auto& entry : TRY(fs::list(all.get()))) {
    auto opened = sys::open_beneath(all.get(), entry.name.c_str(), O_RDONLY | O_DIRECTORY);
    if (!opened) continue;
    if (fs::Lock::try_take(std::move(*opened), fs::Lock::Mode::exclusive, entry.name))
      flaws.push_back({Kind::session, str(kTemporary, '/', entry.name), ""});
  }
  return {};
}

// Whether a load counts on the layer. Asked without making the file that it would lock.
bool is_awaited(int store_fd, const std::string& hex) {
  auto file = sys::open_beneath(store_fd, str(kLocks, '/', hex, ".use").c_str(), O_RDWR);
  return file && !fs::Lock::try_take(std::move(*file), fs::Lock::Mode::exclusive, hex);
}

Result<std::string> path_of_layer(int store_fd, const std::string& hex) {
  const auto form = TRY(find_form(store_fd, kLayers, hex));
  return form ? str(kLayers, '/', stored_name(hex, *form)) : str(kMarks, '/', hex);
}

Result<void> check_layers(int store_fd, Flaws& flaws) {
  const auto needed = TRY(referenced_layers(store_fd));
  for (const auto& hex : TRY(list_layers(store_fd)))
    if (is_digest(hex) && !needed.contains(hex) && !is_awaited(store_fd, hex))
      flaws.push_back({Kind::layer, TRY(path_of_layer(store_fd, hex)), ""});
  return {};
}

Result<void> check_scaffolds(int store_fd, Flaws& flaws) {
  const UniqueFd images = TRY(open_part(store_fd, kImages));
  const UniqueFd scaffolds = TRY(open_part(store_fd, kScaffolds));
  for (const auto& entry : TRY(fs::list(scaffolds.get())))
    if (is_digest(hex_of(entry.name)) && !TRY(exists(images.get(), hex_of(entry.name))))
      flaws.push_back({Kind::scaffold, str(kScaffolds, '/', entry.name), ""});
  return {};
}

Result<void> check_names(int store_fd, Flaws& flaws) {
  const UniqueFd images = TRY(open_part(store_fd, kImages));
  const UniqueFd names = TRY(open_part(store_fd, kNames));
  for (const auto& entry : TRY(fs::list(names.get()))) {
    const auto target = read_name(store_fd, decode_name(entry.name));
    if (target && !TRY(exists(images.get(), *target))) flaws.push_back({Kind::name, str(kNames, '/', entry.name), ""});
  }
  return {};
}

// A layer or scaffold, in whichever form it is; `verity` is of a file.
Result<void> glance_at_stored(int store_fd, const char* part, const std::string& hex, const std::string& verity) {
  const auto form = TRY(find_form(store_fd, part, hex));
  if (!form) return Error::make(Code::corrupt, "it is missing");
  TRY(open_stored(store_fd, part, hex));
  if (verity.empty() || *form != Form::file) return {};
  const std::string path = str(std::string_view(part), '/', stored_name(hex, Form::file));
  return check_verity(TRY(sys::open_beneath(store_fd, path.c_str(), O_RDONLY | O_NOFOLLOW)).get(), verity);
}

// Entries of `path` that are nothing that skink makes there.
Result<void> check_foreign(int store_fd, const std::string& path, const std::function<bool(int, const char*)>& is_ours,
                           Flaws& flaws) {
  const UniqueFd dir = TRY(open_part(store_fd, path));
  for (const auto& entry : TRY(fs::list(dir.get())))
    if (!is_ours(dir.get(), entry.name.c_str()) && sys::is_there(dir.get(), entry.name.c_str()))
      flaws.push_back({Kind::foreign, str(path, '/', entry.name), ""});
  return {};
}

bool is_directory(int dir_fd, const char* name) {
  const auto status = sys::stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  return status && S_ISDIR(status->st_mode);
}

Result<void> check_foreigners(int store_fd, Flaws& flaws) {
  const auto only_sha256 = [](int, const char* name) { return std::string_view(name) == "sha256"; };
  TRY(check_foreign(store_fd, "images", only_sha256, flaws));
  // What has an image's name is looked at as one, whatever it is.
  TRY(check_foreign(
      store_fd, kImages, [](int, const char* name) { return is_digest(name); }, flaws));
  TRY(check_foreign(store_fd, kTemporary, is_directory, flaws));
  const auto is_name = [store_fd](int, const char* name) { return read_name(store_fd, decode_name(name)).has_value(); };
  return check_foreign(store_fd, kNames, is_name, flaws);
}

Result<void> check_image(int store_fd, const std::string& hex) {
  TRY(glance_at_image(store_fd, hex));
  for (const auto& layer : TRY(read_image(store_fd, hex)).lowers)
    TRY_CTX(glance_at_layer(store_fd, layer.hex()), "its layer ", layer.text());
  return {};
}

Result<void> check_images(int store_fd, Flaws& flaws) {
  for (const auto& hex : TRY(list_images(store_fd))) {
    const auto whole = check_image(store_fd, hex);
    if (!whole && whole.error().code() != Code::not_found)
      flaws.push_back({Kind::damaged, str(kImages, '/', hex), whole.error().text()});
  }
  return {};
}

// Into a session, out of everybody's sight, and away with that.
Result<void> take_away(int store_fd, const StoreFlaw& flaw, const std::string& hex) {
  Session session = TRY(Session::begin(store_fd));
  const auto take = [&]() -> Result<void> {
    const auto lock = TRY(lock_store(store_fd));
    if (flaw.kind == Kind::layer) return take_unreferenced(store_fd, {hex}, session);
    const UniqueFd images = TRY(open_part(store_fd, kImages));
    if (TRY(exists(images.get(), hex))) return {};
    const UniqueFd scaffolds = TRY(open_part(store_fd, kScaffolds));
    for (const Form form : {Form::file, Form::directory}) TRY(session.take(scaffolds.get(), stored_name(hex, form)));
    return {};
  };
  auto taken = take();
  auto ended = session.end();
  return taken ? ended : taken;
}

Result<void> drop_lost_name(int store_fd, const std::string& file) {
  const auto lock = TRY(lock_store(store_fd));
  const UniqueFd images = TRY(open_part(store_fd, kImages));
  const UniqueFd names = TRY(open_part(store_fd, kNames));
  const auto target = read_name(store_fd, decode_name(file));
  if (!target || TRY(exists(images.get(), *target))) return {};
  return sys::unlink_at(names.get(), file.c_str());
}

}  // namespace

Result<void> glance_at_layer(int store_fd, const std::string& hex) {
  TRY(glance_at_stored(store_fd, kLayers, hex, TRY(recorded_verity(store_fd, hex)).value_or("")));
  const UniqueFd marks = TRY(open_marks(store_fd, hex));
  const auto seal = TRY(read_seal(marks.get()));
  if (seal && seal->recipe && !TRY(exists(marks.get(), kRecipeFile)))
    return Error::make(Code::corrupt, "its recipe is missing");
  return {};
}

Result<void> glance_at_image(int store_fd, const std::string& hex) {
  const Image image = TRY(read_image(store_fd, hex));
  TRY(read_manifest_text(store_fd, image));
  TRY_CTX(glance_at_stored(store_fd, kScaffolds, hex, image.scaffold.verity), "its scaffold");
  return {};
}

Result<std::vector<StoreFlaw>> check_store(int store_fd) {
  Flaws flaws;
  TRY(check_sessions(store_fd, flaws));
  TRY(check_images(store_fd, flaws));
  // What a damaged image needs nobody knows: then every layer is kept.
  if (auto checked = check_layers(store_fd, flaws); !checked && flaws.empty()) return std::move(checked).error();
  TRY(check_scaffolds(store_fd, flaws));
  TRY(check_names(store_fd, flaws));
  TRY(check_foreigners(store_fd, flaws));
  return flaws;
}

Result<std::vector<StoreFlaw>> find_orphans(int store_fd) {
  Flaws flaws;
  TRY(check_sessions(store_fd, flaws));
  TRY(check_layers(store_fd, flaws));
  TRY(check_scaffolds(store_fd, flaws));
  return flaws;
}

Result<void> clear_flaw(int store_fd, const StoreFlaw& flaw) {
  std::string name = flaw.path.substr(flaw.path.rfind('/') + 1);
  if (flaw.kind == Kind::layer || flaw.kind == Kind::scaffold) name = hex_of(name);
  switch (flaw.kind) {
    case Kind::session: TRY(sweep_sessions(store_fd)); return {};
    case Kind::layer:
    case Kind::scaffold: return take_away(store_fd, flaw, name);
    case Kind::name: return drop_lost_name(store_fd, name);
    case Kind::damaged:
    case Kind::foreign: break;
  }
  return {};
}

}  // namespace skink::image
