// cuda_fp16.h - half precision as the kernels use it: rounded to nearest even, NaN becomes 0x7fff as on the GPU.
#pragma once
#include "cusim_math.h"

struct alignas(2) __half {
    unsigned short b;
};
struct alignas(4) __half2 {
    __half x, y;
};
inline __half __float2half_rn(float f)
{
    const unsigned u = __float_as_uint(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return {0x7fff};
    if (a >= 0x477ff000u) // 65520 and more round to infinity
        return {static_cast<unsigned short>(sign | 0x7c00u)};
    if (a < 0x38800000u) { // below 2^-14: a multiple of 2^-24, which the float's own rounding finds
        const float sum = __uint_as_float(a) + 0.5f; // units of 2^-24 are the last bits of floats in [0.5, 1)
        return {static_cast<unsigned short>(sign | (__float_as_uint(sum) - __float_as_uint(0.5f)))};
    }
    return {static_cast<unsigned short>(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13))};
}
inline __half __float2half(float f)
{
    return __float2half_rn(f);
}
inline float __half2float(__half h)
{
    const unsigned sign = (h.b & 0x8000u) << 16, e = h.b >> 10 & 31u, m = h.b & 0x3ffu;
    if (e == 31)
        return __uint_as_float(sign | 0x7f800000u | m << 13);
    if (e == 0) {
        const float f = static_cast<float>(m) * 5.9604644775390625e-8f; // 2^-24
        return sign ? -f : f;
    }
    return __uint_as_float(sign | (e + 112) << 23 | m << 13);
}
inline __half2 __floats2half2_rn(float a, float b)
{
    return {__float2half_rn(a), __float2half_rn(b)};
}
inline unsigned short __half_as_ushort(__half h)
{
    return h.b;
}
