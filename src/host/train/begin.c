/* How a run comes to be: its options checked, everything it needs allocated, begun anew or taken up from a checkpoint. */
#include "host/base/memory.h"
#include "host/train/schedule.h"
#include "host/train/trainer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

crnn_train_options crnn_train_options_default(void)
{
    return (crnn_train_options){
        .batching = CRNN_STREAMS,
        .B = 64,
        .T = 100,
        .shuffle_buffer = 10000,
        .E = 256,
        .H = 1024,
        .L = 1,
        .epochs = 10,
        .lr = 1e-3F,
        .lr_schedule = CRNN_LR_CONSTANT,
        .seed = 1,
        .checkpoint_every = 1,
        .keep = 3,
        .log_every = 1,
        .device = crnn_device_config_default(),
    };
}

static bool from_zero(float value)
{
    return isfinite(value) && value >= 0;
}

static crnn_status check_options(const crnn_train_options *o, crnn_error *err)
{
    if (o->epochs < 1 || o->max_steps < 0 || o->warmup < 0 || o->checkpoint_every < 0 || o->checkpoint_steps < 0 ||
        o->keep < 0 || o->log_every < 0 || o->steps_at_once < 0)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "a run needs at least one epoch, and no count may be negative");
    if (!from_zero(o->lr) || !from_zero(o->clip) || !from_zero(o->weight_decay))
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "rate, clipping and weight decay must be finite and not negative");
    return CRNN_OK;
}

static crnn_status make_batches(crnn_trainer *t, crnn_error *err)
{
    const crnn_train_options *o = &t->options;
    crnn_batches_config config = {o->batching, crnn_corpus_train(t->corpus).count, o->B, o->T, o->shuffle_buffer,
                                  o->seed};
    t->batches = crnn_batches_new(&config, err);
    if (!t->batches)
        return err->status;
    t->steps_per_epoch = crnn_batches_steps(t->batches);
    t->total = crnn_total_steps(o, t->steps_per_epoch);
    if (t->total > CRNN_MAX_STEP)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "a run has at most %lld steps, not %lld", (long long)CRNN_MAX_STEP,
                         (long long)t->total);
    return CRNN_OK;
}

/* A run that goes on computes its layers as it did; where this device cannot, what would change is for the user to decide. */
static crnn_status explain_way(const char *rnn_algo, crnn_error *err)
{
    crnn_error why = *err;
    if (!rnn_algo || strcmp(rnn_algo, "auto") == 0 || (why.status != CRNN_ERR_ARGUMENT && why.status != CRNN_ERR_FAULT))
        return why.status;
    return crnn_fail(err, why.status,
                     "the run goes on with --rnn-algo %.30s, which cannot be had here: %.250s; --rnn-algo auto takes "
                     "another way, to other bits from here on",
                     rnn_algo, why.text);
}

static crnn_status make_model(crnn_trainer *t, bool resumed, crnn_error *err)
{
    const crnn_train_options *o = &t->options;
    int32_t V = crnn_vocab_size(crnn_corpus_vocab(t->corpus));
    crnn_model_config config = {{V, o->E, o->H, o->L, o->dropout}, o->B, o->T, true, o->seed};
    t->model = crnn_model_new(&config, &o->device, err);
    if (!t->model)
        return resumed ? explain_way(o->device.rnn_algo, err) : err->status;
    t->most = crnn_model_most_steps(t->model);
    t->starts = crnn_alloc((size_t)t->most * (size_t)o->B, sizeof *t->starts, "a queue of steps", err);
    t->updates = crnn_alloc((size_t)t->most, sizeof *t->updates, "a queue of steps", err);
    t->results = crnn_alloc((size_t)t->most, sizeof *t->results, "a queue of steps", err);
    if (!t->starts || !t->updates || !t->results)
        return CRNN_ERR_MEMORY;
    return crnn_model_set_text(t->model, crnn_corpus_train(t->corpus), err);
}

/* What no run has before its first step. Needs no directory: what fails here leaves nothing behind. */
static crnn_trainer *make(const crnn_corpus *corpus, const crnn_train_options *options, const crnn_train_hooks *hooks,
                          bool resumed, crnn_error *err)
{
    crnn_trainer *t = NULL;
    if (check_options(options, err) != CRNN_OK)
        return NULL;
    t = crnn_alloc(1, sizeof *t, "a run", err);
    if (!t)
        return NULL;
    t->options = *options;
    if (hooks)
        t->hooks = *hooks;
    t->corpus = corpus;
    t->dir.lock = -1;
    t->rate_factor = 1;
    t->val_loss = (double)NAN;
    t->loss_last = t->best_val_loss = (double)INFINITY;
    t->val_step = t->best_step = t->saved_step = t->asked_step = -1;
    if (make_batches(t, err) != CRNN_OK || make_model(t, resumed, err) != CRNN_OK) {
        crnn_trainer_free(t);
        return NULL;
    }
    return t;
}

