#include "support/cmocka.h"

#include "host/base/files.h"
#include "host/base/memory.h"
#include "support/device.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 6 steps an epoch in streams of 2 rows of 8, 5 in windows; 12 characters held out. */
static const char TEXT[] = "the quick brown fox jumps over the lazy dog; a lazy dog sleeps under the brown fox; "
                           "over and over the quick dogs jump.";

static char *dir;
static crnn_corpus *corpus;

static int begin(void **state)
{
    (void)state;
    crnn_text_options how = crnn_text_options_default();
    how.val_split = 0.1;
    dir = scratch_new();
    corpus = crnn_corpus_from_text(TEXT, strlen(TEXT), &how, NULL);
    return corpus == NULL;
}

static int end(void **state)
{
    (void)state;
    crnn_corpus_free(corpus);
    scratch_remove(dir);
    return 0;
}

static crnn_train_options tiny(void)
{
    crnn_train_options o = crnn_train_options_default();
    o.B = 2;
    o.T = 8;
    o.E = 4;
    o.H = 6;
    o.epochs = 2;
    o.lr = 0.01F;
    o.keep = 0;
    o.steps_at_once = 1; /* hooks of most tests act after one step and not another */
    o.device = test_device();
    o.device.threads = 1;
    return o;
}

/* --- what a test sees of a run -------------------------------------------------------------------------------------- */

typedef struct {
    crnn_trainer *trainer;
    int64_t stop_at, save_at;      /* steps after which the hook asks; 0: never */
    int64_t poison_at, poison_for; /* after this step the weights (or the state, for so many steps) hold a NaN */
    bool poison_again;             /* the weights, whenever they are sound again */
    int64_t hide_at;               /* after this step the directory of the checkpoints goes away */
    bool show;                     /* and comes back with the first note */
    float *sound;                  /* a state to put back */
    const char *run;
    int64_t steps, epochs, saves, last_saved, notes;
    double last_val;
    char note[640];
} watch;

static void move_checkpoints(const watch *w, const char *from, const char *to)
{
    assert_int_equal(rename(scratch_path(w->run, from), scratch_path(w->run, to)), 0);
}

static void on_note(void *user, const char *sentence)
{
    watch *w = user;
    w->notes++;
    snprintf(w->note, sizeof w->note, "%s", sentence);
    if (w->show)
        move_checkpoints(w, "hidden", "checkpoints");
    w->show = false;
}

static void poison_weights(watch *w)
{
    crnn_model *model = crnn_trainer_model(w->trainer);
    int64_t n = crnn_model_parameters(&crnn_model_configuration(model)->sizes);
    float *weights = malloc((size_t)n * sizeof *weights);
    assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, weights, NULL), CRNN_OK);
    weights[n - 1] = NAN;
    assert_int_equal(crnn_model_set(model, CRNN_WEIGHTS, weights, NULL), CRNN_OK);
    free(weights);
}

static void poison_state(watch *w, bool back)
{
    crnn_model *model = crnn_trainer_model(w->trainer);
    const crnn_model_config *c = crnn_model_configuration(model);
    size_t n = (size_t)c->sizes.L * (size_t)c->B * (size_t)c->sizes.H;
    if (!back) {
        w->sound = malloc(n * sizeof *w->sound);
        assert_int_equal(crnn_model_get_state(model, w->sound, NULL), CRNN_OK);
        float *bad = malloc(n * sizeof *bad);
        for (size_t i = 0; i < n; i++)
            bad[i] = NAN;
        assert_int_equal(crnn_model_set_state(model, bad, NULL), CRNN_OK);
        free(bad);
    } else {
        assert_int_equal(crnn_model_set_state(model, w->sound, NULL), CRNN_OK);
        free(w->sound);
        w->sound = NULL;
    }
}

static void on_progress(void *user, const crnn_progress *p)
{
    watch *w = user;
    w->steps++;
    assert_int_equal(p->step, (p->epoch - 1) * p->steps_per_epoch + p->position);
    assert_true(p->position >= 1 && p->position <= p->steps_per_epoch);
    assert_true(p->chars_per_second > 0 && p->seconds_left >= 0);
    if (w->poison_at && w->poison_for && p->step == w->poison_at + w->poison_for)
        poison_state(w, true);
    if (p->step == w->poison_at && w->poison_for)
        poison_state(w, false);
    else if (w->poison_at && !w->poison_for && (p->step == w->poison_at || (w->poison_again && isfinite(p->loss))))
        poison_weights(w);
    if (p->step == w->hide_at)
        move_checkpoints(w, "checkpoints", "hidden");
}

