// SPDX-License-Identifier: Apache-2.0
#include "sys/interrupt.h"

#include <sys/time.h>

#include <array>
#include <csignal>

namespace skink::sys {
namespace {

constexpr std::array<int, 4> kSignals{SIGTERM, SIGINT, SIGHUP, SIGQUIT};

// Written by the handler; the process has one thread.
volatile std::sig_atomic_t pending = 0;
volatile std::sig_atomic_t armed = 0;
int taken = 0;
std::array<struct sigaction, kSignals.size() + 1> before;

void ring_every(long microseconds) {
  itimerval interval{};
  interval.it_value.tv_usec = interval.it_interval.tv_usec = microseconds;
  (void)::setitimer(ITIMER_REAL, &interval, nullptr);
}

extern "C" void on_signal(int number) {
  const int kept = errno;
  if (armed != 0 && pending == 0 && number != SIGALRM) {
    constexpr long kOften = 50'000;
    pending = number;
    // setitimer(2) is a bare system call, which a handler may make.
    ring_every(kOften);
  }
  errno = kept;
}

void handle(int number, struct sigaction& kept) {
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART
  sigemptyset(&action.sa_mask);
  (void)::sigaction(number, nullptr, &kept);
  if (kept.sa_handler != SIG_IGN) (void)::sigaction(number, &action, nullptr);
}

}  // namespace

Interrupt::Interrupt() {
  pending = 0;
  armed = 1;
  for (std::size_t i = 0; i < kSignals.size(); ++i) handle(kSignals[i], before[i]);
  handle(SIGALRM, before.back());
}

Interrupt::~Interrupt() {
  if (armed != 0 && pending != 0) taken = pending;
  armed = 0;
  ring_every(0);
  for (std::size_t i = 0; i < kSignals.size(); ++i) (void)::sigaction(kSignals[i], &before[i], nullptr);
  (void)::sigaction(SIGALRM, &before.back(), nullptr);
}

bool interrupted() { return armed != 0 && pending != 0; }

int take_interrupt() {
  const int number = armed != 0 ? pending : 0;
  if (number == 0) return 0;
  armed = 0;
  ring_every(0);
  taken = number;
  return number;
}

int taken_interrupt() { return taken; }

}  // namespace skink::sys
