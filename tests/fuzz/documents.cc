// SPDX-License-Identifier: Apache-2.0
// JSON documents: config.json as far as the plan, and those of images. The first byte says which.
#include "oci/check.h"
#include "oci/image.h"
#include "oci/json.h"
#include "oci/spec.h"
#include "plan/launch_plan.h"
#include "target.h"

using namespace skink;

namespace {

void try_config(std::string_view json) {
  const auto spec = oci::parse_spec(json);
  if (!spec || !oci::check_spec(*spec).empty()) return;
  plan::HostFacts facts;
  facts.last_capability = 40;
  facts.own_capabilities = ~std::uint64_t{0};
  const auto plan = plan::make_plan(*spec, facts);
  if (plan) (void)plan::describe(*plan);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view json = fuzz::text_of(data + 1, size - 1);
  switch (data[0]) {
    case 'c': try_config(json); break;
    case 'i': {
      const auto index = oci::parse_index(json);
      fuzz::demand(!index || !oci::parse_manifest(json), "an index is no manifest");
      break;
    }
    case 'm': {
      const auto manifest = oci::parse_manifest(json);
      fuzz::demand(!manifest || !oci::parse_index(json), "a manifest is no index");
      break;
    }
    case 'j': {
      const auto json_value = oci::parse_json(json);
      fuzz::demand(!json_value || *json_value == oci::Json::parse(json, nullptr, false), "nlohmann reads it otherwise");
      break;
    }
    case 'k': (void)oci::parse_image_config(json); break;
    case 'd': (void)oci::parse_docker_manifest(json); break;
    default: break;
  }
  return 0;
}
