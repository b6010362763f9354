/* gru.c - one recurrent layer: products by oneDNN, gates in one pass, back-propagation through time by hand.
 *
 * Private layout of the weights: K [I,3H] and b0 [3H] with gates z, r, n as in the canonical form; R [H,ldr >= 3H] and b1 [3H] with gates
 * n, z, r. So one row of `keep` serves both: its four parts of H floats are (n_h, z, r, n) after the forward pass, with n_h = h Rn + b1n, and
 * (dn_h, dz, dr, dn) after the backward pass, where parts 0 to 2 are the gradient at h R + b1 and parts 1 to 3 the one at x K + b0.
 *
 * Characters as input: x K + b0 takes one of V values, so where that is less work a table [V,3H] of them is made once for each value
 * of the weights ("folded"), the forward pass looks rows up, and the backward pass sums gradients by character before its products.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { FORWARD, BACKWARD, KERNEL, DKERNEL, DINPUT, DRECURRENT, products }; /* the large products of a layer */

struct crnn_gru {
    crnn_cpu *cpu;
    crnn_gru *next;
    crnn_gru_shape s;
    bool folded;
    int64_t ldk, ldr; /* floats from row to row of keep, and of R in the weights */
    float *keep;      /* [T,B,ldk >= 4H]; [B,ldk] where nothing need be kept */
    float *hp;        /* [B,3H] h R of one time step; backward: [B,H] what comes back through R */
    float *dh;        /* [B,H] what comes back past z */
    float *x;         /* [T,B,I] embedded input, where characters are not folded */
    float *table;     /* [V,3H] */
    float *dtable;
    crnn_cpu_product *product[products];
    const float *seen_w, *seen_embeddings; /* what table and products were prepared from; NULL: stale */
};

typedef struct {
    float *K, *R, *b0, *b1;
} parts;

static parts parts_of(const crnn_gru *g, const float *w)
{
    int64_t H3 = 3 * (int64_t)g->s.H;
    float *K = (float *)(uintptr_t)w;
    float *R = K + g->s.I * H3, *b0 = R + g->s.H * g->ldr;
    return (parts){K, R, b0, b0 + H3};
}

/* A table is worth its V rows when a step looks up more, and for a layer that only reads, where it lasts, up to 64 MiB. */
static bool folds(const crnn_gru_shape *s)
{
    return s->V > 0 && (s->V <= (int64_t)s->T * s->B || (!s->training && (int64_t)s->V * s->H <= (1 << 24) / 3));
}

static void make_products(crnn_gru *g)
{
    int64_t B = g->s.B, I = g->s.I, H = g->s.H, H3 = 3 * H, n = g->s.T * B, ldk = g->ldk, ldr = g->ldr;
    crnn_cpu_product_shape shapes[products] = {
        [FORWARD] = {.M = B, .N = H3, .K = H, .lda = H, .ldb = ldr, .ldc = H3, .weights = true},
        [BACKWARD] = {.M = B, .N = H, .K = H3, .lda = ldk, .ldb = ldr, .ldc = H, .transpose_b = true, .weights = true},
        [KERNEL] = {.M = n, .N = H3, .K = I, .lda = I, .ldb = H3, .ldc = ldk, .weights = true},
        [DKERNEL] = {.M = I, .N = H3, .K = n, .lda = I, .ldb = ldk, .ldc = H3, .transpose_a = true},
        [DINPUT] = {.M = n, .N = I, .K = H3, .lda = ldk, .ldb = H3, .ldc = I, .transpose_b = true, .weights = true},
        [DRECURRENT] = {.M = H, .N = H3, .K = n, .lda = H, .ldb = ldk, .ldc = ldr, .transpose_a = true, .head = B},
    };
    for (int i = 0; i < products; i++) {
        bool input = i == KERNEL || i == DKERNEL || i == DINPUT, gradient = i != FORWARD && i != KERNEL;
        if ((g->s.training || !gradient) && !(g->folded && input))
            g->product[i] = crnn_cpu_product_new(g->cpu, &shapes[i]);
    }
}

