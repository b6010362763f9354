/* Every op of a backend against plain loops in double precision, over sizes that no block divides. */
#include "support/tensors.h"

#include "support/reference.h"
#include <crnn/text.h>
#include <stdio.h>
#include <string.h>

static const crnn_gru_shape shapes[] = {
    /* T, B, I, H, V, training */
    {1, 1, 1, 1, 0, true},     {1, 1, 1, 1, 1, true},    {3, 2, 5, 7, 0, true},      {7, 1, 3, 11, 4, true},
    {1, 64, 13, 17, 83, true}, {5, 9, 31, 129, 0, true}, {4, 13, 16, 64, 300, true}, {11, 16, 8, 33, 83, true},
    {2, 8, 24, 257, 19, true}, {20, 3, 37, 41, 1, true}, {6, 17, 7, 16, 0, true},    {2, 33, 5, 260, 40, true},
    {2, 33, 3, 260, 0, true},
};

typedef struct {
    tensor x, embeddings, kernel, recurrent, bias, h_first, hs, dhs, w, dw, din, dkernel, drecurrent, dbias;
    uint16_t *tokens, *device_tokens;
    crnn_gru *g;
    crnn_gru_input in;
    ref_gru ref;
} gru_case;

static void embed_reference(double *x, const double *table, const uint16_t *tokens, int64_t n, int64_t E)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(x + i * E, table + tokens[i] * E, (size_t)E * sizeof *x);
}

static gru_case gru_case_new(crnn_backend *be, const crnn_gru_shape *s)
{
    int64_t n = (int64_t)s->T * s->B, H = s->H, I = s->I;
    gru_case c = {.x = draw(be, n * I, 1, 1), .h_first = draw(be, s->B * H, 1, 2), .dhs = draw(be, n * H, 1, 3)};
    c.kernel = draw(be, I * 3 * H, 2 / sqrt((double)I), 4);
    c.recurrent = draw(be, H * 3 * H, 2 / sqrt((double)H), 5);
    c.bias = draw(be, 6 * H, 1, 6);
    c.hs = make(be, n * H);
    c.dkernel = make(be, I * 3 * H);
    c.drecurrent = make(be, H * 3 * H);
    c.dbias = make(be, 6 * H);
    c.din = make(be, s->V ? s->V * I : n * I);
    if (s->V) {
        c.embeddings = draw(be, s->V * I, 1, 7);
        c.tokens = draw_tokens(be, &c.device_tokens, n, s->V);
        embed_reference(c.x.d, c.embeddings.d, c.tokens, n, I);
        c.in = (crnn_gru_input){.tokens = c.device_tokens, .embeddings = c.embeddings.device};
    } else {
        c.in = (crnn_gru_input){.x = c.x.device};
    }
    c.g = be->ops->gru_new(be, s);
    assert_non_null(c.g);
    assert_true(be->ops->gru_params(c.g) >= 3 * H * (I + H + 2));
    c.w = make(be, be->ops->gru_params(c.g));
    c.dw = make(be, be->ops->gru_params(c.g));
    be->ops->gru_pack(c.g, c.w.device, c.kernel.f, c.recurrent.f, c.bias.f);
    c.ref = (ref_gru){s->T, s->B, s->I, s->H, c.x.d, c.h_first.d, c.kernel.d, c.recurrent.d, c.bias.d};
    return c;
}

static void gru_case_free(crnn_backend *be, gru_case *c)
{
    be->ops->gru_free(c->g);
    tensor *all[] = {&c->x,   &c->embeddings, &c->kernel, &c->recurrent, &c->bias,    &c->h_first,    &c->hs,
                     &c->dhs, &c->w,          &c->dw,     &c->din,       &c->dkernel, &c->drecurrent, &c->dbias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        drop(be, all[i]);
    be->ops->free(be, c->device_tokens);
    free(c->tokens);
}

static void states_agree(crnn_backend *be, double tolerance)
{
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        crnn_gru_shape s = shapes[i / 2];
        s.training = i % 2;
        gru_case c = gru_case_new(be, &s);
        ref_gru_forward(c.hs.d, &c.ref);
        tensor last = make(be, s.B * s.H);
        memcpy(last.d, c.hs.d + (s.T - 1) * s.B * s.H, (size_t)last.n * sizeof *last.d);
        be->ops->gru_forward(c.g, c.hs.device, last.device, &c.in, c.h_first.device, c.w.device);
        assert_near(be, "hs", &c.hs, tolerance);
        assert_near(be, "h_last", &last, tolerance);
        no_failure(be);
        drop(be, &last);
        gru_case_free(be, &c);
    }
}

static void compare_gradients(crnn_backend *be, gru_case *c, const crnn_gru_shape *s, double tolerance)
{
    int64_t n = (int64_t)s->T * s->B, I = s->I;
    double *dx = calloc((size_t)(n * I), sizeof *dx);
    ref_gru_backward(dx, c->dkernel.d, c->drecurrent.d, c->dbias.d, c->dhs.d, &c->ref);
    for (int64_t i = 0; i < n * I; i++)
        c->din.d[s->V ? c->tokens[i / I] * I + i % I : i] += dx[i];
    free(dx);
    be->ops->gru_unpack(c->g, c->dkernel.f, c->drecurrent.f, c->dbias.f, c->dw.device);
    tensor *canonical[] = {&c->dkernel, &c->drecurrent, &c->dbias};
    for (size_t i = 0; i < 3; i++)
        be->ops->upload(be, canonical[i]->device, canonical[i]->f, (size_t)canonical[i]->n * sizeof(float));
    assert_near(be, "dkernel", &c->dkernel, tolerance);
    assert_near(be, "drecurrent", &c->drecurrent, tolerance);
    assert_near(be, "dbias", &c->dbias, tolerance);
    assert_near(be, "din", &c->din, tolerance);
}

