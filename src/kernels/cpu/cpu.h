/* cpu.h - what the files of the CPU backend share. */
#ifndef CRNN_KERNELS_CPU_CPU_H
#define CRNN_KERNELS_CPU_CPU_H

#include "kernels/backend.h"

typedef struct {
    crnn_backend base; /* first: the door hands out pointers to it */
    crnn_device_config config;
    int32_t threads;
    int64_t memory;     /* bytes allocated */
    crnn_error failure; /* the first; status CRNN_OK while there is none */
    double *partial;    /* [partials] scratch of reductions */
    int64_t partials;
} crnn_cpu;

static inline crnn_cpu *crnn_cpu_of(crnn_backend *be)
{
    return (crnn_cpu *)be;
}

/* Memory of the backend: zeroed, aligned, counted. NULL latches. */
void *crnn_cpu_alloc(crnn_backend *be, size_t bytes);
void crnn_cpu_free(crnn_backend *be, void *memory);

/* C [M,N] = alpha op(A) op(B) + beta C, all row-major; op transposes where its flag says so; lda, ldb, ldc: floats a row. */
void crnn_cpu_gemm(crnn_cpu *cpu, bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, const float *A,
                   int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

/* The recurrent layer (gru.c). */
crnn_gru *crnn_cpu_gru_new(crnn_backend *be, const crnn_gru_shape *shape);
void crnn_cpu_gru_free(crnn_gru *g);
int64_t crnn_cpu_gru_params(const crnn_gru *g);
void crnn_cpu_gru_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias);
void crnn_cpu_gru_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w);
void crnn_cpu_gru_forward(crnn_gru *g, float *hs, float *h_last, const crnn_gru_input *in, const float *h_first,
                          const float *w);
void crnn_cpu_gru_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                           const crnn_gru_input *in, const float *h_first, const float *w);
double crnn_cpu_gru_flop(const crnn_gru *g, bool backward);

/* Shared pieces (ops.c). */
void crnn_cpu_embed(crnn_backend *be, float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t V,
                    int32_t E);
void crnn_cpu_embed_backward(crnn_backend *be, float *dtable, const float *dy, const uint16_t *tokens, int64_t n,
                             int32_t V, int32_t E);
/* out[c] = sum over rows of m[row,c], in order of the rows. m: [rows,columns] with `stride` floats a row. */
void crnn_cpu_column_sums(crnn_cpu *cpu, float *out, const float *m, int64_t rows, int64_t columns, int64_t stride);

#endif
