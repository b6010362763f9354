/* gru_loop.c - a recurrent layer of our own, in two ways that differ in the passage through time alone: as a loop, one product by cuBLASLt and
 * one kernel for the gates at each time step; or by the kernels of gru_persist.h, which stay on the GPU for all of them.
 *
 * Layout of the weights: K [I,3H] and b0 [3H] with gates z, r, n as in the canonical form; R [H,3H] and b1 [3H] with gates n, z, r. So one
 * row of `keep` serves both: its four parts of H floats are (n_h, z, r, n) after the forward pass, with n_h = h Rn + b1n, and
 * (dn_h, dz, dr, dn) after the backward pass, where parts 0 to 2 are the gradient at h R + b1 and parts 1 to 3 the one at x K + b0.
 *
 * Characters as input: x K + b0 takes one of V values, so where that is less work a table [V,3H] of them is made ("folded"), the forward
 * pass looks rows up, and the backward pass sums gradients by character before its products.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gru_persist.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    crnn_gru base;
    bool folded, bf16;
    bool persistent; /* passes by plan[] in space[], forward and backward */
    crnn_persist_plan plan[2];
    void *space[2];
    float *keep;           /* [T,B,4H]; [B,4H] where nothing need be kept */
    float *hp;             /* [B,3H] h R of one time step; backward: [B,H] what comes back through R */
    float *dh;             /* [B,H] what comes back past z */
    float *x;              /* [T,B,I] embedded input, where characters are not folded */
    float *table, *dtable; /* [V,3H] */
    uint16_t *R16, *h16;   /* in bf16: R; h_first and the states after it, [T + 1 or 2, B, H] */
    uint16_t *d16;         /* in bf16: [T,B,3H], parts 0 to 2 of keep after the backward pass */
} layer;

typedef struct {
    float *K, *R, *b0, *b1;
} parts;

static layer *layer_of(const crnn_gru *g)
{
    return (layer *)(uintptr_t)g;
}

static parts parts_of(const crnn_gru *g, const float *w)
{
    int64_t H3 = 3 * (int64_t)g->s.H;
    float *K = (float *)(uintptr_t)w, *R = K + g->s.I * H3, *b0 = R + g->s.H * H3;
    return (parts){K, R, b0, b0 + H3};
}

static int64_t layer_params(const crnn_gru *g)
{
    return 3 * (int64_t)g->s.H * ((int64_t)g->s.I + g->s.H + 2);
}

/* A table is worth its V rows when a step looks up more, and for a layer that only reads, where it lasts, up to 64 MiB. */
static bool folds(const crnn_gru_shape *s)
{
    return s->V > 0 && (s->V <= (int64_t)s->T * s->B || (!s->training && (int64_t)s->V * s->H <= (1 << 24) / 3));
}

/* The state before time step t, and how many of them there are room for: all, or the last and the next. */
static uint16_t *h16_at(const layer *l, int64_t t)
{
    int64_t slot = l->base.s.training ? t : t % 2;
    return l->h16 + slot * l->base.s.B * l->base.s.H;
}

/* How many passes persistent kernels make. */
static int passes(const layer *l)
{
    return !l->persistent ? 0 : l->base.s.training ? 2 : 1;
}

static void layer_free(crnn_gru *g)
{
    layer *l = layer_of(g);
    void *owned[] = {l->keep, l->hp,  l->dh,  l->x,        l->table,   l->dtable,
                     l->R16,  l->h16, l->d16, l->space[0], l->space[1]};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        crnn_cuda_free(&g->cuda->base, owned[i]);
    free(l);
}

