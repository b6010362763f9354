/* gru_cudnn.c - a recurrent layer by cuDNN, one call a layer.
 *
 * Its weights are cuDNN's weight space, item for item, in float32: where a matrix lies in it, cudnnGetRNNWeightParams alone knows. In bf16
 * the library reads a copy of everything in bfloat16; weights, their gradients and what goes on to other ops stay float32. cuDNN counts the
 * gates r, z, n, the input's first, and stores a gate's matrix as [H, width of the input].
 */
#include "host/base/memory.h"
#include "kernels/cuda/cuda.h"
#include <stdlib.h>
#include <string.h>

enum { GATES = 3 };
/* Where the gate of cuDNN's number k stands among z, r, h. */
static const int64_t canonical[GATES] = {1, 0, 2};

typedef struct {
    crnn_gru base;
    bool bf16;
    cudnnRNNAlgo_t algo;
    cudnnRNNDescriptor_t rnn;
    cudnnDropoutDescriptor_t dropout;
    cudnnRNNDataDescriptor_t x_desc, y_desc;
    cudnnTensorDescriptor_t h_desc, matrix, bias;
    size_t weight_bytes, reserve_bytes;
    void *reserve;
    float *x, *dx; /* [T,B,I] embedded input, where it is characters; its gradient, where the caller does not take it */
    uint16_t *x16, *hs16, *h16, *w16, *dhs16, *dx16, *dw16; /* in bf16 */
} layer;

static layer *layer_of(const crnn_gru *g)
{
    return (layer *)(uintptr_t)g;
}

static cudnnDataType_t type_of(const layer *l)
{
    return l->bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

static size_t item_of(const layer *l)
{
    return l->bf16 ? sizeof(uint16_t) : sizeof(float);
}

static int64_t layer_params(const crnn_gru *g)
{
    const layer *l = layer_of(g);
    return (int64_t)(l->weight_bytes / item_of(l));
}

/* --- making it ------------------------------------------------------------------------------------------------------- */

static cudnnRNNAlgo_t algo_named(const char *name)
{
    if (name && strcmp(name, "cudnn-persist-static") == 0)
        return CUDNN_RNN_ALGO_PERSIST_STATIC;
    if (name && strcmp(name, "cudnn-persist-dynamic") == 0)
        return CUDNN_RNN_ALGO_PERSIST_DYNAMIC;
    if (name && strcmp(name, "cudnn-persist-small") == 0)
        return CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H;
    return CUDNN_RNN_ALGO_STANDARD;
}

/* FMA keeps float32 exact; by default cuDNN rounds its factors to tf32. */
static cudnnMathType_t math_of(crnn_precision precision)
{
    return precision == CRNN_FP32 ? CUDNN_FMA_MATH : precision == CRNN_TF32 ? CUDNN_DEFAULT_MATH : CUDNN_TENSOR_OP_MATH;
}

/* T x B vectors, each row as long as the others, so that nothing need be packed. */
static bool describe_data(layer *l, cudnnRNNDataDescriptor_t *desc, int width)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int *lengths = malloc((size_t)s->B * sizeof *lengths);
    if (!lengths) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of memory");
        return false;
    }
    for (int32_t b = 0; b < s->B; b++)
        lengths[b] = s->T;
    bool ok = crnn_cudnn_ok(cuda, cuda->lib.cudnnCreateRNNDataDescriptor(desc)) &&
              crnn_cudnn_ok(cuda, cuda->lib.cudnnSetRNNDataDescriptor(*desc, type_of(l),
                                                                      CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, s->T,
                                                                      s->B, width, lengths, NULL));
    free(lengths);
    return ok;
}

