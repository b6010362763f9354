/* Where the gates of all time steps are more than a layer may keep, the backward pass computes them anew span by span: the same states, and
   the same gradients up to rounding, in less memory; whatever the spans' length. */
#include "support/cmocka.h"

#include "kernels/cuda/cuda.h"
#include <cusim_control.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t states, weights, inputs; /* numbers of each */
    float *hs, *dw, *din;
} result;

/* Numbers in [-limit, limit), the same in every run. */
static float *drawn(crnn_backend *be, int64_t n, double limit, uint64_t seed)
{
    float *x = malloc((size_t)n * sizeof *x), *device = be->ops->alloc(be, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        x[i] = (float)(limit * ((double)(seed >> 40) / (1 << 23) - 1));
    }
    be->ops->upload(be, device, x, (size_t)n * sizeof *x);
    free(x);
    return device;
}
static float *down(crnn_backend *be, const float *device, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    be->ops->download(be, x, device, (size_t)n * sizeof *x);
    return x;
}
static uint16_t *text(crnn_backend *be, int64_t n, int32_t V)
{
    uint16_t *ids = malloc((size_t)n * sizeof *ids), *device = be->ops->alloc(be, (size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (uint16_t)(i * i % 31 % V);
    be->ops->upload(be, device, ids, (size_t)n * sizeof *ids);
    free(ids);
    return device;
}

static int64_t longest_sum; /* of one product in split precision; 0: as ever */

static crnn_backend *open_with(const char *algo, crnn_precision precision, int64_t gate_bytes)
{
    crnn_device_config config = crnn_device_config_default();
    config.kind = CRNN_DEVICE_CUDA;
    config.precision = precision;
    config.rnn_algo = algo;
    crnn_error err = {0};
    crnn_backend *be = crnn_backend_open(&config, NULL, 0, &err);
    if (!be)
        fail_msg("%s", err.text);
    ((crnn_cuda *)be)->gate_bytes = gate_bytes;
    ((crnn_cuda *)be)->longest_sum = longest_sum;
    return be;
}

/* Two steps of a layer that may keep so many bytes of gates (0: as many as it likes); the second one's results. */
static result run(const char *algo, crnn_precision precision, const crnn_gru_shape *s, int64_t gate_bytes)
{
    crnn_error err = {0};
    crnn_backend *be = open_with(algo, precision, gate_bytes);
    int64_t n = (int64_t)s->T * s->B, H = s->H;
    crnn_gru *g = be->ops->gru_new(be, s);
    result r = {.states = n * H, .inputs = s->V ? s->V * s->I : n * s->I};
    if (!g)
        fail_msg("%s: no layer", algo);
    r.weights = be->ops->gru_params(g);
    crnn_gru_input in = {0};
    if (s->V) {
        in.tokens = text(be, n, s->V);
        in.embeddings = drawn(be, s->V * s->I, 1, 1);
    } else {
        in.x = drawn(be, n * s->I, 1, 1);
    }
    float *h_first = drawn(be, s->B * H, 1, 2), *w = drawn(be, r.weights, 1 / sqrt((double)H), 3),
          *dhs = drawn(be, n * H, 1 / (double)n, 4), *hs = drawn(be, n * H, 1, 5), *dw = drawn(be, r.weights, 1, 6),
          *din = drawn(be, r.inputs, 1, 7), *last = drawn(be, s->B * H, 1, 8);
    for (int step = 0; step < 2; step++) {
        be->ops->gru_forward(g, hs, last, &in, h_first, w);
        be->ops->gru_backward(g, din, dw, dhs, hs, &in, h_first, w);
    }
    r.hs = down(be, hs, r.states);
    r.dw = down(be, dw, r.weights);
    r.din = down(be, din, r.inputs);
    if (be->ops->sync(be, &err))
        fail_msg("%s: %s", algo, err.text);
    const void *all[] = {in.tokens, in.embeddings, in.x, h_first, w, dhs, hs, dw, din, last};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->ops->free(be, (void *)(uintptr_t)all[i]);
    be->ops->gru_free(g);
    be->ops->close(be);
    assert_int_equal(cusim_errors(), 0);
    return r;
}
static void result_free(result *r)
{
    free(r->hs);
    free(r->dw);
    free(r->din);
}

/* The difference's norm against the norm of all. */
static void close_to(const char *what, const crnn_gru_shape *s, int64_t steps, const float *got, const float *wanted,
                     int64_t n, double tolerance)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        error += pow((double)got[i] - (double)wanted[i], 2);
        norm += pow((double)wanted[i], 2);
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm)))
        fail_msg("%s, T %d B %d H %d, spans of %lld: off by %g of the norm", what, s->T, s->B, s->H, (long long)steps,
                 sqrt(error / norm));
}

static const crnn_gru_shape shapes[] = {/* T, B, I, H, V, training */
                                        {7, 3, 5, 18, 4, true},
                                        {11, 1, 4, 7, 90, true},
                                        {5, 17, 6, 9, 0, true}};

