// check_access.cpp - one access: is it allowed, was the memory written, does it race.
#include "check.h"
#include <cstring>
#include <unistd.h>

namespace cusim
{
static std::vector<std::pair<const char *, const char *>> &internal =
    *new std::vector<std::pair<const char *, const char *>>;

void chk_internal(const void *lo, const void *hi)
{
    internal.emplace_back(static_cast<const char *>(lo), static_cast<const char *>(hi));
}

// Another thread's access, unordered with this one.
static void race(const char *what, const void *pc, uint32_t opc, uint32_t otid, uint32_t ost, const void *addr,
                 const Alloc *a)
{
    if (!first_time(pc ? image_offset(pc) : 0, what))
        return;
    const bool bulk = otid & ASYNC && (otid & TID) != HOST;
    uint32_t t = bulk ? (otid & (ASYNC - 1)) / 8 : otid & TID;
    std::string there = opc ? where(opc) : "?";
    if (!same_operation(ost))
        report(pc, addr, a, "data race: %s by \"%s\" at %s, and no event or wait orders the two streams", what,
               operation_at(ost), there.c_str());
    else
        report(pc, addr, a, "data race: %s by %sblock %u thread %u at %s and no barrier between", what,
               bulk ? "a bulk copy of " : "", t / grid->nthreads, t % grid->nthreads, there.c_str());
}
// What the access at ptr is to the current thread: an allocation to look at, or NULL where it needs no look.
static Alloc *allocation_of(const char *p, size_t n, bool write, const void *pc)
{
    const char *verb = write ? "write" : "read";
    if (!in_arena(p)) {
        Fiber *f = self()->fiber;
        if ((p >= f->lo && p < f->hi) || in_image(p))
            return nullptr;
        for (auto &r : internal)
            if (p >= r.first && p < r.second)
                return nullptr;
        const char *args = static_cast<const char *>(grid->args);
        if (p >= args && p < args + grid->argbytes)
            return nullptr;
        if (first_time(image_offset(pc), "host"))
            report(pc, p, nullptr, "%s of %zu bytes at host memory, a wild pointer or another thread's stack", verb, n);
        if (reinterpret_cast<uintptr_t>(p) < 65536)
            _exit(66);
        return nullptr;
    }
    Alloc *a = find_alloc(p);
    if (!a) {
        report(pc, p, nullptr, "%s of %zu bytes at a wild pointer", verb, n);
        _exit(66);
    }
    if (a->freed) {
        report(pc, p, a, "%s of %zu bytes in freed memory", verb, n);
        _exit(66);
    }
    size_t o = static_cast<size_t>(p - a->base);
    if (o + n > a->size) {
        if (first_time(image_offset(pc), "bounds"))
            report(pc, p, a, "%s of %zu bytes out of bounds", verb, n);
        if (o + n > (a->size + PG - 1) / PG * PG)
            _exit(66); // would fault
        return nullptr;
    }
    if (a->owner >= 0 && a->owner / grid->cluster != blk()->num / grid->cluster &&
        first_time(image_offset(pc), "owner"))
        report(pc, p, a, "access to the shared memory of block %d", a->owner);
    const bool one_load = n <= 16 && (n & (n - 1)) == 0; // others are copies of structures
    if (one_load && reinterpret_cast<uintptr_t>(p) % n && first_time(image_offset(pc), "aligned"))
        report(pc, p, a, "misaligned access of %zu bytes", n);
    return a;
}
static bool conflict(uint32_t tid, uint32_t st, uint32_t me, bool atomic)
{
    if (!st || !(tid & me & BYTES) || (atomic && (tid & ATOMIC)))
        return false;
    if ((tid & TID) == (me & TID) && !(me & ASYNC) && same_operation(st))
        return false;
    return !ordered(tid & TID, st);
}
// Looks at one shadow cell and notes the access in it. To copy what nobody wrote is no mistake yet.
static void look(Shadow *s, uint32_t tag, uint32_t st, bool write, const void *pc, const char *p, const Alloc *a,
                 bool copies = false)
{
    const bool atomic = tag & ATOMIC;
    const uint32_t mypc = pc ? static_cast<uint32_t>(image_offset(pc)) : 0;
    if (conflict(s->w_tid, s->w_st, tag, atomic))
        race(write ? "write after write" : "read after write", pc, s->w_pc, s->w_tid, s->w_st, p, a);
    if (write) {
        if (conflict(s->r_tid, s->r_st, tag, atomic) && !heard(s->r_tid & TID, s->r_st))
            race("write after read", pc, s->r_pc, s->r_tid, s->r_st, p, a);
        else if (conflict(s->q_tid, s->q_st, tag, atomic) && !heard(s->q_tid & TID, s->q_st))
            race("write after read", pc, 0, s->q_tid, s->q_st, p, a);
        s->w_tid = tag;
        s->w_st = st;
        s->w_pc = mypc;
    } else {
        if (!s->w_st && !copies) {
            const char *name = operation_at(operation_start);
            if (first_time(mypc, pc ? "unwritten" : name))
                report(pc, p, a, "read of bytes that nobody wrote, by \"%s\"", name);
            s->w_st = 1;
            s->w_tid = HOST | BYTES;
        }
        if (s->r_st && ((s->r_tid & TID) != (tag & TID) || !same_operation(s->r_st))) {
            s->q_tid = s->r_tid;
            s->q_st = s->r_st;
        }
        s->r_tid = tag;
        s->r_st = st;
        s->r_pc = mypc;
    }
}
void chk_access(const void *ptr, size_t n, bool write, bool atomic, const void *pc)
{
    if (!cur)
        return;
    const char *p = static_cast<const char *>(ptr);
    Alloc *a = allocation_of(p, n, write, pc);
    if (!a)
        return;
    size_t o = static_cast<size_t>(p - a->base);
    uint32_t bytes = n == 1 ? 1u << (30 + (o & 1)) : BYTES;
    for (Shadow *s = a->sh + o / 2, *e = a->sh + (o + n - 1) / 2; s <= e; s++)
        look(s, self()->gid | bytes | (atomic ? ATOMIC : 0), sync_clock, write, pc, p, a);
    if (settings().preempt && rnd() % settings().preempt == 0)
        yield();
}
// The reading and the writing of a bulk copy, as seen when it starts: who was to come before, did; who comes later waits for its barrier.
void chk_bulk(void *to, const void *from, size_t n, unsigned rank, const void *pc)
{
    const uint32_t tag = (ASYNC + self()->gid * 8 + rank) | BYTES, st = ++sync_clock;
    for (const char *p : {static_cast<const char *>(from), static_cast<const char *>(to)}) {
        Alloc *a = allocation_of(p, n, p == to, pc);
        if (!a)
            continue;
        size_t o = static_cast<size_t>(p - a->base);
        for (Shadow *s = a->sh + o / 2, *e = a->sh + (o + n - 1) / 2; s <= e; s++) {
            look(s, tag, st, p == to, pc, p, a);
            if (p == from && s->w_st && !fenced(s->w_tid & TID, s->w_st) && first_time(image_offset(pc), "fence"))
                report(pc, p, a,
                       "a bulk copy reads what block %u thread %u wrote, and no fence.proxy.async came between",
                       (s->w_tid & TID) / grid->nthreads, (s->w_tid & TID) % grid->nthreads);
        }
    }
    ++sync_clock;
}
void chk_bulk_came(Clocks &to, uint32_t gid, unsigned rank)
{
    to.own[ASYNC + gid * 8 + rank] = ++sync_clock;
}
static void whole_range(const void *p, size_t n, bool write, bool copies)
{
    Alloc *a = n && in_arena(p) ? find_alloc(p) : nullptr;
    if (!a)
        return;
    size_t o = static_cast<size_t>(static_cast<const char *>(p) - a->base);
    if (a->freed || o + n > a->size)
        fail("a copy, fill or library call at offset %zu of %zu bytes, %zu of them%s", o, a->size, n,
             a->freed ? ", freed" : "");
    // A byte at either end that is not meant shares its cell with one that is.
    for (size_t i = o / 2; i <= (o + n - 1) / 2; i++) {
        uint32_t bytes = (2 * i >= o ? 1u << 30 : 0) | (2 * i + 1 < o + n ? 1u << 31 : 0);
        look(a->sh + i, HOST | bytes, sync_clock, write, nullptr, a->base + 2 * i, a, copies);
    }
}
void chk_host(const void *p, size_t n, bool write)
{
    whole_range(p, n, write, true);
}
void chk_library(const void *p, size_t n, bool write)
{
    whole_range(p, n, write, false);
}
} // namespace cusim
