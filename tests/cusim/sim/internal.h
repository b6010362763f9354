// internal.h - what the parts of the simulator know of each other.
//
// One OS thread runs everything, so a run is a pure function of its inputs and of CUSIM_SEED. fibers.cpp holds the stacks, threads.cpp
// runs one grid, barriers.cpp lets threads meet, streams.cpp decides what runs when, check.cpp watches every access (checker builds).
#pragma once
#include "../include/cuda_runtime.h"
#include "../include/cusim_control.h"
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define CUSIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUSIM_ASAN 1
#endif
#endif
#if !defined(__x86_64__) && !defined(CUSIM_UCONTEXT)
#define CUSIM_UCONTEXT 1
#endif

namespace cusim
{
// ---- settings.cpp
enum Policy { FIFO, LIFO, RANDOM };
struct Settings {
    Policy policy = FIFO;
    size_t resident = 1; // blocks of a grid that run at a time
    bool strict = true;  // what CUDA leaves undefined is an error
    bool async_streams = true;
    size_t stack_size =
#if CUSIM_ASAN
        256 << 10;
#else
        64 << 10;
#endif
    int sms = 8, major = 9, devices = 1, max_errors = 10; // major: of the compute capability
    unsigned preempt = 0;                                 // checker: one access in so many gives way to another thread
    size_t memory = size_t(8) << 30;
    Settings();
};
extern Settings the_settings; // read before main
inline Settings &settings()
{
    return the_settings;
}
uint64_t rnd();
void print_place();

// ---- fibers.cpp
struct Fiber {
    void *sp = nullptr; // saved stack pointer
    char *lo = nullptr, *hi = nullptr;
    struct ThreadImpl *start = nullptr;
    void *fake = nullptr; // AddressSanitizer's fake stack
    void *uc = nullptr;   // ucontext_t, in the portable build
};
extern Fiber main_fiber, *cur_fiber;
Fiber *fiber_take();
void fiber_give(Fiber *f);
void switch_to(Fiber *to);
void fiber_arrived(Fiber *f);
void fiber_main_stack();
[[noreturn]] void fiber_main();

// ---- threads.cpp, barriers.cpp
struct Phase { // of a cluster's barrier: the sync clock when each thread arrived
    uint32_t number;
    std::vector<uint32_t> at;
};
struct Clocks { // per block, per single thread, and per cluster
    std::vector<uint32_t> vc;
    std::map<uint32_t, uint32_t> own;
    std::map<unsigned, std::shared_ptr<const Phase>> phases;
};
struct CpAsync {
    void *dst;
    const void *src;
    size_t n, src_n;
};
enum State : unsigned char { S_READY, S_BLOCK, S_NAMED, S_WARP, S_GRID, S_CLUSTER, S_MBARRIER, S_DONE };
struct Fence; // check_order.cpp: what a thread knew at its last fence.proxy.async
typedef std::unordered_map<uint32_t, uint32_t> Heard; // threads, and until when their reading is over (checker)
struct ThreadImpl : Thread {
    Fiber *fiber;
    State state;
    int result, wline;
    const char *wfile, *wop;
    std::vector<std::vector<CpAsync>> *cp; // groups; the last one is open
    Clocks *acq;                           // what this thread acquired since its last block barrier (checker)
    Heard *heard;                          // and what it heard by relaxed loads
    Fence *fence;
    bool arrived; // at the cluster's barrier, and has not waited
    uint64_t arrived_phase;
    uint32_t gid; // block number * threads per block + rank
};
struct WarpMeet {
    unsigned mask, arrived, size;
    const char *op;
    const char *file;
    int line;
    WarpFn fn;
    bool mem;
    void *slot[32];
};
struct Warp {
    unsigned exited;
    unsigned base;
    uint32_t last_sync;
    std::vector<WarpMeet> meets;
};
struct SharedVar {
    const void *tag;
    void *p;
    size_t size, align;
    const char *name;
};
struct NamedBar {
    int need, arrived;
    std::vector<ThreadImpl *> wait;
};
struct Cluster {
    unsigned number;
    std::vector<struct BlockImpl *> blocks; // by rank
    unsigned alive, missing, left;          // threads: not ended; not arrived; blocks that have not ended
    uint64_t phase;
    std::vector<ThreadImpl *> waiting;
    std::vector<uint32_t> at; // checker, as are the next two
    Clocks acquired;          // by those that arrived
    Clocks done;              // what this phase's barrier passes on
};
struct BlockImpl : Block {
    Cluster *cluster; // NULL: the grid has none
    unsigned num, alive, arrived;
    int acc;
    BlockOp op;
    const char *bfile;
    int bline;
    ThreadImpl *th;
    std::vector<Warp> warps;
    std::vector<SharedVar> shared;
    void *dyn;
    std::map<int, NamedBar> named;
    uint32_t last_sync; // checker: sync clock at the last block barrier
    Clocks acq;
    Heard heard;
};
struct GridImpl : Grid {
    const char *name;
    const void *fn;
    size_t smem, nblocks, next;
    unsigned nthreads, cluster;
    bool coop;
    void (*thunk)(void *);
    void *args;
    size_t argbytes;
    size_t done_blocks, grid_arrived;
    std::vector<BlockImpl *> blocks; // resident
    std::vector<ThreadImpl *> grid_wait;
    uint32_t last_sync, start;
};
extern GridImpl *grid;
extern uint32_t sync_clock;
inline ThreadImpl *self()
{
    return static_cast<ThreadImpl *>(cur);
}
inline BlockImpl *blk()
{
    return static_cast<BlockImpl *>(cur->block);
}
void push(ThreadImpl *t);
void wait();
void wait(State s, const char *op, const char *file, int line);
void wake(ThreadImpl *t);
void something_happened(); // that a thread which polls may wait for
void cluster_init(Cluster &c, size_t number, std::vector<BlockImpl *> blocks);
void leave_cluster(ThreadImpl *t);
void block_release(BlockImpl *b);
void warp_check(BlockImpl *b, Warp &w);
void run_grid(GridImpl *g);
void *place_in(BlockImpl *peer, const void *p,
               size_t n); // where the other block has what is at p in this one's shared memory
[[noreturn]] void deadlock();

// ---- bulk.cpp
bool bulk_deliver();                                     // one bulk copy reaches one block; false: none is on its way
void bulk_block_ends(BlockImpl *b);                      // its barriers are gone; fails where something is yet to come
void bulk_print_waiting();                               // what barriers wait for
static const size_t SMEM_MAX = 232448, SMEM_SM = 233472; // of one block, of one multiprocessor
static const size_t SMEM_USUAL = 49152;                  // of one block whose kernel has not asked for more

// ---- memory.cpp
void *dev_alloc(size_t n, size_t align, const char *what, int owner_block);
void dev_free(void *p);
enum Side { HOST_SIDE, DEVICE_SIDE, OUT_OF_BOUNDS };
Side side_of(const void *p, size_t n); // where these n bytes lie

// ---- objects.cpp: what a program holds by a handle: streams, events, graphs, and what libraries make
void object_made(const void *p, const char *what);
bool object_lives(const void *p, const char *what);
void object_gone(const void *p, const char *what); // fails where there is none

// ---- streams.cpp, graphs.cpp: the order of the operations of all streams, as CUDA promises it
struct Order {
    unsigned stream = 0;
    uint32_t seq = 0;         // this operation's number in that stream
    std::vector<uint32_t> vc; // for each stream, up to which operation all are done before this one
};
struct Node { // of a graph
    const char *name;
    std::function<void()> run;
    std::vector<size_t> after;
};
struct Capture {
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    bool invalid = false;
    std::vector<Node> nodes;
};
unsigned new_stream_id();
uint32_t next_seq(unsigned stream);
void join(std::vector<uint32_t> &to, const std::vector<uint32_t> &from);
cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> run);
bool captured(cudaStream_t stream, const char *name, std::function<void()> &run, cudaError_t *error);
extern std::vector<Capture *> &captures;
void drain_all();

