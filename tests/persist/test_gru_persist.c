/* The persistent kernels give what plain loops in float64 give, on shapes that no tile divides and in whatever order the blocks run. */
#include "support/cmocka.h"

#include "kernels/cuda/gru_persist.h"
#include "kernels/cuda/kernels.h"
#include <cusim_control.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const crnn_persist_gpu small_gpu = {.sms = 20, .shared = 101376, .compute_major = 8};
static const crnn_persist_gpu with_clusters = {.sms = 20, .shared = 232448, .compute_major = 9, .clusters = {10, 5}};

/* How far the largest error may be from the largest value. A product of H numbers w h, both rounded to p bits, is off by about
   sqrt(H) |w| |h| 2^-p, and the gates pass that on at a slope below one; with |w| < 0.5, |h| < 1 and H <= 150 that is below 4 * 2^-p; five
   steps add up, and the largest of some thousand errors is four times a usual one. Split: 22 bits, but sums and gates in float32. */
static const double tolerance[CRNN_PERSIST_PRECISIONS] = {
    [CRNN_PERSIST_BF16] = 8 * 0x1p-8, [CRNN_PERSIST_FP16] = 8 * 0x1p-11, [CRNN_PERSIST_SPLIT] = 64 * 0x1p-24};
static const char *const names[CRNN_PERSIST_PRECISIONS] = {"bf16", "fp16", "split"};

/* Polls for a word: now and then one is long under way. One that is missing for good is to be noticed soon. */
enum { WORDS_PATIENCE = 3000 };

