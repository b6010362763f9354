// words.cu - blocks that know nothing of one another but what they exchange by words.
#include "kernels/cuda/gru_persist_words.cuh"
#include "persist/words.h"

using namespace persist;

namespace
{
constexpr int THREADS = 64, AT_ONCE = 2;

struct Run {
    uint4 *slots;    // [RING][pieces], zero
    unsigned *count; // [blocks] publications so far, zero
    unsigned *status;
    unsigned *results; // [rounds][words]
    int pieces, blocks, rounds;
    unsigned patience;
};

// In each round, each word is made of the sum of all words of the round before.
__global__ void __launch_bounds__(THREADS, 1) exchange_words(const __grid_constant__ Run r)
{
    SHARED(unsigned, all, [1]);
    SHARED(unsigned, stop, [1]);
    const int share = r.pieces / r.blocks * 4, first = blockIdx.x * share;
    const size_t slot = static_cast<size_t>(r.pieces) * 4;
    unsigned *words = reinterpret_cast<unsigned *>(r.slots);
    unsigned n = r.count[blockIdx.x];
    if (threadIdx.x == 0)
        *all = *stop = 0;
    __syncthreads();
    for (int round = 0; round < r.rounds; round++, n++) {
        const unsigned seed = *all;
        __syncthreads();
        if (threadIdx.x == 0)
            *all = 0;
        for (int i = threadIdx.x * 4; i < share;
             i += THREADS * 4) // a piece a thread, so that one that is late leaves whole ones
            for (int k = first + i; k < first + i + 4; k++)
                publish_word(words + k, slot, n, words_next(seed, static_cast<unsigned>(k)));
        for (int i = threadIdx.x * 4; i < share; i += THREADS * 4)
            for (int k = first + i; k < first + i + 4; k++)
                take_back(words + k, slot, n);
        taken_back();
        __syncthreads();
        for (int i = threadIdx.x; i < r.pieces; i += AT_ONCE * THREADS) {
            uint4 v[AT_ONCE];
            if (!take(v, r.slots + static_cast<size_t>(n % RING) * r.pieces + i, THREADS, r.patience, r.status)) {
                atomicExch(r.status, 1u);
                atomicExch(stop, 1u);
                break;
            }
            for (const uint4 &p : v)
                atomicAdd(all, p.x + p.y + p.z + p.w);
        }
        __syncthreads();
        if (*stop)
            return;
        if (blockIdx.x == 0 && threadIdx.x == 0)
            r.results[round] = *all;
    }
    if (threadIdx.x == 0)
        r.count[blockIdx.x] = n;
}
} // namespace

cudaError_t launch_words(const words_run *run)
{
    const Run r = {static_cast<uint4 *>(run->slots),
                   run->count,
                   run->status,
                   run->results,
                   run->pieces,
                   run->blocks,
                   run->rounds,
                   run->patience};
    return LAUNCH_COOP(exchange_words, static_cast<unsigned>(run->blocks), THREADS, 0, nullptr, r);
}