static bool describe(layer *l)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gpu_libraries *lib = &cuda->lib;
    const crnn_gru_shape *s = &l->base.s;
    const int dim[3] = {1, s->B, s->H}, stride[3] = {s->B * s->H, s->H, 1};
    return crnn_cudnn_ok(cuda, lib->cudnnCreateDropoutDescriptor(&l->dropout)) &&
           crnn_cudnn_ok(cuda, lib->cudnnSetDropoutDescriptor(l->dropout, cuda->dnn, 0, NULL, 0, 0)) &&
           crnn_cudnn_ok(cuda, lib->cudnnCreateRNNDescriptor(&l->rnn)) &&
           crnn_cudnn_ok(cuda, lib->cudnnSetRNNDescriptor_v8(l->rnn, l->algo, CUDNN_GRU, CUDNN_RNN_DOUBLE_BIAS,
                                                             CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, type_of(l),
                                                             CUDNN_DATA_FLOAT, math_of(cuda->config.precision), s->I,
                                                             s->H, s->H, 1, l->dropout, CUDNN_RNN_PADDED_IO_ENABLED)) &&
           (l->algo != CUDNN_RNN_ALGO_PERSIST_DYNAMIC ||
            crnn_cudnn_ok(cuda, lib->cudnnBuildRNNDynamic(cuda->dnn, l->rnn, s->B))) &&
           describe_data(l, &l->x_desc, s->I) && describe_data(l, &l->y_desc, s->H) &&
           crnn_cudnn_ok(cuda, lib->cudnnCreateTensorDescriptor(&l->h_desc)) &&
           crnn_cudnn_ok(cuda, lib->cudnnSetTensorNdDescriptor(l->h_desc, type_of(l), 3, dim, stride)) &&
           crnn_cudnn_ok(cuda, lib->cudnnCreateTensorDescriptor(&l->matrix)) &&
           crnn_cudnn_ok(cuda, lib->cudnnCreateTensorDescriptor(&l->bias)) &&
           crnn_cudnn_ok(cuda, lib->cudnnGetRNNWeightSpaceSize(cuda->dnn, l->rnn, &l->weight_bytes));
}

static cudnnForwardMode_t mode_of(const layer *l)
{
    return l->base.s.training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE;
}

static void make_memory(layer *l)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = (int64_t)s->T * s->B;
    size_t work = 0, half = sizeof(uint16_t);
    if (!crnn_cudnn_ok(cuda, cuda->lib.cudnnGetRNNTempSpaceSizes(cuda->dnn, l->rnn, mode_of(l), l->x_desc, &work,
                                                                 &l->reserve_bytes)))
        return;
    crnn_cuda_need_workspace(cuda, work);
    crnn_cuda_need_workspace(cuda, crnn_sum_by_token_scratch(n, s->V));
    if (s->training)
        l->reserve = crnn_cuda_alloc(&cuda->base, l->reserve_bytes);
    if (s->V > 0)
        l->x = crnn_cuda_alloc_items(cuda, n, s->I, sizeof(float));
    if (s->training)
        l->dx = crnn_cuda_alloc_items(cuda, n, s->I, sizeof(float));
    if (!l->bf16)
        return;
    l->x16 = crnn_cuda_alloc_items(cuda, n, s->I, half);
    l->hs16 = crnn_cuda_alloc_items(cuda, n, s->H, half);
    l->h16 = crnn_cuda_alloc_items(cuda, s->B, s->H, half);
    l->w16 = crnn_cuda_alloc_items(cuda, layer_params(&l->base), 1, half);
    if (s->training) {
        l->dhs16 = crnn_cuda_alloc_items(cuda, n, s->H, half);
        l->dx16 = crnn_cuda_alloc_items(cuda, n, s->I, half);
        l->dw16 = crnn_cuda_alloc_items(cuda, layer_params(&l->base), 1, half);
    }
}

static void layer_free(crnn_gru *g)
{
    layer *l = layer_of(g);
    crnn_cuda *cuda = g->cuda;
    const crnn_gpu_libraries *lib = &cuda->lib;
    void *owned[] = {l->reserve, l->x, l->dx, l->x16, l->hs16, l->h16, l->w16, l->dhs16, l->dx16, l->dw16};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        crnn_cuda_free(&cuda->base, owned[i]);
    cudnnTensorDescriptor_t tensors[] = {l->h_desc, l->matrix, l->bias};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (tensors[i])
            lib->cudnnDestroyTensorDescriptor(tensors[i]);
    if (l->x_desc)
        lib->cudnnDestroyRNNDataDescriptor(l->x_desc);
    if (l->y_desc)
        lib->cudnnDestroyRNNDataDescriptor(l->y_desc);
    if (l->rnn)
        lib->cudnnDestroyRNNDescriptor(l->rnn);
    if (l->dropout)
        lib->cudnnDestroyDropoutDescriptor(l->dropout);
    free(l);
}

/* cuDNN's own limits, in words that help; its status would only say that something is not right. */
static bool within_limits(crnn_cuda *cuda, const crnn_gru_shape *s)
{
    enum { LONGEST = 65535 };
    if (s->T <= LONGEST && (int64_t)s->B * s->H <= INT32_MAX)
        return true;
    crnn_cuda_failed(cuda, CRNN_ERR_ARGUMENT,
                     "cuDNN takes at most 65535 time steps, and states of at most 2^31 numbers; choose a shorter "
                     "length, a smaller batch or --rnn-algo loop");
    return false;
}

