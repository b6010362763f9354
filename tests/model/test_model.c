/* The model: its gradients against finite differences, its state, its figures. */
#include "support/cmocka.h"

#include "support/device.h"

#include <crnn/crnn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static crnn_model *make(crnn_model_sizes sizes, int32_t B, int32_t T, bool training)
{
    crnn_error err = {0};
    crnn_device_config device = test_device();
    device.threads = 2;
    crnn_model *model = crnn_model_new(
        &(crnn_model_config){.sizes = sizes, .B = B, .T = T, .training = training, .seed = 3}, &device, &err);
    if (!model)
        fail_msg("%s", err.text);
    return model;
}

/* Ids that look random but are fixed. */
static void fill_ids(uint16_t *ids, int64_t n, int32_t V, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        ids[i] = (uint16_t)((seed >> 8) % (uint32_t)V);
    }
}

/* Weights far enough from zero that every path of the gradient counts. */
static void fill_floats(float *x, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        x[i] = (float)(seed >> 8) / 8388608.0F - 1.0F;
    }
}

typedef struct {
    crnn_model *model;
    int64_t parameters;
    float *weights, *state;
    uint16_t x[64], y[64];
} bench;

static double loss_at(bench *b)
{
    crnn_step_result result;
    crnn_error err = {0};
    assert_int_equal(crnn_model_set(b->model, CRNN_WEIGHTS, b->weights, &err), CRNN_OK);
    assert_int_equal(crnn_model_set_state(b->model, b->state, &err), CRNN_OK);
    assert_int_equal(crnn_model_eval_ids(b->model, b->x, b->y, &result, NULL, &err), CRNN_OK);
    return result.loss_sum / (double)result.positions;
}

/* Five-point central difference: error of order step^4, rounding of the float32 loss about 1e-7 / step. */
static double slope(bench *b, int64_t i)
{
    const float step = 0.03F, w = b->weights[i];
    double at[4];
    const float offset[4] = {-2, -1, 1, 2};
    for (int k = 0; k < 4; k++) {
        b->weights[i] = w + offset[k] * step;
        at[k] = loss_at(b);
    }
    b->weights[i] = w;
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * (double)step);
}

static void check_gradients(int32_t L)
{
    const crnn_model_sizes sizes = {5, 3, 4, L, 0};
    const int32_t B = 2, T = 4;
    crnn_error err = {0};
    bench b = {.model = make(sizes, B, T, true), .parameters = crnn_model_parameters(&sizes)};
    b.weights = malloc((size_t)b.parameters * sizeof *b.weights);
    b.state = malloc((size_t)(L * B * sizes.H) * sizeof *b.state);
    float *gradient = malloc((size_t)b.parameters * sizeof *gradient);
    fill_floats(b.weights, b.parameters, 11);
    fill_floats(b.state, L * B * sizes.H, 12);
    fill_ids(b.x, B * T, sizes.V, 13);
    fill_ids(b.y, B * T, sizes.V, 14);
    loss_at(&b);
    crnn_update still = crnn_update_default();
    crnn_step_result result;
    still.lr = 0;
    assert_int_equal(crnn_model_set_state(b.model, b.state, &err), CRNN_OK);
    assert_int_equal(crnn_model_train_ids(b.model, b.x, b.y, &still, &result, &err), CRNN_OK);
    assert_int_equal(crnn_model_get(b.model, CRNN_GRADIENTS, gradient, &err), CRNN_OK);
    double worst = 0, norm = 0;
    for (int64_t i = 0; i < b.parameters; i++) {
        worst = fmax(worst, fabs(slope(&b, i) - (double)gradient[i]));
        norm += (double)gradient[i] * (double)gradient[i];
    }
    printf("L=%d: %lld parameters, largest difference %.2g of norm %.2g\n", L, (long long)b.parameters, worst,
           sqrt(norm));
    assert_true(worst < 2e-4 * fmax(1, sqrt(norm))); /* step^4 and rounding together, with weights of order 1 */
    assert_true(fabs((double)result.grad_norm - sqrt(norm)) < 1e-5 * sqrt(norm));
    crnn_model_free(b.model);
    free(b.weights);
    free(b.state);
    free(gradient);
}

