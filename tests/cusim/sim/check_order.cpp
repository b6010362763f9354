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
static void join_clocks(Clocks &to, const Clocks &from)
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
}
void chk_acquire(const void *p)
{
    auto it = sync_vars.find(p);
    if (!cur || it == sync_vars.end())
        return;
    ThreadImpl *t = self();
    if (!t->acq)
        t->acq = new Clocks;
    join_clocks(*t->acq, it->second);
}
void chk_release(const void *p)
{
    if (!cur)
        return;
    ThreadImpl *t = self();
    BlockImpl *b = blk();
    Clocks &c = sync_vars[p];
    join_clocks(c, b->acq);
    if (t->acq)
        join_clocks(c, *t->acq);
    if (c.vc.size() < grid->nblocks)
        c.vc.resize(grid->nblocks);
    if (b->last_sync > c.vc[b->num])
        c.vc[b->num] = b->last_sync; // what the whole block did before its last barrier
    c.own[t->gid] = ++sync_clock;    // and what this thread did since
}
void chk_block_barrier(BlockImpl *b)
{
    for (unsigned i = 0; i < grid->nthreads; i++)
        if (b->th[i].acq) {
            join_clocks(b->acq, *b->th[i].acq);
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
            join_clocks(all, *b->th[w.base + l].acq);
    if (all.vc.empty() && all.own.empty())
        return;
    for (unsigned l = 0; l < 32; l++)
        if (lanes >> l & 1) {
            ThreadImpl &t = b->th[w.base + l];
            if (!t.acq)
                t.acq = new Clocks;
            *t.acq = all;
        }
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
bool ordered(uint32_t tid, uint32_t st)
{
    if (!same_operation(st))
        return operations_ordered(st);
    if (tid == HOST || !grid || st < grid->start)
        return true;
    ThreadImpl *t = self();
    BlockImpl *b = blk();
    if (tid == t->gid || st < grid->last_sync)
        return true;
    uint32_t ob = tid / grid->nthreads;
    if (ob == b->num) {
        if (st < b->last_sync)
            return true;
        if (tid % grid->nthreads / 32 == t->rank / 32 && st < t->warp->last_sync)
            return true;
    }
    for (const Clocks *c : {static_cast<const Clocks *>(t->acq), static_cast<const Clocks *>(&b->acq)}) {
        if (!c)
            continue;
        if (ob < c->vc.size() && st < c->vc[ob])
            return true;
        auto it = c->own.find(tid);
        if (it != c->own.end() && st < it->second)
            return true;
    }
    return false;
}
} // namespace cusim
