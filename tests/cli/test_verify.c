/* crnn-gpu verify: a sound run passes, each kind of damage is told at its file, and training again gives the same bits. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <crnn/checkpoint.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char text[4000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "El perro come pan.\nLa gata bebe agua.\n"[(i * i / 900 + i) % 38];
    scratch_write(dir, "a.txt", text, sizeof text);
    scratch_write(dir, "b.txt", text + 1, sizeof text - 1);
    program_do(&run, dir, "train", "a.txt", "--units", "12", "--embedding", "8", "--batch", "8", "--length", "12",
               "--epochs", "3", "--checkpoint-steps", "15", "--keep", "all", "--lr-schedule", "cosine", "--out",
               "whole", "--device", "cpu", "--threads", "1");
    return run.status;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

/* A fresh copy of the run. */
static void copy(void)
{
    assert_int_equal(scratch_shell(dir, "rm -rf run && cp -r whole run"), 0);
}

/* Exactly one line of those that verify wrote says BAD, and it begins with this. */
static void assert_bad(const char *line)
{
    if (run.status != 3)
        fail_msg("status %d: %s%s", run.status, run.out, run.err);
    char *bad = strstr(run.out, "BAD ");
    assert_non_null(bad);
    if (strstr(bad + 1, "BAD ") || strncmp(bad + 5, line, strlen(line)) != 0)
        fail_msg("not one BAD line that begins with '%s':\n%s", line, run.out);
}

/* --- files ---------------------------------------------------------------------------------------------------------------------- */

static void a_sound_run_has_one_line_a_file(void **state)
{
    (void)state;
    program_do(&run, dir, "verify", "whole");
    assert_done(run);
    assert_string_equal(run.out, "ok   whole/config.json: 3800 characters, 39 steps an epoch\n"
                                 "ok   whole/checkpoints/ckpt-0000000000.safetensors: step 0, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000015.safetensors: step 15, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000030.safetensors: step 30, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000039.safetensors: step 39, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000045.safetensors: step 45, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000060.safetensors: step 60, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000075.safetensors: step 75, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000078.safetensors: step 78, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000090.safetensors: step 90, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000105.safetensors: step 105, 1170 parameters\n"
                                 "ok   whole/checkpoints/ckpt-0000000117.safetensors: step 117, 1170 parameters\n"
                                 "ok   whole/history.jsonl: 120 lines, up to step 117\n");
}

static void damage_is_told_at_the_file_that_has_it(void **state)
{
    (void)state;
    static const struct {
        const char *script, *said;
    } damages[] = {
        {"printf X | dd of=run/checkpoints/ckpt-0000000030.safetensors bs=1 seek=3000 conv=notrunc status=none",
         "run/checkpoints/ckpt-0000000030.safetensors: its SHA-256"},
        {"truncate -s -1 run/checkpoints/ckpt-0000000030.safetensors", "run/checkpoints/ckpt-0000000030.safetensors: "},
        {": >run/checkpoints/ckpt-0000000030.safetensors", "run/checkpoints/ckpt-0000000030.safetensors: 0 bytes"},
        {"mv run/checkpoints/ckpt-0000000030.safetensors run/checkpoints/ckpt-0000000031.safetensors",
         "run/checkpoints/ckpt-0000000031.safetensors: it holds step 30"},
        {"rm run/config.json", "run/config.json: cannot open"},
        {"truncate -s -2 run/config.json", "run/config.json: it is no JSON object"},
        {"sed -i 's/\"log-every\": 1/\"log-every\": \"1\"/' run/config.json",
         "run/config.json: it has no usable options.log-every"},
        {"sed -i 's/\"format\": \"crnn-gpu run\"/\"format\": \"x\"/' run/config.json",
         "run/config.json: it is no config.json of a run"},
        {"sed -i 's/\"batch\": 8/\"batch\": 8000000/' run/config.json",
         "run/config.json: the text has 3800 characters"},
        {"sed -i 's/\"log-every\": 1/\"log-every\": -1/' run/config.json",
         "run/config.json: it has no usable options.log-every"},
        {"sed -i 's/\"vocab\": [0-9]*/\"vocab\": 65536/' run/config.json",
         "run/config.json: it has no usable model.vocab"},
        {"sed -i 's/\"kind\": \"cpu\"/\"kind\": 1/' run/config.json", "run/config.json: it has no usable device.kind"},
        {"sed -i '/\"format\"/d' run/config.json", "run/config.json: it is no config.json of a run"},
        {"sed -i 's/\"corpus\"/\"x\"/' run/config.json", "run/config.json: it has no usable corpus.characters"},
        {"rm run/history.jsonl", "run/history.jsonl: cannot open"},
        {"sed -i 20d run/history.jsonl", "run/history.jsonl: line 20: no line for step 20 before that for step 21"},
        {"sed -i '/\"step\":30,/s/\"loss\":[0-9.]*/\"loss\":1.5/' run/history.jsonl",
         "run/history.jsonl: line 30: the loss of step 30 is not "},
        {"sed -i '/\"step\":33,/s/\"loss\":[0-9.]*/\"loss\":null/' run/history.jsonl",
         "run/history.jsonl: line 33: step 33 has no finite loss"},
        {"sed -i '12s/.*/{}/' run/history.jsonl", "run/history.jsonl: line 12 is no event of a run"},
        {"sed -i '12s/\"epoch\":1/\"epoch\":2/' run/history.jsonl",
         "run/history.jsonl: line 12: step 12 is not in epoch 2"},
        {"sed -i '12{h;d};13G' run/history.jsonl", "run/history.jsonl: line 1"},
        {"sed -i '12p' run/history.jsonl", "run/history.jsonl: line 13 tells of step 12 after step 12"},
        {"sed -i '12a {\"event\":\"return\",\"step\":12,\"epoch\":1,\"to_step\":20}' run/history.jsonl",
         "run/history.jsonl: line 13: a return from step 12 to step 20"},
        {"sed -i '12a {\"event\":\"epoch\",\"step\":3,\"epoch\":1}' run/history.jsonl",
         "run/history.jsonl: line 13 tells of step 3 after step 12"},
        {"sed -i '110,$d' run/history.jsonl", "run/history.jsonl: it has no line for step "},
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        copy();
        assert_int_equal(scratch_shell(dir, "%s", damages[i].script), 0);
        program_do(&run, dir, "verify", "run");
        assert_bad(damages[i].said);
    }
}

