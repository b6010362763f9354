/* steps.c - training and scoring: what goes to the device before the ops of model.c, and what is read after them. */
#include "host/model/model.h"
#include <math.h>
#include <string.h>

static const double PROMPT_SECONDS = 0.05; /* the longest that a run shall be deaf to signals and silent */

static crnn_step_result result_of(const crnn_step_numbers *numbers)
{
    return (crnn_step_result){.loss_sum = numbers->loss_sum,
                              .positions = numbers->positions,
                              .hits = numbers->hits,
                              .grad_norm = (float)sqrt(numbers->norm_squared),
                              .finite = numbers->finite != 0};
}

/* Waits for n steps and reads the numbers of all of them, those of the last one first. */
static crnn_status read_numbers(crnn_model *model, int32_t n, crnn_error *err)
{
    memset(model->host_numbers, 0, (size_t)n * sizeof *model->host_numbers);
    model->be->ops->download(model->be, model->host_numbers, model->numbers, (size_t)n * sizeof *model->numbers);
    crnn_status status = model->be->ops->sync(model->be, err);
    if (status == CRNN_OK) /* else marks may be missing */
        crnn_model_end_booking(model);
    return status;
}

static crnn_step_inputs inputs_of(const crnn_update *u)
{
    double rate = (double)u->lr * sqrt(1 - pow((double)u->beta2, (double)u->count)) /
                  (1 - pow((double)u->beta1, (double)u->count));
    return (crnn_step_inputs){{(float)rate, u->beta1, u->beta2, u->epsilon, u->clip, u->lr * u->weight_decay},
                              (uint64_t)u->step};
}

/* starts: [n,B], or NULL where x and y are given by hand. */
static void queue_steps(crnn_model *model, const int64_t *starts, const crnn_update *updates, int32_t n)
{
    const crnn_backend_ops *ops = model->be->ops;
    for (int32_t k = 0; k < n; k++)
        model->host_inputs[k] = inputs_of(&updates[k]);
    ops->zero(model->be, model->queue.begun, sizeof *model->queue.begun);
    ops->upload(model->be, model->queue.inputs, model->host_inputs, (size_t)n * sizeof *model->host_inputs);
    if (starts)
        ops->upload(model->be, model->queue.starts, starts, (size_t)n * (size_t)model->config.B * sizeof *starts);
}

static void next_step(crnn_model *model)
{
    model->be->ops->next_step(model->be, model->inputs, model->starts, &model->queue, model->config.B);
}

static void step_on_ids(crnn_model *model, void *unused)
{
    (void)unused;
    next_step(model);
    crnn_model_train_step(model);
}

/* On rows of the text that begin where the queue says. */
static void step_on_text(crnn_model *model, void *unused)
{
    (void)unused;
    next_step(model);
    model->be->ops->gather(model->be, model->x, model->y, model->text, model->ids.width, model->starts, model->config.T,
                           model->config.B);
    crnn_model_book(model, OP_GATHER, 0, 1.5 * (double)model->config.T * model->config.B);
    crnn_model_train_step(model);
}

static void several_steps_on_text(crnn_model *model, void *unused)
{
    for (int k = 0; k < CRNN_SEVERAL_STEPS; k++)
        step_on_text(model, unused);
}

crnn_update crnn_update_default(void)
{
    return (crnn_update){.lr = 1e-3F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-7F, .count = 1, .step = 1};
}

/* Up to `most` steps. results: those up to the first that was not taken, whose number is *made. */
static crnn_status train_queue(crnn_model *model, const int64_t *starts, const crnn_update *updates, int32_t n,
                               crnn_step_result *results, int32_t *made, crnn_error *err)
{
    int32_t k = 0;
    double began = crnn_model_now();
    queue_steps(model, starts, updates, n);
    crnn_model_begin_booking(model);
    for (; k + CRNN_SEVERAL_STEPS <= n; k += CRNN_SEVERAL_STEPS)
        crnn_model_record(model, CRNN_RECORD_TRAIN_SEVERAL, several_steps_on_text, NULL);
    for (; k < n; k++)
        crnn_model_record(model, CRNN_RECORD_TRAIN, step_on_text, NULL);
    crnn_status status = read_numbers(model, n, err);
    model->step_seconds = (crnn_model_now() - began) / n;
    model->steps_made = n;
    *made = 0;
    while (status == CRNN_OK && *made < n) {
        results[*made] = result_of(&model->host_numbers[(*made + 1) % n]);
        if (!results[(*made)++].finite)
            break;
    }
    return status;
}

crnn_status crnn_model_train_several(crnn_model *model, const int64_t *starts, const crnn_update *updates, int64_t n,
                                     crnn_step_result *results, int64_t *done, crnn_error *err)
{
    const crnn_model_config *c = &model->config;
    crnn_status status = CRNN_OK;
    *done = 0;
    if (!c->training || !model->text)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the model was made without training, or has no text to train on");
    for (int64_t i = 0; i < n * c->B; i++)
        if (starts[i] < 0 || starts[i] > model->ids.count - 1 - c->T)
            return crnn_fail(err, CRNN_ERR_ARGUMENT, "row %d begins at character %lld, outside the text",
                             (int)(i % c->B), (long long)starts[i]);
    for (bool finite = true; finite && *done < n;) {
        int32_t some = n - *done < model->most ? (int32_t)(n - *done) : model->most, made;
        status = train_queue(model, starts + *done * c->B, updates + *done, some, results + *done, &made, err);
        *done += made;
        finite = status == CRNN_OK && results[*done - 1].finite;
    }
    return status;
}