static void on_epoch(void *user, const crnn_epoch_report *report)
{
    watch *w = user;
    w->epochs++;
    w->last_val = report->val_loss;
}

static void on_saved(void *user, const char *path, int64_t step)
{
    watch *w = user;
    assert_int_equal(access(path, R_OK), 0);
    w->saves++;
    w->last_saved = step;
}

static int on_stop(void *user)
{
    watch *w = user;
    int64_t step = crnn_trainer_step(w->trainer);
    return step == w->stop_at ? 1 : step == w->save_at ? 2 : 0;
}

static crnn_train_hooks hooks_of(watch *w)
{
    return (crnn_train_hooks){w, on_note, on_progress, on_epoch, on_saved, on_stop};
}

static crnn_status go(watch *w, crnn_error *err)
{
    crnn_status status = w->trainer ? crnn_trainer_run(w->trainer, err) : err->status;
    crnn_trainer_free(w->trainer);
    w->trainer = NULL;
    return status;
}

/* A new run in dir/name, to its end or where w stops it. */
static crnn_status start(const char *name, const crnn_train_options *options, watch *w)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_train_hooks hooks = hooks_of(w);
    char *run = crnn_format("%s/%s", dir, name);
    w->run = run;
    w->trainer = crnn_trainer_new(run, corpus, options, &hooks, &err);
    if (!w->trainer)
        print_message("%s\n", err.text);
    crnn_status status = go(w, &err);
    free(run);
    return status;
}

static crnn_status resume(const char *name, const crnn_train_options *options, watch *w)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_train_hooks hooks = hooks_of(w);
    char *run = crnn_format("%s/%s", dir, name);
    crnn_checkpoint *ckpt = crnn_checkpoint_find(run, false, NULL, on_note, w, &err);
    if (!ckpt)
        fail_msg("%s", err.text);
    w->trainer = crnn_trainer_resume(run, ckpt, corpus, options, &hooks, &err);
    crnn_checkpoint_free(ckpt);
    if (!w->trainer)
        print_message("%s\n", err.text);
    crnn_status status = go(w, &err);
    free(run);
    return status;
}

static const char *in_run(const char *name, const char *file)
{
    return scratch_path(scratch_path(dir, name), file);
}

static const char *checkpoint_path(const char *name, int64_t step)
{
    char file[64];
    snprintf(file, sizeof file, "checkpoints/ckpt-%010lld.safetensors", (long long)step);
    return in_run(name, file);
}

static bool has_checkpoint(const char *name, int64_t step)
{
    return access(checkpoint_path(name, step), F_OK) == 0;
}

static char *contents(const char *path, size_t *size)
{
    crnn_error err;
    char *text = crnn_read_file(path, 1 << 24, size, &err);
    if (!text)
        fail_msg("%s", err.text);
    return text;
}

/* The history without what a clock says. */
static char *history(const char *name)
{
    size_t size;
    char *text = contents(in_run(name, "history.jsonl"), &size), *to = text;
    for (char *from = text; *from;) {
        size_t line = strcspn(from, "\n") + 1;
        char *clock = memmem(from, line, ",\"seconds\":", 11);
        size_t kept = clock ? (size_t)(clock - from) : line - 1;
        memmove(to, from, kept);
        to += kept;
        *to++ = '\n';
        from += line;
    }
    *to = '\0';
    return text;
}

