/* The sampler: a model of one character a step, and a draw from what it says; texts stay on the device until they are asked for. */
#include "host/base/memory.h"
#include "host/model/model.h"
#include <crnn/sample.h>
#include <stdlib.h>

/* Characters of each text that are drawn before the host reads them: op by op, and by a writer, there of all texts together no more than so
 * many. A launch of a writer should be over within the second that a GPU with a display grants a kernel. */
enum { RING = 64, WRITTEN_MOST = 4096, WRITTEN_ALL = 1 << 20 };

struct crnn_sampler {
    crnn_model *model; /* T = 1, B = count */
    crnn_sample_options options;
    int32_t count, V;
    int64_t drawn; /* draws made of each text, as the host counts them */
    bool primed;   /* logits are those that follow what was run */
    uint16_t *ids; /* [count] on the host */

    /* On the device. */
    crnn_writer *writer; /* NULL: op by op */
    float *p;            /* [count,V] */
    uint16_t *written;   /* [room,count] */
    int32_t room;
    uint64_t *next_draw; /* [1] */
};

crnn_sample_options crnn_sample_options_default(void)
{
    return (crnn_sample_options){.temperature = 1, .top_p = 1, .seed = 1};
}

static crnn_status check_options(const crnn_sample_options *o, crnn_error *err)
{
    if (!(o->temperature >= 0) || o->top_k < 0 || !(o->top_p > 0 && o->top_p <= 1) || !(o->min_p >= 0 && o->min_p <= 1))
        return crnn_fail(
            err, CRNN_ERR_ARGUMENT,
            "sampling needs temperature >= 0, top-k >= 0, top-p in (0, 1] and min-p in [0, 1], not %g, %d, %g and %g",
            (double)o->temperature, o->top_k, (double)o->top_p, (double)o->min_p);
    return CRNN_OK;
}

static void make_memory(crnn_sampler *sampler, const float *weights)
{
    crnn_backend *be = sampler->model->be;
    const crnn_model_sizes *s = &sampler->model->config.sizes;
    const crnn_writer_shape shape = {s->V, s->E, s->H, s->L, sampler->count};
    size_t n = (size_t)sampler->count;
    if (be->ops->writer_new)
        sampler->writer = be->ops->writer_new(be, &shape, weights);
    sampler->room = RING;
    if (sampler->writer)
        sampler->room = n > WRITTEN_ALL / WRITTEN_MOST ? WRITTEN_ALL / sampler->count : WRITTEN_MOST;
    sampler->p = be->ops->alloc(be, n * (size_t)s->V * sizeof *sampler->p);
    sampler->written = be->ops->alloc(be, n * (size_t)sampler->room * sizeof *sampler->written);
    sampler->next_draw = be->ops->alloc(be, sizeof *sampler->next_draw);
}

crnn_sampler *crnn_sampler_new(const crnn_model_sizes *sizes, const float *weights, int32_t count,
                               const crnn_sample_options *options, const crnn_device_config *device, crnn_error *err)
{
    if (check_options(options, err) != CRNN_OK)
        return NULL;
    crnn_sampler *sampler = crnn_alloc(1, sizeof *sampler, "a sampler", err);
    if (!sampler)
        return NULL;
    crnn_model_config config = {.sizes = *sizes, .B = count, .T = 1, .training = false, .seed = options->seed};
    sampler->options = *options;
    sampler->count = count;
    sampler->V = sizes->V;
    sampler->model = crnn_model_new(&config, device, err);
    if (!sampler->model || crnn_model_set(sampler->model, CRNN_WEIGHTS, weights, err) != CRNN_OK)
        goto fail;
    crnn_backend *be = sampler->model->be;
    make_memory(sampler, weights);
    sampler->ids = crnn_alloc((size_t)count, sizeof *sampler->ids, "characters", err);
    if (be->ops->sync(be, err) != CRNN_OK || !sampler->ids)
        goto fail;
    return sampler;
fail:
    crnn_sampler_free(sampler);
    return NULL;
}

void crnn_sampler_free(crnn_sampler *sampler)
{
    if (!sampler)
        return;
    if (sampler->model) {
        crnn_backend *be = sampler->model->be;
        if (sampler->writer)
            be->ops->writer_free(sampler->writer);
        be->ops->free(be, sampler->p);
        be->ops->free(be, sampler->written);
        be->ops->free(be, sampler->next_draw);
    }
    crnn_model_free(sampler->model);
    free(sampler->ids);
    free(sampler);
}