static void what_a_crash_may_leave_is_sound(void **state)
{
    (void)state;
    copy();
    assert_int_equal(scratch_shell(dir, "printf '{\"event\":\"st' >>run/history.jsonl && : >run/checkpoints/.tmp-1-x"),
                     0);
    program_do(&run, dir, "verify", "run");
    assert_done(run);
    assert_holds(run.out, "the last line was cut off");
}

static void a_checkpoint_of_another_run_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *option, *value, *step, *said;
    } others[] = {
        {"a.txt", "--seed", "2", "030", "it has the seed 2, not that of config.json"},
        {"a.txt", "--units", "11", "030", "it is of another model than config.json"},
        {"a.txt", "--length", "13", "060", "step 60 is not step 24 of epoch 2, where an epoch has 39"},
        {"b.txt", "--seed", "1", "030", "it is of another text than config.json, of 3800 characters"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char said[200];
        copy();
        assert_int_equal(scratch_shell(dir, "rm -rf other"), 0);
        program_do(&run, dir, "train", others[i].text, "--units", "12", "--embedding", "8", "--batch", "8", "--length",
                   "12", others[i].option, others[i].value, "--max-steps", "60", "--checkpoint-steps", "30", "--out",
                   "other", "--device", "cpu", "--keep", "all");
        assert_done(run);
        snprintf(said, sizeof said, "checkpoints/ckpt-0000000%s.safetensors", others[i].step);
        assert_int_equal(scratch_shell(dir, "cp other/%s run/checkpoints", said), 0);
        snprintf(said, sizeof said, "run/checkpoints/ckpt-0000000%s.safetensors: %s", others[i].step, others[i].said);
        program_do(&run, dir, "verify", "run");
        assert_bad(said);
    }
}

static void a_missing_best_checkpoint_is_told(void **state)
{
    (void)state;
    scratch_text(dir, "other.txt", "agua agua agua agua gata come pan pan pan bebe perro perro");
    /* A rate that makes it worse after the first epoch. */
    program_do(&run, dir, "train", "a.txt", "--val", "other.txt", "--val-split", "0", "--units", "12", "--embedding",
               "8", "--batch", "8", "--length", "12", "--epochs", "3", "--lr", "0.5", "--out", "worse", "--device",
               "cpu", "--keep", "1");
    assert_done(run);
    program_do(&run, dir, "verify", "worse");
    assert_done(run);
    program_do(&run, dir, "info", "worse", "--json");
    json_t *json = json_of(run);
    long long best = json_integer_value(json_object_get(json, "best_step")),
              last = json_integer_value(json_object_get(json, "step"));
    json_decref(json);
    assert_true(best > 0 && best < last);
    assert_int_equal(scratch_shell(dir, "rm worse/checkpoints/ckpt-%010lld.safetensors", best), 0);
    program_do(&run, dir, "verify", "worse");
    assert_bad("worse/checkpoints: the best checkpoint on held-out text, step ");
}

