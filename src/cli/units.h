// SPDX-License-Identifier: Apache-2.0
// The units for systemd that skink install-units writes: the files of units/, which packages install.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skink::cli {

struct UnitFile {
  const char* name;  ///< skink-heal.service
  const char* text;  ///< with @bindir@/skink where the program goes
};

extern const UnitFile kUnitFiles[];
extern const std::size_t kUnitCount;

/// What the units are written for.
struct UnitPlan {
  std::string program;  ///< absolute path of skink
  std::string store;    ///< --root and --run of what they call; the defaults are left out
  std::string run;
};

/// The text of one. Errors: invalid_config for a path that would have to be quoted in a unit.
Result<std::string> unit_text(const UnitFile& unit, const UnitPlan& plan);

/// Whether install-units has written this text, whatever it was given.
bool is_installed_unit(std::string_view text);

}  // namespace skink::cli
