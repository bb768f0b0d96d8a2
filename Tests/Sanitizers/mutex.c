// Tells ThreadSanitizer of Swift's `Mutex`.
//
// A lock that is free is taken in code that the compiler inlines and instruments. One that is not is
// waited for in the toolchain's library, which is not instrumented: the sanitizer does not see that
// whoever had the lock comes first, and takes what both do under it for a race. These two functions
// stand in front of the library's, with the calling convention of Swift, and say so. Linked into builds
// with ThreadSanitizer alone (Scripts/test); contention.swift shows that it finds races all the same.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

void __tsan_acquire(void *address);
void __tsan_release(void *address);

typedef __attribute__((swiftcall)) void Lock(
    uint32_t thread, __attribute__((swift_context)) void *mutex);
typedef __attribute__((swiftcall)) void Unlock(__attribute__((swift_context)) void *mutex);

Lock lock_slow __asm__(LOCK_SLOW);
Unlock unlock_slow __asm__(UNLOCK_SLOW);

static Lock *library_lock;
static Unlock *library_unlock;

__attribute__((constructor)) static void find(void) {
  library_lock = (Lock *)dlsym(RTLD_NEXT, LOCK_SLOW);
  library_unlock = (Unlock *)dlsym(RTLD_NEXT, UNLOCK_SLOW);
  if (library_lock == NULL || library_unlock == NULL) abort();
}

__attribute__((swiftcall)) void lock_slow(
    uint32_t thread, __attribute__((swift_context)) void *mutex) {
  library_lock(thread, mutex);
  __tsan_acquire(mutex);
}

__attribute__((swiftcall)) void unlock_slow(__attribute__((swift_context)) void *mutex) {
  __tsan_release(mutex);
  library_unlock(mutex);
}
