/* Whatever call to the runtime or to a library fails, and whatever kernel: training and writing end with one sentence that says in which
   operation, everything is given back, and where they go on all the same the results are the same. Where the way to compute a layer is measured
   first (auto), it may be another one then, so they are those of one of the ways. */
#include "support/cmocka.h"
#include "support/device.h"

#include <crnn/model.h>
#include <crnn/sample.h>
#include <cusim_control.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { V = 7, B = 2, T = 3, H = 4, E = 3, L = 2, TEXT = 40, COUNT = 2, WRITTEN = 4, STEPS = 9 };
static const crnn_model_sizes sizes = {V, E, H, L, 0.25F};

/* What a run gives. */
typedef struct {
    float weights[1024], state[L * B * H], probabilities[COUNT * V];
    double losses[3 * STEPS + 1];
    uint16_t text[WRITTEN * COUNT];
} results;

static crnn_status train(results *r, crnn_model *model, crnn_error *err)
{
    uint16_t text[TEXT];
    int64_t starts[STEPS * B], done = 0;
    crnn_update updates[STEPS];
    crnn_step_result steps[STEPS], step = {0};
    for (int i = 0; i < TEXT; i++)
        text[i] = (uint16_t)(i * i % V);
    crnn_status status = crnn_model_set_text(model, (crnn_ids){text, TEXT, 2}, err);
    for (int i = 0; i < 3 && status == CRNN_OK;
         i++) { /* as it is, captured, replayed: a list of several steps and one of one */
        for (int k = 0; k < STEPS; k++) {
            starts[k * B] = k;
            starts[k * B + 1] = TEXT / 2;
            updates[k] = crnn_update_default();
            updates[k].count = updates[k].step = i * STEPS + k + 1;
            updates[k].clip = 1;
        }
        status = crnn_model_train_several(model, starts, updates, STEPS, steps, &done, err);
        for (int k = 0; k < done; k++)
            r->losses[i * STEPS + k] = steps[k].loss_sum;
    }
    if (status == CRNN_OK)
        status = crnn_model_evaluate(model, (crnn_ids){text, TEXT, 2}, NULL, NULL, &step, err);
    r->losses[3 * STEPS] = step.loss_sum;
    if (status == CRNN_OK)
        status = crnn_model_get_state(model, r->state, err);
    return status == CRNN_OK ? crnn_model_get(model, CRNN_WEIGHTS, r->weights, err) : status;
}
static crnn_status write_text(results *r, crnn_sampler *sampler, crnn_error *err)
{
    const uint16_t prime[] = {1, 2};
    crnn_status status = crnn_sampler_prime(sampler, prime, 2, err);
    if (status == CRNN_OK)
        status = crnn_sampler_next(sampler, r->text, err);
    if (status == CRNN_OK)
        status = crnn_sampler_write(sampler, r->text, WRITTEN, err);
    return status == CRNN_OK ? crnn_sampler_probabilities(sampler, r->probabilities, err) : status;
}
static bool measures;
/* A short training run, and a short text from its weights. rnn_algo NULL: as the test was asked to. */
static crnn_status run_in(const char *rnn_algo, results *r, crnn_error *err)
{
    const crnn_model_config config = {.sizes = sizes, .B = B, .T = T, .training = true, .seed = 3};
    const crnn_sample_options options = crnn_sample_options_default();
    crnn_device_config device = test_device();
    device.rnn_algo = rnn_algo ? rnn_algo : device.rnn_algo;
    device.measure_again = true;
    memset(r, 0, sizeof *r);
    *err = (crnn_error){0};
    crnn_model *model = crnn_model_new(&config, &device, err);
    crnn_status status = model ? train(r, model, err) : err->status;
    crnn_model_free(model);
    if (status != CRNN_OK)
        return status;
    crnn_sampler *sampler = crnn_sampler_new(&sizes, r->weights, COUNT, &options, &device, err);
    status = sampler ? write_text(r, sampler, err) : err->status;
    crnn_sampler_free(sampler);
    return status;
}

static crnn_status run(results *r, crnn_error *err)
{
    return run_in(NULL, r, err);
}

static const char *const ways[] = {NULL,
                                   "cudnn-persist-static",
                                   "cudnn-persist-dynamic",
                                   "cudnn-persist-small",
                                   "loop",
                                   "persist",
                                   "persist-cluster",
                                   "persist-words",
                                   "cudnn"};
