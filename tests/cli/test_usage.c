/* What the command line says of itself, and how it refuses what it does not understand. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <stdlib.h>

static program_run run;
static char *dir;

static const char *const commands[] = {"train", "sample", "eval",    "corpus", "doctor",
                                       "info",  "verify", "devices", "bench"};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    return 0;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

static void assert_lines_fit(const char *text)
{
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        size_t length = strcspn(line, "\n");
        if (length > 100)
            fail_msg("a line of the help is longer than 100 bytes: %.110s", line);
        if (length && line[length - 1] == ' ')
            fail_msg("a line of the help ends with a space: %.100s", line);
    }
}

static void the_program_names_its_commands_and_statuses(void **state)
{
    (void)state;
    program_do(&run, dir, "--help");
    assert_done(run);
    assert_lines_fit(run.out);
    for (int i = 0; i < COMMANDS; i++)
        assert_holds(run.out, commands[i]);
    assert_holds(run.out, "130 or 143");
    program_do(&run, dir, "help");
    assert_done(run);
    program_do(&run, dir, "-h");
    assert_done(run);
}

static void without_a_command_the_help_comes_with_status_2(void **state)
{
    (void)state;
    program_start(&run, dir, (const char *const[]){NULL});
    program_wait(&run);
    assert_int_equal(run.status, 2);
    assert_holds(run.out, "train");
}

static void every_command_has_its_help(void **state)
{
    (void)state;
    for (int i = 0; i < COMMANDS; i++) {
        program_do(&run, dir, commands[i], "--help");
        assert_done(run);
        assert_lines_fit(run.out);
        assert_holds(run.out, "Usage: crnn-gpu ");
        char *first = strdup(run.out);
        program_do(&run, dir, "help", commands[i]);
        assert_done(run);
        assert_string_equal(run.out, first);
        free(first);
    }
}

static void the_version_is_the_librarys(void **state)
{
    (void)state;
    program_do(&run, dir, "--version");
    assert_done(run);
    assert_holds(run.out, crnn_version());
}

static void a_misspelt_word_gets_the_nearest(void **state)
{
    (void)state;
    program_do(&run, dir, "trian", "a.txt");
    assert_refused(run, 2, "train");
    program_do(&run, dir, "help", "smaple");
    assert_refused(run, 2, "sample");
    program_do(&run, dir, "train", "--epoch", "3", "a.txt");
    assert_refused(run, 2, "did you mean --epochs?");
    program_do(&run, dir, "train", "--zzzzzzzz", "a.txt");
    assert_refused(run, 2, "there is no option --zzzzzzzz; see crnn-gpu train --help");
    program_do(&run, dir, "train", "-x", "a.txt");
    assert_refused(run, 2, "options begin with two dashes");
}

/* What a person pastes may hold what steers a terminal. */
static void a_word_is_shown_escaped_wherever_it_is_repeated(void **state)
{
    (void)state;
    program_do(&run, dir, "tr\x1b[31main");
    assert_refused(run, 2, "'tr^[[31main'");
    program_do(&run, dir, "train", "--ep\nochs", "3", "a.txt");
    assert_refused(run, 2, "--ep^Jochs, did you mean --epochs?");
    program_do(&run, dir, "train", "--epochs", "\x9b", "a.txt");
    assert_refused(run, 2, "not '\\x9b'");
    program_do(&run, dir, "train", "--keep", "a\xe2\x80\xae", "a.txt");
    assert_refused(run, 2, "not 'a<U+202E>'");
    program_do(&run, dir, "info", "a", "\x7f");
    assert_refused(run, 2, "'^?'");
    program_do(&run, dir, "train", "-\r");
    assert_refused(run, 2, "'-^M'");
}

