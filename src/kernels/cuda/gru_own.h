/* gru_own.h - a recurrent layer of our own, in ways that differ in the passage through time alone: as a loop, one product by cuBLASLt and one
 * kernel for the gates at each time step; or by the kernels of gru_persist.h, which stay on the GPU for all of them, with flags, in clusters or by words.
 *
 * Layout of the weights: K [I,3H] and b0 [3H] with gates z, r, n as in the canonical form; R [H,3H] and b1 [3H] with gates n, z, r. So one
 * row of `keep` serves both: its four parts of H numbers are (n_h, z, r, n) after the forward pass, with n_h = h Rn + b1n, and (dn_h, dz, dr,
 * dn) after the backward pass, where parts 0 to 2 are the gradient at h R + b1 and parts 1 to 3 the one at x K + b0.
 *
 * Both multiply numbers of 16 bits, bf16, fp16 for tf32, or pairs of fp16 for fp32; ranges and doublings are those of gru_persist.h. Everything
 * beside the passage is a product over all time steps at once in the same format (so K and inputs have the range of R and the states). The gates'
 * gradients leave the passage in that format, and stand in keep in the place of the gates, one time step later.
 *
 * A product of the loop in pairs is two products of fp16: high and low parts, which lie side by side and so are rows of one matrix, times
 * the high part of R; and high parts times the low one, added to what is small. So each part of R is read once. K is cut into pieces of
 * crnn_cuda.longest_sum that are products side by side; the kernel of the gates adds up all that was left apart.
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
    crnn_number_format format; /* of 16 bits: of the factors of all products but the table's */
    int32_t doublings;         /* of states, inputs and weights in that format */
    crnn_persist_plan plan[2];
    void *space[2];
    int64_t span; /* S, time steps whose gates are kept; the last span may be shorter */
    float *keep;  /* [S+1,B,4H]: gates of t at t, their gradients at t + 1; only reading [S,B,4H], folded [B,4H] */
    float *hp;    /* h R: of a time step in the loop, in parts to be added up; [S,B,3H] where gates are computed anew */
    float *back;  /* in the loop: what comes back through R, in such parts too */
    float *dh;    /* [B,H] what comes back past z, there and from span to span */
    float *x;     /* [S,B,I] embedded input, where characters are not folded */
    float *table; /* [V,3H] */
    float *dtable;       /* [V,4H] by character, the sums of the gates' gradients (dn_h, dz, dr, dn) */
    uint16_t *R16;       /* R in the format, which updates write; of the loop, and where gates are computed anew */
    uint16_t *h16;       /* the span's states in the format, S+1 of them; in a loop that only reads, 2 */
    uint16_t *x16, *K16; /* the input and K in the format, where characters are not folded */
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
/* Numbers of 16 bits for each value in the format. */
static inline int32_t crnn_gru_own_halves(const crnn_gru_own *l)
{
    return l->format == CRNN_FORMAT_SPLIT ? 2 : 1;
}
/* How many passes persistent kernels make. */
static inline int crnn_gru_own_passes(const crnn_gru_own *l)
{
    return !l->persistent ? 0 : l->base.s.training ? 2 : 1;
}
/* What is written as rows without gaps. */
static inline crnn_narrow crnn_gru_own_dense(const crnn_gru_own *l, uint16_t *to, int64_t rows, int64_t columns)
{
    return (crnn_narrow){to, columns, rows * columns, l->format, l->doublings};
}
/* The gates' gradients of the span's time steps from t on, [.,4H]. */
static inline crnn_narrow crnn_gru_own_gradients(const crnn_gru_own *l, int64_t t)
{
    int64_t H = l->base.s.H;
    uint16_t *at = (uint16_t *)(l->keep + (t + 1) * l->base.s.B * 4 * H);
    return (crnn_narrow){at, 8 * H, 4 * H, l->format,
                         crnn_persist_doublings(crnn_persist_precision_of(l->base.cuda->config.precision),
                                                (int64_t)l->base.s.T * l->base.s.B)};
}
/* The states before the time steps from t on of a span of so many. The loop, which multiplies them as they come, has both parts of a row side
 * by side; persistent kernels have all high parts first. */
static inline crnn_narrow crnn_gru_own_states(const crnn_gru_own *l, int64_t t, int64_t steps)
{
    int64_t H = l->base.s.H, row = t * l->base.s.B;
    if (l->persistent)
        return (crnn_narrow){l->h16 + row * H, H, (steps + 1) * l->base.s.B * H, l->format, l->doublings};
    int64_t ld = crnn_gru_own_halves(l) * H;
    return (crnn_narrow){l->h16 + row * ld, ld, H, l->format, l->doublings};
}
static inline crnn_matrix crnn_gru_own_read(crnn_narrow m)
{
    return (crnn_matrix){m.at, m.ld, m.low, m.format, m.doublings};
}
/* How many pieces of K a product of the loop is cut into: that many [B,halves,columns] are yet to be added up. */
static inline int32_t crnn_gru_own_pieces(const crnn_gru_own *l, int64_t K)
{
    int64_t longest = l->base.cuda->longest_sum ? l->base.cuda->longest_sum : CRNN_LONGEST_SUM;
    return l->format == CRNN_FORMAT_SPLIT ? (int32_t)((K + longest - 1) / longest) : 1;
}

/* gru_own_time.c: the passage through one span. x K + b0 stands in the table, or in parts 1 to 3 of keep. */
void crnn_gru_own_forward(crnn_gru_own *l, const crnn_gru_own_pass *pass);
void crnn_gru_own_backward(crnn_gru_own *l, const crnn_gru_own_pass *pass);

/* gru_own_products.c: what is one product over all time steps of a span, and what is one for all of them. */
void crnn_gru_own_prepare(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *w);
/* Of one time step, for the loop: the states times R, or the gates' gradients (n, z, r) times R transposed, in parts. */
void crnn_gru_own_step(crnn_gru_own *l, float *sums, crnn_narrow from, bool back);
void crnn_gru_own_project(crnn_gru_own *l, const crnn_gru_own_pass *pass);
/* Gates of a span whose states are known, into keep. */
void crnn_gru_own_gates(crnn_gru_own *l, const crnn_gru_own_pass *pass);
/* Of a span whose gates have become gradients; begun: these are added to those of later spans. */
void crnn_gru_own_gradients_of(crnn_gru_own *l, const crnn_gru_own_pass *pass, bool begun);
/* What flows into the span before; after the last of them, what is left to do. */
void crnn_gru_own_flow(crnn_gru_own *l);
void crnn_gru_own_gradients_end(crnn_gru_own *l, const crnn_gru_own_pass *pass);

#endif
