/* Writing text: the same seed writes the same, alone or among others, and from the whole prime. */
#include "support/cmocka.h"

#include "support/device.h"

#include <crnn/crnn.h>
#include <math.h>
#include <stdlib.h>

enum { V = 13, LENGTH = 70 };
static const crnn_model_sizes sizes = {V, 6, 20, 2, 0}, shallow = {V, 6, 20, 1, 0};

static float *weights_of(const crnn_model_sizes *model)
{
    int64_t n = crnn_model_parameters(model);
    float *w = malloc((size_t)n * sizeof *w);
    uint32_t seed = 9;
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        w[i] = ((float)(seed >> 8) / 8388608.0F - 1.0F) * 1.5F;
    }
    return w;
}
static float *weights(void)
{
    return weights_of(&sizes);
}

static crnn_sampler *make(const float *w, int32_t count, const crnn_sample_options *options)
{
    crnn_error err = {0};
    crnn_device_config device = test_device();
    crnn_sampler *sampler = crnn_sampler_new(&sizes, w, count, options, &device, &err);
    if (!sampler)
        fail_msg("%s", err.text);
    return sampler;
}

/* texts: [LENGTH,count] */
static void write_texts(uint16_t *texts, const float *w, int32_t count, uint64_t seed)
{
    crnn_sample_options options = crnn_sample_options_default();
    options.seed = seed;
    crnn_sampler *sampler = make(w, count, &options);
    const uint16_t prime[3] = {1, 2, 3};
    assert_int_equal(crnn_sampler_prime(sampler, prime, 3, NULL), CRNN_OK);
    for (int i = 0; i < LENGTH; i++)
        assert_int_equal(crnn_sampler_next(sampler, texts + i * count, NULL), CRNN_OK);
    crnn_sampler_free(sampler);
}

static void one_seed_writes_one_text(void **state)
{
    (void)state;
    float *w = weights();
    uint16_t first[LENGTH], again[LENGTH], other[LENGTH];
    write_texts(first, w, 1, 5);
    write_texts(again, w, 1, 5);
    write_texts(other, w, 1, 6);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    free(w);
}

static void several_texts_differ_and_the_first_is_that_of_one(void **state)
{
    (void)state;
    float *w = weights();
    uint16_t alone[LENGTH], together[LENGTH * 3];
    int equal[3] = {0};
    write_texts(alone, w, 1, 5);
    write_texts(together, w, 3, 5);
    for (int i = 0; i < LENGTH; i++)
        for (int k = 0; k < 3; k++)
            equal[k] += together[i * 3 + k] == alone[i];
    /* Rounding may differ with the batch, so that a draw on an edge may fall to the other side; none does here. */
    assert_int_equal(equal[0], LENGTH);
    assert_true(equal[1] < LENGTH / 2 && equal[2] < LENGTH / 2);
    free(w);
}

static void nothing_is_drawn_before_the_prime(void **state)
{
    (void)state;
    float *w = weights();
    crnn_sample_options options = crnn_sample_options_default();
    crnn_sampler *sampler = make(w, 1, &options);
    crnn_error err = {0};
    uint16_t id = 0;
    const uint16_t unknown = V;
    assert_int_equal(crnn_sampler_next(sampler, &id, &err), CRNN_ERR_ARGUMENT);
    assert_int_equal(crnn_sampler_prime(sampler, &unknown, 1, &err), CRNN_ERR_ARGUMENT);
    crnn_sampler_free(sampler);
    free(w);
}

static void a_reset_begins_the_same_text_again(void **state)
{
    (void)state;
    float *w = weights();
    crnn_sample_options options = crnn_sample_options_default();
    crnn_sampler *sampler = make(w, 1, &options);
    uint16_t texts[2][50];
    const uint16_t prime = 4;
    for (int run = 0; run < 2; run++) {
        assert_int_equal(crnn_sampler_reset(sampler, NULL), CRNN_OK);
        assert_int_equal(crnn_sampler_prime(sampler, &prime, 1, NULL), CRNN_OK);
        for (int i = 0; i < 50; i++)
            assert_int_equal(crnn_sampler_next(sampler, &texts[run][i], NULL), CRNN_OK);
    }
    assert_memory_equal(texts[0], texts[1], sizeof texts[0]);
    crnn_sampler_free(sampler);
    free(w);
}

