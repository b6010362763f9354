/* The model on one device: its memory, and a step as a short list of operations. Shapes stand at the allocations. */
#include "host/model/model.h"
#include "host/base/memory.h"
#include "host/base/rng.h"
#include "host/model/init.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ALIGN_FLOATS = 16 };

double crnn_model_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- memory --------------------------------------------------------------------------------------------------------- */

/* Steps that may be queued at a time. */
static int32_t queued_steps(int32_t B)
{
    int32_t fit = CRNN_QUEUED_STARTS / B;
    return fit < 1 ? 1 : fit < CRNN_QUEUED_STEPS ? fit : CRNN_QUEUED_STEPS;
}

/* Bytes a model will take, as a double so that no product overflows: arenas, activations and the layers' own gates. On a GPU a layer of our own
 * keeps no more gates than an eighth of its memory holds. */
static double bytes_needed(const crnn_model *model, double B)
{
    const crnn_model_config *c = &model->config;
    double V = c->sizes.V, E = c->sizes.E, H = c->sizes.H, L = c->sizes.L, T = c->T;
    double parameters = V * E + 3 * H * (E + H + 2) + (L - 1) * 3 * H * (2 * H + 2) + H * V + V;
    double activations = T * B * (V + H * L) + 3 * L * B * H;
    double gates = 4 * T * B * H, most = (double)model->device.memory_total / 8 / sizeof(float);
    if (model->device.kind == CRNN_DEVICE_CUDA && gates > most)
        gates = most;
    if (c->training)
        activations +=
            queued_steps(c->B) * (2 * B + 20) + L * gates + T * B * H * (2 + L + (c->sizes.dropout > 0 ? L - 1 : 0));
    return 4 * (parameters * (c->training ? 6 : 3) + activations);
}

static crnn_status check_memory(const crnn_model *model, crnn_error *err)
{
    const crnn_model_config *c = &model->config;
    const double mib = 1048576;
    double need = bytes_needed(model, c->B), available = (double)model->device.memory_free;
    if (available <= 0 || need <= available)
        return CRNN_OK;
    int32_t low = 0, high = c->B; /* the largest batch that fits lies in [low, high) */
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (bytes_needed(model, middle) <= available)
            low = middle;
        else
            high = middle;
    }
    char advice[128];
    if (low > 0)
        snprintf(advice, sizeof advice, "with length %d and %d units the largest batch that fits is %d", c->T,
                 c->sizes.H, low);
    else
        snprintf(advice, sizeof advice,
                 "not even a batch of 1 fits; choose fewer units, fewer layers or a shorter length");
    return crnn_fail(err, CRNN_ERR_MEMORY,
                     "this model needs about %.0f MiB of memory, and %.0f of %.0f MiB are free: %s", need / mib,
                     available / mib, (double)model->device.memory_total / mib, advice);
}

