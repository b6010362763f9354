/* A bad loss does not poison a run: NaN and Inf are put into losses, gradients, weights and data at random steps, through the door to the device. */
#include "kernels/backend.h"
#include "support/scratch.h"
#include "trust/trust.h"
#include <crnn/crnn.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *dir;
static crnn_corpus *corpus;

static int begin(void **state)
{
    (void)state;
    crnn_text_options how = crnn_text_options_default();
    dir = trust_scratch();
    trust_make_whole(&(trust_whole){0}, dir, 15);
    how.val_split = 0.1;
    const char *file = scratch_path(dir, "a.txt");
    corpus = crnn_corpus_read(&file, 1, NULL, 0, &how, NULL);
    return corpus == NULL;
}

static int end(void **state)
{
    (void)state;
    crnn_corpus_free(corpus);
    scratch_remove(dir);
    return 0;
}

/* --- the injection ---------------------------------------------------------------------------------------------------------- */

typedef enum {
    LOSS,
    GRADIENTS,
    WEIGHTS,
    DATA,
    WORSE
} place; /* WORSE: all weights a thousand times as large, which is finite */

/* At the steps first..last a value at one place is bad. Weights that were made bad stay so, until they are exchanged. */
static struct {
    place place;
    int64_t first, last, step; /* step: the one under way */
    uint64_t draw;
    float value;
    bool training; /* a training step, not an evaluation */
} plan;

static bool stop_if_worse; /* the option of the runs that follow */
static const crnn_backend_ops *real_ops;
static crnn_backend_ops ops;

static bool due(place where)
{
    return plan.training && plan.place == where && plan.step >= plan.first && plan.step <= plan.last;
}

/* One that is in use: what lies between two tensors is 0 and read by nobody. */
static void spoil(float *values, int64_t n)
{
    int64_t at = (int64_t)(plan.draw % (uint64_t)n);
    for (int64_t i = 0; i < n && values[at] == 0; i++)
        at = (at + 1) % n;
    values[at] = plan.value;
}

/* The first op of a training step. */
static void next_step(crnn_backend *be, crnn_step_inputs *inputs, int64_t *starts, const crnn_step_queue *queue,
                      int32_t B)
{
    real_ops->next_step(be, inputs, starts, queue, B);
    plan.step = (int64_t)inputs->step;
    plan.training = true;
}

static void gru_forward(crnn_gru *g, float *hs, float *h_last, const crnn_gru_input *in, const float *h_first,
                        const float *w)
{
    real_ops->gru_forward(g, hs, h_last, in, h_first, w);
    if (due(DATA))
        spoil(hs, 8); /* what the layer made of the first characters */
}

static void softmax_xent(crnn_backend *be, crnn_step_numbers *numbers, float *z, const uint16_t *y, int64_t n,
                         int32_t V, float scale)
{
    int64_t row = (int64_t)(plan.draw % (uint64_t)n);
    if (due(LOSS)) /* -Inf where the right character is: an infinite loss; the others: NaN */
        z[row * V + y[row]] = plan.value;
    real_ops->softmax_xent(be, numbers, z, y, n, V, scale);
}

static void norm(crnn_backend *be, crnn_step_numbers *numbers, const float *g, int64_t n)
{
    if (due(GRADIENTS))
        spoil((float *)(uintptr_t)g, n);
    real_ops->norm(be, numbers, g, n);
}

static void adam(crnn_backend *be, float *w, float *m, float *v, const float *g, int64_t n,
                 const crnn_step_inputs *inputs, const crnn_step_numbers *numbers)
{
    real_ops->adam(be, w, m, v, g, n, inputs, numbers);
    if (due(WEIGHTS)) /* they are bad from the next step on */
        spoil(w, n);
    for (int64_t i = 0; due(WORSE) && i < n; i++)
        w[i] *= 1000;
    plan.training = false;
}

