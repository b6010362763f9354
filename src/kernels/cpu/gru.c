/* The recurrent layer on the CPU: one product with the recurrent kernel a time step, the gates in one pass beside it, and the
 * gradient of the recurrent kernel as one product after the loop.
 *
 * The private block is the canonical one: kernel [I,3H], recurrent [H,3H], bias [2,3H], gates z, r, h.
 * Folded: where the input is characters and V is small beside T*B, the input projection is a look-up in Tab = Emb K + b0 [V,3H], and its
 * gradient a sum by character: dEmb = dTab K', dK = Emb' dTab, db0 = column sums of dTab.
 */
#include "host/base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/maths.h"
#include <stdlib.h>
#include <string.h>

enum { FEW_ROWS = 4, STRIP = 512 };

struct crnn_gru {
    crnn_cpu *cpu;
    crnn_gru_shape shape;
    bool folded, table_stale;
    float *x;          /* [T,B,I] embedded characters; not folded only */
    float *table;      /* [V,3H] Tab; folded only */
    float *dtable;     /* [V,3H] */
    float *wide;       /* [T,B,3H]: the input projection, then the gradient of the gates; [B,3H] where that is enough */
    float *dx;         /* [T,B,I]; characters, not folded */
    float *s;          /* [B,3H] h R of one time step */
    float *gates;      /* [T,B,4H]: z, r, n and h Rh + b1h, which backward needs */
    float *dn;         /* [T,B,H] gradient before the tanh */
    float *dh;         /* [B,H] carried from time step to time step */
    float *transposed; /* [3H,H] R' */
    const float *seen; /* weights that table was made from */
};

typedef struct {
    const float *kernel, *recurrent, *bias0, *bias1;
} weights;

static weights split(const crnn_gru *g, const float *w)
{
    int64_t I = g->shape.I, H = g->shape.H;
    const float *bias = w + (I + H) * 3 * H;
    return (weights){w, w + I * 3 * H, bias, bias + 3 * H};
}

int64_t crnn_cpu_gru_params(const crnn_gru *g)
{
    int64_t I = g->shape.I, H = g->shape.H;
    return (I + H + 2) * 3 * H;
}

void crnn_cpu_gru_free(crnn_gru *g)
{
    if (!g)
        return;
    float *all[] = {g->x, g->table, g->dtable, g->wide, g->dx, g->s, g->gates, g->dn, g->dh, g->transposed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        crnn_cpu_free(&g->cpu->base, all[i]);
    free(g);
}

crnn_gru *crnn_cpu_gru_new(crnn_backend *be, const crnn_gru_shape *shape)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    crnn_gru *g = cpu->failure.status == CRNN_OK ? crnn_alloc(1, sizeof *g, "a recurrent layer", &cpu->failure) : NULL;
    if (!g)
        return NULL;
    int64_t B = shape->B, TB = shape->T * B, I = shape->I, H = shape->H, V = shape->V;
    g->cpu = cpu;
    g->shape = *shape;
    /* A table kept from step to step always pays when weights do not change. */
    g->folded = V > 0 && (!shape->training || V <= TB / 2);
    g->table_stale = true;
    const size_t f = sizeof(float);
    if (V && !g->folded)
        g->x = crnn_cpu_alloc(be, f * (size_t)(TB * I));
    if (g->folded)
        g->table = crnn_cpu_alloc(be, f * (size_t)(V * 3 * H));
    if (!g->folded || shape->training)
        g->wide = crnn_cpu_alloc(be, f * (size_t)(TB * 3 * H));
    g->s = crnn_cpu_alloc(be, f * (size_t)(B * 3 * H));
    if (shape->training) {
        g->gates = crnn_cpu_alloc(be, f * (size_t)(TB * 4 * H));
        g->dn = crnn_cpu_alloc(be, f * (size_t)(TB * H));
        g->dh = crnn_cpu_alloc(be, f * (size_t)(B * H));
        g->transposed = crnn_cpu_alloc(be, f * (size_t)(3 * H * H));
        if (g->folded)
            g->dtable = crnn_cpu_alloc(be, f * (size_t)(V * 3 * H));
        else if (V)
            g->dx = crnn_cpu_alloc(be, f * (size_t)(TB * I));
    }
    if (cpu->failure.status == CRNN_OK)
        return g;
    crnn_cpu_gru_free(g);
    return NULL;
}

