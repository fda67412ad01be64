// SPDX-License-Identifier: Apache-2.0
#include "maker.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>

#include "base/sha256.h"
#include "oci/image.h"

namespace skink::image::test {
namespace {

void put(std::string& block, std::size_t at, std::size_t room, const std::string& text) {
  block.replace(at, std::min(room, text.size()), text.substr(0, room));
}

std::string octal(std::uint64_t value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
  return text;
}

std::string padded(std::string bytes) {
  bytes.resize((bytes.size() + 511) / 512 * 512, '\0');
  return bytes;
}

std::string header(const TarSpec& spec, const std::string& name) {
  std::string block(512, '\0');
  put(block, 0, 100, name);
  put(block, 100, 8, octal(spec.mode, 7));
  put(block, 108, 8, octal(spec.uid, 7));
  put(block, 116, 8, octal(spec.gid, 7));
  put(block, 124, 12, spec.size_field.empty() ? octal(spec.data.size(), 11) : spec.size_field);
  put(block, 136, 12, octal(static_cast<std::uint64_t>(spec.mtime), 11));
  block[156] = spec.type;
  put(block, 157, 100, spec.link);
  put(block, 257, 8, std::string("ustar\00000", 8));
  put(block, 329, 8, octal(spec.major, 7));
  put(block, 337, 8, octal(spec.minor, 7));
  put(block, 148, 8, "        ");
  unsigned sum = 0;
  for (const char byte : block) sum += static_cast<unsigned char>(byte);
  put(block, 148, 8, octal(sum + (spec.bad_checksum ? 1 : 0), 6) + std::string("\0 ", 2));
  return block;
}

}  // namespace

TarSpec file(std::string name, std::string data) { return {.name = std::move(name), .data = std::move(data)}; }
TarSpec directory(std::string name, unsigned mode) { return {.type = '5', .name = std::move(name), .mode = mode}; }
TarSpec symlink(std::string name, std::string target) {
  return {.type = '2', .name = std::move(name), .link = std::move(target), .mode = 0777};
}
TarSpec hardlink(std::string name, std::string target) {
  return {.type = '1', .name = std::move(name), .link = std::move(target)};
}

std::string pax_record(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  std::size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

std::string tar_entry(const TarSpec& spec) {
  std::string bytes;
  std::string name = spec.name, link = spec.link;
  auto pax = spec.pax;
  if (name.size() > 100) pax.emplace_back("path", name);
  if (link.size() > 100) pax.emplace_back("linkpath", link);
  if (!pax.empty()) {
    TarSpec extended{.type = 'x', .name = "pax"};
    for (const auto& [key, value] : pax) extended.data += pax_record(key, value);
    bytes += header(extended, extended.name) + padded(extended.data);
  }
  return bytes + header(spec, name) + padded(spec.data);
}

std::string tar(const std::vector<TarSpec>& entries) {
  std::string bytes;
  for (const auto& entry : entries) bytes += tar_entry(entry);
  return bytes + std::string(1024, '\0');
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

std::string digest(const std::string& bytes) { return oci::Digest::of_bytes(Sha256::of(bytes)).text(); }

namespace {

std::string pack(const ImageSpec& spec, const std::string& layer) {
  if (spec.packing == "gzip") return gzip(layer);
  return spec.packing == "zstd" ? zstd(layer) : layer;
}

std::string config_of(const ImageSpec& spec) {
  oci::Json config;
  config["architecture"] = spec.architecture.empty() ? oci::host_platform().architecture : spec.architecture;
  config["os"] = "linux";
  config["config"] = {{"Cmd", {"/bin/sh"}}};
  config["rootfs"] = {{"type", "layers"}, {"diff_ids", oci::Json::array()}};
  for (const auto& layer : spec.layers) config["rootfs"]["diff_ids"].push_back(digest(layer));
  if (spec.change_config) spec.change_config(config);
  return config.dump();
}

TarSpec blob(const std::string& bytes, const std::string& named) {
  return file("blobs/sha256/" + named.substr(7), bytes);
}

oci::Json descriptor(const std::string& type, const std::string& bytes) {
  return {{"mediaType", type}, {"digest", digest(bytes)}, {"size", bytes.size()}};
}

void add_blob(std::vector<TarSpec>& members, const std::string& bytes, const std::string& named) {
  const TarSpec member = blob(bytes, named);
  if (std::none_of(members.begin(), members.end(), [&](const TarSpec& have) { return have.name == member.name; }))
    members.push_back(member);
}

}  // namespace

std::vector<TarSpec> oci_members(const ImageSpec& spec) {
  std::vector<TarSpec> members{file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})")};
  const std::string config = config_of(spec);
  add_blob(members, config, digest(config));
  oci::Json manifest;
  manifest["schemaVersion"] = 2;
  manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json";
  manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", config);
  manifest["layers"] = oci::Json::array();
  const std::string suffix = spec.packing == "none" ? "" : "+" + spec.packing;
  for (const auto& layer : spec.layers) {
    const std::string packed = pack(spec, layer);
    manifest["layers"].push_back(descriptor("application/vnd.oci.image.layer.v1.tar" + suffix, packed));
    add_blob(members, spec.change_blob ? spec.change_blob(packed) : packed, digest(packed));
  }
  if (spec.change_manifest) spec.change_manifest(manifest);
  const std::string text = manifest.dump();
  add_blob(members, text, digest(text));
  oci::Json index;
  index["schemaVersion"] = 2;
  index["manifests"] = {descriptor("application/vnd.oci.image.manifest.v1+json", text)};
  if (!spec.ref_name.empty())
    index["manifests"][0]["annotations"] = {{"org.opencontainers.image.ref.name", spec.ref_name}};
  if (spec.change_index) spec.change_index(index);
  members.push_back(file("index.json", index.dump()));
  return members;
}

std::string oci_archive(const ImageSpec& spec) { return tar(oci_members(spec)); }

std::vector<TarSpec> docker_members(const ImageSpec& spec, const std::vector<std::string>& tags) {
  const std::string config = config_of(spec);
  std::vector<TarSpec> members{file(digest(config).substr(7) + ".json", config)};
  oci::Json entry;
  entry["Config"] = members[0].name;
  entry["RepoTags"] = tags;
  entry["Layers"] = oci::Json::array();
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    members.push_back(file(std::to_string(i) + "/layer.tar", pack(spec, spec.layers[i])));
    entry["Layers"].push_back(members.back().name);
  }
  if (spec.change_manifest) spec.change_manifest(entry);
  oci::Json list = oci::Json::array();
  list.push_back(entry);
  members.push_back(file("manifest.json", list.dump()));
  return members;
}

std::string docker_archive(const ImageSpec& spec, const std::vector<std::string>& tags) {
  return tar(docker_members(spec, tags));
}

}  // namespace skink::image::test
