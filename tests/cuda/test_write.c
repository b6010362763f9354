/* The kernels that write, against plain loops in double: whatever was drawn is run through the model once more, and each draw must be the one that
   the probabilities there ask for. On shapes that no tile, chunk or group divides, in launches of all sizes, in whatever order the blocks run. */
#include "cusim/numbers.h"
#include "kernels/cuda/write_many.h"

#include "host/base/rng.h"
#include <stdlib.h>

enum { SMS = 20, SHARED = 232448, FIRST_DRAW = 5, PATIENT = 100000 /* polls, far more than any takes here */ };

/* The kernel for few texts, or that for many in one of its formats. */
typedef enum { FEW, SPLIT, FP16 } kernel;
typedef struct {
    crnn_writer_shape s;
    int sms, shared, tiles; /* 0: SMS, SHARED, the plan's choice */
    kernel kernel;
    int groups; /* of the kernel for many; 0: the plan's choice */
} given;
typedef struct {
    given g;
    crnn_write_plan few;
    crnn_write_many_plan many;
    int64_t floats;
    float *weights, *state, *logits; /* the last two: what it begins with, then what it ends with */
    uint16_t *text, *last;           /* [n,count], [count] */
    void *workspace, *on_device[5];
    crnn_writing io;
    uint32_t steps;
    uint64_t drawn;
} writer;

