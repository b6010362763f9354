/* The golden vectors: float64 training steps by an independent oracle, held against every device at hand through the code that trains.
 *
 * Every *.safetensors in $CRNN_GOLDEN_DIR, else in tests/golden, in each precision that the device has. Tolerances of fp32 are those a float32
 * computation of sums of this length keeps to: losses 5e-6 relative; logits, state and gradients 1e-6 of the tensor's norm; weights 3e-6 after
 * some steps of Adam, whose division by sqrt(v) magnifies the error of small gradients. Those of tf32, 11 bits a factor, and of bf16, 8 bits, are
 * what numbers that begin at 2^-11 and 2^-8 make of the smallest of these models, whose few terms average nothing out. */
#include "support/cmocka.h"

#include "host/tensors/safetensors.h"
#include "support/device.h"
#include <crnn/crnn.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 64 };

typedef struct {
    crnn_st_file *file;
    crnn_model_sizes sizes;
    int32_t B, T, steps;
    crnn_tensor_info tensors[MAX_TENSORS];
    int count;
    int64_t parameters;
    int32_t *ids; /* [steps,B,T+1] */
    double worst[5];
} golden;

enum { LOSS, LOGITS, STATE, GRADIENT, WEIGHT };
static const char *const quantity[] = {"loss", "logits", "state", "gradients", "weights"};
static const char *const format[] = {[CRNN_FP32] = "fp32", [CRNN_TF32] = "tf32", [CRNN_BF16] = "bf16"};
static const double tolerance[][5] = {[CRNN_FP32] = {5e-6, 1e-6, 1e-6, 1e-6, 3e-6},
                                      [CRNN_TF32] = {1e-3, 3e-4, 3e-4, 2e-3, 2e-4},
                                      [CRNN_BF16] = {5e-3, 2e-3, 1e-2, 2e-2, 2e-3}};

static int32_t number(const golden *g, const char *key)
{
    const char *text = crnn_st_metadata(g->file, key);
    assert_non_null(text);
    return (int32_t)atol(text);
}

static double *doubles(const golden *g, const char *name)
{
    const crnn_st_tensor *tensor = crnn_st_find(g->file, name);
    if (!tensor)
        return NULL;
    double *out = malloc((size_t)tensor->count * sizeof *out);
    crnn_error err = {0};
    if (crnn_st_read_doubles(g->file, tensor, out, &err) != CRNN_OK)
        fail_msg("%s: %s", name, err.text);
    return out;
}

static double *need(const golden *g, const char *name)
{
    double *out = doubles(g, name);
    if (!out)
        fail_msg("the file has no %s", name);
    return out;
}

/* Largest difference in units of the tensor's norm (of 1 where it is zero). */
static double error_of(const float *got, const double *want, int64_t n)
{
    double norm = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        norm += want[i] * want[i];
        double difference = fabs((double)got[i] - want[i]);
        worst = difference > worst || isnan(difference) ? difference : worst;
    }
    return norm > 0 ? worst / sqrt(norm) : worst;
}

static void record(golden *g, int what, double error)
{
    if (error > g->worst[what] || isnan(error))
        g->worst[what] = error;
}

/* Each canonical tensor of a role against prefix/<name>; silently nothing where the file has none of them. */
static void compare_role(golden *g, crnn_model *model, crnn_role role, const char *prefix, int what)
{
    crnn_error err = {0};
    float *got = malloc((size_t)g->parameters * sizeof *got);
    assert_int_equal(crnn_model_get(model, role, got, &err), CRNN_OK);
    for (int k = 0; k < g->count; k++) {
        char name[128];
        snprintf(name, sizeof name, "%s/%s", prefix, g->tensors[k].name);
        double *want = doubles(g, name);
        if (want)
            record(g, what, error_of(got + g->tensors[k].offset, want, g->tensors[k].count));
        free(want);
    }
    free(got);
}

