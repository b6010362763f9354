/* The stand-in for cuDNN: a GRU against plain loops in double and their finite differences, and what it refuses. */
#include "finds.h"
#include "numbers.h"

#include <cudnn.h>
#include <stdlib.h>

static void is(cudnnStatus_t status, cudnnStatus_t wanted)
{
    char why[256];
    cudnnGetLastErrorString(why, sizeof why);
    if (status != wanted)
        fail_msg("%d (%s), not %d; last: %s", (int)status, cudnnGetErrorString(status), (int)wanted, why);
}
static void ok(cudnnStatus_t status)
{
    is(status, CUDNN_STATUS_SUCCESS);
}
static const cudnnStatus_t BAD = CUDNN_STATUS_BAD_PARAM, UNSUPPORTED = CUDNN_STATUS_NOT_SUPPORTED;

/* ---- the reference */
typedef struct {
    int T, B, I, H, L;
    cudnnDataType_t type;
    cudnnMathType_t math;
    cudnnRNNAlgo_t algo;
    cudnnRNNDataLayout_t layout;
    bool zeros; /* neither hx nor dhy nor hy nor dhx */
} shape;
enum { LAYERS = 3, GATES = 6 };
typedef struct {
    double *matrix[LAYERS][GATES], *bias[LAYERS][GATES], *x, *hx; /* x [T,B,I], hx [L,B,H] */
} numbers;

static int inputs(const shape *s, int layer, int gate)
{
    return gate < 3 && layer == 0 ? s->I : s->H;
}
static cudaDataType format(const shape *s)
{
    return s->type == CUDNN_DATA_HALF ? CUDA_R_16F : s->type == CUDNN_DATA_BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
}
/* What a product takes a number for; exact: nothing is rounded, for finite differences. */
static double operand(const shape *s, bool exact, double x)
{
    return exact || s->math == CUDNN_FMA_MATH                 ? x
           : s->type != CUDNN_DATA_FLOAT                      ? as(x, format(s))
           : s->math == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION ? as(x, CUDA_R_16F)
                                                              : with_bits(x, 11, -149);
}
static double affine(const shape *s, bool exact, const double *w, const double *b, int unit, const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += operand(s, exact, w[unit * n + i]) * operand(s, exact, x[i]);
    return sum + b[unit];
}
static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
/* One step of one sequence in one layer: h becomes the next state. */
static void reference_step(const shape *s, bool exact, const numbers *n, int l, const double *x, double *h)
{
    double next[64];
    double *const *w = n->matrix[l], *const *b = n->bias[l];
    int in = inputs(s, l, 0), H = s->H;
    for (int j = 0; j < H; j++) {
        double r = sigmoid(affine(s, exact, w[0], b[0], j, x, in) + affine(s, exact, w[3], b[3], j, h, H));
        double z = sigmoid(affine(s, exact, w[1], b[1], j, x, in) + affine(s, exact, w[4], b[4], j, h, H));
        double c = tanh(affine(s, exact, w[2], b[2], j, x, in) + r * affine(s, exact, w[5], b[5], j, h, H));
        next[j] = (1 - z) * c + z * h[j];
    }
    for (int j = 0; j < H; j++)
        h[j] = exact || s->type == CUDNN_DATA_FLOAT ? next[j] : as(next[j], format(s));
}
/* y [T,B,H], hy [L,B,H] */
static void reference_forward(const shape *s, bool exact, const numbers *n, double *y, double *hy)
{
    memcpy(hy, n->hx, sizeof *hy * (size_t)(s->L * s->B * s->H));
    for (int t = 0; t < s->T; t++)
        for (int b = 0; b < s->B; b++) {
            const double *x = n->x + (t * s->B + b) * s->I;
            for (int l = 0; l < s->L; l++) {
                double *h = hy + (l * s->B + b) * s->H;
                reference_step(s, exact, n, l, x, h);
                x = h;
            }
            memcpy(y + (t * s->B + b) * s->H, x, sizeof *y * (size_t)s->H);
        }
}

/* ---- cuDNN's side */
typedef struct {
    shape s;
    numbers n;
    double *dy, *dhy, *y, *hy; /* y, hy: the reference's */
    cudnnHandle_t handle;
    cudnnDropoutDescriptor_t dropout;
    cudnnRNNDescriptor_t rnn;
    cudnnRNNDataDescriptor_t xs, ys;
    cudnnTensorDescriptor_t h;
    size_t weight_bytes, workspace_bytes, reserve_bytes;
    struct {
        char *x, *y, *dy, *dx, *hx, *hy, *dhy, *dhx, *weights, *dweights, *workspace, *reserve;
    } d;
} layer;