static void ok(cudaError_t e)
{
    assert_string_equal(cudaGetErrorName(e), "cudaSuccess");
}
static void *device(const void *from, size_t bytes)
{
    void *p = NULL;
    ok(cudaMalloc(&p, bytes));
    ok(from ? cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice) : cudaMemset(p, 0, bytes));
    return p;
}
static void take(void *to, const void *from, size_t bytes)
{
    ok(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

/* Numbers in [-limit, limit), the same in every run. */
static uint64_t draws;
static float draw(double limit)
{
    draws = draws * 6364136223846793005ULL + 1442695040888963407ULL;
    return (float)(limit * ((double)(draws >> 40) / (1 << 23) - 1));
}
static float *drawn(int64_t n, double limit)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = draw(limit);
    return x;
}

/* ---- a layer's pass, its inputs, and what plain loops make of them */
typedef struct {
    int B, H, T, V;            /* V > 0: input by characters */
    int groups, tiles;         /* 0: the plan's choice */
    int cluster;               /* of so many blocks; 1: none, on a GPU that has them */
    bool one_buffer;           /* even if there is room for two */
    bool far;                  /* weights in shared memory where the plan would have them in registers */
    bool in_place, wide_pitch; /* xp lies in keep; rows have room between them */
    bool apart;                /* gradients do not go to keep */
    bool words, as_words;      /* without flags; with flags, but shared out so */
    int back_tiles;            /* backward, if other than tiles */
    int resident[2], steps[2]; /* forward and backward; 0: the plan's choice */
} shape;
typedef struct {
    shape s;
    int64_t ldk, ldx, ldr;
    float *R, *b1, *xp, *h_first, *dhs;
    uint16_t *tokens;
    double *hs, *keep, *back; /* [T,B,H], [T,B,4H] forward and backward */
} layer;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static void forward_reference(layer *l)
{
    int B = l->s.B, H = l->s.H;
    for (int64_t i = 0; i < (int64_t)l->s.T * B; i++) {
        int64_t row = l->tokens ? l->tokens[i] : i;
        const float *xp = l->xp + row * l->ldx;
        double *keep = l->keep + i * 4 * H;
        for (int j = 0; j < H; j++) {
            double a[3];
            for (int g = 0; g < 3; g++) {
                a[g] = l->b1[g * H + j];
                for (int k = 0; k < H; k++)
                    a[g] += (i < B ? l->h_first[i * H + k] : l->hs[(i - B) * H + k]) * l->R[k * l->ldr + g * H + j];
            }
            double h = i < B ? l->h_first[i * H + j] : l->hs[(i - B) * H + j];
            double z = sigmoid(xp[j] + a[1]), r = sigmoid(xp[H + j] + a[2]), n = tanh(xp[2 * H + j] + r * a[0]);
            double all[4] = {a[0], z, r, n};
            for (int g = 0; g < 4; g++)
                keep[g * H + j] = all[g];
            l->hs[i * H + j] = z * h + (1 - z) * n;
        }
    }
}
static void backward_reference(layer *l)
{
    int B = l->s.B, H = l->s.H;
    double *carry = calloc((size_t)(B * H), sizeof *carry);
    for (int64_t i = (int64_t)l->s.T * B - 1; i >= 0; i--) {
        const double *keep = l->keep + i * 4 * H, *later = l->back + (i + B) * 4 * H;
        double *out = l->back + i * 4 * H;
        for (int j = 0; j < H; j++) {
            double d = l->dhs[i * H + j] + carry[i % B * H + j];
            if (i < (int64_t)(l->s.T - 1) * B)
                for (int c = 0; c < 3 * H; c++)
                    d += later[c] * l->R[j * l->ldr + c];
            double n_h = keep[j], z = keep[H + j], r = keep[2 * H + j], n = keep[3 * H + j];
            double h = i < B ? l->h_first[i * H + j] : l->hs[(i - B) * H + j];
            double dn = d * (1 - z) * (1 - n * n);
            double all[4] = {dn * r, d * (h - n) * z * (1 - z), dn * n_h * r * (1 - r), dn};
            for (int g = 0; g < 4; g++)
                out[g * H + j] = all[g];
            carry[i % B * H + j] = d * z;
        }
    }
    free(carry);
}
static layer layer_new(const shape *s)
{
    int64_t B = s->B, H = s->H, n = s->T * B;
    layer l = {.s = *s, .ldk = 4 * H, .ldx = s->in_place ? 4 * H : 3 * H, .ldr = 3 * H};
    if (s->wide_pitch) {
        l.ldk += 6;
        l.ldx += s->in_place ? 6 : 2;
        l.ldr += 5;
    }
    draws = (uint64_t)(B * 1000003 + H * 1009 + s->T);
    l.R = drawn(H * l.ldr, 0.5 < 3 / sqrt((double)H) ? 0.5 : 3 / sqrt((double)H));
    l.b1 = drawn(3 * H, 0.5);
    l.h_first = drawn(B * H, 1);
    l.dhs = drawn(n * H, 1.0 / (double)n);
    l.xp = drawn((s->V ? s->V : n) * l.ldx, 1);
    if (s->V) {
        l.tokens = malloc((size_t)n * sizeof *l.tokens);
        for (int64_t i = 0; i < n; i++)
            l.tokens[i] = (uint16_t)((draw(0.5) + 0.5F) * (float)s->V);
    }
    l.hs = calloc((size_t)(n * H), sizeof *l.hs);
    l.keep = calloc((size_t)(n * 4 * H), sizeof *l.keep);
    l.back = calloc((size_t)(n * 4 * H), sizeof *l.back);
    forward_reference(&l);
    backward_reference(&l);
    return l;
}
static void layer_free(layer *l)
{
    void *all[] = {l->R, l->b1, l->xp, l->h_first, l->dhs, l->tokens, l->hs, l->keep, l->back};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- the same on the device */
typedef struct {
    crnn_persist_plan plan[2];
    void *work[2];
    float *hs, *h_last, *keep, *xp, *h_first, *b1, *dhs, *R;
    uint16_t *tokens, *h16, *d; /* d: in keep one time step further, or apart */
    int64_t ldd;
} run;

/* Half of the resident weights go to shared memory, where a kernel with fewer is at hand. */
static void put_weights_far(crnn_persist_plan *p)
{
    bool back = p->direction == CRNN_PERSIST_BACKWARD;
    int fewest = back ? 12 : 4, tiles = back ? p->tiles : 3, parts = p->precision == CRNN_PERSIST_SPLIT ? 2 : 1;
    assert_true(p->steps > fewest); /* else none are to go there */
    p->shared += (p->resident - fewest) * 8 * tiles * parts * 512;
    p->resident = fewest;
}
/* So many steps to each warp, even if none is left to some of them; so many with weights in registers. */
static void share_out(crnn_persist_plan *p, int resident, int steps)
{
    int tiles = p->direction == CRNN_PERSIST_BACKWARD ? p->tiles : 3,
        parts = p->precision == CRNN_PERSIST_SPLIT ? 2 : 1;
    p->shared += (steps - resident - (p->steps - p->resident)) * 8 * tiles * parts * 512;
    p->resident = resident;
    p->steps = steps;
}
/* The same with flags, which need room for pieces. */
static void with_flags(crnn_persist_plan *p)
{
    p->exchange = CRNN_PERSIST_FLAGS;
    p->slots = 2;
    p->shared += 8 * 3 * 4 * 512;
}
/* For one pass alone. */
static void pack(const run *r, const layer *l, int d, cudaStream_t stream)
{
    crnn_persist_copies copies = {.R = r->R, .ldr = l->ldr, .H = l->s.H};
    *(d ? &copies.backward : &copies.forward) = crnn_persist_copy_of(&r->plan[d], r->work[d]);
    ok(crnn_persist_pack(&copies, r->plan[d].precision, stream));
}
static run run_new(const layer *l, crnn_persist_precision precision)
{
    const shape *s = &l->s;
    size_t n = (size_t)(s->T * s->B), H = (size_t)s->H, f = sizeof(float);
    run r = {0};
    for (int d = 0; d < 2; d++) {
        const crnn_persist_wish wish = {s->groups, d && s->back_tiles ? s->back_tiles : s->tiles, s->cluster,
                                        s->words || s->as_words};
        assert_true(crnn_persist_plan_for(&r.plan[d], (crnn_persist_direction)d, precision, s->B, s->H,
                                          s->cluster ? &with_clusters : &small_gpu, &wish));
        assert_int_equal(r.plan[d].cluster, s->cluster ? s->cluster : 1);
        assert_int_equal(r.plan[d].exchange == CRNN_PERSIST_WORDS, s->words || s->as_words);
        if (s->steps[d])
            share_out(&r.plan[d], s->resident[d], s->steps[d]);
        if (s->as_words)
            with_flags(&r.plan[d]);
        if (s->far)
            put_weights_far(&r.plan[d]);
        if (s->one_buffer)
            r.plan[d].buffers = 1;
        r.work[d] = device(NULL, crnn_persist_bytes(&r.plan[d]));
    }
    r.hs = device(NULL, n * H * f);
    r.h_first = r.h_last = device(l->h_first, (size_t)s->B * H * f);
    r.keep = device(NULL, (n + (size_t)s->B) * (size_t)l->ldk * f);
    r.b1 = device(l->b1, 3 * H * f);
    r.dhs = device(l->dhs, n * H * f);
    r.R = device(l->R, H * (size_t)l->ldr * f);
    if (s->in_place) {
        r.xp = r.keep + H;
        ok(cudaMemcpy(r.xp, l->xp, (n * (size_t)l->ldx - H) * f, cudaMemcpyHostToDevice));
    } else
        r.xp = device(l->xp, (s->V ? (size_t)s->V : n) * (size_t)l->ldx * f);
    if (s->V)
        r.tokens = device(l->tokens, n * sizeof *r.tokens);
    size_t parts = precision == CRNN_PERSIST_SPLIT ? 2 : 1;
    r.h16 = device(NULL, parts * (n + (size_t)s->B) * H * sizeof *r.h16);
    r.ldd = s->apart ? (int64_t)(parts * 4 * H) + 3 : 2 * l->ldk;
    r.d = s->apart ? device(NULL, n * (size_t)r.ldd * sizeof *r.d) : (uint16_t *)(r.keep + s->B * l->ldk);
    for (int d = 0; d < 2; d++)
        pack(&r, l, d, NULL);
    return r;
}
static void run_free(const layer *l, run *r)
{
    void *all[] = {r->work[0], r->work[1], r->hs, r->h_first, r->keep, r->b1, r->dhs, r->R, r->tokens, r->h16};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ok(cudaFree(all[i]));
    if (!l->s.in_place)
        ok(cudaFree(r->xp));
    if (l->s.apart)
        ok(cudaFree(r->d));
}
static crnn_persist_forward forward_of(const layer *l, const run *r)
{
    return (crnn_persist_forward){.workspace = r->work[0],
                                  .hs = r->hs,
                                  .h_last = r->h_last,
                                  .h16 = r->h16,
                                  .keep = r->keep,
                                  .xp = r->xp,
                                  .tokens = r->tokens,
                                  .h_first = r->h_first,
                                  .b1 = r->b1,
                                  .ldk = l->ldk,
                                  .ldx = l->ldx,
                                  .T = l->s.T,
                                  .patience = l->s.words ? WORDS_PATIENCE : 0};
}
static crnn_persist_backward backward_of(const layer *l, const run *r)
{
    return (crnn_persist_backward){.workspace = r->work[1],
                                   .keep = r->keep,
                                   .d = r->d,
                                   .dhs = r->dhs,
                                   .hs = r->hs,
                                   .h_first = r->h_first,
                                   .ldk = l->ldk,
                                   .ldd = r->ldd,
                                   .T = l->s.T,
                                   .patience = l->s.words ? WORDS_PATIENCE : 0,
                                   .doublings = crnn_persist_doublings(r->plan[1].precision, (int64_t)l->s.T * l->s.B)};
}
static void is_well(const run *r)
{
    for (int d = 0; d < 2; d++) {
        uint32_t status = 99;
        take(&status, crnn_persist_status(r->work[d]), sizeof status);
        assert_int_equal(status, 0);
    }
    assert_int_equal(cusim_errors(), 0);
}

/* rows x columns of got, ld apart, against want, dense. */
static void close_to(const char *what, const layer *l, crnn_persist_precision precision, const float *got, int64_t ld,
                     const double *want, int64_t rows, int64_t columns)
{
    double worst = 0, largest = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < rows * columns; i++) {
        double e = fabs((double)got[i / columns * ld + i % columns] - want[i]);
        if (!(e <= worst)) { /* NaN too */
            worst = e;
            at = i;
        }
        largest = fmax(largest, fabs(want[i]));
    }
    if (!(worst <= tolerance[precision] * largest))
        fail_msg("%s, B %d H %d T %d in %s: row %lld column %lld is off by %g, the largest is %g", what, l->s.B, l->s.H,
                 l->s.T, names[precision], (long long)(at / columns), (long long)(at % columns), worst, largest);
}
/* The number that stands in 16 bits at `at`, doubled `doublings` times, and in split precision `low` items further. */
static float read_half(uint16_t u)
{
    float f = ldexpf((float)(u & 0x3ff) + (u & 0x7c00 ? 1024.0F : 0), (u & 0x7c00 ? u >> 10 & 31 : 1) - 25);
    assert_int_not_equal(u & 0x7c00, 0x7c00); /* finite */
    return u & 0x8000 ? -f : f;
}
static float read_narrow(crnn_persist_precision precision, const uint16_t *at, int64_t low, int32_t doublings)
{
    if (precision == CRNN_PERSIST_BF16) {
        uint32_t u = (uint32_t)*at << 16;
        float f;
        memcpy(&f, &u, sizeof f);
        return f;
    }
    return ldexpf(read_half(*at) + (precision == CRNN_PERSIST_SPLIT ? read_half(at[low]) : 0), -doublings);
}
/* rows x columns floats of what a kernel left in 16 bits. */
static float *widened(crnn_persist_precision precision, const uint16_t *from, int64_t ld, int64_t low,
                      int32_t doublings, int64_t rows, int64_t columns)
{
    int64_t items = (rows - 1) * ld + columns + (precision == CRNN_PERSIST_SPLIT ? low : 0);
    uint16_t *narrow = malloc((size_t)items * sizeof *narrow);
    float *wide = malloc((size_t)(rows * columns) * sizeof *wide);
    take(narrow, from, (size_t)items * sizeof *narrow);
    for (int64_t i = 0; i < rows * columns; i++)
        wide[i] = read_narrow(precision, narrow + i / columns * ld + i % columns, low, doublings);
    free(narrow);
    return wide;
}
/* h_first and all states, as near as the format is to them. */
static void states_are_copied(const layer *l, const run *r, const float *hs)
{
    static const float near[CRNN_PERSIST_PRECISIONS] = {0x1p-8F, 0x1p-11F,
                                                        0x1p-22F}; /* of a number, and below one of 2^-8 */
    int64_t B = l->s.B, H = l->s.H, n = l->s.T * B;
    crnn_persist_precision precision = r->plan[0].precision;
    float *wide = widened(precision, r->h16, H, (n + B) * H, CRNN_PERSIST_DOUBLINGS, n + B, H);
    for (int64_t i = 0; i < (n + B) * H; i++) {
        float h = i < B * H ? l->h_first[i] : hs[i - B * H];
        assert_true(fabsf(wide[i] - h) <= near[precision] * fmaxf(fabsf(h), 0x1p-8F));
    }
    free(wide);
}
static void matches(const shape *s, crnn_persist_precision precision)
{
    layer l = layer_new(s);
    run r = run_new(&l, precision);
    int64_t n = (int64_t)s->T * s->B, H = s->H;
    float *hs = calloc((size_t)(n * H), sizeof *hs), *keep = calloc((size_t)(n * l.ldk), sizeof *keep);
    float *h_last = calloc((size_t)(s->B * H), sizeof *h_last);
    crnn_persist_forward forward = forward_of(&l, &r);
    ok(crnn_persist_launch_forward(&r.plan[0], &forward, NULL));
    take(hs, r.hs, (size_t)(n * H) * sizeof *hs);
    take(h_last, r.h_last, (size_t)(s->B * H) * sizeof *h_last);
    take(keep, r.keep, (size_t)(n * l.ldk) * sizeof *keep);
    close_to("h", &l, precision, hs, H, l.hs, n, H);
    close_to("gates", &l, precision, keep, l.ldk, l.keep, n, 4 * H);
    states_are_copied(&l, &r, hs);
    assert_memory_equal(h_last, hs + (n - s->B) * H, (size_t)(s->B * H) * sizeof *h_last);
    ok(cudaMemcpy(r.h_first, l.h_first, (size_t)(s->B * H) * sizeof *h_last,
                  cudaMemcpyHostToDevice)); /* h_last was there */
    crnn_persist_backward backward = backward_of(&l, &r);
    ok(crnn_persist_launch_backward(&r.plan[1], &backward, NULL));
    float *d = widened(precision, r.d, r.ldd, 4 * H, backward.doublings, n, 4 * H);
    close_to("gradients", &l, precision, d, 4 * H, l.back, n, 4 * H);
    is_well(&r);
    free(d);
    free(hs);
    free(keep);
    free(h_last);
    run_free(&l, &r);
    layer_free(&l);
}

static const shape shapes[] = {
    {.B = 1, .H = 1, .T = 1},
    {.B = 5, .H = 18, .T = 3, .apart = true},
    {.B = 1, .H = 1, .T = 4, .V = 1},
    {.B = 2, .H = 16, .T = 2, .tiles = 1, .in_place = true},
    {.B = 3, .H = 7, .T = 5, .V = 5, .wide_pitch = true},
    {.B = 1, .H = 37, .T = 3, .tiles = 1, .wide_pitch = true, .in_place = true},
    {.B = 17, .H = 31, .T = 4, .V = 11},                         /* two groups, or two chunks */
    {.B = 23, .H = 48, .T = 3, .groups = 1, .tiles = 1},         /* two chunks of one group */
    {.B = 37, .H = 34, .T = 4, .V = 3, .groups = 1, .tiles = 1}, /* three chunks */
    {.B = 33, .H = 20, .T = 2, .groups = 2, .tiles = 1},         /* two groups of two chunks, the last one empty */
};
static void every_shape(crnn_persist_precision precision)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        matches(&shapes[i], precision);
}
static void bf16_matches_plain_loops(void **state)
{
    (void)state;
    every_shape(CRNN_PERSIST_BF16);
}
static void fp16_matches_plain_loops(void **state)
{
    (void)state;
    every_shape(CRNN_PERSIST_FP16);
}
static void split_matches_plain_loops(void **state)
{
    (void)state;
    every_shape(CRNN_PERSIST_SPLIT);
}
/* Two tiles to a block, and weights that have no room in registers. */
static void larger_slices_match_plain_loops(void **state)
{
    (void)state;
    matches(&(shape){.B = 5, .H = 67, .T = 3, .tiles = 2}, CRNN_PERSIST_BF16);
    matches(&(shape){.B = 18, .H = 40, .T = 2, .V = 7, .tiles = 2, .groups = 1}, CRNN_PERSIST_FP16);
    matches(&(shape){.B = 1, .H = 513, .T = 2, .tiles = 2, .far = true}, CRNN_PERSIST_BF16);
}

