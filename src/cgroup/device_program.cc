// SPDX-License-Identifier: Apache-2.0
#include "cgroup/device_program.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "base/text.h"

namespace skink::cgroup {
namespace {

constexpr char kName[] = "skink_devices";  // BPF_OBJ_NAME_LEN is 16

Result<unsigned> access_bits(const std::string& access, const std::string& json) {
  if (access.empty()) return kAllAccess;
  unsigned bits = 0;
  for (const char letter : access) {
    if (letter == 'r') bits |= BPF_DEVCG_ACC_READ;
    else if (letter == 'w') bits |= BPF_DEVCG_ACC_WRITE;
    else if (letter == 'm') bits |= BPF_DEVCG_ACC_MKNOD;
    else return Error::make(Code::invalid_config, json, ".access: ", quoted(access), " is not made of r, w and m");
  }
  return bits;
}

Result<std::optional<std::uint32_t>> device_number(std::optional<std::int64_t> number, const std::string& json) {
  if (!number || *number == -1) return std::optional<std::uint32_t>{};
  if (*number < 0 || *number > 0xffff'ffff)
    return Error::make(Code::invalid_config, json, ": ", *number, " is not a device number");
  return std::optional<std::uint32_t>(static_cast<std::uint32_t>(*number));
}

// Registers: the kernel clobbers none of them, there are no calls.
constexpr unsigned kContext = BPF_REG_1, kType = BPF_REG_2, kWanted = BPF_REG_3, kMajor = BPF_REG_4, kMinor = BPF_REG_5,
                   kScratch = BPF_REG_6;

bpf_insn insn(unsigned code, unsigned dst, unsigned src, int offset, std::int32_t imm) {
  bpf_insn out{};
  out.code = static_cast<std::uint8_t>(code);
  out.dst_reg = static_cast<std::uint8_t>(dst & 0xfU);
  out.src_reg = static_cast<std::uint8_t>(src & 0xfU);
  out.off = static_cast<std::int16_t>(offset);
  out.imm = imm;
  return out;
}

bpf_insn load_word(unsigned dst, std::size_t offset) {
  return insn(BPF_LDX | BPF_MEM | BPF_W, dst, kContext, static_cast<int>(offset), 0);
}
bpf_insn and_bits(unsigned dst, unsigned bits) {
  return insn(BPF_ALU | BPF_AND | BPF_K, dst, 0, 0, static_cast<std::int32_t>(bits));
}
// 32-bit jumps: device numbers use the top bit, and a 64-bit compare would extend its sign.
bpf_insn jump_if(unsigned reg, std::uint32_t value, int offset) {
  return insn(BPF_JMP32 | BPF_JEQ | BPF_K, reg, 0, offset, static_cast<std::int32_t>(value));
}
bpf_insn jump() { return insn(BPF_JMP | BPF_JA, 0, 0, 0, 0); }

void append_return(std::vector<bpf_insn>& out, bool allow) {
  out.push_back(insn(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow ? 1 : 0));
  out.push_back(insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

// if (device matches) { deny: if (wanted & access) return 0;  allow: wanted &= ~access; if (!wanted) return 1; }
//
// Each condition is "equal: over the jump; jump to the end", so that the verifier, which follows the straight line
// first, sees "no match" before "match": it knows least about the registers there, and all that follows a match is then
// known to be safe already. The other way round its work grows with the square of the rules.
void append_rule(std::vector<bpf_insn>& out, const DeviceMatch& rule) {
  std::vector<std::size_t> to_end;
  const auto leave = [&] {
    to_end.push_back(out.size());
    out.push_back(jump());
  };
  const auto require = [&](unsigned reg, std::uint32_t value) {
    out.push_back(jump_if(reg, value, 1));
    leave();
  };
  if (rule.type != 'a') require(kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  if (rule.major) require(kMajor, *rule.major);
  if (rule.minor) require(kMinor, *rule.minor);
  if (rule.allow) {
    out.push_back(and_bits(kWanted, kAllAccess & ~rule.access));
    require(kWanted, 0);
  } else {
    out.push_back(insn(BPF_ALU | BPF_MOV | BPF_X, kScratch, kWanted, 0, 0));
    out.push_back(and_bits(kScratch, rule.access));
    out.push_back(jump_if(kScratch, 0, 2));  // over the return
  }
  append_return(out, rule.allow);
  for (const std::size_t at : to_end) out[at].off = static_cast<std::int16_t>(out.size() - at - 1);
}

// "{}" sets the first member of a union only; the kernel looks at every byte.
bpf_attr no_attributes() {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  return attr;
}

long bpf(int command, bpf_attr& attr) { return ::syscall(SYS_bpf, command, &attr, sizeof attr); }

std::uint64_t address(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

// The numbers of the device programs attached to the group itself.
Result<std::vector<std::uint32_t>> query(int group_fd) {
  std::vector<std::uint32_t> ids;
  for (std::size_t room = 16;; room *= 4) {
    ids.assign(room, 0);
    bpf_attr attr = no_attributes();
    attr.query.target_fd = static_cast<std::uint32_t>(group_fd);
    attr.query.attach_type = BPF_CGROUP_DEVICE;
    attr.query.prog_ids = address(ids.data());
    attr.query.prog_cnt = static_cast<std::uint32_t>(room);
    const bool fits = bpf(BPF_PROG_QUERY, attr) == 0;
    if (!fits && errno != ENOSPC) return Error::from_errno(errno, "bpf PROG_QUERY");
    if (fits) {
      ids.resize(attr.query.prog_cnt);
      return ids;
    }
    if (room > 4096) return Error::make(Code::os, "the group has more device programs than the kernel allows");
  }
}

// The program with this number if it is one of ours.
UniqueFd open_ours(std::uint32_t id) {
  bpf_attr attr = no_attributes();
  attr.prog_id = id;
  UniqueFd fd{static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, attr))};
  if (!fd) return {};
  bpf_prog_info info{};
  bpf_attr ask = no_attributes();
  ask.info.bpf_fd = static_cast<std::uint32_t>(fd.get());
  ask.info.info_len = sizeof info;
  ask.info.info = address(&info);
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, ask) != 0) return {};
  return std::string_view(info.name, strnlen(info.name, sizeof info.name)) == kName ? std::move(fd) : UniqueFd{};
}

Result<void> detach(int group_fd, int program_fd) {
  bpf_attr attr = no_attributes();
  attr.target_fd = static_cast<std::uint32_t>(group_fd);
  attr.attach_bpf_fd = static_cast<std::uint32_t>(program_fd);
  attr.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, attr) != 0) return Error::from_errno(errno, "bpf PROG_DETACH");
  return {};
}

Result<void> attach(int group_fd, int program_fd, int replaced_fd) {
  bpf_attr attr = no_attributes();
  attr.target_fd = static_cast<std::uint32_t>(group_fd);
  attr.attach_bpf_fd = static_cast<std::uint32_t>(program_fd);
  attr.attach_type = BPF_CGROUP_DEVICE;
  attr.attach_flags = BPF_F_ALLOW_MULTI;
  if (replaced_fd >= 0) {
    attr.attach_flags |= BPF_F_REPLACE;
    attr.replace_bpf_fd = static_cast<std::uint32_t>(replaced_fd);
  }
  if (bpf(BPF_PROG_ATTACH, attr) != 0) return Error::from_errno(errno, "bpf PROG_ATTACH");
  return {};
}

}  // namespace