static int64_t place(int64_t *end, int64_t floats)
{
    int64_t at = *end;
    *end += (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    return at;
}

static float *device_floats(crnn_model *model, int64_t rows, int64_t columns)
{
    return model->be->ops->alloc(model->be, (size_t)rows * (size_t)columns * sizeof(float));
}

static void make_layers(crnn_model *model)
{
    const crnn_model_config *c = &model->config;
    const crnn_model_sizes *s = &c->sizes;
    crnn_gru_shape shapes[CRNN_MAX_LAYERS];
    for (int l = 0; l < s->L; l++)
        shapes[l] = (crnn_gru_shape){c->T, c->B, l ? s->H : s->E, s->H, l ? 0 : s->V, c->training};
    model->be->ops->gru_choose(model->be, &model->rnn, shapes, s->L);
    model->embeddings = place(&model->floats, (int64_t)s->V * s->E);
    for (int l = 0; l < s->L; l++) {
        model->gru[l] = model->be->ops->gru_new(model->be, &shapes[l]);
        if (!model->gru[l])
            return; /* latched */
        model->layer[l] = place(&model->floats, model->be->ops->gru_params(model->gru[l]));
    }
    model->dense_kernel = place(&model->floats, (int64_t)s->H * s->V);
    model->dense_bias = place(&model->floats, s->V);
}

static void make_memory(crnn_model *model)
{
    const crnn_model_config *c = &model->config;
    const crnn_backend_ops *ops = model->be->ops;
    int64_t B = c->B, TB = c->T * B, V = c->sizes.V, H = c->sizes.H, L = c->sizes.L;
    for (int role = 0; role < (c->training ? 4 : 1); role++)
        model->arena[role] = device_floats(model, model->floats, 1);
    model->x = ops->alloc(model->be, (size_t)TB * sizeof(uint16_t));
    model->y = ops->alloc(model->be, (size_t)TB * sizeof(uint16_t));
    model->starts = ops->alloc(model->be, (size_t)B * sizeof *model->starts);
    model->inputs = ops->alloc(model->be, sizeof *model->inputs);
    size_t most = (size_t)model->most;
    model->numbers = ops->alloc(model->be, most * sizeof *model->numbers);
    model->queue.numbers = model->numbers;
    if (c->training) {
        model->queue.begun = ops->alloc(model->be, sizeof *model->queue.begun);
        model->queue.inputs = ops->alloc(model->be, most * sizeof *model->queue.inputs);
        model->queue.starts = ops->alloc(model->be, most * (size_t)B * sizeof *model->queue.starts);
    }
    for (int l = 0; l < L; l++) {
        model->hs[l] = device_floats(model, TB, H);
        if (l && c->training && c->sizes.dropout > 0)
            model->dropped[l] = device_floats(model, TB, H);
    }
    model->logits = ops->alloc(model->be, c->training ? ops->head_bytes(model->be, TB, c->sizes.H, c->sizes.V)
                                                      : (size_t)TB * (size_t)V * sizeof(float));
    if (c->training) {
        model->dhs = device_floats(model, TB, H);
        if (L > 1)
            model->dx = device_floats(model, TB, H);
    }
    model->state = device_floats(model, L * B, H);
    model->next_state = device_floats(model, L * B, H);
    model->saved_state = device_floats(model, L * B, H);
}

static crnn_status check_config(const crnn_model_config *c, crnn_error *err)
{
    const crnn_model_sizes *s = &c->sizes;
    if (s->V < 1 || s->V > CRNN_MAX_VOCAB || s->E < 1 || s->H < 1 || s->L < 1 || s->L > CRNN_MAX_LAYERS || c->B < 1 ||
        c->T < 1)
        return crnn_fail(err, CRNN_ERR_ARGUMENT,
                         "impossible model: vocabulary %d (1 to %d), embedding %d, units %d, layers %d (1 to %d), "
                         "batch %d, length %d",
                         s->V, CRNN_MAX_VOCAB, s->E, s->H, s->L, CRNN_MAX_LAYERS, c->B, c->T);
    if (!(s->dropout >= 0 && s->dropout < 1))
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "dropout must lie in [0, 1), not %g", (double)s->dropout);
    return CRNN_OK;
}

static crnn_status draw_weights(crnn_model *model, crnn_error *err)
{
    const crnn_model_config *c = &model->config;
    float *weights = crnn_alloc((size_t)crnn_model_parameters(&c->sizes), sizeof *weights, "the weights", err);
    if (!weights)
        return CRNN_ERR_MEMORY;
    crnn_init_weights(weights, &c->sizes, c->seed);
    crnn_status status = crnn_model_set(model, CRNN_WEIGHTS, weights, err);
    free(weights);
    return status;
}

crnn_model *crnn_model_new(const crnn_model_config *config, const crnn_device_config *device, crnn_error *err)
{
    if (check_config(config, err) != CRNN_OK)
        return NULL;
    crnn_model *model = crnn_alloc(1, sizeof *model, "a model", err);
    if (!model)
        return NULL;
    model->config = *config;
    model->be = crnn_backend_open(device, NULL, 0, err);
    if (!model->be)
        goto fail;
    model->be->ops->info(model->be, &model->device);
    model->most = config->training ? queued_steps(config->B) : 1;
    if (check_memory(model, err) != CRNN_OK)
        goto fail;
    make_layers(model);
    make_memory(model);
    if (model->be->ops->sync(model->be, err) != CRNN_OK)
        goto fail;
    size_t TB = (size_t)config->T * (size_t)config->B;
    model->host_x = crnn_alloc(TB, sizeof *model->host_x, "a batch", err);
    model->host_y = crnn_alloc(TB, sizeof *model->host_y, "a batch", err);
    model->host_inputs = crnn_alloc((size_t)model->most, sizeof *model->host_inputs, "a queue of steps", err);
    model->host_numbers = crnn_alloc((size_t)model->most, sizeof *model->host_numbers, "a queue of steps", err);
    if (!model->host_x || !model->host_y || !model->host_inputs || !model->host_numbers ||
        draw_weights(model, err) != CRNN_OK)
        goto fail;
    return model;
fail:
    crnn_model_free(model);
    return NULL;
}

