// SPDX-License-Identifier: Apache-2.0
// Changes: instructions of a Dockerfile as `import --change` takes them.
#pragma once

#include <string_view>

#include "base/result.h"
#include "oci/json.h"

namespace skink::cli {

/// Applies one instruction to the "config" of an image's configuration: CMD, ENTRYPOINT, ENV, EXPOSE,
/// HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR, in Docker's forms. Errors name the instruction.
Result<void> apply_change(oci::Json& config, std::string_view instruction);

}  // namespace skink::cli