static void gradients_of_one_layer_are_the_slopes_of_the_loss(void **state)
{
    (void)state;
    check_gradients(1);
}

static void gradients_of_two_layers_are_the_slopes_of_the_loss(void **state)
{
    (void)state;
    check_gradients(2);
}

static void gradients_of_three_layers_are_the_slopes_of_the_loss(void **state)
{
    (void)state;
    check_gradients(3);
}

static void two_steps_of_t_are_one_of_two_t(void **state)
{
    (void)state;
    enum { B = 3, T = 5, H = 6, V = 7, E = 4, L = 2 };
    const crnn_model_sizes sizes = {V, E, H, L, 0};
    crnn_model *whole = make(sizes, B, 2 * T, true), *half = make(sizes, B, T, true);
    crnn_error err = {0};
    crnn_step_result one, first, second;
    uint16_t x[2 * T * B], y[2 * T * B];
    float state_one[L * B * H], state_two[L * B * H];
    crnn_update still = crnn_update_default();
    still.lr = 0;
    fill_ids(x, 2 * T * B, V, 5);
    fill_ids(y, 2 * T * B, V, 6);
    assert_int_equal(crnn_model_train_ids(whole, x, y, &still, &one, &err), CRNN_OK);
    assert_int_equal(crnn_model_train_ids(half, x, y, &still, &first, &err), CRNN_OK);
    assert_int_equal(crnn_model_train_ids(half, x + T * B, y + T * B, &still, &second, &err), CRNN_OK);
    assert_true(fabs(one.loss_sum - first.loss_sum - second.loss_sum) < 1e-5 * one.loss_sum);
    assert_int_equal(crnn_model_get_state(whole, state_one, &err), CRNN_OK);
    assert_int_equal(crnn_model_get_state(half, state_two, &err), CRNN_OK);
    for (int i = 0; i < L * B * H; i++)
        assert_true(fabsf(state_one[i] - state_two[i]) < 1e-6F); /* float rounding */
    /* The gradient is cut at the seam, so that the halves do not sum to the whole. */
    assert_true(fabsf(one.grad_norm - second.grad_norm) > 1e-6F);
    crnn_model_free(whole);
    crnn_model_free(half);
}

