// SPDX-License-Identifier: Apache-2.0
// An image's facts as JSON.
#include "cli/image_json.h"

#include "base/text.h"
#include "cli/human.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

using oci::Json;

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json strings_or_null(const std::optional<std::vector<std::string>>& strings) {
  return strings ? Json(*strings) : Json(nullptr);
}

Json labels_json(const image::Image& image) {
  Json json = Json::object();
  for (const auto& [key, value] : image.config.run.labels) json[key] = value;
  return json;
}

Json layers_json(const image::Image& image) {
  Json json = Json::array();
  for (const auto& diff_id : image.config.diff_ids) json.push_back(diff_id.text());
  return json;
}

std::int64_t created_ns(const image::Image& image) { return fs::parse_rfc3339(image.config.created).value_or(0); }

}  // namespace

std::pair<std::string, std::string> name_parts(std::string_view name) {
  if (name.empty()) return {"<none>", "<none>"};
  if (const auto at = name.find('@'); at != std::string_view::npos) return {std::string(name.substr(0, at)), "<none>"};
  const auto colon = name.rfind(':');
  if (colon == std::string_view::npos || name.find('/', colon) != std::string_view::npos)
    return {std::string(name), "<none>"};
  return {std::string(name.substr(0, colon)), std::string(name.substr(colon + 1))};
}

Json image_json(const image::Image& image, const std::string& name) {
  Json json = Json::object();
  json["name"] = name;
  json["id"] = image.id.text();
  json["digest"] = image.manifest.text();
  json["created"] = text_or_null(image.config.created);
  json["loaded"] = text_or_null(image.loaded);
  json["size"] = image.size;
  json["platform"] = oci::to_text(image.config.platform);
  return json;
}

Json docker_images_json(const image::Image& image, const std::string& name, std::int64_t now_ns, bool whole) {
  const auto [repository, tag] = name_parts(name);
  Json json = Json::object();
  json["Repository"] = repository;
  json["Tag"] = tag;
  json["ID"] = whole ? image.id.text() : short_id(image.id.text());
  json["Digest"] = image.manifest.text();
  json["CreatedAt"] = created_ns(image) == 0 ? "N/A" : human_date(created_ns(image));
  json["CreatedSince"] = human_ago(created_ns(image), now_ns);
  json["Size"] = human_size(image.size);
  return json;
}

Json inspect_image_json(const image::Image& image) {
  const oci::ImageRun& run = image.config.run;
  Json json = image_json(image, image.names.empty() ? std::string() : image.names.front());
  json["names"] = image.names;
  json["author"] = image.config.author;
  json["entrypoint"] = strings_or_null(run.entrypoint);
  json["cmd"] = strings_or_null(run.cmd);
  json["env"] = run.env;
  json["user"] = run.user;
  json["working_dir"] = run.working_dir;
  json["stop_signal"] = run.stop_signal;
  json["volumes"] = run.volumes;
  json["exposed_ports"] = run.exposed_ports;
  json["labels"] = labels_json(image);
  json["layers"] = layers_json(image);
  return json;
}

Json docker_inspect_image_json(const image::Image& image) {
  const oci::ImageRun& run = image.config.run;
  Json json = Json::object();
  json["Id"] = image.id.text();
  json["RepoTags"] = image.names;
  json["Created"] = image.config.created;
  json["Author"] = image.config.author;
  json["Os"] = image.config.platform.os;
  json["Architecture"] = image.config.platform.architecture;
  json["Variant"] = image.config.platform.variant;
  json["Size"] = image.size;
  json["Config"] = {{"User", run.user},
                    {"Env", run.env},
                    {"Cmd", strings_or_null(run.cmd)},
                    {"Entrypoint", strings_or_null(run.entrypoint)},
                    {"WorkingDir", run.working_dir},
                    {"StopSignal", run.stop_signal},
                    {"Labels", labels_json(image)}};
  json["RootFS"] = {{"Type", "layers"}, {"Layers", layers_json(image)}};
  return json;
}

}  // namespace skink::cli
