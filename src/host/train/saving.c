/* When a checkpoint is taken, what goes in, and what its success or failure means for the run. */
#include "host/train/trainer.h"

/* Copies the run as it stands; the vocabulary and the options are in the snapshot since the start. */
static crnn_status fill(crnn_trainer *t, crnn_checkpoint *snapshot, crnn_error *err)
{
    crnn_status status = crnn_model_get(t->model, CRNN_WEIGHTS, snapshot->weights, err);
    if (status == CRNN_OK)
        status = crnn_model_get(t->model, CRNN_ADAM_M, snapshot->m, err);
    if (status == CRNN_OK)
        status = crnn_model_get(t->model, CRNN_ADAM_V, snapshot->v, err);
    if (status == CRNN_OK)
        status = crnn_model_get_state(t->model, snapshot->state, err);
    snapshot->step = t->step;
    snapshot->count = t->count;
    snapshot->epoch = t->epoch;
    snapshot->position = t->position;
    snapshot->rate_factor = t->rate_factor;
    snapshot->returns = t->returns;
    snapshot->loss_last = t->loss_last;
    snapshot->epoch_loss_sum = t->epoch_loss_sum;
    snapshot->epoch_positions = t->epoch_positions;
    snapshot->epoch_hits = t->epoch_hits;
    /* Only a checkpoint can be the best: so the figure is this run's own when the file is safe, not before. */
    bool best = t->val_step == t->step && t->val_loss < t->best_val_loss;
    snapshot->best_val_loss = best ? t->val_loss : t->best_val_loss;
    snapshot->best_step = best ? t->step : t->best_step;
    return status;
}

crnn_status crnn_trainer_begin_save(crnn_trainer *t, crnn_error *err)
{
    crnn_status status = crnn_trainer_collect_save(t, true, err);
    if (status == CRNN_OK)
        status = fill(t, crnn_saver_snapshot(t->saver), err);
    if (status != CRNN_OK)
        return status;
    t->asked_step = t->step;
    crnn_saver_begin(t->saver, crnn_trainer_done(t) ? 0 : CRNN_BACK_STEPS);
    return CRNN_OK;
}

crnn_status crnn_trainer_collect_save(crnn_trainer *t, bool wait, crnn_error *err)
{
    crnn_save_result result;
    if (!crnn_saver_take(t->saver, wait, &result))
        return CRNN_OK;
    if (result.note[0])
        crnn_trainer_note(t, "%s", result.note);
    if (result.status == CRNN_OK) {
        t->failed_saves = t->unsound_saves = 0;
        t->saved_step = result.step;
        t->best_step = result.best_step;
        t->best_val_loss = result.best_val_loss;
        if (t->hooks.saved)
            t->hooks.saved(t->hooks.user, result.path, result.step);
        return CRNN_OK;
    }
    crnn_trainer_note(t, "no checkpoint at step %lld: %s", (long long)result.step, result.error);
    if (result.status == CRNN_ERR_FORMAT) { /* a value is not finite: no fault of the disk */
        t->unsound_saves++;
        return CRNN_OK;
    }
    if (++t->failed_saves < CRNN_MAX_FAILED_SAVES)
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_IO, "%d saves in a row failed, the last one: %.400s", t->failed_saves, result.error);
}

crnn_status crnn_trainer_save(crnn_trainer *t, crnn_error *err)
{
    crnn_status status = crnn_trainer_collect_save(t, true, err);
    while (status == CRNN_OK && t->saved_step != t->step) {
        int failed = t->failed_saves;
        status = crnn_trainer_begin_save(t, err);
        if (status == CRNN_OK)
            status = crnn_trainer_collect_save(t, true, err);
        if (status == CRNN_OK && t->saved_step != t->step && t->failed_saves == failed)
            return crnn_fail(err, CRNN_ERR_DIVERGED,
                             "the model holds values that are not finite after step %lld: nothing was saved after "
                             "step %lld",
                             (long long)t->step, (long long)t->saved_step);
    }
    return status;
}
