/* gru_own.c - our own recurrent layers as ways of computing a layer: memory, weights in and out, and what follows on what. */
#include "kernels/cuda/gru_own.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef crnn_gru_own layer;
typedef crnn_gru_own_parts parts;

static int64_t layer_params(const crnn_gru *g)
{
    return 3 * (int64_t)g->s.H * ((int64_t)g->s.I + g->s.H + 2);
}

/* A table is worth its V rows when a step looks up more, and for a layer that only reads, where it lasts, up to 64 MiB. */
static bool folds(const crnn_gru_shape *s)
{
    return s->V > 0 && (s->V <= (int64_t)s->T * s->B || (!s->training && (int64_t)s->V * s->H <= (1 << 24) / 3));
}

static void layer_free(crnn_gru *g)
{
    layer *l = crnn_gru_own_of(g);
    void *owned[] = {l->keep, l->hp,  l->back, l->dh,  l->x,        l->table,   l->dtable,
                     l->R16,  l->h16, l->x16,  l->K16, l->space[0], l->space[1]};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        crnn_cuda_free(&g->cuda->base, owned[i]);
    free(l);
}

/* Time steps of a span: all, or as many as fit into what a layer may keep, shared out evenly. */
static int64_t span_of(const crnn_gru_shape *s, bool folded, double gate_bytes)
{
    double row = 4.0 * sizeof(float) * s->B * s->H, T = s->T;
    if ((!s->training && folded) || row * (T + 1) <= gate_bytes)
        return s->T;
    double anew = s->training ? row + 3.0 * sizeof(float) * s->B * s->H : row, fit = gate_bytes / anew - 1;
    int64_t spans = fit > 1 ? (int64_t)ceil(T / fit) : s->T;
    return (s->T + spans - 1) / spans;
}

static void make_narrow_memory(layer *l, bool anew)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t B = s->B, H = s->H, S = l->span, halves = crnn_gru_own_halves(l);
    size_t half = sizeof(uint16_t);
    if (!l->folded) {
        l->x16 = crnn_cuda_alloc_items(cuda, halves * S * B, s->I, half);
        l->K16 = crnn_cuda_alloc_items(cuda, halves * s->I, 3 * H, half);
    }
    if (s->training || !l->persistent)
        l->h16 = crnn_cuda_alloc_items(cuda, halves * (s->training ? S + 1 : 2) * B, H, half);
    if (anew || !l->persistent)
        l->R16 = crnn_cuda_alloc_items(cuda, halves * H, 3 * H, half);
}

static void make_memory(layer *l)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t B = s->B, H = s->H, S = l->span;
    bool anew = s->training && crnn_gru_own_in_spans(l);
    size_t item = sizeof(float);
    l->keep = crnn_cuda_alloc_items(cuda, (s->training ? S + 1 : l->folded ? 1 : S) * B, 4 * H, item);
    if (l->folded)
        l->table = crnn_cuda_alloc_items(cuda, s->V, 3 * H, item);
    if (l->folded && s->training)
        l->dtable = crnn_cuda_alloc_items(cuda, s->V, 4 * H, item);
    if (s->V > 0 && s->training)
        crnn_cuda_need_workspace(cuda, crnn_sum_by_token_scratch(S * B, s->V));
    if (s->V > 0 && !l->folded)
        l->x = crnn_cuda_alloc_items(cuda, S * B, s->I, item);
    make_narrow_memory(l, anew);
    int64_t sums = l->persistent ? 0 : crnn_gru_own_halves(l) * crnn_gru_own_pieces(l, H), steps = anew ? S : 0;
    if (anew || !l->persistent)
        l->hp = crnn_cuda_alloc_items(cuda, (steps > sums ? steps : sums) * B, 3 * H, item);
    if (anew || (s->training && !l->persistent))
        l->dh = crnn_cuda_alloc_items(cuda, B, H, item);
    if (s->training && !l->persistent)
        l->back = crnn_cuda_alloc_items(cuda, crnn_gru_own_halves(l) * crnn_gru_own_pieces(l, 3 * H) * B, H, item);
    for (int i = 0; i < crnn_gru_own_passes(l); i++) {
        l->space[i] = crnn_cuda_alloc(&cuda->base, crnn_persist_bytes(&l->plan[i]));
        if (l->space[i])
            crnn_cuda_watch(cuda, crnn_persist_status(l->space[i]),
                            "the blocks of the persistent kernel waited for one another in vain: is the GPU shared "
                            "with other work? use --rnn-algo cudnn");
    }
}

