/* Ctrl-C is polite, and two trainers never share a run: by real signals at random instants, and trainers that start at once. */
#include "support/program.h"
#include "support/scratch.h"
#include "trust/trust.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *dir;
static trust_whole whole;

enum { STEPS = 1200 };

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    trust_make_whole(&whole, dir, STEPS);
    assert_int_equal(scratch_shell(dir, "mkdir at"), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static void start(trial *t)
{
    assert_int_equal(scratch_shell(dir, "rm -rf at/run"), 0);
    const char *const arguments[] = {"train", whole.text, TRUST_TINY, "--max-steps", whole.steps, "--out", "run", NULL};
    trial_start(t, scratch_path(dir, "at"), arguments);
}

/* The step at which it says it stopped; -1 where it does not. */
static long long stopped_at(const trial *t)
{
    long long step;
    const char *said = strstr(t->words, "Stopped and saved at step ");
    return said && sscanf(said, "Stopped and saved at step %lld", &step) == 1 ? step : -1;
}

/* Stopped within its steps it saves the last of them; before there is anything to save, it just ends. */
static void a_stop_saves_the_step_and_goes_on_to_the_same_bits(void **state)
{
    (void)state;
    tally t = {.promise =
                   "SIGINT and SIGTERM at random instants: the step saved, 130 or 143, continued to the same bits"};
    double longest = 0;
    for (long i = 0; i < trust_pick(16, 200); i++) {
        char why[200] = "", where[300];
        trial one = {0};
        int number = i % 2 ? SIGTERM : SIGINT;
        snprintf(where, sizeof where, "%s", scratch_path(dir, "at"));
        start(&one);
        usleep((unsigned)trust_random((uint64_t)(whole.seconds * 1e6)));
        double sent = trust_now();
        kill(one.pid, number);
        trial_wait(&one);
        double took = trust_now() - sent;
        longest = took > longest ? took : longest;
        long long step = stopped_at(&one);
        bool trains = strstr(one.words, "training on") != NULL;
        bool fine = one.status == 0 || (one.status == 128 + number && (step >= 0 || !trains));
        fine = fine && (step < 0 || trust_newest(scratch_path(where, "run"), NULL) == step);
        fine = fine && trust_intact(where, trial_saved(one.words), why) &&
               trust_goes_on(&whole, where, trial_saved(one.words), why);
        tally_trial(&t, fine, "signal %d: status %d, stopped at %lld; %s; it said: %s", number, one.status, step, why,
                    one.words);
        trial_free(&one);
    }
    tally_note(t.promise, "longest from the signal to the end: %.2f s",
               longest); /* told, not judged: it depends on the machine */
    tally_end(&t);
}

static void a_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    tally t = {.promise = "A second SIGINT or SIGTERM at random instants: ends at once, nothing lost"};
    for (long i = 0; i < trust_pick(10, 100); i++) {
        char why[200], where[300];
        trial one = {0};
        snprintf(where, sizeof where, "%s", scratch_path(dir, "at"));
        start(&one);
        usleep((unsigned)trust_random((uint64_t)(whole.seconds * 5e5)));
        kill(one.pid, SIGINT);
        usleep((unsigned)trust_random(2000));
        kill(one.pid, SIGTERM);
        trial_wait(&one);
        tally_trial(&t,
                    (one.status == 0 || one.status == 130 || one.status == 143) &&
                        trust_intact(where, trial_saved(one.words), why),
                    "status %d, %s, it said: %s", one.status, why, one.words);
        trial_free(&one);
    }
    tally_end(&t);
}

static void signals_that_save_change_nothing_else(void **state)
{
    (void)state;
    tally t = {.promise = "SIGUSR1 at random instants: saves, and the run ends as if it had not been"};
    for (long i = 0; i < trust_pick(6, 60); i++) {
        char why[200] = "";
        uint8_t digest[32];
        trial one = {0};
        start(&one);
        assert_true(trial_said("training on")); /* before it listens the signal ends it, as it does any program */
        for (int k = 0; k < 20; k++) {
            kill(one.pid, SIGUSR1);
            usleep((unsigned)trust_random((uint64_t)(whole.seconds * 5e4)));
        }
        trial_wait(&one);
        bool same = one.status == 0 && trust_digest(digest, scratch_path(dir, "at"), "run", STEPS, why) &&
                    memcmp(digest, whole.digest, sizeof digest) == 0;
        tally_trial(&t, same, "status %d, %s, it said: %s", one.status, why, one.words);
        trial_free(&one);
    }
    tally_end(&t);
}

/* Several trainers at once on one run: one trains, the others say why they do not. */
static void of_trainers_that_start_at_once_one_trains(void **state)
{
    (void)state;
    enum { AT_ONCE = 4 };
    tally t = {.promise = "Trainers that start at once on one run: one trains, the others say why they do not"};
    for (long i = 0; i < trust_pick(6, 60); i++) {
        program_run runs[AT_ONCE] = {0};
        uint8_t digest[32];
        char why[200] = "", where[300];
        int done = 0, refused = 0;
        snprintf(where, sizeof where, "%s", scratch_path(dir, "at"));
        assert_int_equal(scratch_shell(dir, "rm -rf at/run"), 0);
        for (int k = 0; k < AT_ONCE; k++)
            program_start(&runs[k], where,
                          (const char *const[]){"train", whole.text, TRUST_TINY, "--max-steps", whole.steps, "--out",
                                                "run", NULL});
        for (int k = 0; k < AT_ONCE; k++) {
            program_wait(&runs[k]);
            done += runs[k].status == 0;
            refused += (runs[k].status == 1 && strstr(runs[k].err, "another program is training")) ||
                       (runs[k].status == 2 && strstr(runs[k].err, "holds a run already"));
        }
        bool same = trust_digest(digest, where, "run", STEPS, why) && memcmp(digest, whole.digest, sizeof digest) == 0;
        tally_trial(&t, done == 1 && refused == AT_ONCE - 1 && same, "%d trained, %d were refused, %s; %s%s%s%s", done,
                    refused, why, runs[0].err, runs[1].err, runs[2].err, runs[3].err);
        for (int k = 0; k < AT_ONCE; k++)
            program_free(&runs[k]);
    }
    tally_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_saves_the_step_and_goes_on_to_the_same_bits),
        cmocka_unit_test(a_second_signal_ends_it_at_once),
        cmocka_unit_test(signals_that_save_change_nothing_else),
        cmocka_unit_test(of_trainers_that_start_at_once_one_trains),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
