/* crnn-gpu sample: the prime and the text on standard output, nothing else there, and the same again for the same seed. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

static program_run run;
static char *dir;
static const char KNOWN[] = "\nabcdefghijklmnopqrstuvwxyz .,\xc3\xb1"; /* the last one is the letter n with its tilde */

/* A model that learnt little: every character stays possible. */
static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char text[6000] = "";
    size_t size = 0, known = strlen(KNOWN);
    while (size + known < sizeof text) {
        memcpy(text + size, KNOWN, known);
        size += known;
    }
    scratch_write(dir, "a.txt", text, size);
    program_do(&run, dir, "train", "a.txt", "--units", "12", "--embedding", "8", "--batch", "4", "--length", "16",
               "--max-steps", "20", "--out", "run", "--device", "cpu");
    return run.status;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

#define SAMPLE(...) program_do(&run, dir, "sample", "run", "--device", "cpu", __VA_ARGS__)

/* Code points of UTF-8, which must be valid. */
static int64_t characters(const char *text)
{
    int64_t count = 0;
    for (size_t at = 0, size = strlen(text); at < size; count++) {
        uint32_t code;
        int used = crnn_utf8_decode(text + at, size - at, &code);
        assert_true(used > 0);
        at += (size_t)used;
    }
    return count;
}

static void the_length_does_not_count_the_prime(void **state)
{
    (void)state;
    SAMPLE("--length", "50", "--prime", "hola ");
    assert_done(run);
    assert_int_equal(strncmp(run.out, "hola ", 5), 0);
    assert_int_equal(characters(run.out), 55);
    SAMPLE("--length", "0", "--prime", "hola ");
    assert_done(run);
    assert_string_equal(run.out, "hola ");
    SAMPLE("--length", "7");
    assert_done(run);
    assert_int_equal(run.out[0], '\n');
    assert_int_equal(characters(run.out), 8);
    SAMPLE("--best");
    assert_done(run);
    assert_int_equal(characters(run.out), 1001);
}

static void a_seed_gives_the_same_text_twice_and_another_another(void **state)
{
    (void)state;
    SAMPLE("--length", "300", "--seed", "7");
    char *first = strdup(run.out);
    SAMPLE("--length", "300", "--seed", "7");
    assert_string_equal(run.out, first);
    SAMPLE("--length", "300", "--seed", "8");
    assert_string_not_equal(run.out, first);
    free(first);
}

static void the_likeliest_needs_no_seed(void **state)
{
    (void)state;
    static const char *const same[][2] = {{"--temperature=0", "--seed=5"},
                                          {"--top-k=1", "--seed=6"},
                                          {"--min-p=1", "--seed=7"},
                                          {"--top-p=1e-9", "--seed=8"}};
    char *first = NULL;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        SAMPLE("--length", "100", same[i][0], same[i][1]);
        assert_done(run);
        if (first)
            assert_string_equal(run.out, first);
        else
            first = strdup(run.out);
    }
    free(first);
}

static void a_prime_comes_from_a_file_too(void **state)
{
    (void)state;
    scratch_text(dir, "prime.txt", "hola, a\xc3\xb1o\n");
    SAMPLE("--length", "40", "--prime-file", "prime.txt");
    assert_done(run);
    char *first = strdup(run.out);
    SAMPLE("--length", "40", "--prime", "hola, a\xc3\xb1o\n");
    assert_string_equal(run.out, first);
    free(first);
    SAMPLE("--prime-file", "prime.txt", "--prime", "x");
    assert_refused(run, 2, "exclude each other");
    SAMPLE("--prime-file", "nowhere.txt");
    assert_refused(run, 3, "nowhere.txt");
    SAMPLE("--prime-file", ".");
    assert_refused(run, 3, "Is a directory");
    scratch_write(dir, "bad.txt", "ab\xff", 3);
    SAMPLE("--prime-file", "bad.txt");
    assert_refused(run, 3, "not valid UTF-8 at byte 2");
}