void crnn_model_free(crnn_model *model)
{
    if (!model)
        return;
    if (model->be) {
        const crnn_backend_ops *ops = model->be->ops;
        for (int role = 0; role < 4; role++)
            ops->free(model->be, model->arena[role]);
        for (int l = 0; l < CRNN_MAX_LAYERS; l++) {
            if (model->gru[l])
                ops->gru_free(model->gru[l]);
            ops->free(model->be, model->hs[l]);
            ops->free(model->be, model->dropped[l]);
        }
        void *rest[] = {model->x,          model->y,           model->starts,       model->inputs,
                        model->numbers,    model->queue.begun, model->queue.inputs, model->queue.starts,
                        model->logits,     model->dhs,         model->dx,           model->state,
                        model->next_state, model->saved_state, model->text};
        for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
            ops->free(model->be, rest[i]);
        ops->close(model->be);
    }
    free(model->host_x);
    free(model->host_y);
    free(model->host_inputs);
    free(model->host_numbers);
    free(model);
}

const crnn_model_config *crnn_model_configuration(const crnn_model *model)
{
    return &model->config;
}

const crnn_device_info *crnn_model_device(const crnn_model *model)
{
    return &model->device;
}

int64_t crnn_model_memory(const crnn_model *model)
{
    return model->be->ops->memory(model->be);
}

const crnn_rnn_choice *crnn_model_rnn_choice(const crnn_model *model)
{
    return &model->rnn;
}

/* --- canonical tensors in and out ------------------------------------------------------------------------------------ */

static crnn_status check_role(const crnn_model *model, crnn_role role, crnn_error *err)
{
    if (model->arena[role])
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_ARGUMENT, "a model that does not train has neither gradients nor moments");
}

crnn_status crnn_model_set(crnn_model *model, crnn_role role, const float *canonical, crnn_error *err)
{
    crnn_status status = check_role(model, role, err);
    if (status != CRNN_OK)
        return status;
    const crnn_backend_ops *ops = model->be->ops;
    const crnn_model_sizes *s = &model->config.sizes;
    int64_t V = s->V, E = s->E, H = s->H;
    float *arena = model->arena[role];
    const float *in = canonical;
    ops->upload(model->be, arena + model->embeddings, in, (size_t)(V * E) * sizeof(float));
    in += V * E;
    for (int l = 0; l < s->L; l++) {
        int64_t I = l ? H : E;
        ops->gru_pack(model->gru[l], arena + model->layer[l], in, in + I * 3 * H, in + (I + H) * 3 * H);
        in += (I + H + 2) * 3 * H;
    }
    ops->upload(model->be, arena + model->dense_kernel, in, (size_t)(H * V) * sizeof(float));
    ops->upload(model->be, arena + model->dense_bias, in + H * V, (size_t)V * sizeof(float));
    return ops->sync(model->be, err);
}

crnn_status crnn_model_get(crnn_model *model, crnn_role role, float *canonical, crnn_error *err)
{
    crnn_status status = check_role(model, role, err);
    if (status != CRNN_OK)
        return status;
    const crnn_backend_ops *ops = model->be->ops;
    const crnn_model_sizes *s = &model->config.sizes;
    int64_t V = s->V, E = s->E, H = s->H;
    const float *arena = model->arena[role];
    float *out = canonical;
    ops->download(model->be, out, arena + model->embeddings, (size_t)(V * E) * sizeof(float));
    out += V * E;
    for (int l = 0; l < s->L; l++) {
        int64_t I = l ? H : E;
        ops->gru_unpack(model->gru[l], out, out + I * 3 * H, out + (I + H) * 3 * H, arena + model->layer[l]);
        out += (I + H + 2) * 3 * H;
    }
    ops->download(model->be, out, arena + model->dense_kernel, (size_t)(H * V) * sizeof(float));
    ops->download(model->be, out + H * V, arena + model->dense_bias, (size_t)V * sizeof(float));
    return ops->sync(model->be, err);
}