/* Both passes' results, [T,B,H] and twice [T + 1,B] rows of keep, to be freed. */
static float *results_of(const layer *l, crnn_persist_precision precision)
{
    size_t n = (size_t)(l->s.T * l->s.B), hs = n * (size_t)l->s.H, keep = (n + (size_t)l->s.B) * (size_t)l->ldk;
    run r = run_new(l, precision);
    float *all = malloc((hs + 2 * keep) * sizeof *all);
    crnn_persist_forward forward = forward_of(l, &r);
    crnn_persist_backward backward = backward_of(l, &r);
    forward.h_last = NULL;
    ok(crnn_persist_launch_forward(&r.plan[0], &forward, NULL));
    take(all, r.hs, hs * sizeof *all);
    take(all + hs, r.keep, keep * sizeof *all);
    ok(crnn_persist_launch_backward(&r.plan[1], &backward, NULL));
    take(all + hs + keep, r.keep, keep * sizeof *all);
    is_well(&r);
    run_free(l, &r);
    return all;
}
static void clusters_give_the_same_bits(void **state)
{
    (void)state;
    const struct {
        shape s;
        crnn_persist_precision precision;
    } all[] = {
        {{.B = 1, .H = 1, .T = 1, .tiles = 1}, CRNN_PERSIST_BF16},
        {{.B = 3, .H = 7, .T = 5, .V = 5, .tiles = 1, .wide_pitch = true}, CRNN_PERSIST_SPLIT},
        {{.B = 2, .H = 79, .T = 4, .groups = 1, .tiles = 1, .in_place = true}, CRNN_PERSIST_FP16}, /* 5 slices */
        {{.B = 37, .H = 34, .T = 4, .V = 3, .groups = 1, .tiles = 1}, CRNN_PERSIST_BF16},          /* 3 chunks */
        {{.B = 33, .H = 20, .T = 3, .groups = 2, .tiles = 1}, CRNN_PERSIST_SPLIT}, /* 2 groups of 2 chunks */
        {{.B = 18, .H = 67, .T = 3, .groups = 1, .tiles = 2}, CRNN_PERSIST_FP16},  /* warps side by side */
        {{.B = 1, .H = 513, .T = 2, .groups = 1, .tiles = 2, .far = true}, CRNN_PERSIST_BF16},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        layer l = layer_new(&all[i].s);
        size_t rows = (size_t)(l.s.T * l.s.B), H = (size_t)l.s.H, ldk = (size_t)l.ldk;
        size_t bytes = (rows * H + 2 * (rows + (size_t)l.s.B) * ldk) * sizeof(float);
        l.s.cluster = 1;
        float *alone = results_of(&l, all[i].precision);
        for (int cluster = 2; cluster <= 4; cluster *= 2) { /* with room for one slot, and for two */
            l.s.cluster = cluster;
            l.s.one_buffer = cluster == 2;
            float *together = results_of(&l, all[i].precision);
            assert_memory_equal(together, alone, bytes);
            free(together);
        }
        free(alone);
        layer_free(&l);
    }
}