static void same_history(const char *a, const char *b)
{
    char *x = history(a), *y = history(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

static void same_checkpoint(const char *a, const char *b, int64_t step)
{
    size_t m, n;
    char *x = contents(checkpoint_path(a, step), &m), *y = contents(checkpoint_path(b, step), &n);
    assert_int_equal(m, n);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static crnn_checkpoint *checkpoint(const char *name, int64_t step)
{
    crnn_error err;
    crnn_checkpoint *ckpt = crnn_checkpoint_read(checkpoint_path(name, step), &err);
    if (!ckpt)
        fail_msg("%s", err.text);
    return ckpt;
}

/* Line `index` among the events of that kind; NULL where there are fewer. The caller decrefs. */
static json_t *event(const char *name, const char *kind, int index)
{
    size_t size;
    char *text = contents(in_run(name, "history.jsonl"), &size), *rest = text;
    json_t *found = NULL;
    for (char *line; !found && (line = strsep(&rest, "\n")) && *line;) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        if (strcmp(json_string_value(json_object_get(object, "event")), kind) == 0 && index-- == 0)
            found = json_incref(object);
        json_decref(object);
    }
    free(text);
    return found;
}

static int count_events(const char *name, const char *kind)
{
    int count = 0;
    for (json_t *object; (object = event(name, kind, count)); count++)
        json_decref(object);
    return count;
}

static double field(const char *name, const char *kind, int index, const char *key)
{
    json_t *object = event(name, kind, index);
    if (!object)
        fail_msg("the history has no %s event %d", kind, index);
    json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    double number = json_number_value(value);
    json_decref(object);
    return number;
}

/* --- continuation --------------------------------------------------------------------------------------------------- */

/* Stops after each step in turn and goes on: the history and every byte of the last checkpoint must be as without the stop. lost: how many
 * checkpoints vanish in between, as in a crash, so that steps are made again. */
static void check_every_position(crnn_train_options *options, int64_t steps, int64_t lost)
{
    watch whole = {0};
    assert_int_equal(start("whole", options, &whole), CRNN_OK);
    assert_int_equal(whole.steps, steps);
    assert_true(has_checkpoint("whole", steps));
    for (int64_t at = 1; at <= steps; at++) { /* at an epoch's end the stop comes before the held-out text */
        char name[32];
        snprintf(name, sizeof name, "stopped-%lld", (long long)at);
        watch first = {.stop_at = at}, second = {0};
        assert_int_equal(start(name, options, &first), CRNN_ERR_STOPPED);
        assert_int_equal(first.last_saved, at);
        assert_int_equal(count_events(name, "epoch"), (at - 1) / (steps / options->epochs));
        for (int64_t i = 0; i < lost && i < at; i++)
            remove(checkpoint_path(name, at - i));
        assert_int_equal(resume(name, options, &second), CRNN_OK);
        assert_true(second.steps >= steps - at);
        same_history("whole", name);
        same_checkpoint("whole", name, steps);
    }
}

static void a_run_over_streams_goes_on_bit_for_bit_from_every_position(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.lr_schedule = CRNN_LR_COSINE;
    o.warmup = 3;
    o.clip = 1;
    check_every_position(&o, 12, 0);
}

static void so_does_one_with_two_layers_and_dropout(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.L = 2;
    o.dropout = 0.3F;
    check_every_position(&o, 12, 0);
}

static void so_does_one_on_two_threads(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0}, first = {.stop_at = 2};
    o.device.threads = 2;
    o.max_steps = 5; /* few: on a busy machine two threads wait for each other longer than they compute */
    assert_int_equal(start("whole", &o, &w), CRNN_OK);
    assert_int_equal(start("stopped", &o, &first), CRNN_ERR_STOPPED);
    assert_int_equal(resume("stopped", &o, &w), CRNN_OK);
    same_checkpoint("whole", "stopped", 5);
}

static void so_does_one_over_windows_that_carries_the_state_over_epochs(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.batching = CRNN_WINDOWS;
    o.shuffle_buffer = 3;
    o.carry_epochs = true;
    o.weight_decay = 0.1F;
    check_every_position(&o, 10, 0);
}

static void so_does_one_over_windows_with_dropout_that_makes_lost_steps_again(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.batching = CRNN_WINDOWS;
    o.L = 2;
    o.dropout = 0.5F;
    o.checkpoint_steps = 2;
    check_every_position(&o, 10, 2);
}

static void a_longer_run_goes_on_from_the_end_of_a_shorter_one(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0};
    o.max_steps = 10;
    o.options_json = "{}"; /* the options of both runs read the same, so that their files may be compared */
    assert_int_equal(start("whole", &o, &w), CRNN_OK);
    o.max_steps = 4; /* within the first epoch */
    assert_int_equal(start("longer", &o, &w), CRNN_OK);
    assert_int_equal(count_events("longer", "epoch"), 1);
    assert_int_equal(field("longer", "epoch", 0, "step"), 4);
    o.max_steps = 10;
    assert_int_equal(resume("longer", &o, &w), CRNN_OK);
    assert_int_equal(count_events("longer", "epoch"), 2); /* that of epoch 1 is whole now */
    same_history("whole", "longer");
    crnn_checkpoint *a = checkpoint("whole", 10), *b = checkpoint("longer", 10);
    size_t bytes = (size_t)crnn_model_parameters(&a->sizes) * sizeof(float);
    assert_memory_equal(a->weights, b->weights, bytes);
    assert_memory_equal(a->v, b->v, bytes);
    crnn_checkpoint_free(a);
    crnn_checkpoint_free(b);
}

