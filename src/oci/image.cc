// SPDX-License-Identifier: Apache-2.0
// Digests, platforms and media types: the words that images are named by.
#include "oci/image.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "oci/rules.h"

namespace skink::oci {
namespace {

constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kDockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";

struct LayerType {
  std::string_view media_type;
  Compression compression;
};

constexpr std::array kLayerTypes{
    LayerType{"application/vnd.oci.image.layer.v1.tar", Compression::none},
    LayerType{"application/vnd.oci.image.layer.v1.tar+gzip", Compression::gzip},
    LayerType{"application/vnd.oci.image.layer.v1.tar+zstd", Compression::zstd},
    LayerType{"application/vnd.docker.image.rootfs.diff.tar", Compression::none},
    LayerType{"application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::gzip},
    LayerType{"application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::zstd},
};

struct Alias {
  std::string_view given, architecture, variant;
};

// What uname(2) and Debian call the architectures that images name in Go's words.
constexpr std::array kAliases{
    Alias{"x86_64", "amd64", ""},  Alias{"x86-64", "amd64", ""}, Alias{"i386", "386", ""},    Alias{"i686", "386", ""},
    Alias{"aarch64", "arm64", ""}, Alias{"armhf", "arm", "v7"},  Alias{"armel", "arm", "v6"},
};

std::string_view usual_variant(std::string_view architecture) {
  if (architecture == "amd64") return "v1";
  if (architecture == "arm64") return "v8";
  return architecture == "arm" ? "v7" : "";
}

bool is_platform_word(std::string_view word) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  };
  return !word.empty() && word.size() <= 64 && std::all_of(word.begin(), word.end(), allowed);
}

bool is_lower_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

Result<Digest> Digest::parse(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  constexpr std::size_t kDigits = 64;
  const auto bad = [&](Code code, std::string_view why) { return Error::make(code, "digest ", brief(text), " ", why); };
  if (text.starts_with("sha512:") || text.starts_with("blake3:"))
    return bad(Code::unsupported, "is of a kind that skink does not check; only sha256 is");
  const std::string_view hex = text.starts_with(kPrefix) ? text.substr(kPrefix.size()) : std::string_view{};
  if (hex.size() != kDigits || !std::all_of(hex.begin(), hex.end(), is_lower_hex))
    return bad(Code::invalid_config, "is not sha256: and 64 lower-case hexadecimal digits");
  Digest digest;
  digest.hex_ = hex;
  return digest;
}

Digest Digest::of_bytes(const std::array<std::uint8_t, 32>& bytes) {
  Digest digest;
  digest.hex_ = to_hex(bytes.data(), bytes.size());
  return digest;
}

Platform host_platform() {
#if defined(__x86_64__)
  return {"linux", "amd64", ""};
#elif defined(__i386__)
  return {"linux", "386", ""};
#elif defined(__aarch64__)
  return {"linux", "arm64", "v8"};
#elif defined(__arm__)
  return {"linux", "arm", "v7"};
#elif defined(__riscv)
  return {"linux", "riscv64", ""};
#elif defined(__powerpc64__)
  return {"linux", "ppc64le", ""};
#elif defined(__s390x__)
  return {"linux", "s390x", ""};
#elif defined(__loongarch64)
  return {"linux", "loong64", ""};
#else
#error "host_platform does not know this architecture"
#endif
}

Result<Platform> parse_platform(std::string_view text) {
  const auto words = split(text, '/');
  const bool formed =
      (words.size() == 2 || words.size() == 3) && std::all_of(words.begin(), words.end(), is_platform_word);
  if (!formed)
    return Error::make(Code::invalid_config, brief(text),
                       " is not a platform; write it as linux/amd64 or linux/arm64/v8");
  Platform platform{std::string(words[0]), std::string(words[1]), words.size() == 3 ? std::string(words[2]) : ""};
  for (const Alias& alias : kAliases) {
    if (platform.architecture != alias.given) continue;
    platform.architecture = alias.architecture;
    if (platform.variant.empty()) platform.variant = alias.variant;
  }
  return platform;
}

std::string to_text(const Platform& platform) {
  std::string text = str(platform.os, '/', platform.architecture);
  if (!platform.variant.empty()) text += str('/', platform.variant);
  return text;
}

namespace {

std::string_view variant_of(const Platform& platform) {
  return platform.variant.empty() ? usual_variant(platform.architecture) : std::string_view(platform.variant);
}

// "v7" is 7; what is none of these numbers is a variant of its own.
std::optional<unsigned> version_of(std::string_view variant) {
  return variant.starts_with('v') ? parse_int<unsigned>(variant.substr(1)) : std::nullopt;
}

// Variants of one architecture: the newer run what was made for the older, down to `oldest`.
std::optional<unsigned> rank_of_variant(std::string_view offered, std::string_view wanted, unsigned oldest) {
  if (offered == wanted) return 0U;
  const auto old = version_of(offered), now = version_of(wanted);
  if (!old || !now || *old > *now || *old < oldest) return std::nullopt;
  return *now - *old;
}

constexpr unsigned kArmOldest = 5, kAmd64Oldest = 1;
// Behind every variant of the architecture itself.
constexpr unsigned kOtherArchitecture = 100;

}  // namespace

std::optional<unsigned> rank_of(const Platform& offered, const Platform& wanted) {
  if (offered.os != wanted.os) return std::nullopt;
  const std::string_view have = variant_of(offered), want = variant_of(wanted);
  if (offered.architecture == wanted.architecture) {
    if (wanted.architecture == "arm") return rank_of_variant(have, want, kArmOldest);
    if (wanted.architecture == "amd64") return rank_of_variant(have, want, kAmd64Oldest);
    return have == want ? std::optional(0U) : std::nullopt;
  }
  if (wanted.architecture == "amd64" && offered.architecture == "386") return kOtherArchitecture;
  if (wanted.architecture != "arm64" || offered.architecture != "arm") return std::nullopt;
  const auto rank = rank_of_variant(have, "v8", kArmOldest);
  return rank ? std::optional(kOtherArchitecture + *rank) : std::nullopt;
}

bool matches(const Platform& offered, const Platform& wanted) { return rank_of(offered, wanted).has_value(); }

Result<Compression> layer_compression(std::string_view media_type) {
  for (const LayerType& type : kLayerTypes)
    if (type.media_type == media_type) return type.compression;
  const std::string shown = brief(media_type);
  const bool foreign = media_type.find(".nondistributable.") != std::string_view::npos ||
                       media_type.find(".foreign.") != std::string_view::npos;
  // The address in "urls" is the image's choice: fetching from it gives away credentials (CVE-2020-15157).
  if (foreign)
    return Error::make(Code::unsupported, "layer type ", shown,
                       " is one that lies outside the image; skink fetches none");
  return Error::make(Code::unsupported, "layer type ", shown, " is not a tar, plain or packed with gzip or zstd");
}

bool is_index_type(std::string_view media_type) { return media_type == kOciIndex || media_type == kDockerList; }

bool is_manifest_type(std::string_view media_type) {
  return media_type == kOciManifest || media_type == kDockerManifest;
}

}  // namespace skink::oci
