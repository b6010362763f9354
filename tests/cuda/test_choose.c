/* Which way computes the recurrent layers, where that is left to the backend: the fastest of given times, what is refused, what is remembered.
 * Times on the simulated device mean nothing, so the tests give them. */
#include "kernels/cuda/choose.h"
#include "support/cmocka.h"
#include "support/scratch.h"
#include <cusim_control.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const crnn_gru_shape layers[] = {{.T = 3, .B = 3, .I = 4, .H = 7, .V = 11, .training = true},
                                        {.T = 3, .B = 3, .I = 7, .H = 7, .training = true},
                                        {.T = 3, .B = 3, .I = 7, .H = 7, .training = true}};
enum { LAYERS = sizeof layers / sizeof *layers };

static char *folder, *caches; /* the second is $XDG_CACHE_HOME/crnn-gpu */
static crnn_backend *be;

static crnn_backend *open_with(const char *rnn_algo, bool measure_again)
{
    crnn_device_config config = crnn_device_config_default();
    crnn_error err = {0};
    config.kind = CRNN_DEVICE_CUDA;
    config.rnn_algo = rnn_algo;
    config.measure_again = measure_again;
    crnn_backend *opened = crnn_cuda_open(&config, &err);
    if (!opened)
        fail_msg("%s", err.text);
    return opened;
}