static void a_run_that_is_over_says_so_and_changes_nothing(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0}, again = {0};
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    char *before = history("run");
    assert_int_equal(resume("run", &o, &again), CRNN_OK);
    assert_int_equal(again.steps + again.epochs + again.saves, 0);
    char *after = history("run");
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void another_text_or_seed_is_refused(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    crnn_text_options how = crnn_text_options_default();
    crnn_error err;
    watch w = {.stop_at = 3};
    assert_int_equal(start("run", &o, &w), CRNN_ERR_STOPPED);
    crnn_checkpoint *ckpt = checkpoint("run", 3);
    crnn_corpus *other = crnn_corpus_from_text(TEXT, strlen(TEXT), &how, NULL);
    assert_null(crnn_trainer_resume(scratch_path(dir, "run"), ckpt, other, &o, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    o.seed++;
    assert_null(crnn_trainer_resume(scratch_path(dir, "run"), ckpt, corpus, &o, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
    o.seed--;
    o.H++;
    assert_null(crnn_trainer_resume(scratch_path(dir, "run"), ckpt, corpus, &o, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    crnn_corpus_free(other);
    crnn_checkpoint_free(ckpt);
}

/* --- records -------------------------------------------------------------------------------------------------------- */

static void the_history_says_what_happened(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0};
    o.lr = 0.5F;
    o.lr_schedule = CRNN_LR_LINEAR;
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    assert_int_equal(count_events("run", "step"), 12);
    assert_int_equal(count_events("run", "epoch"), 2);
    /* weights of +-0.05 and Glorot's make logits of a few hundredths: the loss is ln V to that */
    assert_true(fabs(field("run", "step", 0, "loss") - log(crnn_vocab_size(crnn_corpus_vocab(corpus)))) < 0.2);
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(field("run", "step", i, "step"), i + 1);
        assert_int_equal(field("run", "step", i, "epoch"), 1);
        /* the shortest decimal of a float, read as a double, differs from the float by half its last place */
        assert_true(fabs(field("run", "step", i, "lr") - 0.5 * (1 - i / 12.0)) < 1e-7);
        assert_true(field("run", "step", i, "grad_norm") > 0);
        sum += field("run", "step", i, "loss");
    }
    double mean = field("run", "epoch", 0, "loss_mean");
    assert_true(fabs(mean - sum / 6) < 1e-12); /* sums of six doubles in another order */
    assert_true(field("run", "epoch", 0, "bpc") == mean / log(2));
    assert_true(field("run", "epoch", 0, "loss_last") == field("run", "step", 5, "loss"));
    assert_true(field("run", "epoch", 1, "val_loss") == w.last_val);
    assert_true(field("run", "epoch", 1, "val_bpc") == w.last_val / log(2));
    double accuracy = field("run", "epoch", 1, "accuracy");
    assert_true(accuracy >= 0 && accuracy <= 1 && fabs(accuracy * 96 - round(accuracy * 96)) < 1e-9);
    assert_true(field("run", "epoch", 1, "seconds") > 0 && field("run", "epoch", 1, "chars_per_second") > 0);
}

static void only_each_fifth_step_is_logged_where_that_was_asked(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0};
    o.log_every = 5;
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    assert_int_equal(count_events("run", "step"), 2);
    assert_int_equal(field("run", "step", 1, "step"), 10);
    assert_int_equal(count_events("run", "epoch"), 2);
}

static void checkpoints_are_where_the_options_put_them(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0};
    o.epochs = 3;
    o.checkpoint_every = 2;
    assert_int_equal(start("epochs", &o, &w), CRNN_OK);
    for (int64_t step = 0; step <= 18; step++)
        assert_int_equal(has_checkpoint("epochs", step), step == 0 || step == 12 || step == 18);
    assert_int_equal(w.saves, 3);
    o.checkpoint_every = 0;
    o.checkpoint_steps = 7;
    assert_int_equal(start("steps", &o, &w), CRNN_OK);
    for (int64_t step = 0; step <= 18; step++)
        assert_int_equal(has_checkpoint("steps", step), step == 0 || step == 7 || step == 14 || step == 18);
}

static void config_json_and_step_0_are_there_before_the_first_step(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    crnn_error err;
    char *run = crnn_format("%s/run", dir);
    crnn_trainer *trainer = crnn_trainer_new(run, corpus, &o, NULL, &err);
    assert_non_null(trainer);
    assert_int_equal(crnn_trainer_step(trainer), 0);
    assert_true(has_checkpoint("run", 0));
    json_t *config = json_load_file(in_run("run", "config.json"), 0, NULL);
    assert_non_null(config);
    json_t *options = json_object_get(config, "options");
    assert_int_equal(json_integer_value(json_object_get(options, "units")), 6);
    assert_int_equal(json_integer_value(json_object_get(options, "length")), 8);
    assert_string_equal(json_string_value(json_object_get(options, "batching")), "streams");
    assert_string_equal(json_string_value(json_object_get(config, "version")), crnn_version());
    assert_string_equal(json_string_value(json_object_get(json_object_get(config, "device"), "kind")),
                        o.device.kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu");
    json_decref(config);
    /* and nobody else gets in */
    assert_null(crnn_trainer_new(run, corpus, &o, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_IO);
    crnn_checkpoint *ckpt = checkpoint("run", 0);
    assert_null(crnn_trainer_resume(run, ckpt, corpus, &o, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_IO);
    crnn_trainer_free(trainer);
    assert_null(crnn_trainer_new(run, corpus, &o, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
    crnn_checkpoint_free(ckpt);
    free(run);
}

static void the_last_checkpoint_is_the_model(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    crnn_error err;
    char *run = crnn_format("%s/run", dir);
    crnn_trainer *trainer = crnn_trainer_new(run, corpus, &o, NULL, &err);
    assert_non_null(trainer);
    assert_int_equal(crnn_trainer_run(trainer, &err), CRNN_OK);
    assert_true(crnn_trainer_done(trainer));
    crnn_checkpoint *ckpt = checkpoint("run", 12);
    size_t n = (size_t)crnn_model_parameters(&ckpt->sizes);
    float *values = malloc(n * sizeof *values);
    const float *const kept[] = {ckpt->weights, NULL, ckpt->m, ckpt->v};
    const crnn_role roles[] = {CRNN_WEIGHTS, CRNN_ADAM_M, CRNN_ADAM_V};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(crnn_model_get(crnn_trainer_model(trainer), roles[i], values, NULL), CRNN_OK);
        assert_memory_equal(values, kept[roles[i]], n * sizeof *values);
    }
    assert_int_equal(crnn_model_get_state(crnn_trainer_model(trainer), values, NULL), CRNN_OK);
    assert_memory_equal(values, ckpt->state, (size_t)(ckpt->sizes.H * ckpt->B) * sizeof *values);
    assert_int_equal(ckpt->step, 12);
    assert_int_equal(ckpt->count, 12);
    assert_int_equal(ckpt->epoch, 2);
    assert_int_equal(ckpt->position, 0);
    assert_memory_equal(ckpt->vocab, crnn_vocab_codes(crnn_corpus_vocab(corpus)), (size_t)ckpt->sizes.V * 4);
    free(values);
    crnn_checkpoint_free(ckpt);
    crnn_trainer_free(trainer);
    free(run);
}

static void the_best_on_held_out_text_outlives_pruning(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {0};
    o.epochs = 12;
    o.lr = 0.1F; /* learns the text by heart at the cost of the rest */
    o.keep = 2;
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    int best = 0;
    for (int epoch = 1; epoch < 12; epoch++)
        if (field("run", "epoch", epoch, "val_loss") < field("run", "epoch", best, "val_loss"))
            best = epoch;
    int64_t step = 6 * (best + 1);
    assert_true(step < 66); /* else this test shows nothing */
    for (int64_t s = 0; s <= 72; s++)
        assert_int_equal(has_checkpoint("run", s), s == step || s == 66 || s == 72);
    crnn_checkpoint *last = checkpoint("run", 72);
    assert_int_equal(last->best_step, step);
    assert_true(last->best_val_loss == field("run", "epoch", best, "val_loss"));
    crnn_checkpoint_free(last);
}

static void the_hook_saves_at_once_and_goes_on(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.save_at = 5};
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    assert_true(has_checkpoint("run", 5));
    assert_int_equal(w.steps, 12);
    assert_int_equal(w.saves, 4); /* 0, 5, 6, 12 */
}

/* --- what goes wrong ------------------------------------------------------------------------------------------------ */

static void one_bad_step_is_skipped(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.poison_at = 3, .poison_for = 2};
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    assert_int_equal(count_events("run", "skip"), 2);
    assert_int_equal(field("run", "skip", 0, "step"), 4);
    assert_int_equal(count_events("run", "step"), 10);
    assert_int_equal(count_events("run", "return"), 0);
    crnn_checkpoint *last = checkpoint("run", 12);
    assert_int_equal(last->count, 10); /* Adam does not count them */
    assert_int_equal(last->step, 12);
    assert_true(last->rate_factor == 1);
    crnn_checkpoint_free(last);
}

static void three_bad_steps_in_a_row_send_the_run_back_at_half_the_rate(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.poison_at = 7};
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    assert_int_equal(count_events("run", "skip"), 3);
    assert_int_equal(count_events("run", "return"), 1);
    assert_int_equal(field("run", "return", 0, "step"), 10);
    assert_int_equal(field("run", "return", 0, "to_step"), 0);
    assert_true(field("run", "return", 0, "rate_factor") == 0.5);
    assert_int_equal(field("run", "step", 7, "step"), 11);
    assert_true(field("run", "step", 7, "lr") == 0.005);
    crnn_checkpoint *last = checkpoint("run", 12);
    assert_int_equal(last->count, 2);
    assert_int_equal(last->returns, 1);
    assert_true(last->rate_factor == 0.5);
    crnn_checkpoint_free(last);
}

static void a_long_run_goes_back_a_hundred_steps_whatever_was_pruned(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.poison_at = 450};
    o.epochs = 80;
    o.checkpoint_every = 0;
    o.checkpoint_steps = 25;
    o.keep = 2;
    o.log_every = 50;
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    double to = field("run", "return", 0, "to_step");
    assert_true(to <= 353 && to >= 150);
    int64_t count = 0;
    for (int64_t step = 0; step <= 480; step++)
        count += has_checkpoint("run", step);
    assert_true(count <= 3); /* two, and the best where it is another */
}

static void a_run_that_always_blows_up_ends_and_leaves_sound_checkpoints(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.poison_at = 3, .poison_again = true};
    o.epochs = 20;
    o.checkpoint_steps = 1;
    assert_int_equal(start("run", &o, &w), CRNN_ERR_DIVERGED);
    assert_int_equal(count_events("run", "return"), 3);
    int found = 0;
    for (int64_t step = 0; step <= 120; step++)
        if (has_checkpoint("run", step)) {
            crnn_checkpoint_free(checkpoint("run", step)); /* fails where a value is not finite */
            found++;
        }
    assert_true(found >= 3);
}

static void one_failed_save_is_a_note_and_the_run_goes_on(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.hide_at = 6, .show = true};
    assert_int_equal(start("run", &o, &w), CRNN_OK);
    assert_true(w.notes >= 1);
    assert_non_null(strstr(w.note, "no checkpoint at step 6"));
    assert_false(has_checkpoint("run", 6));
    assert_true(has_checkpoint("run", 0) && has_checkpoint("run", 12));
}

