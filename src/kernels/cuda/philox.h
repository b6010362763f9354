// philox.h - the draws of host/base/rng.h in a kernel: cuRAND's Philox4_32_10, which gives the same bits.
#ifndef CRNN_KERNELS_CUDA_PHILOX_H
#define CRNN_KERNELS_CUDA_PHILOX_H

#include "kernels/cuda/gpu.h"
#ifdef CUSIM
#include "host/base/rng.h"
#else
#include <curand_philox4x32_x.h> // of curand_kernel.h the part that is used; the rest brings tables of megabytes
#endif

namespace gpu
{
__device__ __forceinline__ void philox(uint32_t bits[4], uint64_t seed, uint64_t stream, uint64_t counter)
{
#ifdef CUSIM
    const crnn_philox4 draw = crnn_philox(seed, stream, counter);
    for (int i = 0; i < 4; i++)
        bits[i] = draw.v[i];
#else
    const uint4 draw =
        curand_Philox4x32_10(make_uint4(static_cast<unsigned>(counter), static_cast<unsigned>(counter >> 32),
                                        static_cast<unsigned>(stream), static_cast<unsigned>(stream >> 32)),
                             make_uint2(static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32)));
    bits[0] = draw.x;
    bits[1] = draw.y;
    bits[2] = draw.z;
    bits[3] = draw.w;
#endif
}

// [0,1) with 24 bits, exact.
__device__ __forceinline__ float u01(uint32_t bits)
{
    return static_cast<float>(bits >> 8) * 5.9604644775390625e-8f;
}
} // namespace gpu
#endif
