// See Counting.h. The wrappers change no register but the flags before they jump on: the runtime's
// entry points may have calling conventions of their own.

#include "Counting.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

static struct counts counts;

struct counts counting_read(void) { return counts; }

// MARK: the C library's, glibc's own entry points behind them

void *__libc_malloc(size_t octets);
void *__libc_calloc(size_t count, size_t octets);
void *__libc_realloc(void *memory, size_t octets);
void *__libc_memalign(size_t alignment, size_t octets);
void __libc_free(void *memory);

void *malloc(size_t octets) {
  counts.allocations++;
  return __libc_malloc(octets);
}

void *calloc(size_t count, size_t octets) {
  counts.allocations++;
  return __libc_calloc(count, octets);
}

void *realloc(void *memory, size_t octets) {
  counts.allocations++;
  return __libc_realloc(memory, octets);
}

void *memalign(size_t alignment, size_t octets) {
  counts.allocations++;
  return __libc_memalign(alignment, octets);
}

void *aligned_alloc(size_t alignment, size_t octets) { return memalign(alignment, octets); }

int posix_memalign(void **memory, size_t alignment, size_t octets) {
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *made = memalign(alignment, octets);
  if (!made) return ENOMEM;
  *memory = made;
  return 0;
}

void free(void *memory) {
  counts.frees += memory != NULL;
  __libc_free(memory);
}

// MARK: the Swift runtime's

#if defined(__x86_64__)
#define COUNTED(name, field)                                   \
  __attribute__((naked)) void __wrap_##name(void) {            \
    __asm__("incq %0\n\tjmp __real_" #name : : "m"(counts.field)); \
  }
#elif defined(__aarch64__)
// x16 and x17 are nobody's across a call.
#define COUNTED(name, field)                                   \
  __attribute__((naked)) void __wrap_##name(void) {            \
    __asm__("adrp x16, %c0\n\tadd x16, x16, :lo12:%c0\n\tldr x17, [x16]\n\tadd x17, x17, #1\n\t" \
            "str x17, [x16]\n\tb __real_" #name : : "i"(&counts.field)); \
  }
#else
#error "teach the wrappers this architecture's jump"
#endif

COUNTED(swift_retain, references)
COUNTED(swift_retain_n, references)
COUNTED(swift_release, references)
COUNTED(swift_release_n, references)
COUNTED(swift_bridgeObjectRetain, references)
COUNTED(swift_bridgeObjectRelease, references)
COUNTED(swift_beginAccess, accesses)