static void three_failed_saves_in_a_row_end_the_run(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    watch w = {.hide_at = 2};
    o.checkpoint_steps = 2;
    assert_int_equal(start("run", &o, &w), CRNN_ERR_IO);
    assert_true(w.steps < 12);
}

/* --- several steps at once ------------------------------------------------------------------------------------------ */

/* Weights with which every step that has this character to tell gives gradients whose squares are no finite floats, and no other step. */
static void plant(crnn_trainer *trainer, uint32_t character)
{
    crnn_model *model = crnn_trainer_model(trainer);
    const crnn_model_sizes *s = &crnn_model_configuration(model)->sizes;
    const uint32_t *codes = crnn_vocab_codes(crnn_corpus_vocab(corpus));
    int64_t n = crnn_model_parameters(s), bias = n - s->V, kernel = bias - (int64_t)s->H * s->V, id = 0;
    float *weights = malloc((size_t)n * sizeof *weights);
    assert_int_equal(crnn_model_get(model, CRNN_WEIGHTS, weights, NULL), CRNN_OK);
    while (codes[id] != character)
        id++;
    weights[bias + id] = -1e30F; /* never likely, */
    for (int h = 0; h < s->H; h++)
        weights[kernel + h * s->V + id] = 1e25F; /* and where it comes all the same, this is what goes back */
    assert_int_equal(crnn_model_set(model, CRNN_WEIGHTS, weights, NULL), CRNN_OK);
    free(weights);
}

