#include "support/cmocka.h"

#include <crnn/batches.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static crnn_batches_config windows(int64_t characters, int32_t B, int32_t T, int64_t buffer)
{
    return (crnn_batches_config){CRNN_WINDOWS, characters, B, T, buffer, 1};
}

static crnn_batches_config streams(int64_t characters, int32_t B, int32_t T)
{
    return (crnn_batches_config){CRNN_STREAMS, characters, B, T, 0, 1};
}

static crnn_batches *new_batches(crnn_batches_config config)
{
    crnn_error err = {0};
    crnn_batches *batches = crnn_batches_new(&config, &err);
    if (!batches)
        fail_msg("%s", err.text);
    return batches;
}

static void the_notebooks_text_gives_13211_sequences_and_206_steps(void **state)
{
    (void)state;
    crnn_batches *batches = new_batches(windows(1334361, 64, 100, 10000));
    assert_int_equal(crnn_batches_sequences(batches), 13211);
    assert_int_equal(crnn_batches_steps(batches), 206);
    crnn_batches_free(batches);
    batches = new_batches(streams(1334361, 64, 100));
    assert_int_equal(crnn_batches_steps(batches), 208); /* floor(floor(1334360 / 64) / 100) */
    assert_int_equal(crnn_batches_sequences(batches), 208 * 64);
    crnn_batches_free(batches);
}

static void a_row_of_streams_continues_the_row_of_the_step_before(void **state)
{
    (void)state;
    const int64_t N = 1000;
    const int32_t B = 7, T = 13;
    int64_t before[7], S = (N - 1) / B, steps = 0;
    crnn_batches *batches = new_batches(streams(N, B, T));
    for (const int64_t *starts; (starts = crnn_batches_next(batches)); steps++) {
        for (int b = 0; b < B; b++) {
            assert_int_equal(starts[b], steps ? before[b] + T : b * S);
            assert_true(starts[b] + T < N);            /* its last target is there */
            assert_true(starts[b] + T <= (b + 1) * S); /* and it stays within its stream */
        }
        memcpy(before, starts, sizeof before);
    }
    assert_int_equal(steps, S / T);
    assert_int_equal(crnn_batches_steps(batches), S / T);
    assert_null(crnn_batches_next(batches)); /* and it stays over */
    crnn_batches_free(batches);
}

static void every_sequence_comes_once_an_epoch(void **state)
{
    (void)state;
    enum { SEQUENCES = 1200, B = 8, T = 5 };
    crnn_batches *batches = new_batches(windows(SEQUENCES * (T + 1) + T, B, T, 100));
    assert_int_equal(crnn_batches_sequences(batches), SEQUENCES);
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[SEQUENCES] = {0};
        assert_int_equal(crnn_batches_seek(batches, epoch, 0, NULL), CRNN_OK);
        for (const int64_t *starts; (starts = crnn_batches_next(batches));)
            for (int b = 0; b < B; b++) {
                assert_int_equal(starts[b] % (T + 1), 0);
                seen[starts[b] / (T + 1)]++;
            }
        for (int i = 0; i < SEQUENCES; i++)
            assert_int_equal(seen[i], 1);
    }
    crnn_batches_free(batches);
}

static void the_first_64_draws_come_from_the_first_10063_sequences(void **state)
{
    (void)state;
    int past_the_first_fill = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        crnn_batches_config config = windows(1334361, 64, 100, 10000);
        config.seed = seed;
        crnn_batches *batches = new_batches(config);
        const int64_t *starts = crnn_batches_next(batches);
        for (int b = 0; b < 64; b++) {
            assert_true(starts[b] / 101 < 10000 + b); /* draw b has seen b refills: 10,063 for the 64th */
            past_the_first_fill += starts[b] / 101 >= 10000;
        }
        crnn_batches_free(batches);
    }
    assert_in_range(past_the_first_fill, 10, 80); /* 200 * sum(b / 10000) = 40 expected: refills do come into play */
}

/* A mirror of the buffer tells which entry each draw took. */
static void each_draw_is_uniform_over_the_buffer(void **state)
{
    (void)state;
    enum { BUFFER = 50, SEQUENCES = 100050 };
    int64_t mirror[BUFFER], count[BUFFER] = {0}, upcoming = BUFFER;
    crnn_batches *batches = new_batches(windows(SEQUENCES * 2, 1, 1, BUFFER));
    for (int i = 0; i < BUFFER; i++)
        mirror[i] = i;
    while (upcoming < SEQUENCES) {
        int64_t sequence = *crnn_batches_next(batches) / 2;
        int i = 0;
        while (i < BUFFER && mirror[i] != sequence)
            i++;
        assert_true(i < BUFFER); /* only what is in the buffer is drawn, and what follows takes its place */
        count[i]++;
        mirror[i] = upcoming++;
    }
    double chi_square = 0, expected = (double)(SEQUENCES - BUFFER) / BUFFER;
    for (int i = 0; i < BUFFER; i++)
        chi_square += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
    assert_true(chi_square < 92.0); /* 49 degrees of freedom: 99.98 %; the seed is fixed */
    assert_true(chi_square > 20.0); /* too even would not be random either */
    crnn_batches_free(batches);
}