static size_t sequence_numbers(const shape *s, int vector)
{
    return (size_t)(s->T * s->B * vector);
}
static size_t state_numbers(const shape *s)
{
    return (size_t)(s->L * s->B * s->H);
}
static double *drawn_numbers(const shape *s, size_t n, double scale)
{
    double *p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = as(scale * ((double)draw(2001) - 1000) / 1000, format(s));
    return p;
}
/* Where number i of [T,B,vector] lies in the layout at hand. */
static size_t place(const shape *s, size_t i, int vector)
{
    size_t v = (size_t)vector, B = (size_t)s->B, T = (size_t)s->T, row = i / v;
    return s->layout == CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED ? (row % B * T + row / B) * v + i % v : i;
}
static char *allocate(size_t bytes)
{
    char *p;
    cuda(cudaMalloc((void **)&p, bytes));
    return p;
}
/* values [T,B,vector], or [n] of any meaning with vector 0; NULL: only room */
static char *upload(const shape *s, const double *values, size_t n, int vector)
{
    cudaDataType type = format(s);
    char *host = malloc(n * size_of(type)), *device = allocate(n * size_of(type));
    for (size_t i = 0; values && i < n; i++)
        put(host, type, vector ? place(s, i, vector) : i, values[i]);
    if (values)
        cuda(cudaMemcpy(device, host, n * size_of(type), cudaMemcpyHostToDevice));
    free(host);
    return device;
}
static double *download(const shape *s, const char *device, size_t n, int vector)
{
    cudaDataType type = format(s);
    char *host = malloc(n * size_of(type));
    double *values = malloc(n * sizeof *values);
    cuda(cudaMemcpy(host, device, n * size_of(type), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++)
        values[i] = get(host, type, vector ? place(s, i, vector) : i);
    free(host);
    return values;
}
static cudnnStatus_t set_rnn(layer *p)
{
    const shape *s = &p->s;
    return cudnnSetRNNDescriptor_v8(p->rnn, s->algo, CUDNN_GRU, CUDNN_RNN_DOUBLE_BIAS, CUDNN_UNIDIRECTIONAL,
                                    CUDNN_LINEAR_INPUT, s->type, CUDNN_DATA_FLOAT, s->math, s->I, s->H, s->H, s->L,
                                    p->dropout, CUDNN_RNN_PADDED_IO_ENABLED);
}
static cudnnStatus_t set_sequences(cudnnRNNDataDescriptor_t d, const shape *s, int vector)
{
    int *lengths = malloc((size_t)s->B * sizeof *lengths);
    for (int b = 0; b < s->B; b++)
        lengths[b] = s->T;
    cudnnStatus_t status = cudnnSetRNNDataDescriptor(d, s->type, s->layout, s->T, s->B, vector, lengths, NULL);
    free(lengths);
    return status;
}
static void describe(layer *p)
{
    const shape *s = &p->s;
    const int dims[] = {s->L, s->B, s->H}, strides[] = {s->B * s->H, s->H, 1};
    ok(cudnnCreate(&p->handle));
    ok(cudnnCreateDropoutDescriptor(&p->dropout));
    ok(cudnnSetDropoutDescriptor(p->dropout, p->handle, 0, NULL, 0, 0));
    ok(cudnnCreateRNNDescriptor(&p->rnn));
    ok(set_rnn(p));
    ok(cudnnCreateRNNDataDescriptor(&p->xs));
    ok(cudnnCreateRNNDataDescriptor(&p->ys));
    ok(set_sequences(p->xs, s, s->I));
    ok(set_sequences(p->ys, s, s->H));
    ok(cudnnCreateTensorDescriptor(&p->h));
    ok(cudnnSetTensorNdDescriptor(p->h, s->type, 3, dims, strides));
    if (s->algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC)
        ok(cudnnBuildRNNDynamic(p->handle, p->rnn, s->B));
    ok(cudnnGetRNNWeightSpaceSize(p->handle, p->rnn, &p->weight_bytes));
    ok(cudnnGetRNNTempSpaceSizes(p->handle, p->rnn, CUDNN_FWD_MODE_TRAINING, p->xs, &p->workspace_bytes,
                                 &p->reserve_bytes));
}
/* Where a gate's matrix and bias lie in a weight space, and that they are of the shapes they should be. */
static void find_weights(const layer *p, const char *space, int l, int gate, char **matrix, char **bias)
{
    cudnnTensorDescriptor_t m, b;
    cudnnDataType_t type;
    int dims, dim[8], stride[8], n = inputs(&p->s, l, gate);
    ok(cudnnCreateTensorDescriptor(&m));
    ok(cudnnCreateTensorDescriptor(&b));
    ok(cudnnGetRNNWeightParams(p->handle, p->rnn, l, p->weight_bytes, space, gate, m, (void **)matrix, b,
                               (void **)bias));
    ok(cudnnGetTensorNdDescriptor(m, 8, &type, &dims, dim, stride));
    assert_int_equal(type, p->s.type);
    assert_int_equal(dims, 3);
    assert_true(dim[0] == 1 && dim[1] == p->s.H && dim[2] == n && stride[1] == n && stride[2] == 1);
    ok(cudnnGetTensorNdDescriptor(b, 3, &type, &dims, dim, stride));
    assert_true(dims == 3 && dim[0] == 1 && dim[1] == p->s.H && dim[2] == 1 && stride[1] == 1);
    ok(cudnnDestroyTensorDescriptor(m));
    ok(cudnnDestroyTensorDescriptor(b));
}
static void upload_weights(layer *p)
{
    cudaDataType type = format(&p->s);
    char *host = malloc(p->weight_bytes), *matrix, *bias;
    memset(host, 0, p->weight_bytes);
    for (int l = 0; l < p->s.L; l++)
        for (int gate = 0; gate < GATES; gate++) {
            find_weights(p, p->d.weights, l, gate, &matrix, &bias);
            for (int i = 0; i < p->s.H * inputs(&p->s, l, gate); i++)
                put(host + (matrix - p->d.weights), type, (size_t)i, p->n.matrix[l][gate][i]);
            for (int i = 0; i < p->s.H; i++)
                put(host + (bias - p->d.weights), type, (size_t)i, p->n.bias[l][gate][i]);
        }
    cuda(cudaMemcpy(p->d.weights, host, p->weight_bytes, cudaMemcpyHostToDevice));
    cuda(cudaMemset(p->d.dweights, 0, p->weight_bytes));
    free(host);
}
static void draw_numbers(layer *p)
{
    const shape *s = &p->s;
    for (int l = 0; l < s->L; l++)
        for (int gate = 0; gate < GATES; gate++) {
            p->n.matrix[l][gate] = drawn_numbers(s, (size_t)(s->H * inputs(s, l, gate)), 0.7);
            p->n.bias[l][gate] = drawn_numbers(s, (size_t)s->H, 0.5);
        }
    p->n.x = drawn_numbers(s, sequence_numbers(s, s->I), 1);
    p->n.hx = drawn_numbers(s, state_numbers(s), s->zeros ? 0 : 1);
    p->dy = drawn_numbers(s, sequence_numbers(s, s->H), 1);
    p->dhy = drawn_numbers(s, state_numbers(s), s->zeros ? 0 : 1);
    p->y = malloc(sequence_numbers(s, s->H) * sizeof *p->y);
    p->hy = malloc(state_numbers(s) * sizeof *p->hy);
}
static layer layer_new(shape s)
{
    layer p = {.s = s};
    describe(&p);
    draw_numbers(&p);
    p.d.x = upload(&s, p.n.x, sequence_numbers(&s, s.I), s.I);
    p.d.dx = upload(&s, NULL, sequence_numbers(&s, s.I), 0);
    p.d.y = upload(&s, NULL, sequence_numbers(&s, s.H), 0);
    p.d.dy = upload(&s, p.dy, sequence_numbers(&s, s.H), s.H);
    if (!s.zeros) {
        p.d.hx = upload(&s, p.n.hx, state_numbers(&s), 0);
        p.d.hy = upload(&s, NULL, state_numbers(&s), 0);
        p.d.dhy = upload(&s, p.dhy, state_numbers(&s), 0);
        p.d.dhx = upload(&s, NULL, state_numbers(&s), 0);
    }
    p.d.weights = allocate(p.weight_bytes);
    p.d.dweights = allocate(p.weight_bytes);
    p.d.workspace = allocate(p.workspace_bytes);
    p.d.reserve = allocate(p.reserve_bytes);
    upload_weights(&p);
    cuda(cudaDeviceSynchronize());
    return p;
}
static void layer_free(layer *p)
{
    cuda(cudaDeviceSynchronize());
    char *const *device = (char *const *)&p->d;
    for (size_t i = 0; i < sizeof p->d / sizeof *device; i++)
        cuda(cudaFree(device[i]));
    for (int l = 0; l < p->s.L; l++)
        for (int gate = 0; gate < GATES; gate++) {
            free(p->n.matrix[l][gate]);
            free(p->n.bias[l][gate]);
        }
    double *host[] = {p->n.x, p->n.hx, p->dy, p->dhy, p->y, p->hy};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    ok(cudnnDestroyTensorDescriptor(p->h));
    ok(cudnnDestroyRNNDataDescriptor(p->xs));
    ok(cudnnDestroyRNNDataDescriptor(p->ys));
    ok(cudnnDestroyRNNDescriptor(p->rnn));
    ok(cudnnDestroyDropoutDescriptor(p->dropout));
    ok(cudnnDestroy(p->handle));
}
static cudnnStatus_t forward_in(layer *p, cudnnForwardMode_t mode)
{
    return cudnnRNNForward(p->handle, p->rnn, mode, NULL, p->xs, p->d.x, p->ys, p->d.y, p->h, p->d.hx, p->d.hy, NULL,
                           NULL, NULL, p->weight_bytes, p->d.weights, p->workspace_bytes, p->d.workspace,
                           p->reserve_bytes, p->d.reserve);
}
static cudnnStatus_t forward(layer *p)
{
    return forward_in(p, CUDNN_FWD_MODE_TRAINING);
}
static cudnnStatus_t backward_data(layer *p)
{
    return cudnnRNNBackwardData_v8(p->handle, p->rnn, NULL, p->ys, p->d.y, p->d.dy, p->xs, p->d.dx, p->h, p->d.hx,
                                   p->d.dhy, p->d.dhx, NULL, NULL, NULL, NULL, p->weight_bytes, p->d.weights,
                                   p->workspace_bytes, p->d.workspace, p->reserve_bytes, p->d.reserve);
}
static cudnnStatus_t backward_weights_in(layer *p, cudnnWgradMode_t mode)
{
    return cudnnRNNBackwardWeights_v8(p->handle, p->rnn, mode, NULL, p->xs, p->d.x, p->h, p->d.hx, p->ys, p->d.y,
                                      p->weight_bytes, p->d.dweights, p->workspace_bytes, p->d.workspace,
                                      p->reserve_bytes, p->d.reserve);
}
static cudnnStatus_t backward_weights(layer *p)
{
    return backward_weights_in(p, CUDNN_WGRAD_MODE_ADD);
}

/* ---- comparisons */
static double unit_of(const shape *s) /* of the format that a sequence is in */
{
    return s->type == CUDNN_DATA_FLOAT ? 0x1p-24 : s->type == CUDNN_DATA_HALF ? 0x1p-11 : 0x1p-8;
}
static void expect_near(const char *what, const double *got, const double *wanted, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - wanted[i]) <= tolerance))
            fail_msg("%s[%zu]: %.9g, not %.9g within %.2g", what, i, got[i], wanted[i], tolerance);
}
/* States are below 1; some twenty roundings in each step, of which the recurrence hands on less than all. */
static void expect_forward(const layer *p)
{
    const shape *s = &p->s;
    double tolerance = 40 * unit_of(s);
    double *y = download(s, p->d.y, sequence_numbers(s, s->H), s->H);
    expect_near("y", y, p->y, sequence_numbers(s, s->H), tolerance);
    free(y);
    if (!s->zeros) {
        double *hy = download(s, p->d.hy, state_numbers(s), 0);
        expect_near("hy", hy, p->hy, state_numbers(s), tolerance);
        free(hy);
    }
}
static double loss(layer *p)
{
    double sum = 0;
    reference_forward(&p->s, true, &p->n, p->y, p->hy);
    for (size_t i = 0; i < sequence_numbers(&p->s, p->s.H); i++)
        sum += p->y[i] * p->dy[i];
    for (size_t i = 0; i < state_numbers(&p->s); i++)
        sum += p->hy[i] * p->dhy[i];
    return sum;
}
static double slope(layer *p, double *at)
{
    const double before = *at, step = 1e-5; /* errors: step^2 of the third derivative, 1e-16/step of rounding */
    *at = before + step;
    double up = loss(p);
    *at = before - step;
    double down = loss(p);
    *at = before;
    return (up - down) / (2 * step);
}
/* Of n gradients, some where there are many. Relative to the largest at hand. */
static void expect_slopes(layer *p, const char *what, const double *got, double *at, size_t n)
{
    /* Rounded operands: their own error, in sums of terms of either sign. */
    bool float_products = p->s.type == CUDNN_DATA_FLOAT && p->s.math == CUDNN_FMA_MATH;
    double largest = 0, tolerance;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(got[i]));
    tolerance = (float_products ? 3e-6 : p->s.type == CUDNN_DATA_BFLOAT16 ? 0.06 : 0.008) * (largest + 1);
    for (size_t i = n > 40 ? draw(7) : 0; i<n; i += n> 40 ? 1 + n / 40 : 1) {
        double wanted = slope(p, at + i);
        if (!(fabs(got[i] - wanted) <= tolerance))
            fail_msg("d%s[%zu]: %.9g, not %.9g within %.2g", what, i, got[i], wanted, tolerance);
    }
}
/* times: how often the gradients of the weights were added up */
static void expect_gradients(layer *p, int times)
{
    const shape *s = &p->s;
    double *dx = download(s, p->d.dx, sequence_numbers(s, s->I), s->I);
    expect_slopes(p, "x", dx, p->n.x, sequence_numbers(s, s->I));
    free(dx);
    if (!s->zeros) {
        double *dhx = download(s, p->d.dhx, state_numbers(s), 0);
        expect_slopes(p, "hx", dhx, p->n.hx, state_numbers(s));
        free(dhx);
    }
    for (int l = 0; l < s->L; l++)
        for (int gate = 0; gate < GATES; gate++) {
            char *matrix, *bias;
            size_t n = (size_t)(s->H * inputs(s, l, gate));
            find_weights(p, p->d.dweights, l, gate, &matrix, &bias);
            double *dm = download(s, matrix, n, 0), *db = download(s, bias, (size_t)s->H, 0);
            for (size_t i = 0; i < n; i++)
                dm[i] /= times;
            for (int i = 0; i < s->H; i++)
                db[i] /= times;
            expect_slopes(p, "matrix", dm, p->n.matrix[l][gate], n);
            expect_slopes(p, "bias", db, p->n.bias[l][gate], (size_t)s->H);
            free(dm);
            free(db);
        }
}
static void check_shape(shape s)
{
    layer p = layer_new(s);
    ok(forward(&p));
    reference_forward(&s, false, &p.n, p.y, p.hy);
    expect_forward(&p);
    ok(backward_data(&p));
    ok(backward_weights(&p));
    expect_gradients(&p, 1);
    layer_free(&p);
}

