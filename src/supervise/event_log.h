// SPDX-License-Identifier: Apache-2.0
// The event log: what happened to containers and images, for `skink events`. One file for all, RUN/events, to which
// everybody appends whole lines; when it is full it becomes RUN/events.old and a new one begins. It is news and no
// record: nothing of the engine ever reads it (docs/decisions/events.md).
//
//   event                  told by
//   create                 the command that made the container's record
//   start restart die oom fail waiting give_up stop kill pause unpause exec_*    the supervisor
//   supervisor_replaced guard_replaced    the successor, once it has adopted the container
//   destroy                whoever took the record out of sight: a command, or with --rm the supervisor
//   die, when both keepers were killed    the command that writes that end down
//   load tag untag delete  the command, of images
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/json.h"
#include "supervise/records.h"

namespace skink::supervise {

inline constexpr const char* kEventFile = "events";
inline constexpr const char* kOldEventFile = "events.old";
/// A file that has grown beyond this many bytes is put aside.
inline constexpr std::int64_t kEventGeneration = 1 << 20;
/// The longest line. Labels that would make it longer are left out, the longest first; then long texts are cut.
inline constexpr std::size_t kEventLimit = 4096;

struct Event {
  std::int64_t time_ns = 0;        ///< Unix time; 0 for append_event: now
  std::string type = "container";  ///< or "image"
  std::string action;              ///< "start", "die", ...; anything, so that new ones need no change here
  std::string id;                  ///< of the container, or the image's digest
  std::string name;                ///< of the container; of an image the name that the event is about, or empty
  std::string image;               ///< as given to create; the directory of a bundle
  std::map<std::string, std::string> labels;
  /// Which run: the number of the order to start, a point, and which launch of that order. The same event of the same
  /// run may be on record twice, when a supervisor was killed just then; who reads shows it once. Empty: none.
  std::string run;
  oci::Json attributes = oci::Json::object();  ///< what else there is to tell: numbers, booleans and strings
};

/// An event of a container.
Event event_of(const Container& container, std::string_view action, oci::Json attributes = oci::Json::object());

/// How a run ended: exit_code (not there when it is not known), signal, oom, known, error, ended_ns.
oci::Json exit_attributes(const LastExit& last);

/// One line, without newline, of at most kEventLimit bytes.
std::string dump(const Event& event);
/// corrupt for anything that dump() has not written.
Result<Event> parse_event(std::string_view line);

/// Appends to the log below `run_fd` (RUN). Never fails and never waits: an event that cannot be written (a disk that
/// is full) is lost, and `skink doctor` tells why.
void append_event(int run_fd, Event event);

}  // namespace skink::supervise