void crnn_cpu_gru_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias)
{
    int64_t I = g->shape.I, H = g->shape.H;
    if (g->cpu->failure.status != CRNN_OK)
        return;
    memcpy(w, kernel, (size_t)(I * 3 * H) * sizeof *w);
    memcpy(w + I * 3 * H, recurrent, (size_t)(H * 3 * H) * sizeof *w);
    memcpy(w + (I + H) * 3 * H, bias, (size_t)(2 * 3 * H) * sizeof *w);
    g->table_stale = true;
}

void crnn_cpu_gru_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w)
{
    int64_t I = g->shape.I, H = g->shape.H;
    if (g->cpu->failure.status != CRNN_OK)
        return;
    memcpy(kernel, w, (size_t)(I * 3 * H) * sizeof *w);
    memcpy(recurrent, w + I * 3 * H, (size_t)(H * 3 * H) * sizeof *w);
    memcpy(bias, w + (I + H) * 3 * H, (size_t)(2 * 3 * H) * sizeof *w);
}

double crnn_cpu_gru_flop(const crnn_gru *g, bool backward)
{
    double T = g->shape.T, B = g->shape.B, I = g->shape.I, H = g->shape.H, V = g->shape.V;
    double recurrent = 2 * T * B * H * 3 * H, input = 2 * (g->folded ? V : T * B) * I * 3 * H;
    return backward ? 2 * recurrent + 2 * input : recurrent + input;
}

/* --- forward ---------------------------------------------------------------------------------------------------------- */

/* One row of one time step. a: [3H] input projection with b0; s: [3H] h R; keep: [4H] for backward, or NULL. h may be before. */
CRNN_VECTOR_CLONES
static void gates_forward(float *restrict h, const float *before, const float *restrict a, const float *restrict s,
                          const float *restrict bias1, float *restrict keep, int64_t H)
{
    if (!keep) {
#pragma omp simd
        for (int64_t j = 0; j < H; j++) {
            float z = crnn_sigmoidf(a[j] + (s[j] + bias1[j]));
            float r = crnn_sigmoidf(a[H + j] + (s[H + j] + bias1[H + j]));
            float n = crnn_tanhf(a[2 * H + j] + r * (s[2 * H + j] + bias1[2 * H + j]));
            h[j] = n + z * (before[j] - n);
        }
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < H; j++) {
        float z = crnn_sigmoidf(a[j] + (s[j] + bias1[j]));
        float r = crnn_sigmoidf(a[H + j] + (s[H + j] + bias1[H + j]));
        float q = s[2 * H + j] + bias1[2 * H + j];
        float n = crnn_tanhf(a[2 * H + j] + r * q);
        h[j] = n + z * (before[j] - n);
        keep[j] = z;
        keep[H + j] = r;
        keep[2 * H + j] = n;
        keep[3 * H + j] = q;
    }
}

/* s [begin, end) of one row: sums over k in order, four at a time. */
CRNN_VECTOR_CLONES
static void strip_product(float *restrict s, const float *restrict h, const float *restrict R, int64_t H, int64_t begin,
                          int64_t end)
{
    const int64_t N = 3 * H;
    for (int64_t c = begin; c < end; c++)
        s[c] = 0;
    int64_t k = 0;
    for (; k + 4 <= H; k += 4) {
        const float a = h[k], b = h[k + 1], c = h[k + 2], d = h[k + 3];
        const float *restrict row = R + k * N;
#pragma omp simd
        for (int64_t j = begin; j < end; j++)
            s[j] += (a * row[j] + b * row[N + j]) + (c * row[2 * N + j] + d * row[3 * N + j]);
    }
    for (; k < H; k++)
        for (int64_t j = begin; j < end; j++)
            s[j] += h[k] * R[k * N + j];
}

/* s [B,3H] = h R. For a few rows the product is bound by reading R, and oneDNN's is far from that bound. */
static void recurrent_product(crnn_gru *g, const float *h, const float *R)
{
    int64_t B = g->shape.B, H = g->shape.H;
    if (B > FEW_ROWS) {
        crnn_cpu_gemm(g->cpu, false, false, B, 3 * H, H, h, H, R, 3 * H, 0, g->s, 3 * H);
        return;
    }
#pragma omp parallel for num_threads(g->cpu->threads)
    for (int64_t strip = 0; strip < (3 * H + STRIP - 1) / STRIP; strip++) {
        int64_t begin = strip * STRIP, end = begin + STRIP < 3 * H ? begin + STRIP : 3 * H;
        for (int64_t b = 0; b < B; b++)
            strip_product(g->s + b * 3 * H, h + b * H, R, H, begin, end);
    }
}

