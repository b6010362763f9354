/* ops.c - the backend's table, and the ops that are one launcher, or one product, each. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.h"

static void cuda_next_step(crnn_backend *be, crnn_step_inputs *inputs, int64_t *starts, const crnn_step_queue *queue,
                           int32_t B)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "next_step"))
        crnn_cuda_ok(cuda, crnn_launch_next_step(inputs, starts, queue, B, cuda->stream));
}

static void cuda_gather(crnn_backend *be, uint16_t *x, uint16_t *y, const void *ids, int32_t width,
                        const int64_t *starts, int32_t T, int32_t B)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "gather"))
        crnn_cuda_ok(cuda, crnn_launch_gather(x, y, ids, width, starts, T, B, cuda->stream));
}

static void cuda_embed(crnn_backend *be, float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t V,
                       int32_t E)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    (void)V;
    if (crnn_cuda_begin(cuda, "embed"))
        crnn_cuda_ok(cuda, crnn_launch_embed(y, tokens, table, n, E, cuda->stream));
}

void crnn_cuda_sum_by_token(crnn_cuda *cuda, float *dtable, bool add, crnn_matrix dy, const uint16_t *tokens, int64_t n,
                            int32_t V, int32_t E)
{
    crnn_cuda_need_workspace(cuda, crnn_sum_by_token_scratch(n, V));
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_sum_by_token(dtable, add, dy, tokens, n, V, E, cuda->workspace, cuda->stream));
}

static void cuda_embed_backward(crnn_backend *be, float *dtable, const float *dy, const uint16_t *tokens, int64_t n,
                                int32_t V, int32_t E)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "embed_backward"))
        crnn_cuda_sum_by_token(cuda, dtable, false, crnn_floats(dy, E), tokens, n, V, E);
}

static void cuda_dropout(crnn_backend *be, float *y, const float *x, int64_t n, float p, uint64_t seed,
                         const crnn_step_inputs *inputs, int32_t layer)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "dropout"))
        crnn_cuda_ok(cuda, crnn_launch_dropout(y, x, n, p, seed, inputs, layer, cuda->stream));
}

static void cuda_linear(crnn_backend *be, float *y, const float *x, const float *W, const float *b, int64_t n,
                        int32_t H, int32_t V)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "linear"))
        crnn_cuda_multiply(cuda, &(crnn_cuda_product_shape){.M = n, .N = V, .K = H, .lda = H, .ldb = V, .ldc = V}, y, x,
                           W, b);
}

static void cuda_linear_backward(crnn_backend *be, float *dx, float *dW, float *db, const float *dy, const float *x,
                                 const float *W, int64_t n, int32_t H, int32_t V)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "linear_backward"))
        return;
    crnn_cuda_product_shape dx_shape = {.M = n, .N = H, .K = V, .lda = V, .ldb = V, .ldc = H, .transpose_b = true};
    crnn_cuda_product_shape dW_shape = {.M = H, .N = V, .K = n, .lda = H, .ldb = V, .ldc = V, .transpose_a = true};
    crnn_cuda_multiply(cuda, &dx_shape, dx, dy, W, NULL);
    crnn_cuda_multiply(cuda, &dW_shape, dW, x, dy, NULL);
    crnn_cuda_ok(cuda, crnn_launch_column_sums(db, false, crnn_floats(dy, V), n, V, cuda->stream));
}

static void cuda_softmax_xent(crnn_backend *be, crnn_step_numbers *numbers, float *z, const uint16_t *y, int64_t n,
                              int32_t V, float scale)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "softmax_xent"))
        crnn_cuda_ok(cuda, crnn_launch_softmax_xent(numbers, z, y, n, V, scale, cuda->partials, cuda->stream));
}

static void cuda_norm(crnn_backend *be, crnn_step_numbers *numbers, const float *g, int64_t n)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "norm"))
        crnn_cuda_ok(cuda, crnn_launch_norm(numbers, g, n, cuda->partials, cuda->stream));
}

static void cuda_adam(crnn_backend *be, float *w, float *m, float *v, const float *g, int64_t n,
                      const crnn_step_inputs *inputs, const crnn_step_numbers *numbers)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "adam"))
        return;
    crnn_gpu_update update = {.w = w, .m = m, .v = v, .g = g, .inputs = inputs, .numbers = numbers};
    crnn_cuda_updated(cuda, w, n);
    do { /* once, unless there are very many layers */
        crnn_cuda_copies(cuda, &update, n);
        crnn_cuda_ok(cuda, crnn_launch_adam(&update, cuda->stream));
        update.from = update.to;
    } while (update.to < n && !cuda->failure.status);
}

static void cuda_carry(crnn_backend *be, float *to, const float *from, int64_t n, const crnn_step_numbers *numbers)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "carry"))
        crnn_cuda_ok(cuda, crnn_launch_carry(to, from, n, numbers, cuda->stream));
}

static void cuda_probabilities(crnn_backend *be, float *p, const float *z, int64_t n, int32_t V,
                               const crnn_sample_options *options)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "probabilities"))
        crnn_cuda_ok(cuda, crnn_launch_probabilities(p, z, n, V, options, cuda->stream));
}

static void cuda_pick(crnn_backend *be, uint16_t *ids, uint16_t *written, uint64_t *drawn, const float *p, int64_t n,
                      int32_t V, int32_t ring, uint64_t seed)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "pick"))
        crnn_cuda_ok(cuda, crnn_launch_pick(ids, written, drawn, p, n, V, ring, seed, cuda->stream));
}

static void cuda_info(crnn_backend *be, crnn_device_info *info)
{
    crnn_cuda_describe_device(info, &crnn_cuda_of(be)->lib);
}

const crnn_backend_ops crnn_cuda_ops = {
    .name = "cuda",
    .close = crnn_cuda_close,
    .info = cuda_info,
    .sync = crnn_cuda_sync,
    .alloc = crnn_cuda_alloc,
    .free = crnn_cuda_free,
    .upload = crnn_cuda_upload,
    .download = crnn_cuda_download,
    .copy = crnn_cuda_copy,
    .zero = crnn_cuda_zero,
    .memory = crnn_cuda_memory,
    .record = crnn_cuda_record,
    .record_end = crnn_cuda_record_end,
    .next_step = cuda_next_step,
    .gather = cuda_gather,
    .embed = cuda_embed,
    .embed_backward = cuda_embed_backward,
    .gru_choose = crnn_cuda_gru_choose,
    .gru_new = crnn_cuda_gru_new,
    .gru_free = crnn_cuda_gru_free,
    .gru_params = crnn_cuda_gru_params,
    .gru_pack = crnn_cuda_gru_pack,
    .gru_unpack = crnn_cuda_gru_unpack,
    .gru_forward = crnn_cuda_gru_forward,
    .gru_backward = crnn_cuda_gru_backward,
    .gru_flop = crnn_cuda_gru_flop,
    .dropout = cuda_dropout,
    .linear = cuda_linear,
    .linear_backward = cuda_linear_backward,
    .softmax_xent = cuda_softmax_xent,
    .head = crnn_cuda_head,
    .head_bytes = crnn_cuda_head_bytes,
    .norm = cuda_norm,
    .adam = cuda_adam,
    .carry = cuda_carry,
    .probabilities = cuda_probabilities,
    .pick = cuda_pick,
    .writer_new = crnn_cuda_writer_new,
    .writer_free = crnn_cuda_writer_free,
    .write = crnn_cuda_write,
    .peak_rate = crnn_cuda_peak_rate,
    .copy_rate = crnn_cuda_copy_rate,
    .mark = crnn_cuda_mark,
    .between = crnn_cuda_between,
};