static const crnn_number_format format_of[] = {
    [CRNN_FP32] = CRNN_FORMAT_SPLIT, [CRNN_TF32] = CRNN_FORMAT_FP16, [CRNN_BF16] = CRNN_FORMAT_BF16};

static crnn_persist_exchange exchange_of(const crnn_gru_way *way)
{
    return way == &crnn_gru_persist_cluster ? CRNN_PERSIST_CLUSTER
           : way == &crnn_gru_persist_words ? CRNN_PERSIST_WORDS
                                            : CRNN_PERSIST_FLAGS;
}

/* What follows from the GPU and the shape. */
static void plan_layer(layer *l)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    crnn_persist_gpu gpu = {0};
    struct cudaDeviceProp p;
    if (!crnn_cuda_ok(cuda, cudaGetDeviceProperties(&p, 0)) || !crnn_cuda_ok(cuda, crnn_persist_gpu_of(&gpu, 0)))
        return;
    int64_t gate_bytes = cuda->gate_bytes ? cuda->gate_bytes : (int64_t)(p.totalGlobalMem / 8);
    l->span = span_of(s, l->folded, (double)gate_bytes);
    const crnn_persist_exchange wanted = exchange_of(l->base.way);
    const crnn_persist_wish wish = {.cluster = wanted == CRNN_PERSIST_CLUSTER ? 4 : 0,
                                    .words = wanted == CRNN_PERSIST_WORDS};
    bool some = !l->persistent;
    for (int i = 0; i < crnn_gru_own_passes(l) && !cuda->failure.status; i++) {
        if (!crnn_persist_plan_for(&l->plan[i], i ? CRNN_PERSIST_BACKWARD : CRNN_PERSIST_FORWARD,
                                   crnn_persist_precision_of(cuda->config.precision), s->B, s->H, &gpu, &wish))
            crnn_cuda_failed(cuda, CRNN_ERR_ARGUMENT,
                             "so many units do not fit into this GPU's registers and shared memory; use --rnn-algo "
                             "cudnn or loop");
        some = some || l->plan[i].exchange == wanted;
    }
    if (!some && !cuda->failure.status)
        crnn_cuda_failed(cuda, CRNN_ERR_ARGUMENT,
                         wanted == CRNN_PERSIST_CLUSTER
                             ? "this GPU forms no clusters of blocks that hold this layer (they came with compute "
                               "capability 9.0); use --rnn-algo persist"
                             : "this layer's weights leave no registers for an exchange without flags, or none that "
                               "would be faster; use --rnn-algo persist");
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
    l->persistent = way != &crnn_gru_loop;
    l->format = format_of[cuda->config.precision];
    l->doublings = l->format == CRNN_FORMAT_BF16 ? 0 : CRNN_PERSIST_DOUBLINGS;
    plan_layer(l);
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

static crnn_gru *persist_cluster_make(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    return make(cuda, shape, &crnn_gru_persist_cluster);
}

static crnn_gru *persist_words_make(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    return make(cuda, shape, &crnn_gru_persist_words);
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
    parts p = crnn_gru_own_parts_of(g, block);
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
        parts p = crnn_gru_own_parts_of(g, block);
        memcpy(kernel, p.K, (size_t)(g->s.I * 3 * H) * sizeof *w);
        turn_gates(recurrent, p.R, H, H, true);
        memcpy(bias, p.b0, (size_t)(3 * H) * sizeof *w);
        turn_gates(bias + 3 * H, p.b1, 1, H, true);
    }
    free(block);
}

/* --- forward and backward ---------------------------------------------------------------------------------------------- */

static void layer_prepare(crnn_gru *g, const crnn_gru_input *in, const float *w)
{
    parts p = crnn_gru_own_parts_of(g, w);
    crnn_gru_own_prepare(crnn_gru_own_of(g), in, &p);
}

