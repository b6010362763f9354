// write_words.cuh - numbers that say which step they belong to, and the draw from logits that come so.
//
// A word of 8 bytes has a number and a step, and who needs it polls the word itself: what was published is there after one trip to the
// second-level cache and one from it, where a flag behind the data costs a second one each way.
#ifndef CRNN_KERNELS_CUDA_WRITE_WORDS_CUH
#define CRNN_KERNELS_CUDA_WRITE_WORDS_CUH

#include "kernels/cuda/draw.cuh"

namespace writing
{
constexpr uint32_t PATIENCE = 1u << 23; // polls: at half a microsecond and more each, several seconds

static __device__ __forceinline__ void publish(uint64_t *word, float value, uint32_t step)
{
    gpu::st_relaxed(word, static_cast<uint64_t>(step) << 32 | __float_as_uint(value));
}
static __device__ __forceinline__ float value_of(uint64_t word)
{
    return __uint_as_float(static_cast<uint32_t>(word));
}
static __device__ __forceinline__ bool of_step(const uint64_t *words, uint32_t step)
{
    return static_cast<uint32_t>(words[0] >> 32) == step && static_cast<uint32_t>(words[1] >> 32) == step;
}

// row [V] <- the words at `from`, an even number of them, once they are of that step. go_on(polls): whether to poll again.
template <class Team, class GoOn>
static __device__ __forceinline__ void take_logits(const Team &team, float *row, const uint64_t *from, int V,
                                                   uint32_t step, GoOn go_on)
{
    constexpr int POLLED = 4; // words that a member waits for at a time: all are asked for before any is looked at
    const int room = (V + 1) / 2 * 2;
    for (int base = 2 * team.member(); base < V; base += POLLED * Team::SIZE) {
        const bool second = base + 2 * Team::SIZE < room;
        uint64_t words[POLLED];
        uint32_t polls = 0;
        do {
            gpu::ld_relaxed2(words, from + base);
            gpu::ld_relaxed2(words + 2, from + (second ? base + 2 * Team::SIZE : base));
        } while (!(of_step(words, step) && of_step(words + 2, step)) && go_on(polls));
        for (int k = 0; k < POLLED; k++) {
            const int v = base + k % 2 + k / 2 * 2 * Team::SIZE;
            if (v < V)
                row[v] = value_of(words[k]);
        }
    }
}

// Character number nth of text k from a row of logits in shared memory, which is no longer one afterwards; in all members.
template <class Team>
static __device__ __forceinline__ int draw_from(const Team &team, float *row, int V, const crnn_sample_options &options,
                                                int64_t k, uint64_t nth)
{
    draw::probabilities(team, row, row, V, options);
    return draw::pick(team, row, V, draw::uniform(options.seed, k, nth));
}
} // namespace writing
#endif