/* Without flags: rows and units that are not there, several rounds of the ring, warps to which nothing is left, weights in shared memory. */
static void words_match_plain_loops(void **state)
{
    (void)state;
    matches(&(shape){.B = 1, .H = 1, .T = 1, .words = true}, CRNN_PERSIST_BF16);
    matches(&(shape){.B = 3, .H = 7, .T = 9, .V = 5, .wide_pitch = true, .words = true}, CRNN_PERSIST_FP16);
    matches(&(shape){.B = 1, .H = 37, .T = 11, .tiles = 1, .in_place = true, .words = true}, CRNN_PERSIST_SPLIT);
    matches(&(shape){.B = 37, .H = 34, .T = 6, .V = 3, .groups = 1, .tiles = 1, .words = true}, /* three chunks */
            CRNN_PERSIST_BF16);
    matches(&(shape){.B = 33, .H = 20, .T = 5, .groups = 2, .tiles = 1, .words = true}, /* the last chunk is empty */
            CRNN_PERSIST_SPLIT);
    matches(&(shape){.B = 2, .H = 79, .T = 5, .back_tiles = 2, .apart = true, .words = true}, CRNN_PERSIST_FP16);
    matches(&(shape){.B = 2,
                     .H = 210,
                     .T = 3,
                     .groups = 1,
                     .back_tiles = 2,
                     .words = true,
                     .resident = {12, 16},
                     .steps = {16, 28}},
            CRNN_PERSIST_BF16);
}
static void words_give_the_same_bits(void **state)
{
    (void)state;
    const struct {
        shape s;
        crnn_persist_precision precision;
    } all[] = {
        {{.B = 19, .H = 67, .T = 5, .V = 5, .groups = 1, .tiles = 1}, CRNN_PERSIST_FP16},
        {{.B = 2, .H = 210, .T = 3, .groups = 1, .tiles = 1, .resident = {8, 24}, .steps = {12, 36}},
         CRNN_PERSIST_BF16},
        {{.B = 3, .H = 165, .T = 3, .groups = 1, .tiles = 1, .resident = {4, 12}, .steps = {9, 19}},
         CRNN_PERSIST_SPLIT},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        layer l = layer_new(&all[i].s);
        size_t rows = (size_t)(l.s.T * l.s.B), H = (size_t)l.s.H, ldk = (size_t)l.ldk;
        size_t bytes = (rows * H + 2 * (rows + (size_t)l.s.B) * ldk) * sizeof(float);
        l.s.as_words = true;
        float *by_flags = results_of(&l, all[i].precision);
        l.s.as_words = false;
        l.s.words = true;
        float *by_words = results_of(&l, all[i].precision);
        assert_memory_equal(by_words, by_flags, bytes);
        free(by_words);
        free(by_flags);
        layer_free(&l);
    }
}
/* A word of two numbers that are none would be one that has not come, had conversions left their bits as they are. Nothing of it is left to
   the next launch. */
