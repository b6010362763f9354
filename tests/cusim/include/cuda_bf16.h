// cuda_bf16.h - bfloat16 as the kernels use it: rounded to nearest even, NaN becomes 0x7fff as on the GPU.
#pragma once
#include "cusim_math.h"

struct alignas(2) __nv_bfloat16 {
    unsigned short b;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
inline __nv_bfloat16 __float2bfloat16(float f)
{
    unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return {0x7fff};
    return {static_cast<unsigned short>((u + 0x7fffu + (u >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    return __float2bfloat16(f);
}
inline float __bfloat162float(__nv_bfloat16 h)
{
    return __uint_as_float(static_cast<unsigned>(h.b) << 16);
}
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return {__float2bfloat16(a), __float2bfloat16(b)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h)
{
    return h.b;
}