static void *host(size_t bytes)
{
    return calloc(bytes ? bytes : 1, 1);
}
static void *device(const void *from, size_t bytes)
{
    void *p = NULL;
    cuda(cudaMalloc(&p, bytes));
    if (from)
        cuda(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}
static size_t state_bytes(const crnn_writer_shape *s)
{
    return (size_t)s->L * (size_t)s->count * (size_t)s->H * sizeof(float);
}
static size_t logits_bytes(const crnn_writer_shape *s)
{
    return (size_t)s->count * (size_t)s->V * sizeof(float);
}
/* Numbers that depend on their place alone, so that a text is the same among others: text k's begin at k * 100003. */
static float number(int64_t i, float limit)
{
    uint64_t bits = ((uint64_t)i + 77) * 0x9E3779B97F4A7C15ULL;
    bits = (bits ^ bits >> 29) * 0xBF58476D1CE4E5B9ULL;
    return limit * ((float)(bits >> 40) / 8388608.0F - 1);
}
static void fill(writer *w)
{
    const crnn_writer_shape *s = &w->g.s;
    float limit = 2.0F / sqrtf((float)s->H);
    for (int64_t i = 0; i < w->floats; i++)
        w->weights[i] = number(i, i < (int64_t)s->V * s->E ? 1.0F : limit < 0.7F ? limit : 0.7F);
    for (int l = 0; l < s->L; l++)
        for (int k = 0; k < s->count; k++)
            for (int j = 0; j < s->H; j++)
                w->state[(l * s->count + k) * s->H + j] = number(1000003LL * (k + 1) + l * s->H + j, 0.9F);
    for (int k = 0; k < s->count; k++)
        for (int v = 0; v < s->V; v++)
            w->logits[k * s->V + v] = number(9000011LL * (k + 1) + v, 2.0F);
}
/* x Kx + b0 of each character. */
static float *table_of(const writer *w)
{
    const crnn_writer_shape *s = &w->g.s;
    int64_t H3 = 3LL * s->H;
    const float *K = w->weights + (int64_t)s->V * s->E, *b0 = K + (s->E + s->H) * H3;
    float *table = host((size_t)(s->V * H3) * sizeof *table);
    for (int v = 0; v < s->V; v++)
        for (int64_t c = 0; c < H3; c++) {
            double sum = (double)b0[c];
            for (int e = 0; e < s->E; e++)
                sum += (double)w->weights[v * s->E + e] * (double)K[e * H3 + c];
            table[v * H3 + c] = (float)sum;
        }
    return table;
}
static void plan(writer *w)
{
    const given *g = &w->g;
    const crnn_write_gpu gpu = {g->sms ? g->sms : SMS, g->shared ? g->shared : SHARED};
    if (g->kernel == FEW) {
        assert_true(crnn_write_plan_for(&w->few, &g->s, &gpu, g->tiles));
        assert_true(w->few.groups * w->few.slices <= gpu.sms && w->few.shared <= gpu.shared);
        return;
    }
    const crnn_persist_gpu many = {.sms = gpu.sms, .shared = gpu.shared, .compute_major = 8};
    const crnn_persist_wish wish = {.groups = g->groups, .tiles = g->tiles};
    assert_true(crnn_write_many_plan_for(&w->many, &g->s, g->kernel == SPLIT ? CRNN_PERSIST_SPLIT : CRNN_PERSIST_FP16,
                                         &many, &wish));
    assert_true(w->many.pass.groups * w->many.pass.slices <= gpu.sms && w->many.pass.shared <= gpu.shared);
}
static void pack(writer *w, const float *weights, const float *table)
{
    size_t bytes = w->g.kernel == FEW ? crnn_write_bytes(&w->few) : crnn_write_many_bytes(&w->many);
    w->workspace = device(NULL, bytes);
    cuda(cudaMemset(w->workspace, 0, bytes));
    if (w->g.kernel == FEW)
        cuda(crnn_write_pack(&w->few, w->workspace, weights, table, NULL));
    else
        cuda(crnn_write_many_pack(&w->many, w->workspace, weights, table, NULL));
    cuda(cudaStreamSynchronize(NULL));
}
static writer begin(const given *g)
{
    writer w = {.g = *g, .drawn = FIRST_DRAW};
    const crnn_writer_shape *s = &g->s;
    plan(&w);
    for (int l = 0; l < s->L; l++)
        w.floats += 3LL * s->H * ((l ? s->H : s->E) + s->H + 2);
    w.floats += (int64_t)s->V * s->E + (int64_t)s->H * s->V + s->V;
    w.weights = host((size_t)w.floats * sizeof *w.weights);
    w.state = host(state_bytes(s));
    w.logits = host(logits_bytes(s));
    w.last = host((size_t)s->count * sizeof *w.last);
    fill(&w);
    float *table = table_of(&w);
    float *there[] = {device(w.weights, (size_t)w.floats * sizeof *w.weights),
                      device(table, (size_t)s->V * 3 * (size_t)s->H * sizeof *table)};
    pack(&w, there[0], there[1]);
    cuda(cudaFree(there[0]));
    cuda(cudaFree(there[1]));
    free(table);
    w.io = (crnn_writing){.last = device(NULL, (size_t)s->count * sizeof *w.last),
                          .state = device(w.state, state_bytes(s)),
                          .logits = device(w.logits, logits_bytes(s)),
                          .drawn = device(&w.drawn, sizeof w.drawn)};
    return w;
}
static void end(writer *w)
{
    void *there[] = {w->io.last, w->io.state, w->io.logits, w->io.drawn, w->workspace};
    for (size_t i = 0; i < sizeof there / sizeof *there; i++)
        cuda(cudaFree(there[i]));
    free(w->weights);
    free(w->state);
    free(w->logits);
    free(w->text);
    free(w->last);
}
/* One launch; what it wrote goes behind what there was. Memory for it is of the exact size. */
static void launch(writer *w, int n, const crnn_sample_options *options, uint32_t patience)
{
    size_t count = (size_t)w->g.s.count, bytes = (size_t)n * count * sizeof *w->text;
    int written = (int)(w->drawn - FIRST_DRAW);
    w->io.written = device(NULL, bytes);
    const crnn_write_pass pass = {w->workspace, w->io, *options, n, w->steps, patience};
    cuda(w->g.kernel == FEW ? crnn_write_launch(&w->few, &pass, NULL) : crnn_write_many_launch(&w->many, &pass, NULL));
    cuda(cudaStreamSynchronize(NULL));
    w->text = realloc(w->text, ((size_t)written + (size_t)n) * count * sizeof *w->text);
    cuda(cudaMemcpy(w->text + (size_t)written * count, w->io.written, bytes, cudaMemcpyDeviceToHost));
    cuda(cudaFree(w->io.written));
    w->drawn += (uint64_t)n;
    w->steps += (uint32_t)n;
    cuda(cudaMemcpy(w->io.drawn, &w->drawn, sizeof w->drawn, cudaMemcpyHostToDevice));
}
static uint32_t status_of(const writer *w)
{
    uint32_t gave_up = 0;
    const uint32_t *at = w->g.kernel == FEW ? crnn_write_status(w->workspace) : crnn_write_many_status(w->workspace);
    cuda(cudaMemcpy(&gave_up, at, sizeof gave_up, cudaMemcpyDeviceToHost));
    return gave_up;
}
static void fetch(writer *w)
{
    cuda(cudaMemcpy(w->last, w->io.last, (size_t)w->g.s.count * sizeof *w->last, cudaMemcpyDeviceToHost));
    cuda(cudaMemcpy(w->state, w->io.state, state_bytes(&w->g.s), cudaMemcpyDeviceToHost));
    cuda(cudaMemcpy(w->logits, w->io.logits, logits_bytes(&w->g.s), cudaMemcpyDeviceToHost));
}

/* ---- the model and the draw in double */
static int by_likelihood(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return x[0] != y[0] ? (x[0] < y[0] ? 1 : -1) : x[1] < y[1] ? -1 : x[1] > y[1];
}
static void probabilities(double *p, const double *z, int V, const crnn_sample_options *o)
{
    double(*sorted)[2] = host((size_t)V * sizeof *sorted), most = z[0], all = 0, sum = 0;
    for (int v = 0; v < V; v++)
        most = z[v] > most ? z[v] : most;
    for (int v = 0; v < V; v++) {
        sorted[v][0] = o->temperature > 0 ? exp((z[v] - most) / (double)o->temperature) : z[v] == most;
        sorted[v][1] = v;
        p[v] = 0;
    }
    qsort(sorted, (size_t)V, sizeof *sorted, by_likelihood);
    int kept = o->top_k && o->top_k < V ? o->top_k : V;
    for (int i = 0; i < kept; i++)
        all += sorted[i][0];
    for (int i = 0; i < kept; sum += sorted[i++][0])
        if ((i == 0 || sum < (double)o->top_p * all) && sorted[i][0] >= (double)o->min_p)
            p[(int)sorted[i][1]] = sorted[i][0];
    all = 0;
    for (int v = 0; v < V; v++)
        all += p[v];
    for (int v = 0; v < V; v++)
        p[v] /= all;
    free(sorted);
}
/* What is multiplied in fp16 has 11 bits, 2^-12 of itself may be lost, and of several steps' states the sum of it; elsewhere float32's 24, or split
 * fp16's 22, where what is lost of a product of two is less than what float32 loses in sums. */
static double coarse(const writer *w)
{
    return w->g.kernel == FP16 ? 300 : 1;
}
/* Rounding may move an edge between two characters by so much: some roundings of logits of size 10 and of sums of V numbers. */
static void expect_draw(const double *z, int id, int text, uint64_t nth, const writer *w, const crnn_sample_options *o)
{
    const double edge = 1e-4 * coarse(w);
    int V = w->g.s.V;
    double *p = host((size_t)V * sizeof *p), before = 0;
    assert_in_range(id, 0, V - 1);
    probabilities(p, z, V, o);
    for (int v = 0; v < id; v++)
        before += p[v];
    double u = (double)crnn_u01(crnn_philox(o->seed, crnn_rng_stream(CRNN_RNG_SAMPLE, (uint64_t)text), nth).v[0]);
    if (!(p[id] > 0 && u > before - edge && u < before + p[id] + edge))
        fail_msg("draw %d of text %d: %d of probability %g from %g on, drawn with %g", (int)nth, text, id, p[id],
                 before, u);
    free(p);
}
static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
/* h [H] moves on by one step of a layer whose kernel begins at w; returns where the next tensor begins. */
static const float *layer_step(double *h, const double *x, int I, int H, const float *w)
{
    const float *K = w, *R = K + (int64_t)I * 3 * H, *b = R + (int64_t)H * 3 * H;
    double *a = host((size_t)H * 6 * sizeof *a);
    for (int c = 0; c < 3 * H; c++) {
        a[c] = (double)b[c];
        a[3 * H + c] = (double)b[3 * H + c];
        for (int i = 0; i < I; i++)
            a[c] += x[i] * (double)K[(int64_t)i * 3 * H + c];
        for (int i = 0; i < H; i++)
            a[3 * H + c] += h[i] * (double)R[(int64_t)i * 3 * H + c];
    }
    for (int j = 0; j < H; j++) {
        double z = sigmoid(a[j] + a[3 * H + j]), r = sigmoid(a[H + j] + a[4 * H + j]);
        double n = tanh(a[2 * H + j] + r * a[5 * H + j]);
        h[j] = z * h[j] + (1 - z) * n;
    }
    free(a);
    return b + 6 * H;
}
/* h [L,H] and z [V] of one text after one more character. */
static void model_step(const writer *w, double *h, double *z, int id)
{
    const crnn_writer_shape *s = &w->g.s;
    double *x = host((size_t)s->E * sizeof *x);
    const float *at = w->weights + (int64_t)s->V * s->E;
    for (int e = 0; e < s->E; e++)
        x[e] = (double)w->weights[id * s->E + e];
    for (int l = 0; l < s->L; l++)
        at = layer_step(h + l * s->H, l ? h + (l - 1) * s->H : x, l ? s->H : s->E, s->H, at);
    for (int v = 0; v < s->V; v++) {
        z[v] = (double)at[(int64_t)s->H * s->V + v];
        for (int j = 0; j < s->H; j++)
            z[v] += h[(s->L - 1) * s->H + j] * (double)at[(int64_t)j * s->V + v];
    }
    free(x);
}
/* w: after its launches; state and logits as it began. */
static void expect_text(const writer *w, const writer *first, int text, const crnn_sample_options *o)
{
    const crnn_writer_shape *s = &w->g.s;
    int n = (int)(w->drawn - FIRST_DRAW);
    double *h = host((size_t)(s->L * s->H) * sizeof *h), *z = host((size_t)s->V * sizeof *z);
    for (int i = 0; i < s->L * s->H; i++)
        h[i] = (double)first->state[(i / s->H * s->count + text) * s->H + i % s->H];
    for (int v = 0; v < s->V; v++)
        z[v] = (double)first->logits[text * s->V + v];
    for (int i = 0; i < n; i++) {
        int id = w->text[i * s->count + text];
        expect_draw(z, id, text, FIRST_DRAW + (uint64_t)i, w, o);
        model_step(w, h, z, id);
    }
    assert_int_equal(w->last[text], w->text[(n - 1) * s->count + text]);
    for (int i = 0; i < s->L * s->H; i++)
        if (!(fabs((double)w->state[(i / s->H * s->count + text) * s->H + i % s->H] - h[i]) < 1e-5 * coarse(w)))
            fail_msg("state %d of text %d is %g, not %g", i, text,
                     (double)w->state[(i / s->H * s->count + text) * s->H + i % s->H], h[i]);
    for (int v = 0; v < s->V; v++)
        if (!(fabs((double)w->logits[text * s->V + v] - z[v]) < 4e-5 * coarse(w)))
            fail_msg("logit %d of text %d is %g, not %g", v, text, (double)w->logits[text * s->V + v], z[v]);
    free(h);
    free(z);
}
/* Launches of those sizes, up to a 0. */
static void check(const given *g, const crnn_sample_options *o, const int *sizes)
{
    writer first = begin(g), w = begin(g);
    for (; *sizes; sizes++)
        launch(&w, *sizes, o, PATIENT);
    fetch(&w);
    assert_int_equal(status_of(&w), 0);
    for (int text = 0; text < g->s.count; text++)
        expect_text(&w, &first, text, o);
    end(&w);
    end(&first);
}

static const crnn_sample_options plain = {.temperature = 1, .top_p = 1, .seed = 1};
static const int usual[] = {1, 3, 1, 2, 0};
static void one_text(void **state)
{
    (void)state;
    const given all[] = {
        {{.V = 1, .E = 1, .H = 1, .L = 1, .count = 1}, 0, 0, 0, FEW, 0},
        {{.V = 2, .E = 3, .H = 5, .L = 1, .count = 1}, 0, 0, 0, FEW, 0},
        {{.V = 13, .E = 7, .H = 33, .L = 1, .count = 1}, 0, 0, 0, FEW, 0},
        {{.V = 83, .E = 5, .H = 96, .L = 1, .count = 1}, 0, 0, 0, FEW, 0},
        {{.V = 300, .E = 2, .H = 24, .L = 1, .count = 1}, 0, 0, 0, FEW, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], &plain, usual);
}
static void several_layers(void **state)
{
    (void)state;
    const given all[] = {
        {{.V = 3, .E = 2, .H = 1, .L = 2, .count = 1}, 0, 0, 0, FEW, 0},
        {{.V = 13, .E = 7, .H = 33, .L = 3, .count = 2}, 0, 0, 0, FEW, 0},
        {{.V = 21, .E = 4, .H = 64, .L = 2, .count = 3}, 0, 0, 2, FEW, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], &plain, usual);
}
static void several_texts(void **state)
{
    (void)state;
    const given all[] = {
        {{.V = 13, .E = 7, .H = 33, .L = 1, .count = 2}, 0, 0, 0, FEW, 0}, /* each its group */
        {{.V = 13, .E = 7, .H = 33, .L = 1, .count = 7}, 6, 0, 0, FEW, 0}, /* 7 of a chunk's 8 */
        {{.V = 5, .E = 7, .H = 17, .L = 1, .count = 17}, 6, 0, 0, FEW, 0}, /* two groups, of 9 and 8, two chunks */
        {{.V = 5, .E = 3, .H = 9, .L = 2, .count = 11}, 8, 0, 0, FEW, 0},  /* four groups of 3, the last of 2 */
        {{.V = 83, .E = 3, .H = 5, .L = 1, .count = 64}, 1, 0, 0, FEW, 0}, /* eight chunks */
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], &plain, usual);
}
/* More of K than a warp, or than a thread's first four numbers; and weights that have no room in shared memory. */
static void wide_layers(void **state)
{
    (void)state;
    const int sizes[] = {2, 1, 0};
    const given all[] = {
        {{.V = 6, .E = 2, .H = 300, .L = 1, .count = 1}, 0, 0, 0, FEW, 0},
        {{.V = 6, .E = 2, .H = 140, .L = 2, .count = 3}, 6, 60000, 0, FEW, 0},
        {{.V = 70, .E = 2, .H = 1030, .L = 1, .count = 2}, 0, 0, 0, FEW, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], &plain, sizes);
}
static void filters_and_temperatures(void **state)
{
    (void)state;
    const given few = {{.V = 41, .E = 7, .H = 19, .L = 1, .count = 3}, 6, 0, 0, FEW, 0};
    given many = few;
    many.kernel = SPLIT;
    const crnn_sample_options all[] = {
        {.temperature = 0, .top_p = 1, .seed = 1},
        {.temperature = 0.5F, .top_k = 5, .top_p = 1, .seed = 2},
        {.temperature = 2, .top_p = 0.7F, .seed = 3},
        {.temperature = 1, .top_p = 1, .min_p = 0.2F, .seed = 4},
        {.temperature = 1.5F, .top_k = 20, .top_p = 0.9F, .min_p = 0.05F, .seed = 1ULL << 40},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check(&few, &all[i], usual);
        check(&many, &all[i], usual);
    }
}

