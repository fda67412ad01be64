// SPDX-License-Identifier: Apache-2.0
// The words of config.json: every closed list of the runtime-spec. Internal to oci/.
#pragma once

#include <sched.h>

#include <array>

#include "oci/rules.h"
#include "oci/spec.h"

namespace skink::oci::words {

constexpr int number_of(NamespaceType type) { return static_cast<int>(type); }

inline constexpr std::array<NamedNumber, 8> kNamespaces{{{"pid", number_of(NamespaceType::pid)},
                                                         {"network", number_of(NamespaceType::network)},
                                                         {"mount", number_of(NamespaceType::mount)},
                                                         {"ipc", number_of(NamespaceType::ipc)},
                                                         {"uts", number_of(NamespaceType::uts)},
                                                         {"user", number_of(NamespaceType::user)},
                                                         {"cgroup", number_of(NamespaceType::cgroup)},
                                                         {"time", number_of(NamespaceType::time)}}};

inline constexpr std::array<NamedNumber, 7> kPolicies{{{"SCHED_OTHER", SCHED_OTHER},
                                                       {"SCHED_FIFO", SCHED_FIFO},
                                                       {"SCHED_RR", SCHED_RR},
                                                       {"SCHED_BATCH", SCHED_BATCH},
                                                       {"SCHED_ISO", SCHED_ISO},
                                                       {"SCHED_IDLE", SCHED_IDLE},
                                                       {"SCHED_DEADLINE", SCHED_DEADLINE}}};

// linux/sched.h
inline constexpr std::array<NamedNumber, 7> kSchedFlags{{{"SCHED_FLAG_RESET_ON_FORK", 0x01},
                                                         {"SCHED_FLAG_RECLAIM", 0x02},
                                                         {"SCHED_FLAG_DL_OVERRUN", 0x04},
                                                         {"SCHED_FLAG_KEEP_POLICY", 0x08},
                                                         {"SCHED_FLAG_KEEP_PARAMS", 0x10},
                                                         {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
                                                         {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}}};

// linux/ioprio.h
inline constexpr std::array<NamedNumber, 3> kIoClasses{
    {{"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}}};

// The runtime-spec has the four without r; runc and crun take the recursive ones too, and engines write them.
inline constexpr std::array<std::string_view, 9> kPropagations{
    "", "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"};

inline constexpr std::array<std::string_view, 9> kActions{
    "SCMP_ACT_KILL",  "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP",  "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW",        "SCMP_ACT_LOG",         "SCMP_ACT_NOTIFY"};

inline constexpr std::array<std::string_view, 7> kComparisons{
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};

inline constexpr std::array<std::string_view, 23> kArchitectures{
    "SCMP_ARCH_X86",         "SCMP_ARCH_X86_64", "SCMP_ARCH_X32",       "SCMP_ARCH_ARM",     "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",    "SCMP_ARCH_PPC64",     "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",       "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",  "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",        "SCMP_ARCH_SH",     "SCMP_ARCH_SHEB"};

inline constexpr std::array<std::string_view, 4> kFilterFlags{"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                                              "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                                              "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};

inline constexpr std::array<std::string_view, 7> kMemoryModes{
    "MPOL_DEFAULT",   "MPOL_BIND",           "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"};

inline constexpr std::array<std::string_view, 3> kMemoryFlags{"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES",
                                                              "MPOL_F_STATIC_NODES"};

inline constexpr std::array<std::string_view, 2> kPersonalities{"LINUX", "LINUX32"};

}  // namespace skink::oci::words
