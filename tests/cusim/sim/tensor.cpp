// tensor.cpp - shared memory, cp.async and the arithmetic of tensor cores.
#include "internal.h"
#include "mma.h"
#include <cstring>

namespace cusim
{
// ---------------------------------------------------------------- shared memory and cp.async
static void *shared_of(BlockImpl *b, const void *tag, size_t size, size_t align, const char *name)
{
    for (auto &s : b->shared)
        if (s.tag == tag)
            return s.p;
    void *p = dev_alloc(size, align < 16 ? 16 : align, name, static_cast<int>(b->num));
    b->shared.push_back({tag, p, size, align, name});
    size_t all = 0;
    for (auto &s : b->shared)
        all += s.size;
    block_has(grid->fn, all);
    return p;
}
void *shared_static(const void *tag, size_t size, size_t align, const char *name)
{
    return shared_of(blk(), tag, size, align, name);
}
void *place_in(BlockImpl *peer, const void *p, size_t n)
{
    const char *at = static_cast<const char *>(p);
    BlockImpl *b = blk();
    const char *dyn = static_cast<char *>(b->dyn);
    if (dyn && at >= dyn && at + n <= dyn + grid->smem)
        return static_cast<char *>(peer->dyn) + (at - dyn);
    for (size_t i = 0; i < b->shared.size(); i++) {
        const SharedVar s = b->shared[i];
        const char *base = static_cast<char *>(s.p);
        if (at >= base && at + n <= base + s.size)
            return static_cast<char *>(shared_of(peer, s.tag, s.size, s.align, s.name)) + (at - base);
    }
    fail("%zu bytes at %p are not, or not all, in the block's own shared memory", n, p);
}
void *shared_dynamic(size_t)
{
    if (!blk()->dyn)
        fail("the kernel uses dynamic shared memory but was launched with 0 bytes of it");
    return blk()->dyn;
}
static std::vector<std::vector<CpAsync>> &cpq()
{
    ThreadImpl *t = self();
    if (!t->cp)
        t->cp = new std::vector<std::vector<CpAsync>>;
    if (t->cp->empty())
        t->cp->emplace_back();
    return *t->cp;
}
void cp_async(void *dst, const void *src, size_t n, size_t src_n)
{
    if ((n != 4 && n != 8 && n != 16) || reinterpret_cast<uintptr_t>(dst) % n || reinterpret_cast<uintptr_t>(src) % n)
        fail("cp.async of %zu bytes from %p to %p: size or alignment", n, src, dst);
    cpq().back().push_back({dst, src, n, src_n});
}
void cp_async_commit()
{
    cpq().emplace_back();
}
void cp_async_wait(int pending)
{ // the copies happen only now: code that forgot to wait reads old bytes
    auto &q = cpq();
    size_t keep = static_cast<size_t>(pending) + 1, run = q.size() > keep ? q.size() - keep : 0;
    for (size_t i = 0; i < run; i++)
        for (auto &c : q[i]) {
            if (c.src_n)
                chk_access(c.src, c.src_n, false, false, __builtin_return_address(0));
            chk_access(c.dst, c.n, true, false, __builtin_return_address(0));
            memcpy(c.dst, c.src, c.src_n);
            memset(static_cast<char *>(c.dst) + c.src_n, 0, c.n - c.src_n);
        }
    q.erase(q.begin(), q.begin() + static_cast<long>(run));
}

// ---------------------------------------------------------------- tensor cores
void wmma_exec(void **slots, unsigned)
{
    float A[16][16], B[16][16], D[16][16];
    for (unsigned l = 0; l < 32; l++) {
        auto *s = static_cast<WmmaSlot *>(slots[l]);
        if (!s)
            fail("wmma: lane %u has left the kernel", l);
        for (unsigned e = 0; e < 8; e++) {
            unsigned i = e * 32 + l;
            A[i / 16][i % 16] = __bfloat162float(s->a[e]);
            B[i / 16][i % 16] = __bfloat162float(s->b[e]);
            D[i / 16][i % 16] = s->c[e];
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 16; j++)
                D[i][j] += A[i][k] * B[k][j];
    for (unsigned l = 0; l < 32; l++)
        for (unsigned e = 0; e < 8; e++)
            static_cast<WmmaSlot *>(slots[l])->d[e] = D[(e * 32 + l) / 16][(e * 32 + l) % 16];
}
static float bf(uint32_t v, unsigned half)
{
    return __uint_as_float(half ? v & 0xffff0000u : v << 16);
}
static float hf(uint32_t v, unsigned half)
{
    return __half2float({static_cast<unsigned short>(half ? v >> 16 : v)});
}
template <float (*value)(uint32_t, unsigned)> static void mma16816(void **slots)
{
    float A[16][16], B[16][8], D[16][8];
    for (unsigned l = 0; l < 32; l++) {
        auto *s = static_cast<MmaSlot *>(slots[l]);
        if (!s)
            fail("mma.sync: lane %u has left the kernel", l);
        unsigned g = l / 4, t = l % 4;
        for (unsigned h = 0; h < 2; h++) {
            for (unsigned r = 0; r < 4; r++)
                A[g + 8 * (r & 1)][2 * t + h + 8 * (r >> 1)] = value(s->a[r], h);
            for (unsigned r = 0; r < 2; r++)
                B[2 * t + h + 8 * r][g] = value(s->b[r], h);
            for (unsigned r = 0; r < 2; r++)
                D[g + 8 * r][2 * t + h] = s->c[2 * r + h];
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                D[i][j] += A[i][k] * B[k][j];
    for (unsigned l = 0; l < 32; l++)
        for (unsigned r = 0; r < 4; r++)
            static_cast<MmaSlot *>(slots[l])->d[r] = D[l / 4 + 8 * (r >> 1)][2 * (l % 4) + (r & 1)];
}
void mma16816_exec(void **slots, unsigned)
{
    mma16816<bf>(slots);
}
void mma16816_f16_exec(void **slots, unsigned)
{
    mma16816<hf>(slots);
}
void ldmatrix_exec(void **slots, unsigned)
{
    for (unsigned l = 0; l < 32; l++) {
        auto *s = static_cast<LdmSlot *>(slots[l]);
        for (int m = 0; m < s->n; m++) {
            uint16_t v[2];
            for (unsigned h = 0; h < 2; h++) {
                unsigned row = s->trans ? 2 * (l % 4) + h : l / 4, col = s->trans ? l / 4 : 2 * (l % 4) + h;
                auto *src = static_cast<LdmSlot *>(slots[8 * static_cast<unsigned>(m) + row]);
                memcpy(&v[h], static_cast<const char *>(src->row) + 2 * col, 2);
            }
            s->out[m] = v[0] | static_cast<uint32_t>(v[1]) << 16;
        }
    }
}
void read_check(const void *p, size_t n)
{
    chk_access(p, n, false, false, __builtin_return_address(0));
}
} // namespace cusim