static void gradients_agree(crnn_backend *be, double tolerance)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const crnn_gru_shape *s = &shapes[i];
        gru_case c = gru_case_new(be, s);
        tensor last = make(be, s->B * s->H);
        for (int round = 0; round < 2; round++) { /* a second step finds what the first left behind */
            be->ops->gru_forward(c.g, c.hs.device, last.device, &c.in, c.h_first.device, c.w.device);
            be->ops->gru_backward(c.g, c.din.device, c.dw.device, c.dhs.device, c.hs.device, &c.in, c.h_first.device,
                                  c.w.device);
        }
        compare_gradients(be, &c, s, tolerance);
        be->ops->gru_forward(c.g, c.hs.device, last.device, &c.in, c.h_first.device, c.w.device);
        if (!s->V) /* no gradient of the input wanted */
            be->ops->gru_backward(c.g, NULL, c.dw.device, c.dhs.device, c.hs.device, &c.in, c.h_first.device,
                                  c.w.device);
        no_failure(be);
        drop(be, &last);
        gru_case_free(be, &c);
    }
}

static void a_gru_layer_gives_the_states_and_gradients_of_the_reference(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    states_agree(be, 1e-6);
    gradients_agree(be, 2e-6);
    be->ops->close(be);
}

/* Each factor of a product is off by up to 2^-9 of itself, at random; a product of sums by about that much of its norm, and gradients
 * pass through several. cuDNN rounds the inputs, the biases and the states that it gives out as well. */
static void a_gru_layer_in_bf16_stays_near_the_reference(void **state)
{
    (void)state;
    crnn_backend *be = open_precision(CRNN_BF16);
    if (!be)
        skip();
    states_agree(be, strcmp(be->ops->name, "cpu") == 0 ? 0.01 : 0.02);
    gradients_agree(be, 0.03);
    be->ops->close(be);
}

/* Each factor is off by up to 2^-11 of itself; the CPU has no such precision. */
static void a_gru_layer_in_tf32_stays_near_the_reference(void **state)
{
    (void)state;
    crnn_device_config config = test_device();
    if (config.kind == CRNN_DEVICE_CPU)
        skip();
    crnn_backend *be = open_precision(CRNN_TF32);
    if (!be)
        skip();
    states_agree(be, 0.004);
    gradients_agree(be, 0.006);
    be->ops->close(be);
}

/* What fp16 cannot hold may cost the step, but gates that saturate must not hide it. */
static void check_large_weights(crnn_backend *be, const crnn_gru_shape *s, double tolerance)
{
    for (int k = 0; k < (s->V ? 3 : 6); k++) { /* one of each gate, of R and of K */
        gru_case c = gru_case_new(be, s);
        const tensor *matrix = k < 3 ? &c.recurrent : &c.kernel;
        const int64_t i = (k % 3) * s->H + s->H / 2;
        matrix->f[i] = k % 2 ? -300 : 300;
        matrix->d[i] = (double)matrix->f[i];
        be->ops->gru_pack(c.g, c.w.device, c.kernel.f, c.recurrent.f, c.bias.f);
        for (int64_t b = 0; b < s->B; b++) { /* so that the gate is not where it saturates anyway */
            c.h_first.f[b * s->H] = 1e-3F;
            c.h_first.d[b * s->H] = (double)1e-3F;
        }
        be->ops->upload(be, c.h_first.device, c.h_first.f, (size_t)c.h_first.n * sizeof(float));
        be->ops->gru_forward(c.g, c.hs.device, c.hs.device + (s->T - 1) * s->B * s->H, &c.in, c.h_first.device,
                             c.w.device);
        be->ops->download(be, c.hs.f, c.hs.device, (size_t)c.hs.n * sizeof(float));
        bool finite = true;
        for (int64_t j = 0; j < c.hs.n; j++)
            finite = finite && isfinite(c.hs.f[j]);
        ref_gru_forward(c.hs.d, &c.ref);
        if (finite)
            assert_near(be, "hs", &c.hs, tolerance);
        no_failure(be);
        gru_case_free(be, &c);
    }
}

/* 300 times a state that is off by 2^-23, or a product off by 2^-11 of itself where gates are steepest. */
static void large_weights_give_the_right_states_or_none(void **state)
{
    (void)state;
    static const double tolerance[] = {[CRNN_FP32] = 1e-5, [CRNN_TF32] = 0.05};
    for (int precision = CRNN_FP32; precision <= CRNN_TF32; precision++) {
        if (precision == CRNN_TF32 && test_device().kind == CRNN_DEVICE_CPU) /* which has none */
            continue;
        crnn_backend *be = open_precision((crnn_precision)precision);
        if (!be)
            continue;
        check_large_weights(be, &(crnn_gru_shape){3, 2, 5, 12, 0, true}, tolerance[precision]);
        check_large_weights(be, &(crnn_gru_shape){3, 2, 5, 12, 4, false}, tolerance[precision]);
        be->ops->close(be);
    }
}

