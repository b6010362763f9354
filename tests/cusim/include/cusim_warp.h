// cusim_warp.h - warp functions: the lanes of a mask meet, the last one to come works for all.
#pragma once
#include "cusim_device.h"

namespace cusim
{
#define CUSIM_INTERNAL __attribute__((no_sanitize("thread"))) // reads and writes other threads' slots: not checked
template <class T> struct ShflSlot {
    T in, out;
    int src;
};
template <class T> CUSIM_INTERNAL void shfl_exec(void **s, unsigned mask)
{
    for (int l = 0; l < 32; l++) {
        auto *me = static_cast<ShflSlot<T> *>(s[l]);
        if (!me)
            continue;
        auto *from = (mask >> me->src & 1) ? static_cast<ShflSlot<T> *>(s[me->src]) : nullptr;
        if (!from)
            fail("shuffle: lane %d reads lane %d, which takes no part (mask %08x)", l, me->src, mask);
        me->out = from->in;
    }
}
template <class T> T shfl(const char *op, unsigned mask, T v, int src, const char *file, int line)
{
    static_assert(std::is_trivially_copyable<T>::value && (sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2), "");
    ShflSlot<T> s{v, v, src};
    warp_meet(mask, op, sizeof(T), &s, shfl_exec<T>, false, file, line);
    return s.out;
}
struct VoteSlot {
    int pred;
    unsigned out;
};
CUSIM_INTERNAL inline void vote_exec(void **s, unsigned)
{
    unsigned b = 0;
    for (int l = 0; l < 32; l++)
        if (s[l] && static_cast<VoteSlot *>(s[l])->pred)
            b |= 1u << l;
    for (int l = 0; l < 32; l++)
        if (s[l])
            static_cast<VoteSlot *>(s[l])->out = b;
}
struct RedSlot {
    long long v, out;
    int op;
};
CUSIM_INTERNAL inline void red_exec(void **s, unsigned)
{
    long long acc = 0;
    bool first = true;
    for (int l = 0; l < 32; l++)
        if (s[l]) {
            auto *r = static_cast<RedSlot *>(s[l]);
            acc = first        ? r->v
                  : r->op == 0 ? acc + r->v
                  : r->op == 1 ? (r->v < acc ? r->v : acc)
                               : (r->v > acc ? r->v : acc);
            first = false;
        }
    for (int l = 0; l < 32; l++)
        if (s[l])
            static_cast<RedSlot *>(s[l])->out = acc;
}
} // namespace cusim
template <class T> T __shfl_sync(unsigned m, T v, int src, int w = 32, CUSIM_SITE)
{
    int l = cusim::cur->lane;
    return cusim::shfl("__shfl_sync", m, v, (l & ~(w - 1)) | (src & (w - 1)), file, line);
}
template <class T> T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, CUSIM_SITE)
{
    int l = cusim::cur->lane, s = l ^ x;
    return cusim::shfl("__shfl_xor_sync", m, v, s > (l | (w - 1)) ? l : s, file, line);
}
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, CUSIM_SITE)
{
    int l = cusim::cur->lane, s = l + static_cast<int>(d);
    return cusim::shfl("__shfl_down_sync", m, v, s > (l | (w - 1)) ? l : s, file, line);
}
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, CUSIM_SITE)
{
    int l = cusim::cur->lane, s = l - static_cast<int>(d);
    return cusim::shfl("__shfl_up_sync", m, v, s < (l & ~(w - 1)) ? l : s, file, line);
}
inline void __syncwarp(unsigned m = 0xffffffffu, CUSIM_SITE)
{
    int dummy = 0;
    cusim::warp_meet(m, "__syncwarp", 0, &dummy, nullptr, true, file, line);
}
inline unsigned __ballot_sync(unsigned m, int p, CUSIM_SITE)
{
    cusim::VoteSlot s{p, 0};
    cusim::warp_meet(m, "__ballot_sync", 0, &s, cusim::vote_exec, false, file, line);
    return s.out;
}
inline int __any_sync(unsigned m, int p, CUSIM_SITE)
{
    return __ballot_sync(m, p, file, line) != 0;
}
inline int __all_sync(unsigned m, int p, CUSIM_SITE)
{
    return __ballot_sync(m, !p, file, line) == 0;
}
inline int __reduce_add_sync(unsigned m, int v, CUSIM_SITE)
{
    cusim::RedSlot s{v, 0, 0};
    cusim::warp_meet(m, "__reduce_add_sync", 0, &s, cusim::red_exec, false, file, line);
    return static_cast<int>(s.out);
}
