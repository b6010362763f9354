/* trial.c - one way to compute a recurrent layer, tried: is it right, and how long does it take. */
#include "host/base/memory.h"
#include "kernels/cuda/choose.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A pass is timed so often, or less often where that would take longer. */
enum { MOST_PASSES = 20, LEAST_PASSES = 3 };
static const double ENOUGH_SECONDS = 0.25;

/* How far the numbers of two right ways may lie apart, as a share of the largest. Sums in another order, and rounded factors whose errors the
 * time steps hand on, stay a factor of five and more below; a row, tile or gate that is left out or taken twice is above. */
static const double allowed[] = {
    [CRNN_FP32] = 1e-4, /* 24-bit significands, 22 where fp16 is split: a few 1e-6 */
    [CRNN_TF32] = 2e-2, /* 11 bits: a few 1e-3 */
    [CRNN_BF16] = 1e-1, /* 8 bits, states and gradients among them: a few 1e-2 */
};

/* What a way gives, on the host. */
typedef struct {
    float *hs;                        /* [T,B,H] */
    float *kernel, *recurrent, *bias; /* gradients, canonical */
    float *din;                       /* [T,B,I], or [V,I] where the input is characters */
} results;

struct crnn_trial {
    crnn_gru_shape s;
    size_t n_hs, n_kernel, n_recurrent, n_bias, n_x, n_h; /* floats */
    float *kernel, *recurrent, *bias;                     /* canonical weights */
    float *x;                                             /* [T,B,I], or embeddings [V,I] */
    uint16_t *tokens;                                     /* [T,B] where it is characters */
    float *h_first, *dhs;                                 /* [B,H], [T,B,H] */
    results reference;                                    /* of the first way; hs NULL before it */
};

/* The layer on the device, in the way under trial. */
typedef struct {
    const crnn_trial *trial;
    crnn_backend *be;
    crnn_gru *g;
    crnn_gru_input in;
    float *x, *hs, *h_first, *h_last, *dhs, *din, *w, *dw;
    uint16_t *tokens;
} stage;

/* --- what it is tried with ------------------------------------------------------------------------------------------- */

/* Uniform in [-most, most). */
static float *random_floats(size_t count, double most, uint32_t *random, crnn_error *err)
{
    float *x = crnn_alloc(count, sizeof *x, "a trial", err);
    for (size_t i = 0; x && i < count; i++) {
        *random = *random * 1664525U + 1013904223U;
        x[i] = (float)(most * ((double)(*random >> 8) * 0x1p-23 - 1));
    }
    return x;
}

static uint16_t *random_tokens(size_t count, int32_t V, uint32_t *random, crnn_error *err)
{
    uint16_t *tokens = crnn_alloc(count, sizeof *tokens, "a trial", err);
    for (size_t i = 0; tokens && i < count; i++) {
        *random = *random * 1664525U + 1013904223U;
        tokens[i] = (uint16_t)((*random >> 8) % (uint32_t)V);
    }
    return tokens;
}

crnn_trial *crnn_trial_new(const crnn_gru_shape *shape, crnn_error *err)
{
    crnn_trial *t = crnn_alloc(1, sizeof *t, "a trial", err);
    uint32_t random = 1;
    if (!t)
        return NULL;
    size_t I = (size_t)shape->I, H = (size_t)shape->H, TB = (size_t)shape->T * (size_t)shape->B;
    t->s = *shape;
    t->n_h = (size_t)shape->B * H;
    t->n_hs = TB * H;
    t->n_kernel = I * 3 * H;
    t->n_recurrent = H * 3 * H;
    t->n_bias = 6 * H;
    t->n_x = (shape->V > 0 ? (size_t)shape->V : TB) * I;
    t->kernel = random_floats(t->n_kernel, sqrt(6.0 / (double)(I + 3 * H)), &random, err); /* as a model begins */
    t->recurrent = random_floats(t->n_recurrent, sqrt(6.0 / (double)(4 * H)), &random, err);
    t->bias = random_floats(t->n_bias, 0.1, &random, err);
    t->x = random_floats(t->n_x, 1, &random, err);
    t->tokens = shape->V > 0 ? random_tokens(TB, shape->V, &random, err) : NULL;
    t->h_first = random_floats(t->n_h, 0.5, &random, err);
    t->dhs = random_floats(t->n_hs, 0.1 / (double)TB, &random, err); /* as of a loss that is a mean over positions */
    if (t->kernel && t->recurrent && t->bias && t->x && (t->tokens || shape->V == 0) && t->h_first && t->dhs)
        return t;
    crnn_trial_free(t);
    return NULL;
}