static void load(golden *g, crnn_model *model)
{
    crnn_error err = {0};
    float *weights = malloc((size_t)g->parameters * sizeof *weights);
    for (int k = 0; k < g->count; k++) {
        char name[128];
        snprintf(name, sizeof name, "init/%s", g->tensors[k].name);
        double *value = need(g, name);
        for (int64_t i = 0; i < g->tensors[k].count; i++)
            weights[g->tensors[k].offset + i] = (float)value[i];
        free(value);
    }
    assert_int_equal(crnn_model_set(model, CRNN_WEIGHTS, weights, &err), CRNN_OK);
    free(weights);
}

static void set_state(golden *g, crnn_model *model)
{
    crnn_error err = {0};
    double *h0 = need(g, "h0");
    int64_t n = (int64_t)g->sizes.L * g->B * g->sizes.H;
    float *state = malloc((size_t)n * sizeof *state);
    for (int64_t i = 0; i < n; i++)
        state[i] = (float)h0[i];
    assert_int_equal(crnn_model_set_state(model, state, &err), CRNN_OK);
    free(state);
    free(h0);
}

static void compare_state(golden *g, crnn_model *model, const char *name)
{
    crnn_error err = {0};
    int64_t n = (int64_t)g->sizes.L * g->B * g->sizes.H;
    float *state = malloc((size_t)n * sizeof *state);
    double *want = need(g, name);
    assert_int_equal(crnn_model_get_state(model, state, &err), CRNN_OK);
    record(g, STATE, error_of(state, want, n));
    free(state);
    free(want);
}

/* Batch-major ids of a step into time-major x and y. */
static void take_batch(const golden *g, int step, uint16_t *x, uint16_t *y)
{
    for (int32_t b = 0; b < g->B; b++)
        for (int32_t t = 0; t < g->T; t++) {
            const int32_t *at = g->ids + ((int64_t)step * g->B + b) * (g->T + 1) + t;
            x[t * g->B + b] = (uint16_t)at[0];
            y[t * g->B + b] = (uint16_t)at[1];
        }
}

static void compare_logits(golden *g, crnn_model *model, const uint16_t *x, const uint16_t *y)
{
    crnn_error err = {0};
    crnn_step_result result;
    int64_t V = g->sizes.V, n = (int64_t)g->T * g->B * V;
    float *logits = malloc((size_t)n * sizeof *logits);
    double *batch_major = need(g, "step1/logits"), *want = malloc((size_t)n * sizeof *want);
    for (int32_t b = 0; b < g->B; b++)
        for (int32_t t = 0; t < g->T; t++)
            memcpy(want + (t * g->B + b) * V, batch_major + (b * g->T + t) * V, (size_t)V * sizeof *want);
    assert_int_equal(crnn_model_eval_ids(model, x, y, &result, logits, &err), CRNN_OK);
    record(g, LOGITS, error_of(logits, want, n));
    free(logits);
    free(batch_major);
    free(want);
}

static void run(golden *g, crnn_model *model)
{
    crnn_error err = {0};
    size_t TB = (size_t)g->T * (size_t)g->B;
    uint16_t *x = malloc(TB * sizeof *x), *y = malloc(TB * sizeof *y);
    double *loss = need(g, "loss"), *accuracy = need(g, "accuracy");
    load(g, model);
    take_batch(g, 0, x, y);
    set_state(g, model);
    compare_logits(g, model, x, y);
    set_state(g, model);
    for (int step = 0; step < g->steps; step++) {
        crnn_update update = crnn_update_default();
        crnn_step_result result;
        char prefix[64];
        update.count = update.step = step + 1;
        take_batch(g, step, x, y);
        assert_int_equal(crnn_model_train_ids(model, x, y, &update, &result, &err), CRNN_OK);
        double got = result.loss_sum / (double)result.positions;
        record(g, LOSS, loss[step] != 0 ? fabs(got - loss[step]) / fabs(loss[step]) : fabs(got));
        /* an argmax may turn on the last bit of a tie; a single position is the most that rounding may move here */
        assert_true(fabs((double)result.hits - accuracy[step] * (double)TB) < 1.5);
        if (step == 0) {
            compare_state(g, model, "step1/h");
            compare_role(g, model, CRNN_GRADIENTS, "step1/grad", GRADIENT);
        }
        snprintf(prefix, sizeof prefix, "step%d/weights", step + 1);
        compare_role(g, model, CRNN_WEIGHTS, prefix, WEIGHT);
    }
    compare_state(g, model, "h_last");
    free(x);
    free(y);
    free(loss);
    free(accuracy);
}

