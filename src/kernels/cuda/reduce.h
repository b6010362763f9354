// reduce.h - sums and maxima over neighbouring lanes, a warp or a block, in an order that depends on its size alone.
#ifndef CRNN_KERNELS_CUDA_REDUCE_H
#define CRNN_KERNELS_CUDA_REDUCE_H

#include "kernels/cuda/gpu.h"

namespace gpu
{
struct plus {
    template <class T> __device__ T operator()(T a, T b) const
    {
        return a + b;
    }
};
struct larger {
    template <class T> __device__ T operator()(T a, T b) const
    {
        return a > b ? a : b; // a NaN in b is taken, one in a is lost: sums find it
    }
};

// Over LANES lanes beside each other, a power of two; every one of them gets the result. All lanes of the warp call it.
template <int LANES, class T, class F> __device__ __forceinline__ T lanes_reduce(T v, F f)
{
#pragma unroll
    for (int distance = LANES / 2; distance; distance /= 2)
        v = f(v, __shfl_xor_sync(0xffffffffu, v, distance));
    return v;
}
template <class T, class F> __device__ __forceinline__ T warp_reduce(T v, F f)
{
    return lanes_reduce<32>(v, f);
}

// Every thread gets the result. part: [THREADS / 32] in shared memory; THREADS a multiple of 32 up to 1024. All threads call it.
template <int THREADS, class T, class F> __device__ __forceinline__ T block_reduce(T v, T *part, F f)
{
    v = warp_reduce(v, f);
    __syncthreads(); // part may still be read from the call before
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    T all = part[0];
    for (int warp = 1; warp < THREADS / 32; warp++)
        all = f(all, part[warp]);
    return all;
}
} // namespace gpu
#endif
