// SPDX-License-Identifier: Apache-2.0
// What guard, supervisor and the command that starts them agree on: the descriptors' numbers, the record of an exit and
// the supervisor's exit codes. Included by the freestanding guard, so without libc.
#pragma once

namespace skink::supervise {

/// The descriptors with which the guard, and each supervisor that it starts, begin. All stay open for the guard's life.
enum GuardFd : int {
  kFdNull = 0,        ///< /dev/null; also 1
  kFdComplaints = 2,  ///< RUN/containers/ID/supervisor.log: what a crash says
  kFdProgram,    ///< skink's own file, from which a supervisor is executed (fault F36: it may be replaced meanwhile)
  kFdListener,   ///< control.sock, listening
  kFdRunDir,     ///< RUN/containers/ID
  kFdStoreDir,   ///< STORE/containers/ID
  kFdExits,      ///< RUN/containers/ID/exits, O_APPEND: one ExitRecord for each process that the guard reaped
  kFdExitEvent,  ///< eventfd, non-blocking: an ExitRecord was appended
  kFdParkIn,     ///< socket pair whose queue holds parked descriptors (see fd_park.h): messages go in here
  kFdParkOut,    ///< and are looked at here
  kFdOutRead,    ///< the container's standard output, a pipe (with a terminal: /dev/null, as the three below)
  kFdOutWrite,   ///< with --log-driver passthrough the starter's standard output; then both read ends are /dev/null
  kFdErrRead,    ///< its standard error
  kFdErrWrite,
  kFdAlive,       ///< STORE/containers/ID/alive with an exclusive lock of this open file: held while one of us lives
  kFdRunRoot,     ///< RUN
  kFdStoreRoot,   ///< STORE
  kFdGuardImage,  ///< the guard's own program; it closes it
  kFdGroup,       ///< the directory of the unified control group to be made in; /dev/null: its starter's
  kFdEnd,         ///< from here on: control files of v1 groups that it moves itself to, and closes
};

/// Of what is written to kFdComplaints so many bytes are kept at most, and the latest half is in any case.
inline constexpr long kMostComplaints = 64 << 10;

/// At most so many control files are passed on.
inline constexpr int kMostHomes = 20;

/// How a process ended, as the guard saw it. 32 bytes, appended by one write(2).
struct ExitRecord {
  int pid;
  int code;    ///< CLD_EXITED, CLD_KILLED, CLD_DUMPED
  int status;  ///< exit status or signal
  int magic;   ///< kExitMagic: a torn or foreign file is noticed
  long realtime_ns;
  long boottime_ns;
};
static_assert(sizeof(ExitRecord) == 32);
inline constexpr int kExitMagic = 0x736b6e6b;

/// Exit codes of the supervisor that tell the guard what to do; any other end means: start another one.
inline constexpr int kSupervisorDone = 0;
inline constexpr int kSupervisorHopeless = 3;  ///< the container's files cannot be read; trying again would not help

/// How often the guard tries a supervisor that never gets anywhere (exit code other than 0 within a second). After one
/// that has lived for longer it goes on trying, once a second.
inline constexpr int kMostFruitlessStarts = 20;

}  // namespace skink::supervise