static void open_golden(golden *g, const char *path)
{
    crnn_error err = {0};
    memset(g, 0, sizeof *g);
    g->file = crnn_st_open(path, &err);
    if (!g->file)
        fail_msg("%s", err.text);
    g->sizes =
        (crnn_model_sizes){number(g, "vocab"), number(g, "embedding"), number(g, "units"), number(g, "layers"), 0};
    g->B = number(g, "batch");
    g->T = number(g, "length");
    g->steps = number(g, "steps");
    g->count = crnn_model_tensors(g->tensors, MAX_TENSORS, &g->sizes);
    g->parameters = crnn_model_parameters(&g->sizes);
    const crnn_st_tensor *ids = crnn_st_find(g->file, "ids");
    assert_non_null(ids);
    assert_int_equal(ids->type, CRNN_ST_I32);
    assert_int_equal(ids->count, (int64_t)g->steps * g->B * (g->T + 1));
    g->ids = malloc((size_t)ids->count * sizeof *g->ids);
    assert_int_equal(crnn_st_read(g->file, ids, g->ids, &err), CRNN_OK);
}

static void judge(const golden *g, const char *path, const char *device, crnn_precision precision)
{
    const char *name = strrchr(path, '/');
    printf("%-24s %s, %s:", name ? name + 1 : path, device, format[precision]);
    for (int q = 0; q < 5; q++)
        printf("  %s %.2g", quantity[q], g->worst[q]);
    printf("\n");
    for (int q = 0; q < 5; q++)
        if (!(g->worst[q] <= tolerance[precision][q]))
            fail_msg("%s: error of the %s %.3g exceeds %.3g", path, quantity[q], g->worst[q], tolerance[precision][q]);
}

static void check_file(const char *path, const crnn_device_info *device, crnn_precision precision)
{
    golden g;
    crnn_error err = {0};
    open_golden(&g, path);
    crnn_device_config config = test_device();
    if (config.kind != device->kind)
        config.rnn_algo = "auto";
    config.kind = device->kind;
    config.precision = precision;
    config.threads = 2;
    crnn_model *model = crnn_model_new(
        &(crnn_model_config){.sizes = g.sizes, .B = g.B, .T = g.T, .training = true, .seed = 1}, &config, &err);
    if (!model && precision == CRNN_FP32) /* which every device has */
        fail_msg("%s", err.text);
    if (model) {
        run(&g, model);
        judge(&g, path, device->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu", precision);
    }
    crnn_model_free(model);
    crnn_st_close(g.file);
    free(g.ids);
}

static void every_device_trains_as_the_golden_vectors_say(void **state)
{
    (void)state;
    const char *directory = getenv("CRNN_GOLDEN_DIR");
    char pattern[4096];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/*.safetensors", directory ? directory : CRNN_SOURCE_DIR "/tests/golden");
    if (glob(pattern, 0, NULL, &found) != 0)
        fail_msg("no golden vectors match %s", pattern);
    crnn_device_info devices[16];
    int count = crnn_device_list(devices, 16);
    for (int d = 0; d < count && d < 16; d++)
        for (size_t i = 0; devices[d].usable && i < found.gl_pathc; i++)
            for (int p = CRNN_FP32; p <= CRNN_BF16; p++)
                check_file(found.gl_pathv[i], &devices[d], (crnn_precision)p);
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_device_trains_as_the_golden_vectors_say)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
