// cusim_device.h - how a kernel speaks to the scheduler: thread numbers, barriers, shared memory, launches.
#pragma once
#include "cusim_types.h"

namespace cusim
{
struct Grid;
struct Warp;
struct Fiber;
struct ThreadImpl;
struct Block {
    uint3 idx;
    Grid *grid;
};
struct Thread {
    uint3 tid;
    unsigned lane, rank;
    Block *block;
    Warp *warp;
};
struct Grid {
    dim3 gdim, bdim;
};
extern Thread *cur; // the CUDA thread now running
[[noreturn]] void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void yield(); // let another thread run
enum BlockOp { B_SYNC, B_COUNT, B_AND, B_OR };
int block_sync(BlockOp op, int pred, const char *file, int line);
void named_sync(int id, int nthreads, bool wait, const char *file, int line);
void grid_sync(const char *file, int line);
// All lanes of mask meet; the last one to come calls fn with every lane's slot, then all go on.
typedef void (*WarpFn)(void **slots, unsigned mask);
void warp_meet(unsigned mask, const char *op, unsigned size, void *slot, WarpFn fn, bool orders_memory,
               const char *file, int line);
void *shared_static(const void *tag, size_t size, size_t align, const char *name);
void *shared_dynamic(size_t align);
void cp_async(void *dst, const void *src, size_t n, size_t src_n);
void cp_async_commit();
void cp_async_wait(int pending);
// How a grid is launched: all blocks at once, so that they may wait for each other; so many neighbours along x on one cluster.
struct How {
    bool coop;
    unsigned cluster;
};
cudaError_t launch(const char *name, const void *fn, dim3 g, dim3 b, size_t smem, cudaStream_t s, How how,
                   size_t argbytes, void (*thunk)(void *), void (*del)(void *), void *args);
cudaError_t check_launch(const void *fn, dim3 g, dim3 b, size_t smem, How how, size_t argbytes);
unsigned activemask();
} // namespace cusim
extern uint3 threadIdx, blockIdx; // plain globals, set at each switch (macros would break
extern dim3 blockDim, gridDim;    // struct members of the same name)
static constexpr int warpSize = 32;

inline void __syncthreads(CUSIM_SITE)
{
    cusim::block_sync(cusim::B_SYNC, 0, file, line);
}
inline int __syncthreads_count(int p, CUSIM_SITE)
{
    return cusim::block_sync(cusim::B_COUNT, p, file, line);
}
inline int __syncthreads_and(int p, CUSIM_SITE)
{
    return cusim::block_sync(cusim::B_AND, p, file, line);
}
inline int __syncthreads_or(int p, CUSIM_SITE)
{
    return cusim::block_sync(cusim::B_OR, p, file, line);
}
inline void __threadfence()
{
}
inline void __threadfence_block()
{
}
inline void __nanosleep(unsigned)
{
    cusim::yield();
}
inline unsigned __activemask()
{
    return cusim::activemask();
}
