// SPDX-License-Identifier: Apache-2.0
// Findings of `skink doctor` as JSON.
#pragma once

#include "oci/json.h"
#include "skink/engine.h"

namespace skink::cli {

/// The documented object of `doctor --format json`.
oci::Json finding_json(const Finding& finding);

}  // namespace skink::cli
