/* Continuing is exact: a run that was killed at a random instant and continued ends as one that nothing disturbed. */
#include "support/scratch.h"
#include "trust/trust.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *dir;
static const char *device = "cpu";

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    trust_text(dir, "a.txt", 3000);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

typedef struct {
    const char *batching, *layers, *dropout, *precision;
} setting;

static void start(trial *t, const setting *s, const char *steps, const char *run)
{
    const char *const arguments[] = {"train",
                                     "a.txt",
                                     "--units",
                                     "8",
                                     "--embedding",
                                     "4",
                                     "--batch",
                                     "2",
                                     "--length",
                                     "8",
                                     "--shuffle-buffer",
                                     "50",
                                     "--val-split",
                                     "0.1",
                                     "--clip",
                                     "1",
                                     "--epochs",
                                     "1000",
                                     "--checkpoint-steps",
                                     "97",
                                     "--keep",
                                     "2",
                                     "--lr-schedule",
                                     "cosine",
                                     "--threads",
                                     "1",
                                     "--device",
                                     device,
                                     "--batching",
                                     s->batching,
                                     "--layers",
                                     s->layers,
                                     "--dropout",
                                     s->dropout,
                                     "--precision",
                                     s->precision,
                                     "--max-steps",
                                     steps,
                                     "--out",
                                     run,
                                     NULL};
    trial_start(t, dir, arguments);
}

/* Kills it at a random instant of a time that a whole run may take. */
static void kill_at_random(trial *t, double seconds)
{
    usleep((unsigned)trust_random((uint64_t)(seconds * 1e6) + 1));
    kill(t->pid, SIGKILL);
    trial_wait(t);
}

/* Kills the run until that hits it within its steps, then goes on, with a second kill every other time. */
static void one_kill(tally *t, const setting *s, const char *steps, const uint8_t whole[32], double seconds)
{
    char why[200] = "", run[] = "killed";
    uint8_t digest[32];
    trial first = {0}, then = {0};
    do {
        assert_int_equal(scratch_shell(dir, "rm -rf killed"), 0);
        start(&first, s, steps, run);
        kill_at_random(&first, seconds);
    } while (first.status == 0 || trial_saved(first.words) < 0);
    if (trust_random(2) == 0) {
        trial_start(&then, dir, (const char *const[]){"train", "--resume", run, NULL});
        kill_at_random(&then, seconds);
    }
    trial_do(&then, dir, "train", "--resume", run);
    bool fine = then.status == 0 && trust_digest(digest, dir, run, atol(steps), why) && memcmp(digest, whole, 32) == 0;
    tally_trial(t, fine, "%s, %s layers, dropout %s, %s: killed after step %lld was saved; status %d, %s%s",
                s->batching, s->layers, s->dropout, s->precision, (long long)trial_saved(first.words), then.status,
                then.words, why);
    trial_free(&first);
    trial_free(&then);
}

static void check_setting(tally *t, const setting *s)
{
    char why[200];
    uint8_t whole[32];
    trial undisturbed = {0};
    const char *steps = trust_long() ? "2000" : "500";
    assert_int_equal(scratch_shell(dir, "rm -rf whole"), 0);
    start(&undisturbed, s, steps, "whole");
    trial_wait(&undisturbed);
    if (undisturbed.status != 0)
        fail_msg("status %d: %s", undisturbed.status, undisturbed.words);
    assert_true(trust_digest(whole, dir, "whole", atol(steps), why));
    for (long i = 0; i < trust_pick(2, 20); i++)
        one_kill(t, s, steps, whole, undisturbed.seconds);
    trial_free(&undisturbed);
}

static void check_settings(const char *promise)
{
    static const char *const batchings[] = {"streams", "windows"}, *const layers[] = {"1", "2"},
                             *const dropouts[] = {"0", "0.3"}, *const precisions[] = {"fp32", "bf16"};
    tally t = {.promise = promise};
    for (int i = 0; i < 16; i++) {
        setting s = {batchings[i & 1], layers[i >> 1 & 1], dropouts[i >> 2 & 1], precisions[i >> 3 & 1]};
        bool in_short = i == 1 || i == 6 || i == 8 || i == 15; /* each value twice, most pairs of them */
        if (trust_long() || in_short)
            check_setting(&t, &s);
    }
    tally_end(&t);
}

static void a_killed_run_goes_on_to_the_same_bits(void **state)
{
    (void)state;
    check_settings("Continuing is exact: every byte of the last checkpoint, and the history");
}

static void so_does_one_on_a_gpu(void **state)
{
    (void)state;
    trial t = {0};
    device = "cuda";
    assert_int_equal(scratch_shell(dir, "rm -rf probe"), 0);
    start(&t, &(setting){"streams", "1", "0", "fp32"}, "2", "probe");
    trial_wait(&t);
    int status = t.status;
    trial_free(&t);
    if (status == 4)
        skip(); /* there is none */
    check_settings("Continuing is exact on a GPU: every byte of the last checkpoint, and the history");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_killed_run_goes_on_to_the_same_bits),
                                       cmocka_unit_test(so_does_one_on_a_gpu)};
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
