// SPDX-License-Identifier: Apache-2.0
#include "oci/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sha256.h"

namespace skink::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const std::string kHex(64, 'a');

TEST(Digest, IsSha256AndLowerCaseHexOnly) {
  const auto digest = Digest::parse("sha256:" + kHex);

  ASSERT_TRUE(digest) << digest.error().text();
  EXPECT_EQ(digest->hex(), kHex);
  EXPECT_EQ(digest->text(), "sha256:" + kHex);
}

TEST(Digest, CannotBecomeAPath) {
  const std::vector<std::string> names = {std::string(),
                                          std::string("sha256:"),
                                          "sha256:../../../../etc/passwd",
                                          "SHA256:" + kHex,
                                          "sha256:" + kHex + "a",
                                          "sha256:" + std::string(63, 'a'),
                                          "sha256:" + std::string(64, 'A'),
                                          "sha256:" + std::string(63, 'a') + "/",
                                          "sha256:" + std::string(63, 'a') + "\n",
                                          "sha256:" + std::string(63, 'a') + '\0',
                                          " sha256:" + kHex,
                                          kHex,
                                          "sha1:" + std::string(40, 'a'),
                                          "a+b:" + kHex,
                                          "sha256:" + std::string(63, 'g') + "a"};
  for (const std::string& bad : names) {
    const auto digest = Digest::parse(bad);
    ASSERT_FALSE(digest) << bad;
    EXPECT_THAT(digest.error().text(), testing::EndsWith("is not sha256: and 64 lower-case hexadecimal digits"));
  }
}

TEST(Digest, SaysThatOtherKindsAreNotChecked) {
  const auto digest = Digest::parse("sha512:" + kHex + kHex);

  ASSERT_FALSE(digest);
  EXPECT_EQ(digest.error().code(), Code::unsupported);
  EXPECT_THAT(digest.error().text(), testing::EndsWith("is of a kind that skink does not check; only sha256 is"));
}

TEST(Digest, IsMadeOfBytes) {
  EXPECT_EQ(Digest::of_bytes(Sha256::of("")).hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(*Digest::parse("sha256:" + kHex), *Digest::parse("sha256:" + kHex));
  EXPECT_LT(*Digest::parse("sha256:" + kHex), *Digest::parse("sha256:" + std::string(64, 'b')));
}

TEST(Platform, IsReadAndWritten) {
  EXPECT_EQ(to_text(*parse_platform("linux/amd64")), "linux/amd64");
  EXPECT_EQ(to_text(*parse_platform("linux/arm64/v8")), "linux/arm64/v8");
  EXPECT_EQ(to_text(*parse_platform("linux/aarch64")), "linux/arm64");
  EXPECT_EQ(to_text(*parse_platform("linux/armhf")), "linux/arm/v7");
  EXPECT_EQ(parse_platform("amd64").error().text(),
            "\"amd64\" is not a platform; write it as linux/amd64 or linux/arm64/v8");
  for (const char* bad : {"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/a/b/c", "Linux/amd64", "linux/am d"})
    EXPECT_FALSE(parse_platform(bad)) << bad;
  EXPECT_EQ(host_platform().os, "linux");
}

TEST(Platform, MatchesTheUsualVariantWithoutNamingIt) {
  const auto match = [](const char* a, const char* b) { return matches(*parse_platform(a), *parse_platform(b)); };
  EXPECT_TRUE(match("linux/amd64", "linux/amd64"));
  EXPECT_TRUE(match("linux/arm64", "linux/arm64/v8"));
  EXPECT_TRUE(match("linux/arm/v7", "linux/arm"));
  EXPECT_FALSE(match("linux/arm/v8", "linux/arm"));
  EXPECT_FALSE(match("linux/amd64/v3", "linux/amd64"));
  EXPECT_FALSE(match("windows/amd64", "linux/amd64"));
  EXPECT_FALSE(match("unknown/unknown", "linux/amd64"));
}

TEST(Platform, OlderVariantsFitLessWell) {
  const auto rank = [](const char* offered, const char* wanted) -> int {
    const auto found = rank_of(*parse_platform(offered), *parse_platform(wanted));
    return found ? static_cast<int>(*found) : -1;
  };

  EXPECT_EQ(rank("linux/arm/v7", "linux/arm/v7"), 0);
  EXPECT_EQ(rank("linux/arm/v6", "linux/arm/v7"), 1);
  EXPECT_EQ(rank("linux/arm/v5", "linux/arm"), 2);
  EXPECT_EQ(rank("linux/amd64", "linux/amd64/v3"), 2);
  EXPECT_EQ(rank("linux/arm/v8", "linux/arm/v7"), -1);
  EXPECT_EQ(rank("linux/arm64/v9", "linux/arm64"), -1);
  EXPECT_GT(rank("linux/386", "linux/amd64"), rank("linux/amd64", "linux/amd64/v4"));
  EXPECT_GT(rank("linux/arm/v6", "linux/arm64"), rank("linux/arm/v7", "linux/arm64"));
  EXPECT_EQ(rank("linux/amd64", "linux/386"), -1);
}

std::string descriptor(std::string_view type, std::string_view more = "") {
  return str(R"({"mediaType": ")", type, R"(", "digest": "sha256:)", kHex, R"(", "size": 7)", more, "}");
}

constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr std::string_view kLayerType = "application/vnd.oci.image.layer.v1.tar+gzip";

std::string manifest_of(std::string_view more = "") {
  return str(R"({"schemaVersion": 2, "config": )", descriptor(kConfigType), R"(, "layers": [)", descriptor(kLayerType),
             "]", more, "}");
}

std::string index_of(std::string_view more = "") {
  return str(R"({"schemaVersion": 2, "manifests": [)",
             descriptor(kManifestType, R"(, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"})"),
             "]", more, "}");
}

