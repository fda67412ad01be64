// SPDX-License-Identifier: Apache-2.0
// The verbs, each defined in the file of its command.
#pragma once

#include "cli/context.h"

namespace skink::cli {

extern const Verb kRunVerb, kCreateVerb;                                                  // run.cc
extern const Verb kAttachVerb;                                                            // attach_verb.cc
extern const Verb kStartVerb;                                                             // start.cc
extern const Verb kStopVerb, kRestartVerb, kKillVerb, kPauseVerb, kUnpauseVerb, kRmVerb;  // stop.cc
extern const Verb kUpdateVerb;                                                            // update.cc
extern const Verb kWhyVerb;                                                               // why.cc
extern const Verb kHealVerb;                                                              // heal.cc
extern const Verb kInstallUnitsVerb;                                                      // install_units.cc
extern const Verb kWaitVerb;                                                              // wait.cc
extern const Verb kPsVerb;                                                                // ps.cc
extern const Verb kStatsVerb;                                                             // stats.cc
extern const Verb kTopVerb;                                                               // top.cc
extern const Verb kMetricsVerb;                                                           // metrics.cc
extern const Verb kLogsVerb;                                                              // logs.cc
extern const Verb kEventsVerb;                                                            // events.cc
extern const Verb kExecVerb;                                                              // exec.cc
extern const Verb kInspectVerb;                                                           // inspect.cc
extern const Verb kImportVerb, kPullVerb, kSaveVerb;                                      // import.cc, pull.cc, save.cc
extern const Verb kLoadVerb;                                                              // load.cc
extern const Verb kImagesVerb, kTagVerb, kRmiVerb;                                        // images.cc
extern const Verb kImageVerb, kSystemVerb, kImageExistsVerb;                              // image_group.cc
extern const Verb kImageInspectVerb;                                                      // inspect.cc
extern const Verb kImagePruneVerb;                                                        // prune.cc
extern const Verb kImageVerifyVerb;                                                       // verify.cc
extern const Verb kHistoryVerb;                                                           // history.cc
extern const Verb kDfVerb;                                                                // df.cc
extern const Verb kDoctorVerb;                                                            // doctor.cc
extern const Verb kInfoVerb, kVersionVerb;                                                // info.cc

}  // namespace skink::cli
