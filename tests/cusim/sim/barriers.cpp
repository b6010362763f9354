// barriers.cpp - where threads of a block, of a grid and of a warp meet.
#include "internal.h"
#include <cstring>

namespace cusim
{
void block_release(BlockImpl *b)
{
    int r = b->op == B_COUNT ? b->acc : b->op == B_AND ? b->acc == static_cast<int>(b->arrived) : b->acc != 0;
    chk_block_barrier(b);
    b->last_sync = ++sync_clock;
    for (Warp &w : b->warps)
        w.last_sync = sync_clock;
    b->arrived = 0;
    for (unsigned i = 0; i < grid->nthreads; i++) {
        ThreadImpl &t = b->th[i];
        if (t.state == S_BLOCK) {
            t.result = r;
            if (&t != cur)
                wake(&t);
            else
                t.state = S_READY;
        }
    }
}
int block_sync(BlockOp op, int pred, const char *file, int line)
{
    BlockImpl *b = blk();
    ThreadImpl *t = self();
    if (b->arrived == 0) {
        b->acc = 0;
        b->op = op;
        b->bfile = file;
        b->bline = line;
    } else if (settings().strict && (b->op != op || b->bline != line || strcmp(b->bfile, file)))
        fail("threads of one block meet at different barriers: %s:%d and %s:%d", b->bfile, b->bline, file, line);
    b->acc += pred != 0;
    t->state = S_BLOCK;
    if (++b->arrived == b->alive) {
        if (settings().strict && b->alive != grid->nthreads)
            fail("__syncthreads at %s:%d after some threads had left the kernel", file, line);
        block_release(b);
        if (settings().policy == RANDOM) {
            push(t);
            wait();
        } // the last one need not go on first
    } else
        wait(S_BLOCK, "__syncthreads", file, line);
    return t->result;
}
void named_sync(int id, int n, bool blocking, const char *file, int line)
{
    BlockImpl *b = blk();
    NamedBar &nb = b->named[id];
    if (nb.arrived == 0)
        nb.need = n;
    else if (nb.need != n)
        fail("named barrier %d used with %d and %d threads", id, nb.need, n);
    if (++nb.arrived == n) {
        b->last_sync = ++sync_clock; // checker: taken as a full block barrier
        nb.arrived = 0;
        for (ThreadImpl *t : nb.wait)
            wake(t);
        nb.wait.clear();
    } else if (blocking) {
        nb.wait.push_back(self());
        wait(S_NAMED, "bar.sync", file, line);
    }
}
void grid_sync(const char *file, int line)
{
    GridImpl *g = grid;
    if (!g->coop)
        fail("grid.sync at %s:%d in a kernel that was not launched cooperatively", file, line);
    if (++g->grid_arrived == g->nblocks * g->nthreads) {
        g->grid_arrived = 0;
        g->last_sync = ++sync_clock;
        for (BlockImpl *b : g->blocks) {
            b->last_sync = sync_clock;
            for (Warp &w : b->warps)
                w.last_sync = sync_clock;
        }
        std::vector<ThreadImpl *> l;
        l.swap(g->grid_wait);
        for (ThreadImpl *t : l)
            wake(t);
        if (settings().policy == RANDOM) {
            push(self());
            wait();
        }
    } else {
        g->grid_wait.push_back(self());
        wait(S_GRID, "grid.sync", file, line);
    }
}
static bool warp_fire(BlockImpl *b, Warp &w, WarpMeet &m)
{
    if (m.arrived != (m.mask & ~w.exited))
        return false;
    if (m.fn)
        m.fn(m.slot, m.mask);
    if (m.mem) {
        chk_warp_barrier(b, w, m.arrived);
        w.last_sync = ++sync_clock;
    }
    unsigned a = m.arrived;
    for (int l = 0; l < 32; l++)
        if (a >> l & 1) {
            ThreadImpl &t = b->th[w.base + static_cast<unsigned>(l)];
            if (&t != cur)
                wake(&t);
        }
    return true;
}
void warp_check(BlockImpl *b, Warp &w)
{
    for (size_t i = 0; i < w.meets.size();)
        if (warp_fire(b, w, w.meets[i])) {
            w.meets[i] = w.meets.back();
            w.meets.pop_back();
        } else
            i++;
}
void warp_meet(unsigned mask, const char *op, unsigned size, void *slot, WarpFn fn, bool mem, const char *file,
               int line)
{
    ThreadImpl *t = self();
    Warp &w = *t->warp;
    BlockImpl *b = blk();
    unsigned bit = 1u << t->lane;
    if (!(mask & bit))
        fail("%s at %s:%d: lane %u is not in its own mask %08x", op, file, line, t->lane, mask);
    for (size_t i = 0; i < w.meets.size(); i++) {
        WarpMeet &m = w.meets[i];
        if (m.mask != mask) {
            if (m.mask & bit)
                fail("%s at %s:%d with mask %08x while other lanes wait at %s (%s:%d) with mask %08x", op, file, line,
                     mask, m.op, m.file, m.line, m.mask);
            continue;
        }
        if (m.op != op && strcmp(m.op, op))
            fail("%s at %s:%d while other lanes of the mask are at %s (%s:%d)", op, file, line, m.op, m.file, m.line);
        if (m.size != size || (settings().strict && m.line != line))
            fail("%s at %s:%d while other lanes of the mask are at line %d", op, file, line, m.line);
        m.arrived |= bit;
        m.slot[t->lane] = slot;
        if (m.arrived == (mask & ~w.exited)) {
            warp_fire(b, w, m);
            w.meets[i] = w.meets.back();
            w.meets.pop_back();
        } else
            wait(S_WARP, op, file, line);
        return;
    }
    if (bit == (mask & ~w.exited)) { // alone
        void *s[32] = {};
        s[t->lane] = slot;
        if (fn)
            fn(s, mask);
        return;
    }
    w.meets.emplace_back();
    WarpMeet &m = w.meets.back();
    m = WarpMeet{mask, bit, size, op, file, line, fn, mem, {}};
    m.slot[t->lane] = slot;
    wait(S_WARP, op, file, line);
}
unsigned activemask()
{
    return ~self()->warp->exited;
}
} // namespace cusim
