/* kernels.h - every kernel of the CUDA backend, reached through one C launcher each.
 *
 * A launcher queues its kernels on the stream and returns the status of the launch. Every pointer is device memory that lives until the
 * stream has passed. Maths and meanings stand at the ops of kernels/backend.h; here stand shapes and what differs. No float atomics: the
 * order of every sum depends on sizes alone. n and rows may exceed 2^31; V, E, H do not.
 */
#ifndef CRNN_KERNELS_CUDA_KERNELS_H
#define CRNN_KERNELS_CUDA_KERNELS_H

#include "kernels/backend.h"
#include "kernels/cuda/gru_persist.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks whose partial sums one more block adds up, in order. */
enum { CRNN_GPU_PARTIALS = 512 };
typedef struct {
    double sum;
    int64_t positions, hits;
} crnn_gpu_partial;

/* How numbers are written. In 16 bits, x is written as x * 2^doublings: bfloat16 with 8 bits of significand, fp16 with 11 and a range that the
 * doublings must hit, or a pair of fp16 numbers, high and low, whose sum has 22. What is beyond fp16's range
 * becomes no number, as gates would make a usual one of the infinite; what persistent kernels exchange becomes infinite. */
typedef enum { CRNN_FORMAT_FLOAT, CRNN_FORMAT_BF16, CRNN_FORMAT_FP16, CRNN_FORMAT_SPLIT } crnn_number_format;

/* A row-major matrix of 16 bits to write. */
typedef struct {
    uint16_t *at;
    int64_t ld;  /* items from row to row */
    int64_t low; /* SPLIT: items from a number's high part to its low one */
    crnn_number_format format;
    int32_t doublings;
} crnn_narrow;

/* A row-major matrix to read. */
typedef struct {
    const void *at;
    int64_t ld;  /* items from row to row */
    int64_t low; /* SPLIT: items from a number's high part to its low one */
    crnn_number_format format;
    int32_t doublings; /* 0 in FLOAT */
} crnn_matrix;

static inline crnn_matrix crnn_floats(const float *at, int64_t ld)
{
    crnn_matrix m = {at, ld, 0, CRNN_FORMAT_FLOAT, 0};
    return m;
}

/* tokens.cu */
cudaError_t crnn_launch_gather(uint16_t *x /* [T,B] */, uint16_t *y /* [T,B] */, const void *ids, int32_t width,
                               const int64_t *starts /* [B] */, int32_t T, int32_t B, cudaStream_t stream);
cudaError_t crnn_launch_embed(float *y /* [n,E] */, const uint16_t *tokens /* [n] */, const float *table /* [V,E] */,
                              int64_t n, int32_t E, cudaStream_t stream);
/* dtable[v] (+)= sum of dy[i] over i with tokens[i] = v, in an order that the tokens alone decide. */
cudaError_t crnn_launch_sum_by_token(float *dtable /* [V,E] */, bool add, crnn_matrix dy /* [n,E] */,
                                     const uint16_t *tokens /* [n] */, int64_t n, int32_t V, int32_t E,
                                     void *scratch /* [crnn_sum_by_token_scratch(n, V)] */, cudaStream_t stream);
size_t crnn_sum_by_token_scratch(int64_t n, int32_t V);

/* loss.cu. partials: [CRNN_GPU_PARTIALS] scratch. */
cudaError_t crnn_launch_softmax_xent(crnn_step_numbers *numbers, float *z /* [n,V] */, const uint16_t *y /* [n] */,
                                     int64_t n, int32_t V, float scale, crnn_gpu_partial *partials,
                                     cudaStream_t stream);

/* update.cu */
cudaError_t crnn_launch_next_step(crnn_step_inputs *inputs, int64_t *starts /* [B] */, const crnn_step_queue *queue,
                                  int32_t B, cudaStream_t stream);
cudaError_t crnn_launch_norm(crnn_step_numbers *numbers, const float *g, int64_t n, crnn_gpu_partial *partials,
                             cudaStream_t stream);
/* Of w [n], and of the others at the same places, the items [from,to). Each R of `copies`, which lie there one after the other with ldr = 3H, is
 * written into its copies too; count <= CRNN_GPU_COPIES. */