crnn_gru *crnn_cpu_gru_new(crnn_backend *be, const crnn_gru_shape *shape)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!crnn_cpu_begin(cpu, "gru_new"))
        return NULL;
    crnn_gru *g = calloc(1, sizeof *g);
    if (!g) {
        crnn_cpu_failed(cpu, CRNN_ERR_MEMORY, "out of memory");
        return NULL;
    }
    *g = (crnn_gru){.cpu = cpu, .s = *shape, .folded = folds(shape), .next = cpu->layers};
    cpu->layers = g;
    int64_t B = shape->B, H = shape->H, n = shape->T * B;
    g->ldk = crnn_cpu_padded(4 * H);
    g->ldr = crnn_cpu_padded(3 * H);
    bool whole = shape->training || !g->folded;
    g->keep = crnn_cpu_alloc_items(cpu, whole ? n : B, g->ldk, sizeof(float));
    g->hp = crnn_cpu_alloc_items(cpu, B, 3 * H, sizeof(float));
    if (shape->training)
        g->dh = crnn_cpu_alloc_items(cpu, B, H, sizeof(float));
    if (g->folded)
        g->table = crnn_cpu_alloc_items(cpu, shape->V, 3 * H, sizeof(float));
    if (g->folded && shape->training)
        g->dtable = crnn_cpu_alloc_items(cpu, shape->V, 3 * H, sizeof(float));
    if (shape->V > 0 && !g->folded)
        g->x = crnn_cpu_alloc_items(cpu, n, shape->I, sizeof(float));
    make_products(g);
    if (cpu->failure.status) {
        crnn_cpu_gru_free(g);
        return NULL;
    }
    return g;
}

void crnn_cpu_gru_free(crnn_gru *g)
{
    if (!g)
        return;
    crnn_gru **link = &g->cpu->layers;
    while (*link != g)
        link = &(*link)->next;
    *link = g->next;
    float *owned[] = {g->keep, g->hp, g->dh, g->x, g->table, g->dtable};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        crnn_cpu_free(&g->cpu->base, owned[i]);
    for (int i = 0; i < products; i++)
        crnn_cpu_product_free(g->product[i]);
    free(g);
}

int64_t crnn_cpu_gru_params(const crnn_gru *g)
{
    return 3 * (int64_t)g->s.H * ((int64_t)g->s.I + 2) + g->s.H * g->ldr;
}

static bool overlap(const void *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + b_bytes && y < x + a_bytes;
}

crnn_gru *crnn_cpu_gru_touched(crnn_gru *g, const char *memory, size_t bytes)
{
    size_t w_bytes = (size_t)crnn_cpu_gru_params(g) * sizeof(float);
    size_t embeddings_bytes = (size_t)g->s.V * (size_t)g->s.I * sizeof(float);
    if (g->seen_w &&
        (overlap(g->seen_w, w_bytes, memory, bytes) || overlap(g->seen_embeddings, embeddings_bytes, memory, bytes)))
        g->seen_w = NULL;
    return g->next;
}

/* Gates z, r, n to n, z, r, or back, row by row. */
static void turn_gates(float *to, int64_t ld_to, const float *from, int64_t ld_from, int64_t rows, int64_t H, bool back)
{
    size_t one = (size_t)H * sizeof *to, two = 2 * one;
    for (int64_t i = 0; i < rows; i++, to += ld_to, from += ld_from) {
        memcpy(back ? to + 2 * H : to, back ? from : from + 2 * H, one);
        memcpy(back ? to : to + H, back ? from + H : from, two);
    }
}

void crnn_cpu_gru_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias)
{
    if (!crnn_cpu_begin(g->cpu, "gru_pack"))
        return;
    int64_t H = g->s.H;
    parts p = parts_of(g, w);
    memcpy(p.K, kernel, (size_t)(g->s.I * 3 * H) * sizeof *w);
    turn_gates(p.R, g->ldr, recurrent, 3 * H, H, H, false);
    memcpy(p.b0, bias, (size_t)(3 * H) * sizeof *w);
    turn_gates(p.b1, 3 * H, bias + 3 * H, 3 * H, 1, H, false);
    crnn_cpu_touched(g->cpu, w, (size_t)crnn_cpu_gru_params(g) * sizeof *w);
}

void crnn_cpu_gru_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w)
{
    if (!crnn_cpu_begin(g->cpu, "gru_unpack"))
        return;
    int64_t H = g->s.H;
    parts p = parts_of(g, w);
    memcpy(kernel, p.K, (size_t)(g->s.I * 3 * H) * sizeof *w);
    turn_gates(recurrent, 3 * H, p.R, g->ldr, H, H, true);
    memcpy(bias, p.b0, (size_t)(3 * H) * sizeof *w);
    turn_gates(bias + 3 * H, 3 * H, p.b1, 3 * H, 1, H, true);
}

/* rows [n,ld] += b [3H] */
static void add_bias(float *rows, int64_t ld, const float *b, int64_t n, int64_t columns)
{
#pragma omp parallel for schedule(static) if (n * columns >= CRNN_CPU_WORTH_THREADS)
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < columns; j++)
            rows[i * ld + j] += b[j];
}

