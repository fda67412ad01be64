// SPDX-License-Identifier: Apache-2.0
// skink df: what images and containers take of the disk.
#include "base/text.h"
#include "cli/human.h"
#include "cli/image_json.h"
#include "cli/listing.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "image/usage.h"

namespace skink::cli {

namespace {

struct DfCommand {
  bool verbose = false;
  Format format;
};

constexpr Option<DfCommand> kDfOptions[] = {
    {{"format", 0, "FORMAT", "table, json (with every image and container), or a template"},
     [](DfCommand& c, std::string_view v) -> Result<void> {
       c.format = TRY(parse_format(v));
       return {};
     }},
    {{"verbose", 'v', nullptr, "every image and container"}, set_switch<&DfCommand::verbose>},
};

struct ContainerUsage {
  ContainerInfo info;
  std::int64_t bytes = 0;
  [[nodiscard]] bool is_active() const { return info.phase != Phase::created && info.phase != Phase::exited; }
};

struct Usage {
  image::StoreUsage store;
  std::vector<ContainerUsage> containers;
  std::map<std::string, std::vector<std::string>> users;  // of images, by id
};

Result<Usage> measure(Engine& engine) {
  Usage usage;
  usage.users = TRY(engine.image_users()());
  std::set<std::string> active;
  for (const auto& [id, names] : usage.users) active.insert(id);
  usage.store = TRY(image::measure_store(engine.images(), active));
  for (auto& info : TRY(engine.list())) {
    const std::int64_t bytes = TRY(engine.disk_usage(info.id));
    usage.containers.push_back({std::move(info), bytes});
  }
  return usage;
}

struct Total {
  const char* type;
  std::size_t count = 0, active = 0;
  std::int64_t bytes = 0, reclaimable = 0;
};

std::vector<Total> totals_of(const Usage& usage) {
  Total images{.type = "Images", .count = usage.store.images.size()}, containers{.type = "Containers"};
  images.bytes = usage.store.bytes;
  images.reclaimable = usage.store.reclaimable;
  for (const auto& one : usage.store.images) images.active += one.active ? 1 : 0;
  containers.count = usage.containers.size();
  for (const auto& one : usage.containers) {
    containers.bytes += one.bytes;
    if (one.is_active()) ++containers.active;
    else containers.reclaimable += one.bytes;
  }
  const std::int64_t left = usage.store.orphan_bytes;
  return {images, containers,
          Total{.type = "Leftovers", .count = usage.store.orphans, .bytes = left, .reclaimable = left}};
}

Item describe(const Total& total) {
  const auto percent = total.bytes > 0 ? total.reclaimable * 100 / total.bytes : 0;
  Item item;
  item.json = {{"type", total.type},
               {"total", total.count},
               {"active", total.active},
               {"bytes", total.bytes},
               {"reclaimable", total.reclaimable}};
  item.row = {total.type, str(total.count), str(total.active), human_size(total.bytes),
              str(human_size(total.reclaimable), " (", percent, "%)")};
  item.docker = {{"Type", item.row[0]},
                 {"TotalCount", item.row[1]},
                 {"Active", item.row[2]},
                 {"Size", item.row[3]},
                 {"Reclaimable", item.row[4]}};
  return item;
}

oci::Json json_of(const Usage& usage) {
  oci::Json images = oci::Json::array(), containers = oci::Json::array(), totals = oci::Json::array();
  for (const auto& one : usage.store.images) {
    oci::Json json = image_json(one.image, one.image.names.empty() ? std::string() : one.image.names.front());
    const auto users = usage.users.find(one.image.id.text());
    json["names"] = one.image.names;
    json["shared"] = one.shared;
    json["unique"] = one.unique;
    json["containers"] = users == usage.users.end() ? oci::Json::array() : oci::Json(users->second);
    images.push_back(std::move(json));
  }
  for (const auto& one : usage.containers)
    containers.push_back({{"id", one.info.id},
                          {"name", one.info.name},
                          {"image", one.info.image},
                          {"state", to_text(one.info.phase)},
                          {"bytes", one.bytes}});
  for (const auto& total : totals_of(usage)) totals.push_back(describe(total).json);
  return {{"totals", totals}, {"images", images}, {"containers", containers}};
}

std::string verbose_text(const Usage& usage, std::int64_t now_ns) {
  std::vector<Row> images{{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED", "UNIQUE", "CONTAINERS"}};
  for (const auto& one : usage.store.images) {
    const oci::Json docker =
        docker_images_json(one.image, one.image.names.empty() ? "" : one.image.names.front(), now_ns, false);
    const auto users = usage.users.find(one.image.id.text());
    Row row;
    for (const char* cell : {"Repository", "Tag", "ID", "CreatedSince"})
      row.push_back(printable(oci::get_string(docker, cell)));
    row.push_back(human_size(one.shared + one.unique));
    row.push_back(human_size(one.shared));
    row.push_back(human_size(one.unique));
    row.push_back(str(users == usage.users.end() ? 0 : users->second.size()));
    images.push_back(std::move(row));
  }
  std::vector<Row> containers{{"CONTAINER ID", "NAME", "IMAGE", "STATE", "SIZE"}};
  for (const auto& one : usage.containers)
    containers.push_back({short_id(one.info.id), printable(one.info.name), shortened(one.info.image, 40),
                          std::string(to_text(one.info.phase)), human_size(one.bytes)});
  return str("Images, with what they share counted once in the total of ", human_size(usage.store.bytes), ":\n\n",
             format_table(images), "\nContainers:\n\n", format_table(containers),
             "\nLeft over: ", human_size(usage.store.orphan_bytes), '\n');
}

Result<std::string> render(const DfCommand& command, const Usage& usage) {
  if (command.format.kind == Format::Kind::json) return json_line(json_of(usage)) + '\n';
  if (command.verbose && command.format.kind == Format::Kind::table) return verbose_text(usage, fs::now_ns());
  std::vector<Item> items;
  for (const auto& total : totals_of(usage)) items.push_back(describe(total));
  return TRY_CTX(render_list(command.format, {"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"}, items), "--format");
}

int run_df(Context& context, Arguments args) {
  DfCommand command;
  std::vector<std::string> none;
  if (auto status = read_arguments<DfCommand>(context, kDfOptions, args, command, none, {0, 0})) return *status;
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  const auto usage = measure(*engine);
  const auto text = usage ? render(command, *usage) : Result<std::string>(usage.error());
  if (!text) return context.fail(text.error());
  int status = 0;
  for (const auto& error : usage->store.damaged) status = context.fail(error);
  context.out().print(*text);
  return status;
}

}  // namespace

const Verb kDfVerb{
    "df",
    "[OPTIONS]",
    "Show what images and containers take of the disk",
    R"(Sizes are those on the disk. A layer that several images share counts once in the total; -v
tells what of an image is shared and what it has alone. An image is active when a container
uses it, running or not; what is reclaimable of images goes with skink image prune --all, of
containers with skink rm, and leftovers of killed commands with skink image prune.

Templates know docker's names (.Type .TotalCount .Active .Size .Reclaimable). skink-json(5)
describes the fields of --format json.

Exit status: 0; 1 on failure, or where an image is damaged: the others are told nevertheless.

Example:
  skink df -v
)",
    1,
    run_df,
};

}  // namespace skink::cli
