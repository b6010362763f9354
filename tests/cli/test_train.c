/* crnn-gpu train as a user runs it: a run from its first step to its end, taken up again, looked at before it begins. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL "--units", "12", "--embedding", "8", "--batch", "4", "--length", "16", "--threads", "1", "--device", "cpu"

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char *text = malloc(8001);
    for (int i = 0; i < 8000; i++)
        text[i] = "el perro come pan; la gata bebe agua.\n"[(i * (1 + i / 900)) % 38];
    text[8000] = 0;
    scratch_text(dir, "a.txt", text);
    text[17] ^= 1;
    scratch_text(dir, "changed.txt", text);
    free(text);
    return 0;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

static bool is_there(const char *name)
{
    struct stat info;
    return stat(scratch_path(dir, name), &info) == 0;
}

/* The histories without what a clock measured. */
static void assert_same_history(const char *a, const char *b)
{
    if (scratch_shell(dir,
                      "for run in %s %s; do sed 's/,\"seconds\".*//' $run/history.jsonl >$run.timeless; done; "
                      "cmp %s.timeless %s.timeless",
                      a, b, a, b) != 0)
        fail_msg("the histories of %s and %s differ", a, b);
}

static void a_run_ends_with_its_table_and_the_command_that_writes(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--out", "table");
    assert_done(run);
    assert_holds(run.out, "bits/char");
    assert_holds(run.out, "\n    1 ");
    assert_holds(run.out, "\n    2 ");
    assert_holds(run.out, " sample table\n");
    assert_holds(run.err, "epoch 2: loss ");
    assert_true(is_there("table/config.json"));
    assert_true(is_there("table/history.jsonl"));
    assert_true(is_there("table/checkpoints/ckpt-0000000000.safetensors"));
    program_do(&run, dir, "sample", "table", "--length", "10", "--device", "cpu");
    assert_done(run);
}

static void the_command_at_the_end_can_be_pasted_into_a_shell(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "1", "--out", "it's a run; echo");
    assert_done(run);
    assert_holds(run.out, " sample 'it'\\''s a run; echo'\n");
    scratch_write(dir, "pasted", run.out, run.out_size);
    assert_int_equal(scratch_shell(dir, "eval \"$(tail -1 pasted) --length 10\" >text 2>/dev/null && test -s text"), 0);
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "1", "--out", "a\033[2Jrun");
    assert_done(run);
    assert_holds(run.out, "The run is in a^[[2Jrun.");
    assert_null(strchr(run.out, '\033'));
    assert_null(strchr(run.err, '\033'));
}

static void its_end_as_json_says_what_the_history_says(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--out", "json", "--json");
    assert_done(run);
    json_t *json = json_of(run), *epochs = json_object_get(json, "epochs");
    assert_string_equal(json_string_value(json_object_get(json, "run")), "json");
    assert_int_equal(json_array_size(epochs), 2);
    json_t *last = json_array_get(epochs, 1);
    assert_int_equal(json_integer_value(json_object_get(json, "step")),
                     json_integer_value(json_object_get(last, "step")));
    assert_true(json_real_value(json_object_get(last, "val_bpc")) > 0);
    FILE *file = fopen(scratch_path(dir, "json/history.jsonl"), "r");
    char line[1000];
    int found = 0;
    while (file && fgets(line, sizeof line, file)) {
        json_t *event = json_loads(line, 0, NULL);
        if (strcmp(json_string_value(json_object_get(event, "event")), "epoch") == 0) {
            double written = json_number_value(json_object_get(event, "loss_mean"));
            double said = json_real_value(json_object_get(json_array_get(epochs, (size_t)found), "loss_mean"));
            assert_true(fabs(written - said) <= 1e-12 * said);
            found++;
        }
        json_decref(event);
    }
    assert_non_null(file);
    fclose(file);
    assert_int_equal(found, 2);
    json_decref(json);
}