crnn_backend *__real_crnn_backend_open(const crnn_device_config *config, char *note, int size, crnn_error *err);
crnn_backend *__wrap_crnn_backend_open(const crnn_device_config *config, char *note, int size, crnn_error *err);

crnn_backend *__wrap_crnn_backend_open(const crnn_device_config *config, char *note, int size, crnn_error *err)
{
    crnn_backend *be = __real_crnn_backend_open(config, note, size, err);
    if (!be)
        return NULL;
    real_ops = be->ops;
    ops = *real_ops;
    ops.next_step = next_step;
    ops.gru_forward = gru_forward;
    ops.softmax_xent = softmax_xent;
    ops.norm = norm;
    ops.adam = adam;
    be->ops = &ops;
    return be;
}

/* --- a run and what it told ------------------------------------------------------------------------------------------------- */

typedef struct {
    crnn_trainer *trainer;
    crnn_status status;
    int notes, skip_notes, return_notes, unsound_saves;
    int64_t saved;
    char error[sizeof((crnn_error *)0)->text];
} story;

static void on_note(void *user, const char *sentence)
{
    story *s = user;
    s->notes++;
    s->skip_notes += strstr(sentence, ": skipped") != NULL;
    s->return_notes += strstr(sentence, "back to the weights of step") != NULL;
}

static void on_saved(void *user, const char *path, int64_t step)
{
    story *s = user;
    crnn_checkpoint *ckpt = crnn_checkpoint_read(path, NULL); /* fails where a value is not finite */
    s->unsound_saves += ckpt == NULL;
    s->saved = step;
    crnn_checkpoint_free(ckpt);
}

enum { STEPS = 460, EVERY = 20 };

static void train(story *s, int64_t steps)
{
    crnn_train_options o = crnn_train_options_default();
    crnn_train_hooks hooks = {.user = s, .note = on_note, .saved = on_saved};
    crnn_error err = {CRNN_OK, ""};
    o.B = 2;
    o.T = 8;
    o.E = 3;
    o.H = 6;
    o.epochs = 1000;
    o.max_steps = steps;
    o.checkpoint_steps = EVERY;
    o.lr = 0.01F;
    o.stop_if_worse = stop_if_worse;
    o.device.kind = CRNN_DEVICE_CPU;
    o.device.threads = 1;
    *s = (story){.saved = -1};
    plan.step = 0;
    plan.training = false;
    assert_int_equal(scratch_shell(dir, "rm -rf run"), 0);
    s->trainer = crnn_trainer_new(scratch_path(dir, "run"), corpus, &o, &hooks, &err);
    s->status = s->trainer ? crnn_trainer_run(s->trainer, &err) : err.status;
    snprintf(s->error, sizeof s->error, "%s", err.text);
    crnn_trainer_free(s->trainer);
}

/* What the history holds of a kind; *first becomes the first of them (json_decref it), or NULL. */
static int events(const char *kind, json_t **first)
{
    char line[1200];
    int count = 0;
    *first = NULL;
    FILE *file = fopen(scratch_path(dir, "run/history.jsonl"), "r");
    while (file && fgets(line, sizeof line, file)) {
        json_t *object = json_loads(line, 0, NULL);
        if (object && strcmp(json_string_value(json_object_get(object, "event")), kind) == 0 && count++ == 0)
            *first = json_incref(object);
        json_decref(object);
    }
    if (file)
        fclose(file);
    return count;
}

static int64_t number_of(const json_t *event, const char *key)
{
    return event ? (int64_t)json_integer_value(json_object_get(event, key)) : -1;
}

static void draw_plan(long i, bool with_weights)
{
    static const float values[] = {NAN, INFINITY, -INFINITY};
    static const place without[] = {LOSS, GRADIENTS, DATA};
    plan.place = with_weights ? WEIGHTS : without[i % 3];
    plan.value = values[i / 3 % 3];
    plan.draw = trust_random(1 << 20);
    plan.first = 1 + (int64_t)trust_random(STEPS - 150);
    plan.last = plan.first;
}

