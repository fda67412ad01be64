// SPDX-License-Identifier: Apache-2.0
// A connection to systemd over D-Bus: to the system's manager or, for a user, to that of the user's session.
// D-Bus Specification, "Authentication Protocol"; man 5 org.freedesktop.systemd1. Why not libdbus:
// docs/decisions/systemd-bus.md.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cgroup/bus_message.h"
#include "cgroup/wait.h"

namespace skink::cgroup::bus {

/// The systemd that the caller's containers belong to.
enum class Manager { system, user };
/// The system's for root of the host; for anybody else, and for root of a user namespace whose host is not its own, the
/// one of the user's session.
Manager callers_manager();

class Connection {
 public:
  /// Connects and authenticates by the socket's credentials, which hold in a user namespace too. What is sent first
  /// goes out with it, so that a whole exchange needs one wait. `patience` is for everything that is done with it.
  /// Errors: unsupported when this host has no systemd of that kind, or it is in another PID namespace.
  static Result<Connection> open(Manager manager, std::chrono::milliseconds patience);

  /// Sends the call to systemd's manager object; the number names its answer.
  std::uint32_t send(std::string member, std::vector<Value> arguments);
  /// The answer to that call. An error of the other side is an Error: its text has the error's name and words. One with
  /// ECONNRESET or EPIPE: systemd has dropped its connections, as it does when it executes itself anew.
  Result<Message> answer(std::uint32_t serial);
  /// send() and answer().
  Result<Message> call(std::string member, std::vector<Value> arguments);

  /// A property of the manager's that is a text, such as "Version".
  Result<std::string> manager_property(std::string name);
  /// Likewise of a unit that is loaded, such as "Description". Errors: not_found when it is not.
  Result<std::string> unit_property(std::string unit, std::string name);
  /// The group of a slice that is there, "/a.slice".
  Result<std::string> slice_group(std::string slice);

  /// Asks for the signals that tell of finished jobs; to be called before a job is begun.
  void watch_jobs();
  /// Waits for the end of the job with this object path. Its result: "done", or why not ("failed", "timeout", ...).
  Result<std::string> wait_for_job(const std::string& job);

  /// The name of the last error that the other side answered with, "org.freedesktop.systemd1.UnitExists".
  [[nodiscard]] const std::string& error_name() const { return error_name_; }

 private:
  Connection(UniqueFd socket, bool direct, std::chrono::milliseconds patience)
      : socket_(std::move(socket)), direct_(direct), deadline_(patience) {}
  std::uint32_t queue(Call call);
  Result<std::string> property(std::string path, std::string interface, std::string name);
  Result<std::string> property_of_unit(std::string unit, std::string interface, std::string name);
  void ask_bus(std::string member, std::vector<Value> arguments);
  Result<void> flush();
  Result<std::size_t> receive();
  Result<std::string> line();
  Result<void> authenticate();
  Result<void> begin();
  Result<Message> next();

  UniqueFd socket_;
  bool direct_;  // to systemd itself, no bus between
  Deadline deadline_;
  std::uint32_t serial_ = 0;
  bool authenticated_ = false;
  std::string out_, in_;
  std::deque<Message> kept_;           // what came while something else was waited for
  std::vector<std::uint32_t> needed_;  // calls to the bus whose answers nobody waits for, but which must not fail
  std::string manager_;                // systemd's name on the bus, which its answers tell
  std::string error_name_;
};

}  // namespace skink::cgroup::bus
