/* A run: epochs of steps, each epoch with its report, each step in the history, checkpoints where they are due. */
#include "host/train/trainer.h"
#include "host/train/schedule.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void crnn_trainer_note(const crnn_trainer *t, const char *format, ...)
{
    char sentence[640];
    va_list args;
    if (!t->hooks.note)
        return;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    t->hooks.note(t->hooks.user, sentence);
}

double crnn_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool crnn_trainer_done(const crnn_trainer *t)
{
    return t->step >= t->total && !t->report_due;
}

int64_t crnn_trainer_step(const crnn_trainer *t)
{
    return t->step;
}

crnn_model *crnn_trainer_model(crnn_trainer *t)
{
    return t->model;
}

/* --- progress ------------------------------------------------------------------------------------------------------- */

static void time_steps(crnn_trainer *t, double seconds, int64_t steps)
{
    for (int64_t k = 0; k < steps; k++)
        t->took[t->timed++ % CRNN_WINDOW] = seconds / (double)steps;
    t->epoch_run += steps;
}

static double characters_a_step(const crnn_trainer *t)
{
    return (double)t->options.B * (double)t->options.T;
}

static void show_progress(const crnn_trainer *t, const crnn_step_result *result, float lr)
{
    int64_t steps = t->timed < CRNN_WINDOW ? t->timed : CRNN_WINDOW;
    double seconds = 0;
    if (!t->hooks.progress)
        return;
    for (int64_t i = 0; i < steps; i++)
        seconds += t->took[i];
    crnn_progress progress = {
        .epoch = t->epoch + 1,
        .epochs = t->options.epochs,
        .step = t->step,
        .position = t->position,
        .steps_per_epoch = t->steps_per_epoch,
        .total_steps = t->total,
        .loss = result->finite ? t->loss_last : (double)NAN,
        .chars_per_second = seconds > 0 ? (double)steps * characters_a_step(t) / seconds : 0,
        .seconds_left = (double)(t->total - t->step) * seconds / (double)steps,
        .lr = lr,
        .grad_norm = result->grad_norm,
    };
    t->hooks.progress(t->hooks.user, &progress);
}

/* --- epochs --------------------------------------------------------------------------------------------------------- */

static crnn_status begin_epoch(crnn_trainer *t, crnn_error *err)
{
    crnn_status status = crnn_batches_seek(t->batches, t->epoch, 0, err);
    if (status == CRNN_OK && !t->options.carry_epochs)
        status = crnn_model_set_state(t->model, NULL, err);
    t->epoch_began = crnn_now();
    t->epoch_run = 0;
    return status;
}

/* Asks the hook; what it wants is kept until it is done. */
static bool stop_asked(void *user)
{
    crnn_trainer *t = user;
    enum { STOP = 1, SAVE = 2 };
    int wish = t->hooks.stop ? t->hooks.stop(t->hooks.user) : 0;
    t->stop_asked = t->stop_asked || wish == STOP;
    t->save_asked = t->save_asked || wish == SAVE;
    return t->stop_asked;
}

/* Mean loss in nats on the held-out text; NAN where there is none. */
static crnn_status held_out_loss(crnn_trainer *t, double *loss, crnn_error *err)
{
    crnn_ids ids = crnn_corpus_val(t->corpus);
    crnn_step_result result;
    *loss = (double)NAN;
    if (ids.count < 2) /* a character is scored by the one before it */
        return CRNN_OK;
    crnn_status status = crnn_model_evaluate(t->model, ids, stop_asked, t, &result, err);
    if (status == CRNN_OK && result.positions > 0)
        *loss = result.loss_sum / (double)result.positions;
    return status;
}

/* Ends a run that became much worse, where that was asked for. */
static crnn_status judge_epoch(crnn_trainer *t, double loss, crnn_error *err)
{
    double best = crnn_recent_best(&t->recent);
    crnn_recent_add(&t->recent, loss);
    if (!t->options.stop_if_worse || !(loss > CRNN_WORSE_TIMES * best))
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_DIVERGED,
                     "training got worse: epoch %lld has a mean loss of %.4f, the best of those shortly before %.4f; "
                     "nothing was saved after step %lld; try a lower --lr, or --clip 1",
                     (long long)t->epoch + 1, loss, best, (long long)t->saved_step);
}

/* Also where the run ends within an epoch: then the epoch stays open, for a run that goes on with it. CRNN_ERR_STOPPED where a stop was
 * asked for before the held-out text was scored: the report is still due then. */
static crnn_status end_epoch(crnn_trainer *t, crnn_error *err)
{
    double seconds = crnn_now() - t->epoch_began, positions = (double)t->epoch_positions;
    crnn_epoch_report report = {.epoch = t->epoch + 1, .step = t->step, .loss_last = t->loss_last};
    crnn_status status = held_out_loss(t, &report.val_loss, err);
    if (status != CRNN_OK)
        return status;
    t->report_due = false;
    t->val_loss = report.val_loss;
    t->val_step = t->step;
    report.val_bpc = report.val_loss / M_LN2;
    report.loss_mean = t->epoch_loss_sum / positions;
    report.accuracy = (double)t->epoch_hits / positions;
    report.bpc = report.loss_mean / M_LN2;
    report.seconds = seconds;
    report.chars_per_second = (double)t->epoch_run * characters_a_step(t) / seconds;
    status = crnn_history_epoch(t->history, &report, err);
    if (t->hooks.epoch)
        t->hooks.epoch(t->hooks.user, &report);
    if (status == CRNN_OK)
        status = judge_epoch(t, report.loss_mean, err);
    if (t->position == t->steps_per_epoch) {
        t->epoch++;
        t->position = t->epoch_positions = t->epoch_hits = 0;
        t->epoch_loss_sum = 0;
    }
    return status;
}

