/* Signals: a run that is asked to stop ends its step, saves, and says how it goes on; asked twice, it ends at once. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONG                                                                                                           \
    "--units", "32", "--batch", "8", "--length", "25", "--epochs", "100000", "--threads", "1", "--device", "cpu",      \
        "--checkpoint-every", "0"

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char text[40000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "la gata bebe agua y el perro come pan\n"[(i * (1 + i / 900)) % 38];
    scratch_write(dir, "a.txt", text, sizeof text);
    return 0;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

static void start(const char *out)
{
    program_start(&run, dir, (const char *const[]){"train", "a.txt", LONG, "--out", out, NULL});
    assert_true(program_said(&run, "training on"));
}

/* Steps in the history so far. */
static long steps(const char *out)
{
    char name[300], line[400];
    long count = 0;
    snprintf(name, sizeof name, "%s/history.jsonl", out);
    FILE *file = fopen(scratch_path(dir, name), "r");
    while (file && fgets(line, sizeof line, file))
        count += strstr(line, "\"step\",\"step\"") != NULL;
    if (file)
        fclose(file);
    return count;
}

static void wait_for_steps(const char *out, long wanted)
{
    for (int i = 0; i < 3000 && steps(out) < wanted; i++)
        usleep(10000);
    assert_true(steps(out) >= wanted);
}

static int checkpoints(const char *out)
{
    return scratch_shell(dir, "exit $(ls %s/checkpoints/ckpt-*.safetensors | wc -l)", out);
}

static void check_polite_stop(int number, int status, const char *out)
{
    char again[200];
    start(out);
    wait_for_steps(out, 5);
    program_signal(&run, number);
    program_wait(&run);
    if (run.status != status)
        fail_msg("status %d, not %d: %s", run.status, status, run.err);
    snprintf(again, sizeof again, " train --resume %s\n", out);
    assert_holds(run.err, "Stopped and saved at step ");
    assert_holds(run.err, "Go on with:\n");
    assert_holds(run.err, again);
    long at = 0;
    assert_int_equal(sscanf(strstr(run.err, "saved at step "), "saved at step %ld", &at), 1);
    assert_int_equal(steps(out), at); /* nothing of it is lost, and nothing said that was not saved */
    char total[40];
    snprintf(total, sizeof total, "--max-steps=%ld", at + 3);
    program_do(&run, dir, "train", "--resume", out, total);
    assert_done(run);
    assert_int_equal(steps(out), at + 3);
}

static void an_interrupt_saves_and_ends_with_130(void **state)
{
    (void)state;
    check_polite_stop(SIGINT, 130, "interrupted");
}

static void a_request_to_terminate_saves_and_ends_with_143(void **state)
{
    (void)state;
    check_polite_stop(SIGTERM, 143, "terminated");
}

static void a_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    start("twice");
    wait_for_steps("twice", 2);
    program_signal(&run, SIGSTOP); /* so that both are there before it looks */
    program_signal(&run, SIGINT);
    program_signal(&run, SIGTERM);
    program_signal(&run, SIGCONT);
    program_wait(&run);
    assert_true(run.status == 130 || run.status == 143);
    assert_null(strstr(run.err, "Stopped and saved"));
    program_do(&run, dir, "info", "twice"); /* the checkpoint before is as it was */
    assert_done(run);
}

static void a_user_signal_saves_and_goes_on(void **state)
{
    (void)state;
    start("saving");
    wait_for_steps("saving", 2);
    assert_int_equal(checkpoints("saving"), 1);
    program_signal(&run, SIGUSR1);
    for (int i = 0; i < 1000 && checkpoints("saving") < 2; i++)
        usleep(10000);
    assert_int_equal(checkpoints("saving"), 2);
    long before = steps("saving");
    wait_for_steps("saving", before + 2);
    program_signal(&run, SIGINT);
    program_wait(&run);
    assert_int_equal(run.status, 130);
}