/* Of the kernel for many texts: units and characters that no tile divides, chunks and groups that are not full, a tile of two, weights that have no
 * room in registers or in shared memory. */
static void many_texts(void **state)
{
    (void)state;
    const given all[] = {
        {{.V = 1, .E = 1, .H = 1, .L = 1, .count = 1}, 0, 0, 0, SPLIT, 0},
        {{.V = 13, .E = 7, .H = 33, .L = 1, .count = 2}, 0, 0, 0, SPLIT, 0},
        {{.V = 83, .E = 5, .H = 17, .L = 1, .count = 17}, 0, 0, 0, SPLIT, 1},
        {{.V = 35, .E = 5, .H = 40, .L = 1, .count = 50}, 0, 0, 0, SPLIT, 2}, /* two chunks each, the last of 2 texts */
        {{.V = 2, .E = 3, .H = 5, .L = 1, .count = 3}, 0, 0, 0, FP16, 0},
        {{.V = 37, .E = 7, .H = 33, .L = 1, .count = 19}, 0, 0, 2, FP16, 0},
        {{.V = 37, .E = 7, .H = 65, .L = 1, .count = 33}, 0, 80000, 1, FP16, 3},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], &plain, usual);
}
static void many_texts_of_wide_layers(void **state)
{
    (void)state;
    const int sizes[] = {2, 1, 0};
    const given all[] = {
        {{.V = 6, .E = 2, .H = 300, .L = 1, .count = 3}, 0, 0, 0, SPLIT, 0},
        {{.V = 6, .E = 2, .H = 530, .L = 1, .count = 2}, 40, 140000, 1, SPLIT, 0},
        {{.V = 6, .E = 2, .H = 530, .L = 1, .count = 2}, 20, 0, 2, FP16, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], &plain, sizes);
}

