/* gru_own.h - a recurrent layer of our own, in ways that differ in the passage through time alone: as a loop, one product by cuBLASLt and one
 * kernel for the gates at each time step; or by the kernels of gru_persist.h, which stay on the GPU for all of them, with clusters or without.
 *
 * Layout of the weights: K [I,3H] and b0 [3H] with gates z, r, n as in the canonical form; R [H,3H] and b1 [3H] with gates n, z, r. So one
 * row of `keep` serves both: its four parts of H numbers are (n_h, z, r, n) after the forward pass, with n_h = h Rn + b1n, and (dn_h, dz, dr,
 * dn) after the backward pass, where parts 0 to 2 are the gradient at h R + b1 and parts 1 to 3 the one at x K + b0.
 *
 * Everything beside the passage is a product over all time steps at once, in one format of numbers: floats, or the 16 bits that the passage
 * computes in itself (K and inputs then have the range of R and the states, gru_persist.h). Then the gates' gradients leave the passage in
 * that format, and stand in keep in the place of the gates.
 *
 * Gates take 4 T B H floats. Where that is more than a layer may keep (crnn_cuda.gate_bytes), time is cut into spans that do fit: the forward
 * pass keeps nothing but the states, and the backward pass, span by span from the last, first computes a span's gates anew, all of them in one
 * product of the states before them. The rule depends on the GPU and on the shape alone, so a run goes on with the same bits.
 *
 * Characters as input: x K + b0 takes one of V values, so where that is less work a table [V,3H] of them is made ("folded"), the forward
 * pass looks rows up, and the backward pass sums gradients by character before its products; the biases' are sums of those.
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
    int64_t span; /* S, time steps whose gates are kept; the last span may be shorter */
    float *keep;  /* [S+1,B,4H]: gates of t at t, their gradients at t + 1; only reading [S,B,4H], folded [B,4H] */
    float *hp;    /* h R: [B,3H] of one time step in the loop; [S,B,3H] where gates are computed anew */
    float *back,
        *dh;  /* [B,H] what comes back through R, in the loop; what comes back past z, there and from span to span */
    float *x; /* [S,B,I] embedded input, where characters are not folded */
    float *table;  /* [V,3H] */
    float *dtable; /* [V,4H] by character, the sums of the gates' gradients (dn_h, dz, dr, dn) */
    uint16_t *R16; /* R in the format; of the loop, and where gates are computed anew */
    uint16_t *
        h16; /* in the format: the states before each time step of a span and the last, [S+1,B,H]; only reading [2,B,H] */
    uint16_t *x16, *K16; /* the input and K in the format, where it has 16 bits and characters are not folded */
} crnn_gru_own;

typedef struct {
    float *K, *R, *b0, *b1;
} crnn_gru_own_parts;

/* A forward or a backward pass, and the span that it has come to. */
typedef struct {
    const crnn_gru_input *in;
    const float *h_first, *dhs;
    float *hs, *din;
    crnn_gru_own_parts w, d;
    int64_t from, steps;
} crnn_gru_own_pass;

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
/* Whether the backward pass computes gates anew. */
static inline bool crnn_gru_own_in_spans(const crnn_gru_own *l)
{
    return l->span < l->base.s.T;
}
/* The states before the span's first time step. */
static inline const float *crnn_gru_own_h_before(const crnn_gru_own *l, const crnn_gru_own_pass *pass)
{
    return pass->from ? pass->hs + (pass->from - 1) * l->base.s.B * l->base.s.H : pass->h_first;
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
/* Where the gradients of the span's time step t stand, 4 or in 16 bits 8 items of H a row. */
static inline void *crnn_gru_own_gradients(const crnn_gru_own *l, int64_t t)
{
    return l->keep + (t + 1) * l->base.s.B * 4 * l->base.s.H;
}

/* gru_own_time.c: the passage through one span. x K + b0 stands in the table, or in parts 1 to 3 of keep. */
void crnn_gru_own_forward(crnn_gru_own *l, const crnn_gru_own_pass *pass);
void crnn_gru_own_backward(crnn_gru_own *l, const crnn_gru_own_pass *pass);

/* gru_own_products.c: what is one product over all time steps of a span, and what is one for all of them. */
void crnn_gru_own_prepare(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *w);
void crnn_gru_own_project(crnn_gru_own *l, const crnn_gru_own_pass *pass);
/* Gates of a span whose states are known, into keep. */
void crnn_gru_own_gates(crnn_gru_own *l, const crnn_gru_own_pass *pass);
/* Of a span whose gates have become gradients; begun: these are added to those of later spans. */
void crnn_gru_own_gradients_of(crnn_gru_own *l, const crnn_gru_own_pass *pass, bool begun);
/* What flows into the span before; after the last of them, what is left to do. */
void crnn_gru_own_flow(crnn_gru_own *l, const crnn_gru_own_pass *pass);
void crnn_gru_own_gradients_end(crnn_gru_own *l, const crnn_gru_own_pass *pass);

#endif