static void run_planted(const char *name, crnn_train_options *options, int64_t at_once, uint32_t character)
{
    watch w = {0};
    crnn_error err = {CRNN_OK, ""};
    crnn_train_hooks hooks = hooks_of(&w);
    options->steps_at_once = at_once;
    w.trainer = crnn_trainer_new(scratch_path(dir, name), corpus, options, &hooks, &err);
    if (!w.trainer)
        fail_msg("%s", err.text);
    plant(w.trainer, character);
    assert_int_equal(go(&w, &err), CRNN_OK);
}

/* Every line of the history and every byte of every checkpoint, however many steps are made at a time. */
static void check_at_once(crnn_train_options *options, uint32_t character, int64_t steps, int skips, int returns)
{
    static const int64_t at_once[] = {2, 7, 64, 0};
    run_planted("one", options, 1, character);
    assert_int_equal(count_events("one", "skip"), skips);
    assert_int_equal(count_events("one", "return"), returns);
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        char name[32];
        snprintf(name, sizeof name, "several-%d", (int)i);
        run_planted(name, options, at_once[i], character);
        same_history("one", name);
        for (int64_t step = 0; step <= steps; step++) {
            assert_int_equal(has_checkpoint("one", step), has_checkpoint(name, step));
            if (has_checkpoint("one", step))
                same_checkpoint("one", name, step);
        }
    }
}

