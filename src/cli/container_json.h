// SPDX-License-Identifier: Apache-2.0
// Containers as JSON (docs/json.md has every field) and by docker's names for templates.
#pragma once

#include <string_view>

#include "oci/json.h"
#include "skink/engine.h"

namespace skink::cli {

/// Its state in one word, as `state` has it: the phase, or "corrupt".
std::string_view state_text(const ContainerInfo& container);

/// The documented object of `ps --format json`; `inspect` adds to it.
oci::Json container_json(const ContainerInfo& container, std::int64_t now_ns);

/// Docker's field names in `ps` templates: ID, Names, Image, Command, CreatedAt, RunningFor, State, Status, Labels, ...
oci::Json docker_ps_json(const ContainerInfo& container, std::int64_t now_ns, bool whole);

/// `inspect`: container_json and the OCI configuration under "spec".
oci::Json inspect_json(const ContainerInfo& container, const oci::Json& spec, std::int64_t now_ns);

/// Docker's paths in `inspect` templates: Id, Name, State.Pid, State.ExitCode, Config.Labels, ...
oci::Json docker_inspect_json(const ContainerInfo& container, const oci::Json& spec);

}  // namespace skink::cli