static crnn_gru *layer_make(crnn_cuda *cuda, const crnn_gru_shape *shape)
{
    if (!within_limits(cuda, shape))
        return NULL;
    layer *l = calloc(1, sizeof *l);
    if (!l) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of memory");
        return NULL;
    }
    l->base = (crnn_gru){.way = &crnn_gru_cudnn, .cuda = cuda, .s = *shape};
    l->bf16 = cuda->config.precision == CRNN_BF16;
    l->algo = algo_named(cuda->config.rnn_algo);
    if (describe(l))
        make_memory(l);
    if (!cuda->failure.status)
        return &l->base;
    layer_free(&l->base);
    return NULL;
}

/* --- canonical weights in and out ------------------------------------------------------------------------------------ */

/* The part of the weights of one of cuDNN's six numbers, as items from the start of the space. */
typedef struct {
    int64_t matrix, row, column; /* where element (h, i) lies: matrix + h row + i column */
    int64_t bias, bias_step;
} part;

static bool find_part(layer *l, part *p, int gate)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gpu_libraries *lib = &cuda->lib;
    char *base = cuda->workspace; /* any address will do: only differences count */
    void *matrix, *bias;
    cudnnDataType_t type;
    int dims, dim[3], matrix_stride[3], bias_stride[3];
    int64_t item = (int64_t)item_of(l);
    if (!crnn_cudnn_ok(cuda, lib->cudnnGetRNNWeightParams(cuda->dnn, l->rnn, 0, l->weight_bytes, base, gate, l->matrix,
                                                          &matrix, l->bias, &bias)) ||
        !crnn_cudnn_ok(cuda, lib->cudnnGetTensorNdDescriptor(l->matrix, 3, &type, &dims, dim, matrix_stride)) ||
        !crnn_cudnn_ok(cuda, lib->cudnnGetTensorNdDescriptor(l->bias, 3, &type, &dims, dim, bias_stride)))
        return false;
    *p = (part){.matrix = ((char *)matrix - base) / item,
                .row = matrix_stride[1],
                .column = matrix_stride[2],
                .bias = ((char *)bias - base) / item,
                .bias_step = bias_stride[1]};
    return true;
}

/* One gate between the canonical columns of matrix [rows,3H] and bias [3H] and the space. */
static void move_gate(float *space, const part *p, float *matrix, float *bias, int64_t gate, int64_t rows, int64_t H,
                      bool out)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < H; h++) {
            float *inside = space + p->matrix + h * p->row + i * p->column, *outside = matrix + (i * 3 + gate) * H + h;
            *(out ? outside : inside) = *(out ? inside : outside);
        }
    for (int64_t h = 0; h < H; h++) {
        float *inside = space + p->bias + h * p->bias_step, *outside = bias + gate * H + h;
        *(out ? outside : inside) = *(out ? inside : outside);
    }
}

static bool move_all(layer *l, float *space, float *kernel, float *recurrent, float *bias, bool out)
{
    int64_t I = l->base.s.I, H = l->base.s.H;
    for (int k = 0; k < 2 * GATES; k++) {
        part p;
        bool input = k < GATES;
        if (!find_part(l, &p, k))
            return false;
        move_gate(space, &p, input ? kernel : recurrent, input ? bias : bias + 3 * H, canonical[k % GATES],
                  input ? I : H, H, out);
    }
    return true;
}

/* The whole space on the host; what no part covers is zero. NULL latches. */
static float *host_space(layer *l)
{
    float *space = calloc((size_t)layer_params(&l->base), sizeof *space);
    if (!space)
        crnn_cuda_failed(l->base.cuda, CRNN_ERR_MEMORY, "out of host memory");
    return space;
}

static void layer_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias)
{
    layer *l = layer_of(g);
    crnn_backend *be = &g->cuda->base;
    float *space = host_space(l);
    if (space &&
        move_all(l, space, (float *)(uintptr_t)kernel, (float *)(uintptr_t)recurrent, (float *)(uintptr_t)bias, false))
        be->ops->upload(be, w, space, (size_t)layer_params(g) * sizeof *w);
    free(space);
}

static void layer_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w)
{
    layer *l = layer_of(g);
    crnn_backend *be = &g->cuda->base;
    float *space = host_space(l);
    if (space) {
        be->ops->download(be, space, w, (size_t)layer_params(g) * sizeof *w);
        move_all(l, space, kernel, recurrent, bias, true);
    }
    free(space);
}

/* --- forward and backward -------------------------------------------------------------------------------------------- */

/* The bfloat16 copy of a tensor where bf16 is computed in, else the tensor. */
static const void *as_computed(layer *l, uint16_t *half, const float *from, int64_t n)
{
    crnn_cuda *cuda = l->base.cuda;
    if (!l->bf16)
        return from;
    crnn_cuda_ok(cuda, crnn_launch_narrow((crnn_narrow){half, n, 0, CRNN_FORMAT_BF16, 0}, from, 1, n, cuda->stream));
    return half;
}

