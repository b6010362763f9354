/* SIGKILL: at random instants, and at every call of a run that saves. No checkpoint is rejected, none that was reported is lost. */
#include "support/scratch.h"
#include "trust/trust.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char *dir;
static trust_whole whole;

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    trust_make_whole(&whole, dir, 15);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* One run, killed again and again: whatever a kill leaves, the next one meets. */
static void random_kills_lose_nothing(void **state)
{
    (void)state;
    tally kills = {.promise = "A run killed at a random instant loses at most what came after its last checkpoint"};
    char why[200];
    trial t = {0};
    int64_t saved = -1;
    for (long i = 0; i < trust_pick(40, 1000); i++) {
        if (saved < 0)
            trial_start(&t, dir, (const char *const[]){"train", "a.txt", TRUST_TINY, "--out", "run", NULL});
        else
            trial_start(&t, dir, (const char *const[]){"train", "--resume", "run", NULL});
        usleep(
            (unsigned)trust_random((uint64_t)(whole.seconds * 3e6))); /* of which a third is the start, by and large */
        kill(t.pid, SIGKILL);
        trial_wait(&t);
        int64_t now = trial_saved(t.words);
        saved = now > saved ? now : saved;
        tally_trial(&kills, (t.status == 128 + SIGKILL || t.status == 0) && trust_intact(dir, saved, why),
                    "kill %ld, status %d: %s, %s", i + 1, t.status, why, t.words);
    }
    tally_note(kills.promise, "steps made meanwhile: %lld", (long long)saved);
    assert_true(saved > 0);
    tally_end(&kills);
    trial_free(&t);
}

/* The run up to 9 steps and its continuation up to 15, each killed before its calls one after another. */
static void check_every_call(tally *kills, bool resumed)
{
    char plan[40], why[200] = "";
    for (long call = 1;; call += trust_pick(13, 1)) {
        trial t = {.plan = plan}, before = {0};
        snprintf(plan, sizeof plan, "kill:%ld", call);
        assert_int_equal(scratch_shell(dir, "rm -rf at && mkdir at"), 0);
        const char *where = scratch_path(dir, "at");
        if (resumed)
            trial_do(&before, where, "train", whole.text, TRUST_TINY, "--max-steps", "9", "--out", "run");
        if (resumed)
            trial_do(&t, where, "train", "--resume", "run", "--max-steps", whole.steps);
        else
            trial_do(&t, where, "train", whole.text, TRUST_TINY, "--max-steps", "9", "--out", "run");
        bool over = !t.injected[0];
        int64_t saved = trial_saved(t.words), earlier = resumed ? 9 : -1;
        saved = saved > earlier ? saved : earlier;
        if (!over)
            tally_trial(kills,
                        t.status == 128 + SIGKILL && trust_intact(where, saved, why) &&
                            trust_goes_on(&whole, where, saved, why),
                        "call %ld, %s: status %d, %s", call, t.injected, t.status, why);
        trial_free(&t);
        trial_free(&before);
        if (over)
            return;
    }
}

static void a_kill_at_every_call_of_a_run_loses_nothing(void **state)
{
    (void)state;
    tally kills = {.promise = "A SIGKILL at every call of a run that saves: nothing lost, continued to the same bits"};
    if (!trial_can_record(dir))
        skip();
    check_every_call(&kills, false);
    check_every_call(&kills, true);
    tally_end(&kills);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_kills_lose_nothing),
        cmocka_unit_test(a_kill_at_every_call_of_a_run_loses_nothing),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