bool DeviceMatch::all() const { return type == 'a' && !major && !minor && access == kAllAccess; }

Result<std::vector<DeviceMatch>> check_device_rules(const std::vector<oci::DeviceRule>& rules) {
  // The verifier follows at most 8192 branches that are open at a time; each rule leaves one open.
  constexpr std::size_t kMost = 5000;
  if (rules.size() > kMost)
    return Error::make(Code::invalid_config, "linux.resources.devices: ", rules.size(), " rules, ", kMost,
                       " are the most");
  std::vector<DeviceMatch> out;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string json = str("linux.resources.devices[", i, "]");
    DeviceMatch match;
    match.allow = rules[i].allow;
    match.type = rules[i].type == 'u' ? 'c' : rules[i].type;
    if (match.type != 'a' && match.type != 'b' && match.type != 'c')
      return Error::make(Code::invalid_config, json, ".type: ", quoted(std::string_view(&rules[i].type, 1)),
                         " is not a, b or c");
    match.access = rules[i].denies_whatever_it_says() ? kAllAccess : TRY(access_bits(rules[i].access, json));
    match.major = TRY(device_number(rules[i].major, json + ".major"));
    match.minor = TRY(device_number(rules[i].minor, json + ".minor"));
    out.push_back(match);
  }
  return out;
}

std::vector<bpf_insn> device_program(const std::vector<DeviceMatch>& rules) {
  // The kernel puts the kind of access above bit 16 of access_type and the kind of device below.
  std::vector<bpf_insn> out = {
      load_word(kType, offsetof(bpf_cgroup_dev_ctx, access_type)),
      insn(BPF_ALU | BPF_MOV | BPF_X, kWanted, kType, 0, 0),
      insn(BPF_ALU | BPF_RSH | BPF_K, kWanted, 0, 0, 16),
      and_bits(kType, 0xffff),
      load_word(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      load_word(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    if (rule->all()) {
      // Nothing before it counts, and the verifier refuses code that cannot be reached.
      append_return(out, rule->allow);
      return out;
    }
    append_rule(out, *rule);
  }
  append_return(out, true);
  return out;
}

Result<UniqueFd> load_device_program(const std::vector<bpf_insn>& program) {
  bpf_attr attr = no_attributes();
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.expected_attach_type = BPF_CGROUP_DEVICE;
  attr.insns = address(program.data());
  attr.insn_cnt = static_cast<std::uint32_t>(program.size());
  attr.license = address("Apache-2.0");
  std::memcpy(attr.prog_name, kName, sizeof kName);
  const long fd = bpf(BPF_PROG_LOAD, attr);
  if (fd < 0 && errno == E2BIG)
    return Error::make(Code::unsupported, "the kernel's BPF verifier gives up on that many device rules");
  if (fd < 0) return Error::from_errno(errno, "bpf PROG_LOAD of the device rules");
  return UniqueFd{static_cast<int>(fd)};
}

Result<void> attach_device_program(int group_fd, int program_fd) {
  std::vector<UniqueFd> ours;
  for (const std::uint32_t id : TRY(query(group_fd)))
    if (UniqueFd fd = open_ours(id)) ours.push_back(std::move(fd));
  TRY(attach(group_fd, program_fd, ours.empty() ? -1 : ours.front().get()));
  for (std::size_t i = 1; i < ours.size(); ++i) TRY(detach(group_fd, ours[i].get()));
  return {};
}

}  // namespace skink::cgroup
