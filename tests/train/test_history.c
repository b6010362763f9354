#include "support/cmocka.h"

#include "host/base/files.h"
#include "host/train/history.h"
#include "support/scratch.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;

static int make_dir(void **state)
{
    (void)state;
    dir = scratch_new();
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static void history_is(const char *expected)
{
    size_t size;
    char *text = crnn_read_file(scratch_path(dir, "history.jsonl"), 1 << 20, &size, NULL);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

/* Resumes and closes; returns the skips in a row. */
static int resume_at(int64_t step, bool mid_epoch)
{
    crnn_history_past past = {.skips = -1};
    crnn_history *history = crnn_history_resume(dir, step, mid_epoch, &past, NULL);
    assert_non_null(history);
    crnn_history_free(history);
    return past.skips;
}

static void numbers_read_back_to_the_same_bits(void **state)
{
    (void)state;
    char text[CRNN_NUMBER];
    const double doubles[] = {0, 0.1, 1.0 / 3, 4.163959754035347, 1e-300, 5e-324, 1.7976931348623157e308, -2.5, 1e21};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        assert_true(strtod(crnn_number(text, doubles[i]), NULL) == doubles[i]);
    const float floats[] = {0, 0.1F, 1.0F / 3, 1e-3F, 1e-45F, 3.4028235e38F, 0.70710678F};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        assert_true(strtof(crnn_number_float(text, floats[i]), NULL) == floats[i]);
    assert_string_equal(crnn_number_float(text, 1e-3F), "0.001");
    assert_string_equal(crnn_number(text, 0.1), "0.1");
}

static void what_is_not_finite_is_null(void **state)
{
    (void)state;
    char text[CRNN_NUMBER];
    assert_string_equal(crnn_number(text, (double)NAN), "null");
    assert_string_equal(crnn_number(text, (double)-INFINITY), "null");
    assert_string_equal(crnn_number_float(text, INFINITY), "null");
}

static void each_event_is_one_object_a_line_with_the_agreed_fields(void **state)
{
    (void)state;
    crnn_history *history = crnn_history_new(dir, NULL);
    assert_non_null(history);
    crnn_epoch_report report = {1, 2, 0.5, 0.75, 0.25, 1.5, (double)NAN, (double)NAN, 2, 100};
    assert_int_equal(crnn_history_step(history, 1, 1, 4.5, 0.001F, 0.25F, NULL), CRNN_OK);
    assert_int_equal(crnn_history_skip(history, 2, 1, NULL), CRNN_OK);
    assert_int_equal(crnn_history_epoch(history, &report, NULL), CRNN_OK);
    assert_int_equal(crnn_history_return(history, 3, 2, 0, 0.5, 1, NULL), CRNN_OK);
    assert_false(crnn_history_waiting(history));
    assert_int_equal(crnn_history_sync(history, NULL), CRNN_OK);
    history_is("{\"event\":\"step\",\"step\":1,\"epoch\":1,\"loss\":4.5,\"lr\":0.001,\"grad_norm\":0.25}\n"
               "{\"event\":\"skip\",\"step\":2,\"epoch\":1}\n"
               "{\"event\":\"epoch\",\"epoch\":1,\"step\":2,\"loss_last\":0.5,\"loss_mean\":0.75,\"accuracy\":0.25,"
               "\"bpc\":1.5,\"val_loss\":null,\"val_bpc\":null,\"seconds\":2,\"chars_per_second\":100}\n"
               "{\"event\":\"return\",\"step\":3,\"epoch\":2,\"to_step\":0,\"rate_factor\":0.5,\"returns\":1}\n");
    crnn_history_free(history);
}

#define STEP(s) "{\"event\":\"step\",\"step\":" #s ",\"epoch\":1,\"loss\":1,\"lr\":1,\"grad_norm\":1}\n"
#define EPOCH(s) "{\"event\":\"epoch\",\"epoch\":1,\"step\":" #s "}\n"
#define SKIP(s) "{\"event\":\"skip\",\"step\":" #s ",\"epoch\":1}\n"
#define RETURN(s) "{\"event\":\"return\",\"step\":" #s ",\"epoch\":1}\n"

static void a_continued_history_is_cut_to_the_checkpoint(void **state)
{
    (void)state;
    scratch_text(dir, "history.jsonl", STEP(1) STEP(2) EPOCH(2) STEP(3) STEP(4));
    resume_at(2, false);
    history_is(STEP(1) STEP(2) EPOCH(2));
    crnn_history *history = crnn_history_resume(dir, 1, true, NULL, NULL);
    assert_non_null(history);
    assert_int_equal(crnn_history_skip(history, 2, 1, NULL), CRNN_OK);
    history_is(STEP(1) SKIP(2));
    crnn_history_free(history);
}

static void a_torn_last_line_goes(void **state)
{
    (void)state;
    scratch_text(dir, "history.jsonl", STEP(1) "{\"event\":\"st");
    resume_at(5, false);
    history_is(STEP(1));
    scratch_text(dir, "history.jsonl", STEP(1) "rubbish\n" STEP(2));
    resume_at(5, false);
    history_is(STEP(1) STEP(2));
}

static void the_report_on_an_epoch_cut_short_goes_where_the_epoch_goes_on(void **state)
{
    (void)state;
    scratch_text(dir, "history.jsonl", STEP(1) EPOCH(1) STEP(2) EPOCH(2));
    resume_at(2, false);
    history_is(STEP(1) EPOCH(1) STEP(2) EPOCH(2));
    resume_at(2, true);
    history_is(STEP(1) EPOCH(1) STEP(2));
}

static void bad_steps_in_a_row_are_counted_over_a_pause(void **state)
{
    (void)state;
    scratch_text(dir, "history.jsonl", STEP(1) SKIP(2) STEP(3) SKIP(4) EPOCH(4) SKIP(5) STEP(6) SKIP(7) RETURN(7));
    assert_int_equal(resume_at(7, false), 0);
    scratch_text(dir, "history.jsonl", STEP(1) SKIP(2) STEP(3) SKIP(4) EPOCH(4) SKIP(5) STEP(6));
    assert_int_equal(resume_at(6, false), 0);
    assert_int_equal(resume_at(5, false), 2);
    assert_int_equal(resume_at(4, false), 1);
    assert_int_equal(resume_at(3, false), 0);
    scratch_text(dir, "history.jsonl", SKIP(2) SKIP(4)); /* step 3 was good, and not logged */
    assert_int_equal(resume_at(4, false), 1);
    assert_int_equal(resume_at(5, false), 0); /* nor 5 */
}

static void a_missing_history_is_begun_anew(void **state)
{
    (void)state;
    remove(scratch_path(dir, "history.jsonl"));
    assert_int_equal(resume_at(3, false), 0);
    history_is("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_read_back_to_the_same_bits),
        cmocka_unit_test(what_is_not_finite_is_null),
        cmocka_unit_test(each_event_is_one_object_a_line_with_the_agreed_fields),
        cmocka_unit_test(a_continued_history_is_cut_to_the_checkpoint),
        cmocka_unit_test(a_torn_last_line_goes),
        cmocka_unit_test(the_report_on_an_epoch_cut_short_goes_where_the_epoch_goes_on),
        cmocka_unit_test(bad_steps_in_a_row_are_counted_over_a_pause),
        cmocka_unit_test(a_missing_history_is_begun_anew),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir) != 0;
}
