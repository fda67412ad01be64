// SPDX-License-Identifier: Apache-2.0
#include "supervise/event_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

using oci::Json;

constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
constexpr std::size_t kLongestText = 512;  // of an attribute, where the line is too long otherwise
// When nobody can put the file aside (whoever was about to is stopped), it starts over at this size.
constexpr std::int64_t kMostBytes = 4 * kEventGeneration;

Json json_of(const Event& event) {
  Json json{{"t", event.time_ns}, {"type", event.type}, {"action", event.action}, {"id", event.id}};
  if (!event.name.empty()) json["name"] = event.name;
  if (!event.image.empty()) json["image"] = event.image;
  if (!event.run.empty()) json["run"] = event.run;
  if (!event.attributes.empty()) json["attributes"] = event.attributes;
  for (const auto& [key, value] : event.labels) json["labels"][key] = value;
  return json;
}

// The shortest labels are the ones that people filter by.
std::map<std::string, std::string> labels_within(const std::map<std::string, std::string>& labels, std::size_t bytes) {
  constexpr std::size_t kMarks = 2;  // ':' and ','
  std::vector<std::pair<std::size_t, const std::string*>> by_length;
  for (const auto& [key, value] : labels)
    by_length.emplace_back(oci::dump_json(Json(key)).size() + oci::dump_json(Json(value)).size() + kMarks, &key);
  std::sort(by_length.begin(), by_length.end());
  std::map<std::string, std::string> kept;
  for (const auto& [length, key] : by_length) {
    if (length > bytes) break;
    bytes -= length;
    kept[*key] = labels.at(*key);
  }
  return kept;
}

// What other programs gave us may be of any length: names of images, words of an error.
void shorten_texts(Event& event) {
  for (std::string* text : {&event.name, &event.image}) text->resize(std::min(text->size(), kLongestText));
  for (auto& value : event.attributes)
    if (value.is_string()) value = value.get<std::string>().substr(0, kLongestText);
}

// Only one process at a time looks whether the file still has its name and takes that away. It is never waited for:
// who does not get the lock has nothing to do.
void put_aside(int run_fd, UniqueFd file) {
  const auto lock = fs::Lock::try_take(std::move(file), fs::Lock::Mode::exclusive, kEventFile);
  if (!lock) return;
  const auto ours = sys::stat_fd(lock->fd(), kEventFile);
  const auto there = sys::stat_at(run_fd, kEventFile, AT_SYMLINK_NOFOLLOW);
  if (ours && there && ours->st_ino == there->st_ino) (void)sys::rename_at(run_fd, kEventFile, run_fd, kOldEventFile);
}

}  // namespace

Event event_of(const Container& container, std::string_view action, Json attributes) {
  Event event;
  event.action = action;
  event.id = container.id;
  event.name = container.name;
  event.image = container.bundle.empty() ? container.image : container.bundle;
  event.labels = container.labels;
  event.attributes = std::move(attributes);
  return event;
}

Json exit_attributes(const LastExit& last) {
  Json attributes = Json::object();
  if (last.known) attributes["exit_code"] = last.status;
  if (last.signal != 0) attributes["signal"] = last.signal;
  if (last.oom) attributes["oom"] = true;
  attributes["known"] = last.known;
  if (!last.error.empty()) attributes["error"] = last.error;
  if (last.at_ns != 0) attributes["ended_ns"] = last.at_ns;
  return attributes;
}

std::string dump(const Event& event) {
  std::string line = oci::dump_json(json_of(event));
  if (line.size() <= kEventLimit) return line;
  constexpr std::size_t kFrame = 16;  // of the labels in the line
  Event shorter = event;
  shorter.labels.clear();
  shorten_texts(shorter);
  line = oci::dump_json(json_of(shorter));
  if (line.size() + kFrame >= kEventLimit) return line;
  shorter.labels = labels_within(event.labels, kEventLimit - kFrame - line.size());
  return oci::dump_json(json_of(shorter));
}

Result<Event> parse_event(std::string_view line) {
  const Json json = TRY(oci::parse_json(line, 4 * kEventLimit));
  Event event;
  event.time_ns = oci::get_int(json, "t");
  event.type = oci::get_string(json, "type");
  event.action = oci::get_string(json, "action");
  event.id = oci::get_string(json, "id");
  event.name = oci::get_string(json, "name");
  event.image = oci::get_string(json, "image");
  event.run = oci::get_string(json, "run");
  if (const Json* found = oci::find(json, "attributes"); found != nullptr && found->is_object())
    event.attributes = *found;
  if (const Json* labels = oci::find(json, "labels"); labels != nullptr && labels->is_object())
    for (const auto& [key, value] : labels->items())
      if (value.is_string()) event.labels[key] = value.get<std::string>();
  if (event.time_ns <= 0 || event.type.empty() || event.action.empty())
    return Error::make(Code::corrupt, "not an event");
  return event;
}

void append_event(int run_fd, Event event) {
  if (event.time_ns == 0) event.time_ns = fs::now_ns();
  // A newline in front too: a line that was cut short (no space left, SIGKILL in the middle) ends there.
  const std::string line = str('\n', dump(event), '\n');
  auto file = sys::open_at(run_fd, kEventFile, kFlags, 0600);
  if (!file) return;
  if (::write(file->get(), line.data(), line.size()) < 0) return;
  const off_t end = ::lseek(file->get(), 0, SEEK_CUR);  // where our line ends, which is where the file ended then
  if (end <= kEventGeneration) return;
  if (end > kMostBytes) (void)!::ftruncate(file->get(), 0);
  else put_aside(run_fd, std::move(*file));
}

}  // namespace skink::supervise