static void free_results(results *r)
{
    float *all[] = {r->hs, r->kernel, r->recurrent, r->bias, r->din};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    *r = (results){0};
}

static bool make_results(results *r, const crnn_trial *t, crnn_error *err)
{
    r->hs = crnn_alloc(t->n_hs, sizeof(float), "a trial", err);
    r->kernel = crnn_alloc(t->n_kernel, sizeof(float), "a trial", err);
    r->recurrent = crnn_alloc(t->n_recurrent, sizeof(float), "a trial", err);
    r->bias = crnn_alloc(t->n_bias, sizeof(float), "a trial", err);
    r->din = crnn_alloc(t->n_x, sizeof(float), "a trial", err);
    return r->hs && r->kernel && r->recurrent && r->bias && r->din;
}

void crnn_trial_free(crnn_trial *t)
{
    if (!t)
        return;
    float *floats[] = {t->kernel, t->recurrent, t->bias, t->x, t->h_first, t->dhs};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        free(floats[i]);
    free(t->tokens);
    free_results(&t->reference);
    free(t);
}

/* --- on the device --------------------------------------------------------------------------------------------------- */

static float *put(stage *s, const void *host, size_t bytes)
{
    float *device = s->be->ops->alloc(s->be, bytes);
    if (device && host)
        s->be->ops->upload(s->be, device, host, bytes);
    return device;
}

static void set_up(stage *s)
{
    const crnn_trial *t = s->trial;
    const size_t item = sizeof(float);
    s->g = s->be->ops->gru_new(s->be, &t->s);
    if (!s->g)
        return;
    size_t w_bytes = (size_t)s->be->ops->gru_params(s->g) * item;
    s->w = put(s, NULL, w_bytes);
    s->dw = put(s, NULL, w_bytes);
    s->x = put(s, t->x, t->n_x * item);
    s->din = put(s, NULL, t->n_x * item);
    s->hs = put(s, NULL, t->n_hs * item);
    s->dhs = put(s, t->dhs, t->n_hs * item);
    s->h_first = put(s, t->h_first, t->n_h * item);
    s->h_last = put(s, NULL, t->n_h * item);
    if (t->tokens)
        s->tokens = (uint16_t *)put(s, t->tokens, t->n_hs / (size_t)t->s.H * sizeof *t->tokens);
    s->in = t->tokens ? (crnn_gru_input){NULL, s->tokens, s->x} : (crnn_gru_input){s->x, NULL, NULL};
    s->be->ops->gru_pack(s->g, s->w, t->kernel, t->recurrent, t->bias);
}

static void tear_down(stage *s)
{
    void *all[] = {s->w, s->dw, s->x, s->din, s->hs, s->dhs, s->h_first, s->h_last, s->tokens};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s->be->ops->free(s->be, all[i]);
    if (s->g)
        s->be->ops->gru_free(s->g);
    s->be->ops->close(s->be);
}

/* The lists of a backend of its own: any two will do. */
static void forward(stage *s)
{
    const crnn_backend_ops *ops = s->be->ops;
    if (ops->record(s->be, CRNN_RECORD_FORWARD)) {
        do
            ops->gru_forward(s->g, s->hs, s->h_last, &s->in, s->h_first, s->w);
        while (!ops->record_end(s->be, CRNN_RECORD_FORWARD));
    }
}

static void backward(stage *s)
{
    const crnn_backend_ops *ops = s->be->ops;
    if (ops->record(s->be, CRNN_RECORD_TRAIN)) {
        do
            ops->gru_backward(s->g, s->din, s->dw, s->dhs, s->hs, &s->in, s->h_first, s->w);
        while (!ops->record_end(s->be, CRNN_RECORD_TRAIN));
    }
}

/* --- time ------------------------------------------------------------------------------------------------------------ */

/* The least that a forward and a backward pass took of `passes`, which are queued without a wait between them. */
static void time_passes(stage *s, int passes, double *forward_seconds, double *backward_seconds)
{
    const crnn_backend_ops *ops = s->be->ops;
    for (int i = 0; i < passes; i++) {
        ops->mark(s->be, 2 * i);
        forward(s);
        ops->mark(s->be, 2 * i + 1);
        backward(s);
    }
    ops->mark(s->be, 2 * passes);
    *forward_seconds = *backward_seconds = INFINITY;
    crnn_cuda_wait(crnn_cuda_of(s->be));
    for (int i = 0; i < passes; i++) {
        *forward_seconds = fmin(*forward_seconds, ops->between(s->be, 2 * i, 2 * i + 1));
        *backward_seconds = fmin(*backward_seconds, ops->between(s->be, 2 * i + 1, 2 * i + 2));
    }
}

