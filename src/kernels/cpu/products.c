/* products.c - matrix products and column sums, the building blocks of the other ops. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

void crnn_cpu_gemm(crnn_cpu *cpu, float *C, int64_t ldc, const float *A, int64_t lda, bool transpose_a, const float *B,
                   int64_t ldb, bool transpose_b, int64_t M, int64_t N, int64_t K, float beta)
{
    if (!cpu->failure.status && !crnn_dnnl_sgemm(C, ldc, A, lda, transpose_a, B, ldb, transpose_b, M, N, K, beta))
        crnn_cpu_failed(cpu, CRNN_ERR_DEVICE, "oneDNN refused a matrix product");
}

struct crnn_cpu_product {
    crnn_cpu *cpu;
    crnn_cpu_product_shape s;
    crnn_dnnl_bf16 *bf16; /* NULL: float32 */
    uint16_t *A, *B;      /* bfloat16: the sides of this run; B where it is no weights */
    void *prepared;       /* weights in the order that the product wants; NULL: as they are */
    int64_t ld_prepared;
};

static bool make_bf16(crnn_cpu_product *p)
{
    const crnn_cpu_product_shape *s = &p->s;
    crnn_dnnl_bf16_shape shape = {.M = s->M, .N = s->N, .K = s->K, .ldc = s->ldc, .transpose_a = s->transpose_a};
    shape.pack_b = s->weights;
    shape.ldb = s->ldb;
    shape.transpose_b = s->transpose_b;
    p->bf16 = crnn_dnnl_bf16_new(&shape);
    if (!p->bf16) {
        crnn_cpu_failed(p->cpu, CRNN_ERR_DEVICE, "oneDNN refused a product in bf16");
        return false;
    }
    p->A = crnn_cpu_alloc_items(p->cpu, s->M, s->K, sizeof *p->A);
    if (s->weights)
        p->prepared = crnn_cpu_alloc(&p->cpu->base, crnn_dnnl_bf16_packed_bytes(p->bf16));
    else
        p->B = crnn_cpu_alloc_items(p->cpu, s->K, s->N, sizeof *p->B);
    return p->A && (p->prepared || p->B);
}

crnn_cpu_product *crnn_cpu_product_new(crnn_cpu *cpu, const crnn_cpu_product_shape *shape)
{
    if (cpu->failure.status)
        return NULL;
    crnn_cpu_product *p = calloc(1, sizeof *p);
    if (!p) {
        crnn_cpu_failed(cpu, CRNN_ERR_MEMORY, "out of memory");
        return NULL;
    }
    *p = (crnn_cpu_product){.cpu = cpu, .s = *shape};
    p->ld_prepared = crnn_cpu_padded(shape->N);
    if (cpu->config.precision == CRNN_BF16)
        make_bf16(p);
    else if (shape->weights && shape->transpose_b)
        p->prepared = crnn_cpu_alloc_items(cpu, shape->K, p->ld_prepared, sizeof(float));
    if (!cpu->failure.status)
        return p;
    crnn_cpu_product_free(p);
    return NULL;
}

void crnn_cpu_product_free(crnn_cpu_product *p)
{
    if (!p)
        return;
    crnn_dnnl_bf16_free(p->bf16);
    crnn_cpu_free(&p->cpu->base, p->A);
    crnn_cpu_free(&p->cpu->base, p->B);
    crnn_cpu_free(&p->cpu->base, p->prepared);
    free(p);
}

/* y [columns,rows] = x' */
static void transpose(float *y, int64_t ldy, const float *x, int64_t ldx, int64_t rows, int64_t columns)
{
    enum { side = 16 }; /* a tile is 16 cache lines on both sides */
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < columns; j += side)
        for (int64_t i = 0; i < rows; i += side)
            for (int64_t v = j; v < columns && v < j + side; v++)
                for (int64_t u = i; u < rows && u < i + side; u++)
                    y[v * ldy + u] = x[u * ldx + v];
}

/* sgemm on a transposed right side of few rows repacks it each time and is three times slower: transpose it once. */
void crnn_cpu_product_prepare(crnn_cpu_product *p, const float *B)
{
    if (p->cpu->failure.status || !p->prepared)
        return;
    if (!p->bf16)
        transpose(p->prepared, p->ld_prepared, B, p->s.ldb, p->s.N, p->s.K);
    else if (!crnn_dnnl_bf16_pack(p->bf16, p->prepared, B))
        crnn_cpu_failed(p->cpu, CRNN_ERR_DEVICE, "oneDNN could not pack weights in bf16");
}

/* Rounds to nearest, ties to even; NaN stays NaN. */
CRNN_CLONES static void round_to_bf16(uint16_t *restrict to, const float *restrict from, int64_t n)
{
    const uint32_t *bits = (const uint32_t *)(const void *)from;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = bits[i];
        uint32_t rounded = (u + 0x7FFFU + (u >> 16 & 1U)) >> 16, nan = u >> 16 | 0x40U;
        to[i] = (uint16_t)((u & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded);
    }
}

static void rows_to_bf16(uint16_t *to, const float *from, int64_t ld, int64_t rows, int64_t columns)
{
#pragma omp parallel for schedule(static) if (rows * columns >= CRNN_CPU_WORTH_THREADS)
    for (int64_t i = 0; i < rows; i++)
        round_to_bf16(to + i * columns, from + i * ld, columns);
}

static void run_bf16(crnn_cpu_product *p, float *C, const float *A_head, const float *A, const float *B)
{
    const crnn_cpu_product_shape *s = &p->s;
    int64_t rows = s->transpose_a ? s->K : s->M, columns = s->transpose_a ? s->M : s->K;
    rows_to_bf16(p->A, A_head, s->lda, s->head, columns);
    rows_to_bf16(p->A + s->head * columns, A, s->lda, rows - s->head, columns);
    if (!s->weights)
        rows_to_bf16(p->B, B, s->ldb, s->K, s->N);
    if (!crnn_dnnl_bf16_run(p->bf16, C, p->A, s->weights ? p->prepared : p->B))
        crnn_cpu_failed(p->cpu, CRNN_ERR_DEVICE, "oneDNN failed in a product in bf16");
}

void crnn_cpu_product_run(crnn_cpu_product *p, float *C, const float *A_head, const float *A, const float *B)
{
    const crnn_cpu_product_shape *s = &p->s;
    if (p->cpu->failure.status)
        return;
    if (p->bf16) {
        run_bf16(p, C, A_head, A, B);
        return;
    }
    const float *right = p->prepared ? p->prepared : B;
    int64_t ldb = p->prepared ? p->ld_prepared : s->ldb;
    bool transpose_b = s->transpose_b && !p->prepared;
    if (s->head) /* only ever with A transposed: the head is a first part of K */
        crnn_cpu_gemm(p->cpu, C, s->ldc, A_head, s->lda, s->transpose_a, right, ldb, transpose_b, s->M, s->N, s->head,
                      0);
    if (s->K > s->head)
        crnn_cpu_gemm(p->cpu, C, s->ldc, A, s->lda, s->transpose_a, right + s->head * ldb, ldb, transpose_b, s->M, s->N,
                      s->K - s->head, s->head ? 1 : 0);
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