TEST(ParseIndex, ReadsDescriptors) {
  const auto index = parse_index(index_of());

  ASSERT_TRUE(index) << index.error().text();
  EXPECT_EQ(index->media_type, kIndexType);
  ASSERT_EQ(index->manifests.size(), 1U);
  EXPECT_EQ(index->manifests[0].media_type, kManifestType);
  EXPECT_EQ(index->manifests[0].digest.hex(), kHex);
  EXPECT_EQ(index->manifests[0].size, 7);
  EXPECT_EQ(to_text(*index->manifests[0].platform), "linux/arm64/v8");
}

TEST(ParseIndex, KeepsAnnotations) {
  const std::string text =
      str(R"({"manifests": [)",
          descriptor(kManifestType, R"(, "annotations": {"org.opencontainers.image.ref.name": "v1"})"), "]}");

  const auto index = parse_index(text);

  ASSERT_TRUE(index) << index.error().text();
  EXPECT_EQ(index->manifests[0].annotations.at("org.opencontainers.image.ref.name"), "v1");
  EXPECT_FALSE(index->manifests[0].platform.has_value());
}

TEST(ParseManifest, ReadsOciAndDocker) {
  const auto oci = parse_manifest(manifest_of(R"(, "annotations": {"a": "b"}, "subject": 5)"));
  ASSERT_TRUE(oci) << oci.error().text();
  EXPECT_EQ(oci->media_type, kManifestType);
  EXPECT_EQ(oci->layers.at(0).media_type, kLayerType);
  EXPECT_EQ(oci->annotations.at("a"), "b");

  constexpr std::string_view kDocker = "application/vnd.docker.distribution.manifest.v2+json";
  const auto docker =
      parse_manifest(str(R"({"mediaType": ")", kDocker, R"(", "schemaVersion": 2, "layers": [], "config": )",
                         descriptor("application/vnd.docker.container.image.v1+json"), "}"));
  ASSERT_TRUE(docker) << docker.error().text();
  EXPECT_EQ(docker->media_type, kDocker);
}

