/* rng.h - Philox4x32-10 (Salmon et al., SC 2011), counter-based: a draw is a pure function of (seed, stream, counter), the same bits as
 * cuRAND's curand_init(seed, stream, 4 * counter) followed by curand4.
 *
 * Each use has streams of its own, so that no two draws of a run ever share a counter: see crnn_rng_stream.
 */
#ifndef CRNN_BASE_RNG_H
#define CRNN_BASE_RNG_H

#include <stdint.h>

typedef struct {
    uint32_t v[4];
} crnn_philox4;

static inline crnn_philox4 crnn_philox(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53U * c0, p1 = (uint64_t)0xCD9E8D57U * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    return (crnn_philox4){{c0, c1, c2, c3}};
}

/* [0,1) with 24 bits: exact in float, so that no rounding differs between machines. */
static inline float crnn_u01(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24F;
}

typedef enum { CRNN_RNG_SAMPLE = 0, CRNN_RNG_INIT = 1, CRNN_RNG_SHUFFLE = 2, CRNN_RNG_DROPOUT = 3 } crnn_rng_use;

/* Stream `index` (< 2^56) of a use. Sampling uses index = number of the text; init the tensor; shuffle the epoch; dropout step * 256 + layer. */
static inline uint64_t crnn_rng_stream(crnn_rng_use use, uint64_t index)
{
    return (uint64_t)use << 56 | index;
}

/* Uniform in [0, bound) without bias from one 64-bit draw's high bits is not exact; this rejects: draw number *counter and on.
 * bound >= 1. Moves *counter past what it used. */
uint64_t crnn_uniform_below(uint64_t seed, uint64_t stream, uint64_t *counter, uint64_t bound);

#endif