static void new_weights_are_seen_however_they_arrive(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_gru_shape s = {1, 1, 5, 12, 9, false};
    gru_case c = gru_case_new(be, &s);
    size_t bytes = (size_t)c.w.n * sizeof(float);
    for (int round = 0; round < 3; round++) {
        be->ops->gru_forward(c.g, c.hs.device, c.hs.device, &c.in, c.h_first.device, c.w.device);
        if (round == 0) { /* the embeddings change */
            c.embeddings.f[c.tokens[0] * s.I] += 1;
            c.x.d[0] = (double)c.embeddings.f[c.tokens[0] * s.I];
            be->ops->upload(be, c.embeddings.device, c.embeddings.f, (size_t)c.embeddings.n * sizeof(float));
        } else if (round == 1) { /* the kernel changes */
            c.kernel.f[0] += 1;
            c.kernel.d[0] = (double)c.kernel.f[0];
            be->ops->gru_pack(c.g, c.dw.device, c.kernel.f, c.recurrent.f, c.bias.f);
            be->ops->copy(be, c.w.device, c.dw.device, bytes);
        }
        be->ops->gru_forward(c.g, c.hs.device, c.hs.device, &c.in, c.h_first.device, c.w.device);
        ref_gru_forward(c.hs.d, &c.ref);
        assert_near(be, "hs", &c.hs, 1e-6);
    }
    no_failure(be);
    gru_case_free(be, &c);
    be->ops->close(be);
}

/* --- layers whose weights are updated ------------------------------------------------------------------------------------ */

/* More layers than one launch of an update may serve, all in one arena; and as many that read copies of their weights, which are stale
 * each time. */
enum { MANY = 10, MANY_T = 2, MANY_B = 3, MANY_I = 3, MANY_STATE = MANY_T * MANY_B * (4 + MANY) };
typedef struct {
    crnn_backend *be;
    crnn_gru_shape s[MANY];
    crnn_gru *g[MANY], *fresh[MANY];
    int64_t at[MANY], size[MANY]; /* in the arena */
    tensor w, m, v, dw, copy, x, h_first, dhs, hs, seen, seen_dw;
    crnn_step_inputs *inputs;
    crnn_step_numbers *numbers;
} updated;

static void pass(const updated *u, int k, crnn_gru *g, const tensor *w, int64_t at, float *hs, const tensor *dw)
{
    const crnn_gru_input in = {.x = u->x.device};
    int64_t one = MANY_B * (int64_t)u->s[k].H;
    u->be->ops->gru_forward(g, hs, hs + (MANY_T - 1) * one, &in, u->h_first.device, w->device + at);
    u->be->ops->gru_backward(g, NULL, dw->device + u->at[k], u->dhs.device, hs, &in, u->h_first.device, w->device + at);
}

static updated updated_new(crnn_backend *be)
{
    updated u = {.be = be, .w = {0}};
    int64_t n = 0;
    for (int k = 0; k < MANY; k++) {
        u.s[k] = (crnn_gru_shape){MANY_T, MANY_B, MANY_I, 4 + k, 0, true};
        u.g[k] = be->ops->gru_new(be, &u.s[k]);
        u.fresh[k] = be->ops->gru_new(be, &u.s[k]);
        u.at[k] = n;
        u.size[k] = be->ops->gru_params(u.g[k]);
        n += (u.size[k] + 15) / 16 * 16;
    }
    u.w = draw(be, n, 0.5, 1);
    u.x = draw(be, MANY_T * MANY_B * MANY_I, 1, 2);
    u.h_first = draw(be, MANY_B * (4 + MANY), 1, 3);
    u.dhs = draw(be, MANY_STATE, 1, 4);
    tensor *empty[] = {&u.m, &u.v, &u.dw, &u.copy, &u.seen_dw};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        *empty[i] = make(be, n);
    u.hs = make(be, MANY_STATE);
    u.seen = make(be, MANY_STATE);
    u.inputs = be->ops->alloc(be, sizeof *u.inputs);
    u.numbers = be->ops->alloc(be, sizeof *u.numbers);
    be->ops->upload(be, u.inputs, &(crnn_step_inputs){.adam = {0.05F, 0.9F, 0.999F, 1e-7F, 0, 0}}, sizeof *u.inputs);
    be->ops->upload(be, u.numbers, &(crnn_step_numbers){.finite = 1}, sizeof *u.numbers);
    return u;
}