static void spans_give_the_same(const char *algo, crnn_precision precision, double tolerance)
{
    static const int64_t lengths[] = {1, 2, 3, 5};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const crnn_gru_shape *s = &shapes[i];
        result whole = run(algo, precision, s, 0);
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths && lengths[k] < s->T; k++) {
            int64_t steps = lengths[k], bytes = (steps + 1) * 7 * (int64_t)sizeof(float) * s->B * s->H;
            if (bytes >= (s->T + 1) * 4 * (int64_t)sizeof(float) * s->B * s->H)
                continue; /* which all gates would fit into */
            if (cusim_checks() && steps != 2)
                continue; /* races do not hang on the length */
            result r = run(algo, precision, s, bytes);
            assert_memory_equal(r.hs, whole.hs, (size_t)r.states * sizeof(float));
            close_to("weights", s, steps, r.dw, whole.dw, r.weights, tolerance);
            close_to("input", s, steps, r.din, whole.din, r.inputs, tolerance);
            result_free(&r);
        }
        result_free(&whole);
    }
    if (cusim_checks())
        return;
    const crnn_gru_shape *s = &shapes[0];
    int64_t bytes = 4 * 7 * (int64_t)sizeof(float) * s->B * s->H;
    result a = run(algo, precision, s, bytes), b = run(algo, precision, s, bytes);
    assert_memory_equal(a.dw, b.dw, (size_t)a.weights * sizeof(float));
    assert_memory_equal(a.din, b.din, (size_t)a.inputs * sizeof(float));
    result_free(&a);
    result_free(&b);
}

/* Gates are computed anew from the same factors; only the order of sums differs. In 16 bits a sum on the border between two numbers becomes
   the other one. */
static void the_loop_in_spans(void **state)
{
    (void)state;
    spans_give_the_same("loop", CRNN_FP32, 1e-6);
    spans_give_the_same("loop", CRNN_TF32, 0x1p-10);
    spans_give_the_same("loop", CRNN_BF16, 0x1p-8);
}
/* Sums that are cut into pieces, of which the last may be shorter, are those of whole products but for the order. */
static void products_in_pieces(void **state)
{
    (void)state;
    static const crnn_gru_shape cut[] = {{3, 3, 5, 18, 4, true}, {2, 5, 6, 32, 0, true}, {4, 1, 4, 8, 3, true}};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        const crnn_gru_shape *s = &cut[i];
        longest_sum = 0;
        result whole = run("loop", CRNN_FP32, s, 0);
        longest_sum = 8;
        result pieces = run("loop", CRNN_FP32, s, 0);
        longest_sum = 0;
        assert_memory_not_equal(pieces.dw, whole.dw, (size_t)whole.weights * sizeof(float));
        close_to("states", s, s->T, pieces.hs, whole.hs, whole.states, 1e-6);
        close_to("weights", s, s->T, pieces.dw, whole.dw, whole.weights, 1e-6);
        close_to("input", s, s->T, pieces.din, whole.din, whole.inputs, 1e-6);
        result_free(&whole);
        result_free(&pieces);
    }
}
static void persistent_kernels_in_spans(void **state)
{
    (void)state;
    spans_give_the_same("persist", CRNN_FP32, 2e-6);
    spans_give_the_same("persist", CRNN_TF32, 0x1p-10);
    spans_give_the_same("persist", CRNN_BF16, 0x1p-8);
}

static int64_t bytes_of_layer(const char *algo, int32_t T, int64_t gate_bytes)
{
    const crnn_gru_shape s = {T, 2, 3, 32, 5, true};
    crnn_backend *be = open_with(algo, CRNN_FP32, gate_bytes);
    int64_t before = be->ops->memory(be);
    crnn_gru *g = be->ops->gru_new(be, &s);
    assert_non_null(g);
    int64_t bytes = be->ops->memory(be) - before;
    be->ops->gru_free(g);
    be->ops->close(be);
    return bytes;
}
/* However long the passage, gates take no more than is allowed, beside them the states' 16-bit copies (a seventh) and the weights'. */
static void memory_is_bounded(void **state)
{
    (void)state;
    static const char *const algos[] = {"loop", "persist"};
    const int64_t step = 2 * 32 * (int64_t)sizeof(float), budget = 41 * 7 * step, weights = 3 * 32 * 32 * 4;
    for (int i = 0; i < 2; i++) {
        int64_t least = bytes_of_layer(algos[i], 1, 0);
        for (int32_t T = 100; T < 4000; T *= 3) {
            int64_t whole = bytes_of_layer(algos[i], T, 0), spans = bytes_of_layer(algos[i], T, budget);
            assert_true(whole >= least + (T - 1) * 4 * step);
            assert_true(spans <= least + budget + budget / 7 + weights + 4 * step);
            assert_true(spans < whole);
        }
    }
}
/* Without being told, an eighth of the GPU's memory. */
static void the_allowance_is_an_eighth_of_the_gpu(void **state)
{
    (void)state;
    const int64_t row = 2 * 32 * 4 * (int64_t)sizeof(float), needed = 8 * row * (20000 + 1);
    cusim_set_memory((uint64_t)needed);
    int64_t fits = bytes_of_layer("loop", 20000, 0);
    cusim_set_memory((uint64_t)needed - 8);
    assert_true(bytes_of_layer("loop", 20000, 0) < fits - row * 2000);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loop_in_spans),
        cmocka_unit_test(products_in_pieces),
        cmocka_unit_test(persistent_kernels_in_spans),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(the_allowance_is_an_eighth_of_the_gpu),
    };
    return cmocka_run_group_tests_name("gates computed anew", tests, NULL, NULL);
}
