// SPDX-License-Identifier: Apache-2.0
#include "image/verify.h"

#include <fcntl.h>

#include <map>

#include "base/sha256.h"
#include "base/text.h"
#include "image/layout.h"
#include "image/recipe.h"
#include "image/records.h"
#include "image/save.h"
#include "image/seal.h"
#include "image/stored_layer.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

using FaultKind = Fault::Kind;

std::string stored_path(const char* part, const std::string& name) { return str(std::string_view(part), '/', name); }

oci::Digest digest_of(std::string_view bytes) { return oci::Digest::of_bytes(Sha256::of(bytes)); }

// What is known of one layer, once it was looked at.
struct LayerState {
  std::vector<Fault> faults;
  std::vector<std::string> notes;
};

class Verifier {
 public:
  explicit Verifier(const Store& store) : store_(store), store_fd_(store.dir_fd()) {}
  Result<VerifiedImage> verify(const std::string& hex);

 private:
  Result<void> look_at_documents(const std::string& hex, VerifiedImage& image);
  Result<void> look_at_scaffold(const std::string& hex, VerifiedImage& image);
  Result<const LayerState*> look_at_layer(const oci::Digest& diff_id);
  Result<void> compare_layer(const std::string& hex, Form form, LayerState& state);
  Result<void> compare_file(const std::string& path, const std::string& recorded, Fault fault,
                            std::vector<Fault>& faults);

  const Store& store_;
  int store_fd_;
  std::map<std::string, LayerState> layers_;
  std::vector<oci::Digest> wanted_;  // of the image that is looked at, topmost first
};

// A document whose name is its digest. Nothing when it is not as it should be, which is a fault then.
std::optional<std::string> read_document(int dir_fd, const char* name, const oci::Digest& expected, Fault fault,
                                         std::vector<Fault>& faults) {
  fault.expected = expected.text();
  auto text = fs::read_file(dir_fd, name, oci::kDocumentLimit);
  if (text && digest_of(*text) == expected) return std::move(*text);
  fault.found = text ? digest_of(*text).text() : text.error().text();
  faults.push_back(std::move(fault));
  return std::nullopt;
}

Result<void> Verifier::look_at_documents(const std::string& hex, VerifiedImage& image) {
  const std::string path = stored_path(kImages, hex);
  const UniqueFd dir = TRY(open_part(store_fd_, path));
  const auto fault = [&](FaultKind kind, const char* name) {
    return Fault{.kind = kind, .layer = {}, .path = str(path, '/', name), .expected = {}, .found = {}};
  };
  wanted_.clear();
  const auto config =
      read_document(dir.get(), kConfigFile, image.id, fault(FaultKind::config, kConfigFile), image.faults);
  if (config)
    if (const auto parsed = oci::parse_image_config(*config)) wanted_ = parsed->diff_ids;
  if (const auto names = check_noted_names(store_fd_, hex); !names) {
    Fault bad = fault(FaultKind::record, kNames);
    bad.expected = "the list of its names";
    bad.found = names.error().text();
    image.faults.push_back(std::move(bad));
  }
  const auto text = fs::read_file(dir.get(), kRecordFile, oci::kDocumentLimit);
  const auto record = text ? oci::parse_json(*text) : Result<oci::Json>(text.error());
  const auto manifest = record ? oci::Digest::parse(oci::get_string(*record, "manifest")) : record.error();
  // With a damaged configuration nothing but the record can be asked, and that of the rest.
  const auto read = config ? read_image(store_fd_, hex) : Result<Image>(Error::make(Code::corrupt, "unknown"));
  // Those of before there were seals have none.
  const std::string sealed = record ? oci::get_string(*record, "seal") : "";
  const std::string found = record ? seal_of_record(*record).text() : "";
  if (!manifest || (config && !read) || (!sealed.empty() && sealed != found)) {
    Fault bad = fault(FaultKind::record, kRecordFile);
    bad.expected = !manifest || !read ? "the image's record" : printable(sealed);
    bad.found = !manifest ? manifest.error().text() : config && !read ? read.error().text() : found;
    image.faults.push_back(std::move(bad));
    return {};
  }
  (void)read_document(dir.get(), kManifestFile, *manifest, fault(FaultKind::manifest, kManifestFile), image.faults);
  if (config) return {};
  if (const oci::Json* lowers = oci::find(*record, "lowers"); lowers != nullptr && lowers->is_array())
    for (const auto& lower : *lowers)
      if (const auto* word = lower.get_ptr<const std::string*>(); word != nullptr)
        if (const auto digest = oci::Digest::parse(*word)) wanted_.push_back(*digest);
  return {};
}