static void updated_free(updated *u)
{
    tensor *all[] = {&u->w, &u->m, &u->v, &u->dw, &u->copy, &u->x, &u->h_first, &u->dhs, &u->hs, &u->seen, &u->seen_dw};
    for (int k = 0; k < MANY; k++) {
        u->be->ops->gru_free(u->g[k]);
        u->be->ops->gru_free(u->fresh[k]);
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        drop(u->be, all[i]);
    u->be->ops->free(u->be, u->inputs);
    u->be->ops->free(u->be, u->numbers);
}

/* Steps of all layers, as one list. */
static void many_steps(const updated *u, int steps)
{
    const crnn_backend_ops *ops = u->be->ops;
    for (int i = 0; i < steps; i++)
        if (ops->record(u->be, CRNN_RECORD_TRAIN)) {
            for (int k = 0; k < MANY; k++)
                pass(u, k, u->g[k], &u->w, u->at[k], u->hs.device, &u->dw);
            ops->adam(u->be, u->w.device, u->m.device, u->v.device, u->dw.device, u->w.n, u->inputs, u->numbers);
            assert_true(ops->record_end(u->be, CRNN_RECORD_TRAIN));
        }
}

/* A pass of each layer and one of a layer that has seen nothing of these weights yet: the same bits. */
static void all_are_fresh(const updated *u)
{
    const crnn_backend_ops *ops = u->be->ops;
    for (int k = 0; k < MANY; k++) {
        size_t bytes = (size_t)u->size[k] * sizeof(float), states = MANY_STATE * sizeof(float);
        pass(u, k, u->g[k], &u->w, u->at[k], u->hs.device, &u->dw);
        ops->copy(u->be, u->copy.device + u->at[k], u->w.device + u->at[k], bytes);
        pass(u, k, u->fresh[k], &u->copy, u->at[k], u->seen.device, &u->seen_dw);
        ops->download(u->be, u->hs.f, u->hs.device, states);
        ops->download(u->be, u->seen.f, u->seen.device, states);
        assert_memory_equal(u->hs.f, u->seen.f, (size_t)(MANY_T * MANY_B * u->s[k].H) * sizeof(float));
        ops->download(u->be, u->dw.f, u->dw.device + u->at[k], bytes);
        ops->download(u->be, u->seen_dw.f, u->seen_dw.device + u->at[k], bytes);
        assert_memory_equal(u->dw.f, u->seen_dw.f, bytes);
    }
    no_failure(u->be);
}

static void check_updated(crnn_backend *be)
{
    updated u = updated_new(be);
    const crnn_backend_ops *ops = be->ops;
    const float *kernel = u.w.f, *recurrent = u.w.f + 40, *bias = u.w.f + 200;
    many_steps(&u, 5);
    all_are_fresh(&u);
    many_steps(&u, 5); /* weights from outside must be seen by what is replayed by now */
    ops->gru_pack(u.g[2], u.w.device + u.at[2], kernel, recurrent, bias);
    many_steps(&u, 1);
    all_are_fresh(&u);
    many_steps(&u, 5);
    ops->upload(be, u.w.device + u.at[5] + 60, u.w.f, 30 * sizeof(float));
    ops->zero(be, u.w.device + u.at[9] + 80, 20 * sizeof(float));
    many_steps(&u, 4);
    all_are_fresh(&u);
    many_steps(&u, 4);
    ops->copy(be, u.w.device + u.at[7], u.w.device + u.at[3], (size_t)u.size[3] * sizeof(float));
    all_are_fresh(&u);
    many_steps(&u, 4);
    ops->upload(be, u.numbers, &(crnn_step_numbers){.finite = 0}, sizeof *u.numbers); /* not taken */
    many_steps(&u, 2);
    all_are_fresh(&u);
    updated_free(&u);
}

static void what_layers_keep_of_weights_follows_every_update(void **state)
{
    (void)state;
    for (int precision = CRNN_FP32; precision <= CRNN_BF16; precision++) {
        if (precision == CRNN_TF32 && test_device().kind == CRNN_DEVICE_CPU) /* which has none */
            continue;
        crnn_backend *be = open_precision((crnn_precision)precision);
        if (!be)
            continue;
        check_updated(be);
        be->ops->close(be);
    }
}

static void packed_weights_come_back_as_they_were(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_gru_shape s = {2, 3, 5, 7, 0, true};
    gru_case c = gru_case_new(be, &s);
    be->ops->gru_unpack(c.g, c.dkernel.f, c.drecurrent.f, c.dbias.f, c.w.device);
    assert_memory_equal(c.dkernel.f, c.kernel.f, (size_t)c.kernel.n * sizeof(float));
    assert_memory_equal(c.drecurrent.f, c.recurrent.f, (size_t)c.recurrent.n * sizeof(float));
    assert_memory_equal(c.dbias.f, c.bias.f, (size_t)c.bias.n * sizeof(float));
    gru_case_free(be, &c);
    be->ops->close(be);
}

/* sum of hs * dhs, whose derivatives ref_gru_backward claims to give */
static double objective(double *hs, const double *dhs, const ref_gru *g)
{
    double sum = 0;
    ref_gru_forward(hs, g);
    for (int64_t i = 0; i < g->T * g->B * g->H; i++)
        sum += hs[i] * dhs[i];
    return sum;
}

static void the_reference_gradients_are_finite_differences(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_gru_shape s = {4, 2, 3, 5, 0, true};
    gru_case c = gru_case_new(be, &s);
    ref_gru_backward(c.din.d, c.dkernel.d, c.drecurrent.d, c.dbias.d, c.dhs.d, &c.ref);
    tensor *values[] = {&c.x, &c.kernel, &c.recurrent, &c.bias},
           *gradients[] = {&c.din, &c.dkernel, &c.drecurrent, &c.dbias};
    for (size_t k = 0; k < 4; k++)
        for (int64_t i = 0; i < values[k]->n; i++) {
            const double step = 1e-5; /* its square, times a third derivative of order 1, is the error: 1e-10 */
            double *value = &values[k]->d[i], kept = *value;
            *value = kept + step;
            double up = objective(c.hs.d, c.dhs.d, &c.ref);
            *value = kept - step;
            double down = objective(c.hs.d, c.dhs.d, &c.ref);
            *value = kept;
            double difference = (up - down) / (2 * step) - gradients[k]->d[i];
            if (!(fabs(difference) < 1e-8))
                fail_msg("gradient %zu[%lld] is off by %g", k, (long long)i, difference);
        }
    gru_case_free(be, &c);
    be->ops->close(be);
}

static const int32_t linear_shapes[][3] = {/* n, H, V */
                                           {1, 1, 1},     {1, 64, 83},  {7, 33, 300},
                                           {64, 128, 83}, {101, 17, 1}, {8, 257, 5}};

static void a_dense_layer_and_its_gradients_are_those_of_the_reference(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    for (size_t i = 0; i < sizeof linear_shapes / sizeof *linear_shapes; i++) {
        int32_t n = linear_shapes[i][0], H = linear_shapes[i][1], V = linear_shapes[i][2];
        tensor x = draw(be, (int64_t)n * H, 1, 1), W = draw(be, (int64_t)H * V, 1, 2), b = draw(be, V, 1, 3);
        tensor dy = draw(be, (int64_t)n * V, 1, 4), y = make(be, (int64_t)n * V);
        tensor dx = make(be, (int64_t)n * H), dW = make(be, (int64_t)H * V), db = make(be, V);
        ref_linear(y.d, x.d, W.d, b.d, n, H, V);
        ref_linear_backward(dx.d, dW.d, db.d, dy.d, x.d, W.d, n, H, V);
        be->ops->linear(be, y.device, x.device, W.device, b.device, n, H, V);
        be->ops->linear_backward(be, dx.device, dW.device, db.device, dy.device, x.device, W.device, n, H, V);
        assert_near(be, "y", &y, 1e-6);
        assert_near(be, "dx", &dx, 1e-6);
        assert_near(be, "dW", &dW, 1e-6);
        assert_near(be, "db", &db, 1e-6);
        no_failure(be);
        tensor *all[] = {&x, &W, &b, &dy, &y, &dx, &dW, &db};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            drop(be, all[k]);
    }
    be->ops->close(be);
}

static void embedding_looks_up_and_sums_by_character(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    const int32_t sizes[][3] = {{1, 1, 1}, {37, 5, 17}, {64, 300, 3}, {100, 1, 33}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int32_t n = sizes[k][0], V = sizes[k][1], E = sizes[k][2];
        tensor table = draw(be, (int64_t)V * E, 1, 1), y = make(be, (int64_t)n * E);
        tensor dy = draw(be, (int64_t)n * E, 1, 2), dtable = draw(be, (int64_t)V * E, 1, 3); /* rubbish to overwrite */
        uint16_t *device, *tokens = draw_tokens(be, &device, n, V);
        embed_reference(y.d, table.d, tokens, n, E);
        memset(dtable.d, 0, (size_t)dtable.n * sizeof *dtable.d);
        for (int64_t i = 0; i < dy.n; i++)
            dtable.d[tokens[i / E] * E + i % E] += dy.d[i];
        be->ops->embed(be, y.device, device, table.device, n, V, E);
        be->ops->embed_backward(be, dtable.device, dy.device, device, n, V, E);
        assert_near(be, "y", &y, 0);
        assert_near(be, "dtable", &dtable, 1e-6);
        no_failure(be);
        free(tokens);
        be->ops->free(be, device);
        tensor *all[] = {&table, &y, &dy, &dtable};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            drop(be, all[i]);
    }
    be->ops->close(be);
}

static void softmax_gives_loss_hits_and_gradient_for_any_logits(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    const int32_t sizes[][2] = {{1, 1}, {1, 2}, {63, 83}, {200, 300}, {5, 17}};
    crnn_step_numbers *device = be->ops->alloc(be, sizeof *device), got;
    for (size_t k = 0; k < 3 * sizeof sizes / sizeof *sizes; k++) {
        int32_t n = sizes[k / 3][0], V = sizes[k / 3][1];
        const double ranges[] = {1, 30, 1e4}; /* the last would overflow without the maximum taken off */
        tensor z = draw(be, (int64_t)n * V, ranges[k % 3], k);
        uint16_t *y_device, *y = draw_tokens(be, &y_device, n, V);
        if (n > 1) {
            y[n / 2] = CRNN_NO_ID;
            be->ops->upload(be, y_device, y, (size_t)n * sizeof *y);
        }
        for (int pass = 0; pass < 2; pass++) {
            double loss, scale = pass ? 1.0 / n : 0;
            int64_t positions, hits;
            ref_softmax_xent(&loss, &positions, &hits, z.d, y, n, V, (double)(float)scale);
            be->ops->softmax_xent(be, device, z.device, y_device, n, V, (float)scale);
            be->ops->download(be, &got, device, sizeof got);
            assert_near(be, "z", &z, 1e-6);
            assert_true(fabs(got.loss_sum - loss) <= 1e-6 * loss + 1e-12);
            assert_int_equal(got.positions, positions);
            assert_int_equal(got.hits, hits);
            assert_int_equal(got.finite, 1);
        }
        free(y);
        be->ops->free(be, y_device);
        drop(be, &z);
    }
    no_failure(be);
    be->ops->free(be, device);
    be->ops->close(be);
}

static void adam_follows_kerass_formula_with_clipping_and_decay(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_step_numbers *device = be->ops->alloc(be, sizeof *device), numbers = {.finite = 1};
    crnn_step_inputs *inputs = be->ops->alloc(be, sizeof *inputs);
    const int64_t sizes[] = {1, 5, 255, 256, 1031};
    for (size_t k = 0; k < 2 * sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k / 2];
        crnn_adam hyper = {.rate = 1e-3F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-7F};
        hyper.clip = k % 2 ? 0.5F : 0;
        hyper.decay = k % 2 ? 1e-4F : 0;
        tensor w = draw(be, n, 1, 1), m = draw(be, n, 1, 2), v = draw(be, n, 0.5, 3), g = draw(be, n, 1, 4);
        double squares = 0;
        for (int64_t i = 0; i < n; i++) {
            v.f[i] = fabsf(v.f[i]);
            v.d[i] = (double)v.f[i];
            squares += g.d[i] * g.d[i];
        }
        be->ops->upload(be, v.device, v.f, (size_t)n * sizeof(float));
        be->ops->upload(be, device, &numbers, sizeof numbers);
        be->ops->norm(be, device, g.device, n);
        be->ops->upload(be, inputs, &(crnn_step_inputs){hyper, 1}, sizeof *inputs);
        be->ops->adam(be, w.device, m.device, v.device, g.device, n, inputs, device);
        crnn_step_numbers got;
        be->ops->download(be, &got, device, sizeof got);
        assert_true(fabs(got.norm_squared - squares) <= 1e-12 * squares);
        assert_int_equal(got.finite, 1);
        double clip = (double)hyper.clip, b1 = (double)hyper.beta1, b2 = (double)hyper.beta2;
        double scale = clip > 0 && sqrt(squares) > clip ? clip / sqrt(squares) : 1;
        for (int64_t i = 0; i < n; i++) {
            double gi = g.d[i] * scale;
            m.d[i] = b1 * m.d[i] + (1 - b1) * gi;
            v.d[i] = b2 * v.d[i] + (1 - b2) * gi * gi;
            w.d[i] -=
                (double)hyper.rate * m.d[i] / (sqrt(v.d[i]) + (double)hyper.epsilon) + (double)hyper.decay * w.d[i];
        }
        assert_near(be, "m", &m, 1e-6);
        assert_near(be, "v", &v, 1e-6);
        assert_near(be, "w", &w, 1e-6);
        tensor *all[] = {&w, &m, &v, &g};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            drop(be, all[i]);
    }
    no_failure(be);
    be->ops->free(be, inputs);
    be->ops->free(be, device);
    be->ops->close(be);
}