/* --- steps ---------------------------------------------------------------------------------------------------------- */

/* The update of the k-th step from here, where those before it are taken. */
static crnn_update coming_update(const crnn_trainer *t, int64_t k)
{
    crnn_update update = crnn_update_default();
    update.lr = crnn_schedule_rate(&t->options, t->step + 1 + k, t->total, t->rate_factor);
    update.clip = t->options.clip;
    update.weight_decay = t->options.weight_decay;
    update.count = t->count + 1 + k;
    update.step = t->step + 1 + k;
    return update;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Steps up to what comes between steps next, or fewer, so that signals are heard. */
static int64_t steps_to_make(const crnn_trainer *t)
{
    const crnn_train_options *o = &t->options;
    int64_t n = o->steps_at_once ? smaller(o->steps_at_once, t->most) : crnn_model_steps_at_once(t->model);
    n = smaller(n, smaller(t->steps_per_epoch - t->position, t->total - t->step));
    return o->checkpoint_steps > 0 ? smaller(n, o->checkpoint_steps - t->step % o->checkpoint_steps) : n;
}

static crnn_status book_step(crnn_trainer *t, const crnn_step_result *result, float lr, crnn_error *err)
{
    t->count++;
    t->bad_in_a_row = 0;
    t->loss_last = result->loss_sum / (double)result->positions;
    t->epoch_loss_sum += result->loss_sum;
    t->epoch_positions += result->positions;
    t->epoch_hits += result->hits;
    if (t->options.log_every < 1 || t->step % t->options.log_every != 0)
        return CRNN_OK;
    return crnn_history_step(t->history, t->step, t->epoch + 1, t->loss_last, lr, result->grad_norm, err);
}

/* Makes n steps; those that lie behind one that was not taken are to be made again. */
static crnn_status make_steps(crnn_trainer *t, int64_t n, int64_t *done, crnn_error *err)
{
    size_t row = (size_t)t->options.B * sizeof *t->starts;
    double began = crnn_now();
    for (int64_t k = 0; k < n; k++) {
        memcpy(t->starts + k * t->options.B, crnn_batches_next(t->batches), row);
        t->updates[k] = coming_update(t, k);
    }
    crnn_status status = crnn_model_train_several(t->model, t->starts, t->updates, n, t->results, done, err);
    if (status != CRNN_OK)
        return status;
    time_steps(t, crnn_now() - began, *done);
    return *done < n ? crnn_batches_seek(t->batches, t->epoch, t->position + *done, err) : CRNN_OK;
}

/* As many as there is nothing to do between. */
static crnn_status some_steps(crnn_trainer *t, crnn_error *err)
{
    int64_t done = 0;
    crnn_status status = t->position == 0 ? begin_epoch(t, err) : CRNN_OK;
    if (status == CRNN_OK)
        status = make_steps(t, steps_to_make(t), &done, err);
    for (int64_t k = 0; k < done && status == CRNN_OK; k++) {
        const crnn_step_result *result = &t->results[k];
        float lr = t->updates[k].lr;
        t->step++;
        t->position++;
        status = result->finite ? book_step(t, result, lr, err) : crnn_trainer_rescue(t, err);
        if (status == CRNN_OK)
            show_progress(t, result, lr);
    }
    if (status != CRNN_OK)
        return status;
    t->report_due = t->position == t->steps_per_epoch || crnn_trainer_done(t);
    return t->report_due ? end_epoch(t, err) : CRNN_OK;
}

static bool save_is_due(const crnn_trainer *t)
{
    const crnn_train_options *o = &t->options;
    return (o->checkpoint_steps > 0 && t->step % o->checkpoint_steps == 0) ||
           (o->checkpoint_every > 0 && t->position == 0 && t->epoch % o->checkpoint_every == 0);
}

/* The end of the run and a stop save by themselves, and wait for it. */
static crnn_status save_where_due(crnn_trainer *t, crnn_error *err)
{
    bool due = t->save_asked || save_is_due(t);
    crnn_status status = crnn_trainer_collect_save(t, due, err);
    /* Most values that are not finite show in the loss at once; those of a character that does not occur in training do not. Only a save
     * that is due acts on what the saves before it found, so that a run does not depend on how fast the disk is. */
    if (status == CRNN_OK && due && t->unsound_saves >= CRNN_BAD_IN_A_ROW)
        status = crnn_trainer_go_back(t, "three saves in a row found values that are not finite", err);
    if (status == CRNN_OK && due)
        status = crnn_trainer_begin_save(t, err);
    t->save_asked = false;
    if (crnn_history_waiting(t->history) && !t->history_noted) {
        crnn_trainer_note(t, "the disk refuses lines of the history; they are kept for now");
        t->history_noted = true;
    }
    return status;
}

crnn_status crnn_trainer_run(crnn_trainer *t, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    t->epoch_began = crnn_now();
    t->stop_asked = false;
    while (status == CRNN_OK && !t->stop_asked && !crnn_trainer_done(t)) {
        status = t->report_due ? end_epoch(t, err) : some_steps(t, err);
        if (status == CRNN_ERR_STOPPED)
            status = CRNN_OK;
        if (status == CRNN_OK && !stop_asked(t) && !crnn_trainer_done(t))
            status = save_where_due(t, err);
    }
    if (status == CRNN_OK)
        status = crnn_trainer_save(t, err);
    else
        crnn_trainer_collect_save(t, true, NULL); /* what is in flight is told of all the same */
    if (status == CRNN_OK && !crnn_trainer_done(t))
        status = crnn_fail(err, CRNN_ERR_STOPPED, "stopped after step %lld of %lld, saved", (long long)t->step,
                           (long long)t->total);
    return status;
}
