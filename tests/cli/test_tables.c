/* corpus, doctor, eval, info and bench: the tables for a person, and the same as JSON. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char text[5000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "El perro come pan.\r\nLa gata \"bebe\" agua\t.\n"[(i + i / 500) % 42];
    scratch_write(dir, "a.txt", text, sizeof text);
    program_do(&run, dir, "train", "a.txt", "--units", "12", "--embedding", "8", "--batch", "4", "--length", "16",
               "--epochs", "2", "--checkpoint-steps", "10", "--keep", "all", "--out", "run", "--device", "cpu");
    return run.status;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

static double number(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_number(value))
        fail_msg("%s is missing, or no number", key);
    return json_number_value(value);
}

/* --- corpus ------------------------------------------------------------------------------------------------------------------ */

static void a_corpus_is_shown_as_the_notebook_explores_it(void **state)
{
    (void)state;
    program_do(&run, dir, "corpus", "a.txt", "--batch", "4", "--length", "10");
    assert_done(run);
    assert_holds(run.out, "5000 bytes");
    assert_holds(run.out, "5000 characters, 21 distinct");
    assert_holds(run.out, "'El perro come pan.\\r\\nLa gata \"bebe\" agua\\t.\\n");
    assert_holds(run.out, "The first 13 characters: 'El perro come'");
    assert_holds(run.out, "\nInput:  'El perro c'\nTarget: 'l perro co'\n");
    assert_holds(run.out, "expected output");
    assert_holds(run.out, "streams       496 sequences       124 steps an epoch");
}

