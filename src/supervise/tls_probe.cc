// SPDX-License-Identifier: Apache-2.0
#include "supervise/tls_probe.h"

#include <bearssl/bearssl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <vector>

#include "base/text.h"
#include "supervise/own_filter.h"

namespace skink::supervise {
namespace {

// ---- the connection ----

void await(int fd, int events) {
  pollfd ready{fd, static_cast<short>(events), 0};
  (void)::poll(&ready, 1, -1);
}

// br_sslio's callbacks: at least one byte, or -1 when the connection is over.
int read_some(void* context, unsigned char* to, std::size_t count) {
  const int fd = *static_cast<int*>(context);
  for (;;) {
    const ssize_t got = ::recv(fd, to, count, 0);
    if (got > 0) return static_cast<int>(got);
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) return -1;
    await(fd, POLLIN);
  }
}

int write_some(void* context, const unsigned char* from, std::size_t count) {
  const int fd = *static_cast<int*>(context);
  for (;;) {
    const ssize_t put = ::send(fd, from, count, MSG_NOSIGNAL);
    if (put > 0) return static_cast<int>(put);
    if (errno != EAGAIN && errno != EINTR) return -1;
    await(fd, POLLOUT);
  }
}

// ---- any certificate ----

// What BearSSL calls for each certificate of the chain: of the first one the key is taken, and nothing is asked.
struct AnyCertificate {
  const br_x509_class* vtable = nullptr;  // first: a pointer to it is a pointer to the object
  br_x509_decoder_context decoder{};
  bool first = true;
  static AnyCertificate& of(const br_x509_class** context) { return *reinterpret_cast<AnyCertificate*>(context); }
};

void start_chain(const br_x509_class** context, const char* /*name*/) { AnyCertificate::of(context).first = true; }

void start_cert(const br_x509_class** context, std::uint32_t /*length*/) {
  AnyCertificate& any = AnyCertificate::of(context);
  if (any.first) ::br_x509_decoder_init(&any.decoder, nullptr, nullptr);
}

void append(const br_x509_class** context, const unsigned char* bytes, std::size_t count) {
  AnyCertificate& any = AnyCertificate::of(context);
  if (any.first) ::br_x509_decoder_push(&any.decoder, bytes, count);
}

void end_cert(const br_x509_class** context) { AnyCertificate::of(context).first = false; }

unsigned end_chain(const br_x509_class** context) {
  return static_cast<unsigned>(::br_x509_decoder_last_error(&AnyCertificate::of(context).decoder));
}

const br_x509_pkey* get_key(const br_x509_class* const* context, unsigned* usages) {
  if (usages != nullptr) *usages = BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN;
  auto** taken = const_cast<const br_x509_class**>(context);  // NOLINT: the object is ours, and not const
  return ::br_x509_decoder_get_pkey(&AnyCertificate::of(taken).decoder);
}

constexpr br_x509_class kAnyCertificate{
    sizeof(AnyCertificate), start_chain, start_cert, append, end_cert, end_chain, get_key};

// ---- words ----

std::string failure(int code) {
  constexpr int kProtocolVersion = 70;  // RFC 5246, 7.2
  constexpr std::string_view kStart = "TLS handshake: ";
  if (code == BR_ERR_BAD_VERSION || code == BR_ERR_RECV_FATAL_ALERT + kProtocolVersion)
    return str(kStart,
               "the server wants another version of TLS than 1.2, which is spoken here; exec: asks in another way");
  if (code >= BR_ERR_RECV_FATAL_ALERT && code < BR_ERR_SEND_FATAL_ALERT)
    return str(kStart, "the server refuses with alert ", code - BR_ERR_RECV_FATAL_ALERT);
  if (code == BR_ERR_UNSUPPORTED_VERSION || code == BR_ERR_UNKNOWN_TYPE || code == BR_ERR_TOO_LARGE)
    return str(kStart, "what answers speaks no TLS");
  if (code == BR_ERR_IO || code == BR_ERR_OK) return str(kStart, "the connection was closed");
  return str(kStart, "failed with BearSSL's error ", code);
}

// ---- few rights ----

// What is left: the descriptors that are open, waiting, memory, the end (with a sanitizer, sigaltstack too).
bool allow_little() {
  constexpr long kAllowed[] = {SYS_read,          SYS_write,     SYS_recvfrom,   SYS_sendto,       SYS_getsockopt,
#ifdef SYS_poll
                               SYS_poll,
#endif
                               SYS_ppoll,         SYS_getrandom, SYS_brk,        SYS_mmap,         SYS_munmap,
                               SYS_clock_gettime, SYS_exit,      SYS_exit_group, SYS_rt_sigreturn, SYS_sigaltstack};
  const auto load = [](std::size_t offset) {
    return sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(offset)};
  };
  const auto answer = [](std::uint32_t action) { return sock_filter{BPF_RET | BPF_K, 0, 0, action}; };
  std::vector<sock_filter> program = {load(offsetof(seccomp_data, arch)),
                                      {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, kArchitecture},
                                      answer(SECCOMP_RET_KILL_PROCESS),
                                      load(offsetof(seccomp_data, nr))};
  for (const long number : kAllowed) {
    program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<std::uint32_t>(number)});
    program.push_back(answer(SECCOMP_RET_ALLOW));
  }
  program.push_back(answer(SECCOMP_RET_ERRNO | EPERM));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

