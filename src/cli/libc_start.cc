// SPDX-License-Identifier: Apache-2.0
// The start of glibc 2.36 in a static program on x86-64, without the questions to the processor.
//
// glibc asks by CPUID some eighty times which instructions and caches there are, to choose between its memcpy()s. In a
// virtual machine each of these traps to the host: 0.1 to 0.7 ms of every start, as much as all else that a short
// command does. What follows is csu/libc-start.c of that version step by step but for that one (meson.build takes it
// for no other version), so its functions are those that every x86-64 has. See docs/decisions/static-programs.md.
#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

// Names of glibc's own, hidden as they are there: nothing may go through the table of addresses, which is not relocated
// before the fifth step.
#define LIBC_OWN(name) __asm__(name) __attribute__((visibility("hidden")))

namespace {

using Hook = void (*)(int, char**, char**);
using Main = int (*)(int, char**, char**);
using Finish = void (*)();

}  // namespace

extern "C" {

extern char** libc_environ LIBC_OWN("__environ");
extern void* libc_stack_end LIBC_OWN("__libc_stack_end");
extern const std::uintptr_t* libc_random LIBC_OWN("_dl_random");
extern int libc_enable_secure LIBC_OWN("__libc_enable_secure");

void libc_read_auxiliary(Elf64_auxv_t* vector) LIBC_OWN("_dl_aux_init");
void libc_read_tunables(char** environment) LIBC_OWN("__tunables_init");
void libc_relocate() LIBC_OWN("_dl_relocate_static_pie");
void libc_set_up_tls() LIBC_OWN("__libc_setup_tls");
void libc_begin_early(bool initial) LIBC_OWN("__libc_early_init");
void libc_begin(int argc, char** argv, char** environment) LIBC_OWN("__libc_init_first");
void libc_check_descriptors() LIBC_OWN("__libc_check_standard_fds");
int libc_at_exit(void (*function)(void*), void* argument, void* object) LIBC_OWN("__cxa_atexit");

extern const Hook preinit_begin[] LIBC_OWN("__preinit_array_start");
extern const Hook preinit_end[] LIBC_OWN("__preinit_array_end");
extern const Hook init_begin[] LIBC_OWN("__init_array_start");
extern const Hook init_end[] LIBC_OWN("__init_array_end");
extern const Finish finish_begin[] LIBC_OWN("__fini_array_start");
extern const Finish finish_end[] LIBC_OWN("__fini_array_end");
void init_code() LIBC_OWN("_init");
void finish_code() LIBC_OWN("_fini");

// What memcpy() and its kin go by, in bytes: from where on the caches are too small, and the microcode's copy is worth
// its start. glibc's own values for a processor that tells nothing, with that of copies past the caches, which it has
// none for.
extern long data_half LIBC_OWN("__x86_data_cache_size_half");
extern long data_whole LIBC_OWN("__x86_data_cache_size");
extern long shared_half LIBC_OWN("__x86_shared_cache_size_half");
extern long shared_whole LIBC_OWN("__x86_shared_cache_size");
extern long past_caches LIBC_OWN("__x86_shared_non_temporal_threshold");
extern long movsb_from LIBC_OWN("__x86_rep_movsb_threshold");
extern long movsb_to LIBC_OWN("__x86_rep_movsb_stop_threshold");
extern long stosb_from LIBC_OWN("__x86_rep_stosb_threshold");
extern int string_control LIBC_OWN("__x86_string_control");
long data_half = 16 << 10, data_whole = 32 << 10;
long shared_half = 512 << 10, shared_whole = 1 << 20;
long past_caches = 768 << 10;
long movsb_from = 2048, movsb_to = 768 << 10, stosb_from = 2048;
int string_control = 0;

static void run_finish(void* /*unused*/) {
  for (std::ptrdiff_t i = finish_end - finish_begin; i-- > 0;) finish_begin[i]();
  finish_code();
}

[[noreturn]] int start_libc(Main main, int argc, char** argv, Hook init, Finish fini, Finish loader_fini,
                            void* stack_end) __asm__("__libc_start_main");

// Without a stack protector: its value is set in here.
__attribute__((no_stack_protector)) int start_libc(Main main, int argc, char** argv, Hook /*init*/, Finish /*fini*/,
                                                   Finish loader_fini, void* stack_end) {
  char** const environment = argv + argc + 1;
  libc_environ = environment;
  libc_stack_end = stack_end;
  char** end = environment;
  while (*end != nullptr) ++end;
  libc_read_auxiliary(reinterpret_cast<Elf64_auxv_t*>(end + 1));
  libc_read_tunables(environment);
  // Order: here the processor would be asked. Functions with several forms are chosen in the next step, and nothing
  // being known they are those for all.
  libc_relocate();
  libc_set_up_tls();
  // The thread's header: the stack protector's value, which begins with a zero byte, and that of stored pointers.
  __asm__ volatile("mov %0, %%fs:0x28" : : "r"(libc_random[0] & ~std::uintptr_t{0xff}));
  __asm__ volatile("mov %0, %%fs:0x30" : : "r"(libc_random[1]));
  if (loader_fini != nullptr) libc_at_exit(reinterpret_cast<void (*)(void*)>(loader_fini), nullptr, nullptr);
  libc_begin_early(true);
  libc_begin(argc, argv, environment);
  libc_at_exit(run_finish, nullptr, nullptr);
  if (libc_enable_secure != 0) libc_check_descriptors();
  for (const Hook* hook = preinit_begin; hook != preinit_end; ++hook) (*hook)(argc, argv, environment);
  init_code();
  for (const Hook* hook = init_begin; hook != init_end; ++hook) (*hook)(argc, argv, environment);
  std::exit(main(argc, argv, libc_environ));
}
}