/* With the whole text in the buffer every order is as likely: position of sequence 0 over many epochs. */
static void what_is_left_at_the_end_is_drawn_uniformly_too(void **state)
{
    (void)state;
    enum { SEQUENCES = 10, EPOCHS = 5000 };
    int count[SEQUENCES][SEQUENCES] = {0};
    crnn_batches *batches = new_batches(windows(SEQUENCES * 2, 1, 1, 1000));
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        assert_int_equal(crnn_batches_seek(batches, epoch, 0, NULL), CRNN_OK);
        for (int i = 0; i < SEQUENCES; i++)
            count[i][*crnn_batches_next(batches) / 2]++;
    }
    double chi_square = 0, expected = (double)EPOCHS / SEQUENCES;
    for (int i = 0; i < SEQUENCES; i++)
        for (int k = 0; k < SEQUENCES; k++)
            chi_square += (count[i][k] - expected) * (count[i][k] - expected) / expected;
    /* Rows and columns sum up alike: 81 degrees of freedom, variance near 2 * 81 * 10/9; 5 standard deviations. */
    assert_true(fabs(chi_square * 0.9 - 81) < 5 * sqrt(2 * 81));
    crnn_batches_free(batches);
}

static void read_epoch(crnn_batches *batches, int64_t epoch, int64_t *out, int32_t B)
{
    assert_int_equal(crnn_batches_seek(batches, epoch, 0, NULL), CRNN_OK);
    for (const int64_t *starts; (starts = crnn_batches_next(batches)); out += B)
        memcpy(out, starts, (size_t)B * sizeof *out);
}

static void epochs_and_seeds_differ_and_repeat_exactly(void **state)
{
    (void)state;
    enum { B = 4, SEQUENCES = 400 };
    int64_t first[SEQUENCES], second[SEQUENCES], again[SEQUENCES];
    crnn_batches_config config = windows(SEQUENCES * 10, B, 9, 64);
    crnn_batches *batches = new_batches(config);
    read_epoch(batches, 0, first, B);
    read_epoch(batches, 1, second, B);
    read_epoch(batches, 0, again, B);
    assert_memory_not_equal(first, second, sizeof first);
    assert_memory_equal(first, again, sizeof first);
    crnn_batches_free(batches);
    config.seed = 2;
    batches = new_batches(config);
    read_epoch(batches, 0, again, B);
    assert_memory_not_equal(first, again, sizeof first);
    crnn_batches_free(batches);
}

static void seeking_leads_to_where_walking_would(void **state)
{
    (void)state;
    enum { B = 4, STEPS = 100 };
    for (int way = CRNN_STREAMS; way <= CRNN_WINDOWS; way++) {
        int64_t walked[STEPS * B];
        crnn_batches_config config = windows(STEPS * B * 10 + 1, B, 9, 30);
        config.batching = (crnn_batching)way;
        config.T = way == CRNN_STREAMS ? 10 : 9;
        crnn_batches *walker = new_batches(config), *jumper = new_batches(config);
        assert_int_equal(crnn_batches_steps(walker), STEPS);
        read_epoch(walker, 3, walked, B);
        for (int64_t i = 0; i < 60; i++) {
            int64_t step = i * 37 % STEPS; /* forwards and backwards */
            assert_int_equal(crnn_batches_seek(jumper, 3, step, NULL), CRNN_OK);
            assert_memory_equal(crnn_batches_next(jumper), walked + step * B, B * sizeof *walked);
        }
        assert_int_equal(crnn_batches_seek(jumper, 3, STEPS, NULL), CRNN_OK); /* the end is a place too */
        assert_null(crnn_batches_next(jumper));
        assert_int_equal(crnn_batches_seek(jumper, 3, STEPS + 1, NULL), CRNN_ERR_ARGUMENT);
        assert_int_equal(crnn_batches_seek(jumper, -1, 0, NULL), CRNN_ERR_ARGUMENT);
        crnn_batches_free(walker);
        crnn_batches_free(jumper);
    }
}

static void check_least(crnn_batches_config config, int64_t least, const char *said)
{
    crnn_error err = {0};
    config.characters = least;
    crnn_batches *batches = new_batches(config);
    assert_int_equal(crnn_batches_steps(batches), 1);
    crnn_batches_free(batches);
    config.characters = least - 1;
    assert_null(crnn_batches_new(&config, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    if (!strstr(err.text, said))
        fail_msg("\"%s\" does not say \"%s\"", err.text, said);
}

static void a_text_shorter_than_one_batch_is_told_what_it_lacks(void **state)
{
    (void)state;
    check_least(windows(0, 64, 100, 10000), 6464, "at least 6464");
    check_least(streams(0, 64, 100), 6401, "at least 6401");
    check_least(streams(0, 1, 1), 2, "at least 2");
    check_least(windows(0, 1, 1, 1), 2, "at least 2");
    crnn_error err = {0};
    crnn_batches_config huge = streams(1000, INT32_MAX, INT32_MAX); /* products past 2^31 and near 2^63 */
    assert_null(crnn_batches_new(&huge, &err));
    assert_non_null(strstr(err.text, "at least 4611686014132420610"));
    huge.batching = CRNN_WINDOWS;
    huge.shuffle_buffer = INT64_MAX;
    assert_null(crnn_batches_new(&huge, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    crnn_error err = {0};
    crnn_batches_config bad[] = {
        streams(1000, 0, 1), streams(1000, 1, 0), windows(1000, 1, 1, 0), {(crnn_batching)7, 1000, 1, 1, 1, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(crnn_batches_new(&bad[i], &err));
        assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
    }
    crnn_batches_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_notebooks_text_gives_13211_sequences_and_206_steps),
        cmocka_unit_test(a_row_of_streams_continues_the_row_of_the_step_before),
        cmocka_unit_test(every_sequence_comes_once_an_epoch),
        cmocka_unit_test(the_first_64_draws_come_from_the_first_10063_sequences),
        cmocka_unit_test(each_draw_is_uniform_over_the_buffer),
        cmocka_unit_test(what_is_left_at_the_end_is_drawn_uniformly_too),
        cmocka_unit_test(epochs_and_seeds_differ_and_repeat_exactly),
        cmocka_unit_test(seeking_leads_to_where_walking_would),
        cmocka_unit_test(a_text_shorter_than_one_batch_is_told_what_it_lacks),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