crnn_status crnn_sampler_prime(crnn_sampler *sampler, const uint16_t *ids, int64_t n, crnn_error *err)
{
    crnn_model *model = sampler->model;
    crnn_backend *be = model->be;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= sampler->V)
            return crnn_fail(err, CRNN_ERR_ARGUMENT, "id %d of the prime is not below %d", ids[i], sampler->V);
    for (int64_t i = 0; i < n; i++) {
        for (int32_t k = 0; k < sampler->count; k++)
            sampler->ids[k] = ids[i];
        be->ops->upload(be, model->x, sampler->ids, (size_t)sampler->count * sizeof *sampler->ids);
        crnn_model_record(model, CRNN_RECORD_FORWARD, crnn_model_forward, NULL);
        sampler->primed = true;
    }
    return be->ops->sync(be, err);
}

static crnn_status need_prime(const crnn_sampler *sampler, crnn_error *err)
{
    if (sampler->primed)
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_ARGUMENT,
                     "nothing to go on from: prime the sampler with at least one character first");
}

crnn_status crnn_sampler_probabilities(crnn_sampler *sampler, float *p, crnn_error *err)
{
    crnn_model *model = sampler->model;
    crnn_backend *be = model->be;
    crnn_status status = need_prime(sampler, err);
    if (status != CRNN_OK)
        return status;
    be->ops->probabilities(be, sampler->p, model->logits, sampler->count, sampler->V, &sampler->options);
    be->ops->download(be, p, sampler->p, (size_t)sampler->count * (size_t)sampler->V * sizeof *p);
    return be->ops->sync(be, err);
}

/* Queues the draw of one character of each text, and its way through the model. */
static void write_one(crnn_model *model, void *user)
{
    const crnn_sampler *sampler = user;
    crnn_backend *be = model->be;
    be->ops->probabilities(be, sampler->p, model->logits, sampler->count, sampler->V, &sampler->options);
    be->ops->pick(be, model->x, sampler->written, sampler->next_draw, sampler->p, sampler->count, sampler->V, RING,
                  sampler->options.seed);
    crnn_model_forward(model, NULL);
}

/* Queues `some` draws of each text, no more than there is room for; returns where on the device they will be. */
static const uint16_t *write_some(crnn_sampler *sampler, int64_t some)
{
    crnn_model *model = sampler->model;
    crnn_backend *be = model->be;
    if (sampler->writer) {
        const crnn_writing writing = {sampler->written, model->x, model->state, model->logits, sampler->next_draw};
        be->ops->write(sampler->writer, &writing, (int32_t)some, &sampler->options);
        return sampler->written;
    }
    for (int64_t i = 0; i < some; i++)
        crnn_model_record(model, CRNN_RECORD_WRITE, write_one, sampler);
    return sampler->written + sampler->drawn % RING * sampler->count;
}

crnn_status crnn_sampler_write(crnn_sampler *sampler, uint16_t *ids, int64_t n, crnn_error *err)
{
    crnn_backend *be = sampler->model->be;
    crnn_status status = need_prime(sampler, err);
    while (n > 0 && status == CRNN_OK) {
        int64_t room = sampler->writer ? sampler->room : RING - sampler->drawn % RING, some = n < room ? n : room,
                values = some * sampler->count;
        const uint16_t *written = write_some(sampler, some);
        be->ops->download(be, ids, written, (size_t)values * sizeof *ids);
        status = be->ops->sync(be, err);
        sampler->drawn += some;
        ids += values;
        n -= some;
    }
    return status;
}

crnn_status crnn_sampler_next(crnn_sampler *sampler, uint16_t *ids, crnn_error *err)
{
    return crnn_sampler_write(sampler, ids, 1, err);
}

crnn_status crnn_sampler_reset(crnn_sampler *sampler, crnn_error *err)
{
    crnn_backend *be = sampler->model->be;
    sampler->drawn = 0;
    sampler->primed = false;
    be->ops->zero(be, sampler->next_draw, sizeof *sampler->next_draw);
    return crnn_model_set_state(sampler->model, NULL, err);
}