static void a_value_that_is_not_finite_stops_the_update(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_step_numbers *device = be->ops->alloc(be, sizeof *device), got;
    crnn_step_inputs *inputs = be->ops->alloc(be, sizeof *inputs);
    crnn_adam hyper = {.rate = 1e-3F, .beta1 = 0.9F, .beta2 = 0.999F, .epsilon = 1e-7F};
    be->ops->upload(be, inputs, &(crnn_step_inputs){hyper, 1}, sizeof *inputs);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int64_t k = 0; k < 3 * 83; k++) { /* each value at each place of a row of logits and of a gradient */
        tensor z = draw(be, 83, 1, 1), w = draw(be, 83, 1, 2), m = draw(be, 83, 1, 3), v = draw(be, 83, 1, 3);
        uint16_t y = (uint16_t)(k / 3);
        uint16_t *y_device = be->ops->alloc(be, sizeof y);
        be->ops->upload(be, y_device, &y, sizeof y);
        be->ops->upload(be, z.device + k / 3, &bad[k % 3], sizeof(float));
        be->ops->norm(be, device, z.device, z.n);
        be->ops->download(be, &got, device, sizeof got);
        assert_int_equal(got.finite, 0);
        be->ops->adam(be, w.device, m.device, v.device, z.device, z.n, inputs, device);
        be->ops->carry(be, w.device, m.device, w.n, device);
        assert_near(be, "w", &w, 0);
        assert_near(be, "m", &m, 0);
        be->ops->softmax_xent(be, device, z.device, y_device, 1, 83, 1);
        be->ops->download(be, &got, device, sizeof got);
        assert_int_equal(got.finite, 0);
        /* and where only the square is no finite float, as in Adam's v */
        be->ops->upload(be, device, &(crnn_step_numbers){.finite = 1}, sizeof got);
        be->ops->upload(be, z.device + k / 3, &(float){1e20F}, sizeof(float));
        be->ops->norm(be, device, z.device, z.n);
        be->ops->download(be, &got, device, sizeof got);
        assert_int_equal(got.finite, 0);
        be->ops->free(be, y_device);
        tensor *all[] = {&z, &w, &m, &v};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            drop(be, all[i]);
    }
    no_failure(be);
    be->ops->free(be, inputs);
    be->ops->free(be, device);
    be->ops->close(be);
}