static void single_checkpoints_and_several_arguments_are_looked_at(void **state)
{
    (void)state;
    program_do(&run, dir, "verify", "whole/checkpoints/ckpt-0000000015.safetensors", "a.txt", "whole");
    assert_bad("a.txt: ");
    assert_holds(run.out, "ok   whole/checkpoints/ckpt-0000000015.safetensors: step 15");
    assert_holds(run.out, "ok   whole/history.jsonl: ");
    program_do(&run, dir, "verify", "nowhere");
    assert_refused(run, 3, "nowhere");
    program_do(&run, dir, "verify", ".");
    assert_refused(run, 3, ". is no run");
}

static void the_account_comes_as_json(void **state)
{
    (void)state;
    copy();
    assert_int_equal(scratch_shell(dir, "rm run/config.json"), 0);
    program_do(&run, dir, "verify", "--json", "run");
    assert_int_equal(run.status, 3);
    json_t *json = json_of(run), *first = json_array_get(json_object_get(json, "files"), 0);
    assert_true(json_is_false(json_object_get(json, "sound")));
    assert_true(json_is_false(json_object_get(first, "sound")));
    assert_string_equal(json_string_value(json_object_get(first, "path")), "run/config.json");
    assert_true(json_array_size(json_object_get(json, "files")) > 5);
    json_decref(json);
}

/* --- replay --------------------------------------------------------------------------------------------------------------------- */

static void training_again_gives_the_same_bits(void **state)
{
    (void)state;
    program_do(&run, dir, "verify", "whole", "--replay", "60");
    assert_done(run);
    assert_holds(run.out, "trained again: the same bits in ");
    assert_holds(run.out, " and in the checkpoint at their end\n");
    program_do(&run, dir, "verify", "whole/checkpoints/ckpt-0000000030.safetensors", "--replay", "8");
    assert_done(run);
    assert_holds(run.out, "steps 31 to 38 trained again: the same bits in 8 lines of the history\n");
}

static void the_run_is_not_written_to(void **state)
{
    (void)state;
    copy();
    assert_int_equal(scratch_shell(dir, "find run -type f | sort | xargs sha256sum >before; mkdir -p tmp"), 0);
    assert_int_equal(setenv("TMPDIR", scratch_path(dir, "tmp"), 1), 0);
    program_do(&run, dir, "verify", "run", "--replay", "20");
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_done(run);
    assert_int_equal(scratch_shell(dir, "find run -type f | sort | xargs sha256sum | cmp - before && rmdir tmp"), 0);
}

static void a_replay_that_is_stopped_leaves_nothing_behind(void **state)
{
    (void)state;
    assert_int_equal(
        scratch_shell(
            dir,
            "mkdir -p tmp && cd '%s' && \"$CRNN_PROGRAM\" train a.txt --units 12 --embedding 8 --batch 8 --length 12"
            " --max-steps 20000 --epochs 600 --checkpoint-every 0 --log-every 1 --out long --device cpu --threads 1"
            " >log 2>&1",
            dir),
        0);
    assert_int_equal(setenv("TMPDIR", scratch_path(dir, "tmp"), 1), 0);
    program_start(&run, dir, (const char *const[]){"verify", "long", "--replay", "1000000", NULL});
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_int_equal(scratch_shell(dir, "i=0; until ls tmp/crnn-replay-*/history.jsonl 2>/dev/null || [ $i = 300 ]; do "
                                        "sleep 0.02; i=$((i+1)); done"),
                     0);
    program_signal(&run, SIGINT);
    program_wait(&run);
    assert_int_equal(run.status, 130);
    assert_holds(run.err, "stopped at step ");
    assert_int_equal(scratch_shell(dir, "rmdir tmp"), 0);
}