// A file that is there, its fs-verity and its bytes.
Result<void> Verifier::compare_file(const std::string& path, const std::string& recorded, Fault fault,
                                    std::vector<Fault>& faults) {
  const std::string expected = std::exchange(fault.expected, {});
  const auto file = sys::open_beneath(store_fd_, path.c_str(), O_RDONLY | O_NOFOLLOW);
  const auto digest = file ? digest_file(file->get(), "the file") : Result<oci::Digest>(file.error());
  if (!recorded.empty() && file) {
    const auto measured = measure_verity(file->get());
    if (!measured || *measured != recorded) {
      fault.expected = str("fs-verity ", recorded);
      fault.found = !measured ? measured.error().text() : str("fs-verity ", measured->value_or("none"));
      faults.push_back(fault);
    }
  }
  if (digest && digest->text() == expected) return {};
  fault.expected = expected;
  fault.found = digest ? digest->text() : digest.error().text();
  faults.push_back(std::move(fault));
  return {};
}

Result<void> Verifier::look_at_scaffold(const std::string& hex, VerifiedImage& image) {
  Fault fault{.kind = FaultKind::scaffold,
              .layer = {},
              .path = stored_path(kScaffolds, stored_name(hex, Form::file)),
              .expected = {},
              .found = {}};
  const auto form = TRY(find_form(store_fd_, kScaffolds, hex));
  if (!form) {
    fault.expected = "the image's scaffold";
    fault.found = "nothing there";
    image.faults.push_back(std::move(fault));
    return {};
  }
  fault.path = stored_path(kScaffolds, stored_name(hex, *form));
  const auto read = read_image(store_fd_, hex);
  if (!read) return {};  // told already
  if (!read->scaffold.digest) {
    image.notes.push_back("its scaffold was stored by an older skink, without a seal");
    const auto opened = open_stored(store_fd_, kScaffolds, hex);
    if (opened) return {};
    fault.expected = "a scaffold";
    fault.found = opened.error().text();
    image.faults.push_back(std::move(fault));
    return {};
  }
  fault.expected = read->scaffold.digest->text();
  if (*form == Form::file) return compare_file(fault.path, read->scaffold.verity, fault, image.faults);
  const auto digest = digest_tree(TRY(open_part(store_fd_, fault.path)).get());
  if (digest && *digest == *read->scaffold.digest) return {};
  fault.found = digest ? digest->text() : digest.error().text();
  image.faults.push_back(std::move(fault));
  return {};
}