crnn_status crnn_model_train(crnn_model *model, const int64_t *starts, const crnn_update *update,
                             crnn_step_result *result, crnn_error *err)
{
    int64_t done;
    *result = (crnn_step_result){0};
    return crnn_model_train_several(model, starts, update, 1, result, &done, err);
}

int32_t crnn_model_most_steps(const crnn_model *model)
{
    return model->most;
}

int32_t crnn_model_steps_at_once(const crnn_model *model)
{
    if (model->steps_made < 1)
        return 1;
    double fit = PROMPT_SECONDS / model->step_seconds;
    int32_t most = model->steps_made < model->most / 2 ? 2 * model->steps_made : model->most;
    return fit < 1 ? 1 : fit < most ? (int32_t)fit : most;
}

static crnn_status check_ids(const crnn_model *model, const uint16_t *x, const uint16_t *y, crnn_error *err)
{
    int32_t V = model->config.sizes.V;
    int64_t TB = (int64_t)model->config.T * model->config.B;
    for (int64_t i = 0; i < TB; i++) {
        if (x[i] >= V)
            return crnn_fail(err, CRNN_ERR_ARGUMENT, "input id %d at position %lld is not below %d", x[i], (long long)i,
                             V);
        if (y[i] >= V && y[i] != CRNN_NO_ID)
            return crnn_fail(err, CRNN_ERR_ARGUMENT, "target id %d at position %lld is not below %d", y[i],
                             (long long)i, V);
    }
    return CRNN_OK;
}

static void upload_ids(crnn_model *model, uint16_t *device, const uint16_t *host)
{
    size_t TB = (size_t)model->config.T * (size_t)model->config.B;
    model->be->ops->upload(model->be, device, host, TB * sizeof *host);
}

crnn_status crnn_model_train_ids(crnn_model *model, const uint16_t *x, const uint16_t *y, const crnn_update *update,
                                 crnn_step_result *result, crnn_error *err)
{
    if (!model->config.training)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the model was made without training");
    crnn_status status = check_ids(model, x, y, err);
    if (status != CRNN_OK)
        return status;
    queue_steps(model, NULL, update, 1);
    upload_ids(model, model->x, x);
    upload_ids(model, model->y, y);
    crnn_model_begin_booking(model);
    crnn_model_record(model, CRNN_RECORD_TRAIN_IDS, step_on_ids, NULL);
    status = read_numbers(model, 1, err);
    *result = result_of(model->host_numbers);
    return status;
}

crnn_status crnn_model_eval_ids(crnn_model *model, const uint16_t *x, const uint16_t *y, crnn_step_result *result,
                                float *logits, crnn_error *err)
{
    const crnn_model_config *c = &model->config;
    int64_t TB = (int64_t)c->T * c->B;
    crnn_status status = check_ids(model, x, y, err);
    if (status != CRNN_OK)
        return status;
    upload_ids(model, model->x, x);
    upload_ids(model, model->y, y);
    crnn_model_begin_booking(model);
    crnn_model_record(model, CRNN_RECORD_EVALUATE, crnn_model_score, NULL);
    if (logits) /* scale 0 has left them as they were */
        model->be->ops->download(model->be, logits, model->logits, (size_t)TB * (size_t)c->sizes.V * sizeof(float));
    status = read_numbers(model, 1, err);
    *result = result_of(model->host_numbers);
    result->grad_norm = 0;
    return status;
}

/* --- a whole text ---------------------------------------------------------------------------------------------------- */

/* Step k of a text cut into `streams` parts of its count - 1 positions; rows and ends beyond the text do not count. */
static void fill_evaluation_batch(crnn_model *model, crnn_ids ids, int64_t streams, int64_t k)
{
    const crnn_model_config *c = &model->config;
    int64_t positions = ids.count - 1;
    for (int64_t b = 0; b < c->B; b++) {
        int64_t begin = b < streams ? positions * b / streams : 0,
                end = b < streams ? positions * (b + 1) / streams : 0;
        for (int64_t t = 0; t < c->T; t++) {
            int64_t at = begin + k * c->T + t;
            bool counts = at < end;
            model->host_x[t * c->B + b] = counts ? crnn_ids_at(ids, at) : 0;
            model->host_y[t * c->B + b] = counts ? crnn_ids_at(ids, at + 1) : CRNN_NO_ID;
        }
    }
}

crnn_status crnn_model_evaluate(crnn_model *model, crnn_ids ids, bool (*stop)(void *user), void *user,
                                crnn_step_result *result, crnn_error *err)
{
    const crnn_model_config *c = &model->config;
    int64_t streams = ids.count / 1000 < 1 ? 1 : ids.count / 1000;
    if (streams > c->B)
        streams = c->B;
    *result = (crnn_step_result){.finite = true};
    model->be->ops->copy(model->be, model->saved_state, model->state, crnn_model_state_bytes(model));
    model->be->ops->zero(model->be, model->state, crnn_model_state_bytes(model));
    int64_t longest = ids.count < 2 ? 0 : (ids.count - 1 + streams - 1) / streams;
    crnn_status status = CRNN_OK;
    for (int64_t k = 0; k * c->T < longest && status == CRNN_OK; k++) {
        crnn_step_result step;
        if (stop && stop(user)) {
            status = crnn_fail(err, CRNN_ERR_STOPPED, "the evaluation was stopped");
            break;
        }
        fill_evaluation_batch(model, ids, streams, k);
        status = crnn_model_eval_ids(model, model->host_x, model->host_y, &step, NULL, err);
        result->loss_sum += step.loss_sum;
        result->positions += step.positions;
        result->hits += step.hits;
        result->finite = result->finite && step.finite;
    }
    model->be->ops->copy(model->be, model->state, model->saved_state, crnn_model_state_bytes(model));
    return status == CRNN_OK ? model->be->ops->sync(model->be, err) : status;
}
