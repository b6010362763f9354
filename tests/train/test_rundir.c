#include "support/cmocka.h"

#include "host/train/rundir.h"
#include "support/scratch.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;

static int make_dir(void **state)
{
    (void)state;
    dir = scratch_new();
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static bool exists(const char *name)
{
    struct stat info;
    return lstat(scratch_path(dir, name), &info) == 0;
}

static void checkpoint(int64_t step)
{
    char name[CRNN_CHECKPOINT_NAME];
    scratch_text(dir, crnn_checkpoint_name(name, step), "x");
}

static bool has(int64_t step)
{
    char name[CRNN_CHECKPOINT_NAME];
    return exists(crnn_checkpoint_name(name, step));
}

static void a_checkpoint_is_named_by_ten_digits(void **state)
{
    (void)state;
    char name[CRNN_CHECKPOINT_NAME];
    assert_string_equal(crnn_checkpoint_name(name, 206), "ckpt-0000000206.safetensors");
    assert_int_equal(crnn_checkpoint_step(name), 206);
    assert_int_equal(crnn_checkpoint_step(crnn_checkpoint_name(name, CRNN_MAX_STEP)), CRNN_MAX_STEP);
    const char *const others[] = {"ckpt-206.safetensors",
                                  "ckpt-0000000206.safetensors~",
                                  "ckpt-00000002060.safetensors",
                                  "Ckpt-0000000206.safetensors",
                                  "ckpt-000000020x.safetensors",
                                  "ckpt-0000000206.safetensor",
                                  ".tmp-ckpt-0000000206.safetensors",
                                  ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(crnn_checkpoint_step(others[i]), -1);
}

static void pruning_keeps_the_newest_the_best_and_what_has_another_name(void **state)
{
    (void)state;
    for (int64_t step = 0; step <= 50; step += 10)
        checkpoint(step);
    checkpoint(90); /* left by a line of the run that was given up */
    scratch_text(dir, "ckpt-0000000010.safetensors.bak", "x");
    scratch_text(dir, "notes.txt", "x");
    mkdir(scratch_path(dir, "ckpt-0000000001.safetensors"), 0777);
    assert_int_equal(symlink("notes.txt", scratch_path(dir, "ckpt-0000000002.safetensors")), 0);
    assert_int_equal(crnn_rundir_prune(dir, 2, 50, 20, 0, NULL), CRNN_OK);
    assert_false(has(0) || has(10) || has(30));
    assert_true(has(20) && has(40) && has(50) && has(90));
    assert_true(has(1) && has(2));
    assert_true(exists("notes.txt") && exists("ckpt-0000000010.safetensors.bak"));
    assert_int_equal(crnn_rundir_prune(dir, 0, 50, -1, 0, NULL), CRNN_OK);
    assert_true(has(20) && has(40) && has(50));
    assert_int_equal(crnn_rundir_prune(dir, 1, 50, -1, 0, NULL), CRNN_OK);
    assert_false(has(20) || has(40));
    assert_true(has(50) && has(90));
}

static void a_run_that_lasts_always_has_weights_old_enough_to_go_back_to(void **state)
{
    (void)state;
    for (int64_t step = 0; step <= 2000; step += 10) {
        checkpoint(step);
        assert_int_equal(crnn_rundir_prune(dir, 2, step, -1, 100, NULL), CRNN_OK);
        int64_t back = crnn_rundir_newest(dir, step - 100), count = 0;
        if (step >= 100)
            assert_true(back >= 0);
        if (step >= 400)
            assert_true(back >= step - 300); /* the next one takes its place in time */
        for (int64_t other = 0; other <= step; other += 10)
            count += has(other);
        assert_true(count <= 4);
    }
    assert_int_equal(crnn_rundir_prune(dir, 2, 2000, -1, 0, NULL), CRNN_OK);
    assert_int_equal(crnn_rundir_oldest(dir, -1), 1990);
}

static void two_never_share_a_run(void **state)
{
    (void)state;
    crnn_rundir first, second;
    crnn_error err;
    const char *path = scratch_path(dir, "deep/run");
    assert_int_equal(crnn_rundir_open(&first, path, true, &err), CRNN_OK);
    assert_int_equal(crnn_rundir_open(&second, path, false, &err), CRNN_ERR_IO);
    assert_non_null(strstr(err.text, "another program"));
    crnn_rundir_close(&second);
    assert_int_equal(crnn_rundir_open(&second, path, false, &err), CRNN_ERR_IO); /* closing did not free it */
    crnn_rundir_close(&second);
    crnn_rundir_close(&first);
    assert_int_equal(crnn_rundir_open(&second, path, false, &err), CRNN_OK);
    crnn_rundir_close(&second);
}

static void a_directory_that_holds_a_run_is_refused_and_left_as_it_is(void **state)
{
    (void)state;
    const char *const marks[] = {"config.json", "history.jsonl", "checkpoints/ckpt-0000000000.safetensors"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        crnn_rundir run;
        crnn_error err;
        mkdir(scratch_path(dir, "checkpoints"), 0777);
        scratch_text(dir, marks[i], "x");
        assert_int_equal(crnn_rundir_open(&run, dir, true, &err), CRNN_ERR_ARGUMENT);
        crnn_rundir_close(&run);
        assert_true(exists(marks[i]));
        remove(scratch_path(dir, marks[i]));
    }
}

static void temporaries_that_a_crash_left_go_at_the_start(void **state)
{
    (void)state;
    crnn_rundir run;
    mkdir(scratch_path(dir, "checkpoints"), 0777);
    scratch_text(dir, ".tmp-config.json-1-0", "x");
    scratch_text(dir, "checkpoints/.tmp-ckpt-0000000001.safetensors-1-0", "x");
    mkdir(scratch_path(dir, "checkpoints/.tmp-directory"), 0777);
    assert_int_equal(crnn_rundir_open(&run, dir, false, NULL), CRNN_OK);
    crnn_rundir_close(&run);
    assert_false(exists(".tmp-config.json-1-0"));
    assert_false(exists("checkpoints/.tmp-ckpt-0000000001.safetensors-1-0"));
    assert_true(exists("checkpoints/.tmp-directory"));
}

static void a_run_that_is_not_there_is_an_error_and_is_not_made(void **state)
{
    (void)state;
    crnn_rundir run;
    assert_int_equal(crnn_rundir_open(&run, scratch_path(dir, "nowhere"), false, NULL), CRNN_ERR_IO);
    crnn_rundir_close(&run);
    assert_false(exists("nowhere"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_named_by_ten_digits),
        cmocka_unit_test_setup_teardown(pruning_keeps_the_newest_the_best_and_what_has_another_name, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_run_that_lasts_always_has_weights_old_enough_to_go_back_to, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(two_never_share_a_run, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_directory_that_holds_a_run_is_refused_and_left_as_it_is, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(temporaries_that_a_crash_left_go_at_the_start, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_run_that_is_not_there_is_an_error_and_is_not_made, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