static void the_notebooks_model_has_its_parameters(void **state)
{
    (void)state;
    const crnn_model_sizes sizes = {83, 256, 1024, 1, 0};
    crnn_tensor_info tensors[8];
    assert_int_equal(crnn_model_tensors(tensors, 8, &sizes), 6);
    assert_int_equal(tensors[0].count, 21248);
    assert_int_equal(tensors[1].count + tensors[2].count + tensors[3].count, 3938304);
    assert_int_equal(tensors[4].count + tensors[5].count, 85075);
    assert_int_equal(crnn_model_parameters(&sizes), 4044627);
    char summary[4096];
    assert_true(crnn_model_summary(summary, sizeof summary, &sizes, 64) < sizeof summary);
    const char *const rows[] = {"(64, None, 256)", "21248", "(64, None, 1024)", "3938304",
                                "(64, None, 83)",  "85075", "4,044,627"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_non_null(strstr(summary, rows[i]));
}

static void an_untrained_model_loses_ln_v(void **state)
{
    (void)state;
    const crnn_model_sizes sizes = {83, 64, 128, 1, 0};
    crnn_model *model = make(sizes, 8, 25, false);
    crnn_error err = {0};
    crnn_step_result result;
    uint16_t x[200], y[200];
    fill_ids(x, 200, 83, 1);
    fill_ids(y, 200, 83, 2);
    assert_int_equal(crnn_model_eval_ids(model, x, y, &result, NULL, &err), CRNN_OK);
    assert_true(fabs(result.loss_sum / 200 - log(83)) < 0.02); /* the initial logits are small but not zero */
    crnn_model_free(model);
}

static void initial_weights_keep_to_their_ranges(void **state)
{
    (void)state;
    const crnn_model_sizes sizes = {11, 16, 32, 2, 0};
    crnn_model *model = make(sizes, 1, 1, false);
    crnn_tensor_info tensors[16];
    int count = crnn_model_tensors(tensors, 16, &sizes);
    float *w = malloc((size_t)crnn_model_parameters(&sizes) * sizeof *w);
    assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, w, NULL), CRNN_OK);
    for (int k = 0; k < count; k++) {
        double largest = 0, sum = 0;
        for (int64_t i = 0; i < tensors[k].count; i++) {
            largest = fmax(largest, fabs((double)w[tensors[k].offset + i]));
            sum += (double)w[tensors[k].offset + i];
        }
        double range = strstr(tensors[k].name, "bias") ? 0
                       : strstr(tensors[k].name, "embeddings")
                           ? 0.05
                           : sqrt(6.0 / (double)(tensors[k].shape[0] + tensors[k].shape[1]));
        assert_true(largest <= range * 1.000001);
        assert_true(largest >= range * 0.9); /* hundreds of draws: one of them comes near the end */
        double n = (double)tensors[k].count;
        assert_true(fabs(sum) <= 5 * range * sqrt(n / 3) + 1e-12); /* five standard deviations of a sum of uniforms */
    }
    free(w);
    crnn_model_free(model);
}

static void the_same_seed_trains_to_the_same_bits(void **state)
{
    (void)state;
    const crnn_model_sizes sizes = {17, 12, 33, 2, 0.25F};
    int64_t n = crnn_model_parameters(&sizes);
    float *weights[2];
    for (int run = 0; run < 2; run++) {
        crnn_model *model = make(sizes, 5, 9, true);
        uint16_t x[45], y[45];
        for (int step = 1; step <= 5; step++) {
            crnn_update update = crnn_update_default();
            crnn_step_result result;
            update.count = update.step = step;
            fill_ids(x, 45, 17, (uint32_t)step);
            fill_ids(y, 45, 17, (uint32_t)step + 100);
            assert_int_equal(crnn_model_train_ids(model, x, y, &update, &result, NULL), CRNN_OK);
        }
        weights[run] = malloc((size_t)n * sizeof(float));
        assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, weights[run], NULL), CRNN_OK);
        crnn_model_free(model);
    }
    assert_memory_equal(weights[0], weights[1], (size_t)n * sizeof(float));
    free(weights[0]);
    free(weights[1]);
}

static void a_loss_that_is_not_finite_changes_nothing(void **state)
{
    (void)state;
    enum { V = 5, H = 8, B = 2, T = 3 };
    const crnn_model_sizes sizes = {V, 4, H, 1, 0};
    crnn_model *model = make(sizes, B, T, true);
    int64_t n = crnn_model_parameters(&sizes);
    float *before = malloc((size_t)n * sizeof *before), *after = malloc((size_t)n * sizeof *after);
    float h_before[B * H], h_after[B * H];
    uint16_t ids[B * T] = {0, 1, 2, 3, 4, 0};
    crnn_update update = crnn_update_default();
    crnn_step_result result;
    assert_int_equal(crnn_model_train_ids(model, ids, ids, &update, &result, NULL), CRNN_OK);
    assert_true(result.finite);
    assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, before, NULL), CRNN_OK);
    before[n - 1] = NAN; /* the last bias of the dense layer: every loss is NaN */
    assert_int_equal(crnn_model_set(model, CRNN_WEIGHTS, before, NULL), CRNN_OK);
    assert_int_equal(crnn_model_get_state(model, h_before, NULL), CRNN_OK);
    assert_int_equal(crnn_model_train_ids(model, ids, ids, &update, &result, NULL), CRNN_OK);
    assert_false(result.finite);
    assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, after, NULL), CRNN_OK);
    assert_int_equal(crnn_model_get_state(model, h_after, NULL), CRNN_OK);
    assert_memory_equal(before, after, (size_t)n * sizeof *before);
    assert_memory_equal(h_before, h_after, sizeof h_before);
    free(before);
    free(after);
    crnn_model_free(model);
}

