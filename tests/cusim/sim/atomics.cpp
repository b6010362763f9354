// atomics.cpp - atomics: plain operations, as one OS thread runs all, told to the checker.
#include "internal.h"

using namespace cusim;
namespace
{ // atomics
template <class T, class F> T rmw(T *p, F f, const void *pc)
{
    chk_access(p, sizeof(T), true, true, pc);
    if (std::is_integral<T>::value)
        chk_acquire(p);
    T old = *p;
    *p = f(old);
    something_happened();
    if (std::is_integral<T>::value)
        chk_release(p);
    if (std::is_integral<T>::value && cur && (rnd() & 3) == 0)
        yield();
    return old;
}
} // namespace
#define PC __builtin_return_address(0)
int atomicAdd(int *p, int v)
{
    return rmw(
        p, [=](int o) { return static_cast<int>(static_cast<unsigned>(o) + static_cast<unsigned>(v)); }, PC);
}
unsigned atomicAdd(unsigned *p, unsigned v)
{
    return rmw(
        p, [=](unsigned o) { return o + v; }, PC);
}
unsigned long long atomicAdd(unsigned long long *p, unsigned long long v)
{
    return rmw(
        p, [=](unsigned long long o) { return o + v; }, PC);
}
float atomicAdd(float *p, float v)
{
    return rmw(
        p, [=](float o) { return o + v; }, PC);
}
double atomicAdd(double *p, double v)
{
    return rmw(
        p, [=](double o) { return o + v; }, PC);
}
int atomicMax(int *p, int v)
{
    return rmw(
        p, [=](int o) { return o > v ? o : v; }, PC);
}
unsigned atomicMax(unsigned *p, unsigned v)
{
    return rmw(
        p, [=](unsigned o) { return o > v ? o : v; }, PC);
}
unsigned atomicExch(unsigned *p, unsigned v)
{
    return rmw(
        p, [=](unsigned) { return v; }, PC);
}
int atomicExch(int *p, int v)
{
    return rmw(
        p, [=](int) { return v; }, PC);
}
unsigned atomicCAS(unsigned *p, unsigned c, unsigned v)
{
    return rmw(
        p, [=](unsigned o) { return o == c ? v : o; }, PC);
}
int atomicCAS(int *p, int c, int v)
{
    return rmw(
        p, [=](int o) { return o == c ? v : o; }, PC);
}
namespace cusim
{
unsigned ld_acquire(const unsigned *p)
{
    yield(); // a spin loop lets the others run
    chk_access(p, 4, false, true, PC);
    chk_acquire(p);
    return *p;
}
void st_release(unsigned *p, unsigned v)
{
    chk_access(p, 4, true, true, PC);
    chk_release(p);
    *p = v;
    something_happened();
}
// Word by word, with others in between; no order comes of it.
uint4 ld_relaxed16(const uint4 *p)
{
    const unsigned *words = reinterpret_cast<const unsigned *>(p);
    unsigned v[4];
    yield();
    for (int i = 0; i < 4; i++) {
        chk_access(words + i, 4, false, true, PC);
        v[i] = words[i];
        chk_hear(words + i);
        if ((rnd() & 15) == 0)
            yield();
    }
    return {v[0], v[1], v[2], v[3]};
}
uint64_t ld_relaxed(const uint64_t *p)
{
    yield();
    chk_access(p, 8, false, true, PC);
    chk_hear(p);
    return *p;
}
// Now and then a store is long under way, so that what relies on its coming at once is found out.
template <class T> static void store_relaxed(T *p, T v, const void *pc)
{
    for (int i = (rnd() & 127) == 0 ? 300 : 0; i > 0; i--)
        yield();
    chk_say();
    chk_access(p, sizeof *p, true, true, pc);
    *p = v;
    something_happened();
    if ((rnd() & 3) == 0)
        yield();
}
void st_relaxed(unsigned *p, unsigned v)
{
    store_relaxed(p, v, PC);
}
void st_relaxed(uint64_t *p, uint64_t v)
{
    store_relaxed(p, v, PC);
}
} // namespace cusim
