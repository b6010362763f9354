#include "support/cmocka.h"

#include "host/base/escape.h"
#include <string.h>

static const char *escaped(const char *text, bool keep_newlines)
{
    static char out[256];
    return crnn_escape(out, sizeof out, text, strlen(text), keep_newlines);
}

static void ordinary_text_stays_as_it_is(void **state)
{
    (void)state;
    assert_string_equal(escaped("\xc2\xbfQu\xc3\xa9? \xe6\xbc\xa2 \xf0\x9f\x98\x80", false),
                        "\xc2\xbfQu\xc3\xa9? \xe6\xbc\xa2 \xf0\x9f\x98\x80");
}

static void what_would_steer_a_terminal_is_shown_instead(void **state)
{
    (void)state;
    assert_string_equal(escaped("\x1b[2J\x07\x7f\r", false), "^[[2J^G^?^M");
    assert_string_equal(escaped("\xe2\x80\xae"
                                "cba",
                                false),
                        "<U+202E>cba");
    assert_string_equal(escaped("\xe2\x81\xa6\xd8\x9c\xe2\x80\xa8", false), "<U+2066><U+061C><U+2028>");
    assert_string_equal(escaped("\xc2\x9b"
                                "1m",
                                false),
                        "<U+009B>1m");
    assert_string_equal(escaped("a\xff"
                                "b\xc3",
                                false),
                        "a\\xffb\\xc3");
}

static void newlines_and_tabs_stay_where_asked(void **state)
{
    (void)state;
    assert_string_equal(escaped("a\n\tb\r\n", true), "a\n\tb^M\n");
    assert_string_equal(escaped("a\n\tb", false), "a^J^Ib");
}

static void what_does_not_fit_is_cut_with_dots_between_pieces(void **state)
{
    (void)state;
    char out[16];
    memset(out, 'x', sizeof out);
    assert_string_equal(crnn_escape(out, 8, "abcdefgh", 8, false), "abcd...");
    assert_string_equal(crnn_escape(out, 8, "abcdefg", 7, false), "abcdefg");
    assert_string_equal(crnn_escape(out, 8,
                                    "abc\xe6\xbc\xa2"
                                    "de",
                                    8, false),
                        "abc...");
    assert_string_equal(crnn_escape(out, 3, "abcdefgh", 8, false), "..");
    assert_string_equal(crnn_escape(out, 1, "abcdefgh", 8, false), "");
    assert_int_equal(out[8], 'x');
    for (size_t size = 1; size <= sizeof out; size++) { /* never past the end, whatever the pieces */
        char exact[16];
        memset(exact, 'x', sizeof exact);
        crnn_escape(exact, size, "\x1b\xe2\x80\xae\xff\xc3\xa9\xe6\xbc\xa2zzzz", 14, false);
        assert_true(strlen(exact) < size);
        for (size_t i = size; i < sizeof exact; i++)
            assert_int_equal(exact[i], 'x');
    }
}

static void a_path_is_shown_in_bounded_room(void **state)
{
    (void)state;
    char shown[CRNN_SHOWN], path[5000];
    memset(path, '\n', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    crnn_shown(shown, path);
    assert_true(strlen(shown) < sizeof shown);
    assert_string_equal(shown + strlen(shown) - 5, "^J...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_text_stays_as_it_is),
        cmocka_unit_test(what_would_steer_a_terminal_is_shown_instead),
        cmocka_unit_test(newlines_and_tabs_stay_where_asked),
        cmocka_unit_test(what_does_not_fit_is_cut_with_dots_between_pieces),
        cmocka_unit_test(a_path_is_shown_in_bounded_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