static void an_unknown_character_is_pointed_at(void **state)
{
    (void)state;
    SAMPLE("--prime", "una\nla \xc3\xb1 y \xc3\xa9l");
    assert_int_equal(run.status, 3);
    assert_int_equal(run.out_size, 0);
    assert_holds(run.err, "character 12 of the prime, U+00E9");
    assert_holds(run.err,
                 "  la \xc3\xb1 y \xc3\xa9l\n         ^\n"); /* seven characters before it on its line, two of margin */
    assert_holds(run.err, "It knows 'e'");
    SAMPLE("--prime", "\xe2\x82\xac");
    assert_int_equal(run.status, 3);
    assert_null(strstr(run.err, "It knows"));
    assert_holds(run.err, "--unknown");
}

static void unknown_characters_are_folded_or_left_out_on_demand(void **state)
{
    (void)state;
    SAMPLE("--length", "0", "--prime", "\xc3\x89l A\xc3\xb1o\xe2\x82\xac", "--unknown", "fold");
    assert_done(run); /* no letter is near the euro sign */
    assert_string_equal(run.out, "el a\xc3\xb1o");
    assert_holds(run.err, "were left out: 1");
    SAMPLE("--length", "0", "--prime", "\xc3\x89l A\xc3\xb1o", "--unknown", "fold");
    assert_done(run);
    assert_string_equal(run.out, "el a\xc3\xb1o");
    SAMPLE("--length", "0", "--prime", "\xc3\x89l A\xc3\xb1o\xe2\x82\xac", "--unknown", "skip");
    assert_done(run);
    assert_string_equal(run.out, "l \xc3\xb1o");
    assert_holds(run.err, "were left out: 3");
    SAMPLE("--length", "3", "--prime", "\xe2\x82\xac", "--unknown", "skip");
    assert_done(run);
    assert_int_equal(run.out[0], '\n');
}

static void the_text_ends_where_it_has_written_the_stop(void **state)
{
    (void)state;
    SAMPLE("--length", "5000", "--stop", "\n");
    assert_done(run);
    assert_int_equal(run.out[run.out_size - 1], '\n');
    assert_null(memchr(run.out + 1, '\n', run.out_size - 2)); /* the prime is one, and does not count */
    SAMPLE("--length", "5", "--prime", "abc", "--stop", "abc");
    assert_int_equal(characters(run.out), 8);
    SAMPLE("--length", "5", "--stop", "\xff");
    assert_refused(run, 3, "the stop text");
}

static void several_texts_are_apart_and_differ(void **state)
{
    (void)state;
    SAMPLE("--length", "60", "--count", "3", "--prime", "la ");
    assert_done(run);
    char *texts[3] = {run.out}, *rest = run.out;
    for (int i = 1; i < 3; i++) {
        rest = strstr(rest, "\n----------\n");
        assert_non_null(rest);
        *rest = 0;
        texts[i] = rest += 12;
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(strncmp(texts[i], "la ", 3), 0);
        assert_int_equal(characters(texts[i]), 63);
        assert_string_not_equal(texts[i], texts[(i + 1) % 3]);
    }
    SAMPLE("--length", "4000", "--count", "3", "--stop", ".");
    assert_done(run);
    assert_true(characters(run.out) < 3 * 4000);
}

/* 2^16 texts of 2^48 characters: their number has no place in 64 bits. */
static void texts_that_no_memory_holds_are_refused(void **state)
{
    (void)state;
    SAMPLE("--count", "65536", "--length", "281474976710655");
    assert_refused(run, 1, "out of memory");
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"--temperature", "-1"}, {"--temperature", "nan"}, {"--top-k", "-1"},
                                         {"--top-p", "0"},        {"--top-p", "1.1"},       {"--min-p", "2"},
                                         {"--count", "0"},        {"--length", "-1"},       {"--unknown", "no"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        SAMPLE(bad[i][0], bad[i][1]);
        assert_refused(run, 2, bad[i][0]);
        assert_int_equal(run.out_size, 0);
    }
}

