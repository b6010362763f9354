/* The sampler: a model of one character a step, and a draw from what it says. */
#include "host/base/memory.h"
#include "host/base/rng.h"
#include "host/model/draw.h"
#include "host/model/model.h"
#include <crnn/sample.h>
#include <stdlib.h>

struct crnn_sampler {
    crnn_model *model; /* T = 1, B = count */
    crnn_sample_options options;
    int32_t count, V;
    uint64_t drawn;          /* draws made of each text */
    bool primed;             /* logits are those that follow what was run */
    float *logits;           /* [count,V] */
    float *p;                /* [V] */
    crnn_candidate *scratch; /* [V] */
    uint16_t *ids;           /* [count] */
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
    size_t V = (size_t)sizes->V;
    sampler->logits = crnn_alloc(V * (size_t)count, sizeof *sampler->logits, "logits", err);
    sampler->p = crnn_alloc(V, sizeof *sampler->p, "probabilities", err);
    sampler->scratch = crnn_alloc(V, sizeof *sampler->scratch, "candidates", err);
    sampler->ids = crnn_alloc((size_t)count, sizeof *sampler->ids, "characters", err);
    if (!sampler->logits || !sampler->p || !sampler->scratch || !sampler->ids)
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
    crnn_model_free(sampler->model);
    free(sampler->logits);
    free(sampler->p);
    free(sampler->scratch);
    free(sampler->ids);
    free(sampler);
}

crnn_status crnn_sampler_prime(crnn_sampler *sampler, const uint16_t *ids, int64_t n, crnn_error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= sampler->V)
            return crnn_fail(err, CRNN_ERR_ARGUMENT, "id %d of the prime is not below %d", ids[i], sampler->V);
    for (int64_t i = 0; i < n; i++) {
        for (int32_t k = 0; k < sampler->count; k++)
            sampler->ids[k] = ids[i];
        crnn_status status = crnn_model_forward(sampler->model, sampler->ids, sampler->logits, err);
        if (status != CRNN_OK)
            return status;
        sampler->primed = true;
    }
    return CRNN_OK;
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
    crnn_status status = need_prime(sampler, err);
    for (int32_t k = 0; k < sampler->count && status == CRNN_OK; k++)
        crnn_probabilities(p + (int64_t)k * sampler->V, sampler->logits + (int64_t)k * sampler->V, sampler->V,
                           &sampler->options, sampler->scratch);
    return status;
}

crnn_status crnn_sampler_next(crnn_sampler *sampler, uint16_t *ids, crnn_error *err)
{
    crnn_status status = need_prime(sampler, err);
    if (status != CRNN_OK)
        return status;
    for (int32_t k = 0; k < sampler->count; k++) {
        uint64_t stream = crnn_rng_stream(CRNN_RNG_SAMPLE, (uint64_t)k);
        float u = crnn_u01(crnn_philox(sampler->options.seed, stream, sampler->drawn).v[0]);
        crnn_probabilities(sampler->p, sampler->logits + (int64_t)k * sampler->V, sampler->V, &sampler->options,
                           sampler->scratch);
        ids[k] = crnn_pick(sampler->p, sampler->V, u);
    }
    sampler->drawn++;
    return crnn_model_forward(sampler->model, ids, sampler->logits, err);
}

crnn_status crnn_sampler_reset(crnn_sampler *sampler, crnn_error *err)
{
    sampler->drawn = 0;
    sampler->primed = false;
    return crnn_model_set_state(sampler->model, NULL, err);
}
