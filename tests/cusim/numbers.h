/* numbers.h - number formats for tests, written without those of the simulator; and draws. */
#ifndef CUSIM_TESTS_NUMBERS_H
#define CUSIM_TESTS_NUMBERS_H

#include "support/cmocka.h"

#include <cuda_runtime_api.h>
#include <library_types.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* x with so many bits in all, the first included; none of them below 2^smallest */
static inline double with_bits(double x, int bits, int smallest)
{
    int e;
    (void)frexp(x, &e);
    int last = e - bits > smallest ? e - bits : smallest; /* power of the last bit */
    return x == 0 ? x : ldexp(nearbyint(ldexp(x, -last)), last);
}
static inline double as(double x, cudaDataType type)
{
    return type == CUDA_R_16F ? with_bits(x, 11, -24) : type == CUDA_R_16BF ? with_bits(x, 8, -133) : (float)x;
}
static inline size_t size_of(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : 2;
}
/* Normal numbers and zero only, which is all that the tests draw. */
static inline void put(void *p, cudaDataType type, size_t i, double x)
{
    float f = (float)as(x, type);
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (type == CUDA_R_32F)
        ((float *)p)[i] = f;
    else if (type == CUDA_R_16BF)
        ((uint16_t *)p)[i] = (uint16_t)(u >> 16);
    else
        ((uint16_t *)p)[i] =
            (uint16_t)(f == 0 ? 0 : (u >> 16 & 0x8000) | (((u >> 23 & 255) - 112) << 10) | (u >> 13 & 1023));
}
static inline double get(const void *p, cudaDataType type, size_t i)
{
    uint16_t h = ((const uint16_t *)p)[type == CUDA_R_32F ? 0 : i];
    if (type == CUDA_R_32F)
        return (double)((const float *)p)[i];
    if (type == CUDA_R_16BF) {
        uint32_t u = (uint32_t)h << 16;
        float f;
        memcpy(&f, &u, sizeof f);
        return (double)f;
    }
    int e = h >> 10 & 31;
    double m = ldexp((h & 1023) + (e ? 1024 : 0), (e ? e : 1) - 25);
    return h >> 15 ? -m : m;
}

static inline unsigned draw(unsigned below)
{
    static unsigned drawn = 1;
    drawn = drawn * 1664525 + 1013904223;
    return (drawn >> 8) % below;
}
static inline void cuda(cudaError_t e)
{
    assert_string_equal(cudaGetErrorName(e), "cudaSuccess");
}

#endif