static void what_is_no_number_is_handed_on_too(void **state)
{
    (void)state;
    const shape s = {.B = 2, .H = 18, .T = 3, .words = true};
    for (int precision = 0; precision < CRNN_PERSIST_PRECISIONS; precision++) {
        layer l = layer_new(&s);
        run r = run_new(&l, (crnn_persist_precision)precision);
        float *hs = calloc((size_t)(s.T * s.B * s.H), sizeof *hs);
        crnn_persist_forward forward = forward_of(&l, &r);
        crnn_persist_backward backward = backward_of(&l, &r);
        forward.h_last = NULL;
        ok(cudaMemset(r.h_first, 0xff, (size_t)s.H * sizeof *hs)); /* the first row */
        ok(crnn_persist_launch_forward(&r.plan[0], &forward, NULL));
        take(hs, r.hs, (size_t)(s.T * s.B * s.H) * sizeof *hs);
        for (int i = 0; i < s.T * s.B * s.H; i++)
            assert_int_equal(isnan(hs[i]) != 0, i / s.H % s.B == 0);
        ok(cudaMemset(r.dhs, 0xff, (size_t)(s.T * s.B * s.H) * sizeof *hs));
        ok(crnn_persist_launch_backward(&r.plan[1], &backward, NULL));
        ok(cudaMemcpy(r.h_first, l.h_first, (size_t)(s.B * s.H) * sizeof *hs, cudaMemcpyHostToDevice));
        ok(crnn_persist_launch_forward(&r.plan[0], &forward, NULL));
        take(hs, r.hs, (size_t)(s.T * s.B * s.H) * sizeof *hs);
        close_to("h", &l, (crnn_persist_precision)precision, hs, s.H, l.hs, s.T * s.B, s.H);
        is_well(&r);
        free(hs);
        run_free(&l, &r);
        layer_free(&l);
    }
}

/* Nothing that a launch leaves behind stands in the way of the next one, whatever its length, and a graph may repeat it. */
static void launches_give_the_same_bits(int cluster, bool words)
{
    const shape s = {.B = 19, .H = 35, .T = 3, .V = 4, .tiles = 1, .groups = 1, .cluster = cluster, .words = words};
    layer l = layer_new(&s);
    run r = run_new(&l, CRNN_PERSIST_BF16);
    size_t hs_bytes = (size_t)(s.T * s.B * s.H) * sizeof(float),
           keep_bytes = 4 * hs_bytes / (size_t)s.T * (size_t)(s.T + 1);
    float *first = malloc(keep_bytes + hs_bytes), *again = malloc(keep_bytes + hs_bytes);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ok(cudaDeviceSynchronize());
    crnn_persist_forward forward = forward_of(&l, &r);
    crnn_persist_backward backward = backward_of(&l, &r);
    forward.h_last = NULL;
    ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    ok(crnn_persist_launch_forward(&r.plan[0], &forward, stream));
    ok(crnn_persist_launch_backward(&r.plan[1], &backward, stream));
    ok(cudaStreamEndCapture(stream, &graph));
    ok(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 4; i++) {
        float *to = i ? again : first;
        forward.T = backward.T = i % 2 ? 1 : 2; /* shorter ones in between; they overwrite the beginning */
        ok(crnn_persist_launch_forward(&r.plan[0], &forward, stream));
        ok(crnn_persist_launch_backward(&r.plan[1], &backward, stream));
        if (i == 2)
            pack(&r, &l, 0, stream);
        ok(cudaGraphLaunch(exec, stream));
        ok(cudaStreamSynchronize(stream));
        take(to, r.keep, keep_bytes);
        take(to + keep_bytes / sizeof *to, r.hs, hs_bytes);
        if (i)
            assert_memory_equal(again, first, keep_bytes + hs_bytes);
    }
    float *d = widened(CRNN_PERSIST_BF16, r.d, r.ldd, 0, 0, (int64_t)s.T * s.B, 4 * s.H);
    close_to("gradients", &l, CRNN_PERSIST_BF16, d, 4 * s.H, l.back, (int64_t)s.T * s.B, 4 * s.H);
    free(d);
    is_well(&r);
    ok(cudaGraphExecDestroy(exec));
    ok(cudaGraphDestroy(graph));
    ok(cudaStreamDestroy(stream));
    free(first);
    free(again);
    run_free(&l, &r);
    layer_free(&l);
}

static void launches_of_one_workspace_give_the_same_bits(void **state)
{
    (void)state;
    launches_give_the_same_bits(0, false);
    launches_give_the_same_bits(2, false);
}
static void launches_without_flags_give_the_same_bits(void **state)
{
    (void)state;
    launches_give_the_same_bits(0, true);
}

/* Time cut in two: what flows out of the later part and through R is what flows into the earlier one. */
static void what_flows_between_launches_is_the_gradient(void **state)
{
    (void)state;
    const shape s = {.B = 19, .H = 35, .T = 5, .tiles = 1, .groups = 1};
    const int64_t cut = 2, B = s.B, H = s.H, first = cut * B;
    layer l = layer_new(&s);
    run r = run_new(&l, CRNN_PERSIST_SPLIT);
    size_t bytes = (size_t)(B * H) * sizeof(float);
    float *dh = device(NULL, bytes), *flow = calloc((size_t)(B * H), sizeof *flow);
    crnn_persist_forward forward = forward_of(&l, &r);
    crnn_persist_backward whole = backward_of(&l, &r), part = whole;
    forward.h_last = NULL;
    ok(crnn_persist_launch_forward(&r.plan[0], &forward, NULL));
    part.dh = dh;
    part.T = s.T - (int32_t)cut;
    part.keep += first * l.ldk;
    part.d += first * r.ldd;
    part.dhs += first * H;
    part.h_first = r.hs + (first - B) * H;
    part.hs += first * H;
    ok(crnn_persist_launch_backward(&r.plan[1], &part, NULL));
    take(flow, dh, bytes);
    for (int64_t i = 0; i < B * H; i++)
        for (int64_t c = 0; c < 3 * H; c++)
            flow[i] += (float)(l.back[first * 4 * H + i / H * 4 * H + c] * l.R[i % H * l.ldr + c]);
    ok(cudaMemcpy(dh, flow, bytes, cudaMemcpyHostToDevice));
    whole.dh = dh;
    whole.T = (int32_t)cut;
    ok(crnn_persist_launch_backward(&r.plan[1], &whole, NULL));
    float *d = widened(CRNN_PERSIST_SPLIT, r.d, r.ldd, 4 * H, whole.doublings, (int64_t)s.T * B, 4 * H);
    close_to("gradients", &l, CRNN_PERSIST_SPLIT, d, 4 * H, l.back, (int64_t)s.T * B, 4 * H);
    is_well(&r);
    free(d);
    free(flow);
    ok(cudaFree(dh));
    run_free(&l, &r);
    layer_free(&l);
}