static int set_up(void **state)
{
    (void)state;
    folder = scratch_new();
    caches = strdup(scratch_path(folder, "crnn-gpu"));
    setenv("XDG_CACHE_HOME", folder, 1);
    be = open_with("auto", false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    be->ops->close(be);
    scratch_remove(folder);
    free(caches);
    int left = (int)cusim_objects() + (int)cusim_memory_used();
    if (left)
        print_error("%zu objects and %zu bytes are left\n", cusim_objects(), cusim_memory_used());
    return left;
}

static void expect_words(const char *text, const char *words)
{
    if (!strstr(text, words))
        fail_msg("'%s' does not say '%s'", text, words);
}

/* --- the fastest ----------------------------------------------------------------------------------------------------- */

static void the_fastest_that_serves_is_chosen(void **state)
{
    (void)state;
    static const struct {
        const char *why[3];
        double forward[3], backward[3];
        int32_t chosen;
    } cases[] = {
        {{"", "", ""}, {3, 2, 1}, {3, 2, 1}, 2},
        {{"", "", ""}, {1, 2, 3}, {9, 2, 3}, 1}, /* both passes together */
        {{"", "", ""}, {1, 2, 1}, {2, 1, 2}, 0}, /* the earlier among equals */
        {{"", "", "wrong"}, {3, 2, 1}, {3, 2, 1}, 1},
        {{"", "does not fit", "wrong"}, {3, 0, 1}, {3, 0, 1}, 0},
        {{"does not fit", "", ""}, {0, 2, 3}, {0, 2, 3}, -1}, /* nothing to hold the others against */
        {{"", "", ""}, {1, 0, 2}, {1, 0, 2}, 0},              /* one that was not tried */
        {{"", "", ""}, {(double)NAN, 2, (double)INFINITY}, {1, 2, 1}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crnn_rnn_choice choice = {.count = 3};
        for (int k = 0; k < 3; k++) {
            choice.candidates[k].forward_seconds = cases[i].forward[k];
            choice.candidates[k].backward_seconds = cases[i].backward[k];
            snprintf(choice.candidates[k].why, sizeof choice.candidates[k].why, "%s", cases[i].why[k]);
        }
        assert_int_equal(crnn_rnn_fastest(&choice), cases[i].chosen);
    }
    assert_int_equal(crnn_rnn_fastest(&(crnn_rnn_choice){0}), -1);
}

/* --- what is refused ------------------------------------------------------------------------------------------------- */

/* The loop with a mistake in it: it is made as ever, and then computes so. */
static crnn_gru_way mistaken;

static crnn_gru *make_mistaken(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    crnn_gru *g = crnn_gru_loop.make(cuda, shape);
    if (g)
        g->way = &mistaken;
    return g;
}

static void clear(crnn_gru *g, float *x, int64_t floats)
{
    crnn_cuda_ok(g->cuda, cudaMemsetAsync(x, 0, (size_t)floats * sizeof *x, g->cuda->stream));
}

/* One row of one time step is left out. */
static void forward_without_a_row(crnn_gru *g, float *hs, const crnn_gru_input *in, const float *h_first,
                                  const float *w)
{
    crnn_gru_loop.forward(g, hs, in, h_first, w);
    clear(g, hs + (int64_t)g->s.B * g->s.H, g->s.H);
}

/* The last column of the weights' gradients is left out. */
static void backward_without_a_column(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                                      const crnn_gru_input *in, const float *h_first, const float *w)
{
    crnn_gru_loop.backward(g, din, dw, dhs, hs, in, h_first, w);
    clear(g, dw + 3 * g->s.H - 1, 1);
}

static void backward_without_the_input(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                                       const crnn_gru_input *in, const float *h_first, const float *w)
{
    crnn_gru_loop.backward(g, din, dw, dhs, hs, in, h_first, w);
    clear(g, din, g->s.I);
}

static void forward_to_no_numbers(crnn_gru *g, float *hs, const crnn_gru_input *in, const float *h_first,
                                  const float *w)
{
    crnn_gru_loop.forward(g, hs, in, h_first, w);
    crnn_cuda_ok(g->cuda, cudaMemsetAsync(hs, 0xff, sizeof *hs, g->cuda->stream));
}

static crnn_gru *make_too_large(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    (void)shape;
    crnn_cuda_alloc(&cuda->base, (size_t)1 << 45);
    return NULL;
}

static uint32_t *word;

static void free_with_word(crnn_gru *g)
{
    g->cuda->base.ops->free(&g->cuda->base, word);
    crnn_gru_loop.free(g);
}

/* A kernel of it says that it gave up. */
static crnn_gru *make_giving_up(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    static const uint32_t one = 1;
    crnn_gru *g = make_mistaken(cuda, shape);
    word = crnn_cuda_alloc(&cuda->base, sizeof *word);
    cuda->base.ops->upload(&cuda->base, word, &one, sizeof one);
    crnn_cuda_watch(cuda, word, "the blocks waited in vain");
    return g;
}

static bool measure(crnn_rnn_choice *choice, const crnn_gru_way *second)
{
    const crnn_gru_named_way ways[] = {{"cudnn", &crnn_gru_cudnn}, {"loop", second}, {"persist", &crnn_gru_loop}};
    *choice = (crnn_rnn_choice){0};
    bool lasting = crnn_rnn_measure(crnn_cuda_of(be), choice, ways, 3, layers, LAYERS);
    assert_int_equal(choice->count, 3);
    assert_int_equal(crnn_cuda_of(be)->failure.status, CRNN_OK);
    assert_string_equal(choice->candidates[0].why, "");
    assert_string_equal(choice->candidates[2].why, ""); /* goes on with those after it */
    assert_true(choice->candidates[2].forward_seconds > 0 && choice->candidates[2].backward_seconds > 0);
    assert_true(choice->candidates[2].difference < 1e-5);
    return lasting;
}

static void a_wrong_way_is_refused(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    mistaken = crnn_gru_loop;
    mistaken.make = make_mistaken;
    assert_true(measure(&choice, &mistaken));
    assert_string_equal(choice.candidates[1].why, ""); /* without a mistake it serves */
    mistaken.forward = forward_without_a_row;
    assert_true(measure(&choice, &mistaken));
    expect_words(choice.candidates[1].why, "differs from cudnn");
    mistaken.forward = forward_to_no_numbers;
    assert_true(measure(&choice, &mistaken));
    expect_words(choice.candidates[1].why, "not finite");
    mistaken.forward = crnn_gru_loop.forward;
    mistaken.backward = backward_without_a_column;
    assert_true(measure(&choice, &mistaken));
    expect_words(choice.candidates[1].why, "differs from cudnn");
    mistaken.backward = backward_without_the_input;
    assert_true(measure(&choice, &mistaken));
    expect_words(choice.candidates[1].why, "differs from cudnn");
}

static void a_way_without_memory_is_passed_over_and_not_remembered(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    mistaken = crnn_gru_loop;
    mistaken.make = make_too_large;
    size_t used = cusim_memory_used();
    assert_false(measure(&choice, &mistaken));
    expect_words(choice.candidates[1].why, "out of memory");
    assert_int_equal(cusim_memory_used(), used);
}

static void a_way_that_gives_up_is_passed_over_and_not_remembered(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    mistaken = crnn_gru_loop;
    mistaken.make = make_giving_up;
    mistaken.free = free_with_word;
    assert_false(measure(&choice, &mistaken));
    expect_words(choice.candidates[1].why, "waited in vain");
}

static void a_device_that_is_lost_meanwhile_is_a_failure(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    crnn_error err = {0};
    cusim_fail("kernel cudnnRNNBackwardData_v8", 3, cudaErrorIllegalAddress);
    be->ops->gru_choose(be, &choice, layers, LAYERS);
    cusim_fail(NULL, 0, cudaSuccess);
    assert_string_equal(choice.name, "cudnn");
    assert_null(be->ops->gru_new(be, &layers[0]));
    assert_int_equal(be->ops->sync(be, &err), CRNN_ERR_FAULT);
    expect_words(err.text, "failed in gru_choose: while cudnn was tried");
    be->ops->close(be); /* whatever that can give back */
    cudaDeviceReset();
    be = open_with("auto", false);
}

static void every_precision_has_its_tolerance(void **state)
{
    (void)state;
    const crnn_gru_shape shape = {.T = 12, .B = 5, .I = 9, .H = 33, .V = 13, .training = true};
    for (int p = CRNN_FP32; p <= CRNN_BF16; p++) {
        crnn_rnn_choice choice = {0};
        crnn_cuda_of(be)->config.precision = (crnn_precision)p;
        assert_true(crnn_rnn_measure(crnn_cuda_of(be), &choice, crnn_gru_ways, CRNN_GRU_WAYS, &shape, 1));
        for (int i = 0; i < choice.count; i++) {
            const crnn_rnn_candidate *c = &choice.candidates[i];
            print_message("precision %d, %s: differs by %.1e %s\n", p, c->name, c->difference, c->why);
            assert_true(!c->why[0] || strstr(c->why, "NOT_SUPPORTED"));
        }
    }
}

/* --- what is remembered ---------------------------------------------------------------------------------------------- */

static crnn_rnn_choice a_table(void)
{
    crnn_rnn_choice choice = {.count = CRNN_GRU_WAYS};
    for (int i = 0; i < CRNN_GRU_WAYS; i++) {
        crnn_rnn_candidate *c = &choice.candidates[i];
        snprintf(c->name, sizeof c->name, "%s", crnn_gru_ways[i].name);
        if (i == 2)
            snprintf(c->why, sizeof c->why, "does not fit: \"so\"");
        else
            c->forward_seconds = 0.1 / (i + 1), c->backward_seconds = 0.25, c->difference = 1e-7 * i;
    }
    return choice;
}

/* The one file that is kept. */
static const char *kept_file(void)
{
    static char path[600];
    FILE *list = popen("ls -d \"$XDG_CACHE_HOME\"/crnn-gpu/rnn-*.json", "r");
    assert_non_null(list);
    assert_non_null(fgets(path, sizeof path, list));
    pclose(list);
    path[strcspn(path, "\n")] = 0;
    return path;
}

static void a_table_is_found_again_by_its_key(void **state)
{
    (void)state;
    crnn_rnn_choice kept = a_table(), found = {0};
    assert_false(crnn_rnn_recall(&found, "a key"));
    assert_int_equal(crnn_rnn_remember(&kept, "a key", NULL), CRNN_OK);
    assert_true(crnn_rnn_recall(&found, "a key"));
    assert_int_equal(found.count, kept.count);
    for (int i = 0; i < kept.count; i++) {
        assert_string_equal(found.candidates[i].name, kept.candidates[i].name);
        assert_string_equal(found.candidates[i].why, kept.candidates[i].why);
        assert_true(found.candidates[i].forward_seconds == kept.candidates[i].forward_seconds);
        assert_true(found.candidates[i].difference == kept.candidates[i].difference);
    }
    assert_false(crnn_rnn_recall(&found, "another key"));
    assert_int_equal(found.count, 0);
    kept.candidates[0].forward_seconds = 7; /* a later table takes its place */
    assert_int_equal(crnn_rnn_remember(&kept, "a key", NULL), CRNN_OK);
    assert_true(crnn_rnn_recall(&found, "a key"));
    assert_true(found.candidates[0].forward_seconds == 7);
}

static void a_damaged_table_is_as_good_as_none(void **state)
{
    (void)state;
    crnn_rnn_choice kept = a_table(), found;
    static const char *const damages[] = {
        "truncate -s -3 \"$F\"",
        "truncate -s 0 \"$F\"",
        "sed -i 's/\"format\": \"crnn/\"format\": \"c/' \"$F\"",
        "sed -i 's/\"a key\"/\"a ley\"/' \"$F\"",
        "sed -i 's/\"loop\"/\"lop\"/' \"$F\"",
        "sed -i 's/\"name\": \"loop\"/\"name\": 3/' \"$F\"",
        "sed -i 's/\"why\"/\"Why\"/' \"$F\"",
        "sed -i 's/\"backward_seconds\": 0.25/\"backward_seconds\": -0.25/' \"$F\"",
        "sed -i 's/\"backward_seconds\": 0.25/\"backward_seconds\": \"x\"/' \"$F\"",
        "sed -i 's/\"why\": \"\"/\"why\": \"wrong\"/' \"$F\"", /* none serves */
        "sed -i 's/\"candidates\"/\"others\"/' \"$F\"",
        "head -c 70000 /dev/zero | tr '\\0' ' ' >>\"$F\"",
        "rm \"$F\"; mkfifo \"$F\"",
        "rm \"$F\"; mkdir \"$F\"",
        "rm \"$F\"",
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        scratch_shell(folder, "rm -rf crnn-gpu/*");
        assert_int_equal(crnn_rnn_remember(&kept, "a key", NULL), CRNN_OK);
        assert_true(crnn_rnn_recall(&found, "a key"));
        assert_int_equal(scratch_shell(folder, "F='%s'; %s", kept_file(), damages[i]), 0);
        if (crnn_rnn_recall(&found, "a key"))
            fail_msg("taken all the same after: %s", damages[i]);
    }
}

static crnn_rnn_choice choose_with(const char *rnn_algo, bool measure_again, bool training)
{
    crnn_rnn_choice choice;
    crnn_gru_shape shapes[LAYERS];
    crnn_error err = {0};
    crnn_backend *own = open_with(rnn_algo, measure_again);
    memcpy(shapes, layers, sizeof shapes);
    for (int i = 0; i < LAYERS; i++)
        shapes[i].training = training;
    own->ops->gru_choose(own, &choice, shapes, LAYERS);
    crnn_gru *g = own->ops->gru_new(own, &shapes[0]);
    if (own->ops->sync(own, &err) != CRNN_OK)
        fail_msg("%s", err.text);
    assert_ptr_equal(g->way, crnn_cuda_way(choice.name, NULL)->way);
    own->ops->gru_free(g);
    own->ops->close(own);
    return choice;
}

/* Makes way the fastest of the table that is kept. */
static void prefer(const char *way)
{
    assert_int_equal(scratch_shell(folder,
                                   "awk -v way='\"%s\"' '/\"name\":/ { ours = index($0, way) } /_seconds\":/ "
                                   "{ sub(/: .*/, ours ? \": 1e-9,\" : \": 1,\") } { print }' '%s' >new && mv new '%s'",
                                   way, kept_file(), kept_file()),
                     0);
}

static void what_was_measured_once_is_taken_from_then_on(void **state)
{
    (void)state;
    crnn_rnn_choice choice = choose_with("auto", false, true);
    assert_int_equal(choice.reason, CRNN_RNN_MEASURED);
    assert_int_equal(choice.count, CRNN_GRU_WAYS);
    assert_string_equal(choice.note, "");
    for (int i = 0; i < CRNN_GRU_WAYS; i++) {
        prefer(crnn_gru_ways[i].name);
        cusim_reset_calls();
        choice = choose_with(NULL, false, true);
        assert_int_equal(choice.reason, CRNN_RNN_REMEMBERED);
        assert_string_equal(choice.name, crnn_gru_ways[i].name);
        assert_int_equal(cusim_calls("cudaStreamBeginCapture"), 0);
    }
    choice = choose_with("auto", true, true);
    assert_int_equal(choice.reason, CRNN_RNN_MEASURED);
    assert_true(choice.candidates[CRNN_GRU_WAYS - 1].forward_seconds > 1e-9);
    choice = choose_with("auto", false, true); /* and that is what is kept now */
    assert_true(choice.candidates[CRNN_GRU_WAYS - 1].forward_seconds > 1e-9);
}

static void what_is_asked_for_is_not_measured(void **state)
{
    (void)state;
    for (int i = 0; i < CRNN_GRU_WAYS; i++) {
        crnn_rnn_choice choice = choose_with(crnn_gru_ways[i].name, false, true);
        assert_int_equal(choice.reason, CRNN_RNN_ASKED_FOR);
        assert_string_equal(choice.name, crnn_gru_ways[i].name);
        assert_int_equal(choice.count, 0);
    }
    crnn_rnn_choice choice = choose_with("auto", false, false);
    assert_int_equal(choice.reason, CRNN_RNN_BY_RULE);
    assert_string_equal(choice.name, "cudnn");
    assert_int_equal(access(caches, F_OK), -1);
}

static void other_shapes_and_precisions_are_measured_for_themselves(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    choose_with("auto", false, true);
    be->ops->gru_choose(be, &choice, layers, 1); /* one layer instead of three */
    assert_int_equal(choice.reason, CRNN_RNN_MEASURED);
    crnn_cuda_of(be)->config.rnn_algo = "auto";
    crnn_cuda_of(be)->config.precision = CRNN_TF32;
    be->ops->gru_choose(be, &choice, layers, LAYERS);
    assert_int_equal(choice.reason, CRNN_RNN_MEASURED);
    assert_int_equal(scratch_shell(folder, "test $(ls crnn-gpu | wc -l) = 3"), 0);
}

static void what_cannot_be_kept_is_told_once_and_measured_again(void **state)
{
    (void)state;
    scratch_text(folder, "crnn-gpu", "a file where a folder should be");
    for (int i = 0; i < 2; i++) {
        crnn_rnn_choice choice = choose_with("auto", false, true);
        assert_int_equal(choice.reason, CRNN_RNN_MEASURED);
        expect_words(choice.note, "cannot be kept for the next time");
        assert_null(strchr(choice.note, '\n'));
    }
    setenv("XDG_CACHE_HOME", "relative", 1); /* which the specification ignores */
    char *home = strdup(getenv("HOME") ? getenv("HOME") : "/");
    unsetenv("HOME");
    crnn_rnn_choice choice = choose_with("auto", false, true);
    expect_words(choice.note, "neither XDG_CACHE_HOME nor HOME");
    setenv("HOME", folder, 1);
    choice = choose_with("auto", false, true);
    assert_string_equal(choice.note, "");
    assert_int_equal(scratch_shell(folder, "test -f .cache/crnn-gpu/rnn-*.json"), 0);
    setenv("HOME", home, 1);
    free(home);
}

static void where_none_of_ours_serves_it_is_said(void **state)
{
    (void)state;
    choose_with("auto", false, true);
    assert_int_equal(
        scratch_shell(
            folder,
            "awk '/\"name\":/ { ours = /\"(loop|persist|persist-cluster|persist-words)\"/ } ours && /\"why\":/ "
            "{ sub(/\"\"/, \"\\\"it does not fit\\\"\") } { print }' '%s' >new && mv new '%s'",
            kept_file(), kept_file()),
        0);
    crnn_rnn_choice choice = choose_with("auto", false, true);
    assert_int_equal(choice.reason, CRNN_RNN_REMEMBERED);
    expect_words(choice.note, "none of our own ways");
    expect_words(choice.note, "it does not fit");
}

static void without_cudnns_way_nothing_is_compared(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    crnn_error err = {0};
    const crnn_gru_shape too_long = {.T = 70000, .B = 1, .I = 1, .H = 1, .training = true};
    be->ops->gru_choose(be, &choice, &too_long, 1);
    assert_string_equal(choice.name, "cudnn");
    expect_words(choice.note, "could not be compared");
    assert_null(be->ops->gru_new(be, &too_long));
    assert_int_equal(be->ops->sync(be, &err), CRNN_ERR_ARGUMENT);
    expect_words(err.text, "--rnn-algo loop");
    assert_int_equal(access(caches, F_OK), -1);
}

static void a_layer_larger_than_the_gpu_is_not_tried(void **state)
{
    (void)state;
    crnn_rnn_choice choice;
    crnn_error err = {0};
    const crnn_gru_shape huge = {.T = 1 << 24, .B = 1 << 24, .I = 1 << 24, .H = 1 << 24, .training = true};
    be->ops->gru_choose(be, &choice, &huge, 1);
    assert_string_equal(choice.name, "cudnn");
    assert_null(be->ops->gru_new(be, &huge));
    assert_int_equal(be->ops->sync(be, &err), CRNN_ERR_MEMORY);
    expect_words(err.text, "larger than the GPU's memory");
    assert_int_equal(access(caches, F_OK), -1);
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

static void a_backend_is_opened_once(void **state)
{
    (void)state;
    crnn_device_config config = crnn_device_config_default();
    char note[300];
    cusim_reset_calls();
    crnn_backend *own = crnn_backend_open(&config, note, sizeof note, NULL);
    assert_non_null(own);
    assert_int_equal(cusim_calls("cudnnCreate"), 1);
    expect_words(note, "computing on the GPU (Simulated device");
    own->ops->close(own);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_fastest_that_serves_is_chosen),
        TEST(a_wrong_way_is_refused),
        TEST(a_way_without_memory_is_passed_over_and_not_remembered),
        TEST(a_way_that_gives_up_is_passed_over_and_not_remembered),
        TEST(a_device_that_is_lost_meanwhile_is_a_failure),
        TEST(every_precision_has_its_tolerance),
        TEST(a_table_is_found_again_by_its_key),
        TEST(a_damaged_table_is_as_good_as_none),
        TEST(what_was_measured_once_is_taken_from_then_on),
        TEST(what_is_asked_for_is_not_measured),
        TEST(other_shapes_and_precisions_are_measured_for_themselves),
        TEST(what_cannot_be_kept_is_told_once_and_measured_again),
        TEST(where_none_of_ours_serves_it_is_said),
        TEST(without_cudnns_way_nothing_is_compared),
        TEST(a_layer_larger_than_the_gpu_is_not_tried),
        TEST(a_backend_is_opened_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