/* Evaluation scores every position once: against a model of one row and one character a step run by hand. */
/* n steps from fresh weights, `at_once` of them a call; 0: by crnn_model_train alone. */
static void train_steps(float *weights, crnn_step_result *results, int64_t n, int64_t at_once, const int64_t *starts)
{
    enum { V = 5, B = 2, T = 4, TEXT = 60 };
    static uint16_t text[TEXT];
    crnn_model *model = make((crnn_model_sizes){V, 3, 5, 2, 0.2F}, B, T, true);
    crnn_update *updates = calloc((size_t)n, sizeof *updates);
    crnn_error err = {0};
    fill_ids(text, TEXT, V, 8);
    assert_int_equal(crnn_model_set_text(model, (crnn_ids){text, TEXT, 2}, &err), CRNN_OK);
    assert_int_equal(crnn_model_steps_at_once(model), 1);
    for (int64_t k = 0; k < n; k++) {
        updates[k] = crnn_update_default();
        updates[k].count = updates[k].step = k + 1;
        updates[k].clip = 0.5F;
    }
    for (int64_t k = 0, done = 0; k < n; k += done) {
        int64_t some = at_once < n - k ? at_once : n - k;
        if (at_once)
            assert_int_equal(
                crnn_model_train_several(model, starts + k * B, updates + k, some, results + k, &done, &err), CRNN_OK);
        else
            assert_int_equal(crnn_model_train(model, starts + k * B, updates + k, results + k, &err), CRNN_OK);
        done = at_once ? done : 1;
        assert_int_equal(done, at_once ? some : 1);
        assert_true(crnn_model_steps_at_once(model) >= 1);
        assert_true(crnn_model_steps_at_once(model) <= crnn_model_most_steps(model));
    }
    assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, weights, &err), CRNN_OK);
    crnn_model_free(model);
    free(updates);
}

static void many_steps_in_a_call_are_as_many_calls(void **state)
{
    (void)state;
    enum { N = 300, B = 2 }; /* more than a queue holds */
    static const int64_t at_once[] = {1, 2, 8, 17, N};
    static float one[512], several[512];
    static int64_t starts[N * B];
    static crnn_step_result want[N], got[N];
    for (int i = 0; i < N * B; i++)
        starts[i] = i * 7 % 55;
    train_steps(one, want, N, 0, starts);
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        memset(got, 0, sizeof got);
        train_steps(several, got, N, at_once[i], starts);
        assert_memory_equal(one, several, sizeof one);
        for (int k = 0; k < N; k++)
            assert_true(want[k].loss_sum == got[k].loss_sum && want[k].hits == got[k].hits && got[k].finite &&
                        want[k].positions == got[k].positions && want[k].grad_norm == got[k].grad_norm);
    }
}