static void a_queue_is_worked_off_step_by_step(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    enum { STEPS = 5, MOST = 700 };
    static const int32_t rows[] = {1, 3, MOST};
    tensor g = draw(be, 40, 1, 1);
    int64_t wanted[STEPS * MOST], got[MOST];
    crnn_step_inputs inputs[STEPS], *present = be->ops->alloc(be, sizeof *present);
    crnn_step_numbers numbers[STEPS];
    int64_t *starts = be->ops->alloc(be, sizeof got);
    crnn_step_queue queue = {be->ops->alloc(be, sizeof *queue.begun), be->ops->alloc(be, sizeof inputs),
                             be->ops->alloc(be, sizeof wanted), be->ops->alloc(be, sizeof numbers)};
    for (int k = 0; k < STEPS; k++)
        inputs[k] = (crnn_step_inputs){{.rate = (float)k, .decay = 0.5F}, ((uint64_t)1 << 40) + (uint64_t)k};
    for (int i = 0; i < STEPS * MOST; i++)
        wanted[i] = ((int64_t)i << 33) + i;
    be->ops->upload(be, queue.inputs, inputs, sizeof inputs);
    be->ops->upload(be, queue.starts, wanted, sizeof wanted);
    for (int round = 0; round < 6; round++) { /* the third step of each other queue is not taken */
        int32_t B = rows[round / 2];
        be->ops->zero(be, queue.begun, sizeof *queue.begun);
        for (int k = 0; k < STEPS; k++) {
            crnn_step_inputs now;
            be->ops->next_step(be, present, starts, &queue, B);
            be->ops->download(be, &now, present, sizeof now);
            be->ops->download(be, got, starts, (size_t)B * sizeof *got);
            assert_memory_equal(&now, &inputs[k], sizeof now);
            assert_memory_equal(got, wanted + k * B, (size_t)B * sizeof *got);
            be->ops->download(be, numbers, queue.numbers, sizeof *numbers);
            assert_int_equal(numbers->halted, round % 2 && k > 2);
            numbers->loss_sum = k + round;
            numbers->finite = 1; /* as the loss alone says */
            be->ops->upload(be, queue.numbers, numbers, sizeof *numbers);
            if (round % 2 && k == 2)
                be->ops->upload(be, g.device, &(float){NAN}, sizeof(float));
            be->ops->norm(be, queue.numbers, g.device, g.n);
            be->ops->upload(be, g.device, g.f, sizeof(float));
        }
        be->ops->download(be, numbers, queue.numbers, sizeof numbers);
        for (int k = 0; k < STEPS; k++) {
            const crnn_step_numbers *of = &numbers[(k + 1) % STEPS];
            assert_true(of->loss_sum == k + round);
            assert_int_equal(of->finite, !(round % 2 && k >= 2));
        }
    }
    no_failure(be);
    void *all[] = {present, starts, queue.begun, queue.inputs, queue.starts, queue.numbers};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->ops->free(be, all[i]);
    drop(be, &g);
    be->ops->close(be);
}

