/* From logits to a character: filters against a direct computation, draws against their distribution. */
#include "support/cmocka.h"

#include "host/base/rng.h"
#include "kernels/backend.h"
#include "support/device.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { V = 7 };
static crnn_backend *be;

static int open_device(void **state)
{
    (void)state;
    crnn_device_config config = test_device();
    crnn_error err = {0};
    be = crnn_backend_open(&config, NULL, 0, &err);
    if (!be)
        fprintf(stderr, "%s\n", err.text);
    return be == NULL;
}

static int close_device(void **state)
{
    (void)state;
    be->ops->close(be);
    return 0;
}

static void *on_device(const void *host, size_t bytes)
{
    void *device = be->ops->alloc(be, bytes);
    be->ops->upload(be, device, host, bytes);
    return device;
}

static void from_device(void *host, void *device, size_t bytes)
{
    be->ops->download(be, host, device, bytes);
    be->ops->free(be, device);
    crnn_error err = {0};
    if (be->ops->sync(be, &err) != CRNN_OK)
        fail_msg("%s", err.text);
}

/* Rows of p out, each from its row of z. */
static void probabilities(float *p, const float *z, int64_t n, int32_t width, const crnn_sample_options *options)
{
    size_t bytes = (size_t)n * (size_t)width * sizeof *p;
    float *device_z = on_device(z, bytes), *device_p = be->ops->alloc(be, bytes);
    be->ops->probabilities(be, device_p, device_z, n, width, options);
    from_device(p, device_p, bytes);
    be->ops->free(be, device_z);
}

static const float logits[V] = {0.5F, 2.0F, -1.0F, 2.0F, 0.0F, 1.0F, -3.0F};

/* What is kept must hold the reference's members, renormalised; reference computed in double from the definition. */
static void expect(const crnn_sample_options *options, const int *kept)
{
    float p[V];
    probabilities(p, logits, 1, V, options);
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += kept[v] ? exp((double)logits[v] / (double)options->temperature) : 0;
    for (int v = 0; v < V; v++) {
        double want = kept[v] ? exp((double)logits[v] / (double)options->temperature) / sum : 0;
        assert_true(fabs((double)p[v] - want) < 1e-6); /* a few roundings of float */
    }
}

static void softmax_at_a_temperature(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    for (float t = 0.25F; t < 5; t *= 2) {
        options.temperature = t;
        expect(&options, (int[V]){1, 1, 1, 1, 1, 1, 1});
    }
}

static void top_k_keeps_the_lower_id_among_equals(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    options.top_k = 1;
    expect(&options, (int[V]){0, 1, 0, 0, 0, 0, 0});
    options.top_k = 3;
    expect(&options, (int[V]){0, 1, 0, 1, 0, 1, 0});
    options.top_k = 100;
    expect(&options, (int[V]){1, 1, 1, 1, 1, 1, 1});
}

static void top_p_keeps_the_fewest_that_reach_p(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    double total = 0;
    for (int v = 0; v < V; v++)
        total += exp((double)logits[v]);
    options.top_p = (float)(2 * exp(2.0) / total) + 0.01F; /* two most likely are not quite enough */
    expect(&options, (int[V]){0, 1, 0, 1, 0, 1, 0});
    options.top_p = (float)(2 * exp(2.0) / total) - 0.01F;
    expect(&options, (int[V]){0, 1, 0, 1, 0, 0, 0});
    options.top_p = 1e-6F;
    expect(&options, (int[V]){0, 1, 0, 0, 0, 0, 0});
}

static void top_p_counts_what_top_k_left(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    options.top_k = 2;
    options.top_p = 0.49F; /* of the two, one alone is half */
    expect(&options, (int[V]){0, 1, 0, 0, 0, 0, 0});
    options.top_p = 0.51F;
    expect(&options, (int[V]){0, 1, 0, 1, 0, 0, 0});
}

static void min_p_is_relative_to_the_likeliest(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    options.min_p = expf(-1.0F) * 0.999F; /* exp(1)/exp(2), and a little room for rounding */
    expect(&options, (int[V]){0, 1, 0, 1, 0, 1, 0});
    options.min_p = 1;
    expect(&options, (int[V]){0, 1, 0, 1, 0, 0, 0});
}