/* --- tests ------------------------------------------------------------------------------------------------------------------ */

/* One bad step, or two: each is found in that very step and skipped; nothing else changes. */
static void a_bad_step_is_found_at_once_and_skipped(void **state)
{
    (void)state;
    tally t = {.promise = "A bad step (NaN, Inf in loss, gradients or data) is skipped, and told once each"};
    for (long i = 0; i < trust_pick(36, 100); i++) {
        story s;
        json_t *skip, *step;
        draw_plan(i, false);
        plan.last += (int64_t)trust_random(2);
        train(&s, plan.last + 10);
        int64_t bad = plan.last - plan.first + 1;
        int skips = events("skip", &skip), steps = events("step", &step);
        crnn_checkpoint *last = crnn_checkpoint_find(scratch_path(dir, "run"), false, NULL, NULL, NULL, NULL);
        tally_trial(&t,
                    s.status == CRNN_OK && s.unsound_saves == 0 && skips == bad && s.skip_notes == bad &&
                        s.return_notes == 0 && number_of(skip, "step") == plan.first && steps == plan.last + 10 - bad &&
                        last && last->count == plan.last + 10 - bad && last->step == plan.last + 10,
                    "place %d, value %g, steps %lld to %lld: %d skips from step %lld, %d told; %s", plan.place,
                    (double)plan.value, (long long)plan.first, (long long)plan.last, skips,
                    (long long)number_of(skip, "step"), s.skip_notes, s.error);
        crnn_checkpoint_free(last);
        json_decref(skip);
        json_decref(step);
    }
    tally_end(&t);
}

/* The weights are bad: whether a loss shows it or a save, they are exchanged for sound ones of a hundred steps before, at half the rate. */
static void bad_weights_are_exchanged_for_those_of_a_hundred_steps_before(void **state)
{
    (void)state;
    tally t = {.promise =
                   "Bad weights: back at least 100 steps, half the rate, told once, no bad checkpoint published"};
    for (long i = 0; i < trust_pick(36, 100); i++) {
        story s;
        json_t *back, *skip;
        draw_plan(i, true);
        train(&s, STEPS);
        int returns = events("return", &back), skips = events("skip", &skip);
        int64_t at = number_of(back, "step"), to = number_of(back, "to_step"),
                far = at >= 100 + EVERY ? 100
                      : at < 100        ? 0
                                        : at - EVERY;
        crnn_checkpoint *last = crnn_checkpoint_find(scratch_path(dir, "run"), false, NULL, NULL, NULL, NULL);
        tally_trial(&t,
                    s.status == CRNN_OK && s.unsound_saves == 0 && returns == 1 && s.return_notes == 1 &&
                        s.skip_notes == skips && at > plan.first && at <= plan.first + 4 * EVERY + 3 &&
                        to <= at - far && to <= plan.first && last && last->step == STEPS && last->returns == 1 &&
                        last->rate_factor == 0.5,
                    "weight %llu bad with %g after step %lld: status %d, %d skips, %d returns, from %lld to %lld; %s",
                    (unsigned long long)plan.draw, (double)plan.value, (long long)plan.first, (int)s.status, skips,
                    returns, (long long)at, (long long)to, s.error);
        crnn_checkpoint_free(last);
        json_decref(back);
        json_decref(skip);
    }
    tally_end(&t);
}

/* From some step on every step is bad: three returns, then an end that says so. */
static void a_run_that_stays_bad_gives_up(void **state)
{
    (void)state;
    tally t = {.promise = "A run that stays bad gives up after three returns (status 5), its last checkpoints sound"};
    for (long i = 0; i < trust_pick(24, 100); i++) {
        story s;
        json_t *event;
        draw_plan(i, i % 4 == 3);
        plan.last = INT64_MAX;
        train(&s, STEPS);
        int passed = 0, returns = events("return", &event);
        bool sound = trust_newest(scratch_path(dir, "run"), &passed) >= 0 && passed == 0;
        tally_trial(
            &t, s.status == CRNN_ERR_DIVERGED && returns == 3 && s.return_notes == 3 && sound && s.unsound_saves == 0,
            "place %d, value %g from step %lld: status %d, %d returns; %s", plan.place, (double)plan.value,
            (long long)plan.first, (int)s.status, returns, s.error);
        json_decref(event);
    }
    tally_end(&t);
}

