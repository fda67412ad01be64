// SPDX-License-Identifier: Apache-2.0
// An outer archive: what the confined process tells of its members, and what is believed of that.
#include "image/archive_index.h"
#include "tar_mutator.h"
#include "target.h"

using namespace skink;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const auto check = [&](std::string_view description) {
    const auto members = image::parse_members(description, size);
    if (!members) return false;
    for (const auto& [name, member] : *members)
      fuzz::demand(member.kind != image::ArchiveMember::Kind::file ||
                       (member.offset <= size && member.size <= size - member.offset),
                   "a member lies in the file", name);
    return true;
  };
  // As the process would send it if it were taken over.
  check(bytes);
  fuzz::Bytes tar(bytes);
  const auto description = image::describe_members(tar);
  if (description) fuzz::demand(check(*description), "what an honest process tells is believed", *description);
  return 0;
}