static void as_float(layer *l, float *to, const uint16_t *half, int64_t n)
{
    crnn_cuda *cuda = l->base.cuda;
    if (l->bf16 && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_from_bf16(to, half, n, cuda->stream));
}

static void layer_prepare(crnn_gru *g, const crnn_gru_input *in, const float *w)
{
    (void)in;
    as_computed(layer_of(g), layer_of(g)->w16, w, layer_params(g));
}

static void layer_forward(crnn_gru *g, float *hs, const crnn_gru_input *in, const float *h_first, const float *w)
{
    layer *l = layer_of(g);
    crnn_cuda *cuda = g->cuda;
    int64_t n = (int64_t)g->s.T * g->s.B;
    if (l->x)
        crnn_cuda_ok(cuda, crnn_launch_embed(l->x, in->tokens, in->embeddings, n, g->s.I, cuda->stream));
    const void *x = as_computed(l, l->x16, l->x ? l->x : in->x, n * g->s.I);
    const void *h = as_computed(l, l->h16, h_first, (int64_t)g->s.B * g->s.H);
    if (cuda->failure.status)
        return;
    crnn_cudnn_ok(cuda,
                  cuda->lib.cudnnRNNForward(cuda->dnn, l->rnn, mode_of(l), NULL, l->x_desc, x, l->y_desc,
                                            l->bf16 ? (void *)l->hs16 : hs, l->h_desc, h, NULL, NULL, NULL, NULL,
                                            l->weight_bytes, l->bf16 ? (const void *)l->w16 : w, cuda->workspace_bytes,
                                            cuda->workspace, l->reserve_bytes, l->reserve));
    as_float(l, hs, l->hs16, n * g->s.H);
}

static void layer_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                           const crnn_gru_input *in, const float *h_first, const float *w)
{
    layer *l = layer_of(g);
    crnn_cuda *cuda = g->cuda;
    int64_t n = (int64_t)g->s.T * g->s.B;
    float *dx = l->x || !din ? l->dx : din;
    const void *x = l->bf16 ? (const void *)l->x16 : l->x ? l->x : in->x;
    const void *y = l->bf16 ? (const void *)l->hs16 : hs, *h = l->bf16 ? (const void *)l->h16 : h_first;
    const void *weights = l->bf16 ? (const void *)l->w16 : w;
    void *dx_out = l->bf16 ? (void *)l->dx16 : dx, *dw_out = l->bf16 ? (void *)l->dw16 : dw;
    const void *dy = as_computed(l, l->dhs16, dhs, n * g->s.H);
    crnn_cuda_ok(cuda, cudaMemsetAsync(dw_out, 0, l->weight_bytes, cuda->stream)); /* gradients are added to it */
    if (cuda->failure.status)
        return;
    bool ok = crnn_cudnn_ok(
        cuda, cuda->lib.cudnnRNNBackwardData_v8(cuda->dnn, l->rnn, NULL, l->y_desc, y, dy, l->x_desc, dx_out, l->h_desc,
                                                h, NULL, NULL, NULL, NULL, NULL, NULL, l->weight_bytes, weights,
                                                cuda->workspace_bytes, cuda->workspace, l->reserve_bytes, l->reserve));
    if (ok)
        crnn_cudnn_ok(cuda, cuda->lib.cudnnRNNBackwardWeights_v8(cuda->dnn, l->rnn, CUDNN_WGRAD_MODE_ADD, NULL,
                                                                 l->x_desc, x, l->h_desc, h, l->y_desc, y,
                                                                 l->weight_bytes, dw_out, cuda->workspace_bytes,
                                                                 cuda->workspace, l->reserve_bytes, l->reserve));
    as_float(l, dx, l->dx16, n * g->s.I);
    as_float(l, dw, l->dw16, layer_params(g));
    if (l->x)
        crnn_cuda_sum_by_token(cuda, din, false, crnn_floats(dx, g->s.I), in->tokens, n, g->s.V, g->s.I);
}

static double layer_flop(const crnn_gru *g, bool backward)
{
    double forward = 6.0 * g->s.T * g->s.B * g->s.H * ((double)g->s.H + g->s.I);
    return backward ? 2 * forward : forward;
}

const crnn_gru_way crnn_gru_cudnn = {
    .make = layer_make,
    .free = layer_free,
    .params = layer_params,
    .pack = layer_pack,
    .unpack = layer_unpack,
    .prepare = layer_prepare,
    .forward = layer_forward,
    .backward = layer_backward,
    .flop = layer_flop,
};