/* A handler that runs on a thread within oneDNN's sgemm ruins the heap: of four runs like this one four died, within a hundred signals. */
static void signals_do_not_disturb_the_arithmetic(void **state)
{
    (void)state;
    for (int disturbed = 0; disturbed < 2; disturbed++) {
        const char *out = disturbed ? "disturbed" : "quiet";
        program_start(&run, dir,
                      (const char *const[]){"train",
                                            "a.txt",
                                            "--units",
                                            "32",
                                            "--batch",
                                            "8",
                                            "--length",
                                            "25",
                                            "--max-steps",
                                            "3000",
                                            "--epochs",
                                            "1000",
                                            "--checkpoint-every",
                                            "0",
                                            "--val-split",
                                            "0",
                                            "--threads",
                                            "1",
                                            "--device",
                                            "cpu",
                                            "--out",
                                            out,
                                            NULL});
        assert_true(program_said(&run, "training on"));
        for (int i = 0; disturbed && i < 300 && !program_ended(&run); i++) {
            program_signal(&run, SIGUSR1);
            usleep(1000);
        }
        program_wait(&run);
        assert_done(run);
    }
    assert_int_equal(scratch_shell(dir, "tail -n 1 quiet/history.jsonl | cut -d, -f1-6 >a && "
                                        "tail -n 1 disturbed/history.jsonl | cut -d, -f1-6 >b && cmp a b"),
                     0);
}

static void a_killed_run_goes_on_from_its_last_checkpoint(void **state)
{
    (void)state;
    start("killed");
    wait_for_steps("killed", 3);
    program_signal(&run, SIGKILL);
    program_wait(&run);
    assert_int_equal(run.status, 128 + SIGKILL);
    program_do(&run, dir, "train", "--resume", "killed", "--max-steps", "4");
    assert_done(run);
    assert_int_equal(steps("killed"), 4);
}

static void two_trainers_do_not_share_a_run(void **state)
{
    (void)state;
    program_run second = {0};
    start("shared");
    wait_for_steps("shared", 1);
    program_do(&second, dir, "train", "--resume", "shared");
    assert_refused(second, 1, "shared");
    assert_holds(second.err, "another");
    program_free(&second);
    program_signal(&run, SIGINT);
    program_wait(&run);
    assert_int_equal(run.status, 130);
}

/* Standard error that nobody reads any more must not end days of training. */
static void a_terminal_that_goes_away_does_not_end_a_run(void **state)
{
    (void)state;
    assert_int_equal(
        scratch_shell(dir, "{ \"$CRNN_PROGRAM\" train a.txt --units 16 --batch 8 --length 25 --epochs 3 --device cpu "
                           "--out unread 2>&1; echo $? >status; } | true; test \"$(cat status)\" = 0"),
        0);
    program_do(&run, dir, "info", "unread");
    assert_holds(run.out, "3 epochs done");
}

/* Long held-out text does not hold up a stop; what was not scored is scored when the run goes on. */
static void a_stop_does_not_wait_for_held_out_text(void **state)
{
    (void)state;
    char *text = malloc(1 << 23);
    for (size_t i = 0; i < 1 << 23; i++)
        text[i] = "la gata bebe agua y el perro come pan\n"[i % 38];
    scratch_write(dir, "long.txt", text, 1 << 23);
    free(text);
    program_start(&run, dir,
                  (const char *const[]){"train", "a.txt", "--val", "long.txt", "--units", "128", "--batch", "8",
                                        "--length", "25", "--max-steps", "3", "--threads", "1", "--device", "cpu",
                                        "--out", "scoring", NULL});
    wait_for_steps("scoring", 3);
    usleep(100000); /* in the midst of it: the whole takes tens of seconds */
    program_signal(&run, SIGINT);
    program_wait(&run);
    assert_int_equal(run.status, 130);
    assert_true(run.seconds < 15);
    assert_null(strstr(run.err, "epoch 1:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interrupt_saves_and_ends_with_130),
        cmocka_unit_test(a_request_to_terminate_saves_and_ends_with_143),
        cmocka_unit_test(a_second_signal_ends_it_at_once),
        cmocka_unit_test(a_user_signal_saves_and_goes_on),
        cmocka_unit_test(signals_do_not_disturb_the_arithmetic),
        cmocka_unit_test(a_killed_run_goes_on_from_its_last_checkpoint),
        cmocka_unit_test(two_trainers_do_not_share_a_run),
        cmocka_unit_test(a_terminal_that_goes_away_does_not_end_a_run),
        cmocka_unit_test(a_stop_does_not_wait_for_held_out_text),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