bool give_up_rights(pid_t parent) {
  constexpr uid_t kNobody = 65534;
  if (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
      ::setresuid(kNobody, kNobody, kNobody) != 0)
    return false;
  // Order: the kernel forgets it with the user.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return ::getppid() == parent && allow_little();
}

ProbeResult ask_over_tls(int socket_fd, const Probe& probe) {
  await(socket_fd, POLLOUT);
  int err = 0;
  socklen_t size = sizeof err;
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_ERROR, &err, &size) != 0) err = errno;
  if (err != 0) return {false, Error::from_errno(err, "connect").text()};

  br_ssl_client_context client;
  br_x509_minimal_context unused;
  ::br_ssl_client_init_full(&client, &unused, nullptr, 0);
  AnyCertificate any{.vtable = &kAnyCertificate, .decoder = {}, .first = true};
  ::br_ssl_engine_set_x509(&client.eng, &any.vtable);
  ::br_ssl_engine_set_versions(&client.eng, BR_TLS12, BR_TLS12);
  std::vector<unsigned char> buffer(BR_SSL_BUFSIZE_BIDI);
  ::br_ssl_engine_set_buffer(&client.eng, buffer.data(), buffer.size(), 1);
  std::array<unsigned char, 32> seed{};
  if (::getrandom(seed.data(), seed.size(), 0) != static_cast<ssize_t>(seed.size())) return {false, "no random bytes"};
  ::br_ssl_engine_inject_entropy(&client.eng, seed.data(), seed.size());
  if (::br_ssl_client_reset(&client, nullptr, 0) != 1) return {false, failure(::br_ssl_engine_last_error(&client.eng))};

  br_sslio_context io;
  ::br_sslio_init(&io, &client.eng, read_some, &socket_fd, write_some, &socket_fd);
  const std::string request = http_request(probe);
  if (::br_sslio_write_all(&io, request.data(), request.size()) != 0 || ::br_sslio_flush(&io) != 0)
    return {false, failure(::br_ssl_engine_last_error(&client.eng))};
  std::string answer;
  for (;;) {
    std::array<unsigned char, 2048> bytes;  // NOLINT: filled by br_sslio_read
    const int got = ::br_sslio_read(&io, bytes.data(), bytes.size());
    if (got > 0) answer.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(got));
    if (auto result = judge_http(answer, got <= 0 || answer.size() >= kMostAnswer)) return *std::move(result);
  }
}

}  // namespace skink::supervise
