// threads.cpp - which CUDA thread runs next, from the first of a grid to its last.
#include "internal.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#if CUSIM_ASAN
#include <sanitizer/lsan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
namespace cusim
{
Thread *cur;
GridImpl *grid;
uint32_t sync_clock = 1;

// The queue of threads that can run, started or not: a ring.
static std::vector<ThreadImpl *> &ring = *new std::vector<ThreadImpl *>(1 << 10);
static size_t rhead, rtail;
void push(ThreadImpl *t)
{
    if (rtail - rhead == ring.size()) {
        std::vector<ThreadImpl *> n(ring.size() * 2);
        for (size_t i = rhead; i < rtail; i++)
            n[i & (n.size() - 1)] = ring[i & (ring.size() - 1)];
        ring.swap(n);
    }
    ring[rtail++ & (ring.size() - 1)] = t;
}
static ThreadImpl *pick()
{
    if (rhead == rtail)
        return nullptr;
    size_t m = ring.size() - 1;
    if (settings().policy == LIFO)
        return ring[--rtail & m];
    if (settings().policy == RANDOM)
        std::swap(ring[rhead & m], ring[(rhead + rnd() % (rtail - rhead)) & m]);
    return ring[rhead++ & m];
}
static void set_cur(ThreadImpl *t)
{
    cur = t;
    threadIdx = t->tid;
    blockIdx = t->block->idx;
}
static const char *state_name(State s)
{
    static const char *n[] = {"ready",        "at __syncthreads",         "at a named barrier", "at a warp operation",
                              "at grid.sync", "at the cluster's barrier", "at an mbarrier",     "finished"};
    return n[s];
}
[[noreturn]] void deadlock()
{
    fprintf(stderr, "cusim: error: deadlock in kernel %s\n", grid->name);
    int shown = 0;
    for (BlockImpl *b : grid->blocks) {
        std::map<std::string, int> n;
        for (unsigned i = 0; i < grid->nthreads; i++) {
            ThreadImpl &t = b->th[i];
            std::string s = state_name(t.state);
            if (t.state != S_DONE && t.state != S_READY)
                s += std::string(" (") + (t.wop ? t.wop : "") + " " + (t.wfile ? t.wfile : "?") + ":" +
                     std::to_string(t.wline) + ")";
            n[s]++;
        }
        for (auto &e : n)
            fprintf(stderr, "  block %u: %d thread(s) %s\n", b->num, e.second, e.first.c_str());
        if (++shown == 8)
            break;
    }
    bulk_print_waiting();
    abort();
}
// The next one, or the first that a copy wakes.
static ThreadImpl *pick_or_copy()
{
    ThreadImpl *t = pick();
    while (!t && bulk_deliver())
        t = pick();
    return t;
}
// The current thread cannot go on (or gives way): run another one; returns when it is picked again.
void wait()
{
    ThreadImpl *me = self(), *next = pick_or_copy();
    if (!next)
        deadlock();
    if (next == me)
        return;
    if (!next->fiber) {
        Fiber *f = fiber_take();
        f->start = next;
        switch_to(f);
    } else {
        set_cur(next);
        switch_to(next->fiber);
    }
}
void wait(State s, const char *op, const char *file, int line)
{
    ThreadImpl *t = self();
    t->state = s;
    t->wop = op;
    t->wfile = file;
    t->wline = line;
    wait();
}
static uint64_t idle; // times that a thread gave way since anything happened that another may wait for
void wake(ThreadImpl *t)
{
    idle = 0;
    t->state = S_READY;
    push(t);
}
void something_happened()
{
    idle = 0;
}
// Threads that poll never end by themselves: a thousand rounds without news, and what others wait for will not come.
static void look_for_a_deadlock()
{
    if (++idle < 1000 * (rtail - rhead + 1))
        return;
    idle = 0;
    for (BlockImpl *b : grid->blocks)
        for (unsigned i = 0; i < grid->nthreads; i++)
            if (b->th[i].state == S_MBARRIER || b->th[i].state == S_CLUSTER)
                deadlock();
}
void yield()
{
    if (cur && grid->cluster > 1 && (rnd() & 3) == 0)
        bulk_deliver();
    if (cur && rhead != rtail) {
        if (grid->cluster > 1)
            look_for_a_deadlock();
        push(self());
        wait();
    }
}

static void block_init(BlockImpl *b, size_t num);
static void next_cluster(Cluster *c)
{
    if (--c->left == 0 && grid->next < grid->nblocks) {
        const std::vector<BlockImpl *> blocks(c->blocks);
        cluster_init(*c, grid->next / grid->cluster, blocks);
        for (BlockImpl *b : blocks)
            block_init(b, grid->next++);
    }
}
static void thread_done()
{
    ThreadImpl *t = self();
    BlockImpl *b = blk();
    Warp &w = *t->warp;
    t->state = S_DONE;
    t->fiber = nullptr;
    w.exited |= 1u << t->lane;
    if (!w.meets.empty())
        warp_check(b, w);
    if (b->cluster)
        leave_cluster(t);
    if (--b->alive == 0) {
        bulk_block_ends(b);
        for (auto &s : b->shared)
            dev_free(s.p);
        b->shared.clear();
        if (b->dyn) {
            dev_free(b->dyn);
            b->dyn = nullptr;
        }
        grid->done_blocks++;
        if (b->cluster)
            next_cluster(b->cluster);
        else if (grid->next < grid->nblocks)
            block_init(b, grid->next++);
    } else if (b->arrived && b->arrived == b->alive) {
        if (settings().strict)
            fail("__syncthreads at %s:%d completed only because other threads had left the kernel", b->bfile, b->bline);
        block_release(b);
    }
}
void fiber_main()
{
    Fiber *f = cur_fiber;
    fiber_arrived(f);
    for (;;) {
        ThreadImpl *t = f->start;
        for (;;) {
            t->fiber = f;
            set_cur(t);
            grid->thunk(grid->args);
            thread_done();
            ThreadImpl *next = pick_or_copy();
            if (next && !next->fiber) {
                t = next;
                continue;
            } // a new thread can use this very stack
            fiber_give(f);
            if (next) {
                set_cur(next);
                switch_to(next->fiber);
            } else {
                if (grid->done_blocks != grid->nblocks)
                    deadlock();
                cur = nullptr;
                switch_to(&main_fiber);
            }
            break; // taken from the pool again
        }
    }
}

static void block_init(BlockImpl *b, size_t num)
{
    unsigned n = grid->nthreads;
    b->num = static_cast<unsigned>(num);
    b->idx.x = static_cast<unsigned>(num % grid->gdim.x);
    b->idx.y = static_cast<unsigned>(num / grid->gdim.x % grid->gdim.y);
    b->idx.z = static_cast<unsigned>(num / grid->gdim.x / grid->gdim.y);
    b->grid = grid;
    b->alive = n;
    b->arrived = 0;
    b->bfile = nullptr;
    b->last_sync = 0;
    b->acq.vc.clear();
    b->acq.own.clear();
    b->heard.clear();
    b->named.clear();
    b->warps.resize((n + 31) / 32);
    for (unsigned i = 0; i < b->warps.size(); i++) {
        Warp &w = b->warps[i];
        w.exited = i * 32 + 32 > n ? ~0u << (n & 31) : 0;
        w.base = i * 32;
        w.last_sync = 0;
        w.meets.clear();
    }
    b->dyn = grid->smem ? dev_alloc(grid->smem, 1024, "dynamic shared memory", static_cast<int>(b->num)) : nullptr;
    for (unsigned i = 0; i < n; i++) {
        ThreadImpl &t = b->th[i];
        t.tid = {i % grid->bdim.x, i / grid->bdim.x % grid->bdim.y, i / grid->bdim.x / grid->bdim.y};
        t.lane = i & 31;
        t.rank = i;
        t.block = b;
        t.warp = &b->warps[i / 32];
        t.fiber = nullptr;
        t.state = S_READY;
        t.wfile = nullptr;
        t.wop = nullptr;
        t.gid = static_cast<uint32_t>(num) * n + i;
        t.arrived = false;
        delete t.acq;
        t.acq = nullptr;
        delete t.heard;
        t.heard = nullptr;
        if (t.cp)
            t.cp->clear();
        push(&t);
    }
}
static std::vector<BlockImpl *> &blocks = *new std::vector<BlockImpl *>; // kept between launches
static size_t capacity;                                                  // threads of each
static void free_blocks()
{
    for (BlockImpl *b : blocks) {
        for (size_t i = 0; i < capacity; i++)
            delete b->th[i].cp;
#if CUSIM_ASAN
        __lsan_unregister_root_region(b->th, capacity * sizeof(ThreadImpl));
#endif
        munmap(static_cast<void *>(b->th), capacity * sizeof(ThreadImpl));
        delete b;
    }
    blocks.clear();
}
static BlockImpl *block_new()
{
    auto *b = new BlockImpl();
    size_t n = capacity * sizeof(ThreadImpl);
    void *m = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        fail("no memory for the threads of a block");
    b->th = static_cast<ThreadImpl *>(m);
#if CUSIM_ASAN
    __lsan_register_root_region(m, n); // mapped memory is no root by itself
#endif
    chk_internal(m, static_cast<char *>(m) + n);
    return b;
}
// Runs one grid to its end.
void run_grid(GridImpl *g)
{
    if (grid)
        fail("launch inside a kernel");
    g->nblocks = static_cast<size_t>(g->gdim.x) * g->gdim.y * g->gdim.z;
    g->nthreads = g->bdim.x * g->bdim.y * g->bdim.z;
    g->start = ++sync_clock;
    grid = g;
    gridDim = g->gdim;
    blockDim = g->bdim;
    size_t live =
        g->coop ? g->nblocks : std::min(std::max<size_t>(settings().resident / g->cluster, 1) * g->cluster, g->nblocks);
    if (capacity < g->nthreads) {
        free_blocks();
        capacity = capacity ? 1024 : std::max<size_t>(g->nthreads, 256);
    }
    while (blocks.size() < live)
        blocks.push_back(block_new());
    g->blocks.assign(blocks.begin(), blocks.begin() + static_cast<long>(live));
    std::vector<Cluster> clusters(g->cluster > 1 ? live / g->cluster : 0);
    for (size_t i = 0; i < clusters.size(); i++)
        cluster_init(clusters[i], i,
                     {g->blocks.begin() + static_cast<long>(i * g->cluster),
                      g->blocks.begin() + static_cast<long>((i + 1) * g->cluster)});
    for (size_t i = 0; i < live; i++) {
        blocks[i]->cluster = clusters.empty() ? nullptr : &clusters[i / g->cluster];
        block_init(blocks[i], g->next++);
    }
    Fiber *f = fiber_take();
    f->start = pick();
    fiber_main_stack();
    switch_to(f);
    ++sync_clock;
    grid = nullptr;
}
} // namespace cusim