static void make_memory(layer *l)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t B = s->B, H = s->H, n = s->T * B;
    size_t item = sizeof(float), half = sizeof(uint16_t);
    l->keep = crnn_cuda_alloc_items(cuda, s->training || !l->folded ? n : B, 4 * H, item);
    l->hp = crnn_cuda_alloc_items(cuda, B, 3 * H, item);
    if (s->training)
        l->dh = crnn_cuda_alloc_items(cuda, B, H, item);
    if (l->folded)
        l->table = crnn_cuda_alloc_items(cuda, s->V, 3 * H, item);
    if (l->folded && s->training)
        l->dtable = crnn_cuda_alloc_items(cuda, s->V, 3 * H, item);
    if (s->V > 0 && !l->folded)
        l->x = crnn_cuda_alloc_items(cuda, n, s->I, item);
    for (int i = 0; i < passes(l); i++) {
        l->space[i] = crnn_cuda_alloc(&cuda->base, crnn_persist_bytes(&l->plan[i]));
        if (l->space[i])
            crnn_cuda_watch(cuda, crnn_persist_status(l->space[i]),
                            "the blocks of the persistent kernel waited for one another in vain: is the GPU shared "
                            "with other work? use --rnn-algo cudnn");
    }
    if (!l->bf16)
        return;
    l->R16 = crnn_cuda_alloc_items(cuda, H, 3 * H, half);
    l->h16 = crnn_cuda_alloc_items(cuda, (s->training ? s->T + 1 : 2) * B, H, half);
    if (s->training)
        l->d16 = crnn_cuda_alloc_items(cuda, n, 3 * H, half);
}

static const crnn_persist_precision persist_precision[] = {
    [CRNN_FP32] = CRNN_PERSIST_SPLIT, [CRNN_TF32] = CRNN_PERSIST_FP16, [CRNN_BF16] = CRNN_PERSIST_BF16};

static void plan_passes(layer *l)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    struct cudaDeviceProp p;
    if (!crnn_cuda_ok(cuda, cudaGetDeviceProperties(&p, 0)))
        return;
    crnn_persist_gpu gpu = {p.multiProcessorCount, (int32_t)p.sharedMemPerBlockOptin, p.major};
    for (int i = 0; i < passes(l) && !cuda->failure.status; i++)
        if (!crnn_persist_plan_for(&l->plan[i], i ? CRNN_PERSIST_BACKWARD : CRNN_PERSIST_FORWARD,
                                   persist_precision[cuda->config.precision], s->B, s->H, &gpu, 0, 0))
            crnn_cuda_failed(cuda, CRNN_ERR_ARGUMENT,
                             "so many units do not fit into this GPU's registers and shared memory; use --rnn-algo "
                             "cudnn or loop");
}

static crnn_gru *make(crnn_cuda *cuda, const crnn_gru_shape *shape, const crnn_gru_way *way)
{
    layer *l = calloc(1, sizeof *l);
    if (!l) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of memory");
        return NULL;
    }
    l->base = (crnn_gru){.way = way, .cuda = cuda, .s = *shape};
    l->folded = folds(shape);
    l->persistent = way == &crnn_gru_persist;
    l->bf16 = !l->persistent && cuda->config.precision == CRNN_BF16;
    plan_passes(l);
    if (!cuda->failure.status)
        make_memory(l);
    if (!cuda->failure.status)
        return &l->base;
    layer_free(&l->base);
    return NULL;
}

static crnn_gru *loop_make(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    return make(cuda, shape, &crnn_gru_loop);
}

static crnn_gru *persist_make(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    return make(cuda, shape, &crnn_gru_persist);
}

/* --- canonical weights in and out ------------------------------------------------------------------------------------ */

/* Gates z, r, n to n, z, r, or back, row by row, on the host. */
static void turn_gates(float *to, const float *from, int64_t rows, int64_t H, bool back)
{
    size_t one = (size_t)H * sizeof *to, two = 2 * one;
    for (int64_t i = 0; i < rows; i++, to += 3 * H, from += 3 * H) {
        memcpy(back ? to + 2 * H : to, back ? from : from + 2 * H, one);
        memcpy(back ? to : to + H, back ? from + H : from, two);
    }
}

static float *host_block(const crnn_gru *g)
{
    float *block = malloc((size_t)layer_params(g) * sizeof *block);
    if (!block)
        crnn_cuda_failed(g->cuda, CRNN_ERR_MEMORY, "out of host memory");
    return block;
}

static void layer_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias)
{
    crnn_backend *be = &g->cuda->base;
    int64_t H = g->s.H;
    float *block = host_block(g);
    if (!block)
        return;
    parts p = parts_of(g, block);
    memcpy(p.K, kernel, (size_t)(g->s.I * 3 * H) * sizeof *w);
    turn_gates(p.R, recurrent, H, H, false);
    memcpy(p.b0, bias, (size_t)(3 * H) * sizeof *w);
    turn_gates(p.b1, bias + 3 * H, 1, H, false);
    be->ops->upload(be, w, block, (size_t)layer_params(g) * sizeof *w);
    free(block);
}

