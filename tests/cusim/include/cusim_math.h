// cusim_math.h - atomics and the arithmetic that CUDA has built in. Fast-math functions are the exact ones here: bits differ from a GPU's.
#pragma once
#include "cusim_device.h"

// One OS thread runs all: plain inside, told to the checker.
int atomicAdd(int *p, int v);
unsigned atomicAdd(unsigned *p, unsigned v);
unsigned long long atomicAdd(unsigned long long *p, unsigned long long v);
float atomicAdd(float *p, float v);
double atomicAdd(double *p, double v);
int atomicMax(int *p, int v);
unsigned atomicMax(unsigned *p, unsigned v);
unsigned atomicExch(unsigned *p, unsigned v);
int atomicExch(int *p, int v);
unsigned atomicCAS(unsigned *p, unsigned cmp, unsigned v);
int atomicCAS(int *p, int cmp, int v);
namespace cusim
{
unsigned ld_acquire(const unsigned *p);
void st_release(unsigned *p, unsigned v);
uint4 ld_relaxed16(const uint4 *p);
void st_relaxed(unsigned *p, unsigned v);
uint64_t ld_relaxed(const uint64_t *p);
void st_relaxed(uint64_t *p, uint64_t v);
} // namespace cusim

using std::isfinite; // global in CUDA

inline float __expf(float x)
{
    return expf(x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __frcp_rn(float a)
{
    return 1.0f / a;
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fsub_rn(float a, float b)
{
    return a - b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}
inline float rsqrtf(float a)
{
    return 1.0f / sqrtf(a);
}
inline float __saturatef(float a)
{
    return a < 0 ? 0 : a > 1 ? 1 : a;
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
inline int __clz(int v)
{
    return v ? __builtin_clz(static_cast<unsigned>(v)) : 32;
}
inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
inline int __float_as_int(float f)
{
    int u;
    memcpy(&u, &f, 4);
    return u;
}
inline float __int_as_float(int u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
template <class T> T __ldg(const T *p)
{
    return *p;
}
template <class T> T __ldcg(const T *p)
{
    return *p;
}
template <class T> T __ldcs(const T *p)
{
    return *p;
}
template <class T> void __stcg(T *p, T v)
{
    *p = v;
}
template <class T> void __stcs(T *p, T v)
{
    *p = v;
}
template <class T> constexpr T min(T a, T b)
{
    return b < a ? b : a;
}
template <class T> constexpr T max(T a, T b)
{
    return a < b ? b : a;
}
