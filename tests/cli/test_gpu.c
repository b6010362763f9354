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
static bool simulated;

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
    const char *name = json_string_value(json_object_get(cuda, "name"));
    simulated = name && strstr(name, "Simulated");
    setenv("XDG_CACHE_HOME", scratch_path(dir, "cache"), 1); /* what is measured is this test's own */
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
    const json_t *ops = json_object_get(json, "ops");
    assert_true(json_array_size(ops) >= 6);
    for (size_t i = 0; i < json_array_size(ops); i++)
        assert_true(json_number_value(json_object_get(json_array_get(ops, i), "seconds")) > 0);
    json_decref(json);
}

static void every_way_and_precision_trains(void **state)
{
    (void)state;
    static const char *const algos[] = {"cudnn", "loop", "persist", "persist-cluster", "persist-words"};
    static const char *const precisions[] = {"fp32", "tf32", "bf16"};
    for (int a = 0; a < 5; a++)
        for (int p = 0; p < 3; p++) {
            program_do(&run, dir, "train", "a.txt", "--units", "8", "--embedding", "8", "--batch", "8", "--length", "4",
                       "--max-steps", "3", "--device", "cuda", "--precision", precisions[p], "--rnn-algo", algos[a],
                       "--json");
            assert_done(run);
        }
    program_do(&run, dir, "train", "a.txt", "--device", "cuda", "--rnn-algo", "magic");
    assert_refused(run, 2, "persist");
    setenv("CUSIM_COMPUTE", "8", 1);
    program_do(&run, dir, "train", "a.txt", "--units", "8", "--embedding", "8", "--batch", "8", "--length", "4",
               "--max-steps", "3", "--device", "cuda", "--rnn-algo", "persist-cluster");
    unsetenv("CUSIM_COMPUTE");
    assert_refused(run, 2, "forms no clusters of blocks");
}

/* --- which way computes the recurrent layers -------------------------------------------------------------------------- */

#define SHAPE "--units", "16", "--embedding", "8", "--batch", "8", "--length", "5"
#define TRAIN_SHAPE "train", "a.txt", SHAPE, "--device", "cuda", "--checkpoint-steps", "10", "--keep", "all"

/* Makes one way the fastest in every table that is kept. */
static void prefer(const char *way)
{
    assert_int_equal(
        scratch_shell(dir,
                      "for table in cache/crnn-gpu/rnn-*.json; do "
                      "awk -v way='\"%s\"' '/\"name\":/ { ours = index($0, way) } /_seconds\":/ "
                      "{ sub(/: .*/, ours ? \": 1e-9,\" : \": 1,\") } { print }' $table >new && mv new $table; done",
                      way),
        0);
}

/* The way that the run's config.json and its newest checkpoint record. */
static void assert_recorded(const char *out, const char *way)
{
    assert_int_equal(scratch_shell(dir,
                                   "grep -q '\"rnn-algo\": \"%s\"' %s/config.json && "
                                   "ls %s/checkpoints/* | tail -1 | xargs grep -aq 'rnn-algo[^a-z]*%s\\\\*\"'",
                                   way, out, out, way),
                     0);
}

static void assert_same_bits(const char *one, const char *other)
{
    assert_int_equal(scratch_shell(dir,
                                   "cut -d, -f1-4 %s/history.jsonl >h1; cut -d, -f1-4 %s/history.jsonl >h2; cmp h1 h2",
                                   one, other),
                     0);
}

static void measuring_changes_no_bit_of_the_run(void **state)
{
    (void)state;
    char way[40];
    program_do(&run, dir, TRAIN_SHAPE, "--out", "measured", "--max-steps", "10");
    assert_done(run);
    assert_holds(run.err, "the fastest way as measured now: ");
    assert_int_equal(sscanf(strstr(run.err, "recurrent layers by "), "recurrent layers by %39[^,]", way), 1);
    assert_recorded("measured", way);
    program_do(&run, dir, TRAIN_SHAPE, "--out", "asked", "--max-steps", "10", "--rnn-algo", way);
    assert_done(run);
    assert_same_bits("measured", "asked");
}

static void the_fastest_way_is_taken_from_what_was_measured_and_recorded(void **state)
{
    (void)state;
    program_do(&run, dir, TRAIN_SHAPE, "--out", "earlier", "--max-steps", "3");
    assert_done(run);
    assert_holds(run.err, "the fastest way as measured earlier: ");
    static const char *const ways[] = {"loop", "persist", "cudnn"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        prefer(ways[i]);
        program_do(&run, dir, TRAIN_SHAPE, "--out", ways[i], "--max-steps", "3");
        assert_done(run);
        char said[100];
        snprintf(said, sizeof said, "recurrent layers by %s, the fastest way as measured earlier: 0.000 ms a step",
                 ways[i]);
        assert_holds(run.err, said);
        assert_recorded(ways[i], ways[i]);
    }
}

static void a_run_goes_on_as_it_was_computed_whatever_is_measured_since(void **state)
{
    (void)state;
    program_do(&run, dir, TRAIN_SHAPE, "--out", "whole", "--max-steps", "20", "--rnn-algo", "loop");
    assert_done(run);
    assert_holds(run.err, "recurrent layers by loop, as asked for");
    prefer("loop");
    program_do(&run, dir, TRAIN_SHAPE, "--out", "halves", "--max-steps", "10");
    assert_done(run);
    prefer("cudnn");
    program_do(&run, dir, "train", "--resume", "halves", "--max-steps", "20");
    assert_done(run);
    assert_holds(run.err, "recurrent layers by loop, as the run has it");
    assert_recorded("halves", "loop");
    assert_same_bits("whole", "halves");
    program_do(&run, dir, "verify", "--replay", "10", "halves");
    assert_done(run);
    assert_holds(run.out, "the same bits");
}

