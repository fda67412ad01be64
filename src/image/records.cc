// SPDX-License-Identifier: Apache-2.0
#include "image/records.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/sha256.h"
#include "base/text.h"
#include "image/stored_layer.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kNameFileMost = 256;
constexpr auto kSafely = fs::Durability::durable;

Result<std::vector<fs::Entry>> list_noted_names(int image_fd) {
  return fs::list(TRY(open_part(image_fd, kNames)).get());
}

bool is_hidden(const fs::Entry& entry) { return entry.name.starts_with('.'); }

Result<UniqueFd> open_image(int store_fd, const std::string& hex) {
  auto opened = open_part(store_fd, str(kImages, '/', hex));
  if (!opened && opened.error().errnum() == ENOENT)
    return Error::make(Code::not_found, "no image sha256:", hex, "; skink images lists what there is");
  return opened;
}

// The names that were noted with an image and still lead to it. Where what was noted cannot be read, all names are
// asked.
Result<std::vector<std::string>> names_of(int store_fd, int image_fd, const std::string& hex) {
  auto noted = list_noted_names(image_fd);
  if (!noted) noted = fs::list(TRY(open_part(store_fd, kNames)).get());
  std::vector<std::string> names;
  for (const auto& entry : TRY(std::move(noted))) {
    if (is_hidden(entry)) continue;
    std::string reference = decode_name(entry.name);
    const auto target = read_name(store_fd, reference);
    if (target && *target == hex) names.push_back(std::move(reference));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Error damaged_record(const std::string& hex, std::string_view why) {
  return Error::make(Code::corrupt, "image sha256:", hex, ": its record is damaged: ", why,
                     "; skink image verify --repair writes it anew, from the archive that it came from");
}

// Of a configuration that is not what its name says nobody knows which layers it needs.
Result<std::string> read_config_of(int image_fd, const std::string& hex) {
  const auto text = fs::read_file(image_fd, kConfigFile, oci::kDocumentLimit);
  if (!text && text.error().errnum() != ENOENT) return Error(text.error()).context("image sha256:", hex);
  if (text && oci::Digest::of_bytes(Sha256::of(*text)).hex() == hex) return *text;
  return Error::make(Code::corrupt, "image sha256:", hex, ": its configuration is ", text ? "damaged" : "gone",
                     ", and with it which layers it needs; skink image verify --repair takes it out of its archive");
}

Result<void> read_record_of(int image_fd, Image& image) {
  const std::string hex = image.id.hex();
  const auto text = fs::read_file(image_fd, kRecordFile, oci::kDocumentLimit);
  if (!text && text.error().errnum() != ENOENT) return Error(text.error()).context("image sha256:", hex);
  if (!text) return damaged_record(hex, "it is gone");
  const auto read = [&]() -> Result<void> {
    const auto record = TRY(oci::parse_json(*text));
    image.manifest = TRY(oci::Digest::parse(oci::get_string(record, "manifest")));
    const oci::Json* lowers = oci::find(record, "lowers");
    if (lowers == nullptr || !lowers->is_array()) return Error::make(Code::corrupt, "no lowers");
    for (const auto& lower : *lowers) {
      const auto* text_of = lower.get_ptr<const std::string*>();
      image.lowers.push_back(TRY(oci::Digest::parse(text_of != nullptr ? *text_of : "")));
    }
    if (const oci::Json* scaffold = oci::find(record, "scaffold"); scaffold != nullptr) {
      image.scaffold.digest = TRY(oci::Digest::parse(oci::get_string(*scaffold, "seal")));
      image.scaffold.verity = oci::get_string(*scaffold, "verity");
    }
    image.size = oci::get_int(record, "size");
    image.loaded = oci::get_string(record, "loaded");
    return {};
  }();
  return read ? read : damaged_record(hex, read.error().text());
}

Result<Image> read_image_from(int store_fd, int image_fd, const std::string& hex) {
  Image image;
  image.id = TRY(oci::Digest::parse("sha256:" + hex));
  image.config = TRY_CTX(oci::parse_image_config(TRY(read_config_of(image_fd, hex))), "image sha256:", hex);
  TRY(read_record_of(image_fd, image));
  image.names = TRY(names_of(store_fd, image_fd, hex));
  return image;
}

// What `read` makes of an image's directory; again, when it was removed or replaced meanwhile, and its files with it.
template <typename Read>
auto read_while_there(int store_fd, const std::string& hex, const Read& read) -> decltype(read(0)) {
  for (;;) {
    const UniqueFd dir = TRY(open_image(store_fd, hex));
    auto done = read(dir.get());
    if (done || TRY(is_still(dir.get(), TRY(open_part(store_fd, kImages)).get(), hex))) return done;
  }
}

}  // namespace

Result<Image> read_image(int store_fd, const std::string& hex) {
  return read_while_there(store_fd, hex, [&](int dir) { return read_image_from(store_fd, dir, hex); });
}

Result<std::string> read_config_text(int store_fd, const std::string& hex) {
  return read_while_there(store_fd, hex, [&](int dir) { return read_config_of(dir, hex); });
}

Result<oci::Digest> recorded_manifest(int store_fd, const std::string& hex) {
  const UniqueFd dir = TRY(open_image(store_fd, hex));
  const auto record = TRY(oci::parse_json(TRY(fs::read_file(dir.get(), kRecordFile, oci::kDocumentLimit))));
  const std::string sealed = oci::get_string(record, "seal");
  if (!sealed.empty() && sealed != seal_of_record(record).text()) return damaged_record(hex, "its seal is another");
  return oci::Digest::parse(oci::get_string(record, "manifest"));
}

Result<std::string> read_manifest_text(int store_fd, const Image& image) {
  return read_while_there(store_fd, image.id.hex(), [&](int dir) -> Result<std::string> {
    const auto text = fs::read_file(dir, kManifestFile, oci::kDocumentLimit);
    if (!text && text.error().errnum() != ENOENT) return Error(text.error()).context("image ", image.id.text());
    if (text && oci::Digest::of_bytes(Sha256::of(*text)) == image.manifest) return *text;
    return Error::make(Code::corrupt, "image ", image.id.text(), ": its manifest is ", text ? "damaged" : "gone",
                       "; skink image verify --repair takes it out of its archive");
  });
}

Result<std::vector<std::string>> names_of_image(int store_fd, const std::string& hex) {
  return names_of(store_fd, TRY(open_image(store_fd, hex)).get(), hex);
}

Result<void> check_noted_names(int store_fd, const std::string& hex) {
  TRY(list_noted_names(TRY(open_image(store_fd, hex)).get()));
  return {};
}

Result<std::vector<std::string>> list_images(int store_fd) {
  const UniqueFd all = TRY(open_part(store_fd, kImages));
  std::vector<std::string> ids;
  for (auto& entry : TRY(fs::list(all.get())))
    if (oci::Digest::parse("sha256:" + entry.name)) ids.push_back(std::move(entry.name));
  std::sort(ids.begin(), ids.end());
  return ids;
}

oci::Digest seal_of_record(const oci::Json& record) {
  oci::Json rest = record;
  rest.erase("seal");
  return oci::Digest::of_bytes(Sha256::of(oci::dump_json(rest)));
}

Result<void> write_image(int dir_fd, const FoundImage& image, const ImageFacts& facts) {
  oci::Json record;
  record["manifest"] = image.manifest.text();
  record["size"] = facts.size;
  record["loaded"] = fs::rfc3339_now();
  record["lowers"] = oci::Json::array();
  for (const auto& diff_id : facts.lowers) record["lowers"].push_back(diff_id.text());
  if (facts.scaffold.digest)
    record["scaffold"] = {{"seal", facts.scaffold.digest->text()}, {"verity", facts.scaffold.verity}};
  record["seal"] = seal_of_record(record).text();
  TRY(fs::write_file_atomic(dir_fd, kConfigFile, image.config_text, 0600));
  TRY(fs::write_file_atomic(dir_fd, kManifestFile, image.manifest_text, 0600));
  TRY(fs::write_file_atomic(dir_fd, kRecordFile, oci::dump_json(record), 0600));
  TRY(sys::mkdir_at(dir_fd, kNames, 0700));
  const UniqueFd names = TRY(open_part(dir_fd, kNames));
  for (const auto& name : image.names)
    TRY(fs::write_file_atomic(names.get(), encode_name(name.text()).c_str(), "", 0600));
  return {};
}

Result<std::string> read_name(int store_fd, const std::string& reference) {
  const UniqueFd names = TRY(open_part(store_fd, kNames));
  const auto text = TRY(fs::read_file(names.get(), encode_name(reference).c_str(), kNameFileMost));
  return TRY_CTX(oci::Digest::parse(text), "name ", skink::quoted(reference)).hex();
}

Result<void> write_name(int store_fd, const Session& session, const std::string& reference, const std::string& hex) {
  const UniqueFd names = TRY(open_part(store_fd, kNames));
  const std::string staged = "name-" + fs::random_hex(8);
  TRY(fs::write_file_atomic(session.fd(), staged.c_str(), "sha256:" + hex, 0600, kSafely));
  TRY(sys::rename_at(session.fd(), staged.c_str(), names.get(), encode_name(reference).c_str()));
  if (::fsync(names.get()) != 0) return Error::from_errno(errno, "fsync names");
  return {};
}

Result<void> add_name(int store_fd, const std::string& hex, const std::string& reference) {
  const UniqueFd dir = TRY(open_image(store_fd, hex));
  const UniqueFd noted = TRY(open_part(dir.get(), kNames));
  TRY(sys::open_beneath(noted.get(), encode_name(reference).c_str(), O_WRONLY | O_CREAT, 0600));
  if (::fsync(noted.get()) != 0) return Error::from_errno(errno, "fsync names of an image");
  return {};
}

Result<void> drop_name(int store_fd, const std::string& hex, const std::string& reference, fs::Durability durability) {
  const std::string file = encode_name(reference);
  const auto target = read_name(store_fd, reference);
  if (target && *target == hex) {
    const UniqueFd names = TRY(open_part(store_fd, kNames));
    TRY(sys::unlink_at(names.get(), file.c_str()));
    if (durability == kSafely && ::fsync(names.get()) != 0) return Error::from_errno(errno, "fsync names");
  }
  const auto dir = open_image(store_fd, hex);
  if (!dir) return {};
  const UniqueFd noted = TRY(open_part(dir->get(), kNames));
  auto removed = sys::unlink_at(noted.get(), file.c_str());
  if (!removed && removed.error().errnum() != ENOENT) return removed;
  return {};
}

Result<fs::Lock> hold_image(int store_fd, const std::string& hex) {
  const UniqueFd images = TRY(open_part(store_fd, kImages));
  for (;;) {
    auto lock = TRY(fs::Lock::take(TRY(open_image(store_fd, hex)), fs::Lock::Mode::shared, "image"));
    if (TRY(is_still(lock.fd(), images.get(), hex))) return lock;
  }
}

Result<fs::Lock> lock_unused_image(int store_fd, const Image& image, const ImageUsers& users) {
  auto lock = fs::Lock::try_take(TRY(open_image(store_fd, image.id.hex())), fs::Lock::Mode::exclusive, image.id.text());
  if (!lock && lock.error().code() == Code::busy)
    return Error::make(Code::busy, "is in use: a container is being made of it, or it is being saved");
  if (!lock || !users) return lock;
  // Order: whoever holds the image has written down that he needs it before he lets it go.
  const auto all = TRY(users());
  const auto mine = all.find(image.id.text());
  if (mine == all.end() || mine->second.empty()) return lock;
  const auto& names = mine->second;
  return Error::make(Code::busy, "is in use by container ", printable(names.front()),
                     names.size() > 1 ? str(" and ", names.size() - 1, " more") : "",
                     "; remove the container first (skink rm)");
}

Result<void> take_image(int store_fd, const std::string& hex, Session& session) {
  const UniqueFd images = TRY(open_part(store_fd, kImages));
  const UniqueFd scaffolds = TRY(open_part(store_fd, kScaffolds));
  TRY(session.take(images.get(), hex));
  for (const Form form : {Form::file, Form::directory}) TRY(session.take(scaffolds.get(), stored_name(hex, form)));
  return {};
}

Result<std::set<std::string>> referenced_layers(int store_fd) {
  std::set<std::string> layers;
  for (const auto& hex : TRY(list_images(store_fd))) {
    const auto text = read_config_text(store_fd, hex);
    if (!text && text.error().code() == Code::not_found) continue;  // removed meanwhile
    for (const auto& diff_id : TRY_CTX(oci::parse_image_config(TRY(text)), "image sha256:", hex).diff_ids)
      layers.insert(diff_id.hex());
  }
  return layers;
}

Result<std::vector<std::string>> unreferenced(int store_fd, std::vector<std::string> layers, const std::string& but) {
  std::vector<std::string> needless = std::move(layers);
  for (const auto& hex : TRY(list_images(store_fd))) {
    if (needless.empty()) break;
    if (hex == but) continue;
    const auto text = TRY(read_config_text(store_fd, hex));
    // Of thousands of images few have any of them: only those are parsed, and those whose digits may be escaped.
    const auto is_in_text = [&](const std::string& layer) { return text.find(layer) != text.npos; };
    const bool is_plain = text.find('\\') == text.npos;
    if (is_plain && std::none_of(needless.begin(), needless.end(), is_in_text)) continue;
    for (const auto& diff_id : TRY_CTX(oci::parse_image_config(text), "image sha256:", hex).diff_ids)
      std::erase(needless, diff_id.hex());
  }
  return needless;
}

Result<void> take_unreferenced(int store_fd, const std::vector<std::string>& layers, Session& session) {
  TRY(take_unneeded(store_fd, TRY(unreferenced(store_fd, layers, "")), session));
  return {};
}

Result<std::size_t> take_unneeded(int store_fd, const std::vector<std::string>& layers, Session& session) {
  const UniqueFd all = TRY(open_part(store_fd, kLayers));
  const UniqueFd marks = TRY(open_part(store_fd, kMarks));
  const UniqueFd locks = TRY(open_part(store_fd, kLocks));
  std::size_t count = 0;
  for (const auto& hex : layers) {
    const auto lock = lock_layer(store_fd, hex, LayerLock::remove);
    if (!lock && lock.error().code() == Code::busy) continue;
    if (!lock) return lock.error();
    for (const Form form : {Form::file, Form::directory}) TRY(session.take(all.get(), stored_name(hex, form)));
    // Last: marks without a layer are found by list_layers(), a layer without marks counts as none.
    TRY(session.take(marks.get(), hex));
    // Who waits for these files sees that the names are gone and takes new ones.
    for (const char* ending : {".use", ".write"}) (void)sys::unlink_at(locks.get(), (hex + ending).c_str());
    ++count;
  }
  return count;
}

Result<std::vector<std::string>> list_layers(int store_fd) {
  std::set<std::string> layers;
  for (const char* part : {kLayers, kMarks}) {
    const UniqueFd all = TRY(open_part(store_fd, part));
    for (const auto& entry : TRY(fs::list(all.get()))) layers.insert(hex_of(entry.name));
  }
  return std::vector<std::string>(layers.begin(), layers.end());
}

}  // namespace skink::image
