// SPDX-License-Identifier: Apache-2.0
// Values in GVariant's text format, in which annotations give properties of systemd: "uint64 5000000", "'inactive'",
// "['a', 'b']". Pure.
#pragma once

#include <string_view>

#include "base/result.h"
#include "cgroup/bus_message.h"

namespace skink::cgroup {

/// Reads one value: true and false, numbers (int32, with a '.' or exponent double, or of the type that a word such as
/// uint64 in front says; 0x17 and 017 as in C), strings in single or double quotes, arrays, tuples, and "@TYPE VALUE",
/// which an empty array needs. Dictionaries, maybes, byte strings, object paths, signatures and variants are no
/// property's type and not taken. Errors: invalid_config with what is wrong and where.
Result<bus::Value> parse_gvariant(std::string_view text);

}  // namespace skink::cgroup