Result<void> Verifier::compare_layer(const std::string& hex, Form form, LayerState& state) {
  const std::string digest = "sha256:" + hex, path = stored_path(kLayers, stored_name(hex, form));
  const auto marks = open_marks(store_fd_, hex);
  // A directory's marks are in it.
  const std::string marks_path = form == Form::file ? stored_path(kMarks, hex) : path;
  const auto add = [&](FaultKind kind, const std::string& where, std::string expected, std::string found) {
    state.faults.push_back({kind, digest, where, std::move(expected), std::move(found)});
  };
  const auto seal = marks ? read_seal(marks->get()) : Result<std::optional<Seal>>(marks.error());
  if (!seal) {
    add(FaultKind::seal, str(marks_path, '/', std::string_view(kSealFile)), "the layer's seal", seal.error().text());
    return {};
  }
  if (!*seal) {
    state.notes.push_back(
        str("layer ", digest, " was stored by an older skink, without a seal: only its tar was compared"));
  } else if (form == Form::directory) {
    const auto found = digest_tree(TRY(open_part(store_fd_, path)).get());
    if (!found || *found != (*seal)->layer)
      add(FaultKind::layer, path, (*seal)->layer.text(), found ? found->text() : found.error().text());
  } else {
    const auto recorded = recorded_verity(store_fd_, hex);
    if (!recorded)
      add(FaultKind::seal, str(marks_path, '/', std::string_view(kVerityFile)), "the file's fs-verity digest",
          recorded.error().text());
    TRY(compare_file(path, recorded ? recorded->value_or("") : "",
                     {FaultKind::layer, digest, path, (*seal)->layer.text(), ""}, state.faults));
  }
  if (*seal && (*seal)->recipe) {
    const std::string recipe = str(marks_path, '/', std::string_view(kRecipeFile));
    TRY(compare_file(recipe, "", {FaultKind::recipe, digest, recipe, (*seal)->recipe->text(), ""}, state.faults));
  }
  // With both as they were when they were made, the tar is what came. Else it tells more than nothing.
  if (*seal) return {};
  const auto same = check_layer_tar(store_fd_, TRY(oci::Digest::parse(digest)));
  if (!same && same.error().code() == Code::unsupported) state.notes.push_back(same.error().text());
  else if (!same) add(FaultKind::layer, path, digest, same.error().text());
  return {};
}

Result<const LayerState*> Verifier::look_at_layer(const oci::Digest& diff_id) {
  const auto [known, is_new] = layers_.try_emplace(diff_id.hex());
  LayerState& state = known->second;
  if (!is_new) return &state;
  const auto form = TRY(find_form(store_fd_, kLayers, diff_id.hex()));
  if (!form)
    state.faults.push_back({FaultKind::layer, diff_id.text(),
                            stored_path(kLayers, stored_name(diff_id.hex(), Form::file)), "the layer",
                            "nothing there"});
  else TRY(compare_layer(diff_id.hex(), *form, state));
  return &state;
}

Result<VerifiedImage> Verifier::verify(const std::string& hex) {
  VerifiedImage image;
  image.id = TRY(oci::Digest::parse("sha256:" + hex));
  // Without any that can be read it is looked at by its id.
  if (auto names = names_of_image(store_fd_, hex)) image.names = std::move(*names);
  TRY(look_at_documents(hex, image));
  TRY(look_at_scaffold(hex, image));
  for (const auto& diff_id : std::vector<oci::Digest>(wanted_)) {
    const LayerState* state = TRY(look_at_layer(diff_id));
    image.faults.insert(image.faults.end(), state->faults.begin(), state->faults.end());
    image.notes.insert(image.notes.end(), state->notes.begin(), state->notes.end());
  }
  return image;
}

}  // namespace

std::string_view to_text(FaultKind kind) {
  switch (kind) {
    case FaultKind::config: return "config";
    case FaultKind::manifest: return "manifest";
    case FaultKind::record: return "record";
    case FaultKind::scaffold: return "scaffold";
    case FaultKind::layer: return "layer";
    case FaultKind::recipe: return "recipe";
    case FaultKind::seal: return "seal";
  }
  return "";
}

std::string Fault::text() const {
  const std::string of =
      layer.empty() || kind == FaultKind::layer ? str(layer.empty() ? "" : " ", layer) : " of layer " + layer;
  return str(to_text(kind), of, ": ", path, ": expected ", expected, ", found ", printable(found));
}

Result<std::vector<VerifiedImage>> verify_images(const Store& store, const std::vector<std::string>& ids) {
  Verifier verifier(store);
  std::vector<VerifiedImage> images;
  for (const auto& hex : ids) {
    auto image = verifier.verify(hex);
    // Removed meanwhile, it is nobody's any more.
    if ((!image || !image->faults.empty()) && !sys::is_there(store.dir_fd(), stored_path(kImages, hex).c_str()))
      continue;
    if (!image) return std::move(image.error().context("image sha256:", hex));
    images.push_back(std::move(*image));
  }
  return images;
}

}  // namespace skink::image