size_t crnn_model_state_bytes(const crnn_model *model)
{
    const crnn_model_config *c = &model->config;
    return (size_t)c->sizes.L * (size_t)c->B * (size_t)c->sizes.H * sizeof(float);
}

crnn_status crnn_model_get_state(crnn_model *model, float *state, crnn_error *err)
{
    model->be->ops->download(model->be, state, model->state, crnn_model_state_bytes(model));
    return model->be->ops->sync(model->be, err);
}

crnn_status crnn_model_set_state(crnn_model *model, const float *state, crnn_error *err)
{
    if (state)
        model->be->ops->upload(model->be, model->state, state, crnn_model_state_bytes(model));
    else
        model->be->ops->zero(model->be, model->state, crnn_model_state_bytes(model));
    return model->be->ops->sync(model->be, err);
}

crnn_status crnn_model_set_text(crnn_model *model, crnn_ids ids, crnn_error *err)
{
    const crnn_backend_ops *ops = model->be->ops;
    size_t bytes;
    if (ids.count < 1 || !crnn_mul_size(&bytes, (size_t)ids.count, (size_t)ids.width))
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "a text to train on needs at least one character");
    ops->free(model->be, model->text);
    model->text = ops->alloc(model->be, bytes);
    if (model->text)
        ops->upload(model->be, model->text, ids.data, bytes);
    model->ids = ids;
    return ops->sync(model->be, err);
}

/* --- a step ---------------------------------------------------------------------------------------------------------- */

static crnn_gru_input layer_input(const crnn_model *model, int l, bool drop)
{
    if (l == 0)
        return (crnn_gru_input){NULL, model->x, model->arena[CRNN_WEIGHTS] + model->embeddings};
    return (crnn_gru_input){drop ? model->dropped[l] : model->hs[l - 1], NULL, NULL};
}

static int64_t state_offset(const crnn_model *model, int l)
{
    return (int64_t)l * model->config.B * model->config.sizes.H;
}

/* What a layer must read at least, its states apart: weights and input, or weights and the table of its characters. */
static double layer_floats(const crnn_model *model, int l)
{
    const crnn_model_config *c = &model->config;
    double rows = l ? (double)c->T * c->B : c->sizes.V, width = l ? c->sizes.H : c->sizes.E;
    return (double)model->be->ops->gru_params(model->gru[l]) + rows * width;
}

/* x [T,B] -> hs of the last layer [T,B,H], state -> next_state. drop: with dropout between the layers. */
static void layers(crnn_model *model, bool drop)
{
    const crnn_backend_ops *ops = model->be->ops;
    const crnn_model_sizes *s = &model->config.sizes;
    const float *w = model->arena[CRNN_WEIGHTS];
    int64_t TB = (int64_t)model->config.T * model->config.B;
    for (int l = 0; l < s->L; l++) {
        if (l && drop) {
            ops->dropout(model->be, model->dropped[l], model->hs[l - 1], TB * s->H, s->dropout, model->config.seed,
                         model->inputs, l);
            crnn_model_book(model, OP_DROPOUT, 0, 2.0 * (double)TB * s->H);
        }
        crnn_gru_input in = layer_input(model, l, drop);
        int64_t h = state_offset(model, l);
        ops->gru_forward(model->gru[l], model->hs[l], model->next_state + h, &in, model->state + h,
                         w + model->layer[l]);
        crnn_model_book(model, OP_GRU, ops->gru_flop(model->gru[l], false), layer_floats(model, l) + (double)TB * s->H);
    }
}

/* hs of the last layer, y [T,B] -> numbers, dhs [T,B,H], gradients of the dense layer. */
static void head(crnn_model *model)
{
    const crnn_model_sizes *s = &model->config.sizes;
    const float *w = model->arena[CRNN_WEIGHTS];
    float *g = model->arena[CRNN_GRADIENTS];
    int64_t TB = (int64_t)model->config.T * model->config.B;
    model->be->ops->head(model->be, &(crnn_head){.numbers = model->numbers,
                                                 .dx = model->dhs,
                                                 .dW = g + model->dense_kernel,
                                                 .db = g + model->dense_bias,
                                                 .scratch = model->logits,
                                                 .x = model->hs[s->L - 1],
                                                 .W = w + model->dense_kernel,
                                                 .b = w + model->dense_bias,
                                                 .y = model->y,
                                                 .n = TB,
                                                 .H = s->H,
                                                 .V = s->V,
                                                 .scale = 1.0F / (float)TB});
    crnn_model_book(model, OP_HEAD, 6.0 * (double)TB * s->H * s->V, 2.0 * (double)(TB + s->V) * s->H);
}