/* Whatever is asked for between and however much at a time, as one character after the other. */
static void parts_of_any_size_are_the_same_text(void **state)
{
    (void)state;
    enum { COUNT = 2, ALL = 110 };
    const int64_t parts[] = {1, 2, 7, 63, 1, 36};
    const uint16_t prime[] = {4, 1}, more = 9;
    float *w = weights(), p[COUNT * V];
    crnn_sample_options options = crnn_sample_options_default();
    crnn_sampler *sampler[2] = {make(w, COUNT, &options), make(w, COUNT, &options)};
    uint16_t texts[2][ALL * COUNT];
    for (int run = 0; run < 2; run++) /* a text before, of which nothing may be left */
        for (int64_t i = 0; i < 1 + run; i++) {
            assert_int_equal(crnn_sampler_reset(sampler[run], NULL), CRNN_OK);
            assert_int_equal(crnn_sampler_prime(sampler[run], prime, 2, NULL), CRNN_OK);
            assert_int_equal(crnn_sampler_write(sampler[run], texts[run], 3, NULL), CRNN_OK);
        }
    for (int run = 0; run < 2; run++) {
        assert_int_equal(crnn_sampler_reset(sampler[run], NULL), CRNN_OK);
        assert_int_equal(crnn_sampler_prime(sampler[run], prime, 2, NULL), CRNN_OK);
    }
    int64_t at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_int_equal(crnn_sampler_write(sampler[1], texts[1] + at * COUNT, parts[i], NULL), CRNN_OK);
        assert_int_equal(crnn_sampler_probabilities(sampler[1], p, NULL), CRNN_OK);
        for (int64_t k = 0; k < parts[i]; k++, at++)
            assert_int_equal(crnn_sampler_next(sampler[0], texts[0] + at * COUNT, NULL), CRNN_OK);
        if (i == 2) /* a word from outside */
            for (int run = 0; run < 2; run++)
                assert_int_equal(crnn_sampler_prime(sampler[run], &more, 1, NULL), CRNN_OK);
    }
    assert_int_equal(at, ALL);
    assert_memory_equal(texts[0], texts[1], sizeof texts[0]);
    crnn_sampler_free(sampler[0]);
    crnn_sampler_free(sampler[1]);
    free(w);
}

static void expect_texts_of_the_cpu(const crnn_model_sizes *model, const float *w, int32_t count, int64_t n,
                                    const crnn_sample_options *options)
{
    crnn_device_config devices[2] = {test_device(), crnn_device_config_default()};
    devices[1].kind = CRNN_DEVICE_CPU;
    const uint16_t prime[3] = {1, 2, 3};
    const size_t characters = (size_t)(n * count);
    uint16_t *texts[2];
    for (int run = 0; run < 2; run++) {
        texts[run] = malloc(characters * sizeof *texts[run]);
        crnn_sampler *sampler = crnn_sampler_new(model, w, count, options, &devices[run], NULL);
        assert_int_equal(crnn_sampler_prime(sampler, prime, 3, NULL), CRNN_OK);
        assert_int_equal(crnn_sampler_write(sampler, texts[run], n, NULL), CRNN_OK);
        crnn_sampler_free(sampler);
    }
    /* Rounding may take a draw on an edge to the other side; none is here. */
    assert_memory_equal(texts[0], texts[1], characters * sizeof *texts[0]);
    free(texts[0]);
    free(texts[1]);
}
static void the_text_is_that_of_the_cpu(void **state)
{
    (void)state;
    const crnn_sample_options all[] = {{.temperature = 1, .top_p = 1, .seed = 7},
                                       {.temperature = 0, .top_p = 1, .seed = 7},
                                       {.temperature = 1.5F, .top_k = 9, .top_p = 0.9F, .min_p = 0.01F, .seed = 7}};
    float *w = weights();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        expect_texts_of_the_cpu(&sizes, w, 3, 100, &all[i]);
    free(w);
}
/* Where a device may have another way; and with a weight that 16 bits cannot hold. */
static void many_texts_are_those_of_the_cpu(void **state)
{
    (void)state;
    const crnn_sample_options options = {.temperature = 1, .top_p = 0.9F, .seed = 7};
    float *w = weights_of(&shallow);
    expect_texts_of_the_cpu(&shallow, w, 40, 16, &options);
    w[crnn_model_parameters(&shallow) - 1] = -300; /* of the last character's logit */
    expect_texts_of_the_cpu(&shallow, w, 40, 4, &options);
    free(w);
}