static void numbers_are_read_strictly(void **state)
{
    (void)state;
    static const char *const not_whole[] = {"x",    "",    "3x",  " 3",         "3 ",
                                            "0x10", "1e3", "2.5", "nan",        "0",
                                            "-1",   "--",  "+3",  "1000000001", "99999999999999999999"};
    for (size_t i = 0; i < sizeof not_whole / sizeof *not_whole; i++) {
        program_do(&run, dir, "train", "--epochs", not_whole[i], "a.txt");
        assert_refused(run, 2, "--epochs takes a whole number from 1 to 1000000000");
    }
    static const char *const not_real[] = {"x", "", "1e-3x", "nan", "inf", "-0.1", "1001", "0x1p-3", " 1"};
    for (size_t i = 0; i < sizeof not_real / sizeof *not_real; i++) {
        program_do(&run, dir, "train", "--lr", not_real[i], "a.txt");
        assert_refused(run, 2, "--lr takes a number from 0 to 1000");
    }
    static const char *const not_kept[] = {"0", "3x", "some", "-2", ""};
    for (size_t i = 0; i < sizeof not_kept / sizeof *not_kept; i++) {
        program_do(&run, dir, "train", "--keep", not_kept[i], "a.txt");
        assert_refused(run, 2, "--keep");
    }
}

static void choices_flags_and_missing_values_are_told(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "--batching=rows", "a.txt");
    assert_refused(run, 2, "--batching takes one of streams|windows, not 'rows'");
    program_do(&run, dir, "train", "--batching=", "a.txt");
    assert_refused(run, 2, "--batching takes one of");
    program_do(&run, dir, "train", "--dry-run=yes", "a.txt");
    assert_refused(run, 2, "--dry-run takes no value");
    program_do(&run, dir, "train", "a.txt", "--epochs");
    assert_refused(run, 2, "--epochs needs a value: N");
}

static void each_command_says_what_it_needs(void **state)
{
    (void)state;
    static const char *const need[] = {"train", "sample", "eval", "corpus", "doctor", "info", "verify"};
    for (size_t i = 0; i < sizeof need / sizeof *need; i++) {
        program_do(&run, dir, need[i]);
        assert_refused(run, 2, need[i]);
    }
    program_do(&run, dir, "sample", "one", "two");
    assert_refused(run, 2, "two");
    program_do(&run, dir, "info", "one", "two");
    assert_refused(run, 2, "two");
    program_do(&run, dir, "devices", "one");
    assert_refused(run, 2, "one");
    program_do(&run, dir, "bench", "one");
    assert_refused(run, 2, "one");
    program_do(&run, dir, "eval", "run-without-a-text");
    assert_refused(run, 2, "eval");
}

static void a_file_may_have_the_name_of_an_option_after_two_dashes(void **state)
{
    (void)state;
    scratch_text(dir, "--epochs", "Un texto con nombre de opción.\n");
    program_do(&run, dir, "corpus", "--", "--epochs");
    assert_done(run);
    assert_holds(run.out, "--epochs");
}

static void a_device_that_is_not_there_is_status_4(void **state)
{
    (void)state;
    program_do(&run, dir, "devices");
    assert_done(run);
    assert_holds(run.out, "cpu");
    if (strstr(run.out, "sm_"))
        skip();
    program_do(&run, dir, "bench", "--device", "cuda");
    assert_refused(run, 4, "--device cpu");
}

static void the_devices_come_as_json(void **state)
{
    (void)state;
    program_do(&run, dir, "devices", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    assert_true(json_is_array(json_object_get(json, "devices")));
    assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(json, "devices"), 0), "kind")),
                        "cpu");
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_program_names_its_commands_and_statuses),
        cmocka_unit_test(without_a_command_the_help_comes_with_status_2),
        cmocka_unit_test(every_command_has_its_help),
        cmocka_unit_test(the_version_is_the_librarys),
        cmocka_unit_test(a_misspelt_word_gets_the_nearest),
        cmocka_unit_test(a_word_is_shown_escaped_wherever_it_is_repeated),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(choices_flags_and_missing_values_are_told),
        cmocka_unit_test(each_command_says_what_it_needs),
        cmocka_unit_test(a_file_may_have_the_name_of_an_option_after_two_dashes),
        cmocka_unit_test(a_device_that_is_not_there_is_status_4),
        cmocka_unit_test(the_devices_come_as_json),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
