// check.h - what the parts of the checker share.
//
// Kernels are compiled with -fsanitize=thread but not linked with libtsan: the compiler's calls to __tsan_read4() and so on arrive in
// hooks.cpp. Every access of a CUDA thread to device or shared memory is checked (access.cpp) for bounds and freed memory, wild or host
// pointers, another block's shared memory, another thread's stack, reads of memory nobody wrote, and data races under CUDA's rules
// (order.cpp: __syncthreads, __syncwarp, grid.sync, integer atomics and acquire/release order; shuffles and float atomics do not; between
// operations: streams, events, graphs and the waiting host do).
#pragma once
#include "internal.h"

namespace cusim
{
struct Shadow { // of 2 bytes: the last write, the last two readers
    uint32_t w_tid, w_st, w_pc, r_tid, r_st, r_pc, q_tid, q_st;
};
// tid: 28 bits thread, bit 29: atomic, bits 30 and 31: which of the 2 bytes are meant
static const uint32_t TID = (1u << 28) - 1, ATOMIC = 1u << 29, BYTES = 3u << 30, HOST = TID;
static const uint32_t ASYNC =
    1u << 27; // a bulk copy: its thread's number times 8, and the rank of the block it goes to
struct Alloc {
    char *base;
    size_t size;
    Shadow *sh;
    const char *what;
    int owner; // block whose shared memory it is, or -1
    bool freed;
};
static const size_t PG = 4096;
static const size_t ARENA = 64ull << 30;
extern char *arena;       // device memory; NULL before the first allocation
extern uint32_t *page_of; // page -> allocation number + 1
extern std::vector<Alloc> &allocs;
inline bool in_arena(const void *p)
{
    return arena && static_cast<size_t>(static_cast<const char *>(p) - arena) < ARENA;
}
// NULL: not the device's.
inline Alloc *find_alloc(const void *p)
{
    uint32_t n = in_arena(p) ? page_of[static_cast<size_t>(static_cast<const char *>(p) - arena) / PG] : 0;
    return n ? &allocs[n - 1] : nullptr;
}
// Of the two bytes at p, or NULL.
inline const Shadow *shadow_of(const void *p)
{
    const Alloc *a = find_alloc(p);
    return a ? a->sh + (static_cast<const char *>(p) - a->base) / 2 : nullptr;
}
bool in_image(const void *p);
size_t image_offset(const void *pc);
bool ordered(uint32_t tid,
             uint32_t st); // did that access happen before the next one of this thread, or of this operation?
bool heard(uint32_t tid, uint32_t st);  // and if it was a read, did a relaxed load tell of a store behind it?
bool fenced(uint32_t tid, uint32_t st); // did it before the thread's last fence.proxy.async?
const char *operation_at(uint32_t st);  // whose access it was
extern uint32_t operation_start;        // sync clock when the operation that runs now began
inline bool same_operation(uint32_t st)
{
    return st >= operation_start;
}
std::string where(size_t pc);
[[gnu::format(printf, 4, 5)]] void report(const void *pc, const void *addr, const Alloc *a, const char *fmt, ...);
bool first_time(size_t pc, const char *what);
} // namespace cusim