static void what_is_no_model_is_status_3(void **state)
{
    (void)state;
    static const char *const bad[] = {"nowhere", "a.txt", ".", "run/config.json"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        program_do(&run, dir, "sample", bad[i], "--device", "cpu");
        assert_refused(run, 3, "");
        assert_int_equal(run.out_size, 0);
    }
}

static void a_checkpoint_and_the_best_are_read_as_well(void **state)
{
    (void)state;
    SAMPLE("--length", "30");
    char *newest = strdup(run.out);
    program_do(&run, dir, "sample", "run/checkpoints/ckpt-0000000020.safetensors", "--length", "30", "--device", "cpu");
    assert_string_equal(run.out, newest);
    SAMPLE("--length", "30", "--best");
    assert_string_equal(run.out, newest); /* the only one that was scored */
    program_do(&run, dir, "sample", "run/checkpoints/ckpt-0000000000.safetensors", "--length", "30", "--device", "cpu");
    assert_done(run);
    assert_string_not_equal(run.out, newest);
    free(newest);
}

/* A damaged newest checkpoint is passed over, by name. */
static void a_damaged_checkpoint_is_named_and_passed_over(void **state)
{
    (void)state;
    assert_int_equal(
        scratch_shell(dir, "cp -r run damaged && printf x | dd of=damaged/checkpoints/ckpt-0000000020.safetensors "
                           "bs=1 seek=4000 conv=notrunc 2>/dev/null"),
        0);
    program_do(&run, dir, "sample", "damaged", "--length", "5", "--device", "cpu");
    assert_done(run);
    assert_holds(run.err, "ckpt-0000000020.safetensors");
}

static void a_reader_that_has_enough_ends_the_text(void **state)
{
    (void)state;
    assert_int_equal(
        scratch_shell(dir,
                      "{ \"$CRNN_PROGRAM\" sample run --length 100000000 --device cpu 2>said; echo $? >status; } | "
                      "head -c 100 >/dev/null; test \"$(cat status)\" = 0"),
        0);
}

/* What is drawn from is what was asked for: the frequencies of the first character over many texts. */
static void temperature_and_top_k_shape_the_draw(void **state)
{
    (void)state;
    int kinds[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        SAMPLE("--length", "1", "--count", "2000", "--prime", "a", "--top-k", k ? "3" : "0");
        assert_done(run);
        bool seen[128] = {false};
        for (char *at = run.out; at && *at; at = strstr(at, "\n----------\n"), at = at ? at + 12 : NULL) {
            unsigned char c = (unsigned char)at[1] & 127;
            kinds[k] += !seen[c];
            seen[c] = true;
        }
    }
    assert_true(kinds[0] > 20);
    assert_int_equal(kinds[1], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_length_does_not_count_the_prime),
        cmocka_unit_test(a_seed_gives_the_same_text_twice_and_another_another),
        cmocka_unit_test(the_likeliest_needs_no_seed),
        cmocka_unit_test(a_prime_comes_from_a_file_too),
        cmocka_unit_test(an_unknown_character_is_pointed_at),
        cmocka_unit_test(unknown_characters_are_folded_or_left_out_on_demand),
        cmocka_unit_test(the_text_ends_where_it_has_written_the_stop),
        cmocka_unit_test(several_texts_are_apart_and_differ),
        cmocka_unit_test(texts_that_no_memory_holds_are_refused),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(what_is_no_model_is_status_3),
        cmocka_unit_test(a_checkpoint_and_the_best_are_read_as_well),
        cmocka_unit_test(a_damaged_checkpoint_is_named_and_passed_over),
        cmocka_unit_test(a_reader_that_has_enough_ends_the_text),
        cmocka_unit_test(temperature_and_top_k_shape_the_draw),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