static void rows_outside_the_text_are_refused_before_the_first_step(void **state)
{
    (void)state;
    enum { N = 3, B = 2, T = 4, TEXT = 9 };
    static const uint16_t text[TEXT] = {0, 1, 2, 3, 4, 3, 2, 1, 0};
    int64_t starts[N * B] = {0, 1, 2, 3, 4, 4}, done = 7;
    crnn_update updates[N] = {crnn_update_default(), crnn_update_default(), crnn_update_default()};
    crnn_step_result results[N];
    crnn_error err = {0};
    crnn_model *model = make((crnn_model_sizes){5, 3, 5, 1, 0}, B, T, true);
    assert_int_equal(crnn_model_train_several(model, starts, updates, N, results, &done, &err), CRNN_ERR_ARGUMENT);
    assert_int_equal(crnn_model_set_text(model, (crnn_ids){text, TEXT, 2}, &err), CRNN_OK);
    assert_int_equal(crnn_model_train_several(model, starts, updates, N, results, &done, &err), CRNN_OK);
    assert_int_equal(done, N);
    starts[5] = 5; /* its last character has none after it */
    assert_int_equal(crnn_model_train_several(model, starts, updates, N, results, &done, &err), CRNN_ERR_ARGUMENT);
    assert_int_equal(done, 0);
    assert_non_null(strstr(err.text, "row 1 begins at character 5"));
    crnn_model_free(model);
}

static void evaluation_scores_every_position_of_its_streams(void **state)
{
    (void)state;
    enum { N = 3011, V = 9 };
    const crnn_model_sizes sizes = {V, 4, 8, 1, 0};
    crnn_model *model = make(sizes, 4, 7, false), *single = make(sizes, 1, 1, false);
    uint16_t text[N];
    fill_ids(text, N, V, 77);
    crnn_step_result whole, step;
    assert_int_equal(crnn_model_evaluate(model, (crnn_ids){text, N, 2}, NULL, NULL, &whole, NULL), CRNN_OK);
    assert_int_equal(whole.positions, N - 1);
    double sum = 0;
    for (int64_t s = 0; s < 3; s++) { /* 3011 characters: three streams */
        assert_int_equal(crnn_model_set_state(single, NULL, NULL), CRNN_OK);
        for (int64_t i = (N - 1) * s / 3; i < (N - 1) * (s + 1) / 3; i++) {
            assert_int_equal(crnn_model_eval_ids(single, text + i, text + i + 1, &step, NULL, NULL), CRNN_OK);
            sum += step.loss_sum;
        }
    }
    assert_true(fabs(sum - whole.loss_sum) < 1e-6 * sum); /* float rounding of single losses */
    crnn_model_free(model);
    crnn_model_free(single);
}

static void a_model_larger_than_memory_is_refused_with_what_fits(void **state)
{
    (void)state;
    crnn_error err = {0};
    crnn_device_config device = test_device();
    crnn_model_config config = {.sizes = {83, 256, 1024, 1, 0}, .B = 1 << 30, .T = 100, .training = true};
    assert_null(crnn_model_new(&config, &device, &err));
    assert_int_equal(err.status, CRNN_ERR_MEMORY);
    assert_non_null(strstr(err.text, "largest batch that fits"));
    config.sizes.H = 1 << 30;
    assert_null(crnn_model_new(&config, &device, &err));
    assert_int_equal(err.status, CRNN_ERR_MEMORY);
    assert_non_null(strstr(err.text, "not even a batch of 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_one_layer_are_the_slopes_of_the_loss),
        cmocka_unit_test(gradients_of_two_layers_are_the_slopes_of_the_loss),
        cmocka_unit_test(gradients_of_three_layers_are_the_slopes_of_the_loss),
        cmocka_unit_test(two_steps_of_t_are_one_of_two_t),
        cmocka_unit_test(the_notebooks_model_has_its_parameters),
        cmocka_unit_test(an_untrained_model_loses_ln_v),
        cmocka_unit_test(initial_weights_keep_to_their_ranges),
        cmocka_unit_test(the_same_seed_trains_to_the_same_bits),
        cmocka_unit_test(a_loss_that_is_not_finite_changes_nothing),
        cmocka_unit_test(many_steps_in_a_call_are_as_many_calls),
        cmocka_unit_test(rows_outside_the_text_are_refused_before_the_first_step),
        cmocka_unit_test(evaluation_scores_every_position_of_its_streams),
        cmocka_unit_test(a_model_larger_than_memory_is_refused_with_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
