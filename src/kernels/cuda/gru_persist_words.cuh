// gru_persist_words.cuh - an exchange without flags: of each word it can be seen whether it has come.
//
// Numbers are published as the complement of their words, so that a word is never 0: that would be a pair of -NaN with all bits set, and what
// conversions make of NaN is 0x7fff. 0 is a word that has not come yet. A ring of four slots: publication n goes into slot n % 4, and whoever
// has published it takes back what he published as n - 2. That is early enough, since n + 2, which comes into the same slot, is looked for by those
// alone who have read all of n + 1; the fence between taking back and publishing n + 1 sees to it that they find the slot empty. It is late
// enough, since everybody has read n - 2 before he published n - 1, all of which had been read before n was made. With three slots n + 1 would go
// where n - 2 was taken back in the very moment in which others began to look there.
//
// Words are written and read one by one with relaxed accesses at the scope of the GPU; nothing else passes from block to block. The count goes on
// from launch to launch, so none begins or ends by clearing; memory that was zeroed once serves.
#ifndef CRNN_KERNELS_CUDA_GRU_PERSIST_WORDS_CUH
#define CRNN_KERNELS_CUDA_GRU_PERSIST_WORDS_CUH

#include "kernels/cuda/gpu.h"

namespace persist
{
constexpr unsigned RING = 4;

// The n-th publication of one word; `word` is its place in the first slot, `slot` the words from slot to slot.
static __device__ __forceinline__ void publish_word(unsigned *word, size_t slot, unsigned n, unsigned value)
{
    gpu::st_relaxed(word + n % RING * slot, ~value);
}
// After all words of publication n: the one of the same word two before.
static __device__ __forceinline__ void take_back(unsigned *word, size_t slot, unsigned n)
{
    const unsigned before = n + RING - 2;
    gpu::st_relaxed(word + before % RING * slot, 0);
}
// Between take_back and the next take: what was taken back is gone before the next words come.
static __device__ __forceinline__ void taken_back()
{
    __threadfence();
}
static __device__ __forceinline__ bool has_come(const uint4 &v)
{
    return v.x && v.y && v.z && v.w;
}
// What was published.
static __device__ __forceinline__ uint4 published(const uint4 &v)
{
    return {~v.x, ~v.y, ~v.z, ~v.w};
}
// N pieces of 16 bytes, `apart` from one another. False: gave up, after so many polls or as someone else did (*status). Where one had to be waited
// for, all others that are missing are asked for again at once: they are hardly later.
template <int N>
static __device__ __forceinline__ bool take(uint4 (&v)[N], const uint4 *from, int apart, unsigned patience,
                                            const unsigned *status)
{
    unsigned polls = 0;
#pragma unroll
    for (int i = 0; i < N; i++)
        v[i] = gpu::ld_relaxed16(from + i * apart);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const unsigned before = polls;
        while (!has_come(v[i])) {
            v[i] = gpu::ld_relaxed16(from + i * apart);
            if (++polls >= patience || (polls % 1024 == 0 && gpu::ld_acquire(status)))
                return false;
        }
#pragma unroll
        for (int k = i + 1; k < N; k++)
            if (polls != before && !has_come(v[k]))
                v[k] = gpu::ld_relaxed16(from + k * apart);
        v[i] = published(v[i]);
    }
    return true;
}
} // namespace persist
#endif