static crnn_persist_copies layer_copies(const crnn_gru *g, const float *w)
{
    const layer *l = crnn_gru_own_of(g);
    crnn_persist_copies copies = {
        .R = crnn_gru_own_parts_of(g, w).R, .ldr = 3 * (int64_t)g->s.H, .H = g->s.H, .rows = l->R16};
    for (int i = 0; i < crnn_gru_own_passes(l); i++)
        *(i ? &copies.backward : &copies.forward) = crnn_persist_copy_of(&l->plan[i], l->space[i]);
    return copies;
}

static void layer_forward(crnn_gru *g, float *hs, const crnn_gru_input *in, const float *h_first, const float *w)
{
    layer *l = crnn_gru_own_of(g);
    crnn_gru_own_pass pass = {.in = in, .h_first = h_first, .hs = hs, .w = crnn_gru_own_parts_of(g, w)};
    for (; pass.from < g->s.T && !g->cuda->failure.status; pass.from += pass.steps) {
        pass.steps = g->s.T - pass.from < l->span ? g->s.T - pass.from : l->span;
        if (!l->folded)
            crnn_gru_own_project(l, &pass);
        crnn_gru_own_forward(l, &pass);
    }
}

static void layer_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                           const crnn_gru_input *in, const float *h_first, const float *w)
{
    layer *l = crnn_gru_own_of(g);
    crnn_cuda *cuda = g->cuda;
    int64_t T = g->s.T;
    crnn_gru_own_pass pass = {.in = in,
                              .h_first = h_first,
                              .dhs = dhs,
                              .hs = (float *)(uintptr_t)hs, /* which only a forward pass writes */
                              .din = din,
                              .w = crnn_gru_own_parts_of(g, w),
                              .d = crnn_gru_own_parts_of(g, dw)};
    if (l->dh && l->persistent)
        crnn_cuda_ok(cuda, cudaMemsetAsync(l->dh, 0, (size_t)g->s.B * (size_t)g->s.H * sizeof *l->dh, cuda->stream));
    for (pass.from = (T - 1) / l->span * l->span; pass.from >= 0 && !cuda->failure.status; pass.from -= l->span) {
        pass.steps = T - pass.from < l->span ? T - pass.from : l->span;
        if (crnn_gru_own_in_spans(l))
            crnn_gru_own_gates(l, &pass);
        crnn_gru_own_backward(l, &pass);
        crnn_gru_own_gradients_of(l, &pass, pass.from + pass.steps < T);
        if (pass.from)
            crnn_gru_own_flow(l);
    }
    crnn_gru_own_gradients_end(l, &pass);
}

static double layer_flop(const crnn_gru *g, bool backward)
{
    double H3 = 3.0 * g->s.H, n = (double)g->s.T * g->s.B;
    double recurrent = 2.0 * n * g->s.H * H3;
    double input = 2.0 * (crnn_gru_own_of(g)->folded ? (double)g->s.V : n) * g->s.I * H3;
    if (!backward)
        return recurrent + input;
    double again = crnn_gru_own_in_spans(crnn_gru_own_of(g)) ? recurrent + (crnn_gru_own_of(g)->folded ? 0 : input) : 0;
    return again + 2.0 * recurrent - 2.0 * g->s.B * g->s.H * H3 + 2.0 * input; /* nothing flows out through h_first */
}

/* The ways differ in how a layer is made. */
#define WAY(make_it)                                                                                                   \
    {                                                                                                                  \
        .make = make_it, .free = layer_free, .params = layer_params, .pack = layer_pack, .unpack = layer_unpack,       \
        .prepare = layer_prepare, .copies = layer_copies, .forward = layer_forward, .backward = layer_backward,        \
        .flop = layer_flop                                                                                             \
    }
const crnn_gru_way crnn_gru_loop = WAY(loop_make);
const crnn_gru_way crnn_gru_persist = WAY(persist_make);
const crnn_gru_way crnn_gru_persist_cluster = WAY(persist_cluster_make);
const crnn_gru_way crnn_gru_persist_words = WAY(persist_words_make);