/* Issued as they are, captured, then replayed: the first replay tells how many there is time for. */
static void compute(stage *s, crnn_rnn_candidate *result)
{
    double f, b;
    for (int i = 0; i < 2; i++) {
        forward(s);
        backward(s);
    }
    time_passes(s, 1, &f, &b);
    double fit = ENOUGH_SECONDS / (f + b);
    time_passes(s, fit > MOST_PASSES ? MOST_PASSES : fit > LEAST_PASSES ? (int)fit : LEAST_PASSES, &f, &b);
    result->forward_seconds += f;
    result->backward_seconds += b;
}

/* --- right or not ---------------------------------------------------------------------------------------------------- */

static void fetch(stage *s, results *r)
{
    const crnn_trial *t = s->trial;
    s->be->ops->download(s->be, r->hs, s->hs, t->n_hs * sizeof(float));
    s->be->ops->download(s->be, r->din, s->din, t->n_x * sizeof(float));
    s->be->ops->gru_unpack(s->g, r->kernel, r->recurrent, r->bias, s->dw);
}

/* The largest difference as a share of the largest number of b; infinite where there are values that are no numbers. */
static double difference(const float *a, const float *b, size_t count)
{
    double most = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        double apart = fabs((double)a[i] - (double)b[i]);
        if (!isfinite(apart))
            return INFINITY;
        most = apart > most ? apart : most;
        largest = fabs((double)b[i]) > largest ? fabs((double)b[i]) : largest;
    }
    return most > 0 ? most / largest : 0;
}

static double largest_difference(const crnn_trial *t, const results *a, const results *b)
{
    double all[] = {
        difference(a->hs, b->hs, t->n_hs),
        difference(a->din, b->din, t->n_x),
        difference(a->kernel, b->kernel, t->n_kernel),
        difference(a->recurrent, b->recurrent, t->n_recurrent),
        difference(a->bias, b->bias, t->n_bias),
    };
    double most = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        most = fmax(most, all[i]);
    return most;
}

/* After the last replay, so that what graphs do counts, and what one pass leaves for the next. */
static void judge(crnn_trial *t, results *r, crnn_precision precision, crnn_rnn_candidate *result)
{
    bool first = !t->reference.hs;
    double apart = largest_difference(t, r, first ? r : &t->reference);
    result->difference = fmax(result->difference, apart);
    if (!isfinite(apart))
        snprintf(result->why, sizeof result->why, "it gives values that are not finite");
    else if (apart > allowed[precision])
        snprintf(result->why, sizeof result->why,
                 "it differs from cudnn by %.1e of the largest number, %.0e is allowed", apart, allowed[precision]);
    if (first && !result->why[0]) {
        t->reference = *r;
        *r = (results){0};
    }
}

/* The reason alone, without the backend's words before it. */
static void say_why(crnn_rnn_candidate *result, const crnn_error *err)
{
    static const char before[] = "the CUDA backend failed in ";
    const char *text = err->text, *colon = strstr(text, ": ");
    if (strncmp(text, before, sizeof before - 1) == 0 && colon)
        text = colon + 2;
    snprintf(result->why, sizeof result->why, "%.*s", (int)sizeof result->why - 1, text);
}

crnn_status crnn_trial_run(crnn_trial *t, const crnn_gru_named_way *way, const crnn_device_config *config,
                           crnn_rnn_candidate *result)
{
    crnn_error err = {0};
    crnn_device_config own = *config;
    results r = {0};
    own.rnn_algo = way->name;
    stage s = {.trial = t, .be = crnn_cuda_open(&own, &err)};
    crnn_status status = s.be ? CRNN_OK : err.status;
    if (s.be) {
        crnn_cuda_take_way(crnn_cuda_of(s.be), way);
        set_up(&s);
        if (s.g)
            compute(&s, result);
        status = s.be->ops->sync(s.be, &err); /* kernels that gave up say so here */
        if (status == CRNN_OK && !make_results(&r, t, &err))
            status = CRNN_ERR_MEMORY;
        if (status == CRNN_OK) {
            fetch(&s, &r);
            status = s.be->ops->sync(s.be, &err);
        }
        tear_down(&s);
    }
    if (status == CRNN_OK)
        judge(t, &r, config->precision, result);
    else
        say_why(result, &err);
    free_results(&r);
    return status;
}