/* The saver, and what of its snapshot stays the same over the run. */
static crnn_status make_saver(crnn_trainer *t, const char *json, crnn_error *err)
{
    const crnn_train_options *o = &t->options;
    const crnn_model_sizes *sizes = &crnn_model_configuration(t->model)->sizes;
    t->saver = crnn_saver_new(t->dir.checkpoints, o->keep, sizes, o->B, t->history, err);
    if (!t->saver)
        return err->status;
    crnn_checkpoint *snapshot = crnn_saver_snapshot(t->saver);
    const uint32_t *codes = crnn_vocab_codes(crnn_corpus_vocab(t->corpus));
    memcpy(snapshot->vocab, codes, (size_t)sizes->V * sizeof *codes);
    snapshot->seed = o->seed;
    snapshot->corpus_characters = crnn_corpus_train(t->corpus).count;
    memcpy(snapshot->corpus_sha256, crnn_corpus_sha256(t->corpus), sizeof snapshot->corpus_sha256);
    free(snapshot->options);
    snapshot->options = strdup(json);
    return snapshot->options ? CRNN_OK : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the options");
}

/* What is recorded as the options of the run. */
static char *options_text(const crnn_trainer *t, crnn_error *err)
{
    char *own = t->options.options_json ? NULL : crnn_options_json(&t->options, err);
    const char *given = own ? own : t->options.options_json;
    char *text = given ? crnn_options_settled(given, crnn_model_rnn_choice(t->model)->name, err) : NULL;
    free(own);
    return text;
}

static crnn_status read_initial_weights(crnn_trainer *t, crnn_error *err)
{
    const crnn_model_sizes *sizes = &crnn_model_configuration(t->model)->sizes;
    if (!t->options.init)
        return CRNN_OK;
    float *weights = crnn_alloc((size_t)crnn_model_parameters(sizes), sizeof *weights, "the initial weights", err);
    if (!weights)
        return CRNN_ERR_MEMORY;
    crnn_status status = crnn_weights_read(t->options.init, sizes, weights, err);
    if (status == CRNN_OK)
        status = crnn_model_set(t->model, CRNN_WEIGHTS, weights, err);
    free(weights);
    return status;
}

crnn_trainer *crnn_trainer_new(const char *out, const crnn_corpus *corpus, const crnn_train_options *options,
                               const crnn_train_hooks *hooks, crnn_error *err)
{
    crnn_error own; /* so that a status can be read back where the caller wants none */
    char *json = NULL;
    err = err ? err : &own;
    crnn_trainer *t = make(corpus, options, hooks, false, err);
    if (!t || read_initial_weights(t, err) != CRNN_OK || crnn_rundir_open(&t->dir, out, true, err) != CRNN_OK)
        goto fail;
    json = options_text(t, err);
    t->history = json ? crnn_history_new(t->dir.path, err) : NULL;
    if (!t->history || make_saver(t, json, err) != CRNN_OK)
        goto fail;
    /* The checkpoint first: a crash between the two leaves a run that can be continued. */
    if (crnn_trainer_save(t, err) != CRNN_OK ||
        crnn_rundir_write_config(&t->dir, json, corpus, t->model, err) != CRNN_OK)
        goto fail;
    free(json);
    return t;
fail:
    free(json);
    crnn_trainer_free(t);
    return NULL;
}

/* --- resuming ------------------------------------------------------------------------------------------------------- */