static const shape small = {4,
                            2,
                            3,
                            5,
                            1,
                            CUDNN_DATA_FLOAT,
                            CUDNN_FMA_MATH,
                            CUDNN_RNN_ALGO_STANDARD,
                            CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED,
                            false};
static void floats_are_as_in_plain_loops(void **state)
{
    (void)state;
    static const int sizes[][5] = {{1, 1, 1, 1, 1}, {4, 2, 3, 5, 1},   {7, 3, 2, 8, 2},
                                   {3, 5, 9, 4, 3}, {1, 4, 17, 13, 2}, {9, 1, 5, 33, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        shape s = small;
        s.T = sizes[i][0];
        s.B = sizes[i][1];
        s.I = sizes[i][2];
        s.H = sizes[i][3];
        s.L = sizes[i][4];
        s.zeros = i & 1;
        s.algo = (cudnnRNNAlgo_t)(i % 4);
        s.layout = (cudnnRNNDataLayout_t)(i % 3);
        check_shape(s);
    }
}
static void narrow_numbers_round_as_their_formats_do(void **state)
{
    (void)state;
    static const struct {
        cudnnDataType_t type;
        cudnnMathType_t math;
    } kinds[] = {{CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH},
                 {CUDNN_DATA_FLOAT, CUDNN_TENSOR_OP_MATH},
                 {CUDNN_DATA_FLOAT, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION},
                 {CUDNN_DATA_HALF, CUDNN_TENSOR_OP_MATH},
                 {CUDNN_DATA_HALF, CUDNN_FMA_MATH},
                 {CUDNN_DATA_BFLOAT16, CUDNN_DEFAULT_MATH},
                 {CUDNN_DATA_BFLOAT16, CUDNN_FMA_MATH}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        shape s = small;
        s.L = 2;
        s.type = kinds[i].type;
        s.math = kinds[i].math;
        check_shape(s);
    }
}
static void inference_gives_what_training_gives(void **state)
{
    (void)state;
    shape s = small;
    s.L = 2;
    layer p = layer_new(s);
    size_t workspace = 0, reserve = 1;
    ok(cudnnGetRNNTempSpaceSizes(p.handle, p.rnn, CUDNN_FWD_MODE_INFERENCE, p.xs, &workspace, &reserve));
    assert_true(workspace > 0);
    assert_int_equal(reserve, 0);
    p.reserve_bytes = 0;
    char *space = p.d.reserve;
    p.d.reserve = NULL;
    ok(forward_in(&p, CUDNN_FWD_MODE_INFERENCE));
    reference_forward(&s, false, &p.n, p.y, p.hy);
    expect_forward(&p);
    p.d.reserve = space;
    layer_free(&p);
}
static void gradients_of_weights_are_added(void **state)
{
    (void)state;
    layer p = layer_new(small);
    for (int i = 0; i < 3; i++) {
        ok(forward(&p));
        ok(backward_data(&p));
        ok(backward_weights(&p));
    }
    expect_gradients(&p, 3);
    is(backward_weights_in(&p, CUDNN_WGRAD_MODE_SET), UNSUPPORTED);
    layer_free(&p);
}
static void a_step_is_captured_and_replayed(void **state)
{
    (void)state;
    layer p = layer_new(small);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ok(cudnnSetStream(p.handle, stream));
    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    ok(forward(&p));
    ok(backward_data(&p));
    ok(backward_weights(&p));
    cuda(cudaStreamEndCapture(stream, &graph));
    cuda(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 2; i++)
        cuda(cudaGraphLaunch(exec, stream));
    cuda(cudaStreamSynchronize(stream));
    expect_gradients(&p, 2);
    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    p.s.algo = CUDNN_RNN_ALGO_PERSIST_DYNAMIC;
    ok(set_rnn(&p));
    is(cudnnBuildRNNDynamic(p.handle, p.rnn, p.s.B), CUDNN_STATUS_EXECUTION_FAILED); /* loads code */
    cuda(cudaGraphDestroy(graph));
    assert_string_equal(cudaGetErrorName(cudaStreamEndCapture(stream, &graph)), "cudaErrorStreamCaptureInvalidated");
    cuda(cudaGraphExecDestroy(exec));
    cuda(cudaStreamDestroy(stream));
    ok(cudnnSetStream(p.handle, NULL));
    (void)cudaGetLastError();
    layer_free(&p);
}

/* ---- what is refused */
static void descriptors_are_checked_as_the_library_does(void **state)
{
    (void)state;
    cudnnRNNDescriptor_t r;
    cudnnDropoutDescriptor_t unset;
    ok(cudnnCreateRNNDescriptor(&r));
    ok(cudnnCreateDropoutDescriptor(&unset));
#define SET(algo, bias, type, precision, I, H, P, L, dropout, flags)                                                   \
    cudnnSetRNNDescriptor_v8(r, (cudnnRNNAlgo_t)(algo), CUDNN_GRU, (cudnnRNNBiasMode_t)(bias), CUDNN_UNIDIRECTIONAL,   \
                             CUDNN_LINEAR_INPUT, type, precision, CUDNN_FMA_MATH, I, H, P, L, dropout, flags)
    const cudnnDataType_t F = CUDNN_DATA_FLOAT, HF = CUDNN_DATA_HALF, BF = CUDNN_DATA_BFLOAT16;
    ok(SET(0, 2, F, F, 8, 16, 16, 1, NULL, 1));
    ok(SET(3, 2, HF, F, 8, 16, 16, 1, NULL, 0));
    ok(SET(1, 2, BF, F, 8, 16, 16, 1, NULL, 0));
    is(SET(0, 2, F, F, 8, 16, 16, 1, unset, 1), BAD);
    is(SET(0, 2, F, F, 8, 16, 0, 1, NULL, 1), BAD);
    is(SET(0, 2, F, F, 8, 16, 8, 1, NULL, 1), UNSUPPORTED);
    is(SET(0, 2, F, F, 0, 16, 16, 1, NULL, 1), BAD);
    is(SET(0, 2, F, F, 8, 0, 0, 1, NULL, 1), BAD);
    is(SET(0, 2, F, F, 8, 16, 16, 0, NULL, 1), BAD);
    is(SET(0, 2, F, F, 8, 16, 16, 1, NULL, 2), BAD);
    is(SET(4, 2, F, F, 8, 16, 16, 1, NULL, 1), BAD);
    is(SET(0, 7, F, F, 8, 16, 16, 1, NULL, 1), BAD);
    is(SET(0, 2, F, HF, 8, 16, 16, 1, NULL, 1), UNSUPPORTED);
    is(SET(0, 2, BF, BF, 8, 16, 16, 1, NULL, 1), UNSUPPORTED);
    is(SET(0, 2, CUDNN_DATA_INT32, F, 8, 16, 16, 1, NULL, 1), UNSUPPORTED);
    ok(cudnnDestroyDropoutDescriptor(unset));
    ok(cudnnDestroyRNNDescriptor(r));

    cudnnRNNDataDescriptor_t d;
    const int whole[] = {5, 5, 5}, falling[] = {5, 4, 3}, rising[] = {3, 4, 5}, longer[] = {6, 5, 5};
    ok(cudnnCreateRNNDataDescriptor(&d));
#define SEQUENCES(type, layout, T, B, V, lengths)                                                                      \
    cudnnSetRNNDataDescriptor(d, type, (cudnnRNNDataLayout_t)(layout), T, B, V, lengths, NULL)
    ok(SEQUENCES(F, 0, 5, 3, 8, whole));
    ok(SEQUENCES(F, 0, 5, 3, 8, rising));
    ok(SEQUENCES(F, 1, 5, 3, 8, falling));
    ok(SEQUENCES(F, 0, 65535, 3, 8, whole));
    is(SEQUENCES(F, 0, 65536, 3, 8, whole), UNSUPPORTED);
    is(SEQUENCES(CUDNN_DATA_INT32, 0, 5, 3, 8, whole), UNSUPPORTED);
    is(SEQUENCES(F, 1, 5, 3, 8, rising), BAD);
    is(SEQUENCES(F, 0, 5, 3, 8, longer), BAD);
    is(SEQUENCES(F, 7, 5, 3, 8, whole), BAD);
    is(SEQUENCES(F, 0, 5, 3, 8, NULL), BAD);
    is(SEQUENCES(F, 0, 0, 3, 8, whole), BAD);
    is(SEQUENCES(F, 0, 5, 0, 8, whole), BAD);
    is(SEQUENCES(F, 0, 5, 3, 0, whole), BAD);
    ok(cudnnDestroyRNNDataDescriptor(d));

    cudnnTensorDescriptor_t t;
    const int dim[] = {1, 3, 16}, none[] = {1, 0, 16}, stride[] = {48, 16, 1};
    ok(cudnnCreateTensorDescriptor(&t));
    is(cudnnSetTensorNdDescriptor(t, F, 1, dim, stride), BAD);
    is(cudnnSetTensorNdDescriptor(t, F, 9, dim, stride), UNSUPPORTED);
    is(cudnnSetTensorNdDescriptor(t, F, 3, none, stride), BAD);
    is(cudnnSetTensorNdDescriptor(NULL, F, 3, dim, stride), BAD);
    ok(cudnnSetTensorNdDescriptor(t, F, 3, dim, stride));
    ok(cudnnDestroyTensorDescriptor(t));
    ok(cudnnDestroyTensorDescriptor(NULL));
    ok(cudnnDestroyRNNDescriptor(NULL));
    ok(cudnnDestroy(NULL));
    is(cudnnCreate(NULL), BAD);
}
static void descriptors_that_do_not_go_together(void **state)
{
    (void)state;
    layer p = layer_new(small);
    shape s = small;
    const int dims[] = {1, 2, 5}, packed[] = {10, 5, 1}, spread[] = {12, 6, 1};
    s.B = 3;
    ok(set_sequences(p.ys, &s, s.H));
    is(forward(&p), BAD);
    ok(set_sequences(p.ys, &small, small.H + 1));
    is(forward(&p), BAD);
    ok(set_sequences(p.ys, &small, small.H));
    ok(set_sequences(p.xs, &small, small.I + 1));
    is(forward(&p), BAD);
    s = small;
    s.type = CUDNN_DATA_HALF;
    ok(set_sequences(p.xs, &s, s.I));
    is(forward(&p), BAD);
    ok(set_sequences(p.xs, &small, small.I));
    ok(cudnnSetTensorNdDescriptor(p.h, CUDNN_DATA_FLOAT, 3, dims, spread));
    is(forward(&p), BAD);
    ok(cudnnSetTensorNdDescriptor(p.h, CUDNN_DATA_FLOAT, 3, dims, packed));
    ok(forward(&p));
    int shorter[] = {4, 3};
    ok(cudnnSetRNNDataDescriptor(p.xs, CUDNN_DATA_FLOAT, small.layout, 4, 2, small.I, shorter, NULL));
    is(forward(&p), UNSUPPORTED); /* by the stand-in */
    ok(set_sequences(p.xs, &small, small.I));
    ok(cudnnSetRNNDescriptor_v8(p.rnn, CUDNN_RNN_ALGO_STANDARD, CUDNN_GRU, CUDNN_RNN_DOUBLE_BIAS, CUDNN_UNIDIRECTIONAL,
                                CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, 3, 5, 5, 1,
                                NULL, CUDNN_RNN_PADDED_IO_DISABLED));
    is(forward(&p), BAD); /* unpacked */
    cudnnRNNDescriptor_t rnn = p.rnn;
    ok(cudnnCreateRNNDescriptor(&p.rnn));
    is(forward(&p), BAD); /* never set */
    ok(cudnnDestroyRNNDescriptor(p.rnn));
    p.rnn = NULL;
    is(forward(&p), BAD);
    p.rnn = rnn;
    layer_free(&p);
}
static void spaces_and_pointers(void **state)
{
    (void)state;
    layer p = layer_new(small);
    size_t *const sizes[] = {&p.weight_bytes, &p.workspace_bytes, &p.reserve_bytes};
    char **const spaces[] = {&p.d.weights, &p.d.workspace, &p.d.reserve, &p.d.x, &p.d.y};
    for (size_t i = 0; i < 3; i++) {
        (*sizes[i])--;
        is(forward(&p), BAD);
        is(backward_data(&p), BAD);
        is(backward_weights(&p), BAD);
        (*sizes[i])++;
    }
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        char *space = *spaces[i];
        *spaces[i] = NULL;
        is(forward(&p), BAD);
        *spaces[i] = space;
    }
    p.d.workspace += 4;
    is(forward(&p), BAD);
    p.d.workspace -= 4;
    void *at;
    is(cudnnGetRNNWeightParams(p.handle, p.rnn, 1, p.weight_bytes, p.d.weights, 0, p.h, &at, p.h, &at), BAD);
    is(cudnnGetRNNWeightParams(p.handle, p.rnn, 0, p.weight_bytes, p.d.weights, 6, p.h, &at, p.h, &at), BAD);
    is(cudnnGetRNNWeightParams(p.handle, p.rnn, 0, p.weight_bytes - 1, p.d.weights, 0, p.h, &at, p.h, &at), BAD);
    is(cudnnGetRNNWeightParams(p.handle, p.rnn, 0, p.weight_bytes, NULL, 0, p.h, &at, p.h, &at), BAD);
    is(cudnnGetRNNWeightSpaceSize(NULL, p.rnn, &p.weight_bytes), BAD);
    cudnnHandle_t handle = p.handle;
    p.handle = NULL;
    is(forward(&p), BAD);
    p.handle = handle;
    layer_free(&p);
}
static void algorithms_that_do_not_fit(void **state)
{
    (void)state;
    shape s = small;
    layer p = layer_new(s);
    size_t workspace, reserve;
    p.s.algo = CUDNN_RNN_ALGO_PERSIST_DYNAMIC;
    ok(set_rnn(&p));
    is(forward(&p), UNSUPPORTED); /* not built */
    ok(cudnnBuildRNNDynamic(p.handle, p.rnn, s.B + 1));
    is(forward(&p), UNSUPPORTED); /* for another batch */
    ok(cudnnBuildRNNDynamic(p.handle, p.rnn, s.B));
    ok(forward(&p));
    cusim_set_rnn_algos(1u << CUDNN_RNN_ALGO_STANDARD);
    is(forward(&p), UNSUPPORTED);
    is(cudnnBuildRNNDynamic(p.handle, p.rnn, s.B), UNSUPPORTED);
    is(cudnnGetRNNTempSpaceSizes(p.handle, p.rnn, CUDNN_FWD_MODE_TRAINING, p.xs, &workspace, &reserve), UNSUPPORTED);
    cusim_set_rnn_algos(~0u);
    p.s.algo = CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H;
    p.s.H = 257;
    ok(set_rnn(&p));
    is(cudnnGetRNNTempSpaceSizes(p.handle, p.rnn, CUDNN_FWD_MODE_TRAINING, p.xs, &workspace, &reserve), UNSUPPORTED);
    is(cudnnBuildRNNDynamic(p.handle, p.rnn, s.B), UNSUPPORTED);
    p.s = s;
    layer_free(&p);
}
static void calls_fail_on_demand(void **state)
{
    (void)state;
    layer p = layer_new(small);
    size_t objects = cusim_objects();
    cudnnHandle_t handle = NULL;
    cusim_fail("cudnnRNNForward", 2, cudaErrorLaunchFailure);
    ok(forward(&p));
    is(forward(&p), CUDNN_STATUS_EXECUTION_FAILED);
    ok(forward(&p));
    cusim_fail("cudnnCreate", 1, cudaErrorMemoryAllocation);
    is(cudnnCreate(&handle), CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED);
    assert_null(handle);
    ok(cudnnCreate(&handle));
    cusim_fail("cudnnDestroy", 1, cudaErrorUnknown);
    is(cudnnDestroy(handle), CUDNN_STATUS_EXECUTION_FAILED); /* and is gone all the same */
    assert_int_equal(cusim_objects(), objects);
    cusim_fail("kernel cudnnRNNBackwardData_v8", 1, cudaErrorLaunchFailure); /* as it runs: the device is lost */
    ok(backward_data(&p));
    assert_string_equal(cudaGetErrorName(cudaDeviceSynchronize()), "cudaErrorLaunchFailure");
    is(backward_weights(&p), CUDNN_STATUS_EXECUTION_FAILED);
    cuda(cudaDeviceReset());
    layer_free(&p);
}