static uint32_t status_after(const run *r, int d, const crnn_persist_forward *forward,
                             const crnn_persist_backward *backward)
{
    uint32_t status = 99;
    ok(d ? crnn_persist_launch_backward(&r->plan[1], backward, NULL)
         : crnn_persist_launch_forward(&r->plan[0], forward, NULL));
    take(&status, crnn_persist_status(r->work[d]), sizeof status);
    return status;
}
/* A flag that stands a launch behind is a slice that does not come: the launch ends and says so, and so does the next one, until the
   workspace is made new. */
static void a_slice_that_never_comes(int cluster, bool words)
{
    enum { FIRST_FLAG = 256 };
    const shape s = {.B = 2, .H = 40, .T = 3, .tiles = 1, .cluster = cluster, .words = words};
    layer l = layer_new(&s);
    run r = run_new(&l, CRNN_PERSIST_FP16);
    crnn_persist_forward forward = forward_of(&l, &r);
    crnn_persist_backward backward = backward_of(&l, &r);
    if (!words)
        forward.patience = backward.patience = 300;
    for (int d = 0; d < 2; d++) {
        assert_int_equal(status_after(&r, d, &forward, &backward), 0);
        ok(cudaMemset((char *)r.work[d] + FIRST_FLAG + 2 * sizeof(uint32_t), 0, sizeof(uint32_t)));
        for (int launches = 0; launches < 2; launches++)
            assert_int_not_equal(status_after(&r, d, &forward, &backward), 0);
        ok(cudaMemset(r.work[d], 0, crnn_persist_bytes(&r.plan[d])));
        pack(&r, &l, d, NULL);
        assert_int_equal(status_after(&r, d, &forward, &backward), 0);
    }
    is_well(&r);
    run_free(&l, &r);
    layer_free(&l);
}

static void a_slice_that_never_comes_is_noticed(void **state)
{
    (void)state;
    if (cusim_checks())
        skip(); /* the slice that is behind runs on regardless of the others: races, as the checker says */
    a_slice_that_never_comes(0, false);
    a_slice_that_never_comes(2, false);
    a_slice_that_never_comes(4, false);
    a_slice_that_never_comes(0, true);
}