static void several_steps_at_once_give_the_same_bits(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.epochs = 8;
    o.lr_schedule = CRNN_LR_COSINE;
    o.warmup = 3;
    o.clip = 1;
    o.checkpoint_steps = 11;
    o.log_every = 3;
    check_at_once(&o, 'q', 48, 8, 0);
}

static void so_they_do_where_a_step_between_them_is_not_taken(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.L = 2;
    o.dropout = 0.3F;
    o.epochs = 4;
    o.batching = CRNN_WINDOWS;
    o.shuffle_buffer = 5;
    o.checkpoint_steps = 7;
    o.max_steps = 18;
    check_at_once(&o, 'j', 18, 4, 0);
}

static void so_they_do_where_a_run_goes_back(void **state)
{
    (void)state;
    crnn_train_options o = tiny();
    o.epochs = 5;
    o.lr_schedule = CRNN_LR_LINEAR;
    check_at_once(&o, 'o', 30, 3, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_over_streams_goes_on_bit_for_bit_from_every_position),
        TEST(so_does_one_with_two_layers_and_dropout),
        TEST(so_does_one_on_two_threads),
        TEST(so_does_one_over_windows_that_carries_the_state_over_epochs),
        TEST(so_does_one_over_windows_with_dropout_that_makes_lost_steps_again),
        TEST(a_longer_run_goes_on_from_the_end_of_a_shorter_one),
        TEST(a_run_that_is_over_says_so_and_changes_nothing),
        TEST(another_text_or_seed_is_refused),
        TEST(the_history_says_what_happened),
        TEST(only_each_fifth_step_is_logged_where_that_was_asked),
        TEST(checkpoints_are_where_the_options_put_them),
        TEST(config_json_and_step_0_are_there_before_the_first_step),
        TEST(the_last_checkpoint_is_the_model),
        TEST(the_best_on_held_out_text_outlives_pruning),
        TEST(the_hook_saves_at_once_and_goes_on),
        TEST(one_bad_step_is_skipped),
        TEST(three_bad_steps_in_a_row_send_the_run_back_at_half_the_rate),
        TEST(a_long_run_goes_back_a_hundred_steps_whatever_was_pruned),
        TEST(a_run_that_always_blows_up_ends_and_leaves_sound_checkpoints),
        TEST(one_failed_save_is_a_note_and_the_run_goes_on),
        TEST(three_failed_saves_in_a_row_end_the_run),
        TEST(several_steps_at_once_give_the_same_bits),
        TEST(so_they_do_where_a_step_between_them_is_not_taken),
        TEST(so_they_do_where_a_run_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
