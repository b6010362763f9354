/* On a terminal: a bar that is redrawn in place, and text that cannot take the terminal over. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <stdlib.h>

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char text[20000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "la gata bebe agua y el perro come pan\n"[(i * (1 + i / 900)) % 38];
    scratch_write(dir, "a.txt", text, sizeof text);
    /* Escape, delete, a right-to-left override and a C1 control are all the model knows, beside two letters. */
    static const char odd[] = "a\033b\x7f\xe2\x80\xae\xc2\x9b";
    for (size_t i = 0; i + 9 < sizeof text; i += 9)
        memcpy(text + i, odd, 9);
    scratch_write(dir, "odd.txt", text, sizeof text / 9 * 9);
    program_do(&run, dir, "train", "odd.txt", "--units", "8", "--batch", "2", "--length", "9", "--max-steps", "1",
               "--out", "odd", "--device", "cpu");
    return run.status;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

static char *on_terminal(const char *const *arguments)
{
    char *text = program_on_terminal(&run, dir, arguments);
    if (!text) {
        print_message("no pseudo-terminal can be had here\n");
        skip();
    }
    if (run.status != 0)
        fail_msg("status %d: %s", run.status, text);
    return text;
}

static int count(const char *text, const char *piece)
{
    int found = 0;
    for (const char *at = text; (at = strstr(at, piece)); at += strlen(piece))
        found++;
    return found;
}

#define TRAIN                                                                                                          \
    "train", "a.txt", "--units", "32", "--batch", "8", "--length", "25", "--epochs", "12", "--threads", "1",           \
        "--device", "cpu"

static void training_draws_a_bar_and_takes_it_away(void **state)
{
    (void)state;
    unsetenv("NO_COLOR");
    char *text = on_terminal((const char *const[]){TRAIN, "--out", "bar", NULL});
    assert_holds(text, "\r[");
    assert_holds(text, " step ");
    assert_holds(text, " chars/s");
    assert_holds(text, " left");
    assert_holds(text, "\033[1mloss ");
    assert_holds(text, "\r\033[Kepoch 1: loss "); /* the bar is gone where a line comes */
    for (const char *at = text; (at = strstr(at, "\r["));
         at++) { /* 80 columns: a longer one would leave its parts behind */
        size_t shown = strcspn(at + 1, "\r\n"), codes = strlen("\033[1m\033[0m\033[K");
        assert_true(shown - codes < 80);
    }
    int bars = count(text, "\r["), epochs = count(text, "bits/char)");
    assert_int_equal(epochs, 12);
    assert_true(bars >= 1 && bars < 12 * 95); /* not once a step */
    free(text);
}

static void no_color_is_honoured(void **state)
{
    (void)state;
    setenv("NO_COLOR", "1", 1);
    char *text = on_terminal((const char *const[]){TRAIN, "--out", "plain", NULL});
    assert_holds(text, "\r[");
    assert_null(strstr(text, "\033[1m"));
    assert_null(strstr(text, "\033[0m"));
    unsetenv("NO_COLOR");
    free(text);
}

static void a_file_gets_plain_lines(void **state)
{
    (void)state;
    program_do(&run, dir, TRAIN, "--out", "lines");
    assert_done(run);
    assert_null(strchr(run.err, '\r'));
    assert_null(strchr(run.err, '\033'));
    assert_holds(run.err, "\nepoch 12: loss ");
}

static void control_characters_are_shown_on_a_terminal_unless_raw(void **state)
{
    (void)state;
    char *text = on_terminal((const char *const[]){"sample", "odd", "--length", "300", "--device", "cpu", NULL});
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\x7f'));
    assert_null(strstr(text, "\xe2\x80\xae"));
    assert_null(strstr(text, "\xc2\x9b"));
    assert_holds(text, "^[");
    assert_holds(text, "^?");
    assert_holds(text, "<U+202E>");
    assert_holds(text, "<U+009B>");
    free(text);
    text = on_terminal((const char *const[]){"sample", "odd", "--length", "300", "--raw", "--device", "cpu", NULL});
    assert_non_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "\xe2\x80\xae"));
    free(text);
    program_do(&run, dir, "sample", "odd", "--length", "300", "--device", "cpu");
    assert_non_null(strchr(run.out, '\033')); /* a file or a pipe gets them as they are */
}

static void tables_of_a_strange_text_leave_the_terminal_alone(void **state)
{
    (void)state;
    static const char *const commands[][3] = {{"corpus", "odd.txt", NULL}, {"info", "odd", NULL}};
    for (size_t i = 0; i < 2; i++) {
        char *text = on_terminal(commands[i]);
        assert_null(strchr(text, '\033'));
        assert_null(strstr(text, "\xe2\x80\xae"));
        assert_holds(text, "\\x1b");
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_draws_a_bar_and_takes_it_away),
        cmocka_unit_test(no_color_is_honoured),
        cmocka_unit_test(a_file_gets_plain_lines),
        cmocka_unit_test(control_characters_are_shown_on_a_terminal_unless_raw),
        cmocka_unit_test(tables_of_a_strange_text_leave_the_terminal_alone),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