/* ---- plans */
static void plans_fit_their_gpu(void **state)
{
    (void)state;
    const crnn_persist_gpu gpus[] = {{.sms = 82, .shared = 101376, .compute_major = 8},   /* RTX 3090 */
                                     {.sms = 108, .shared = 166912, .compute_major = 8},  /* A100 */
                                     {.sms = 132, .shared = 232448, .compute_major = 9}}; /* H200 */
    const int batches[] = {1, 16, 64, 100, 256}, units[] = {1, 128, 256, 512, 1000, 1024, 1280, 2048, 4096};
    int fitting[3] = {0};
    for (size_t g = 0; g < 3; g++)
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            for (size_t h = 0; h < sizeof units / sizeof *units; h++)
                for (int precision = 0; precision < CRNN_PERSIST_PRECISIONS; precision++)
                    for (int d = 0; d < 2; d++) {
                        crnn_persist_plan p;
                        if (!crnn_persist_plan_for(&p, (crnn_persist_direction)d, (crnn_persist_precision)precision,
                                                   batches[b], units[h], &gpus[g], NULL)) {
                            assert_true(units[h] > 512); /* smaller ones always fit */
                            continue;
                        }
                        fitting[g]++;
                        assert_true(units[h] < 4096); /* 100 MB of weights are more than any of them holds */
                        assert_true(p.groups * p.slices <= gpus[g].sms);
                        assert_true(p.shared <= gpus[g].shared);
                        assert_true(p.groups * p.chunks * 16 >= batches[b]);
                        assert_true(p.slices * p.tiles * 16 >= units[h]);
                        assert_true(crnn_persist_bytes(&p) > (size_t)units[h] * (size_t)units[h] * 3 * 2);
                    }
    assert_true(fitting[0] < fitting[1] && fitting[1] < fitting[2]);
}
static void the_notebooks_shape_uses_a_large_gpu_well(void **state)
{
    (void)state;
    const crnn_persist_gpu h200 = {.sms = 132, .shared = 232448, .compute_major = 9};
    for (int precision = 0; precision < CRNN_PERSIST_PRECISIONS; precision++)
        for (int d = 0; d < 2; d++) {
            crnn_persist_plan p;
            assert_true(crnn_persist_plan_for(&p, (crnn_persist_direction)d, (crnn_persist_precision)precision, 64,
                                              1024, &h200, NULL));
            assert_int_equal(p.groups * p.slices, 128);
            assert_int_equal(p.steps, p.resident); /* all weights in registers */
        }
}
static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    crnn_persist_gpu gpu = small_gpu;
    const crnn_persist_wish one_tile = {.groups = 1, .tiles = 1}, two_tiles = {.groups = 1, .tiles = 2};
    crnn_persist_plan p;
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 4, 320, &gpu, &one_tile));
    assert_false(
        crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 4, 321, &gpu, &one_tile)); /* 21 slices */
    assert_false(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_SPLIT, 4, 64, &gpu,
                                       &two_tiles)); /* no such kernel */
    assert_false(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 0, 64, &gpu, NULL));
    gpu.compute_major = 7; /* mma.m16n8k16 came with 8 */
    assert_false(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 4, 64, &gpu, NULL));
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 4, 64, &small_gpu, NULL));
    p.resident = 5;
    crnn_persist_forward forward = {.T = 1};
    crnn_persist_backward backward = {.T = 1};
    assert_int_equal(crnn_persist_launch_forward(&p, &forward, NULL), cudaErrorInvalidValue);
    assert_int_equal(crnn_persist_launch_backward(&p, &backward, NULL), cudaErrorInvalidValue);
}
/* A cluster of four where four fit, else of two, else none; slices that have no units fill it up. */
static void clusters_are_as_large_as_they_fit(void **state)
{
    (void)state;
    crnn_persist_gpu h200 = {.sms = 132, .shared = 232448, .compute_major = 9, .clusters = {66, 32}};
    const crnn_persist_wish wish = {.cluster = 4};
    crnn_persist_plan p, alone;
    for (int d = 0; d < 2; d++) {
        assert_true(crnn_persist_plan_for(&p, (crnn_persist_direction)d, CRNN_PERSIST_BF16, 64, 1024, &h200, &wish));
        assert_true(crnn_persist_plan_for(&alone, (crnn_persist_direction)d, CRNN_PERSIST_BF16, 64, 1024, &h200, NULL));
        assert_int_equal(p.cluster, 4);
        assert_int_equal(alone.cluster, 1);
        assert_int_equal(p.groups * p.slices, 128);
        assert_true(p.buffers == 1 || p.buffers == 2);
        assert_true(p.shared <= h200.shared);
        assert_int_equal(p.steps, p.resident);
    }
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 16, 80, &h200, &wish));
    assert_int_equal(p.slices % 4, 0);
    assert_true(p.slices * p.tiles * 16 >= 80);
    h200.clusters[1] = 31; /* 124 blocks */
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 16, 2048, &h200, &wish));
    assert_int_equal(p.cluster, 2);
    h200.clusters[0] = 63;
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 16, 2048, &h200, &wish));
    assert_int_equal(p.cluster, 1);
    h200.clusters[0] = h200.clusters[1] = 0; /* an older one */
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_BF16, 16, 64, &h200, &wish));
    assert_int_equal(p.cluster, 1);
    assert_int_equal(p.buffers, 0);
}
/* Words where they are wished for, fit into registers and are estimated to be no slower; flags elsewhere. */
static void words_are_taken_where_they_are_no_slower(void **state)
{
    (void)state;
    const crnn_persist_gpu h200 = {.sms = 132, .shared = 232448, .compute_major = 9, .clusters = {66, 32}};
    const crnn_persist_wish wish = {.words = true};
    crnn_persist_plan p, flags;
    for (int precision = 0; precision < CRNN_PERSIST_PRECISIONS; precision++)
        for (int d = 0; d < 2; d++)
            for (int H = 16; H <= 1536; H = H * 3 / 2) {
                assert_true(crnn_persist_plan_for(&p, (crnn_persist_direction)d, (crnn_persist_precision)precision, 16,
                                                  H, &h200, &wish));
                assert_true(crnn_persist_plan_for(&flags, (crnn_persist_direction)d, (crnn_persist_precision)precision,
                                                  16, H, &h200, NULL));
                assert_int_equal(flags.exchange, CRNN_PERSIST_FLAGS);
                assert_int_equal(flags.slots, 2);
                assert_true(p.estimate <= flags.estimate);
                assert_int_equal(p.slots, p.exchange == CRNN_PERSIST_WORDS ? 4 : 2);
                if (H <= 512 || precision != CRNN_PERSIST_SPLIT)
                    assert_int_equal(p.exchange, CRNN_PERSIST_WORDS);
            }
    /* With half of the weights in registers, the other half would have to be read at each time step. */
    assert_true(crnn_persist_plan_for(&p, CRNN_PERSIST_FORWARD, CRNN_PERSIST_SPLIT, 16, 1024, &h200, &wish));
    assert_int_equal(p.exchange, CRNN_PERSIST_FLAGS);
}
static void a_gpu_says_what_plans_must_know(void **state)
{
    (void)state;
    crnn_persist_gpu gpu;
    int sms = 0;
    ok(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
    ok(crnn_persist_gpu_of(&gpu, 0));
    const shape s = {.B = 1, .H = 16, .T = 1};
    layer l = layer_new(&s);
    run r = run_new(&l, CRNN_PERSIST_BF16);
    ok(cudaDeviceSynchronize());
    /* Once more, when it is known what shared memory the kernel that is asked about has by itself. */
    ok(crnn_persist_gpu_of(&gpu, 0));
    run_free(&l, &r);
    layer_free(&l);
    assert_int_equal(gpu.sms, sms);
    assert_int_equal(gpu.clusters[0], gpu.compute_major >= 9 ? sms / 2 : 0);
    assert_int_equal(gpu.clusters[1], gpu.compute_major >= 9 ? sms / 4 : 0);
    assert_int_equal(crnn_persist_gpu_of(&gpu, 7), cudaErrorInvalidDevice);
}
static void the_range_of_gradients_is_that_of_a_mean(void **state)
{
    (void)state;
    assert_int_equal(crnn_persist_doublings(CRNN_PERSIST_BF16, 6400), 0);
    assert_int_equal(crnn_persist_doublings(CRNN_PERSIST_FP16, 1), 4);
    assert_int_equal(crnn_persist_doublings(CRNN_PERSIST_FP16, 4096), 4 + 12);
    assert_int_equal(crnn_persist_doublings(CRNN_PERSIST_SPLIT, 6400), 4 + 13);
}
/* Gradients that fp16 cannot hold are not silently wrong: what they flow into is no number. */
static void a_gradient_beyond_the_range_is_seen(void **state)
{
    (void)state;
    const shape s = {.B = 2, .H = 16, .T = 3};
    for (int precision = CRNN_PERSIST_FP16; precision < CRNN_PERSIST_PRECISIONS; precision++) {
        layer l = layer_new(&s);
        run r = run_new(&l, (crnn_persist_precision)precision);
        float huge = 1e6F;
        crnn_persist_forward forward = forward_of(&l, &r);
        forward.h_last = NULL;
        crnn_persist_backward backward = backward_of(&l, &r);
        ok(crnn_persist_launch_forward(&r.plan[0], &forward, NULL));
        ok(cudaMemcpy(r.dhs + (size_t)((s.T - 1) * s.B * s.H), &huge, sizeof huge, cudaMemcpyHostToDevice));
        ok(crnn_persist_launch_backward(&r.plan[1], &backward, NULL));
        for (int t = 0; t < s.T; t++) {
            uint16_t dz;
            take(&dz, r.d + (size_t)(t * s.B * r.ldd + s.H), sizeof dz);
            assert_int_equal(dz & 0x7c00, 0x7c00);
        }
        is_well(&r);
        run_free(&l, &r);
        layer_free(&l);
    }
}

/* ---- copies that are written with the weights */
enum { MATRICES = 4 };
typedef struct {
    float *w, *m, *v; /* device, [n] */
    crnn_persist_plan plan[MATRICES][2];
    void *work[MATRICES][2];
    uint16_t *rows[MATRICES];
} weights;

/* Between the matrices lie other weights, so that some of their rows begin anywhere. */
static const int sides[] = {17, 16, 5, 64}, before[] = {3, 6, 1, 0};
static int64_t place_of(int matrix)
{
    int64_t at = 0;
    for (int k = 0; k <= matrix; k++)
        at += before[k] + (k ? 3 * sides[k - 1] * sides[k - 1] : 0);
    return at;
}
static size_t bytes_of_rows(int matrix) /* in split precision; else half of it */
{
    return (size_t)(2 * 3 * sides[matrix] * sides[matrix]) * sizeof(uint16_t);
}
static weights weights_new(const float *w, const float *m, const float *v, int64_t n, int tiles,
                           crnn_persist_precision precision)
{
    size_t bytes = (size_t)n * sizeof *w;
    weights a = {.w = device(w, bytes), .m = device(m, bytes), .v = device(v, bytes)};
    for (int k = 0; k < MATRICES; k++) {
        a.rows[k] = device(NULL, bytes_of_rows(k));
        for (int d = 0; d < 2; d++) {
            const crnn_persist_wish wish = {.tiles = precision == CRNN_PERSIST_SPLIT ? 1 : tiles};
            assert_true(crnn_persist_plan_for(&a.plan[k][d], (crnn_persist_direction)d, precision, 3, sides[k],
                                              &small_gpu, &wish));
            a.work[k][d] = device(NULL, crnn_persist_bytes(&a.plan[k][d]));
        }
    }
    return a;
}
static crnn_persist_copies copies_of(const weights *a, int k)
{
    return (crnn_persist_copies){a->w + place_of(k),
                                 3 * sides[k],
                                 sides[k],
                                 crnn_persist_copy_of(&a->plan[k][0], a->work[k][0]),
                                 crnn_persist_copy_of(&a->plan[k][1], a->work[k][1]),
                                 a->rows[k]};
}
static void weights_free(weights *a)
{
    void *all[] = {a->w, a->m, a->v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ok(cudaFree(all[i]));
    for (int k = 0; k < 2 * MATRICES; k++)
        ok(cudaFree(a->work[k / 2][k % 2]));
    for (int k = 0; k < MATRICES; k++)
        ok(cudaFree(a->rows[k]));
}
static void same_bytes(const void *a, const void *b, size_t bytes)
{
    void *x = malloc(bytes), *y = malloc(bytes);
    take(x, a, bytes);
    take(y, b, bytes);
    assert_memory_equal(x, y, bytes);
    free(x);
    free(y);
}

/* Rows as the weights have them, in the precision of the copies. */
static void rows_are_those_of(const weights *a, int k, crnn_persist_precision precision)
{
    const int64_t n = 3 * sides[k] * sides[k];
    float *w = malloc((size_t)n * sizeof *w);
    uint16_t *rows = malloc(bytes_of_rows(k));
    take(w, a->w + place_of(k), (size_t)n * sizeof *w);
    take(rows, a->rows[k], bytes_of_rows(k));
    const int32_t doublings = precision == CRNN_PERSIST_BF16 ? 0 : CRNN_PERSIST_DOUBLINGS;
    const double units[] = {0x1p-8, 0x1p-11, 0x1p-22};
    for (int64_t i = 0; i < n; i++) {
        const double got = (double)read_narrow(precision, rows + i, n, doublings);
        if (!(fabs(got - (double)w[i]) <= units[precision] * fabs((double)w[i]) + 0x1p-32)) /* half of fp16's least */
            fail_msg("item %lld of matrix %d: %g for %g", (long long)i, k, got, (double)w[i]);
    }
    free(w);
    free(rows);
}

/* One update that writes the copies, and one without whose weights are packed after it: the same bytes everywhere. */
static void check_update(int tiles, crnn_persist_precision precision, bool finite)
{
    const int64_t n = place_of(MATRICES - 1) + 3 * 64 * 64 + 7;
    const crnn_step_inputs inputs = {.adam = {0.01F, 0.9F, 0.999F, 1e-7F, 1, 0.001F}};
    const crnn_step_numbers numbers = {.norm_squared = 25, .finite = finite};
    float *w = drawn(n, 0.5), *m = drawn(n, 0.1), *v = drawn(n, 0.1), *g = drawn(n, 1);
    for (int64_t i = 0; i < n; i++)
        v[i] *= v[i];
    weights one = weights_new(w, m, v, n, tiles, precision), two = weights_new(w, m, v, n, tiles, precision);
    crnn_gpu_update update = {.g = device(g, (size_t)n * sizeof *g),
                              .to = n,
                              .inputs = device(&inputs, sizeof inputs),
                              .numbers = device(&numbers, sizeof numbers),
                              .precision = precision};
    update.w = two.w;
    update.m = two.m;
    update.v = two.v;
    ok(crnn_launch_adam(&update, NULL));
    update.w = one.w;
    update.m = one.m;
    update.v = one.v;
    for (int half = 0; half < 2; half++) { /* two matrices a launch, as where there are too many for one */
        for (int k = 0; k < MATRICES / 2; k++)
            update.copies[k] = copies_of(&one, half * MATRICES / 2 + k);
        update.count = MATRICES / 2;
        update.from = half ? update.to : 0;
        update.to = half ? n : place_of(MATRICES / 2);
        ok(crnn_launch_adam(&update, NULL));
    }
    same_bytes(one.w, two.w, (size_t)n * sizeof *w);
    same_bytes(one.m, two.m, (size_t)n * sizeof *m);
    same_bytes(one.v, two.v, (size_t)n * sizeof *v);
    for (int k = 0; k < MATRICES; k++) {
        const crnn_persist_copies copies = copies_of(&two, k);
        if (finite)
            ok(crnn_persist_pack(&copies, precision, NULL));
        for (int d = 0; d < 2; d++) /* where the step was not taken, zeros */
            same_bytes(one.work[k][d], two.work[k][d], crnn_persist_bytes(&one.plan[k][d]));
        same_bytes(one.rows[k], two.rows[k], bytes_of_rows(k));
        if (finite)
            rows_are_those_of(&one, k, precision);
    }
    assert_int_equal(cusim_errors(), 0);
    void *all[] = {(void *)(uintptr_t)update.g, (void *)(uintptr_t)update.inputs, (void *)(uintptr_t)update.numbers};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ok(cudaFree(all[i]));
    weights_free(&one);
    weights_free(&two);
    free(w);
    free(m);
    free(v);
    free(g);
}
static void an_update_writes_the_copies_too(void **state)
{
    (void)state;
    for (int precision = 0; precision < CRNN_PERSIST_PRECISIONS; precision++)
        for (int tiles = 1; tiles <= 2; tiles++) {
            check_update(tiles, (crnn_persist_precision)precision, true);
            check_update(tiles, (crnn_persist_precision)precision, false);
        }
}

/* One argument: run only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_matches_plain_loops),
        cmocka_unit_test(fp16_matches_plain_loops),
        cmocka_unit_test(split_matches_plain_loops),
        cmocka_unit_test(larger_slices_match_plain_loops),
        cmocka_unit_test(clusters_give_the_same_bits),
        cmocka_unit_test(words_match_plain_loops),
        cmocka_unit_test(words_give_the_same_bits),
        cmocka_unit_test(what_is_no_number_is_handed_on_too),
        cmocka_unit_test(launches_of_one_workspace_give_the_same_bits),
        cmocka_unit_test(launches_without_flags_give_the_same_bits),
        cmocka_unit_test(what_flows_between_launches_is_the_gradient),
        cmocka_unit_test(a_slice_that_never_comes_is_noticed),
        cmocka_unit_test(plans_fit_their_gpu),
        cmocka_unit_test(the_notebooks_shape_uses_a_large_gpu_well),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(clusters_are_as_large_as_they_fit),
        cmocka_unit_test(words_are_taken_where_they_are_no_slower),
        cmocka_unit_test(a_gpu_says_what_plans_must_know),
        cmocka_unit_test(the_range_of_gradients_is_that_of_a_mean),
        cmocka_unit_test(a_gradient_beyond_the_range_is_seen),
        cmocka_unit_test(an_update_writes_the_copies_too),
    };
    return cmocka_run_group_tests_name("persistent recurrent kernels", tests, NULL, NULL);
}