static void add_bias(crnn_cpu *cpu, float *m, const float *bias, int64_t rows, int64_t columns)
{
    if (cpu->failure.status != CRNN_OK)
        return;
#pragma omp parallel for num_threads(cpu->threads)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < columns; c++)
            m[i * columns + c] += bias[c];
}

/* The input's share of the gates, with b0: into the table, or into wide. */
static void project_input(crnn_gru *g, const crnn_gru_input *in, const weights *w)
{
    int64_t TB = (int64_t)g->shape.T * g->shape.B, I = g->shape.I, N = 3 * (int64_t)g->shape.H, V = g->shape.V;
    if (g->folded) {
        if (!g->shape.training && !g->table_stale && g->seen == w->kernel)
            return;
        crnn_cpu_gemm(g->cpu, false, false, V, N, I, in->embeddings, I, w->kernel, N, 0, g->table, N);
        add_bias(g->cpu, g->table, w->bias0, V, N);
        g->table_stale = false;
        g->seen = w->kernel;
        return;
    }
    const float *x = in->x;
    if (in->tokens) {
        crnn_cpu_embed(&g->cpu->base, g->x, in->tokens, in->embeddings, TB, g->shape.V, g->shape.I);
        x = g->x;
    }
    crnn_cpu_gemm(g->cpu, false, false, TB, N, I, x, I, w->kernel, N, 0, g->wide, N);
    add_bias(g->cpu, g->wide, w->bias0, TB, N);
}

void crnn_cpu_gru_forward(crnn_gru *g, float *hs, float *h_last, const crnn_gru_input *in, const float *h_first,
                          const float *w)
{
    int64_t T = g->shape.T, B = g->shape.B, H = g->shape.H;
    weights part = split(g, w);
    project_input(g, in, &part);
    for (int64_t t = 0; t < T && g->cpu->failure.status == CRNN_OK; t++) {
        const float *before = t ? hs + (t - 1) * B * H : h_first;
        recurrent_product(g, before, part.recurrent);
#pragma omp parallel for num_threads(g->cpu->threads) if (B * H > 4096)
        for (int64_t b = 0; b < B; b++) {
            int64_t i = t * B + b;
            const float *a = g->folded ? g->table + (int64_t)in->tokens[i] * 3 * H : g->wide + i * 3 * H;
            gates_forward(hs + i * H, before + b * H, a, g->s + b * 3 * H, part.bias1,
                          g->gates ? g->gates + i * 4 * H : NULL, H);
        }
    }
    if (g->cpu->failure.status == CRNN_OK)
        memcpy(h_last, hs + (T - 1) * B * H, (size_t)(B * H) * sizeof *h_last);
}

/* --- backward --------------------------------------------------------------------------------------------------------- */

/* One row of one time step: with e = dh + dhs (the whole gradient of h'),
 *   da_n = e (1-z) (1-n^2)   da_z = e (h-n) z (1-z)   da_r = da_n q r (1-r)   dq = da_n r
 * dg: [3H] = da_z, da_r, dq; dn: [H] = da_n; dh becomes e z, to which dg R' is still to be added. */
CRNN_VECTOR_CLONES
static void gates_backward(float *restrict dg, float *restrict dn, float *restrict dh, const float *restrict dhs,
                           const float *restrict keep, const float *restrict before, int64_t H)
{
#pragma omp simd
    for (int64_t j = 0; j < H; j++) {
        float z = keep[j], r = keep[H + j], n = keep[2 * H + j], q = keep[3 * H + j];
        float e = dh[j] + dhs[j];
        float an = e * (1.0F - z) * (1.0F - n * n);
        dg[j] = e * (before[j] - n) * z * (1.0F - z);
        dg[H + j] = an * q * r * (1.0F - r);
        dg[2 * H + j] = an * r;
        dn[j] = an;
        dh[j] = e * z;
    }
}

static void transpose_recurrent(crnn_gru *g, const float *R)
{
    enum { BLOCK = 32 };
    int64_t H = g->shape.H, N = 3 * H;
#pragma omp parallel for num_threads(g->cpu->threads)
    for (int64_t column = 0; column < N; column += BLOCK)
        for (int64_t row = 0; row < H; row += BLOCK)
            for (int64_t c = column; c < column + BLOCK && c < N; c++)
                for (int64_t r = row; r < row + BLOCK && r < H; r++)
                    g->transposed[c * H + r] = R[r * N + c];
}