static crnn_status check_checkpoint(const crnn_trainer *t, const crnn_checkpoint *ckpt, crnn_error *err)
{
    const crnn_model_config *config = crnn_model_configuration(t->model);
    const crnn_model_sizes *a = &config->sizes, *b = &ckpt->sizes;
    if (!ckpt->m || !ckpt->v || !ckpt->state)
        return crnn_fail(err, CRNN_ERR_FORMAT, "the file holds weights alone: a run cannot go on from it");
    if (crnn_corpus_train(t->corpus).count != ckpt->corpus_characters ||
        memcmp(crnn_corpus_sha256(t->corpus), ckpt->corpus_sha256, 32) != 0)
        return crnn_fail(
            err, CRNN_ERR_FORMAT,
            "the text is not the one that the run was trained on: %lld characters, not %lld, or other ones",
            (long long)crnn_corpus_train(t->corpus).count, (long long)ckpt->corpus_characters);
    if (a->V != b->V || a->E != b->E || a->H != b->H || a->L != b->L || config->B != ckpt->B)
        return crnn_fail(err, CRNN_ERR_FORMAT,
                         "the checkpoint is of another model: vocabulary %d, embedding %d, units %d, layers %d, batch "
                         "%d, not %d, %d, %d, %d, %d",
                         b->V, b->E, b->H, b->L, ckpt->B, a->V, a->E, a->H, a->L, config->B);
    if (t->options.seed != ckpt->seed)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the run has the seed %llu, not %llu", (unsigned long long)ckpt->seed,
                         (unsigned long long)t->options.seed);
    if (ckpt->position < 0 || ckpt->position > t->steps_per_epoch || ckpt->epoch < 0 ||
        ckpt->step != ckpt->epoch * t->steps_per_epoch + ckpt->position)
        return crnn_fail(err, CRNN_ERR_FORMAT,
                         "step %lld of the checkpoint is not step %lld of its epoch %lld, which has %lld here",
                         (long long)ckpt->step, (long long)ckpt->position, (long long)ckpt->epoch + 1,
                         (long long)t->steps_per_epoch);
    return CRNN_OK;
}

static crnn_status take_up(crnn_trainer *t, const crnn_checkpoint *ckpt, crnn_error *err)
{
    crnn_status status = crnn_model_set(t->model, CRNN_WEIGHTS, ckpt->weights, err);
    if (status == CRNN_OK)
        status = crnn_model_set(t->model, CRNN_ADAM_M, ckpt->m, err);
    if (status == CRNN_OK)
        status = crnn_model_set(t->model, CRNN_ADAM_V, ckpt->v, err);
    if (status == CRNN_OK)
        status = crnn_model_set_state(t->model, ckpt->state, err);
    if (status == CRNN_OK)
        status = crnn_batches_seek(t->batches, ckpt->epoch, ckpt->position, err);
    t->step = ckpt->step;
    t->count = ckpt->count;
    t->epoch = ckpt->epoch;
    t->position = ckpt->position;
    t->report_due = ckpt->position == t->steps_per_epoch;
    t->saved_step = t->asked_step = t->report_due ? -1 : ckpt->step; /* the epoch's end changes what is to be saved */
    t->rate_factor = ckpt->rate_factor;
    t->returns = ckpt->returns;
    t->best_val_loss = ckpt->best_val_loss;
    t->best_step = ckpt->best_step;
    t->loss_last = ckpt->loss_last;
    t->epoch_loss_sum = ckpt->epoch_loss_sum;
    t->epoch_positions = ckpt->epoch_positions;
    t->epoch_hits = ckpt->epoch_hits;
    return status;
}

crnn_trainer *crnn_trainer_resume(const char *run, const crnn_checkpoint *ckpt, const crnn_corpus *corpus,
                                  const crnn_train_options *options, const crnn_train_hooks *hooks, crnn_error *err)
{
    crnn_error own;
    char *json = NULL;
    err = err ? err : &own;
    crnn_trainer *t = make(corpus, options, hooks, true, err);
    if (!t || check_checkpoint(t, ckpt, err) != CRNN_OK || take_up(t, ckpt, err) != CRNN_OK ||
        crnn_rundir_open(&t->dir, run, false, err) != CRNN_OK)
        goto fail;
    bool mid_epoch = ckpt->position > 0 && !crnn_trainer_done(t); /* a run that is over keeps its last report */
    json = options_text(t, err);
    crnn_history_past past = {0};
    t->history = json ? crnn_history_resume(t->dir.path, ckpt->step, mid_epoch, &past, err) : NULL;
    t->bad_in_a_row = past.skips;
    t->recent = past.recent;
    if (!t->history || make_saver(t, json, err) != CRNN_OK)
        goto fail;
    if (crnn_rundir_write_config(&t->dir, json, corpus, t->model, err) != CRNN_OK)
        goto fail;
    free(json);
    return t;
fail:
    free(json);
    crnn_trainer_free(t);
    return NULL;
}

void crnn_trainer_free(crnn_trainer *t)
{
    if (!t)
        return;
    crnn_saver_free(t->saver); /* before what it borrows */
    crnn_history_free(t->history);
    crnn_batches_free(t->batches);
    crnn_model_free(t->model);
    crnn_rundir_close(&t->dir);
    free(t->starts);
    free(t->updates);
    free(t->results);
    free(t);
}