enum { WAYS = sizeof ways / sizeof *ways };
static results whole[WAYS]; /* undisturbed: as asked for; where that is measured, of each way */
static uint64_t calls;
static bool is_whole(const results *r)
{
    for (int i = 0; i < (measures ? WAYS : 1); i++)
        if (memcmp(r, &whole[i], sizeof *r) == 0)
            return true;
    return false;
}
static int begin(void **state)
{
    (void)state;
    crnn_error err;
    measures = strcmp(test_device().rnn_algo, "auto") == 0;
    setenv("XDG_CACHE_HOME", "/dev/null", 1); /* nothing is kept from run to run */
    for (int i = 1; i < WAYS && measures; i++)
        if (run_in(ways[i], &whole[i], &err) != CRNN_OK)
            fail_msg("%s", err.text);
    assert_true(crnn_model_parameters(&sizes) <= (int64_t)(sizeof whole->weights / sizeof *whole->weights));
    cusim_reset_calls();
    if (run(&whole[0], &err) != CRNN_OK)
        fail_msg("%s", err.text);
    calls = cusim_calls(NULL);
    return 0;
}
/* One sentence without an end of line, that names an operation or a library. */
static void expect_sentence(const crnn_error *err, const char *failed)
{
    if (strlen(err->text) < 15 || strchr(err->text, '\n') || err->status == CRNN_OK)
        fail_msg("after %s: status %d, \"%s\"", failed, (int)err->status, err->text);
    if (!strstr(err->text, " in ") && !strstr(err->text, "CUDA") && !strstr(err->text, "lib"))
        fail_msg("after %s, no operation and no library is named: \"%s\"", failed, err->text);
}
static void expect_nothing_left(const char *failed)
{
    if (cusim_memory_used() || cusim_objects())
        fail_msg("after %s: %zu bytes and %zu objects are left", failed, cusim_memory_used(), cusim_objects());
}
/* One run in which that call fails; false: there was none such. */
static bool disturbed(const char *name, uint64_t nth, cudaError_t error)
{
    results r;
    crnn_error err;
    cusim_fail(name, nth, error);
    crnn_status status = run(&r, &err);
    char failed[128];
    snprintf(failed, sizeof failed, "%s (call %llu)", cusim_failed() ? cusim_failed() : "", (unsigned long long)nth);
    bool happened = cusim_failed() != NULL;
    cusim_fail(NULL, 0, cudaSuccess);
    if (cudaDeviceReset() != cudaSuccess || cudaGetLastError() != cudaSuccess)
        fail_msg("after %s: the device does not come back", failed);
    if (status != CRNN_OK)
        expect_sentence(&err, failed);
    else if (!is_whole(&r))
        fail_msg("after %s: no error, and other results", failed);
    expect_nothing_left(failed);
    return happened;
}

static void nothing_is_left_of_an_undisturbed_run(void **state)
{
    (void)state;
    results r;
    crnn_error err;
    assert_int_equal(run(&r, &err), CRNN_OK);
    assert_true(is_whole(&r));
    expect_nothing_left("a run");
}
static bool long_tier(void)
{
    const char *tier = getenv("CRNN_TRUST");
    return tier && strcmp(tier, "long") == 0;
}
static void any_call_may_fail(void **state)
{
    (void)state;
    assert_true(calls > 100);
#ifdef __SANITIZE_ADDRESS__
    const uint64_t some = 41; /* where each run takes ten times as long */
#else
    const uint64_t some = 13; /* prime numbers: all kinds of calls are met */
#endif
    const uint64_t step = long_tier() ? 1 : measures ? 10 * some + 1 : some;
    for (uint64_t n = 1; n <= calls; n += step) /* how often a way is timed depends on the time that it takes */
        assert_true(disturbed(NULL, n, cudaErrorUnknown) || measures);
}
/* Those that allocate say so as they do. */
static void any_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const allocating[] = {"cudaMalloc", "cudaHostAlloc", "cublasLtCreate", "cudnnCreate"};
    for (size_t i = 0; i < sizeof allocating / sizeof *allocating; i++) {
        uint64_t n = 1;
        while (disturbed(allocating[i], n, cudaErrorMemoryAllocation))
            n += long_tier() ? 1 : measures ? 97 : 5;
        assert_true(n > 1);
    }
}
/* A kernel that fails loses the device: every call after it fails too. */
static void any_kernel_may_fail(void **state)
{
    (void)state;
    static const char *const kernels[] = {"kernel gather<uint8_t>",
                                          "kernel gather<uint16_t>",
                                          "kernel embed",
                                          "kernel list_by_token",
                                          "kernel sum_by_token<F>",
                                          "kernel softmax_xent",
                                          "kernel sum_losses",
                                          "kernel pack_head<F>",
                                          "kernel (head_rows<F, TILES>)",
                                          "kernel (head_weights<F, TILES>)",
                                          "kernel add_head",
                                          "kernel sum_of_squares",
                                          "kernel sum_norm",
                                          "kernel adam",
                                          "kernel carry",
                                          "kernel dropout",
                                          "kernel column_sums<F>",
                                          "kernel narrow<F>",
                                          "kernel probabilities",
                                          "kernel pick",
                                          "kernel count_draws",
                                          "kernel write_texts<TEXTS>",
                                          "kernel pack_rows",
                                          "kernel (pack_tile<COLUMNS, 3>)",
                                          "kernel gates_forward<F>",
                                          "kernel gates_backward<F>",
                                          "kernel add_bias",
                                          "kernel cublasLtMatmul",
                                          "kernel cudnnRNNForward",
                                          "kernel cudnnRNNBackwardData_v8",
                                          "kernel cudnnRNNBackwardWeights_v8"};
    size_t failed = 0;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        results r;
        crnn_error err;
        cusim_fail(kernels[i], 2, cudaErrorIllegalAddress);
        crnn_status status = run(&r, &err);
        if (cusim_failed()) {
            assert_int_not_equal(status, CRNN_OK);
            expect_sentence(&err, kernels[i]);
            failed++;
        }
        cusim_fail(NULL, 0, cudaSuccess);
        cudaDeviceReset();
        expect_nothing_left(kernels[i]);
    }
    assert_true(failed > 12);
}

int main(void)
{
#ifdef __GLIBC__ /* large blocks are kept instead of being mapped anew in each of many runs */
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left_of_an_undisturbed_run),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(any_kernel_may_fail),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