static void no_forward(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    (void)backward_data(&p);
}
static void weights_before_data(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    (void)forward(&p);
    (void)backward_weights(&p);
}
static void data_twice(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    (void)forward(&p);
    (void)backward_data(&p);
    (void)backward_data(&p);
}
static void reserve_written(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    (void)forward(&p);
    (void)cudaMemset(p.d.reserve + p.reserve_bytes / 2, 1, 1);
    (void)backward_data(&p);
}
static void reserve_of_inference(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    (void)forward_in(&p, CUDNN_FWD_MODE_INFERENCE);
    (void)backward_data(&p);
}
static void state_in_place(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    p.d.hy = p.d.hx;
    (void)forward(&p);
}
static void state_too_short(int *zeros)
{
    layer p = layer_new(small);
    p.d.hx = (char *)(zeros + 1024) - 16;
    (void)forward(&p);
}
static void destroyed_descriptor(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    (void)cudnnDestroyTensorDescriptor(p.h);
    (void)forward(&p);
}
static void gradients_not_zeroed(int *zeros)
{
    layer p = layer_new(small);
    (void)zeros;
    p.d.dweights = allocate(p.weight_bytes);
    (void)forward(&p);
    (void)backward_data(&p);
    (void)backward_weights(&p);
}
static void workspace_shared(int *zeros)
{
    layer p = layer_new(small), q = layer_new(small);
    cudaStream_t stream;
    (void)zeros;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    (void)cudnnSetStream(q.handle, stream);
    q.d.workspace = p.d.workspace;
    (void)forward(&p);
    (void)forward(&q);
}
static void mistakes_end_the_program(void **state)
{
    (void)state;
    finds(no_forward, "not as cudnnRNNForward left it", "cudnnRNNBackwardData_v8");
    finds(weights_before_data, "not as cudnnRNNBackwardData_v8 left it", "cudnnRNNBackwardWeights_v8");
    finds(data_twice, "not as cudnnRNNForward left it", "cudnnRNNBackwardData_v8");
    finds(reserve_written, "not as cudnnRNNForward left it", "cudnnRNNBackwardData_v8");
    finds(reserve_of_inference, "not as cudnnRNNForward left it", "cudnnRNNBackwardData_v8");
    finds(state_in_place, "hy lies over hx", "cudnnRNNForward");
    finds(state_too_short, "are not, or not all, in one allocation on the device", "");
    finds(destroyed_descriptor, "no such tensor descriptor, or destroyed before", "");
    if (!cusim_checks())
        return;
    finds(gradients_not_zeroed, "read of bytes that nobody wrote", "cudnnRNNBackwardWeights_v8");
    finds(workspace_shared, "data race: write after write", "cudnnRNNForward");
}
static int everything_was_given_back(void **state)
{
    (void)state;
    assert_int_equal(cusim_objects(), 0);
    assert_int_equal(cusim_memory_used(), 0);
    return cusim_errors();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_are_as_in_plain_loops),
        cmocka_unit_test(narrow_numbers_round_as_their_formats_do),
        cmocka_unit_test(inference_gives_what_training_gives),
        cmocka_unit_test(gradients_of_weights_are_added),
        cmocka_unit_test(a_step_is_captured_and_replayed),
        cmocka_unit_test(descriptors_are_checked_as_the_library_does),
        cmocka_unit_test(descriptors_that_do_not_go_together),
        cmocka_unit_test(spaces_and_pointers),
        cmocka_unit_test(algorithms_that_do_not_fit),
        cmocka_unit_test(calls_fail_on_demand),
        cmocka_unit_test(mistakes_end_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, everything_was_given_back);
}
