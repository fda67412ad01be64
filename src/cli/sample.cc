// SPDX-License-Identifier: Apache-2.0
#include "cli/sample.h"

#include <fcntl.h>

#include <algorithm>

#include "sys/file.h"

namespace skink::cli {

namespace {

constexpr std::size_t kMostGroups = 64U << 10;
constexpr std::size_t kMostInterfaces = 1U << 20;

Result<cgroup::Sample> sample_groups(const Engine& engine, const std::string& id) {
  return cgroup::take_sample(TRY(cgroup::Group::open(TRY(engine.groups(id)))));
}

bool shares_our_network(int process_fd) {
  static const auto ours = sys::stat_at(AT_FDCWD, "/proc/self/ns/net", 0);
  const auto its = sys::stat_at(process_fd, "ns/net", 0);
  return ours && its && ours->st_ino == its->st_ino && ours->st_dev == its->st_dev;
}

void add_network(ContainerSample& sample) {
  const auto process = open_process(static_cast<pid_t>(sample.info.pid));
  if (!process) return;
  // The number may have a new owner by now: the container's groups have its id in their names, on every hierarchy.
  const std::string groups = read_beginning(process->get(), "cgroup", kMostGroups);
  if (groups.find(sample.info.id) == std::string::npos) return;
  sample.host_network = shares_our_network(process->get());
  if (sample.host_network) return;
  const std::string table = read_beginning(process->get(), "net/dev", kMostInterfaces);
  if (!table.empty()) sample.interfaces = parse_interfaces(table);
}

}  // namespace

ContainerSample sample_container(const Engine& engine, ContainerInfo info) {
  ContainerSample sample;
  sample.info = std::move(info);
  if (sample.info.pid <= 0) return sample;
  if (auto use = sample_groups(engine, sample.info.id)) sample.use = *use;
  if (sample.use) add_network(sample);
  return sample;
}

std::vector<ContainerInfo> infos_of(const Engine& engine, const std::vector<std::string>& ids) {
  std::vector<ContainerInfo> infos;
  for (const auto& id : ids)
    if (auto info = engine.info(id)) infos.push_back(std::move(*info));
  return infos;
}

std::vector<std::string> resolve_each(Context& context, const Engine& engine, const std::vector<std::string>& names,
                                      int& status) {
  std::vector<std::string> ids;
  for (const auto& name : names) {
    auto id = engine.resolve(name);
    if (!id) status = context.fail(id.error());
    else if (std::ranges::find(ids, *id) == ids.end()) ids.push_back(std::move(*id));
  }
  return ids;
}

}  // namespace skink::cli
