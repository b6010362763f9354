/* Every allocation of ours may fail once: the program ends with a status of its own, by no signal, and leaves nothing that cannot be continued.
 * Where it is built with AddressSanitizer, a leak or a bad access on the way out counts as a failure too. */
#include "support/scratch.h"
#include "trust/trust.h"
#include <stdio.h>
#include <string.h>

static char *dir, at[300]; /* at: where a run is made in each trial */
static trust_whole whole;

static int begin(void **state)
{
    (void)state;
    trial first = {0};
    dir = trust_scratch();
    trust_make_whole(&whole, dir, 6);
    snprintf(at, sizeof at, "%s", scratch_path(dir, "at"));
    assert_int_equal(scratch_shell(dir, "mkdir half"), 0);
    trial_do(&first, scratch_path(dir, "half"), "train", whole.text, TRUST_TINY, "--max-steps", "3", "--out", "run");
    assert_int_equal(first.status, 0);
    trial_free(&first);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

typedef struct {
    const char *promise, *prepare; /* a shell command for each trial */
    const char *const *command;
    int64_t saved; /* before it begins; -1: nothing, -2: it does not train */
} target;

static bool judge(const target *what, const trial *one, char why[200])
{
    int64_t said = trial_saved(one->words);
    why[0] = 0;
    if (!trial_ended_well(one))
        return false;
    if (what->saved < -1)
        return true;
    said = said > what->saved ? said : what->saved;
    return trust_intact(at, said, why) && trust_goes_on(&whole, at, said, why);
}

/* How many trials were made. */
static long each_nth(tally *t, const target *what, long step, bool crypto)
{
    long trials = 0;
    for (long call = 1;; call += step, trials++) {
        char why[200];
        trial one = {.allocation = call, .crypto = crypto};
        assert_int_equal(scratch_shell(dir, "%s", what->prepare), 0);
        trial_start(&one, at, what->command);
        trial_wait(&one);
        bool over = !one.injected[0];
        if (!over)
            tally_trial(t, judge(what, &one, why), "allocation %ld%s: status %d, %s; it said: %s", call,
                        crypto ? " with OpenSSL's" : "", one.status, why, one.words);
        trial_free(&one);
        if (over)
            return trials;
    }
}

static void each_allocation(const target *what)
{
    tally t = {.promise = what->promise};
    if (each_nth(&t, what, trust_pick(83, 1), false) == 0)
        skip(); /* the recorder does not reach this build's allocations */
    each_nth(&t, what, trust_pick(1499, 61), true);
    tally_end(&t);
}

static void training_outlives_any_allocation_that_fails(void **state)
{
    (void)state;
    const char *const command[] = {"train", whole.text, TRUST_TINY, "--max-steps", "3", "--out", "run", NULL};
    each_allocation(&(target){"train: any allocation of ours may fail", "rm -rf at && mkdir at", command, -1});
}

static void so_does_a_continuation(void **state)
{
    (void)state;
    const char *const command[] = {"train", "--resume", "run", "--max-steps", whole.steps, NULL};
    each_allocation(
        &(target){"train --resume: any allocation of ours may fail", "rm -rf at && cp -r half at", command, 3});
}

static void so_does_sampling(void **state)
{
    (void)state;
    const char *const command[] = {"sample", "../whole/run", "--length", "20", "--device",
                                   "cpu",    "--prime",      "la gata",  NULL};
    each_allocation(&(target){"sample: any allocation of ours may fail", "mkdir -p at", command, -2});
}

static void so_does_scoring(void **state)
{
    (void)state;
    const char *const command[] = {"eval", "../whole/run", whole.text, "--device", "cpu", "--json", NULL};
    each_allocation(&(target){"eval: any allocation of ours may fail", "mkdir -p at", command, -2});
}

int main(void)
{
#ifdef CRNN_COUNTS_LINES
    puts("the counters of a build for coverage are part of the program, and do not outlive an allocation that fails");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_outlives_any_allocation_that_fails),
        cmocka_unit_test(so_does_a_continuation),
        cmocka_unit_test(so_does_sampling),
        cmocka_unit_test(so_does_scoring),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