static void dropout_keeps_what_philox_says_and_scales_it(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    const float p = 0.25F;
    const uint64_t step = ((uint64_t)1 << 33) + 9, stream = crnn_rng_stream(CRNN_RNG_DROPOUT, step * 256 + 3);
    crnn_step_inputs *inputs = be->ops->alloc(be, sizeof *inputs);
    be->ops->upload(be, inputs, &(crnn_step_inputs){.step = step}, sizeof *inputs);
    const int64_t sizes[] = {1, 3, 4, 1003, 4096};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        tensor x = draw(be, sizes[k], 1, 1);
        for (int64_t i = 0; i < x.n; i++)
            x.d[i] = crnn_u01(crnn_philox(5, stream, (uint64_t)i / 4).v[i % 4]) >= p ? x.d[i] / 0.75 : 0;
        be->ops->dropout(be, x.device, x.device, x.n, p, 5, inputs, 3);
        assert_near(be, "x", &x, 1e-6);
        drop(be, &x);
    }
    no_failure(be);
    be->ops->free(be, inputs);
    be->ops->close(be);
}

static void gather_cuts_batches_from_ids_of_either_width(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    enum { N = 41, T = 7, B = 3 };
    uint8_t narrow[N];
    uint16_t wide[N], x[T * B], y[T * B];
    for (int i = 0; i < N; i++) {
        narrow[i] = (uint8_t)(i * 5);
        wide[i] = (uint16_t)(i * 1500);
    }
    const int64_t starts[B] = {0, N - T - 1, 13};
    int64_t *device_starts = be->ops->alloc(be, sizeof starts);
    be->ops->upload(be, device_starts, starts, sizeof starts);
    void *ids = be->ops->alloc(be, sizeof wide);
    uint16_t *device_x = be->ops->alloc(be, sizeof x), *device_y = be->ops->alloc(be, sizeof y);
    for (int width = 1; width <= 2; width++) {
        be->ops->upload(be, ids, width == 1 ? (void *)narrow : (void *)wide, width == 1 ? sizeof narrow : sizeof wide);
        be->ops->gather(be, device_x, device_y, ids, width, device_starts, T, B);
        be->ops->download(be, x, device_x, sizeof x);
        be->ops->download(be, y, device_y, sizeof y);
        for (int t = 0; t < T; t++)
            for (int b = 0; b < B; b++) {
                assert_int_equal(x[t * B + b], (starts[b] + t) * (width == 1 ? 5 : 1500));
                assert_int_equal(y[t * B + b], (starts[b] + t + 1) * (width == 1 ? 5 : 1500));
            }
    }
    no_failure(be);
    be->ops->free(be, ids);
    be->ops->free(be, device_starts);
    be->ops->free(be, device_x);
    be->ops->free(be, device_y);
    be->ops->close(be);
}

static void carrying_copies_unless_the_step_was_not_taken(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_step_numbers *device = be->ops->alloc(be, sizeof *device);
    const int64_t sizes[] = {1, 7, 1025};
    for (size_t k = 0; k < 3 * sizeof sizes / sizeof *sizes; k++) {
        tensor to = draw(be, sizes[k / 3], 1, 1), from = draw(be, sizes[k / 3], 1, 2);
        be->ops->upload(be, device, &(crnn_step_numbers){.finite = k % 3 == 1}, sizeof *device);
        be->ops->carry(be, to.device, from.device, to.n, k % 3 == 2 ? NULL : device);
        if (k % 3)
            memcpy(to.d, from.d, (size_t)to.n * sizeof *to.d);
        assert_near(be, "to", &to, 0);
        drop(be, &to);
        drop(be, &from);
    }
    no_failure(be);
    be->ops->free(be, device);
    be->ops->close(be);
}

/* A list that was recorded reads what device memory holds when it runs, not when it was recorded. */
static void a_recorded_list_sees_what_memory_holds_now(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    crnn_step_inputs *inputs = be->ops->alloc(be, sizeof *inputs);
    tensor x = draw(be, 999, 1, 1), y = make(be, 999);
    for (uint64_t step = 0; step < 5; step++) {
        be->ops->upload(be, inputs, &(crnn_step_inputs){.step = step}, sizeof *inputs);
        if (be->ops->record(be, CRNN_RECORD_TRAIN)) {
            be->ops->dropout(be, y.device, x.device, x.n, 0.5F, 5, inputs, 1);
            be->ops->dropout(be, y.device, y.device, x.n, 0.5F, 6, inputs, 1);
            be->ops->record_end(be, CRNN_RECORD_TRAIN);
        }
        uint64_t stream = crnn_rng_stream(CRNN_RNG_DROPOUT, step * 256 + 1);
        for (int64_t i = 0; i < x.n; i++) {
            bool both = crnn_u01(crnn_philox(5, stream, (uint64_t)i / 4).v[i % 4]) >= 0.5F &&
                        crnn_u01(crnn_philox(6, stream, (uint64_t)i / 4).v[i % 4]) >= 0.5F;
            y.d[i] = both ? 4 * x.d[i] : 0;
        }
        assert_near(be, "y", &y, 1e-7);
        if (step == 2) { /* what was recorded names memory that is gone */
            drop(be, &y);
            y = make(be, 999);
        }
    }
    no_failure(be);
    drop(be, &x);
    drop(be, &y);
    be->ops->free(be, inputs);
    be->ops->close(be);
}

