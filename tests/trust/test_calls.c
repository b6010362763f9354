/* Every call to the system may fail once: the program says so or gets over it, and what was saved before is intact. */
#include "support/scratch.h"
#include "trust/trust.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static char *dir, at[300]; /* at: where a run is made in each trial */
static trust_whole whole;

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    trust_make_whole(&whole, dir, 15);
    snprintf(at, sizeof at, "%s", scratch_path(dir, "at"));
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* What a call may say, and a read or write that takes half of what it was given. */
static const struct {
    const char *plan;
    int number;
} wrongs[] = {{"5", EIO},     {"28", ENOSPC}, {"122", EDQUOT}, {"4", EINTR},
              {"24", EMFILE}, {"30", EROFS},  {"13", EACCES},  {"short", 0}};
enum { WRONGS = sizeof wrongs / sizeof *wrongs };

/* Runs the command with its calls going wrong one after another, until there is no such call any more. */
static void each_call(const char *where, const char *const *command, void (*prepare)(void),
                      void (*judge)(tally *t, const trial *trial), tally *t)
{
    long step = trust_pick(47, 1);
    for (int w = 0; w < WRONGS; w++) {
        for (long call = 1 + w % step;;
             call += step) { /* in the short tier another part of the calls with each error */
            char plan[40];
            trial one = {.plan = plan};
            snprintf(plan, sizeof plan, "%s:%ld", wrongs[w].plan, call);
            if (prepare)
                prepare();
            trial_start(&one, where, command);
            trial_wait(&one);
            if (one.injected[0])
                judge(t, &one);
            bool over = !one.injected[0];
            trial_free(&one);
            if (over)
                break;
        }
    }
}

/* --- training --------------------------------------------------------------------------------------------------------------- */

static void empty(void)
{
    assert_int_equal(scratch_shell(dir, "rm -rf at && mkdir at"), 0);
}

static void half_done(void)
{
    assert_int_equal(scratch_shell(dir, "rm -rf at && cp -r half at"), 0);
}

static void judge_training(tally *t, const trial *one, int64_t before)
{
    char why[200] = "";
    int64_t said = trial_saved(one->words), saved = said > before ? said : before;
    bool fine = trial_ended_well(one) && trust_intact(at, saved, why) && trust_goes_on(&whole, at, saved, why);
    /* Once it trains, a single failure does not end it. */
    bool trains = strstr(one->words, "training on") != NULL;
    tally_trial(t, fine && !(trains && one->status != 0), "%s in %s (call %s): status %d, %s; it said: %s", one->plan,
                one->injected, strchr(one->plan, ':') + 1, one->status, why, one->words);
}

static void judge_new(tally *t, const trial *one)
{
    judge_training(t, one, -1);
}

static void judge_continued(tally *t, const trial *one)
{
    judge_training(t, one, 9);
}

static void training_outlives_any_call_that_fails(void **state)
{
    (void)state;
    tally t = {.promise = "train: any call may fail once, with each error, or be short"};
    if (!trial_can_record(dir))
        skip();
    const char *const command[] = {"train", whole.text, TRUST_TINY, "--max-steps", "9", "--out", "run", NULL};
    each_call(at, command, empty, judge_new, &t);
    tally_end(&t);
}

static void so_does_a_continuation(void **state)
{
    (void)state;
    tally t = {.promise = "train --resume: any call may fail once, with each error, or be short"};
    trial first = {0};
    if (!trial_can_record(dir))
        skip();
    assert_int_equal(scratch_shell(dir, "mkdir half"), 0);
    trial_do(&first, scratch_path(dir, "half"), "train", whole.text, TRUST_TINY, "--max-steps", "9", "--out", "run");
    assert_int_equal(first.status, 0);
    trial_free(&first);
    const char *const command[] = {"train", "--resume", "run", "--max-steps", whole.steps, NULL};
    each_call(at, command, half_done, judge_continued, &t);
    tally_end(&t);
}

/* --- commands that only read ------------------------------------------------------------------------------------------------ */

static void judge_reader(tally *t, const trial *one)
{
    tally_trial(t, trial_ended_well(one), "%s in %s (call %s): status %d, it said: %s", one->plan, one->injected,
                strchr(one->plan, ':') + 1, one->status, one->words);
}

static void so_do_the_commands_that_read(void **state)
{
    (void)state;
    static const char *const sample[] = {"sample", "whole/run",    "--length", "20", "--device",
                                         "cpu",    "--prime-file", "a.txt",    NULL};
    static const char *const eval[] = {"eval", "whole/run", "a.txt", "--device", "cpu", NULL};
    static const char *const corpus[] = {"corpus", "a.txt", "whole", NULL};
    static const char *const info[] = {"info", "whole/run", NULL};
    const char *const *const commands[] = {sample, eval, corpus, info};
    tally t = {.promise = "sample, eval, corpus, info: any call may fail once, with each error, or be short"};
    char why[200];
    uint8_t digest[32];
    if (!trial_can_record(dir))
        skip();
    for (int i = 0; i < 4; i++)
        each_call(dir, commands[i], NULL, judge_reader, &t);
    assert_true(trust_digest(digest, scratch_path(dir, "whole"), "run", whole.end, why)); /* and nothing was changed */
    assert_memory_equal(digest, whole.digest, sizeof digest);
    tally_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_outlives_any_call_that_fails),
        cmocka_unit_test(so_does_a_continuation),
        cmocka_unit_test(so_do_the_commands_that_read),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