// ---- runtime.cpp
cudaError_t error(cudaError_t e);           // remembers it for cudaGetLastError
cudaError_t enter(const char *name);        // counts the call; what it shall fail with
cudaError_t enter_unsafe(const char *name); // the same for a call that may not be made while a stream is captured
void device_fault(cudaError_t e);           // from now on every call fails
cudaError_t enqueue_work(const char *name, cudaStream_t stream, std::function<void()> work); // as a kernel of that name
bool any_capture(); // whether a call that a capture forbids would break one; it then does
bool device_dead();
void block_has(const void *fn, size_t bytes); // of __shared__ memory, in a block that runs; fails where it is too much

// ---- check.cpp
#if CUSIM_CHECK
void chk_host(const void *p, size_t n, bool write); // by a copy or a fill
void chk_library(const void *p, size_t n, bool write);
void chk_access(const void *p, size_t n, bool write, bool atomic, const void *pc);
void chk_acquire(const void *p);
void chk_release(const void *p);
void chk_say();               // before a relaxed store
void chk_hear(const void *p); // of a relaxed load
void chk_block_barrier(BlockImpl *b);
void chk_warp_barrier(BlockImpl *b, const Warp &w, unsigned lanes);
void chk_cluster_arrive(Cluster &c);
void chk_cluster_done(Cluster &c);
void chk_cluster_wait(const Cluster &c);
void chk_join(Clocks &to, const Clocks &from);
void chk_take(Clocks &to);                        // all that the current thread did and knows
void chk_give(ThreadImpl *t, const Clocks &from); // and now t does
void chk_fence();
// A bulk copy of the current thread on its way to the block of that rank; chk_bulk_came when it is there.
void chk_bulk(void *to, const void *from, size_t n, unsigned rank, const void *pc);
void chk_bulk_came(Clocks &to, uint32_t gid, unsigned rank);
void chk_internal(const void *lo, const void *hi); // simulator memory: not checked
void chk_op_begin(const char *name, const Order &order);
void chk_settled(); // the host waited for everything
#else
inline void chk_host(const void *, size_t, bool)
{
}
inline void chk_library(const void *, size_t, bool)
{
}
inline void chk_access(const void *, size_t, bool, bool, const void *)
{
}
inline void chk_acquire(const void *)
{
}
inline void chk_release(const void *)
{
}
inline void chk_say()
{
}
inline void chk_hear(const void *)
{
}
inline void chk_block_barrier(BlockImpl *)
{
}
inline void chk_warp_barrier(BlockImpl *, const Warp &, unsigned)
{
}
inline void chk_cluster_arrive(Cluster &)
{
}
inline void chk_cluster_done(Cluster &)
{
}
inline void chk_cluster_wait(const Cluster &)
{
}
inline void chk_join(Clocks &, const Clocks &)
{
}
inline void chk_take(Clocks &)
{
}
inline void chk_give(ThreadImpl *, const Clocks &)
{
}
inline void chk_fence()
{
}
inline void chk_bulk(void *, const void *, size_t, unsigned, const void *)
{
}
inline void chk_bulk_came(Clocks &, uint32_t, unsigned)
{
}
inline void chk_internal(const void *, const void *)
{
}
inline void chk_op_begin(const char *, const Order &)
{
}
inline void chk_settled()
{
}
#endif
} // namespace cusim

struct CUevent_st {
    uint64_t recorded = 0, done = 0;
    bool timing = true;
    double seconds = 0; // when the last finished record was reached
    std::vector<uint32_t> vc;
    cusim::Capture *capture = nullptr; // the last record was captured: after these nodes
    std::vector<size_t> tips;
};
struct CUgraph_st {
    std::vector<cusim::Node> nodes;
};
struct CUgraphExec_st {
    std::vector<cusim::Node> nodes;
    std::vector<unsigned> ids; // one stream number for each node; empty where each node follows the one before
};