/* dhs -> the gradients of the layers. */
static void backward(crnn_model *model, bool drop)
{
    const crnn_backend_ops *ops = model->be->ops;
    const crnn_model_sizes *s = &model->config.sizes;
    const float *w = model->arena[CRNN_WEIGHTS];
    float *g = model->arena[CRNN_GRADIENTS], *dhs = model->dhs, *dx = model->dx;
    int64_t TB = (int64_t)model->config.T * model->config.B;
    for (int l = s->L - 1; l >= 0; l--) {
        crnn_gru_input in = layer_input(model, l, drop);
        ops->gru_backward(model->gru[l], l ? dx : g + model->embeddings, g + model->layer[l], dhs, model->hs[l], &in,
                          model->state + state_offset(model, l), w + model->layer[l]);
        crnn_model_book(model, OP_GRU_BACKWARD, ops->gru_flop(model->gru[l], true),
                        2 * layer_floats(model, l) + 2.0 * (double)TB * s->H);
        if (l && drop) {
            ops->dropout(model->be, dx, dx, TB * s->H, s->dropout, model->config.seed, model->inputs, l);
            crnn_model_book(model, OP_DROPOUT_BACKWARD, 0, 2.0 * (double)TB * s->H);
        }
        float *swap = dhs; /* what came out of this layer goes into the one below */
        dhs = dx;
        dx = swap;
    }
}

/* next_state -> state. numbers: of the step that must have been taken, or NULL. */
static void carry(crnn_model *model, const crnn_step_numbers *numbers)
{
    const crnn_model_config *c = &model->config;
    int64_t n = (int64_t)c->sizes.L * c->B * c->sizes.H;
    model->be->ops->carry(model->be, model->state, model->next_state, n, numbers);
}

void crnn_model_record(crnn_model *model, crnn_record list, void (*ops)(crnn_model *model, void *user), void *user)
{
    crnn_backend *be = model->be;
    if (model->timing) {
        ops(model, user);
    } else if (be->ops->record(be, list)) {
        do
            ops(model, user);
        while (!be->ops->record_end(be, list));
    }
}

void crnn_model_train_step(crnn_model *model)
{
    const crnn_backend_ops *ops = model->be->ops;
    bool drop = model->config.sizes.dropout > 0;
    layers(model, drop);
    head(model);
    backward(model, drop);
    ops->norm(model->be, model->numbers, model->arena[CRNN_GRADIENTS], model->floats);
    crnn_model_book(model, OP_NORM, 0, (double)model->floats);
    ops->adam(model->be, model->arena[CRNN_WEIGHTS], model->arena[CRNN_ADAM_M], model->arena[CRNN_ADAM_V],
              model->arena[CRNN_GRADIENTS], model->floats, model->inputs, model->numbers);
    carry(model, model->numbers);
    crnn_model_book(model, OP_ADAM, 0, 7.0 * (double)model->floats);
}

void crnn_model_forward(crnn_model *model, void *unused)
{
    (void)unused;
    const crnn_model_sizes *s = &model->config.sizes;
    const float *w = model->arena[CRNN_WEIGHTS];
    int64_t TB = (int64_t)model->config.T * model->config.B;
    layers(model, false);
    model->be->ops->linear(model->be, model->logits, model->hs[s->L - 1], w + model->dense_kernel,
                           w + model->dense_bias, TB, s->H, s->V);
    crnn_model_book(model, OP_LOGITS, 2.0 * (double)TB * s->H * s->V, (double)TB * (s->H + s->V));
    carry(model, NULL);
}

void crnn_model_score(crnn_model *model, void *unused)
{
    int64_t TB = (int64_t)model->config.T * model->config.B;
    crnn_model_forward(model, unused);
    model->be->ops->softmax_xent(model->be, model->numbers, model->logits, model->y, TB, model->config.sizes.V, 0);
    crnn_model_book(model, OP_LOSS, 0, (double)TB * model->config.sizes.V);
}
