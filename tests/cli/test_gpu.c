/* A run on a GPU as a user sees it: trained, killed, continued on either device, sampled. On the simulated GPU where the program under test
 * has it; skipped where there is neither. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>

enum { STEPS = 60, CURVE = 200 };
#define MODEL                                                                                                          \
    "--units", "12", "--embedding", "6", "--layers", "2", "--dropout", "0.2", "--batch", "4", "--length", "9",         \
        "--threads", "1", "--val-split", "0.1", "--keep", "all", "--checkpoint-steps", "20"

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    char text[6000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "la gata bebe agua y el perro come pan\n"[(i * (1 + i / 900)) % 38];
    scratch_write(dir, "a.txt", text, sizeof text);
    program_do(&run, dir, "devices", "--json");
    json_t *json = json_of(run);
    json_t *cuda = json_array_get(json_object_get(json, "devices"), 1);
    bool usable = json_is_true(json_object_get(cuda, "usable"));
    if (!usable)
        printf("no GPU here: %s\n", json_string_value(json_object_get(cuda, "why")));
    json_decref(json);
    if (usable)
        return 0;
    program_free(&run);
    scratch_remove(dir);
    exit(77);
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

static void train(const char *device, const char *out, const char *steps)
{
    program_do(&run, dir, "train", "a.txt", MODEL, "--device", device, "--out", out, "--max-steps", steps);
    assert_done(run);
}

static void resume(const char *device, const char *out, const char *steps)
{
    program_do(&run, dir, "train", "--resume", out, "--device", device, "--max-steps", steps);
    assert_done(run);
}

/* losses[k]: of step k + 1, for all of `steps`. */
static void read_losses(const char *out, double *losses, int steps)
{
    char name[300], line[400];
    snprintf(name, sizeof name, "%s/history.jsonl", out);
    FILE *file = fopen(scratch_path(dir, name), "r");
    assert_non_null(file);
    int read = 0;
    while (fgets(line, sizeof line, file)) {
        json_t *event = json_loads(line, 0, NULL);
        if (event && strcmp(json_string_value(json_object_get(event, "event")), "step") == 0) {
            assert_true(read < steps);
            assert_int_equal(json_integer_value(json_object_get(event, "step")), read + 1);
            losses[read++] = json_number_value(json_object_get(event, "loss"));
        }
        json_decref(event);
    }
    fclose(file);
    assert_int_equal(read, steps);
}

static double largest_difference(const char *one, const char *other, int steps)
{
    double a[CURVE], b[CURVE], largest = 0;
    read_losses(one, a, steps);
    read_losses(other, b, steps);
    for (int i = 0; i < steps; i++) {
        double difference = fabs(a[i] - b[i]) / fabs(a[i]);
        largest = difference > largest ? difference : largest;
    }
    return largest;
}

static void the_losses_of_both_devices_are_the_same_but_for_rounding(void **state)
{
    (void)state;
    train("cuda", "gpu-curve", "200");
    train("cpu", "cpu-curve", "200");
    double difference = largest_difference("cpu-curve", "gpu-curve", CURVE);
    printf("largest relative difference of %d losses: %.1e\n", CURVE, difference);
    assert_true(
        difference <
        1e-5); /* as the trajectory of the golden vectors; masks of dropout that differed would be off by 1e-2 */
}

static void the_same_run_twice_gives_the_same_bits(void **state)
{
    (void)state;
    train("cuda", "gpu", "60");
    train("cuda", "again", "60");
    assert_true(largest_difference("gpu", "again", STEPS) == 0);
    assert_int_equal(scratch_shell(dir, "cmp gpu/checkpoints/ckpt-0000000060.safetensors "
                                        "again/checkpoints/ckpt-0000000060.safetensors"),
                     0);
}

