// SPDX-License-Identifier: Apache-2.0
// skink image verify: whether every byte of images is what was stored, and a repair of those that are not.
#include "image/verify.h"

#include <algorithm>

#include "base/text.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/verbs.h"

namespace skink::cli {

namespace {

struct VerifyCommand {
  bool all = false, json = false, quiet = false;
  std::string repair;
};

constexpr Option<VerifyCommand> kVerifyOptions[] = {
    {{"all", 'a', nullptr, "every image (as without a NAME)"}, set_switch<&VerifyCommand::all>},
    {{"format", 0, "json", "an array with an element for each image, for programs"},
     [](VerifyCommand& c, std::string_view v) -> Result<void> {
       c.json = v == "json";
       return c.json ? Result<void>() : Error::make(Code::invalid_config, quoted(v), " is not json");
     }},
    {{"quiet", 'q', nullptr, "say nothing of images that are whole"}, set_switch<&VerifyCommand::quiet>},
    {{"repair", 0, "FILE", "take what is damaged or missing out of this archive"}, set_text<&VerifyCommand::repair>},
};

using Users = std::map<std::string, std::vector<std::string>>;

const std::vector<std::string>& users_of(const Users& users, const image::VerifiedImage& image) {
  static const std::vector<std::string> kNobody;
  const auto found = users.find(image.id.text());
  return found == users.end() ? kNobody : found->second;
}

std::string name_of(const image::VerifiedImage& image) {
  return image.names.empty() ? image.id.text() : printable(image.names.front());
}

oci::Json json_of(const image::VerifiedImage& image, const std::vector<std::string>& users, bool repaired) {
  oci::Json faults = oci::Json::array();
  for (const auto& fault : image.faults)
    faults.push_back({{"kind", to_text(fault.kind)},
                      {"layer", fault.layer.empty() ? oci::Json(nullptr) : oci::Json(fault.layer)},
                      {"path", fault.path},
                      {"expected", fault.expected},
                      {"found", fault.found}});
  return {{"id", image.id.text()}, {"names", image.names}, {"faults", faults},
          {"notes", image.notes},  {"containers", users},  {"repaired", repaired}};
}

Result<std::vector<std::string>> ids_of(Engine& engine, const VerifyCommand& command,
                                        const std::vector<std::string>& names) {
  if (command.all || names.empty()) return engine.images().list_ids();
  std::vector<std::string> ids;
  for (const auto& name : names) {
    auto id = TRY(engine.images().find_id(name));
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(std::move(id));
  }
  return ids;
}

// What is wrong, in a line for each piece, and who runs on it.
void tell_faults(Context& context, const image::VerifiedImage& image, const std::vector<std::string>& users) {
  for (const auto& fault : image.faults) context.note(str("image ", name_of(image), ": ", fault.text()));
  if (image.faults.empty() || users.empty()) return;
  std::string names;
  for (const auto& name : users) names += str(names.empty() ? "" : ", ", printable(name));
  context.note(str("image ", name_of(image), ": used by ", users.size() == 1 ? "container " : "containers ", names));
}

bool is_whole(const image::VerifiedImage& image) { return image.faults.empty(); }

struct Verified {
  std::vector<image::VerifiedImage> before;
  std::vector<image::VerifiedImage> after;  // the same when nothing was repaired
  Users users;
};

Result<Verified> verify(Engine& engine, const VerifyCommand& command, const std::vector<std::string>& names) {
  Verified verified;
  const auto ids = TRY(ids_of(engine, command, names));
  verified.before = TRY(image::verify_images(engine.images(), ids));
  verified.after = verified.before;
  if (const auto users = engine.image_users()()) verified.users = *users;
  const bool whole = std::all_of(verified.before.begin(), verified.before.end(), is_whole);
  if (command.repair.empty() || whole) return verified;
  image::Running running;
  for (const auto& container : TRY(engine.list()))
    if (container.phase != Phase::created && container.phase != Phase::exited)
      running[container.image_id].push_back(container.name);
  TRY(image::repair_images(engine.images(), verified.before, command.repair, running));
  verified.after = TRY(image::verify_images(engine.images(), ids));
  return verified;
}

void tell(Context& context, const VerifyCommand& command, const Verified& verified) {
  for (const auto& image : verified.after) {
    const auto was = std::find_if(verified.before.begin(), verified.before.end(),
                                  [&](const auto& one) { return one.id == image.id; });
    const bool repaired = was != verified.before.end() && !is_whole(*was) && is_whole(image);
    const auto& users = users_of(verified.users, image);
    for (const auto& note : image.notes) context.note(str("image ", name_of(image), ": ", note));
    tell_faults(context, image, users);
    if (repaired) {
      context.say(str(name_of(image), ": repaired"));
      if (!users.empty())
        context.say(
            str(name_of(image), ": ", users.size(), users.size() == 1 ? " container" : " containers",
                " may run on what was there before until the next start (skink restart): ", command_text(users, 0)));
    } else if (is_whole(image) && !command.quiet) {
      context.say(str(name_of(image), ": ok"));
    }
  }
}

int run_verify(Context& context, Arguments args) {
  VerifyCommand command;
  std::vector<std::string> names;
  if (auto status =
          read_arguments<VerifyCommand>(context, kVerifyOptions, args, command, names, {0, kAnyNumber, "IMAGE"}))
    return *status;
  if (command.all && !names.empty())
    return context.misuse(Error::make(Code::invalid_config, "--all is every image: leave the names away"));
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error(), kOwnFailure);
  const auto verified = verify(*engine, command, names);
  if (!verified) return context.fail(verified.error(), kOwnFailure);
  if (!command.json) {
    tell(context, command, *verified);
  } else {
    std::vector<oci::Json> all;
    for (std::size_t i = 0; i < verified->before.size(); ++i) {
      const auto& image = verified->before[i];
      const auto now = std::find_if(verified->after.begin(), verified->after.end(),
                                    [&](const auto& one) { return one.id == image.id; });
      const bool repaired = !is_whole(image) && now != verified->after.end() && is_whole(*now);
      all.push_back(json_of(image, users_of(verified->users, image), repaired));
    }
    context.out().print(json_array(all));
  }
  return std::all_of(verified->after.begin(), verified->after.end(), is_whole) ? 0 : 1;
}

}  // namespace

const Verb kImageVerifyVerb{
    "image verify",
    "[OPTIONS] [IMAGE...]",
    "Read every byte of images and tell which is not what was stored",
    R"(Compares configurations and manifests with their digests, and layers, their recipes and
scaffolds with the seals that were written down when they were stored; where the file system
has fs-verity, with that as well. Each thing that is wrong is named: image, layer, path, what
was expected and what was found, and which containers use the image.

--repair takes the archive that the image came from (or another one with the same layers),
imports what is damaged or missing from it anew, verifies it by the same digests, and puts
each piece in place whole. An image keeps the manifest that it had: with a damaged one the
archive has to have just that. What runs goes on with what it has until it is started again;
where layers are stored as directories, it has to be stopped first.

Exit status: 0 when all is as it was stored, or was repaired; 1 when something is not; 125
when skink could not look, for an image that is not there, and for a wrong option.

Examples:
  skink image verify
  skink image verify web:1.1 --repair web.tar
)",
    kOwnFailure,
    run_verify,
};

}  // namespace skink::cli
