// SPDX-License-Identifier: Apache-2.0
#include "cli/units.h"

#include <algorithm>

#include "base/text.h"
#include "skink/engine.h"

namespace skink::cli {
namespace {

constexpr std::string_view kMark = "# Written by skink install-units; changes go into a drop-in (systemctl edit).\n";

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

// Specifiers, quotes and blanks mean something in a unit (systemd.unit(5)); such directories are rare.
Result<void> check_path(std::string_view path, std::string_view what) {
  const bool plain = path.starts_with('/') && std::ranges::all_of(path, [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                              std::string_view("/._-+:@").find(c) != std::string_view::npos;
                     });
  if (plain) return {};
  return Error::make(Code::invalid_config, what, " ", quoted(path),
                     ": a unit wants an absolute path of letters, digits and /._-+:@");
}

}  // namespace

Result<std::string> unit_text(const UnitFile& unit, const UnitPlan& plan) {
  const EngineOptions defaults;
  TRY(check_path(plan.program, "program"));
  TRY(check_path(plan.store, "--root"));
  TRY(check_path(plan.run, "--run"));
  std::string command = plan.program;
  if (plan.store != defaults.store) command += str(" --root ", plan.store);
  if (plan.run != defaults.run) command += str(" --run ", plan.run);
  std::string text = str(kMark, unit.text);
  replace_all(text, "@bindir@/skink", command);
  if (plan.store != defaults.store) replace_all(text, "=/var/lib/skink ", str('=', plan.store, ' '));
  return text;
}

bool is_installed_unit(std::string_view text) { return text.starts_with(kMark); }

}  // namespace skink::cli
