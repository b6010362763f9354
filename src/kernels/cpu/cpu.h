/* cpu.h - what the files of the CPU backend share: the backend itself, its latch, its threads, and its building blocks.
 *
 * Every op begins with crnn_cpu_begin, which refuses after a failure and sets the number of threads for OpenMP and oneDNN. Loops are
 * shared out by columns or in chunks whose bounds come from sizes and the number of threads alone: same threads, same bits.
 */
#ifndef CRNN_KERNELS_CPU_CPU_H
#define CRNN_KERNELS_CPU_CPU_H

#include "kernels/backend.h"

/* One version of a loop for each of these, chosen when the program starts. Only gcc with glibc can, and ASan breaks the choosing. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__) &&                       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CRNN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CRNN_CLONES
#endif

/* Elements below which waking the other threads costs more than they help: sampling has loops of a few hundred. */
enum { CRNN_CPU_WORTH_THREADS = 8192 };

typedef struct {
    crnn_backend base;
    crnn_device_config config; /* threads resolved */
    const char *op;            /* the op now running, for the message of a failure */
    crnn_error failure;        /* the first since the last sync; status CRNN_OK: none */
    int64_t memory;            /* bytes allocated */
    crnn_gru *layers;          /* all layers, so that a write to weights makes what they prepared stale */
    void *candidates;          /* scratch of probabilities, for candidate_room characters */
    int32_t candidate_room;
    double marks[CRNN_MARKS];
} crnn_cpu;

static inline crnn_cpu *crnn_cpu_of(crnn_backend *be)
{
    return (crnn_cpu *)be;
}

/* False when a failure is latched: the op does nothing. */
bool crnn_cpu_begin(crnn_cpu *cpu, const char *op);
/* Latches a failure of the running op. */
void crnn_cpu_failed(crnn_cpu *cpu, crnn_status status, const char *what);

/* Device memory: zeroed, 64-byte aligned, counted. NULL latches. free takes NULL. */
void *crnn_cpu_alloc(crnn_backend *be, size_t bytes);
void crnn_cpu_free(crnn_backend *be, void *memory);
/* count * item bytes, checked. */
void *crnn_cpu_alloc_items(crnn_cpu *cpu, int64_t rows, int64_t columns, size_t item);

/* [bytes] at memory were written: what layers prepared from weights there is stale. */
void crnn_cpu_touched(crnn_cpu *cpu, const void *memory, size_t bytes);

/* Row-major C = beta C + op(A) op(B); op transposes where asked. Latches. */
void crnn_cpu_gemm(crnn_cpu *cpu, float *C, int64_t ldc, const float *A, int64_t lda, bool transpose_a, const float *B,
                   int64_t ldb, bool transpose_b, int64_t M, int64_t N, int64_t K, float beta);

/* Length of a row of n floats: a multiple of 1 KiB gets 64 bytes more, or else the rows of a block fight for the same few cache sets. */
static inline int64_t crnn_cpu_padded(int64_t n)
{
    return n % 256 ? n : n + 16;
}

/* One product of one shape in the precision of the backend, C [M,N] = op(A) [M,K] op(B) [K,N], made when a layer is made so that nothing is
 * allocated later. In bf16, A and B are rounded to bfloat16 as they come and sums stay in float32. */
typedef struct crnn_cpu_product crnn_cpu_product;
typedef struct {
    int64_t M, N, K;
    int64_t lda, ldb, ldc; /* floats from row to row as stored */
    bool transpose_a, transpose_b;
    bool weights; /* B comes through prepare, once for each value of the weights, and serves many runs */
    int64_t head; /* so many stored rows of A come from elsewhere */
} crnn_cpu_product_shape;
/* NULL latches. */
crnn_cpu_product *crnn_cpu_product_new(crnn_cpu *cpu, const crnn_cpu_product_shape *shape);
void crnn_cpu_product_free(crnn_cpu_product *p);
void crnn_cpu_product_prepare(crnn_cpu_product *p, const float *B);
/* A: its stored rows after the first `head`, which lie at A_head. B: as given to prepare, where that was called. */
void crnn_cpu_product_run(crnn_cpu_product *p, float *C, const float *A_head, const float *A, const float *B);

/* y[j] = sum of x[i,j] over i, in double, in order of i. */
void crnn_cpu_column_sums(crnn_cpu *cpu, float *y /* [columns] */, const float *x /* [rows,ld] */, int64_t ld,
                          int64_t rows, int64_t columns);

/* The ops, one family a file. */
void crnn_cpu_gather(crnn_backend *be, uint16_t *x, uint16_t *y, const void *ids, int32_t width, const int64_t *starts,
                     int32_t T, int32_t B);
void crnn_cpu_embed(crnn_backend *be, float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t V,
                    int32_t E);
void crnn_cpu_embed_backward(crnn_backend *be, float *dtable, const float *dy, const uint16_t *tokens, int64_t n,
                             int32_t V, int32_t E);
/* The loop of embed_backward, for dy whose rows are ld apart. */
void crnn_cpu_sum_by_token(crnn_cpu *cpu, float *dtable, const float *dy, int64_t ld, const uint16_t *tokens, int64_t n,
                           int32_t V, int64_t E);

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
/* The next layer of the backend's list; called by crnn_cpu_touched. */
crnn_gru *crnn_cpu_gru_touched(crnn_gru *g, const char *memory, size_t bytes);

void crnn_cpu_dropout(crnn_backend *be, float *y, const float *x, int64_t n, float p, uint64_t seed,
                      const crnn_step_inputs *inputs, int32_t layer);
void crnn_cpu_linear(crnn_backend *be, float *y, const float *x, const float *W, const float *b, int64_t n, int32_t H,
                     int32_t V);
void crnn_cpu_linear_backward(crnn_backend *be, float *dx, float *dW, float *db, const float *dy, const float *x,
                              const float *W, int64_t n, int32_t H, int32_t V);
void crnn_cpu_softmax_xent(crnn_backend *be, crnn_step_numbers *numbers, float *z, const uint16_t *y, int64_t n,
                           int32_t V, float scale);
void crnn_cpu_next_step(crnn_backend *be, crnn_step_inputs *inputs, int64_t *starts, const crnn_step_queue *queue,
                        int32_t B);
void crnn_cpu_norm(crnn_backend *be, crnn_step_numbers *numbers, const float *g, int64_t n);
void crnn_cpu_adam(crnn_backend *be, float *w, float *m, float *v, const float *g, int64_t n,
                   const crnn_step_inputs *inputs, const crnn_step_numbers *numbers);
void crnn_cpu_carry(crnn_backend *be, float *to, const float *from, int64_t n, const crnn_step_numbers *numbers);
void crnn_cpu_probabilities(crnn_backend *be, float *p, const float *z, int64_t n, int32_t V,
                            const crnn_sample_options *options);
void crnn_cpu_pick(crnn_backend *be, uint16_t *ids, uint16_t *written, uint64_t *drawn, const float *p, int64_t n,
                   int32_t V, int32_t ring, uint64_t seed);
double crnn_cpu_peak_rate(crnn_backend *be);
double crnn_cpu_copy_rate(crnn_backend *be);
void crnn_cpu_mark(crnn_backend *be, int32_t i);
double crnn_cpu_between(crnn_backend *be, int32_t i, int32_t j);

#endif
