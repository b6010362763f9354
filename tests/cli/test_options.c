/* The table of options by itself: what a stored run may hold, and defaults from presets. */
#include "support/cmocka.h"

#include "host/cli/options.h"
#include <string.h>

static const opt_row rows[] = {
    {"val", OPT_LIST, NULL, "FILE", 0, 0, "a list", "Group"},
    {"lr", OPT_REAL, "1e-3", "RATE", 0, 1000, "a real number", NULL},
    {"batch", OPT_INT, "64", "N", 1, 100, "a whole number", NULL},
    {"batching", OPT_CHOICE, "streams", "streams|windows", 0, 0, "a choice", NULL},
    {"carry-epochs", OPT_FLAG, NULL, "", 0, 0, "a flag", NULL},
    {"out", OPT_TEXT, NULL, "DIR", 0, 0, "a text", NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

static opt_set parsed(char *argument)
{
    opt_set set = {.command = "test", .purpose = "Tests.", .usage = "test", .rows = rows, .row_count = ROWS};
    assert_int_equal(opt_parse(&set, argument ? 1 : 0, &argument), -1);
    return set;
}

static bool takes(const char *text)
{
    opt_set set = parsed(NULL);
    json_t *stored = json_loads(text, 0, NULL);
    assert_non_null(stored);
    bool taken = opt_from_json(&set, stored);
    opt_free(&set);
    json_decref(stored);
    return taken;
}

static void stored_values_must_be_of_their_rows_type_and_range(void **state)
{
    (void)state;
    static const char *const good[] = {"{}",
                                       "{\"other\":1}",
                                       "{\"val\":[]}",
                                       "{\"val\":[\"a\",\"b\"]}",
                                       "{\"lr\":0}",
                                       "{\"lr\":0.5}",
                                       "{\"batch\":1}",
                                       "{\"batch\":100}",
                                       "{\"batching\":\"windows\"}",
                                       "{\"carry-epochs\":true}",
                                       "{\"carry-epochs\":false}",
                                       "{\"out\":\"x\"}",
                                       "{\"out\":null,\"batch\":null,\"val\":null}"};
    static const char *const bad[] = {"{\"val\":\"a\"}",
                                      "{\"val\":[1]}",
                                      "{\"val\":[\"a\",null]}",
                                      "{\"val\":{}}",
                                      "{\"lr\":\"0.5\"}",
                                      "{\"lr\":-0.5}",
                                      "{\"lr\":1000.5}",
                                      "{\"lr\":true}",
                                      "{\"batch\":0}",
                                      "{\"batch\":101}",
                                      "{\"batch\":1.0}",
                                      "{\"batch\":\"1\"}",
                                      "{\"batching\":\"rows\"}",
                                      "{\"batching\":\"\"}",
                                      "{\"batching\":1}",
                                      "{\"carry-epochs\":1}",
                                      "{\"carry-epochs\":\"true\"}",
                                      "{\"out\":1}",
                                      "{\"out\":[]}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!takes(good[i]))
            fail_msg("%s is not taken", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (takes(bad[i]))
            fail_msg("%s is taken", bad[i]);
}

static void what_was_given_stays_and_the_rest_comes_back_as_it_was_stored(void **state)
{
    (void)state;
    static const char *const but[] = {"out"};
    opt_set set = parsed("--batch=7"), again = parsed(NULL);
    json_t *stored = json_loads("{\"batch\":9,\"lr\":0.25,\"val\":[\"a\"],\"out\":\"x\"}", 0, NULL);
    assert_true(opt_from_json(&set, stored));
    assert_int_equal(opt_int(&set, "batch"), 7);
    assert_true(opt_real(&set, "lr") == 0.25F);
    assert_string_equal(opt_text(&set, "out"), "x");
    json_t *kept = opt_to_json(&set, but, 1);
    assert_null(json_object_get(kept, "out"));
    assert_true(opt_from_json(&again, kept));
    assert_int_equal(opt_int(&again, "batch"), 7);
    assert_int_equal(opt_get(&again, "val")->count, 1);
    assert_null(opt_text(&again, "out"));
    json_decref(kept);
    opt_free(&again);
    opt_free(&set);
    json_decref(stored);
}

static void a_text_that_is_no_utf8_cannot_be_stored(void **state)
{
    (void)state;
    static const char *const but[] = {"out"};
    opt_set set = parsed("--out=\xff"), list = parsed("--val=\xff");
    assert_null(opt_to_json(&set, NULL, 0));
    json_t *rest = opt_to_json(&set, but, 1);
    assert_non_null(rest);
    json_decref(rest);
    assert_null(opt_to_json(&list, but, 1));
    opt_free(&list);
    opt_free(&set);
}

static void a_preset_does_not_replace_what_was_given(void **state)
{
    (void)state;
    opt_set set = parsed("--batch=7");
    assert_true(opt_default(&set, "batch", "9"));
    assert_int_equal(opt_int(&set, "batch"), 7);
    assert_true(opt_default(&set, "lr", "0.5"));
    assert_true(opt_real(&set, "lr") == 0.5F);
    assert_false(opt_default(&set, "lr", "fast"));
    assert_false(opt_default(&set, "no-such-option", "1"));
    opt_free(&set);
    opt_free(&(opt_set){.rows = rows, .row_count = ROWS}); /* one that was never parsed */
}

static void only_near_words_are_suggested(void **state)
{
    (void)state;
    static const char long_word[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    const char *const words[] = {"batch", long_word};
    assert_string_equal(opt_nearest("bacth", words, 2), "batch");
    assert_string_equal(opt_nearest("atch", words, 2), "batch");
    assert_null(opt_nearest("zzzzz", words, 2));
    assert_null(opt_nearest(long_word, words, 2)); /* too long to be compared */
    assert_null(opt_nearest("batch", words, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_values_must_be_of_their_rows_type_and_range),
        cmocka_unit_test(what_was_given_stays_and_the_rest_comes_back_as_it_was_stored),
        cmocka_unit_test(a_text_that_is_no_utf8_cannot_be_stored),
        cmocka_unit_test(a_preset_does_not_replace_what_was_given),
        cmocka_unit_test(only_near_words_are_suggested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