/* Gradient of the gates of every time step, from the last to the first: into wide and dn. */
static void through_time(crnn_gru *g, const float *dhs, const float *hs, const float *h_first)
{
    int64_t T = g->shape.T, B = g->shape.B, H = g->shape.H;
    memset(g->dh, 0, (size_t)(B * H) * sizeof *g->dh);
    for (int64_t t = T - 1; t >= 0 && g->cpu->failure.status == CRNN_OK; t--) {
        const float *before = t ? hs + (t - 1) * B * H : h_first;
#pragma omp parallel for num_threads(g->cpu->threads) if (B * H > 4096)
        for (int64_t b = 0; b < B; b++) {
            int64_t i = t * B + b;
            gates_backward(g->wide + i * 3 * H, g->dn + i * H, g->dh + b * H, dhs + i * H, g->gates + i * 4 * H,
                           before + b * H, H);
        }
        if (t) /* nothing flows out through h_first */
            crnn_cpu_gemm(g->cpu, false, false, B, H, 3 * H, g->wide + t * B * 3 * H, 3 * H, g->transposed, H, 1, g->dh,
                          H);
    }
}

/* wide from the gradient of the recurrent gates to that of the input's: they differ in the candidate alone. */
static void to_input_gates(crnn_gru *g)
{
    int64_t TB = (int64_t)g->shape.T * g->shape.B, H = g->shape.H;
#pragma omp parallel for num_threads(g->cpu->threads)
    for (int64_t i = 0; i < TB; i++)
        memcpy(g->wide + i * 3 * H + 2 * H, g->dn + i * H, (size_t)H * sizeof *g->dn);
}

static void input_gradients(crnn_gru *g, float *din, float *dw, const crnn_gru_input *in, const weights *w)
{
    int64_t TB = (int64_t)g->shape.T * g->shape.B, I = g->shape.I, H = g->shape.H, N = 3 * H;
    float *dbias0 = dw + (I + H) * N;
    if (g->folded) {
        int32_t V = g->shape.V;
        crnn_cpu_embed_backward(&g->cpu->base, g->dtable, g->wide, in->tokens, TB, V, (int32_t)N);
        crnn_cpu_gemm(g->cpu, true, false, I, N, V, in->embeddings, I, g->dtable, N, 0, dw, N);
        crnn_cpu_gemm(g->cpu, false, true, V, I, N, g->dtable, N, w->kernel, N, 0, din, I);
        crnn_cpu_column_sums(g->cpu, dbias0, g->dtable, V, N, N);
        return;
    }
    crnn_cpu_gemm(g->cpu, true, false, I, N, TB, in->tokens ? g->x : in->x, I, g->wide, N, 0, dw, N);
    crnn_cpu_column_sums(g->cpu, dbias0, g->wide, TB, N, N);
    float *dx = in->tokens ? g->dx : din;
    if (!dx)
        return;
    crnn_cpu_gemm(g->cpu, false, true, TB, I, N, g->wide, N, w->kernel, N, 0, dx, I);
    if (in->tokens)
        crnn_cpu_embed_backward(&g->cpu->base, din, dx, in->tokens, TB, g->shape.V, g->shape.I);
}

void crnn_cpu_gru_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                           const crnn_gru_input *in, const float *h_first, const float *w)
{
    if (g->cpu->failure.status != CRNN_OK)
        return;
    int64_t T = g->shape.T, B = g->shape.B, I = g->shape.I, H = g->shape.H, N = 3 * H;
    weights part = split(g, w);
    float *drecurrent = dw + I * N, *dbias1 = dw + (I + H + 1) * N;
    transpose_recurrent(g, part.recurrent);
    through_time(g, dhs, hs, h_first);
    crnn_cpu_gemm(g->cpu, true, false, H, N, B, h_first, H, g->wide, N, 0, drecurrent, N);
    if (T > 1)
        crnn_cpu_gemm(g->cpu, true, false, H, N, (T - 1) * B, hs, H, g->wide + B * N, N, 1, drecurrent, N);
    crnn_cpu_column_sums(g->cpu, dbias1, g->wide, T * B, N, N);
    to_input_gates(g);
    input_gradients(g, din, dw, in, &part);
}