static void layer_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w)
{
    crnn_backend *be = &g->cuda->base;
    int64_t H = g->s.H;
    float *block = host_block(g);
    if (!block)
        return;
    be->ops->download(be, block, w, (size_t)layer_params(g) * sizeof *w);
    if (!g->cuda->failure.status) {
        parts p = parts_of(g, block);
        memcpy(kernel, p.K, (size_t)(g->s.I * 3 * H) * sizeof *w);
        turn_gates(recurrent, p.R, H, H, true);
        memcpy(bias, p.b0, (size_t)(3 * H) * sizeof *w);
        turn_gates(bias + 3 * H, p.b1, 1, H, true);
    }
    free(block);
}

/* --- forward --------------------------------------------------------------------------------------------------------- */

static void layer_prepare(crnn_gru *g, const crnn_gru_input *in, const float *w)
{
    layer *l = layer_of(g);
    crnn_cuda *cuda = g->cuda;
    int64_t H = g->s.H, H3 = 3 * H;
    parts p = parts_of(g, w);
    if (l->folded)
        crnn_cuda_multiply(
            cuda, &(crnn_cuda_product_shape){.M = g->s.V, .N = H3, .K = g->s.I, .lda = g->s.I, .ldb = H3, .ldc = H3},
            l->table, in->embeddings, p.K, p.b0);
    if (l->bf16 && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_to_bf16(l->R16, p.R, H * H3, cuda->stream));
    for (int i = 0; i < passes(l) && !cuda->failure.status; i++)
        crnn_cuda_ok(cuda, crnn_persist_pack(&l->plan[i], l->space[i], p.R, H3, cuda->stream));
}

/* Parts 1 to 3 of keep become x K + b0. */
static void project(layer *l, const crnn_gru_input *in, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = (int64_t)s->T * s->B, H3 = 3 * (int64_t)s->H;
    if (l->x)
        crnn_cuda_ok(cuda, crnn_launch_embed(l->x, in->tokens, in->embeddings, n, s->I, cuda->stream));
    crnn_cuda_multiply(
        cuda, &(crnn_cuda_product_shape){.M = n, .N = H3, .K = s->I, .lda = s->I, .ldb = H3, .ldc = 4 * (int64_t)s->H},
        l->keep + s->H, l->x ? l->x : in->x, p->K, p->b0);
}

static void forward_persistent(layer *l, float *hs, const crnn_gru_input *in, const float *h_first, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t H = s->H;
    bool kept = s->training || !l->folded;
    crnn_persist_forward pass = {.workspace = l->space[0],
                                 .hs = hs,
                                 .keep = kept ? l->keep : NULL,
                                 .h_first = h_first,
                                 .b1 = p->b1,
                                 .ldk = 4 * H,
                                 .T = s->T};
    pass.xp = l->folded ? l->table : l->keep + H;
    pass.ldx = l->folded ? 3 * H : 4 * H;
    pass.tokens = l->folded ? in->tokens : NULL;
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_persist_launch_forward(&l->plan[0], &pass, cuda->stream));
}

static void layer_forward(crnn_gru *g, float *hs, const crnn_gru_input *in, const float *h_first, const float *w)
{
    layer *l = layer_of(g);
    crnn_cuda *cuda = g->cuda;
    int64_t T = g->s.T, B = g->s.B, H = g->s.H, H3 = 3 * H;
    parts p = parts_of(g, w);
    bool whole = g->s.training || !l->folded;
    crnn_cuda_product_shape step = {.M = B, .N = H3, .K = H, .lda = H, .ldb = H3, .ldc = H3, .bf16 = l->bf16};
    if (!l->folded)
        project(l, in, &p);
    if (l->persistent) {
        forward_persistent(l, hs, in, h_first, &p);
        return;
    }
    if (l->bf16 && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_to_bf16(h16_at(l, 0), h_first, B * H, cuda->stream));
    for (int64_t t = 0; t < T && !cuda->failure.status; t++) {
        const float *h_prev = t ? hs + (t - 1) * B * H : h_first;
        float *keep = l->keep + (whole ? t * B * 4 * H : 0);
        crnn_gates gates = {.h = hs + t * B * H,
                            .h16 = l->bf16 ? h16_at(l, t + 1) : NULL,
                            .keep = keep,
                            .hp = l->hp,
                            .b1 = p.b1,
                            .h_prev = h_prev,
                            .ldk = 4 * H,
                            .B = g->s.B,
                            .H = g->s.H};
        gates.xp = l->folded ? l->table : keep + H;
        gates.ldx = l->folded ? H3 : 4 * H;
        gates.tokens = l->folded ? in->tokens + t * B : NULL;
        crnn_cuda_multiply(cuda, &step, l->hp, l->bf16 ? (const void *)h16_at(l, t) : h_prev,
                           l->bf16 ? (const void *)l->R16 : p.R, NULL);
        crnn_cuda_ok(cuda, crnn_launch_gates(&gates, cuda->stream));
    }
}