static void another_way_may_be_asked_for_when_a_run_goes_on(void **state)
{
    (void)state;
    prefer("loop");
    program_do(&run, dir, TRAIN_SHAPE, "--out", "changed", "--max-steps", "10");
    assert_done(run);
    program_do(&run, dir, "train", "--resume", "changed", "--max-steps", "20", "--rnn-algo", "cudnn");
    assert_done(run);
    assert_holds(run.err, "recurrent layers by cudnn, as asked for");
    assert_recorded("changed", "cudnn");
    program_do(&run, dir, "train", "--resume", "changed", "--max-steps", "30", "--rnn-algo", "auto");
    assert_done(run);
    assert_recorded("changed", "loop");
}

static void on_the_cpu_a_run_of_a_gpu_goes_on_with_the_cpus_own_way(void **state)
{
    (void)state;
    program_do(&run, dir, TRAIN_SHAPE, "--out", "moved", "--max-steps", "10", "--rnn-algo", "loop");
    assert_done(run);
    program_do(&run, dir, "train", "--resume", "moved", "--max-steps", "20", "--device", "cpu");
    assert_done(run);
    assert_holds(run.err, "note: the run was computed on a GPU (--rnn-algo loop); on the CPU it goes on to other bits");
    assert_recorded("moved", "auto");
}

static void a_way_that_is_not_to_be_had_any_more_is_told(void **state)
{
    (void)state;
    if (!simulated)
        skip(); /* a GPU keeps what it can do */
    program_do(&run, dir, TRAIN_SHAPE, "--out", "gone", "--max-steps", "10", "--rnn-algo", "cudnn-persist-static");
    assert_done(run);
    setenv("CUSIM_RNN_ALGOS", "1", 1); /* the standard one */
    program_do(&run, dir, "train", "--resume", "gone", "--max-steps", "20");
    unsetenv("CUSIM_RNN_ALGOS");
    assert_refused(run, 2, "the run goes on with --rnn-algo cudnn-persist-static, which cannot be had here");
    assert_holds(run.err, "--rnn-algo auto takes another way, to other bits");
}

static void the_bench_prints_what_was_tried(void **state)
{
    (void)state;
    static const char *const ways[] = {
        "cudnn",   "cudnn-persist-static", "cudnn-persist-dynamic", "cudnn-persist-small", "loop",
        "persist", "persist-cluster",      "persist-words"};
    prefer("persist");
    for (int again = 0; again < 2; again++) {
        const char *more = again ? "--measure-again" : "--device=cuda";
        program_do(&run, dir, "bench", SHAPE, "--vocab", "20", "--steps", "2", "--sample-length", "0", "--device",
                   "cuda", more);
        assert_done(run);
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
            assert_holds(run.out, ways[i]);
        assert_holds(run.out, "  chosen");
        assert_holds(run.out, ", measured\n");
    }
    program_do(&run, dir, "bench", SHAPE, "--vocab", "20", "--steps", "2", "--sample-length", "0", "--device", "cuda",
               "--json");
    assert_done(run);
    json_t *json = json_of(run), *rnn = json_object_get(json, "rnn");
    assert_string_equal(json_string_value(json_object_get(rnn, "reason")), "remembered");
    assert_int_equal(json_array_size(json_object_get(rnn, "candidates")), sizeof ways / sizeof *ways);
    json_decref(json);
    program_do(&run, dir, "bench", SHAPE, "--vocab", "20", "--steps", "2", "--sample-length", "0", "--device", "cuda",
               "--rnn-algo", "loop");
    assert_done(run);
    assert_holds(run.out, "recurrent layers by loop, asked for\n");
}

/* Gates of all 6000 time steps would take 25 MB, beside 24 MB of states and logits, and are computed anew instead. */
static void a_step_whose_gates_do_not_fit_is_taken_all_the_same(void **state)
{
    (void)state;
    if (!simulated)
        return;
    setenv("CUSIM_MEMORY", "79691776", 1); /* 44 MB beside what the libraries want */
    program_do(&run, dir, "train", "a.txt", "--repeat", "10", "--val-split", "0", "--units", "32", "--embedding", "8",
               "--batch", "8", "--length", "6000", "--max-steps", "1", "--device", "cuda", "--rnn-algo", "loop",
               "--out", "long");
    unsetenv("CUSIM_MEMORY");
    assert_done(run);
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
        cmocka_unit_test(measuring_changes_no_bit_of_the_run),
        cmocka_unit_test(the_fastest_way_is_taken_from_what_was_measured_and_recorded),
        cmocka_unit_test(a_run_goes_on_as_it_was_computed_whatever_is_measured_since),
        cmocka_unit_test(another_way_may_be_asked_for_when_a_run_goes_on),
        cmocka_unit_test(on_the_cpu_a_run_of_a_gpu_goes_on_with_the_cpus_own_way),
        cmocka_unit_test(a_way_that_is_not_to_be_had_any_more_is_told),
        cmocka_unit_test(the_bench_prints_what_was_tried),
        cmocka_unit_test(a_step_whose_gates_do_not_fit_is_taken_all_the_same),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