enum { CRNN_GPU_COPIES = 8 };
typedef struct {
    float *w, *m, *v; /* 16-byte aligned, like g */
    const float *g;
    int64_t from, to;
    const crnn_step_inputs *inputs;
    const crnn_step_numbers *numbers;
    int32_t count;
    crnn_persist_precision precision;
    crnn_persist_copies copies[CRNN_GPU_COPIES];
} crnn_gpu_update;
cudaError_t crnn_launch_adam(const crnn_gpu_update *update, cudaStream_t stream);
cudaError_t crnn_launch_carry(float *to, const float *from, int64_t n, const crnn_step_numbers *numbers,
                              cudaStream_t stream);

/* dropout.cu */
cudaError_t crnn_launch_dropout(float *y, const float *x, int64_t n, float p, uint64_t seed,
                                const crnn_step_inputs *inputs, int32_t layer, cudaStream_t stream);

/* rows.cu */
/* y[j] (+)= sum of x[i,j] over i. */
cudaError_t crnn_launch_column_sums(float *y /* [columns] */, bool add, crnn_matrix x /* [rows,columns] */,
                                    int64_t rows, int32_t columns, cudaStream_t stream);
/* x[i,j] += b[j]. */
cudaError_t crnn_launch_add_bias(float *x /* [rows,ld] */, int64_t ld, const float *b /* [columns] */, int64_t rows,
                                 int32_t columns, cudaStream_t stream);
/* To 16 bits, rounded to nearest even. And back from bfloat16. */
cudaError_t crnn_launch_narrow(crnn_narrow to, const float *from /* [rows,columns] */, int64_t rows, int64_t columns,
                               cudaStream_t stream);
cudaError_t crnn_launch_from_bf16(float *to, const uint16_t *from, int64_t n, cudaStream_t stream);

/* A product's results in parts that are yet to be added up: `pieces` of K, in each of them each row `halves` times. */
typedef struct {
    const float *at; /* [pieces,rows,halves,columns] */
    int32_t pieces, halves;
} crnn_sums;

/* gates.cu: what stands between the products of two time steps of a recurrent layer. keep holds four parts of H floats a row. */
typedef struct {
    float *h;        /* [B,H] out; NULL: not wanted, and h_prev is not read */
    crnn_narrow h16; /* [B,H] out, the same in 16 bits; at NULL: not wanted */
    float *keep;     /* [B,ldk] out: n_h, z, r, n, with n_h = h Rn + b1n */
    crnn_sums hp;    /* [B,3H] h_prev R, parts n, z, r */
    const float *b1; /* [3H], parts n, z, r */
    const float *
        xp; /* rows of z, r, n, ldx apart: x K + b0 of each row; or, where tokens are given, of each character. May lie in keep. */
    const uint16_t *tokens; /* [B] or NULL */
    const float *h_prev;    /* [B,H] */
    int64_t ldk, ldx;
    int32_t B, H;
} crnn_gates;
cudaError_t crnn_launch_gates(const crnn_gates *gates, cudaStream_t stream);

typedef struct {
    float *dh;           /* [B,H] in: what came past z from the step after; out: what passes z here */
    const float *keep;   /* [B,ldk] n_h, z, r, n */
    crnn_narrow d;       /* [B,4H] out: dn_h, dz, dr, dn */
    crnn_sums back;      /* [B,H] what came back through R */
    const float *dhs;    /* [B,H] */
    const float *h_prev; /* [B,H] */
    bool last;           /* the last time step: nothing comes from a later one, dh and back are not read */
    int64_t ldk;
    int32_t B, H;
} crnn_gates_backward;
cudaError_t crnn_launch_gates_backward(const crnn_gates_backward *gates, cudaStream_t stream);

/* sample.cu */
cudaError_t crnn_launch_probabilities(float *p /* [n,V] */, const float *z /* [n,V] */, int64_t n, int32_t V,
                                      const crnn_sample_options *options, cudaStream_t stream);
cudaError_t crnn_launch_pick(uint16_t *ids /* [n] */, uint16_t *written /* [ring,n] */, uint64_t *drawn /* [1] */,
                             const float *p /* [n,V] */, int64_t n, int32_t V, int32_t ring, uint64_t seed,
                             cudaStream_t stream);
/* *drawn += n */
cudaError_t crnn_launch_count_draws(uint64_t *drawn /* [1] */, int64_t n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
