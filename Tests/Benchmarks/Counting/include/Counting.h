// Counts what must not happen on the hot path: allocations, reference counting, exclusivity checks.
//
// Allocations are counted where the C library's are made: this target defines malloc and its kin, in
// front of glibc's, so that those of the Swift runtime and of libraries count too. The runtime's
// entry points are counted where the program calls them: it is linked with `--wrap` for each name
// below (see Package.swift), so calls inside the runtime do not count. One thread is assumed.

#ifndef COUNTING_H
#define COUNTING_H

#include <stdint.h>

struct counts {
  uint64_t allocations;
  uint64_t frees;
  // swift_retain, swift_release and those of bridge objects.
  uint64_t references;
  // swift_beginAccess.
  uint64_t accesses;
};

// The counts since the program's start.
struct counts counting_read(void);


#endif
