/* tokens.c - what is done with ids of characters: gathering batches, looking up rows, summing rows. */
#include "kernels/cpu/cpu.h"
#include <omp.h>
#include <string.h>

void crnn_cpu_gather(crnn_backend *be, uint16_t *x, uint16_t *y, const void *ids, int32_t width, const int64_t *starts,
                     int32_t T, int32_t B)
{
    if (!crnn_cpu_begin(crnn_cpu_of(be), "gather"))
        return;
    const uint8_t *narrow = ids;
    const uint16_t *wide = ids;
    for (int32_t b = 0; b < B; b++)
        for (int32_t t = 0; t < T; t++) {
            int64_t from = starts[b] + t, to = (int64_t)t * B + b;
            x[to] = width == 1 ? narrow[from] : wide[from];
            y[to] = width == 1 ? narrow[from + 1] : wide[from + 1];
        }
}

void crnn_cpu_embed(crnn_backend *be, float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t V,
                    int32_t E)
{
    (void)V;
    if (!crnn_cpu_begin(crnn_cpu_of(be), "embed"))
        return;
#pragma omp parallel for schedule(static) if (n * E >= CRNN_CPU_WORTH_THREADS)
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * E, table + (int64_t)tokens[i] * E, (size_t)E * sizeof *y);
}

CRNN_CLONES static void add(float *restrict sum, const float *restrict x, int64_t n)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        sum[j] += x[j];
}

/* Each thread has columns of its own and walks all rows: every sum is in order of i, whatever the number of threads. */
void crnn_cpu_sum_by_token(crnn_cpu *cpu, float *dtable, const float *dy, int64_t ld, const uint16_t *tokens, int64_t n,
                           int32_t V, int64_t E)
{
    (void)cpu;
#pragma omp parallel
    {
        int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int64_t groups = (E + 15) / 16; /* of one cache line */
        int64_t from = groups * thread / threads * 16, to = groups * (thread + 1) / threads * 16;
        to = to < E ? to : E;
        for (int32_t v = 0; v < V && from < to; v++)
            memset(dtable + v * E + from, 0, (size_t)(to - from) * sizeof *dtable);
        for (int64_t i = 0; i < n && from < to; i++)
            add(dtable + tokens[i] * E + from, dy + i * ld + from, to - from);
    }
}

void crnn_cpu_embed_backward(crnn_backend *be, float *dtable, const float *dy, const uint16_t *tokens, int64_t n,
                             int32_t V, int32_t E)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (crnn_cpu_begin(cpu, "embed_backward"))
        crnn_cpu_sum_by_token(cpu, dtable, dy, E, tokens, n, V, E);
}