/* Probabilities after its own text of one of many texts, by the CPU. */
static void probabilities_of_the_cpu(float *p, const float *w, const uint16_t *prime, int primed, const uint16_t *text,
                                     int64_t n, int32_t apart, const crnn_sample_options *options)
{
    crnn_device_config cpu = crnn_device_config_default();
    cpu.kind = CRNN_DEVICE_CPU;
    crnn_sampler *sampler = crnn_sampler_new(&shallow, w, 1, options, &cpu, NULL);
    assert_int_equal(crnn_sampler_prime(sampler, prime, primed, NULL), CRNN_OK);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(crnn_sampler_prime(sampler, text + i * apart, 1, NULL), CRNN_OK);
    assert_int_equal(crnn_sampler_probabilities(sampler, p, NULL), CRNN_OK);
    crnn_sampler_free(sampler);
}
/* What is multiplied in 11 bits draws other texts sooner or later; but what it leaves is what the model says of the texts that it drew. */
static void many_texts_in_tf32_leave_what_the_model_says(void **state)
{
    (void)state;
    enum { COUNT = 40, N = 12 };
    const crnn_sample_options options = {.temperature = 1, .top_p = 1, .seed = 7};
    crnn_device_config device = test_device();
    device.precision = CRNN_TF32;
    if (device.kind == CRNN_DEVICE_CPU)
        skip();
    float *w = weights_of(&shallow), p[COUNT][V], wanted[V];
    uint16_t text[N][COUNT];
    const uint16_t prime[3] = {1, 2, 3};
    crnn_sampler *sampler = crnn_sampler_new(&shallow, w, COUNT, &options, &device, NULL);
    assert_int_equal(crnn_sampler_prime(sampler, prime, 3, NULL), CRNN_OK);
    assert_int_equal(crnn_sampler_write(sampler, text[0], N, NULL), CRNN_OK);
    assert_int_equal(crnn_sampler_probabilities(sampler, p[0], NULL), CRNN_OK);
    for (int k = 0; k < COUNT; k += 13) {
        probabilities_of_the_cpu(wanted, w, prime, 3, &text[0][k], N, COUNT, &options);
        for (int v = 0; v < V; v++)
            assert_true(fabsf(p[k][v] - wanted[v]) <
                        0.02F); /* 2^-12 of each of 20 products of up to 1.5, 12 steps of it */
    }
    crnn_sampler_free(sampler);
    free(w);
}

static void the_probabilities_are_the_models(void **state)
{
    (void)state;
    float *w = weights(), p[V], logits[V];
    crnn_sample_options options = crnn_sample_options_default();
    crnn_sampler *sampler = make(w, 1, &options);
    crnn_device_config device = test_device();
    crnn_model *model = crnn_model_new(&(crnn_model_config){.sizes = sizes, .B = 1, .T = 1}, &device, NULL);
    crnn_step_result result;
    const uint16_t prime[4] = {3, 1, 4, 1};
    assert_int_equal(crnn_model_set(model, CRNN_WEIGHTS, w, NULL), CRNN_OK);
    assert_int_equal(crnn_sampler_prime(sampler, prime, 4, NULL), CRNN_OK);
    assert_int_equal(crnn_sampler_probabilities(sampler, p, NULL), CRNN_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(crnn_model_eval_ids(model, prime + i, prime + i, &result, logits, NULL), CRNN_OK);
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += exp((double)logits[v]);
    for (int v = 0; v < V; v++)
        assert_true(fabs(exp((double)logits[v]) / sum - (double)p[v]) < 1e-6); /* roundings of float */
    crnn_model_free(model);
    crnn_sampler_free(sampler);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_seed_writes_one_text),
        cmocka_unit_test(several_texts_differ_and_the_first_is_that_of_one),
        cmocka_unit_test(nothing_is_drawn_before_the_prime),
        cmocka_unit_test(a_reset_begins_the_same_text_again),
        cmocka_unit_test(parts_of_any_size_are_the_same_text),
        cmocka_unit_test(the_text_is_that_of_the_cpu),
        cmocka_unit_test(many_texts_are_those_of_the_cpu),
        cmocka_unit_test(many_texts_in_tf32_leave_what_the_model_says),
        cmocka_unit_test(the_probabilities_are_the_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
