/* A loss or a gradient that is not finite must not poison a run: skip it once or twice, then go back, slower. */
#include "host/base/memory.h"
#include "host/train/trainer.h"
#include <stdlib.h>
#include <string.h>

static crnn_checkpoint *read_back(const crnn_trainer *t, int64_t step)
{
    char name[CRNN_CHECKPOINT_NAME];
    crnn_error wrong = {CRNN_OK, ""};
    char *path = crnn_format("%s/%s", t->dir.checkpoints, crnn_checkpoint_name(name, step));
    crnn_checkpoint *ckpt = path ? crnn_checkpoint_read(path, &wrong) : NULL;
    const crnn_model_config *config = crnn_model_configuration(t->model);
    if (!ckpt)
        crnn_trainer_note(t, "passed over %s: %s", name, wrong.text);
    else if (!ckpt->m || !ckpt->v || ckpt->sizes.V != config->sizes.V || ckpt->sizes.E != config->sizes.E ||
             ckpt->sizes.H != config->sizes.H || ckpt->sizes.L != config->sizes.L) {
        crnn_trainer_note(t, "passed over %s: it is of another model", name);
        crnn_checkpoint_free(ckpt);
        ckpt = NULL;
    }
    free(path);
    return ckpt;
}

/* The newest that is old enough; where all those are gone, the oldest there is. */
static crnn_checkpoint *find_back(const crnn_trainer *t)
{
    crnn_checkpoint *ckpt = NULL;
    int64_t enough = t->step - CRNN_BACK_STEPS, at;
    for (at = crnn_rundir_newest(t->dir.checkpoints, enough); at >= 0 && !ckpt;
         at = crnn_rundir_newest(t->dir.checkpoints, at - 1))
        ckpt = read_back(t, at);
    for (at = crnn_rundir_oldest(t->dir.checkpoints, enough > 0 ? enough : -1); at >= 0 && at <= t->step && !ckpt;
         at = crnn_rundir_oldest(t->dir.checkpoints, at))
        ckpt = read_back(t, at);
    return ckpt;
}

static crnn_status take_back(crnn_trainer *t, const crnn_checkpoint *ckpt, const char *why, crnn_error *err)
{
    crnn_status status = crnn_model_set(t->model, CRNN_WEIGHTS, ckpt->weights, err);
    if (status == CRNN_OK)
        status = crnn_model_set(t->model, CRNN_ADAM_M, ckpt->m, err);
    if (status == CRNN_OK)
        status = crnn_model_set(t->model, CRNN_ADAM_V, ckpt->v, err);
    if (status == CRNN_OK) /* the state there belongs to other text */
        status = crnn_model_set_state(t->model, NULL, err);
    if (status != CRNN_OK)
        return status;
    t->count = ckpt->count;
    t->rate_factor *= 0.5;
    t->returns++;
    t->bad_in_a_row = 0;
    t->unsound_saves = 0;
    crnn_trainer_note(t, "%s: back to the weights of step %lld, at %g times the rate; the text goes on after step %lld",
                      why, (long long)ckpt->step, t->rate_factor, (long long)t->step);
    return crnn_history_return(t->history, t->step, t->epoch + 1, ckpt->step, t->rate_factor, t->returns, err);
}

crnn_status crnn_trainer_go_back(crnn_trainer *t, const char *why, crnn_error *err)
{
    crnn_status status = crnn_trainer_collect_save(t, true, err);
    if (status != CRNN_OK)
        return status;
    if (t->returns >= CRNN_MAX_RETURNS)
        return crnn_fail(err, CRNN_ERR_DIVERGED,
                         "training diverged at step %lld: %s, even after %d returns to earlier weights; try a lower "
                         "--lr, or --clip 1",
                         (long long)t->step, why, CRNN_MAX_RETURNS);
    crnn_checkpoint *ckpt = find_back(t);
    if (!ckpt)
        return crnn_fail(err, CRNN_ERR_DIVERGED,
                         "training diverged at step %lld: %s, and there is no checkpoint to go back to",
                         (long long)t->step, why);
    status = take_back(t, ckpt, why, err);
    crnn_checkpoint_free(ckpt);
    return status;
}

crnn_status crnn_trainer_rescue(crnn_trainer *t, crnn_error *err)
{
    t->bad_in_a_row++;
    crnn_trainer_note(t, "step %lld gave a loss or gradients that are not finite: skipped", (long long)t->step);
    crnn_status status = crnn_history_skip(t->history, t->step, t->epoch + 1, err);
    if (status == CRNN_OK && t->bad_in_a_row >= CRNN_BAD_IN_A_ROW)
        status = crnn_trainer_go_back(t, "three steps in a row gave no finite loss", err);
    return status;
}