/* The same bits of the same text, alone or among others, at once or in parts, however blocks share the work. */
static void a_text_is_the_same_however_it_is_written(void **state)
{
    (void)state;
    const crnn_writer_shape alone = {.V = 29, .E = 7, .H = 40, .L = 2, .count = 1};
    crnn_writer_shape among = alone;
    among.count = 6;
    const struct {
        given g;
        int sizes[4];
    } all[] = {
        {{alone, 0, 0, 1, FEW, 0}, {12}},           {{alone, 0, 0, 3, FEW, 0}, {12}},
        {{alone, 0, 60000, 5, FEW, 0}, {1, 10, 1}}, {{among, 5, 0, 1, FEW, 0}, {5, 7}},
        {{among, 20, 0, 2, FEW, 0}, {12}},
    };
    writer w[sizeof all / sizeof *all];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        w[i] = begin(&all[i].g);
        for (int k = 0; k < 4 && all[i].sizes[k]; k++)
            launch(&w[i], all[i].sizes[k], &plain, PATIENT);
        fetch(&w[i]);
        size_t count = (size_t)w[i].g.s.count, H = (size_t)alone.H;
        for (size_t k = 0; k < 12; k++)
            assert_int_equal(w[i].text[k * count], w[0].text[k]);
        assert_memory_equal(w[i].logits, w[0].logits, (size_t)alone.V * sizeof(float));
        for (size_t l = 0; l < 2; l++)
            assert_memory_equal(w[i].state + l * count * H, w[0].state + l * H, H * sizeof(float));
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        end(&w[i]);
}
/* The number of the step goes around. */
static void steps_go_around(void **state)
{
    (void)state;
    for (kernel k = FEW; k <= SPLIT; k++) {
        const given g = {{.V = 13, .E = 7, .H = 20, .L = 1, .count = 2}, 0, 0, 0, k, 0};
        writer first = begin(&g), w = begin(&g);
        w.steps = UINT32_MAX - 2;
        launch(&w, 6, &plain, PATIENT);
        fetch(&w);
        for (int text = 0; text < 2; text++)
            expect_text(&w, &first, text, &plain);
        end(&w);
        end(&first);
    }
}
/* A block that waits in vain says so and ends, and so do those that wait for it. */
static void a_block_that_waits_in_vain_gives_up(void **state)
{
    (void)state;
    for (kernel k = FEW; k <= SPLIT; k++) {
        const given g = {{.V = 13, .E = 7, .H = 20, .L = 1, .count = 1}, 0, 0, 0, k, 0};
        writer w = begin(&g);
        launch(&w, 50, &plain, 1);
        assert_int_not_equal(status_of(&w), 0);
        end(&w);
    }
}
static void plans_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const crnn_write_gpu gpu = {SMS, SHARED}, small = {SMS, 12000};
    crnn_write_plan plan;
    const crnn_writer_shape fits = {.V = 13, .E = 7, .H = 20, .L = 1, .count = 64};
    crnn_writer_shape texts = fits, letters = fits, units = fits;
    texts.count = 10000;
    letters.V = 60000;
    units.H = 100000;
    assert_true(crnn_write_plan_for(&plan, &fits, &gpu, 0));
    assert_false(crnn_write_plan_for(&plan, &texts, &gpu, 0));
    assert_false(crnn_write_plan_for(&plan, &letters, &gpu, 0));
    assert_false(crnn_write_plan_for(&plan, &units, &gpu, 0));
    assert_false(crnn_write_plan_for(&plan, &fits, &small, 0));

    const crnn_persist_gpu ampere = {.sms = SMS, .shared = SHARED, .compute_major = 8};
    crnn_persist_gpu turing = ampere, narrow = ampere;
    turing.compute_major = 7;
    narrow.shared = 12000;
    crnn_writer_shape layers = fits;
    layers.L = 2;
    crnn_write_many_plan many;
    assert_true(crnn_write_many_plan_for(&many, &fits, CRNN_PERSIST_SPLIT, &ampere, NULL));
    assert_false(crnn_write_many_plan_for(&many, &texts, CRNN_PERSIST_SPLIT, &ampere, NULL));
    assert_false(crnn_write_many_plan_for(&many, &letters, CRNN_PERSIST_SPLIT, &ampere, NULL));
    assert_false(crnn_write_many_plan_for(&many, &units, CRNN_PERSIST_SPLIT, &ampere, NULL));
    assert_false(crnn_write_many_plan_for(&many, &layers, CRNN_PERSIST_SPLIT, &ampere, NULL));
    assert_false(crnn_write_many_plan_for(&many, &fits, CRNN_PERSIST_SPLIT, &turing, NULL));
    assert_false(crnn_write_many_plan_for(&many, &fits, CRNN_PERSIST_SPLIT, &narrow, NULL));
}
/* On the GPUs that there are, the sizes that matter have their weights where they should be. */
static void large_models_have_their_weights_near(void **state)
{
    (void)state;
    const crnn_write_gpu h200 = {132, 232448};
    crnn_writer_shape s = {.V = 83, .E = 256, .H = 1024, .L = 1, .count = 1};
    crnn_write_plan plan;
    assert_true(crnn_write_plan_for(&plan, &s, &h200, 0));
    assert_int_equal(plan.slices, 128);
    assert_int_equal(plan.pieces, 1);
    assert_true(plan.near_letters && plan.near_table);
    s.count = 64;
    assert_true(crnn_write_plan_for(&plan, &s, &h200, 0));
    assert_int_equal(plan.slices, 128);
    assert_true(plan.near_letters && plan.near_table);

    const crnn_persist_gpu hopper = {.sms = 132, .shared = 232448, .compute_major = 9};
    const crnn_persist_precision all[] = {CRNN_PERSIST_FP16, CRNN_PERSIST_SPLIT};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        crnn_write_many_plan many;
        assert_true(crnn_write_many_plan_for(&many, &s, all[i], &hopper, NULL));
        assert_int_equal(many.pass.groups * many.pass.slices, 128);
        assert_true(many.near_letters && many.near_table && many.estimate < plan.estimate);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_text),
        cmocka_unit_test(several_layers),
        cmocka_unit_test(several_texts),
        cmocka_unit_test(wide_layers),
        cmocka_unit_test(many_texts),
        cmocka_unit_test(many_texts_of_wide_layers),
        cmocka_unit_test(filters_and_temperatures),
        cmocka_unit_test(a_text_is_the_same_however_it_is_written),
        cmocka_unit_test(steps_go_around),
        cmocka_unit_test(a_block_that_waits_in_vain_gives_up),
        cmocka_unit_test(plans_that_do_not_fit_are_refused),
        cmocka_unit_test(large_models_have_their_weights_near),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
