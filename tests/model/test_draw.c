/* From logits to a character: filters against a direct computation, draws against their distribution. */
#include "support/cmocka.h"

#include "host/base/rng.h"
#include "host/model/draw.h"
#include <math.h>
#include <stdio.h>

enum { V = 7 };
static const float logits[V] = {0.5F, 2.0F, -1.0F, 2.0F, 0.0F, 1.0F, -3.0F};

/* What is kept must hold the reference's members, renormalised; reference computed in double from the definition. */
static void expect(const crnn_sample_options *options, const int *kept)
{
    float p[V];
    crnn_candidate scratch[V];
    crnn_probabilities(p, logits, V, options, scratch);
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
    crnn_candidate scratch[V];
    options.temperature = 0;
    crnn_probabilities(p, logits, V, &options, scratch);
    for (int v = 0; v < V; v++)
        assert_true(p[v] == (v == 1 ? 1.0F : 0.0F));
}

static void a_million_draws_pass_a_chi_square_test(void **state)
{
    (void)state;
    crnn_sample_options options = crnn_sample_options_default();
    float p[V];
    crnn_candidate scratch[V];
    long seen[V] = {0};
    crnn_probabilities(p, logits, V, &options, scratch);
    for (uint64_t i = 0; i < 1000000; i++)
        seen[crnn_pick(p, V, crnn_u01(crnn_philox(7, crnn_rng_stream(CRNN_RNG_SAMPLE, 0), i).v[0]))]++;
    double chi2 = 0;
    for (int v = 0; v < V; v++) {
        double want = 1e6 * (double)p[v];
        chi2 += ((double)seen[v] - want) * ((double)seen[v] - want) / want;
    }
    printf("chi-square of 10^6 draws over %d characters: %.2f\n", V, chi2);
    assert_true(chi2 <
                22.46); /* the 0.999 quantile at 6 degrees of freedom; the seed is fixed, so this cannot flicker */
}

static void a_draw_never_falls_on_what_was_filtered_out(void **state)
{
    (void)state;
    const float p[4] = {0, 0.5F, 0.5F, 0};
    assert_int_equal(crnn_pick(p, 4, 0.0F), 1);
    assert_int_equal(crnn_pick(p, 4, 0x1.fffffep-1F), 2);
    const float short_sum[3] = {0.25F, 0.25F, 0}; /* as rounding might leave it */
    assert_int_equal(crnn_pick(short_sum, 3, 0.9F), 1);
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
        cmocka_unit_test(a_million_draws_pass_a_chi_square_test),
        cmocka_unit_test(a_draw_never_falls_on_what_was_filtered_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