TEST(ParseManifest, RefusesADocumentThatIsTwo) {
  EXPECT_EQ(parse_manifest(manifest_of(R"(, "manifests": [])")).error().text(),
            "the document is no manifest: it has \"manifests\" as well");
  EXPECT_EQ(parse_manifest(manifest_of(R"(, "fsLayers": [])")).error().text(),
            "the document is no manifest: it has \"fsLayers\" as well");
  EXPECT_EQ(parse_index(index_of(R"(, "layers": [])")).error().text(),
            "the document is no index: it has \"layers\" as well");
  EXPECT_EQ(parse_index(index_of(R"(, "config": {})")).error().text(),
            "the document is no index: it has \"config\" as well");
  EXPECT_EQ(parse_manifest(manifest_of(str(R"(, "mediaType": ")", kIndexType, '"'))).error().text(),
            str("the document says that it is \"", kIndexType, "\", not a manifest"));
  EXPECT_EQ(parse_index(index_of(str(R"(, "mediaType": ")", kManifestType, '"'))).error().text(),
            str("the document says that it is \"", kManifestType, "\", not an index"));
  EXPECT_EQ(parse_manifest(manifest_of(R"(, "manifests": [])")).error().code(), Code::corrupt);
}

TEST(ParseManifest, RefusesAnotherSchema) {
  EXPECT_EQ(parse_manifest(R"({"schemaVersion": 1, "name": "x"})").error().text(),
            "schemaVersion: 1 is not a number from 2 to 2");
}

TEST(ParseManifest, SaysWhatIsNoRunnableImage) {
  const auto manifest =
      parse_manifest(str(R"({"schemaVersion": 2, "artifactType": "application/x", "layers": [], "config": )",
                         descriptor("application/vnd.oci.empty.v1+json"), "}"));

  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code(), Code::unsupported);
  EXPECT_EQ(manifest.error().text(),
            "not a runnable image: its config is of type \"application/vnd.oci.empty.v1+json\"");
}

TEST(ParseManifest, ChecksDescriptors) {
  const auto error_of = [](std::string_view layer) {
    const auto manifest = parse_manifest(
        str(R"({"config": )", descriptor(kConfigType), R"(, "layers": [)", descriptor(kLayerType), ", ", layer, "]}"));
    return manifest ? std::string("(parsed)") : manifest.error().text();
  };
  const std::string start = str(R"({"mediaType": "x", "digest": "sha256:)", kHex, R"(", "size": )");

  EXPECT_EQ(error_of(start + "-1}"), "layers[1].size: -1 is not a number from 0 to 9223372036854775807");
  EXPECT_EQ(error_of(start + "9223372036854775808}"),
            "layers[1].size: 9223372036854775808 is not a number from 0 to 9223372036854775807");
  EXPECT_EQ(error_of(start + "\"7\"}"), "layers[1].size: \"7\" is not a number from 0 to 9223372036854775807");
  EXPECT_EQ(error_of(start + "7, \"size\": 8}").substr(0, 5), "byte ");
  EXPECT_EQ(error_of(R"({"mediaType": "x", "digest": "sha256:../x", "size": 1})"),
            "layers[1].digest: digest \"sha256:../x\" is not sha256: and 64 lower-case hexadecimal digits");
  EXPECT_EQ(error_of(R"({"mediaType": "x", "size": 1})"), "layers[1].digest: is missing");
  EXPECT_EQ(error_of(R"({"mediaType": "x", "digest": 5, "size": 1})"), "layers[1].digest: 5 is not a digest");
  EXPECT_EQ(error_of(str(R"({"digest": "sha256:)", kHex, R"(", "size": 1})")), "layers[1].mediaType: is missing");
  EXPECT_EQ(error_of("5"), "layers[1]: 5 is not an object");
}

TEST(ParseManifest, NeedsBothParts) {
  EXPECT_EQ(parse_manifest("{}").error().text(), "config: is missing");
  EXPECT_EQ(parse_index("{}").error().text(), "manifests: is missing");
  EXPECT_EQ(parse_index("[]").error().text(), "the document is a list, not an object");
}

// Go writes a list without entries as null, or leaves it out.
TEST(ParseManifest, NoLayersAreNullOrMissingOrEmpty) {
  for (const char* layers : {"", R"(, "layers": null)", R"(, "layers": [])"}) {
    const auto manifest = parse_manifest(str(R"({"config": )", descriptor(kConfigType), layers, "}"));

    ASSERT_TRUE(manifest) << layers << ": " << manifest.error().text();
    EXPECT_TRUE(manifest->layers.empty()) << layers;
  }
}

TEST(ParseManifest, CountsDescriptors) {
  std::string many = descriptor(kLayerType);
  for (int i = 0; i < 1000; ++i) many += str(", ", descriptor(kLayerType));

  EXPECT_EQ(
      parse_manifest(str(R"({"config": )", descriptor(kConfigType), R"(, "layers": [)", many, "]}")).error().text(),
      "the document has 1001 entries in \"layers\"; at most 1000 are read");
  EXPECT_EQ(parse_index(str(R"({"manifests": [)", many, "]}")).error().text(),
            "the document has 1001 entries in \"manifests\"; at most 1000 are read");
}

TEST(ParseDockerManifest, ReadsEntries) {
  const auto entries = parse_docker_manifest(
      R"([{"Config": "abc.json", "RepoTags": ["a:1", "a:2"], "Layers": ["x/layer.tar"]}, {"Config": "d", "RepoTags": null, "Layers": []}])");

  ASSERT_TRUE(entries) << entries.error().text();
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[0].config, "abc.json");
  EXPECT_THAT((*entries)[0].repo_tags, ElementsAre("a:1", "a:2"));
  EXPECT_THAT((*entries)[0].layers, ElementsAre("x/layer.tar"));
  EXPECT_TRUE((*entries)[1].repo_tags.empty());
}

TEST(ParseDockerManifest, SaysWhatIsWrong) {
  EXPECT_EQ(parse_docker_manifest("{}").error().text(), "the document is an object, not a list");
  EXPECT_EQ(parse_docker_manifest(R"([{"Layers": []}])").error().text(), "[0].Config: is missing");
  EXPECT_EQ(parse_docker_manifest(R"([{"Config": "c", "Layers": [1]}])").error().text(),
            "[0].Layers[0]: 1 is not a string");
  EXPECT_EQ(parse_docker_manifest(R"([{"Config": "c\u0000", "Layers": []}])").error().text(),
            "[0].Config: the string has a NUL byte in it");
}

TEST(LayerCompression, KnowsTheTypesOfTar) {
  EXPECT_EQ(*layer_compression("application/vnd.oci.image.layer.v1.tar"), Compression::none);
  EXPECT_EQ(*layer_compression("application/vnd.oci.image.layer.v1.tar+gzip"), Compression::gzip);
  EXPECT_EQ(*layer_compression("application/vnd.oci.image.layer.v1.tar+zstd"), Compression::zstd);
  EXPECT_EQ(*layer_compression("application/vnd.docker.image.rootfs.diff.tar.gzip"), Compression::gzip);
}

TEST(LayerCompression, NamesATypeThatItRefuses) {
  const auto error_of = [](std::string_view type) { return layer_compression(type).error().text(); };
  for (const char* foreign : {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                              "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"})
    EXPECT_EQ(error_of(foreign),
              str("layer type \"", foreign, "\" is one that lies outside the image; skink fetches none"));
  for (const char* odd : {"", "application/vnd.oci.image.layer.v1.erofs", "application/vnd.oci.empty.v1+json",
                          "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"})
    EXPECT_EQ(error_of(odd), str("layer type \"", odd, "\" is not a tar, plain or packed with gzip or zstd"));
  EXPECT_EQ(layer_compression("x").error().code(), Code::unsupported);
}

TEST(MediaTypes, TellManifestsFromIndexes) {
  EXPECT_TRUE(is_index_type(kIndexType));
  EXPECT_TRUE(is_index_type("application/vnd.docker.distribution.manifest.list.v2+json"));
  EXPECT_TRUE(is_manifest_type(kManifestType));
  EXPECT_FALSE(is_manifest_type(kIndexType));
  EXPECT_FALSE(is_index_type(kManifestType));
  EXPECT_FALSE(is_manifest_type("application/vnd.docker.distribution.manifest.v1+json"));
}

}  // namespace
}  // namespace skink::oci