static void without_a_name_runs_are_numbered(void **state)
{
    (void)state;
    for (int i = 1; i <= 2; i++) {
        program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "2");
        assert_done(run);
    }
    assert_true(is_there("runs/a-1/config.json"));
    assert_true(is_there("runs/a-2/config.json"));
    mkdir(scratch_path(dir, "tales"), 0700);
    scratch_text(dir, "tales/one.txt", "Había una vez una gata que bebía agua y comía pan. Había una vez un perro.\n");
    program_do(&run, dir, "train", "tales/*.txt", "--batch", "1", "--length", "8", "--units", "4", "--max-steps", "1");
    assert_done(run);
    assert_true(is_there("runs/tales-1/config.json"));
}

static void a_dry_run_shows_the_model_and_leaves_nothing(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--dry-run", "--out", "dry");
    assert_done(run);
    assert_holds(run.out, "Total params: ");
    assert_holds(run.out, "Input shape (4, 16), output shape (4, 16, ");
    double loss, expected;
    int V;
    assert_int_equal(sscanf(strstr(run.out, "Untrained loss"), "Untrained loss %lf; ln %d = %lf", &loss, &V, &expected),
                     3);
    assert_true(fabs(loss - expected) < 0.02);
    assert_false(is_there("dry"));
    char *first = strdup(run.err);
    program_do(&run, dir, "train", "a.txt", SMALL, "--dry-run", "--seed", "2");
    assert_string_not_equal(run.err, first);
    free(first);
}

static void a_run_goes_on_to_the_same_bits(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--out", "whole");
    assert_done(run);
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--max-steps", "150", "--out", "parts");
    assert_done(run);
    program_do(&run, dir, "train", "--resume", "parts", "--max-steps", "0");
    assert_done(run);
    assert_holds(run.err, "epoch 2: ");
    assert_same_history("whole", "parts");
    for (int i = 0; i < 2; i++) { /* what is drawn from the weights tells their least bit */
        program_do(&run, dir, "sample", i ? "parts" : "whole", "--length", "400", "--device", "cpu");
        assert_done(run);
        scratch_write(dir, i ? "parts.said" : "whole.said", run.out, run.out_size);
    }
    assert_int_equal(scratch_shell(dir, "cmp whole.said parts.said"), 0);
}

static void a_run_at_its_end_says_so_and_goes_on_with_more_epochs(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "1", "--out", "ended");
    assert_done(run);
    program_do(&run, dir, "train", "--resume", "ended");
    assert_done(run);
    assert_holds(run.err, "has reached its end");
    assert_holds(run.err, "--epochs");
    program_do(&run, dir, "train", "--resume", "ended", "--epochs", "2", "--sample-every", "1", "--keep", "1",
               "--json");
    assert_done(run);
    json_t *json = json_of(run);
    assert_int_equal(json_array_size(json_object_get(json, "epochs")), 1);
    json_decref(json);
    assert_false(is_there("ended/checkpoints/ckpt-0000000000.safetensors"));
}

static void what_would_change_a_run_is_refused_by_name(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "3", "--out", "fixed");
    assert_done(run);
    static const char *const options[] = {"--val=b.txt",
                                          "--val-split=0.1",
                                          "--encoding=latin1",
                                          "--invalid=replace",
                                          "--repeat=2",
                                          "--batch=8",
                                          "--length=8",
                                          "--units=3",
                                          "--embedding=9",
                                          "--layers=2",
                                          "--dropout=0.1",
                                          "--init=x",
                                          "--lr=2",
                                          "--warmup=3",
                                          "--lr-schedule=linear",
                                          "--clip=1",
                                          "--seed=2",
                                          "--preset=small",
                                          "--weight-decay=1",
                                          "--batching=windows",
                                          "--carry-epochs",
                                          "--out=other",
                                          "--precision=bf16",
                                          "--dry-run",
                                          "--shuffle-buffer=3"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char name[40];
        snprintf(name, sizeof name, "%.*s cannot change", (int)strcspn(options[i], "="), options[i]);
        program_do(&run, dir, "train", "--resume", "fixed", options[i]);
        assert_refused(run, 2, name);
    }
    program_do(&run, dir, "train", "--resume", "fixed", "a.txt");
    assert_refused(run, 2, "leave out 'a.txt'");
}