static void its_json_holds_the_same_figures(void **state)
{
    (void)state;
    program_do(&run, dir, "corpus", "a.txt", "--batch", "4", "--length", "10", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    assert_true(number(json, "characters") == 5000);
    assert_true(number(json, "vocabulary") == 21);
    assert_int_equal(json_array_size(json_object_get(json, "codes")), 21);
    assert_true(number(json_object_get(json, "windows"), "sequences") == 5000 / 11);
    assert_true(number(json_object_get(json, "windows"), "steps_per_epoch") == 5000 / 11 / 4);
    assert_true(number(json_object_get(json, "streams"), "steps_per_epoch") == (5000 - 1) / 4 / 10);
    const json_t *file = json_array_get(json_object_get(json, "files"), 0);
    assert_true(number(file, "bytes") == 5000);
    json_decref(json);
}

static void folders_and_globs_are_read_in_the_order_of_names_each_file_once(void **state)
{
    (void)state;
    mkdir(scratch_path(dir, "tales"), 0700);
    scratch_text(dir, "tales/b", "bb");
    scratch_text(dir, "tales/a", "aaa");
    scratch_text(dir, "tales/c.md", "c");
    mkdir(scratch_path(dir, "tales/below"), 0700);
    scratch_text(dir, "tales/below/d", "dddd");
    assert_int_equal(symlink("a", scratch_path(dir, "tales/z")), 0);
    program_do(&run, dir, "corpus", "tales");
    assert_done(run);
    assert_holds(run.out, "'aaabbc'");
    program_do(&run, dir, "corpus", "tales/?");
    assert_done(run);
    assert_holds(run.out, "'aaabb'");
    program_do(&run, dir, "corpus", "tales/b", "tales/a", "--repeat", "2");
    assert_done(run);
    assert_holds(run.out, "'bbaaabbaaa'");
}

/* --- doctor ------------------------------------------------------------------------------------------------------------------ */

static void the_doctor_names_file_and_line_and_what_to_do(void **state)
{
    (void)state;
    program_do(&run, dir, "doctor", "a.txt", "--val", "a.txt");
    assert_done(run);
    assert_holds(run.out, "Held-out passages that are trained on\n  -> leave them out of one of the two");
    assert_holds(run.out, "\n  a.txt:1: ");
    assert_holds(run.out, "again at a.txt:");
    assert_holds(run.out, "2 files, ");
    scratch_text(dir, "sound\x1b[31m.txt", "aaaaaaaaaa\n");
    program_do(&run, dir, "doctor", "sound\x1b[31m.txt");
    assert_done(run);
    assert_string_equal(run.out, "1 file, 1 line, 11 characters: nothing found\n");
    scratch_text(dir, "odd\x1b[31m.txt", "aaaaaaaaaa\x01\n");
    program_do(&run, dir, "doctor", "odd\x1b[31m.txt");
    assert_done(run);
    assert_holds(run.out, "odd^[[31m.txt:1: U+0001, 1 time\n");
}

static void its_findings_come_as_json_too(void **state)
{
    (void)state;
    scratch_write(dir, "odd\xff.txt", "aaaaaaaaaa\xff\n", 12);
    program_do(&run, dir, "doctor", "odd\xff.txt", "a.txt", "a.txt", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    const json_t *findings = json_object_get(json, "findings"), *first = json_array_get(findings, 0);
    assert_string_equal(json_string_value(json_object_get(first, "kind")), "repeated-passage");
    assert_string_equal(json_string_value(json_object_get(first, "path")), "a.txt");
    assert_true(number(first, "line") >= 1 && number(first, "line") <= 238);
    assert_true(number(first, "count") >= 2 && number(first, "characters") >= 100);
    assert_true(json_array_size(json_object_get(first, "also")) >= 1);
    assert_true(number(json_object_get(json, "found"), "invalid-bytes") == 1);
    assert_true(number(json, "characters") == 10012);
    size_t i;
    const json_t *finding;
    json_array_foreach(findings, i, finding)
    {
        assert_non_null(json_string_value(json_object_get(finding, "advice")));
        if (strcmp(json_string_value(json_object_get(finding, "kind")), "invalid-bytes") == 0)
            assert_string_equal(json_string_value(json_object_get(finding, "path")), "odd\\xff.txt");
    }
    json_decref(json);
}

static void a_text_the_doctor_cannot_read_is_status_3(void **state)
{
    (void)state;
    program_do(&run, dir, "doctor", "absent.txt");
    assert_refused(run, 3, "absent.txt");
    program_do(&run, dir, "doctor", "a.txt", "--val", "absent.txt");
    assert_refused(run, 3, "absent.txt");
    program_do(&run, dir, "doctor", "/dev/zero");
    assert_refused(run, 3, "a device");
    program_do(&run, dir, "doctor", "--encoding", "klingon", "a.txt");
    assert_refused(run, 2, "klingon");
}

/* --- eval -------------------------------------------------------------------------------------------------------------------- */

static void a_text_is_scored(void **state)
{
    (void)state;
    program_do(&run, dir, "eval", "run", "a.txt", "--device", "cpu", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    double loss = number(json, "loss");
    assert_true(loss > 0 && loss < log(21));
    assert_true(fabs(number(json, "bpc") - loss / log(2)) < 1e-12);
    assert_true(number(json, "accuracy") > 0.1);
    assert_true(number(json, "characters") >= 4990 && number(json, "characters") < 5000);
    assert_true(number(json, "unknown") == 0);
    json_decref(json);
    char shown[40];
    snprintf(shown, sizeof shown, "%.4f nats a character", loss);
    program_do(&run, dir, "eval", "run", "a.txt", "--device", "cpu");
    assert_done(run);
    assert_holds(run.out, shown);
}

static void characters_the_model_does_not_know_are_counted_apart(void **state)
{
    (void)state;
    scratch_text(dir, "odd.txt", "El perro \xe2\x82\xac come \xe2\x82\xac pan.");
    program_do(&run, dir, "eval", "run", "odd.txt", "--device", "cpu", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    assert_true(number(json, "unknown") == 2);
    json_decref(json);
    program_do(&run, dir, "eval", "run", "odd.txt", "--device", "cpu");
    assert_holds(run.out, "left out            2 characters");
    scratch_text(dir, "none.txt", "\xe2\x82\xac\xe2\x82\xac");
    program_do(&run, dir, "eval", "run", "none.txt", "--device", "cpu");
    assert_refused(run, 3, "none.txt");
    scratch_text(dir, "one.txt", "E");
    program_do(&run, dir, "eval", "run", "one.txt", "--device", "cpu");
    assert_refused(run, 3, "one.txt");
    program_do(&run, dir, "eval", "nowhere", "a.txt", "--device", "cpu");
    assert_refused(run, 3, "nowhere");
}

/* --- info -------------------------------------------------------------------------------------------------------------------- */

static void a_run_shows_its_model_and_where_it_stands(void **state)
{
    (void)state;
    program_do(&run, dir, "info", "run", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    double V = 21, E = 8, H = 12;
    assert_true(number(json, "vocabulary") == V);
    assert_true(number(json, "parameters") == V * E + 3 * H * (E + H + 2) + H * V + V);
    assert_true(number(json, "epoch") == 2 && number(json, "position") == 0);
    assert_true(json_is_true(json_object_get(json, "can_continue")));
    assert_true(number(json_object_get(json, "options"), "units") == H);
    json_decref(json);
    program_do(&run, dir, "info", "run");
    assert_done(run);
    assert_holds(run.out, "Total params: ");
    assert_holds(run.out, "(2 epochs done)");
    assert_holds(run.out, "yes: it holds Adam's moments");
    program_do(&run, dir, "info", "run/checkpoints/ckpt-0000000080.safetensors");
    assert_done(run);
    assert_holds(run.out, "(1 epoch and 6 steps done)");
    program_do(&run, dir, "info", "run", "--best");
    assert_done(run);
}

/* --- bench ------------------------------------------------------------------------------------------------------------------- */

static void the_bench_times_every_part_of_a_step(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "step_seconds",           "chars_per_second",  "epoch_seconds",           "flop_rate",
        "peak_flop_rate",         "peak_memory_bytes", "sample_chars_per_second", "eval_seconds",
        "texts_chars_per_second", "copy_rate"};
    program_do(&run, dir, "bench", "--vocab", "11", "--embedding", "5", "--units", "7", "--layers", "2", "--dropout",
               "0.5", "--batch", "3", "--length", "4", "--steps", "3", "--sample-length", "10", "--texts", "3",
               "--device", "cpu", "--json");
    assert_done(run);
    json_t *json = json_of(run), *ops = json_object_get(json, "ops");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_true(number(json, keys[i]) > 0);
    double step = number(json, "step_seconds");
    assert_true(fabs(number(json, "chars_per_second") - 12 / step) < 1e-6 / step);
    assert_true(fabs(number(json, "epoch_seconds") - 206 * step) < 1e-9);
    assert_true(number(json_object_get(json, "shape"), "units") == 7 && number(json, "texts") == 3);
    assert_true(json_array_size(ops) >= 6);
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const json_t *op = json_array_get(ops, i);
        double floor =
            fmax(number(op, "flop") / number(json, "peak_flop_rate"), number(op, "bytes") / number(json, "copy_rate"));
        assert_true(number(op, "seconds") > 0 && number(op, "calls") > 0 && number(op, "bytes") > 0);
        assert_true(fabs(number(op, "floor_seconds") - floor) < 1e-9 * floor);
    }
    json_decref(json);
    program_do(&run, dir, "bench", "--vocab", "11", "--embedding", "5", "--units", "7", "--batch", "3", "--length", "4",
               "--steps", "2", "--sample-length", "0", "--device", "cpu");
    assert_done(run);
    assert_holds(run.out, "\nall ");
    assert_holds(run.out, "whole step");
    assert_holds(run.out, "of 206 steps");
    assert_null(strstr(run.out, "writing one text"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_corpus_is_shown_as_the_notebook_explores_it),
        cmocka_unit_test(its_json_holds_the_same_figures),
        cmocka_unit_test(folders_and_globs_are_read_in_the_order_of_names_each_file_once),
        cmocka_unit_test(the_doctor_names_file_and_line_and_what_to_do),
        cmocka_unit_test(its_findings_come_as_json_too),
        cmocka_unit_test(a_text_the_doctor_cannot_read_is_status_3),
        cmocka_unit_test(a_text_is_scored),
        cmocka_unit_test(characters_the_model_does_not_know_are_counted_apart),
        cmocka_unit_test(a_run_shows_its_model_and_where_it_stands),
        cmocka_unit_test(the_bench_times_every_part_of_a_step),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