/* --- backward -------------------------------------------------------------------------------------------------------- */

/* keep turns from gates into gradients, from the last time step to the first. */
static void back_persistent(layer *l, const float *dhs, const float *hs, const float *h_first)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    crnn_persist_backward pass = {.workspace = l->space[1],
                                  .keep = l->keep,
                                  .dhs = dhs,
                                  .hs = hs,
                                  .h_first = h_first,
                                  .ldk = 4 * (int64_t)s->H,
                                  .T = s->T};
    pass.scale = crnn_persist_scale(l->plan[1].precision, (int64_t)s->T * s->B);
    crnn_cuda_ok(cuda, crnn_persist_launch_backward(&l->plan[1], &pass, cuda->stream));
}

static void back_through_time(layer *l, const float *dhs, const float *hs, const float *h_first, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t T = l->base.s.T, B = l->base.s.B, H = l->base.s.H, H3 = 3 * H;
    crnn_cuda_product_shape step = {.M = B,
                                    .N = H,
                                    .K = H3,
                                    .lda = l->bf16 ? H3 : 4 * H,
                                    .ldb = H3,
                                    .ldc = H,
                                    .transpose_b = true,
                                    .bf16 = l->bf16};
    for (int64_t t = T - 1; t >= 0 && !cuda->failure.status; t--) {
        float *keep = l->keep + t * B * 4 * H;
        uint16_t *d16 = l->bf16 ? l->d16 + t * B * H3 : NULL;
        crnn_gates_backward gates = {.dh = l->dh,
                                     .keep = keep,
                                     .d16 = d16,
                                     .back = l->hp,
                                     .dhs = dhs + t * B * H,
                                     .h_prev = t ? hs + (t - 1) * B * H : h_first,
                                     .last = t == T - 1,
                                     .ldk = 4 * H,
                                     .B = l->base.s.B,
                                     .H = l->base.s.H};
        crnn_cuda_ok(cuda, crnn_launch_gates_backward(&gates, cuda->stream));
        if (t)
            crnn_cuda_multiply(cuda, &step, l->hp, l->bf16 ? (const void *)d16 : keep,
                               l->bf16 ? (const void *)l->R16 : p->R, NULL);
    }
}

/* dR = h_first' d_0 + the states' rows before the last, times those of d after the first. */
static void recurrent_gradient(layer *l, float *dR, const float *hs, const float *h_first)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t B = l->base.s.B, H = l->base.s.H, H3 = 3 * H, later = (l->base.s.T - 1) * B;
    crnn_cuda_product_shape shape = {
        .M = H, .N = H3, .lda = H, .ldb = l->bf16 ? H3 : 4 * H, .ldc = H3, .transpose_a = true, .bf16 = l->bf16};
    if (l->bf16) { /* where h_first and the states lie one after the other */
        shape.K = later + B;
        crnn_cuda_multiply(cuda, &shape, dR, l->h16, l->d16, NULL);
        return;
    }
    shape.K = B;
    crnn_cuda_multiply(cuda, &shape, dR, h_first, l->keep, NULL);
    shape.K = later;
    shape.accumulate = true;
    if (later)
        crnn_cuda_multiply(cuda, &shape, dR, hs, l->keep + B * 4 * H, NULL);
}

