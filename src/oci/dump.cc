// SPDX-License-Identifier: Apache-2.0
// dump_spec: config.json out of a Spec.
#include "oci/fields_linux.h"
#include "oci/spec.h"
#include "oci/writer.h"

namespace skink::oci {

Json Writer::take() && {
  Json out(Json::value_t::object);
  // Straight into the vector below ordered_map: its own insertion looks along the whole object for each key.
  std::vector<Json::object_t::value_type>& object = out.get_ref<Json::object_t&>();
  object.reserve(members_.size());
  for (auto& [key, value] : members_) object.emplace_back(std::move(key), std::move(value));
  return out;
}

Json Writer::json_of(std::uint64_t mask, const CapabilityNames&) {
  Json out(Json::value_t::array);
  for (int number = 0; number < capability_count(); ++number)
    if ((mask >> number & 1U) != 0) out.push_back(capability_name(number));
  return out;
}

Json Writer::json_of(std::uint64_t mask, const NamedBits& names) {
  Json out(Json::value_t::array);
  for (const NamedNumber& named : names.names)
    if ((mask & static_cast<std::uint64_t>(named.number)) != 0) out.push_back(named.name);
  return out;
}

Json Writer::json_of(const std::map<std::string, std::string>& value, const MemberOfEach& member) {
  Writer object;
  for (const auto& [key, text] : value) {
    Writer entry;
    entry.may(member.key, text);
    object.add(key, std::move(entry).take());
  }
  return std::move(object).take();
}

std::string_view Writer::name_of(int number, const NamedNumbers& names) {
  for (const NamedNumber& named : names.names)
    if (named.number == number) return named.name;
  return "";
}

std::string dump_spec(const Spec& spec, bool pretty) { return dump_json(Writer::json_of(spec), pretty); }

}  // namespace skink::oci