static void temperature_zero_takes_the_most_likely(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    float p[V];
    options.temperature = 0;
    probabilities(p, logits, 1, V, &options);
    for (int v = 0; v < V; v++)
        assert_true(p[v] == (v == 1 ? 1.0F : 0.0F));
}

typedef struct {
    double p;
    int32_t id;
} candidate;

static int by_likelihood(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

/* The filters in double, from their definition; kept[v] out. */
static void filter(bool *kept, const float *z, int32_t width, const crnn_sample_options *o)
{
    candidate *all = malloc((size_t)width * sizeof *all);
    double sum = 0, reached = 0;
    for (int32_t v = 0; v < width; v++) {
        all[v] = (candidate){exp((double)z[v] / (double)o->temperature), v};
        kept[v] = false;
    }
    qsort(all, (size_t)width, sizeof *all, by_likelihood);
    int32_t count = o->top_k > 0 && o->top_k < width ? o->top_k : width;
    for (int32_t i = 0; i < count; i++)
        sum += all[i].p;
    for (int32_t i = 0; i < count && (i == 0 || o->top_p >= 1 || reached < (double)o->top_p * sum); i++) {
        reached += all[i].p;
        kept[all[i].id] = all[i].p >= (double)o->min_p * all[0].p;
    }
    free(all);
}

/* Many rows of many widths: the rows of one call have nothing to do with each other. */
static void rows_of_any_width_are_filtered_each_for_itself(void **state)
{
    (void)state;
    const int32_t widths[] = {1, 2, 3, 31, 33, 64, 83, 257, 1000};
    for (size_t k = 0; k < 3 * sizeof widths / sizeof *widths; k++) {
        int32_t width = widths[k / 3];
        enum { ROWS = 5 };
        crnn_sample_options o = crnn_sample_options_default();
        o.temperature = 0.7F;
        if (k % 3 == 1)
            o = (crnn_sample_options){.temperature = 1.3F, .top_k = width / 2 + 1, .top_p = 0.8013F};
        if (k % 3 == 2)
            o = (crnn_sample_options){.temperature = 0.9F, .top_p = 0.9507F, .min_p = 0.0503F};
        float *z = malloc(sizeof *z * (size_t)(ROWS * width)), *p = malloc(sizeof *p * (size_t)(ROWS * width));
        bool *kept = malloc((size_t)width);
        for (int32_t i = 0; i < ROWS * width; i++) /* hundredths, so that some are equal */
            z[i] = (float)(crnn_philox(3, k, (uint64_t)i).v[0] % 400) / 100;
        probabilities(p, z, ROWS, width, &o);
        for (int row = 0; row < ROWS; row++) {
            double sum = 0;
            filter(kept, z + row * width, width, &o);
            for (int32_t v = 0; v < width; v++)
                sum += kept[v] ? exp((double)z[row * width + v] / (double)o.temperature) : 0;
            for (int32_t v = 0; v < width; v++) {
                double want = kept[v] ? exp((double)z[row * width + v] / (double)o.temperature) / sum : 0;
                assert_true(fabs((double)p[row * width + v] - want) < 1e-6); /* a few roundings of float */
            }
        }
        free(z);
        free(p);
        free(kept);
    }
}

/* [ring,n] out: `times` draws of each of n rows, the first with number `drawn`. ids: [n] out, the last ones. */
static void pick(uint16_t *written, uint16_t *ids, const float *p, int64_t n, int32_t width, int32_t ring,
                 uint64_t seed, uint64_t drawn, int times)
{
    size_t bytes = (size_t)(ring * n) * sizeof *written;
    uint16_t *device = on_device(written, bytes), *device_ids = be->ops->alloc(be, (size_t)n * sizeof *ids);
    uint64_t *counter = on_device(&drawn, sizeof drawn), after;
    float *device_p = on_device(p, (size_t)n * (size_t)width * sizeof *p);
    for (int i = 0; i < times; i++)
        be->ops->pick(be, device_ids, device, counter, device_p, n, width, ring, seed);
    from_device(written, device, bytes);
    from_device(ids, device_ids, (size_t)n * sizeof *ids);
    from_device(&after, counter, sizeof after);
    assert_int_equal(after, drawn + (uint64_t)times);
    be->ops->free(be, device_p);
}

static void a_million_draws_pass_a_chi_square_test(void **state)
{
    (void)state;
    enum { ROWS = 10000, TIMES = 100 };
    crnn_sample_options options = crnn_sample_options_default();
    static float p[ROWS][V];
    static uint16_t written[TIMES][ROWS], ids[ROWS];
    long seen[V] = {0};
    probabilities(p[0], logits, 1, V, &options);
    for (int row = 1; row < ROWS; row++)
        memcpy(p[row], p[0], sizeof p[0]);
    pick(written[0], ids, p[0], ROWS, V, TIMES, 7, 0, TIMES);
    for (int i = 0; i < TIMES; i++)
        for (int row = 0; row < ROWS; row++)
            seen[written[i][row]]++;
    assert_memory_equal(ids, written[TIMES - 1], sizeof ids);
    double chi2 = 0;
    for (int v = 0; v < V; v++) {
        double want = 1e6 * (double)p[0][v];
        chi2 += ((double)seen[v] - want) * ((double)seen[v] - want) / want;
    }
    printf("chi-square of 10^6 draws over %d characters: %.2f\n", V, chi2);
    assert_true(chi2 <
                22.46); /* the 0.999 quantile at 6 degrees of freedom; the seed is fixed, so this cannot flicker */
}

static void a_draw_is_the_part_that_philox_falls_into(void **state)
{
    (void)state;
    const float p[2][4] = {{0.25F, 0.25F, 0.25F, 0.25F}, {0.5F, 0, 0.25F, 0.25F}};
    uint16_t written[3][2] = {{9, 9}, {9, 9}, {9, 9}}, ids[2];
    const uint64_t first = ((uint64_t)1 << 40) + 1; /* a counter beyond 32 bits */
    pick(written[0], ids, p[0], 2, 4, 3, 11, first, 2);
    for (uint64_t k = 0; k < 2; k++)
        for (uint64_t i = first; i < first + 2; i++) {
            int quarter = (int)(4 * crnn_u01(crnn_philox(11, crnn_rng_stream(CRNN_RNG_SAMPLE, k), i).v[0]));
            assert_int_equal(written[i % 3][k], k && quarter == 1 ? 0 : quarter);
        }
    assert_int_equal(written[(first + 2) % 3][0], 9); /* its turn has not come */
}

static void a_draw_never_falls_on_what_was_filtered_out(void **state)
{
    (void)state;
    enum { TIMES = 500 };
    const float p[2][4] = {{0, 0.5F, 0.5F, 0},
                           {0.25F, 0.25F, 0, 0}}; /* the second sums to less, as rounding might leave it */
    uint16_t written[TIMES][2], ids[2];
    bool seen[2][4] = {{false}};
    memset(written, 0, sizeof written);
    pick(written[0], ids, p[0], 2, 4, TIMES, 3, 0, TIMES);
    for (int i = 0; i < TIMES; i++)
        for (int k = 0; k < 2; k++)
            seen[k][written[i][k]] = true;
    assert_memory_equal(seen, ((bool[2][4]){{false, true, true, false}, {true, true, false, false}}), sizeof seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_at_a_temperature),
        cmocka_unit_test(top_k_keeps_the_lower_id_among_equals),
        cmocka_unit_test(top_p_keeps_the_fewest_that_reach_p),
        cmocka_unit_test(top_p_counts_what_top_k_left),
        cmocka_unit_test(min_p_is_relative_to_the_likeliest),
        cmocka_unit_test(temperature_zero_takes_the_most_likely),
        cmocka_unit_test(rows_of_any_width_are_filtered_each_for_itself),
        cmocka_unit_test(a_million_draws_pass_a_chi_square_test),
        cmocka_unit_test(a_draw_is_the_part_that_philox_falls_into),
        cmocka_unit_test(a_draw_never_falls_on_what_was_filtered_out),
    };
    return cmocka_run_group_tests(tests, open_device, close_device) != 0;
}