static void a_killed_run_goes_on_to_the_same_bits(void **state)
{
    (void)state;
    program_start(&run, dir,
                  (const char *const[]){"train", "a.txt", MODEL, "--device", "cuda", "--out", "killed", "--max-steps",
                                        "100000", NULL});
    const char *saved = scratch_path(dir, "killed/checkpoints/ckpt-0000000020.safetensors");
    for (int i = 0; i < 3000 && scratch_shell(dir, "test -e '%s'", saved) != 0; i++)
        scratch_shell(dir, "sleep 0.01");
    program_signal(&run, SIGKILL);
    program_wait(&run);
    assert_int_equal(run.status, 128 + SIGKILL);
    /* whatever came after the checkpoint of step 20 is as if it had never been */
    assert_int_equal(scratch_shell(dir, "find killed/checkpoints -name 'ckpt-*' -newer '%s' -delete", saved), 0);
    resume("cuda", "killed", "60");
    assert_true(largest_difference("gpu", "killed", STEPS) == 0);
}

static void a_run_goes_on_with_the_other_device(void **state)
{
    (void)state;
    train("cpu", "cpu", "60");
    train("cuda", "first-gpu", "20");
    resume("cpu", "first-gpu", "60");
    train("cpu", "first-cpu", "20");
    resume("cuda", "first-cpu", "60");
    assert_true(largest_difference("cpu", "first-gpu", STEPS) < 1e-5);
    assert_true(largest_difference("cpu", "first-cpu", STEPS) < 1e-5);
}

static void both_devices_write_the_same_text(void **state)
{
    (void)state;
    static const char *const filters[][2] = {{"--top-k", "5"}, {"--top-p", "0.8"}, {"--min-p", "0.05"}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        program_do(&run, dir, "sample", "gpu", "--device", "cpu", "--length", "300", "--seed", "3", filters[i][0],
                   filters[i][1]);
        assert_done(run);
        char *text = strdup(run.out);
        program_do(&run, dir, "sample", "gpu", "--device", "cuda", "--length", "300", "--seed", "3", filters[i][0],
                   filters[i][1]);
        assert_done(run);
        assert_string_equal(text, run.out);
        free(text);
    }
}

static void evaluation_and_bench_run_there_too(void **state)
{
    (void)state;
    double loss[2];
    for (int i = 0; i < 2; i++) {
        program_do(&run, dir, "eval", "gpu", "a.txt", "--json", "--device", i ? "cuda" : "cpu");
        assert_done(run);
        json_t *json = json_of(run);
        loss[i] = json_number_value(json_object_get(json, "loss"));
        json_decref(json);
    }
    assert_true(loss[0] > 0 && fabs(loss[1] / loss[0] - 1) < 1e-5);
    program_do(&run, dir, "bench", "--json", "--device", "cuda", "--units", "16", "--embedding", "8", "--batch", "4",
               "--length", "5");
    assert_done(run);
    json_t *json = json_of(run);
    assert_true(json_number_value(json_object_get(json, "step_seconds")) > 0);
    assert_true(json_number_value(json_object_get(json, "peak_memory_bytes")) > 0);
    json_decref(json);
}

static void every_way_and_precision_trains(void **state)
{
    (void)state;
    static const char *const algos[] = {"cudnn", "loop", "persist"}, *const precisions[] = {"fp32", "tf32", "bf16"};
    for (int a = 0; a < 3; a++)
        for (int p = 0; p < 3; p++) {
            program_do(&run, dir, "train", "a.txt", "--units", "8", "--embedding", "8", "--batch", "8", "--length", "4",
                       "--max-steps", "3", "--device", "cuda", "--precision", precisions[p], "--rnn-algo", algos[a],
                       "--json");
            assert_done(run);
        }
    program_do(&run, dir, "train", "a.txt", "--device", "cuda", "--rnn-algo", "magic");
    assert_refused(run, 2, "persist");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_losses_of_both_devices_are_the_same_but_for_rounding),
        cmocka_unit_test(the_same_run_twice_gives_the_same_bits),
        cmocka_unit_test(a_killed_run_goes_on_to_the_same_bits),
        cmocka_unit_test(a_run_goes_on_with_the_other_device),
        cmocka_unit_test(both_devices_write_the_same_text),
        cmocka_unit_test(evaluation_and_bench_run_there_too),
        cmocka_unit_test(every_way_and_precision_trains),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
