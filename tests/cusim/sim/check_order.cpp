// check_order.cpp - which accesses CUDA's rules put one before the other.
//
// Within a grid: by the sync clock, which every barrier advances, and by what a thread acquired. Between operations of several streams: by
// the vector clocks that streams.cpp gives each operation; the sync clock at its start says to which operation an older access belongs.
#include "check.h"
#include <algorithm>
#include <unordered_map>

namespace cusim
{
static std::unordered_map<const void *, Clocks> &sync_vars = *new std::unordered_map<const void *, Clocks>;
void chk_join(Clocks &to, const Clocks &from)
{
    if (to.vc.size() < from.vc.size())
        to.vc.resize(from.vc.size());
    for (size_t i = 0; i < from.vc.size(); i++)
        if (from.vc[i] > to.vc[i])
            to.vc[i] = from.vc[i];
    for (auto &o : from.own) {
        uint32_t &x = to.own[o.first];
        if (o.second > x)
            x = o.second;
    }
    for (auto &p : from.phases) {
        auto &mine = to.phases[p.first];
        if (!mine || mine->number < p.second->number)
            mine = p.second;
    }
}
void chk_acquire(const void *p)
{
    auto it = sync_vars.find(p);
    if (!cur || it == sync_vars.end())
        return;
    chk_give(self(), it->second);
}
void chk_release(const void *p)
{
    if (cur)
        chk_take(sync_vars[p]);
}
void chk_give(ThreadImpl *t, const Clocks &from)
{
    if (!t->acq)
        t->acq = new Clocks;
    chk_join(*t->acq, from);
}
void chk_take(Clocks &c)
{
    ThreadImpl *t = self();
    BlockImpl *b = blk();
    chk_join(c, b->acq);
    if (t->acq)
        chk_join(c, *t->acq);
    if (c.vc.size() < grid->nblocks)
        c.vc.resize(grid->nblocks);
    if (b->last_sync > c.vc[b->num])
        c.vc[b->num] = b->last_sync; // what the whole block did before its last barrier
    c.own[t->gid] = ++sync_clock;    // and what this thread did since
}
// Who has seen a relaxed store may write over what the thread read before it: its reads are over, where what it stored was made of them. Of
// what it wrote nothing is known.
void chk_say()
{
    ++sync_clock; // what this thread reads from now on is not over
}
static void note(Heard &in, uint32_t tid, uint32_t st)
{
    uint32_t &until = in[tid];
    until = std::max(until, st);
}
void chk_hear(const void *p)
{
    const Shadow *s = cur ? shadow_of(p) : nullptr; // of the last write
    if (!s || !(s->w_tid & ATOMIC) || !same_operation(s->w_st))
        return;
    ThreadImpl *t = self();
    if (!t->heard)
        t->heard = new Heard;
    note(*t->heard, s->w_tid & TID, s->w_st);
}
bool heard(uint32_t tid, uint32_t st)
{
    for (const Heard *h : {static_cast<const Heard *>(self()->heard), static_cast<const Heard *>(&blk()->heard)}) {
        if (!h || !same_operation(st))
            continue;
        const auto one = h->find(tid);
        if (one != h->end() && st < one->second)
            return true;
    }
    return false;
}
void chk_block_barrier(BlockImpl *b)
{
    for (unsigned i = 0; i < grid->nthreads; i++)
        if (b->th[i].heard) {
            for (auto &one : *b->th[i].heard)
                note(b->heard, one.first, one.second);
            b->th[i].heard->clear();
        }
    for (unsigned i = 0; i < grid->nthreads; i++)
        if (b->th[i].acq) {
            chk_join(b->acq, *b->th[i].acq);
            delete b->th[i].acq;
            b->th[i].acq = nullptr;
        }
}
// What one lane acquired, all lanes that met here have.
void chk_warp_barrier(BlockImpl *b, const Warp &w, unsigned lanes)
{
    Clocks all;
    for (unsigned l = 0; l < 32; l++)
        if (lanes >> l & 1 && b->th[w.base + l].acq)
            chk_join(all, *b->th[w.base + l].acq);
    if (all.vc.empty() && all.own.empty() && all.phases.empty())
        return;
    for (unsigned l = 0; l < 32; l++)
        if (lanes >> l & 1) {
            ThreadImpl &t = b->th[w.base + l];
            if (!t.acq)
                t.acq = new Clocks;
            *t.acq = all;
        }
}

// ---- clusters. A barrier's phase is one object for all who know it: when each thread of the cluster arrived.
void chk_cluster_arrive(Cluster &c)
{
    const ThreadImpl *t = self();
    c.at[t->gid % c.at.size()] = ++sync_clock;
    if (t->acq)
        chk_join(c.acquired, *t->acq);
    chk_join(c.acquired, blk()->acq);
}
void chk_cluster_done(Cluster &c)
{
    c.done = c.acquired;
    c.done.phases[c.number] = std::make_shared<Phase>(Phase{++sync_clock, c.at});
}
void chk_cluster_wait(const Cluster &c)
{
    chk_give(self(), c.done);
}

// ---- operations
struct Started {
    uint32_t start; // sync clock
    const char *name;
    Order order;
};
static std::vector<Started> &started = *new std::vector<Started>; // since the host last waited for everything
static uint32_t settled = 1; // what was accessed up to here is before all that comes
static bool one_stream = true;
uint32_t operation_start = 1;
static size_t found; // the operation looked up last

void chk_settled()
{
    settled = sync_clock++;
    started.clear();
    one_stream = true;
}
void chk_op_begin(const char *name, const Order &order)
{
    one_stream = one_stream && (started.empty() || started.back().order.stream == order.stream);
    operation_start = ++sync_clock;
    started.push_back({operation_start, name, order});
    ++sync_clock;
}
static const Started *operation_of(uint32_t st)
{
    if (st <= settled || started.empty() || st < started.front().start)
        return nullptr;
    size_t n = started.size();
    if (found < n && started[found].start <= st && (found + 1 == n || st < started[found + 1].start))
        return &started[found];
    auto it =
        std::upper_bound(started.begin(), started.end(), st, [](uint32_t v, const Started &s) { return v < s.start; });
    found = static_cast<size_t>(it - started.begin()) - 1;
    return &started[found];
}
const char *operation_at(uint32_t st)
{
    const Started *o = operation_of(st);
    return o ? o->name : "?";
}
static bool operations_ordered(uint32_t st)
{
    if (one_stream)
        return true;
    const Started *o = operation_of(st);
    if (!o || o == &started.back())
        return true;
    const Order &now = started.back().order;
    return o->order.stream < now.vc.size() && now.vc[o->order.stream] >= o->order.seq;
}
// What a thread knows to be done before its next access: its own up to a clock, and what barriers and acquiring told it.
struct Known {
    uint32_t own, block_sync, warp_sync, grid_sync;
    const Clocks *acquired[2];
};
struct Fence : Known {
    Clocks copies[2];
};
static Known known_to(const ThreadImpl *t, const BlockImpl *b)
{
    return {~0u, b->last_sync, t->warp->last_sync, grid->last_sync, {t->acq, &b->acq}};
}
void chk_fence()
{
    ThreadImpl *t = self();
    if (!t->fence)
        t->fence = new Fence;
    static_cast<Known &>(*t->fence) = known_to(t, blk());
    t->fence->own = ++sync_clock;
    for (int i = 0; i < 2; i++) {
        t->fence->copies[i] = t->fence->acquired[i] ? *t->fence->acquired[i] : Clocks();
        t->fence->acquired[i] = &t->fence->copies[i];
    }
}
static bool told(const Clocks &c, uint32_t tid, uint32_t block, uint32_t st)
{
    if (block < c.vc.size() && st < c.vc[block])
        return true;
    auto one = c.own.find(tid);
    if (one != c.own.end() && st < one->second)
        return true;
    auto phase = c.phases.empty() ? c.phases.end() : c.phases.find(block / grid->cluster);
    return phase != c.phases.end() && st < phase->second->at[tid % phase->second->at.size()];
}
static bool known_before(const Known &k, uint32_t tid, uint32_t st)
{
    const ThreadImpl *t = self();
    if (st < k.grid_sync || (tid == t->gid && st < k.own))
        return true;
    uint32_t block = tid / grid->nthreads;
    if (block == blk()->num && (st < k.block_sync || (tid % grid->nthreads / 32 == t->rank / 32 && st < k.warp_sync)))
        return true;
    for (const Clocks *c : k.acquired)
        if (c && told(*c, tid, block, st))
            return true;
    return false;
}
bool ordered(uint32_t tid, uint32_t st)
{
    if (!same_operation(st))
        return operations_ordered(st);
    if (tid == HOST || !grid || st < grid->start)
        return true;
    return known_before(known_to(self(), blk()), tid, st);
}
bool fenced(uint32_t tid, uint32_t st)
{
    const ThreadImpl *t = self();
    return tid == HOST || (tid & ASYNC) || !same_operation(st) || st < grid->start ||
           (t->fence && known_before(*t->fence, tid, st));
}
} // namespace cusim