/* What is made once for each value of the weights. */
static void prepare(crnn_gru *g, const crnn_gru_input *in, const float *w, const parts *p)
{
    int64_t H3 = 3 * (int64_t)g->s.H;
    if (g->seen_w == w && g->seen_embeddings == in->embeddings)
        return;
    if (g->folded) {
        crnn_cpu_gemm(g->cpu, g->table, H3, in->embeddings, g->s.I, false, p->K, H3, false, g->s.V, H3, g->s.I, 0);
        add_bias(g->table, H3, p->b0, g->s.V, H3);
    }
    const float *sources[products] = {[FORWARD] = p->R, [BACKWARD] = p->R, [KERNEL] = p->K, [DINPUT] = p->K};
    for (int i = 0; i < products; i++)
        if (g->product[i] && sources[i])
            crnn_cpu_product_prepare(g->product[i], sources[i]);
    g->seen_w = w;
    g->seen_embeddings = in->embeddings;
}

/* Parts 1 to 3 of keep become x K + b0. */
static void project(crnn_gru *g, const crnn_gru_input *in, const parts *p)
{
    int64_t n = (int64_t)g->s.T * g->s.B, H = g->s.H;
    if (g->x) {
        crnn_cpu_embed(&g->cpu->base, g->x, in->tokens, in->embeddings, n, g->s.V, g->s.I);
        g->cpu->op = "gru_forward";
    }
    crnn_cpu_product_run(g->product[KERNEL], g->keep + H, NULL, g->x ? g->x : in->x, p->K);
    add_bias(g->keep + H, g->ldk, p->b0, n, 3 * H);
}

/* Columns [from,to) of one row: h, keep from hp = h_prev R, the input's part xp (z, r, n) and h_prev. xp may lie in keep. */
CRNN_CLONES static void gates(float *h, float *keep, const float *hp, const float *b1, const float *xp,
                              const float *h_prev, int64_t H, int64_t from, int64_t to)
{
#pragma omp simd
    for (int64_t j = from; j < to; j++) {
        float n_h = hp[j] + b1[j];
        float z = crnn_sigmoid(xp[j] + (hp[H + j] + b1[H + j]));
        float r = crnn_sigmoid(xp[H + j] + (hp[2 * H + j] + b1[2 * H + j]));
        float n = crnn_tanh(xp[2 * H + j] + r * n_h);
        keep[j] = n_h;
        keep[H + j] = z;
        keep[2 * H + j] = r;
        keep[3 * H + j] = n;
        h[j] = z * h_prev[j] + (1.0F - z) * n;
    }
}

/* The reverse of gates. The gradient from the future comes past z, in dh, and through R, in back; dh becomes what passes z here. */
CRNN_CLONES static void gates_backward(float *dh, float *keep, const float *back, const float *dhs, const float *h_prev,
                                       int64_t H, int64_t from, int64_t to)
{
#pragma omp simd
    for (int64_t j = from; j < to; j++) {
        float n_h = keep[j], z = keep[H + j], r = keep[2 * H + j], n = keep[3 * H + j];
        float d = dhs[j] + (dh[j] + back[j]);
        float dn = d * (1.0F - z) * (1.0F - n * n);
        float dz = d * (h_prev[j] - n) * z * (1.0F - z);
        float dr = dn * n_h * r * (1.0F - r);
        keep[j] = dn * r;
        keep[H + j] = dz;
        keep[2 * H + j] = dr;
        keep[3 * H + j] = dn;
        dh[j] = d * z;
    }
}

enum { strip = 128 }; /* columns of a row that are one piece of work: B may be 1 */

static void step_gates(crnn_gru *g, float *h, float *keep, const float *h_prev, const uint16_t *tokens, const parts *p)
{
    int64_t B = g->s.B, H = g->s.H, strips = (H + strip - 1) / strip;
#pragma omp parallel for schedule(static) if (B * H >= CRNN_CPU_WORTH_THREADS)
    for (int64_t i = 0; i < B * strips; i++) {
        int64_t b = i / strips, from = i % strips * strip, to = from + strip < H ? from + strip : H;
        float *row = keep + b * g->ldk;
        const float *xp = g->folded ? g->table + tokens[b] * 3 * H : row + H;
        gates(h + b * H, row, g->hp + b * 3 * H, p->b1, xp, h_prev + b * H, H, from, to);
    }
}

