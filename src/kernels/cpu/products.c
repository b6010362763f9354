/* products.c - matrix products and column sums, the building blocks of the other ops. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"
#include <omp.h>

void crnn_cpu_gemm(crnn_cpu *cpu, float *C, int64_t ldc, const float *A, int64_t lda, bool transpose_a, const float *B,
                   int64_t ldb, bool transpose_b, int64_t M, int64_t N, int64_t K, float beta)
{
    if (!cpu->failure.status && !crnn_dnnl_sgemm(C, ldc, A, lda, transpose_a, B, ldb, transpose_b, M, N, K, beta))
        crnn_cpu_failed(cpu, CRNN_ERR_DEVICE, "oneDNN refused a matrix product");
}

void crnn_cpu_transpose(crnn_cpu *cpu, float *y, int64_t ldy, const float *x, int64_t ldx, int64_t rows,
                        int64_t columns)
{
    enum { side = 16 }; /* a tile is 16 cache lines on both sides */
    (void)cpu;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < columns; j += side)
        for (int64_t i = 0; i < rows; i += side)
            for (int64_t v = j; v < columns && v < j + side; v++)
                for (int64_t u = i; u < rows && u < i + side; u++)
                    y[v * ldy + u] = x[u * ldx + v];
}

CRNN_CLONES static void sum_columns(float *y, const float *x, int64_t ld, int64_t rows, int64_t columns)
{
    double sums[64] = {0};
    for (int64_t i = 0; i < rows; i++) {
        const float *row = x + i * ld;
#pragma omp simd
        for (int64_t j = 0; j < columns; j++)
            sums[j] += (double)row[j];
    }
    for (int64_t j = 0; j < columns; j++)
        y[j] = (float)sums[j];
}

void crnn_cpu_column_sums(crnn_cpu *cpu, float *y, const float *x, int64_t ld, int64_t rows, int64_t columns)
{
    (void)cpu;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < columns; j += 64)
        sum_columns(y + j, x + j, ld, rows, columns - j < 64 ? columns - j : 64);
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
