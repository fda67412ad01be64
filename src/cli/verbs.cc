// SPDX-License-Identifier: Apache-2.0
// The table of verbs.
#include "cli/verbs.h"

namespace skink::cli {

const std::vector<const Verb*>& all_verbs() {
  static const std::vector<const Verb*> kVerbs = {
      &kRunVerb,     &kCreateVerb,       &kStartVerb,   &kAttachVerb, &kStopVerb, &kRestartVerb, &kKillVerb,
      &kPauseVerb,   &kUnpauseVerb,      &kUpdateVerb,  &kWaitVerb,   &kRmVerb,   &kHealVerb,    &kDoctorVerb,
      &kPsVerb,      &kWhyVerb,          &kLogsVerb,    &kEventsVerb, &kExecVerb, &kInspectVerb, &kStatsVerb,
      &kTopVerb,     &kMetricsVerb,      &kLoadVerb,    &kImportVerb, &kPullVerb, &kSaveVerb,    &kImagesVerb,
      &kTagVerb,     &kRmiVerb,          &kHistoryVerb, &kImageVerb,  &kDfVerb,   &kSystemVerb,  &kInfoVerb,
      &kVersionVerb, &kInstallUnitsVerb,
  };
  return kVerbs;
}

const Verb* find_verb(std::string_view name) {
  for (const Verb* verb : all_verbs())
    if (name == verb->name) return verb;
  return nullptr;
}

}  // namespace skink::cli