static void a_run_that_is_not_there_or_whose_text_changed_is_status_3(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "--resume", "nowhere");
    assert_refused(run, 3, "nowhere");
    program_do(&run, dir, "train", "changed.txt", SMALL, "--max-steps", "3", "--out", "moved");
    assert_done(run);
    assert_int_equal(rename(scratch_path(dir, "changed.txt"), scratch_path(dir, "kept.txt")), 0);
    program_do(&run, dir, "train", "--resume", "moved");
    assert_refused(run, 3, "changed.txt");
    assert_int_equal(scratch_shell(dir, "cp a.txt changed.txt"), 0);
    program_do(&run, dir, "train", "--resume", "moved", "--epochs", "2");
    assert_refused(run, 3, "the text has changed");
    assert_int_equal(rename(scratch_path(dir, "kept.txt"), scratch_path(dir, "changed.txt")), 0);
    program_do(&run, dir, "train", "--resume", "moved", "--max-steps", "5");
    assert_done(run);
}

static void a_run_is_not_begun_in_another(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "2", "--out", "taken");
    assert_done(run);
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "2", "--out", "taken");
    assert_refused(run, 2, "--resume");
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "2", "--out", "a.txt");
    assert_refused(run, 1, "a.txt");
}

static void presets_set_what_was_not_given(void **state)
{
    (void)state;
    static const struct {
        const char *preset, *key;
        double value;
    } expected[] = {{"small", "units", 256},     {"small", "epochs", 6},       {"small", "val-split", 0.05},
                    {"notebook", "units", 1024}, {"notebook", "batch", 64},    {"notebook", "length", 100},
                    {"notebook", "epochs", 10},  {"notebook", "val-split", 0}, {"notebook", "embedding", 256}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        char *sub = scratch_new();
        scratch_text(sub, "b.txt", "abcdefghij");
        program_do(&run, sub, "train", scratch_path(dir, "a.txt"), "--preset", expected[i].preset, "--repeat", "2",
                   "--max-steps", "1", "--out", "run", strcmp(expected[i].key, "units") ? "--units=8" : "--epochs=1");
        assert_done(run);
        json_t *config = json_load_file(scratch_path(sub, "run/config.json"), 0, NULL);
        json_t *value = json_object_get(json_object_get(config, "options"), expected[i].key);
        if (json_number_value(value) != expected[i].value)
            fail_msg("--preset %s: %s is %g, not %g", expected[i].preset, expected[i].key, json_number_value(value),
                     expected[i].value);
        json_decref(config);
        scratch_remove(sub);
    }
}

static void held_out_files_are_scored_and_unknown_characters_told(void **state)
{
    (void)state;
    scratch_text(dir, "held.txt", "la gata come pan; el perro bebe agua \xe2\x82\xac\xe2\x82\xac.\n");
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "4", "--val", "held.txt", "--out", "held");
    assert_done(run);
    assert_holds(run.err, "2 characters of the held-out text are not in the vocabulary");
    assert_holds(run.err, "held out ");
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "4", "--val-split", "0", "--out", "none");
    assert_done(run);
    assert_null(strstr(run.err, "held out "));
    assert_holds(run.out, " -");
}

static void a_text_is_shown_after_each_epoch_that_was_asked_for(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--out", "unshown");
    size_t without = strlen(run.err);
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--sample-every", "1", "--out", "shown");
    assert_done(run);
    assert_true(strlen(run.err) > without + 2 * 190);
    assert_holds(run.err, "what it writes after epoch 2:\n");
    assert_same_history("unshown", "shown");
}

static void weights_of_another_run_begin_one(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--lr", "0.01", "--out", "teacher");
    assert_done(run);
    assert_int_equal(scratch_shell(dir, "cp \"$(ls teacher/checkpoints/*.safetensors | tail -1)\" weights.safetensors"),
                     0);
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "1", "--init", "weights.safetensors", "--out",
               "pupil", "--json");
    assert_done(run);
    json_t *json = json_of(run);
    assert_true(json_real_value(json_object_get(json_array_get(json_object_get(json, "epochs"), 0), "loss_mean")) <
                2.5);
    json_decref(json);
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "1", "--layers", "2", "--init", "weights.safetensors",
               "--out", "unfit");
    assert_refused(run, 3, "weights.safetensors");
    assert_false(is_there("unfit"));
    program_do(&run, dir, "train", "a.txt", SMALL, "--max-steps", "1", "--init", "a.txt", "--out", "unfit");
    assert_refused(run, 3, "a.txt");
}

