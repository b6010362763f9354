#include "support/cmocka.h"

#include "host/train/schedule.h"

static crnn_train_options options(crnn_lr_schedule schedule, int64_t warmup)
{
    crnn_train_options o = crnn_train_options_default();
    o.lr = 0.5F;
    o.lr_schedule = schedule;
    o.warmup = warmup;
    return o;
}

static void near(float value, double expected)
{
    /* One rounding to float of a value of at most 1/2. */
    assert_true((double)value - expected <= 3e-8 && expected - (double)value <= 3e-8);
}

static void a_constant_rate_is_the_rate_given_to_the_bit(void **state)
{
    (void)state;
    crnn_train_options o = crnn_train_options_default();
    for (int64_t s = 1; s <= 10; s++)
        assert_true(crnn_schedule_rate(&o, s, 10, 1) == 1e-3F);
    assert_true(crnn_schedule_rate(&o, 1, 10, 0.25) == 0.25F * 1e-3F);
}

static void the_warm_up_is_a_line_that_reaches_the_rate(void **state)
{
    (void)state;
    crnn_train_options o = options(CRNN_LR_CONSTANT, 4);
    const double expected[] = {0.125, 0.25, 0.375, 0.5, 0.5, 0.5};
    for (int64_t s = 1; s <= 6; s++)
        near(crnn_schedule_rate(&o, s, 6, 1), expected[s - 1]);
}

static void a_line_falls_from_the_rate_towards_zero(void **state)
{
    (void)state;
    crnn_train_options o = options(CRNN_LR_LINEAR, 2);
    const double expected[] = {0.25, 0.5, 0.5, 0.375, 0.25, 0.125};
    for (int64_t s = 1; s <= 6; s++)
        near(crnn_schedule_rate(&o, s, 6, 1), expected[s - 1]);
    near(crnn_schedule_rate(&o, 7, 6, 1), 0);
    near(crnn_schedule_rate(&o, 70, 6, 1), 0);
}

static void a_cosine_falls_from_the_rate_towards_zero(void **state)
{
    (void)state;
    crnn_train_options o = options(CRNN_LR_COSINE, 0);
    /* 0.25 (1 + cos(pi p)), p = 0, 1/4, 1/2, 3/4 */
    const double expected[] = {0.5, 0.42677669529663687, 0.25, 0.07322330470336312};
    for (int64_t s = 1; s <= 4; s++)
        near(crnn_schedule_rate(&o, s, 4, 1), expected[s - 1]);
    near(crnn_schedule_rate(&o, 3, 4, 0.5), 0.125);
}

static void a_warm_up_longer_than_the_run_does_no_harm(void **state)
{
    (void)state;
    crnn_train_options o = options(CRNN_LR_COSINE, 100);
    near(crnn_schedule_rate(&o, 10, 10, 1), 0.05);
    o.warmup = 10;
    near(crnn_schedule_rate(&o, 10, 10, 1), 0.5);
}

static void a_run_ends_by_epochs_or_by_steps_whichever_comes_first(void **state)
{
    (void)state;
    crnn_train_options o = crnn_train_options_default();
    assert_int_equal(crnn_total_steps(&o, 206), 2060);
    o.max_steps = 120;
    assert_int_equal(crnn_total_steps(&o, 206), 120);
    o.max_steps = 5000;
    assert_int_equal(crnn_total_steps(&o, 206), 2060);
    o.max_steps = 0;
    o.epochs = INT64_MAX;
    assert_int_equal(crnn_total_steps(&o, 206), INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_constant_rate_is_the_rate_given_to_the_bit),
        cmocka_unit_test(the_warm_up_is_a_line_that_reaches_the_rate),
        cmocka_unit_test(a_line_falls_from_the_rate_towards_zero),
        cmocka_unit_test(a_cosine_falls_from_the_rate_towards_zero),
        cmocka_unit_test(a_warm_up_longer_than_the_run_does_no_harm),
        cmocka_unit_test(a_run_ends_by_epochs_or_by_steps_whichever_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
