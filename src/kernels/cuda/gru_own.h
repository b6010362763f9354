/* gru_own.h - a recurrent layer of our own, in two ways that differ in the passage through time alone: as a loop, one product by cuBLASLt
 * and one kernel for the gates at each time step; or by the kernels of gru_persist.h, which stay on the GPU for all of them.
 *
 * Layout of the weights: K [I,3H] and b0 [3H] with gates z, r, n as in the canonical form; R [H,3H] and b1 [3H] with gates n, z, r. So one
 * row of `keep` serves both: its four parts of H numbers are (n_h, z, r, n) after the forward pass, with n_h = h Rn + b1n, and (dn_h, dz, dr,
 * dn) after the backward pass, where parts 0 to 2 are the gradient at h R + b1 and parts 1 to 3 the one at x K + b0.
 *
 * Everything beside the passage is a product over all time steps at once, in one format of numbers: floats, or the 16 bits that the passage
 * computes in itself. Then the gates' gradients leave the passage in that format, and stand in keep in the place of the gates.
 *
 * Characters as input: x K + b0 takes one of V values, so where that is less work a table [V,3H] of them is made ("folded"), the forward
 * pass looks rows up, and the backward pass sums gradients by character before its products.
 */
#ifndef CRNN_KERNELS_CUDA_GRU_OWN_H
#define CRNN_KERNELS_CUDA_GRU_OWN_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gru_persist.h"

typedef struct {
    crnn_gru base;
    bool folded;
    bool persistent;           /* passes by plan[] in space[], forward and backward; else the loop */
    bool bf16;                 /* the loop multiplies in bf16 */
    crnn_number_format format; /* of the factors of large products */
    int32_t doublings;         /* of states, inputs and weights in that format */
    crnn_persist_plan plan[2];
    void *space[2];
    float *
        keep; /* [T+1,B,4H]: gates of t at t, their gradients at t + 1; [T,B,4H] or [B,4H] where nothing need be kept */
    float *hp;             /* loop: [B,3H] h R of one time step; backward: [B,H] what comes back through R */
    float *dh;             /* loop: [B,H] what comes back past z */
    float *x;              /* [T,B,I] embedded input, where characters are not folded */
    float *table, *dtable; /* [V,3H] */
    uint16_t *R16;         /* the loop in bf16: R */
    uint16_t *
        h16; /* h_first and the states after it in the format, [T+1,B,H]; the loop in bf16, where nothing need be kept: [2,B,H] */
    uint16_t *x16, *K16; /* the input and K in the format, where it has 16 bits and characters are not folded */
} crnn_gru_own;

typedef struct {
    float *K, *R, *b0, *b1;
} crnn_gru_own_parts;

static inline crnn_gru_own *crnn_gru_own_of(const crnn_gru *g)
{
    return (crnn_gru_own *)(uintptr_t)g;
}
static inline crnn_gru_own_parts crnn_gru_own_parts_of(const crnn_gru *g, const float *w)
{
    int64_t H3 = 3 * (int64_t)g->s.H;
    float *K = (float *)(uintptr_t)w, *R = K + g->s.I * H3, *b0 = R + g->s.H * H3;
    return (crnn_gru_own_parts){K, R, b0, b0 + H3};
}
/* Numbers of 16 bits for each value in the format; 0: floats. */
static inline int32_t crnn_gru_own_halves(const crnn_gru_own *l)
{
    return l->format == CRNN_FORMAT_FLOAT ? 0 : l->format == CRNN_FORMAT_SPLIT ? 2 : 1;
}
/* How many passes persistent kernels make. */
static inline int crnn_gru_own_passes(const crnn_gru_own *l)
{
    return !l->persistent ? 0 : l->base.s.training ? 2 : 1;
}
/* Doublings of the gates' gradients in the format. */
static inline int32_t crnn_gru_own_gradient_doublings(const crnn_gru_own *l)
{
    return l->persistent ? crnn_persist_doublings(l->plan[1].precision, (int64_t)l->base.s.T * l->base.s.B) : 0;
}
/* Where the gradients of time step t stand, 4 or in 16 bits 8 items of H a row. */
static inline void *crnn_gru_own_gradients(const crnn_gru_own *l, int64_t t)
{
    return l->keep + (t + 1) * l->base.s.B * 4 * l->base.s.H;
}

/* gru_own_time.c: the passage. x K + b0 stands in the table, or in parts 1 to 3 of keep. */
void crnn_gru_own_forward(crnn_gru_own *l, float *hs, const crnn_gru_input *in, const float *h_first,
                          const crnn_gru_own_parts *p);
void crnn_gru_own_backward(crnn_gru_own *l, const float *dhs, const float *hs, const float *h_first,
                           const crnn_gru_own_parts *p);

/* gru_own_products.c: what is one product over all time steps. */
void crnn_gru_own_prepare(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *p);
void crnn_gru_own_project(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *p);
void crnn_gru_own_gradients_of(crnn_gru_own *l, float *din, const crnn_gru_own_parts *d, const float *hs,
                               const crnn_gru_input *in, const float *h_first, const crnn_gru_own_parts *p);

#endif
