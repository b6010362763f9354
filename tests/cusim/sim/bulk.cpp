// bulk.cpp - barriers in shared memory that count arrivals and bytes (mbarrier), and bulk copies (TMA) that report to them.
//
// A copy reaches each block of its mask by itself and at any time after it was started: as late as possible where nothing else can run,
// else whenever a thread gives way, in an order that CUSIM_SEED draws.
#include "internal.h"
#include <cstdio>
#include <cstring>
#include <deque>

namespace cusim
{
struct Mbarrier {
    BlockImpl *block;
    unsigned count, pending; // arrivals of each phase, and those to come in this one
    int64_t bytes;           // expected less arrived
    uint64_t phase;
    ThreadImpl *maker;
    bool fenced;               // copies may report to it
    Clocks arrived, completed; // what it passes on: from this phase on, and up to the last one (checker)
    std::vector<ThreadImpl *> waiting;
};
struct Bulk { // on its way to one block
    Mbarrier *barrier;
    void *to;
    const void *from;
    unsigned bytes, rank;
    uint32_t gid;
    BlockImpl *block;
    Clocks known; // by the thread that started it
};
static std::map<const void *, Mbarrier> &barriers = *new std::map<const void *, Mbarrier>;
static std::deque<Bulk> &on_the_way = *new std::deque<Bulk>;
static const int64_t MOST = (1 << 20) - 1; // of arrivals and bytes

static Mbarrier &barrier_at(const void *p, const char *what)
{
    auto it = barriers.find(p);
    if (it == barriers.end())
        fail("%s at %p, where mbarrier.init has not made an mbarrier", what, p);
    return it->second;
}
void mbarrier_init(uint64_t *p, unsigned arrivals)
{
    place_in(blk(), p, sizeof *p);
    if (reinterpret_cast<uintptr_t>(p) % 8 || !arrivals || arrivals > MOST)
        fail("mbarrier.init at %p for %u arrivals: alignment or number", static_cast<void *>(p), arrivals);
    if (barriers.count(p))
        fail("mbarrier.init of an mbarrier that is in use");
    chk_access(p, sizeof *p, true, false, __builtin_return_address(0));
    Mbarrier &m = barriers[p];
    m.block = blk();
    m.count = m.pending = arrivals;
    m.maker = self();
}
void mbarrier_fence_init()
{
    for (auto &m : barriers)
        m.second.fenced = m.second.fenced || m.second.maker == self();
}
// Ends the phase when all has come.
static void settle(Mbarrier &m)
{
    if (m.pending == 0 && m.bytes < 0)
        fail("an mbarrier of block %u got %lld bytes more than it was told to expect", m.block->num,
             static_cast<long long>(-m.bytes));
    if (m.bytes > MOST || -m.bytes > MOST)
        fail("an mbarrier of block %u: more than 2^20 - 1 bytes in one phase", m.block->num);
    if (m.pending || m.bytes)
        return;
    m.phase++;
    m.pending = m.count;
    chk_join(m.completed, m.arrived);
    std::vector<ThreadImpl *> waiting;
    waiting.swap(m.waiting);
    for (ThreadImpl *t : waiting) {
        chk_give(t, m.completed);
        wake(t);
    }
}
void mbarrier_arrive_expect(uint64_t *p, unsigned bytes)
{
    Mbarrier &m = barrier_at(p, "mbarrier.arrive");
    chk_access(p, sizeof *p, false, true, __builtin_return_address(0));
    if (m.pending == 0)
        fail("mbarrier.arrive: more arrivals than the %u that it was made for", m.count);
    m.pending--;
    m.bytes += bytes;
    chk_take(m.arrived);
    something_happened();
    settle(m);
}
void mbarrier_wait(uint64_t *p, unsigned parity)
{
    yield();
    Mbarrier &m = barrier_at(p, "mbarrier.try_wait");
    chk_access(p, sizeof *p, false, true, __builtin_return_address(0));
    if (m.phase % 2 != parity) {
        chk_give(self(), m.completed);
        return;
    }
    m.waiting.push_back(self());
    wait(S_MBARRIER, "mbarrier.try_wait", nullptr, 0);
}
void fence_proxy_async()
{
    chk_fence();
}
static void start(BlockImpl *peer, unsigned rank, void *to, const void *from, unsigned bytes, uint64_t *p,
                  const void *pc)
{
    if (peer->alive == 0)
        fail("cp.async.bulk into the shared memory of block %u of the cluster, which has left the kernel", rank);
    void *there = place_in(peer, to, bytes);
    Mbarrier &m = barrier_at(place_in(peer, p, sizeof *p), "cp.async.bulk");
    if (!m.fenced)
        fail("cp.async.bulk reports to an mbarrier of block %u without fence.mbarrier_init behind its mbarrier.init",
             peer->num);
    chk_access(place_in(peer, p, sizeof *p), sizeof *p, false, true, pc);
    chk_bulk(there, from, bytes, rank, pc);
    on_the_way.push_back({&m, there, from, bytes, rank, self()->gid, peer, {}});
    chk_take(on_the_way.back().known);
}
void bulk_multicast(void *to, const void *from, unsigned bytes, uint64_t *p, unsigned mask)
{
    const Cluster *c = blk()->cluster;
    if (!c || !mask || mask >> c->blocks.size())
        fail("cp.async.bulk with mask %x in a cluster of %zu", mask, c ? c->blocks.size() : 1);
    if (!bytes || bytes % 16 || reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
        fail("cp.async.bulk of %u bytes from %p to %p: size or alignment", bytes, from, to);
    for (unsigned rank = 0; rank < c->blocks.size(); rank++)
        if (mask >> rank & 1)
            start(c->blocks[rank], rank, to, from, bytes, p, __builtin_return_address(0));
}
bool bulk_deliver()
{
    if (on_the_way.empty())
        return false;
    const size_t i = settings().policy == RANDOM ? rnd() % on_the_way.size() : 0;
    const Bulk b = std::move(on_the_way[i]);
    on_the_way.erase(on_the_way.begin() + static_cast<long>(i));
    memcpy(b.to, b.from, b.bytes);
    b.barrier->bytes -= b.bytes;
    chk_join(b.barrier->arrived, b.known);
    chk_bulk_came(b.barrier->arrived, b.gid, b.rank);
    something_happened();
    settle(*b.barrier);
    return true;
}
void bulk_block_ends(BlockImpl *b)
{
    for (const Bulk &k : on_the_way)
        if (k.block == b)
            fail("block %u leaves the kernel while a bulk copy of block %u is on its way into its shared memory",
                 b->num, k.gid / grid->nthreads);
    for (auto it = barriers.begin(); it != barriers.end();) {
        if (it->second.block == b && it->second.bytes)
            fail("block %u leaves the kernel while one of its mbarriers is %lld bytes from the end of its phase",
                 b->num, static_cast<long long>(it->second.bytes));
        it = it->second.block == b ? barriers.erase(it) : std::next(it);
    }
}
void bulk_print_waiting()
{
    for (auto &m : barriers)
        if (!m.second.waiting.empty())
            fprintf(stderr,
                    "  block %u: %zu thread(s) at an mbarrier, phase %llu: %u arrival(s) and %lld bytes to come\n",
                    m.second.block->num, m.second.waiting.size(), static_cast<unsigned long long>(m.second.phase),
                    m.second.pending, static_cast<long long>(m.second.bytes));
}
} // namespace cusim
