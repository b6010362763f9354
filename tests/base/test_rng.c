#include "support/cmocka.h"

#include "host/base/rng.h"

static void check_philox(uint64_t counter, uint64_t stream, uint64_t seed, const uint32_t expected[4])
{
    crnn_philox4 got = crnn_philox(seed, stream, counter);
    assert_memory_equal(got.v, expected, sizeof got.v);
}

/* Random123's kat_vectors, "philox4x32 10". */
static void philox_gives_the_published_known_answers(void **state)
{
    (void)state;
    check_philox(0, 0, 0, (uint32_t[4]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    check_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, (uint32_t[4]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    /* counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0, least significant word first */
    check_philox(0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822,
                 (uint32_t[4]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static void a_float_draw_lies_in_0_to_below_1(void **state)
{
    (void)state;
    assert_true(crnn_u01(0) == 0.0F);
    assert_true(crnn_u01(0xFFFFFFFF) < 1.0F);
    assert_true(crnn_u01(0x80000000) == 0.5F);
}

static void each_use_has_streams_of_its_own(void **state)
{
    (void)state;
    assert_true(crnn_rng_stream(CRNN_RNG_SAMPLE, 7) == 7);
    assert_true(crnn_rng_stream(CRNN_RNG_SHUFFLE, 7) == (UINT64_C(2) << 56) + 7);
}

static void a_bounded_draw_is_uniform(void **state)
{
    (void)state;
    enum { BOUND = 7, DRAWS = 70000 };
    int count[BOUND] = {0};
    uint64_t counter = 0;
    for (int i = 0; i < DRAWS; i++)
        count[crnn_uniform_below(1, 2, &counter, BOUND)]++;
    double chi_square = 0, expected = (double)DRAWS / BOUND;
    for (int i = 0; i < BOUND; i++)
        chi_square += (count[i] - expected) * (count[i] - expected) / expected;
    assert_true(chi_square < 27.9);   /* 6 degrees of freedom: 99.99 % */
    assert_int_equal(counter, DRAWS); /* a rejection has a chance of 2^-62 here */
}

static void a_bound_that_divides_nothing_evenly_is_met_by_rejection(void **state)
{
    (void)state;
    const uint64_t bound = (UINT64_C(1) << 63) + 1; /* nearly every second draw must go */
    uint64_t counter = 0;
    int high = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t value = crnn_uniform_below(3, 4, &counter, bound);
        assert_true(value < bound);
        high += value >= bound / 2;
    }
    assert_in_range(counter, 19500, 20500); /* 20,000 +- 3.5 standard deviations of 141 */
    assert_in_range(high, 4800, 5200);      /* 5,000 +- 4 of 50 */
    assert_int_equal(crnn_uniform_below(3, 4, &counter, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_known_answers),
        cmocka_unit_test(a_float_draw_lies_in_0_to_below_1),
        cmocka_unit_test(each_use_has_streams_of_its_own),
        cmocka_unit_test(a_bounded_draw_is_uniform),
        cmocka_unit_test(a_bound_that_divides_nothing_evenly_is_met_by_rejection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