static void a_failure_latches_until_it_is_reported(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    int64_t before = be->ops->memory(be);
    assert_null(be->ops->alloc(be, SIZE_MAX / 2));
    assert_null(be->ops->alloc(be, 64)); /* nothing happens after a failure */
    crnn_error err = {0};
    assert_int_equal(be->ops->sync(be, &err), CRNN_ERR_MEMORY);
    assert_non_null(strstr(err.text, "alloc"));
    no_failure(be);
    void *memory = be->ops->alloc(be, 100);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 64, 0);
    assert_true(be->ops->memory(be) >= before + 100);
    be->ops->free(be, memory);
    assert_int_equal(be->ops->memory(be), before);
    crnn_gru_shape huge = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, 0, true};
    assert_null(be->ops->gru_new(be, &huge));
    assert_int_equal(be->ops->sync(be, &err), CRNN_ERR_MEMORY);
    assert_int_equal(be->ops->memory(be), before);
    be->ops->close(be);
}

static void same_bits(crnn_backend *be)
{
    crnn_gru_shape s = {5, 35, 23, 258, 83, true}; /* enough for all threads to take part */
    gru_case c = gru_case_new(be, &s);
    size_t bytes = (size_t)c.dw.n * sizeof(float);
    float *first = malloc(bytes);
    for (int round = 0; round < 4; round++) {
        be->ops->gru_forward(c.g, c.hs.device, c.hs.device + (s.T - 1) * s.B * s.H, &c.in, c.h_first.device,
                             c.w.device);
        be->ops->gru_backward(c.g, c.din.device, c.dw.device, c.dhs.device, c.hs.device, &c.in, c.h_first.device,
                              c.w.device);
        be->ops->download(be, round ? c.dw.f : first, c.dw.device, bytes);
        if (round)
            assert_memory_equal(first, c.dw.f, bytes);
    }
    no_failure(be);
    free(first);
    gru_case_free(be, &c);
}

static void marks_lie_on_the_devices_clock(void **state)
{
    (void)state;
    crnn_backend *be = open_precision(CRNN_FP32);
    float *a = be->ops->alloc(be, 1 << 20), *b = be->ops->alloc(be, 1 << 20);
    be->ops->mark(be, 0);
    be->ops->copy(be, a, b, 1 << 20);
    be->ops->mark(be, 7);
    be->ops->copy(be, b, a, 1 << 20);
    be->ops->mark(be, CRNN_MARKS - 1);
    no_failure(be);
    double first = be->ops->between(be, 0, 7), second = be->ops->between(be, 7, CRNN_MARKS - 1);
    assert_true(first > 0 && second > 0);
    assert_true(fabs(be->ops->between(be, 0, CRNN_MARKS - 1) - first - second) < 1e-5);
    be->ops->free(be, a);
    be->ops->free(be, b);
    int64_t memory = be->ops->memory(be);
    assert_true(be->ops->copy_rate(be) > 1e6);
    assert_int_equal(be->ops->memory(be), memory);
    no_failure(be);
    be->ops->close(be);
}

static void the_same_calls_give_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        crnn_backend *be = open_precision(i ? CRNN_BF16 : CRNN_FP32);
        if (!be)
            continue;
        same_bits(be);
        be->ops->close(be);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_gradients_are_finite_differences),
        cmocka_unit_test(a_gru_layer_gives_the_states_and_gradients_of_the_reference),
        cmocka_unit_test(a_gru_layer_in_bf16_stays_near_the_reference),
        cmocka_unit_test(a_gru_layer_in_tf32_stays_near_the_reference),
        cmocka_unit_test(large_weights_give_the_right_states_or_none),
        cmocka_unit_test(new_weights_are_seen_however_they_arrive),
        cmocka_unit_test(what_layers_keep_of_weights_follows_every_update),
        cmocka_unit_test(packed_weights_come_back_as_they_were),
        cmocka_unit_test(a_dense_layer_and_its_gradients_are_those_of_the_reference),
        cmocka_unit_test(embedding_looks_up_and_sums_by_character),
        cmocka_unit_test(softmax_gives_loss_hits_and_gradient_for_any_logits),
        cmocka_unit_test(adam_follows_kerass_formula_with_clipping_and_decay),
        cmocka_unit_test(a_value_that_is_not_finite_stops_the_update),
        cmocka_unit_test(a_queue_is_worked_off_step_by_step),
        cmocka_unit_test(dropout_keeps_what_philox_says_and_scales_it),
        cmocka_unit_test(gather_cuts_batches_from_ids_of_either_width),
        cmocka_unit_test(carrying_copies_unless_the_step_was_not_taken),
        cmocka_unit_test(a_recorded_list_sees_what_memory_holds_now),
        cmocka_unit_test(a_failure_latches_until_it_is_reported),
        cmocka_unit_test(marks_lie_on_the_devices_clock),
        cmocka_unit_test(the_same_calls_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
