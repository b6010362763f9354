/* What the CPU takes for a step's parts, and what it could do: the rate of a product and of a copy. */
#include "kernels/cpu/cpu.h"
#include <omp.h>
#include <string.h>

/* Ops are done when they return. */
void crnn_cpu_mark(crnn_backend *be, int32_t i)
{
    crnn_cpu_of(be)->marks[i] = omp_get_wtime();
}

double crnn_cpu_between(crnn_backend *be, int32_t i, int32_t j)
{
    return crnn_cpu_of(be)->marks[j] - crnn_cpu_of(be)->marks[i];
}

double crnn_cpu_peak_rate(crnn_backend *be)
{
    enum { n = 2048, rounds = 4 };
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!crnn_cpu_begin(cpu, "peak_rate"))
        return 0;
    float *A = crnn_cpu_alloc_items(cpu, n, n, sizeof *A), *B = crnn_cpu_alloc_items(cpu, n, n, sizeof *B);
    float *C = crnn_cpu_alloc_items(cpu, n, n, sizeof *C);
    double best = 0;
    for (int round = 0; A && B && C && round < rounds; round++) { /* the first warms up */
        double start = omp_get_wtime();
        crnn_cpu_gemm(cpu, C, n, A, n, false, B, n, false, n, n, n, 0);
        double rate = 2.0 * n * n * n / (omp_get_wtime() - start);
        best = round && rate > best ? rate : best;
    }
    crnn_cpu_free(be, A);
    crnn_cpu_free(be, B);
    crnn_cpu_free(be, C);
    return best;
}

double crnn_cpu_copy_rate(crnn_backend *be)
{
    enum { ROUNDS = 4 };
    const size_t bytes = (size_t)128 << 20, part = (size_t)1 << 20; /* beyond any cache, or nearly */
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!crnn_cpu_begin(cpu, "copy_rate"))
        return 0;
    char *from = crnn_cpu_alloc(be, bytes), *to = crnn_cpu_alloc(be, bytes);
    double best = 0;
    for (int round = 0; from && to && round < ROUNDS; round++) { /* the first finds the pages */
        double start = omp_get_wtime();
#pragma omp parallel for schedule(static)
        for (size_t at = 0; at < bytes; at += part)
            memcpy(to + at, from + at, part);
        double rate = 2.0 * (double)bytes / (omp_get_wtime() - start);
        best = round && rate > best ? rate : best;
    }
    crnn_cpu_free(be, from);
    crnn_cpu_free(be, to);
    return best;
}