void crnn_cpu_gru_forward(crnn_gru *g, float *hs, float *h_last, const crnn_gru_input *in, const float *h_first,
                          const float *w)
{
    if (!crnn_cpu_begin(g->cpu, "gru_forward"))
        return;
    int64_t T = g->s.T, B = g->s.B, H = g->s.H;
    parts p = parts_of(g, w);
    bool whole = g->s.training || !g->folded;
    prepare(g, in, w, &p);
    if (!g->folded)
        project(g, in, &p);
    const float *h_prev = h_first;
    for (int64_t t = 0; t < T; t++) {
        crnn_cpu_product_run(g->product[FORWARD], g->hp, NULL, h_prev, p.R);
        float *h = hs + t * B * H;
        step_gates(g, h, g->keep + (whole ? t * B * g->ldk : 0), h_prev, g->folded ? in->tokens + t * B : NULL, &p);
        h_prev = h;
    }
    memcpy(h_last, h_prev, (size_t)(B * H) * sizeof *h_last);
}

static void step_gates_backward(crnn_gru *g, float *keep, const float *dhs, const float *h_prev)
{
    int64_t B = g->s.B, H = g->s.H, strips = (H + strip - 1) / strip;
#pragma omp parallel for schedule(static) if (B * H >= CRNN_CPU_WORTH_THREADS)
    for (int64_t i = 0; i < B * strips; i++) {
        int64_t b = i / strips, from = i % strips * strip, to = from + strip < H ? from + strip : H;
        gates_backward(g->dh + b * H, keep + b * g->ldk, g->hp + b * H, dhs + b * H, h_prev + b * H, H, from, to);
    }
}

/* Gradients of the input's side from parts 1 to 3 of keep: K, b0, and the input itself. */
static void input_gradients(crnn_gru *g, float *din, const parts *d, const crnn_gru_input *in, const parts *p)
{
    crnn_cpu *cpu = g->cpu;
    int64_t n = (int64_t)g->s.T * g->s.B, I = g->s.I, H = g->s.H, H3 = 3 * H, V = g->s.V;
    const float *gx = g->keep + H;
    if (g->folded) {
        crnn_cpu_sum_by_token(cpu, g->dtable, gx, g->ldk, in->tokens, n, g->s.V, H3);
        crnn_cpu_gemm(cpu, d->K, H3, in->embeddings, I, true, g->dtable, H3, false, I, H3, V, 0);
        crnn_cpu_column_sums(cpu, d->b0, g->dtable, H3, V, H3);
        crnn_cpu_gemm(cpu, din, I, g->dtable, H3, false, p->K, H3, true, V, I, H3, 0);
        return;
    }
    crnn_cpu_product_run(g->product[DKERNEL], d->K, NULL, g->x ? g->x : in->x, gx);
    crnn_cpu_column_sums(cpu, d->b0, gx, g->ldk, n, H3);
    float *dx = g->x ? g->x : din; /* the embedded input is of no further use */
    if (dx)
        crnn_cpu_product_run(g->product[DINPUT], dx, NULL, gx, p->K);
    if (g->x)
        crnn_cpu_sum_by_token(cpu, din, dx, I, in->tokens, n, g->s.V, I);
}

void crnn_cpu_gru_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                           const crnn_gru_input *in, const float *h_first, const float *w)
{
    crnn_cpu *cpu = g->cpu;
    if (!crnn_cpu_begin(cpu, "gru_backward"))
        return;
    int64_t T = g->s.T, B = g->s.B, H = g->s.H;
    parts p = parts_of(g, w), d = parts_of(g, dw);
    memset(g->dh, 0, (size_t)(B * H) * sizeof *g->dh);
    memset(g->hp, 0, (size_t)(B * H) * sizeof *g->hp);
    for (int64_t t = T - 1; t >= 0; t--) {
        float *keep = g->keep + t * B * g->ldk;
        step_gates_backward(g, keep, dhs + t * B * H, t ? hs + (t - 1) * B * H : h_first);
        if (t)
            crnn_cpu_product_run(g->product[BACKWARD], g->hp, NULL, keep, p.R);
    }
    crnn_cpu_product_run(g->product[DRECURRENT], d.R, h_first, hs, g->keep);
    crnn_cpu_column_sums(cpu, d.b1, g->keep, g->ldk, T * B, 3 * H);
    input_gradients(g, din, &d, in, &p);
}

double crnn_cpu_gru_flop(const crnn_gru *g, bool backward)
{
    double H3 = 3.0 * g->s.H, n = (double)g->s.T * g->s.B;
    double recurrent = 2.0 * n * g->s.H * H3, input = 2.0 * (g->folded ? (double)g->s.V : n) * g->s.I * H3;
    if (!backward)
        return recurrent + input;
    return 2.0 * recurrent - 2.0 * g->s.B * g->s.H * H3 + 2.0 * input; /* nothing flows out through h_first */
}