/* Of the input's side, from parts 1 to 3 of keep: K, b0, and the input itself. */
static void folded_gradients(layer *l, float *din, const parts *d, const crnn_gru_input *in, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t H = s->H, H3 = 3 * H, I = s->I, V = s->V;
    crnn_cuda_product_shape dK = {.M = I, .N = H3, .K = V, .lda = I, .ldb = H3, .ldc = H3, .transpose_a = true};
    crnn_cuda_product_shape dE = {.M = V, .N = I, .K = H3, .lda = H3, .ldb = H3, .ldc = I, .transpose_b = true};
    crnn_cuda_ok(cuda, crnn_launch_sum_by_token(l->dtable, l->keep + H, 4 * H, in->tokens, (int64_t)s->T * s->B, s->V,
                                                (int32_t)H3, cuda->stream));
    crnn_cuda_multiply(cuda, &dK, d->K, in->embeddings, l->dtable, NULL);
    crnn_cuda_multiply(cuda, &dE, din, l->dtable, p->K, NULL);
    crnn_cuda_ok(cuda, crnn_launch_column_sums(d->b0, l->dtable, H3, V, (int32_t)H3, cuda->stream));
}

static void input_gradients(layer *l, float *din, const parts *d, const crnn_gru_input *in, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = (int64_t)s->T * s->B, H = s->H, H3 = 3 * H, I = s->I;
    const float *gx = l->keep + H;
    crnn_cuda_product_shape dK = {.M = I, .N = H3, .K = n, .lda = I, .ldb = 4 * H, .ldc = H3, .transpose_a = true};
    crnn_cuda_product_shape dX = {.M = n, .N = I, .K = H3, .lda = 4 * H, .ldb = H3, .ldc = I, .transpose_b = true};
    crnn_cuda_multiply(cuda, &dK, d->K, l->x ? l->x : in->x, gx, NULL);
    crnn_cuda_ok(cuda, crnn_launch_column_sums(d->b0, gx, 4 * H, n, (int32_t)H3, cuda->stream));
    float *dx = l->x ? l->x : din; /* the embedded input is of no further use */
    if (dx)
        crnn_cuda_multiply(cuda, &dX, dx, gx, p->K, NULL);
    if (l->x && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_sum_by_token(din, dx, I, in->tokens, n, s->V, s->I, cuda->stream));
}

static void layer_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                           const crnn_gru_input *in, const float *h_first, const float *w)
{
    layer *l = layer_of(g);
    crnn_cuda *cuda = g->cuda;
    int64_t n = (int64_t)g->s.T * g->s.B;
    parts p = parts_of(g, w), d = parts_of(g, dw);
    if (l->persistent)
        back_persistent(l, dhs, hs, h_first);
    else
        back_through_time(l, dhs, hs, h_first, &p);
    recurrent_gradient(l, d.R, hs, h_first);
    if (cuda->failure.status)
        return;
    crnn_cuda_ok(cuda, crnn_launch_column_sums(d.b1, l->keep, 4 * (int64_t)g->s.H, n, 3 * g->s.H, cuda->stream));
    if (l->folded)
        folded_gradients(l, din, &d, in, &p);
    else
        input_gradients(l, din, &d, in, &p);
}

static double layer_flop(const crnn_gru *g, bool backward)
{
    double H3 = 3.0 * g->s.H, n = (double)g->s.T * g->s.B;
    double recurrent = 2.0 * n * g->s.H * H3;
    double input = 2.0 * (layer_of(g)->folded ? (double)g->s.V : n) * g->s.I * H3;
    if (!backward)
        return recurrent + input;
    return 2.0 * recurrent - 2.0 * g->s.B * g->s.H * H3 + 2.0 * input; /* nothing flows out through h_first */
}

const crnn_gru_way crnn_gru_loop = {
    .make = loop_make,
    .free = layer_free,
    .params = layer_params,
    .pack = layer_pack,
    .unpack = layer_unpack,
    .prepare = layer_prepare,
    .forward = layer_forward,
    .backward = layer_backward,
    .flop = layer_flop,
};

const crnn_gru_way crnn_gru_persist = {
    .make = persist_make,
    .free = layer_free,
    .params = layer_params,
    .pack = layer_pack,
    .unpack = layer_unpack,
    .prepare = layer_prepare,
    .forward = layer_forward,
    .backward = layer_backward,
    .flop = layer_flop,
};