/* The program's own status: a decay so strong that the weights grow beyond all floats. */
static void the_program_ends_with_5(void **state)
{
    (void)state;
    trial t = {0};
    trial_do(&t, dir, "train", "a.txt", TRUST_TINY, "--max-steps", "100", "--lr", "1000", "--weight-decay", "1000",
             "--out", "huge");
    if (t.status != 5 || !strstr(t.words, "diverged"))
        fail_msg("status %d: %s", t.status, t.words);
    trial_free(&t);
}

/* --- --stop-if-worse -------------------------------------------------------------------------------------------------------- */

static void a_run_that_gets_worse_is_left_alone_unless_it_was_asked(void **state)
{
    (void)state;
    story s;
    plan.place = WORSE;
    plan.first = plan.last = 300; /* in the fifth epoch of 66 steps */
    train(&s, STEPS);
    assert_int_equal(s.status, CRNN_OK);
    stop_if_worse = true;
    train(&s, STEPS);
    assert_int_equal(s.status, CRNN_ERR_DIVERGED);
    assert_non_null(strstr(s.error, "got worse"));
    int passed;
    assert_true(trust_newest(scratch_path(dir, "run"), &passed) <= 66 * 5); /* what came after is not published */
    plan.first = plan.last = STEPS + 1;
    train(&s, STEPS); /* and one that does not is left alone too */
    assert_int_equal(s.status, CRNN_OK);
    stop_if_worse = false;
}

/* The best of the last epochs is known to a run that goes on, too: the program is given a checkpoint that is much worse than it was. */
static void so_is_one_that_goes_on(void **state)
{
    (void)state;
    trial t = {0};
    char name[80];
    const char *const option[] = {"--stop-if-worse", "--json"};
    snprintf(name, sizeof name, "ckpt-%010d.safetensors", 222); /* three epochs of 74 steps */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scratch_shell(dir, "rm -rf worse"), 0);
        trial_do(&t, dir, "train", "a.txt", "--units", "6", "--embedding", "3", "--batch", "2", "--length", "8",
                 "--threads", "1", "--device", "cpu", "--val-split", "0", "--epochs", "3", "--lr", "0.01", option[i],
                 "--out", "worse");
        assert_int_equal(t.status, 0);
        const char *folder = scratch_path(dir, "worse/checkpoints");
        crnn_checkpoint *ckpt = crnn_checkpoint_read(scratch_path(folder, name), NULL);
        assert_non_null(ckpt);
        for (int64_t k = 0; k < crnn_model_parameters(&ckpt->sizes); k++)
            ckpt->weights[k] *= 1000;
        assert_int_equal(crnn_checkpoint_write(ckpt, folder, name, NULL, NULL, NULL), CRNN_OK);
        crnn_checkpoint_free(ckpt);
        trial_do(&t, dir, "train", "--resume", "worse", "--epochs", "4");
        if (t.status != (i == 0 ? 5 : 0))
            fail_msg("%s: status %d: %s", option[i], t.status, t.words);
    }
    trial_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_step_is_found_at_once_and_skipped),
        cmocka_unit_test(bad_weights_are_exchanged_for_those_of_a_hundred_steps_before),
        cmocka_unit_test(a_run_that_stays_bad_gives_up),
        cmocka_unit_test(the_program_ends_with_5),
        cmocka_unit_test(a_run_that_gets_worse_is_left_alone_unless_it_was_asked),
        cmocka_unit_test(so_is_one_that_goes_on),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
