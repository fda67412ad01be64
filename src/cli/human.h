// SPDX-License-Identifier: Apache-2.0
// Human: times, sizes and states in the words that docker's listings use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "skink/engine.h"

namespace skink::cli {

/// "Less than a second", "5 seconds", "About a minute", "3 minutes", "About an hour", "2 days", ...
std::string human_duration(std::int64_t ns);

/// "5 seconds ago"; "N/A" for a time of 0.
std::string human_ago(std::int64_t then_ns, std::int64_t now_ns);

/// Decimal units and three digits, as `docker images` prints: "7.81MB", "1.2kB", "0B".
std::string human_size(std::int64_t bytes);

/// "64 MiB", "1.5 GiB": for limits, which people give in powers of 1024.
std::string human_limit(std::int64_t bytes);

/// Not negative, with two digits behind the point, as docker prints shares: "0.00", "153.25".
std::string two_decimals(double value);

/// "2026-11-23 03:34:23 +0000 UTC" as docker's CreatedAt has it.
std::string human_date(std::int64_t unix_ns);

/// The STATUS column: "Up 3 minutes", "Exited (137) 5 seconds ago, out of memory", "Restarting (1), next try in 12 s".
std::string status_text(const ContainerInfo& container, std::int64_t now_ns);

/// Behind "process 12": ", relaunched once", ", relaunched 3 times"; empty for 0.
std::string relaunches_text(std::uint64_t relaunches);

/// The COMMAND column: the words with blanks between, in double quotes, cut to `most` characters (0: whole).
std::string command_text(const std::vector<std::string>& command, std::size_t most);

/// The first 12 digits of an id.
std::string short_id(std::string_view id);

/// `text` made printable and cut to `most` characters, the last of them an ellipsis; 0: whole.
std::string shortened(std::string_view text, std::size_t most);

}  // namespace skink::cli