static void a_rate_that_blows_up_ends_with_status_5(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "2", "--lr", "1000", "--weight-decay", "1000", "--out",
               "blown");
    if (run.status != 5)
        fail_msg("status %d: %s", run.status, run.err);
    assert_holds(run.err, "diverged");
    program_do(&run, dir, "info", "blown"); /* what is kept is sound */
    assert_done(run);
}

static void a_bf16_run_learns_as_well(void **state)
{
    (void)state;
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "1", "--precision", "bf16", "--json", "--out", "bf16");
    if (run.status == 4)
        skip();
    assert_done(run);
    json_t *json = json_of(run);
    double bf16 = json_real_value(json_object_get(json_array_get(json_object_get(json, "epochs"), 0), "loss_mean"));
    json_decref(json);
    program_do(&run, dir, "train", "a.txt", SMALL, "--epochs", "1", "--json", "--out", "fp32");
    json = json_of(run);
    double fp32 = json_real_value(json_object_get(json_array_get(json_object_get(json, "epochs"), 0), "loss_mean"));
    json_decref(json);
    assert_true(fabs(bf16 - fp32) < 0.02 * fp32);
}

/* It would be left out of the record, and the run could not go on. */
static void a_path_that_cannot_be_recorded_is_refused_before_the_run_begins(void **state)
{
    (void)state;
    scratch_text(dir, "odd\xff.txt", "Un texto cuyo nombre no es UTF-8.\n");
    program_do(&run, dir, "train", "odd\xff.txt", "--batch", "1", "--length", "4", "--out", "odd");
    assert_refused(run, 3, "not valid UTF-8");
    program_do(&run, dir, "train", "a.txt", "--val", "odd\xff.txt", "--batch", "1", "--length", "4", "--out", "odd");
    assert_refused(run, 3, "not valid UTF-8");
    assert_int_equal(scratch_shell(dir, "test ! -e odd"), 0);
    /* The directory is not recorded. */
    program_do(&run, dir, "train", "a.txt", "--units", "4", "--embedding", "4", "--batch", "2", "--length", "8",
               "--max-steps", "2", "--device", "cpu", "--out", "odd\xff");
    assert_done(run);
    program_do(&run, dir, "train", "--resume", "odd\xff", "--max-steps", "3");
    assert_done(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_ends_with_its_table_and_the_command_that_writes),
        cmocka_unit_test(the_command_at_the_end_can_be_pasted_into_a_shell),
        cmocka_unit_test(its_end_as_json_says_what_the_history_says),
        cmocka_unit_test(without_a_name_runs_are_numbered),
        cmocka_unit_test(a_dry_run_shows_the_model_and_leaves_nothing),
        cmocka_unit_test(a_run_goes_on_to_the_same_bits),
        cmocka_unit_test(a_run_at_its_end_says_so_and_goes_on_with_more_epochs),
        cmocka_unit_test(what_would_change_a_run_is_refused_by_name),
        cmocka_unit_test(a_run_that_is_not_there_or_whose_text_changed_is_status_3),
        cmocka_unit_test(a_run_is_not_begun_in_another),
        cmocka_unit_test(presets_set_what_was_not_given),
        cmocka_unit_test(held_out_files_are_scored_and_unknown_characters_told),
        cmocka_unit_test(a_text_is_shown_after_each_epoch_that_was_asked_for),
        cmocka_unit_test(weights_of_another_run_begin_one),
        cmocka_unit_test(a_rate_that_blows_up_ends_with_status_5),
        cmocka_unit_test(a_bf16_run_learns_as_well),
        cmocka_unit_test(a_path_that_cannot_be_recorded_is_refused_before_the_run_begins),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
