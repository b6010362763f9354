// formats.cuh - the formats of crnn_number_format in kernels: x stands as x * 2^doublings in PARTS numbers of 16 bits, or as it is in one of 32.
#ifndef CRNN_KERNELS_CUDA_FORMATS_CUH
#define CRNN_KERNELS_CUDA_FORMATS_CUH

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"

namespace format
{
struct Float {
    using Item = float;
    static constexpr int PARTS = 1;
    static __device__ __forceinline__ float read(const float *at, int64_t /* low */)
    {
        return *at;
    }
};

// words: two neighbours side by side, the first in the low half; one word for each part. write: one number, its low part `low` items behind.
// seen: what becomes of a number that is kept; beyond the range it is none, since sigmoid and tanh would hide that it is infinite.
struct Bf16 {
    using Item = uint16_t;
    static constexpr int PARTS = 1;
    static __device__ __forceinline__ void words(uint32_t w[1], float a, float b)
    {
        w[0] = __bfloat16_as_ushort(__float2bfloat16_rn(a)) |
               static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(b))) << 16;
    }
    static __device__ __forceinline__ float seen(float x)
    {
        return x;
    }
    static __device__ __forceinline__ void write(uint16_t *at, int64_t /* low */, float x)
    {
        *at = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    }
    static __device__ __forceinline__ float read(const uint16_t *at, int64_t /* low */)
    {
        return __uint_as_float(static_cast<uint32_t>(*at) << 16);
    }
};

struct Fp16 {
    using Item = uint16_t;
    static constexpr int PARTS = 1;
    static __device__ __forceinline__ uint32_t pair(__half a, __half b)
    {
        return __half_as_ushort(a) | static_cast<uint32_t>(__half_as_ushort(b)) << 16;
    }
    static __device__ __forceinline__ void words(uint32_t w[1], float a, float b)
    {
        w[0] = pair(__float2half_rn(a), __float2half_rn(b));
    }
    static __device__ __forceinline__ float seen(float x)
    {
        return fabsf(x) < 65520.0f ? x : __uint_as_float(0x7fffffffu);
    }
    static __device__ __forceinline__ void write(uint16_t *at, int64_t /* low */, float x)
    {
        *at = __half_as_ushort(__float2half_rn(seen(x)));
    }
    static __device__ __forceinline__ float read(const uint16_t *at, int64_t /* low */)
    {
        return __half2float(*reinterpret_cast<const __half *>(at));
    }
};

// x = high + low (Ootomo and Yokota, arXiv 2203.03341); low times low is below what float32 shows.
struct Split : Fp16 {
    static constexpr int PARTS = 2;
    static __device__ __forceinline__ void words(uint32_t w[2], float a, float b)
    {
        const __half ha = __float2half_rn(a), hb = __float2half_rn(b);
        w[0] = pair(ha, hb);
        w[1] = pair(__float2half_rn(a - __half2float(ha)), __float2half_rn(b - __half2float(hb)));
    }
    static __device__ __forceinline__ void write(uint16_t *at, int64_t low, float x)
    {
        uint32_t w[2];
        words(w, seen(x), 0.0f);
        at[0] = static_cast<uint16_t>(w[0]);
        at[low] = static_cast<uint16_t>(w[1]);
    }
    static __device__ __forceinline__ float read(const uint16_t *at, int64_t low)
    {
        return Fp16::read(at, 0) + Fp16::read(at + low, 0);
    }
};

// body(F{}) with the structure that goes with a format of 16 bits.
template <class Body> static inline cudaError_t with_narrow(crnn_number_format format, Body body)
{
    switch (format) {
    case CRNN_FORMAT_BF16:
        return body(Bf16{});
    case CRNN_FORMAT_FP16:
        return body(Fp16{});
    case CRNN_FORMAT_SPLIT:
        return body(Split{});
    case CRNN_FORMAT_FLOAT:
        break;
    }
    return cudaErrorInvalidValue;
}
// The same with any format.
template <class Body> static inline cudaError_t with(crnn_number_format format, Body body)
{
    return format == CRNN_FORMAT_FLOAT ? body(Float{}) : with_narrow(format, body);
}
} // namespace format
#endif