static void other_kinds_of_runs_replay_too(void **state)
{
    (void)state;
    static const char *const kinds[][6] = {
        {"--batching", "windows", "--keep", "all", "--log-every", "4"},
        {"--layers", "2", "--dropout", "0.3", "--carry-epochs", "--keep=all"},
        {"--precision", "bf16", "--clip", "0.5", "--weight-decay", "0.01"},
        /* What diverges: bad steps, returns to earlier weights, and the end with status 5. */
        {"--lr", "1000", "--weight-decay", "1000", "--keep", "all"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *const *k = kinds[i];
        assert_int_equal(scratch_shell(dir, "rm -rf kind"), 0);
        program_do(&run, dir, "train", "a.txt", "--units", "12", "--embedding", "8", "--batch", "8", "--length", "12",
                   "--epochs", "2", "--checkpoint-steps", "7", "--out", "kind", "--device", "cpu", k[0], k[1], k[2],
                   k[3], k[4], k[5]);
        assert_int_equal(run.status, i == 3 ? 5 : 0);
        program_do(&run, dir, "verify", "kind", "--replay", "30");
        assert_done(run);
        assert_holds(run.out, "trained again: the same bits");
        program_do(&run, dir, "verify", "kind/checkpoints/ckpt-0000000000.safetensors", "--replay", "30");
        if (i == 0 || i == 3) /* the others have removed it */
            assert_done(run);
    }
}

/* A value that is wrong behind a valid digest can be found in no other way. */
static void a_forged_checkpoint_is_found_by_training_again(void **state)
{
    (void)state;
    crnn_error err = {0};
    copy();
    crnn_checkpoint *c = crnn_checkpoint_read(scratch_path(dir, "run/checkpoints/ckpt-0000000045.safetensors"), &err);
    assert_non_null(c);
    c->weights[7] += 1e-6F;
    assert_int_equal(
        crnn_checkpoint_write(c, scratch_path(dir, "run/checkpoints"), "ckpt-0000000045.safetensors", NULL, NULL, &err),
        CRNN_OK);
    crnn_checkpoint_free(c);
    program_do(&run, dir, "verify", "run");
    assert_done(run);
    program_do(&run, dir, "verify", "run/checkpoints/ckpt-0000000030.safetensors", "--replay", "15");
    assert_bad("run/checkpoints/ckpt-0000000030.safetensors: steps 31 to 45 trained again: the weights at step 45");
    program_do(&run, dir, "verify", "run/checkpoints/ckpt-0000000045.safetensors", "--replay", "5");
    assert_bad(
        "run/checkpoints/ckpt-0000000045.safetensors: steps 46 to 50 trained again: step 46 came out differently");
}

static void a_forged_history_is_found_by_training_again(void **state)
{
    (void)state;
    copy();
    assert_int_equal(
        scratch_shell(dir, "sed -i '/\"step\":33,/s/\"grad_norm\":[0-9.]*/\"grad_norm\":1.5/' run/history.jsonl"), 0);
    program_do(&run, dir, "verify", "run/checkpoints/ckpt-0000000030.safetensors", "--replay", "15");
    assert_bad(
        "run/checkpoints/ckpt-0000000030.safetensors: steps 31 to 45 trained again: step 33 came out differently");
}

static void a_text_that_is_gone_or_changed_is_told(void **state)
{
    (void)state;
    assert_int_equal(scratch_shell(dir, "cp a.txt kept && printf x >>a.txt"), 0);
    program_do(&run, dir, "verify", "whole", "--replay", "20");
    assert_refused(run, 3, "the text has changed since the run began");
    assert_int_equal(scratch_shell(dir, "rm a.txt"), 0);
    program_do(&run, dir, "verify", "whole", "--replay", "20");
    assert_refused(run, 3, "a.txt");
    program_do(&run, dir, "verify", "whole");
    assert_done(run);
    assert_int_equal(scratch_shell(dir, "mv kept a.txt"), 0);
}

static void where_nothing_is_recorded_nothing_can_be_replayed(void **state)
{
    (void)state;
    copy();
    assert_int_equal(scratch_shell(dir, "cd run/checkpoints && ls | head -n -1 | xargs rm"), 0);
    program_do(&run, dir, "verify", "run/checkpoints/ckpt-0000000117.safetensors", "--replay", "20");
    assert_refused(run, 3, "nothing is recorded of the 20 steps after a checkpoint");
    assert_int_equal(scratch_shell(dir, "cp run/checkpoints/ckpt-0000000117.safetensors x.safetensors"), 0);
    program_do(&run, dir, "verify", "x.safetensors", "--replay", "20");
    assert_refused(run, 3, "x.safetensors is no checkpoint of a run");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_run_has_one_line_a_file),
        cmocka_unit_test(damage_is_told_at_the_file_that_has_it),
        cmocka_unit_test(what_a_crash_may_leave_is_sound),
        cmocka_unit_test(a_checkpoint_of_another_run_is_told),
        cmocka_unit_test(a_missing_best_checkpoint_is_told),
        cmocka_unit_test(single_checkpoints_and_several_arguments_are_looked_at),
        cmocka_unit_test(the_account_comes_as_json),
        cmocka_unit_test(training_again_gives_the_same_bits),
        cmocka_unit_test(the_run_is_not_written_to),
        cmocka_unit_test(a_replay_that_is_stopped_leaves_nothing_behind),
        cmocka_unit_test(other_kinds_of_runs_replay_too),
        cmocka_unit_test(a_forged_checkpoint_is_found_by_training_again),
        cmocka_unit_test(a_forged_history_is_found_by_training_again),
        cmocka_unit_test(a_text_that_is_gone_or_changed_is_told),
        cmocka_unit_test(where_nothing_is_recorded_nothing_can_be_replayed),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
