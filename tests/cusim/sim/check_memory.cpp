// check_memory.cpp - device memory of the checker: one arena, a page that nobody may touch behind each allocation, a shadow beside it.
#include "check.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace cusim
{
char *arena;
uint32_t *page_of;
std::vector<Alloc> &allocs = *new std::vector<Alloc>;
static size_t arena_used = PG;

static void setup()
{
    if (arena)
        return;
    arena = static_cast<char *>(mmap(nullptr, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    page_of = static_cast<uint32_t *>(
        mmap(nullptr, ARENA / PG * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (arena == MAP_FAILED || page_of == MAP_FAILED) {
        perror("cusim: mmap");
        abort();
    }
}
static std::multimap<size_t, uint32_t> &reuse = *new std::multimap<size_t, uint32_t>; // shared memory regions, by pages
void *dev_alloc(size_t n, size_t, const char *what, int owner)
{
    setup();
    size_t pages = (n + PG - 1) / PG + 1; // one unmapped page behind each allocation
    uint32_t no;
    auto it = owner >= 0 ? reuse.find(pages) : reuse.end();
    if (it != reuse.end()) {
        no = it->second;
        reuse.erase(it);
        Alloc &a = allocs[no];
        memset(static_cast<void *>(a.sh), 0, (a.size + 1) / 2 * sizeof(Shadow));
        a.size = n;
        a.what = what;
        a.owner = owner;
        a.freed = false;
    } else {
        if (arena_used + pages * PG > ARENA)
            return nullptr;
        char *p = arena + arena_used;
        mprotect(p, (pages - 1) * PG, PROT_READ | PROT_WRITE);
        size_t shn = (pages - 1) * PG / 2 * sizeof(Shadow);
        auto *sh = static_cast<Shadow *>(
            mmap(nullptr, shn, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        no = static_cast<uint32_t>(allocs.size());
        allocs.push_back({p, n, sh, what, owner, false});
        for (size_t i = 0; i < pages; i++)
            page_of[arena_used / PG + i] = no + 1;
        arena_used += pages * PG;
    }
    memset(allocs[no].base, 0xff, n);
    return allocs[no].base;
}
void dev_free(void *p)
{
    Alloc *a = find_alloc(p);
    if (!a || a->base != p || a->freed)
        fail("cudaFree(%p): no such allocation, or freed before", p);
    a->freed = true;
    size_t pages = (a->size + PG - 1) / PG + 1;
    if (a->owner >= 0)
        reuse.emplace(pages, static_cast<uint32_t>(a - allocs.data()));
    else { // device memory is never reused: later accesses are found
        madvise(a->base, (pages - 1) * PG, MADV_DONTNEED);
        munmap(a->sh, (pages - 1) * PG / 2 * sizeof(Shadow));
        a->sh = nullptr;
    }
}
} // namespace cusim
