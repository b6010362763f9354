/* Words in device memory by which kernels say that they gave up: read at every sync, with the one wait that there is anyway. */
#include "kernels/cuda/cuda.h"
#include "support/cmocka.h"
#include <crnn/model.h>
#include <cusim_control.h>
#include <stdio.h>
#include <string.h>

static crnn_backend *be;

static int open_device(void **state)
{
    (void)state;
    crnn_device_config config = crnn_device_config_default();
    crnn_error err = {0};
    be = crnn_cuda_open(&config, &err);
    if (!be)
        fail_msg("%s", err.text);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    be->ops->close(be);
    return cusim_objects() || cusim_memory_used();
}

static uint32_t *word_that_is_watched(const char *gave_up)
{
    uint32_t *block = be->ops->alloc(be, 64);
    crnn_cuda_watch(crnn_cuda_of(be), block + 3, gave_up);
    return block;
}

static void set(uint32_t *block, uint32_t value)
{
    be->ops->upload(be, block + 3, &value, sizeof value);
}

static void expect_sync(crnn_status status, const char *words)
{
    crnn_error err = {0};
    assert_int_equal(be->ops->sync(be, &err), status);
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
}

static void what_gave_up_is_told_with_its_sentence(void **state)
{
    (void)state;
    uint32_t *a = word_that_is_watched("the first waits"), *b = word_that_is_watched("the second waits");
    expect_sync(CRNN_OK, "");
    set(b, 7);
    expect_sync(CRNN_ERR_FAULT, "the second waits");
    set(a, 1);
    expect_sync(CRNN_ERR_FAULT, "the first waits"); /* in the order in which they came */
    set(a, 0);
    set(b, 0);
    expect_sync(CRNN_OK, "");
    be->ops->free(be, a);
    be->ops->free(be, b);
}

static void a_sync_waits_once_however_many_there_are(void **state)
{
    (void)state;
    uint32_t *blocks[5];
    for (int i = 0; i < 5; i++)
        blocks[i] = word_that_is_watched("one of five");
    cusim_reset_calls();
    expect_sync(CRNN_OK, "");
    assert_int_equal(cusim_calls("cudaStreamSynchronize"), 1);
    for (int i = 0; i < 5; i++)
        be->ops->free(be, blocks[i]);
}

static void none_is_read_after_its_memory_was_freed(void **state)
{
    (void)state;
    uint32_t *a = word_that_is_watched("gone"), *b = word_that_is_watched("still there");
    set(a, 1);
    be->ops->free(be, a);
    expect_sync(CRNN_OK, "");
    set(b, 1);
    expect_sync(CRNN_ERR_FAULT, "still there");
    be->ops->free(be, b);
    cusim_reset_calls();
    expect_sync(CRNN_OK, "");
    assert_int_equal(cusim_calls("cudaMemcpyAsync"), 0);
}

static void more_than_there_is_room_for_are_refused(void **state)
{
    (void)state;
    uint32_t *block = be->ops->alloc(be, 4);
    for (int i = 0; i < CRNN_MAX_WATCHED; i++)
        crnn_cuda_watch(crnn_cuda_of(be), block, "one of many");
    expect_sync(CRNN_OK, "");
    crnn_cuda_watch(crnn_cuda_of(be), block, "one too many");
    expect_sync(CRNN_ERR_ARGUMENT, "too many");
    be->ops->free(be, block);
}

/* More ops in a call than there are marks: none of what comes after may hide that one before failed. */
static void a_failure_among_many_timed_steps_is_told(void **state)
{
    (void)state;
    enum { STEPS = 100 };
    static const uint16_t text[8] = {0, 1, 2, 1, 0, 2, 1, 0};
    const crnn_model_config config = {{3, 2, 2, 1, 0}, 1, 1, true, 1};
    const crnn_device_config device = {.kind = CRNN_DEVICE_CUDA, .rnn_algo = "cudnn"};
    int64_t starts[STEPS] = {0}, done;
    crnn_update updates[STEPS];
    crnn_step_result results[STEPS];
    crnn_op_time ops[16];
    crnn_error err = {0};
    crnn_model *model = crnn_model_new(&config, &device, &err);
    assert_non_null(model);
    for (int i = 0; i < STEPS; i++)
        updates[i] = crnn_update_default();
    assert_int_equal(crnn_model_set_text(model, (crnn_ids){text, 8, sizeof *text}, &err), CRNN_OK);
    crnn_model_time_ops(model, true);
    cusim_fail("launch", 50, cudaErrorUnknown);
    assert_int_equal(crnn_model_train_several(model, starts, updates, STEPS, results, &done, &err), CRNN_ERR_FAULT);
    cusim_fail(NULL, 0, cudaSuccess);
    assert_int_equal(crnn_model_train_several(model, starts, updates, STEPS, results, &done, &err), CRNN_OK);
    assert_true(crnn_model_op_times(model, ops, 16) > 4);
    crnn_model_free(model);
}

static void rates_that_cannot_be_measured_are_told(void **state)
{
    (void)state;
    const crnn_model_config config = {{3, 2, 2, 1, 0}, 1, 1, true, 1};
    const crnn_device_config device = {.kind = CRNN_DEVICE_CUDA, .rnn_algo = "cudnn"};
    double peak = -1, copy = -1;
    crnn_error err = {0};
    crnn_model *model = crnn_model_new(&config, &device, &err);
    assert_non_null(model);
    cusim_fail("cudaMalloc", 1, cudaErrorMemoryAllocation);
    assert_int_equal(crnn_model_rates(model, &peak, &copy, &err), CRNN_ERR_MEMORY);
    cusim_fail(NULL, 0, cudaSuccess);
    assert_true(peak <= 0 && copy <= 0 && err.text[0]);
    assert_int_equal(crnn_model_rates(model, &peak, &copy, &err), CRNN_OK);
    assert_true(peak > 0 && copy > 0);
    crnn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gave_up_is_told_with_its_sentence),
        cmocka_unit_test(a_sync_waits_once_however_many_there_are),
        cmocka_unit_test(none_is_read_after_its_memory_was_freed),
        cmocka_unit_test(more_than_there_is_room_for_are_refused),
        cmocka_unit_test(a_failure_among_many_timed_steps_is_told),
        cmocka_unit_test(rates_that_cannot_be_measured_are_told),
    };
    return cmocka_run_group_tests(tests, open_device, close_device) != 0;
}
