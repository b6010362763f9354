/* Words in device memory by which kernels say that they gave up: read at every sync, with the one wait that there is anyway. */
#include "kernels/cuda/cuda.h"
#include "support/cmocka.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gave_up_is_told_with_its_sentence),
        cmocka_unit_test(a_sync_waits_once_however_many_there_are),
        cmocka_unit_test(none_is_read_after_its_memory_was_freed),
        cmocka_unit_test(more_than_there_is_room_for_are_refused),
    };
    return cmocka_run_group_tests(tests, open_device, close_device) != 0;
}
