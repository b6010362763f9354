/* words.h - a kernel whose blocks exchange words without flags (src/kernels/cuda/gru_persist_words.cuh), for test_words.c. */
#ifndef CRNN_TESTS_WORDS_H
#define CRNN_TESTS_WORDS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    void *slots;                    /* [4][pieces] of 16 bytes, zeroed once */
    uint32_t *count;                /* [blocks] zeroed once */
    uint32_t *status;               /* [1] zero; 1: gave up */
    uint32_t *results;              /* [rounds] sums of all words */
    int32_t pieces, blocks, rounds; /* pieces: a multiple of 128 and of blocks */
    uint32_t patience;
} words_run;
cudaError_t launch_words(const words_run *run);

/* What word i is in a round, after one whose words have that sum. */
#ifdef __CUDACC__
__host__ __device__
#endif
    static inline uint32_t
    words_next(uint32_t sum, uint32_t i)
{
    uint32_t x = (sum ^ (i + 1) * 2654435761u) * 2246822519u;
    x = (x ^ x >> 15) >> 1; /* never with all bits set */
    return i % 7 ? x : 0;
}

#ifdef __cplusplus
}
#endif
#endif
