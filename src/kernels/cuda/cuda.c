/* cuda.c - the CUDA backend: its table, its memory, its latch, its recorded lists. */
#include "kernels/cuda/cuda.h"
#include "host/base/memory.h"
#include "kernels/cuda/device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGING_BYTES = 1 << 18, WORKSPACE_BYTES = 32 << 20 /* what NVIDIA advises for its newest GPUs */ };

/* --- the latch ------------------------------------------------------------------------------------------------------- */

bool crnn_cuda_begin(crnn_cuda *cuda, const char *op)
{
    if (cuda->failure.status)
        return false;
    cuda->op = op;
    return true;
}

void crnn_cuda_failed(crnn_cuda *cuda, crnn_status status, const char *what)
{
    if (!cuda->failure.status)
        crnn_fail(&cuda->failure, status, "the CUDA backend failed in %s: %s", cuda->op, what);
}

bool crnn_cuda_ok(crnn_cuda *cuda, cudaError_t error)
{
    if (error == cudaSuccess)
        return true;
    char what[200];
    snprintf(what, sizeof what, "%s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
    crnn_cuda_failed(cuda, error == cudaErrorMemoryAllocation ? CRNN_ERR_MEMORY : CRNN_ERR_FAULT, what);
    cudaGetLastError(); /* which the next launch would report as its own */
    return false;
}

bool crnn_cublas_ok(crnn_cuda *cuda, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return true;
    char what[200];
    snprintf(what, sizeof what, "cuBLASLt: %s", cuda->lib.cublasLtGetStatusString(status));
    crnn_cuda_failed(cuda, status == CUBLAS_STATUS_ALLOC_FAILED ? CRNN_ERR_MEMORY : CRNN_ERR_FAULT, what);
    return false;
}

bool crnn_cudnn_ok(crnn_cuda *cuda, cudnnStatus_t status)
{
    if (status == CUDNN_STATUS_SUCCESS)
        return true;
    char what[280], more[200] = "";
    cuda->lib.cudnnGetLastErrorString(more, sizeof more);
    snprintf(what, sizeof what, "cuDNN: %s%s%s", cuda->lib.cudnnGetErrorString(status), more[0] ? ": " : "", more);
    bool memory = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                  status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    bool cannot = (int)status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000; /* and its kinds */
    crnn_cuda_failed(cuda, memory ? CRNN_ERR_MEMORY : cannot ? CRNN_ERR_ARGUMENT : CRNN_ERR_FAULT, what);
    return false;
}

void crnn_cuda_watch(crnn_cuda *cuda, const uint32_t *word, const char *gave_up)
{
    if (cuda->watched_count < CRNN_MAX_WATCHED)
        cuda->watched[cuda->watched_count++] = (crnn_cuda_watched){word, gave_up};
    else
        crnn_cuda_failed(cuda, CRNN_ERR_ARGUMENT, "too many kernels that wait for one another; use --rnn-algo cudnn");
}

/* Queued before the wait that there is anyway. */
static void ask_watched(crnn_cuda *cuda)
{
    for (int i = 0; i < cuda->watched_count && !cuda->failure.status; i++)
        crnn_cuda_ok(cuda, cudaMemcpyAsync(&cuda->said[i], cuda->watched[i].word, sizeof *cuda->said,
                                           cudaMemcpyDeviceToHost, cuda->stream));
}

static void check_watched(crnn_cuda *cuda)
{
    for (int i = 0; i < cuda->watched_count && !cuda->failure.status; i++)
        if (cuda->said[i])
            crnn_cuda_failed(cuda, CRNN_ERR_FAULT, cuda->watched[i].gave_up);
}

/* Those in memory that is about to be freed; the others keep their order. */
static void forget_watched(crnn_cuda *cuda, const void *device, size_t bytes)
{
    uintptr_t from = (uintptr_t)device;
    int kept = 0;
    for (int i = 0; i < cuda->watched_count; i++)
        if ((uintptr_t)cuda->watched[i].word - from >= bytes)
            cuda->watched[kept++] = cuda->watched[i];
    cuda->watched_count = kept;
}

void crnn_cuda_wait(crnn_cuda *cuda)
{
    crnn_cuda_ok(cuda, cudaStreamSynchronize(cuda->stream));
    cuda->staged = 0;
}

static crnn_status cuda_sync(crnn_backend *be, crnn_error *err)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    ask_watched(cuda);
    crnn_cuda_wait(cuda);
    check_watched(cuda);
    crnn_status status = cuda->failure.status;
    if (status)
        crnn_fail(err, status, "%s", cuda->failure.text);
    cuda->failure = (crnn_error){0};
    return status;
}

/* --- memory ---------------------------------------------------------------------------------------------------------- */

struct crnn_cuda_block {
    crnn_cuda_block *next;
    void *device;
    size_t bytes;
};

static void out_of_memory(crnn_cuda *cuda, size_t bytes)
{
    size_t free_bytes = 0, total = 0;
    char what[200];
    cudaMemGetInfo(&free_bytes, &total);
    snprintf(what, sizeof what, "out of memory: %.1f MiB more were asked for, %.1f of %.1f MiB are free",
             (double)bytes / 0x1p20, (double)free_bytes / 0x1p20, (double)total / 0x1p20);
    crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, what);
    cudaGetLastError();
}

void *crnn_cuda_alloc(crnn_backend *be, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "alloc"))
        return NULL;
    crnn_cuda_block *block = malloc(sizeof *block);
    if (!block) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of host memory");
        return NULL;
    }
    block->bytes = bytes ? bytes : 1;
    cudaError_t error = cudaMalloc(&block->device, block->bytes);
    if (error == cudaErrorMemoryAllocation)
        out_of_memory(cuda, bytes);
    if (!crnn_cuda_ok(cuda, error)) {
        free(block);
        return NULL;
    }
    block->next = cuda->blocks;
    cuda->blocks = block;
    cuda->memory += (int64_t)block->bytes;
    crnn_cuda_ok(cuda, cudaMemsetAsync(block->device, 0, block->bytes, cuda->stream));
    return block->device;
}

void crnn_cuda_free(crnn_backend *be, void *device)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!device)
        return;
    crnn_cuda_block **link = &cuda->blocks;
    while ((*link)->device != device)
        link = &(*link)->next;
    crnn_cuda_block *block = *link;
    *link = block->next;
    cuda->op = "free";
    crnn_cuda_touched(cuda, device, block->bytes);
    forget_watched(cuda, device, block->bytes);
    crnn_cuda_wait(cuda);
    crnn_cuda_forget_lists(cuda);
    crnn_cuda_ok(cuda, cudaFree(device));
    cuda->memory -= (int64_t)block->bytes;
    free(block);
}

void *crnn_cuda_alloc_items(crnn_cuda *cuda, int64_t rows, int64_t columns, size_t item)
{
    size_t bytes;
    if (!crnn_mul_size(&bytes, (size_t)rows, (size_t)columns) || !crnn_mul_size(&bytes, bytes, item))
        bytes = SIZE_MAX / 2; /* which alloc refuses */
    return crnn_cuda_alloc(&cuda->base, bytes);
}

void crnn_cuda_need_workspace(crnn_cuda *cuda, size_t bytes)
{
    if (bytes <= cuda->workspace_bytes || cuda->failure.status)
        return;
    crnn_cuda_free(&cuda->base, cuda->workspace);
    cuda->workspace = crnn_cuda_alloc(&cuda->base, bytes);
    cuda->workspace_bytes = cuda->workspace ? bytes : 0;
}

void crnn_cuda_stale(crnn_gru *g, const void *device, size_t bytes)
{
    uintptr_t from = (uintptr_t)device, to = from + bytes;
    uintptr_t w = (uintptr_t)g->seen_w, embeddings = (uintptr_t)g->seen_embeddings;
    size_t w_bytes = (size_t)crnn_cuda_gru_params(g) * sizeof(float);
    size_t embeddings_bytes = (size_t)g->s.V * (size_t)g->s.I * sizeof(float);
    if (w && ((w < to && from < w + w_bytes) || (embeddings < to && from < embeddings + embeddings_bytes))) {
        g->seen_w = NULL;
        crnn_cuda_forget_lists(g->cuda); /* in which nothing is prepared */
    }
}

void crnn_cuda_touched(crnn_cuda *cuda, const void *device, size_t bytes)
{
    for (crnn_gru *g = cuda->layers; g; g = g->next)
        crnn_cuda_stale(g, device, bytes);
}

static void cuda_upload(crnn_backend *be, void *device, const void *host, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "upload"))
        return;
    crnn_cuda_touched(cuda, device, bytes);
    if (bytes > STAGING_BYTES) {
        crnn_cuda_ok(cuda, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream));
        crnn_cuda_wait(cuda);
        return;
    }
    if (cuda->staged + bytes > STAGING_BYTES)
        crnn_cuda_wait(cuda);
    char *stage = cuda->staging + cuda->staged;
    memcpy(stage, host, bytes);
    cuda->staged += (bytes + 63) / 64 * 64;
    crnn_cuda_ok(cuda, cudaMemcpyAsync(device, stage, bytes, cudaMemcpyHostToDevice, cuda->stream));
}

/* Small ones through pinned memory, which the device writes by itself. */
static void cuda_download(crnn_backend *be, void *host, const void *device, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "download"))
        return;
    bool small = cuda->staged + bytes <= STAGING_BYTES;
    void *to = small ? cuda->staging + cuda->staged : host;
    crnn_cuda_ok(cuda, cudaMemcpyAsync(to, device, bytes, cudaMemcpyDeviceToHost, cuda->stream));
    crnn_cuda_wait(cuda);
    if (small && !cuda->failure.status)
        memcpy(host, to, bytes);
}

static void cuda_copy(crnn_backend *be, void *to, const void *from, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "copy"))
        return;
    crnn_cuda_touched(cuda, to, bytes);
    crnn_cuda_ok(cuda, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda->stream));
}

static void cuda_zero(crnn_backend *be, void *device, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "zero"))
        return;
    crnn_cuda_touched(cuda, device, bytes);
    crnn_cuda_ok(cuda, cudaMemsetAsync(device, 0, bytes, cuda->stream));
}

static int64_t cuda_memory(crnn_backend *be)
{
    return crnn_cuda_of(be)->memory;
}

/* --- recorded lists -------------------------------------------------------------------------------------------------- */

void crnn_cuda_forget_lists(crnn_cuda *cuda)
{
    for (int i = 0; i < CRNN_RECORDS; i++) {
        if (cuda->lists[i].graph)
            cudaGraphExecDestroy(cuda->lists[i].graph);
        cuda->lists[i] = (crnn_cuda_list){0};
    }
}

static bool cuda_record(crnn_backend *be, crnn_record list)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    crnn_cuda_list *l = &cuda->lists[list];
    if (!crnn_cuda_begin(cuda, "record"))
        return true;
    if (l->state == CRNN_LIST_READY) {
        crnn_cuda_ok(cuda, cudaGraphLaunch(l->graph, cuda->stream));
        return false;
    }
    if (l->state == CRNN_LIST_COLD)
        l->state = CRNN_LIST_WARM;
    else if (l->state == CRNN_LIST_WARM)
        cuda->capturing = crnn_cuda_ok(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
    return true;
}

/* What was captured becomes a graph; false where it does not. */
static bool make_graph(crnn_cuda *cuda, crnn_cuda_list *l)
{
    cudaGraph_t graph = NULL;
    bool ok = crnn_cuda_ok(cuda, cudaStreamEndCapture(cuda->stream, &graph)) && !cuda->failure.status &&
              crnn_cuda_ok(cuda, cudaGraphInstantiate(&l->graph, graph, 0));
    if (graph)
        cudaGraphDestroy(graph);
    if (ok)
        return true;
    l->graph = NULL;
    return false;
}

static bool cuda_record_end(crnn_backend *be, crnn_record list)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    crnn_cuda_list *l = &cuda->lists[list];
    if (!cuda->capturing)
        return true;
    cuda->capturing = false;
    cuda->op = "record_end";
    if (!make_graph(cuda, l)) { /* nothing of it has run: whatever failed will show again, where it can be reported */
        cuda->failure = (crnn_error){0};
        for (crnn_gru *g = cuda->layers; g; g = g->next)
            g->seen_w = NULL;
        l->state = CRNN_LIST_UNFIT;
        return false;
    }
    l->state = CRNN_LIST_READY;
    crnn_cuda_ok(cuda, cudaGraphLaunch(l->graph, cuda->stream));
    return true;
}

/* --- ops ------------------------------------------------------------------------------------------------------------- */

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

static void cuda_embed_backward(crnn_backend *be, float *dtable, const float *dy, const uint16_t *tokens, int64_t n,
                                int32_t V, int32_t E)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (crnn_cuda_begin(cuda, "embed_backward"))
        crnn_cuda_ok(cuda, crnn_launch_sum_by_token(dtable, false, crnn_floats(dy, E), tokens, n, V, E, cuda->stream));
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

/* --- opening and closing --------------------------------------------------------------------------------------------- */

static void cuda_close(crnn_backend *be)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (cuda->stream)
        cudaStreamSynchronize(cuda->stream); /* what it says no longer matters */
    crnn_cuda_forget_lists(cuda);
    crnn_cuda_products_free(cuda);
    crnn_cuda_marks_free(cuda);
    crnn_cuda_free(be, cuda->workspace);
    crnn_cuda_free(be, cuda->partials);
    if (cuda->dnn)
        cuda->lib.cudnnDestroy(cuda->dnn);
    if (cuda->lt)
        cuda->lib.cublasLtDestroy(cuda->lt);
    if (cuda->staging)
        cudaFreeHost(cuda->staging);
    if (cuda->said)
        cudaFreeHost(cuda->said);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static void cuda_info(crnn_backend *be, crnn_device_info *info)
{
    crnn_cuda_describe_device(info, &crnn_cuda_of(be)->lib);
}

static const crnn_backend_ops cuda_ops = {
    .name = "cuda",
    .close = cuda_close,
    .info = cuda_info,
    .sync = cuda_sync,
    .alloc = crnn_cuda_alloc,
    .free = crnn_cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .memory = cuda_memory,
    .record = cuda_record,
    .record_end = cuda_record_end,
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

static void open_parts(crnn_cuda *cuda)
{
    struct cudaDeviceProp properties;
    cuda->op = "open";
    if (!crnn_cuda_ok(cuda, cudaGetDeviceProperties(&properties, 0)) ||
        !crnn_cuda_ok(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking)) ||
        !crnn_cuda_ok(cuda, cudaMallocHost((void **)&cuda->staging, STAGING_BYTES)) ||
        !crnn_cuda_ok(cuda, cudaMallocHost((void **)&cuda->said, CRNN_MAX_WATCHED * sizeof *cuda->said)) ||
        !crnn_cublas_ok(cuda, cuda->lib.cublasLtCreate(&cuda->lt)) ||
        !crnn_cudnn_ok(cuda, cuda->lib.cudnnCreate(&cuda->dnn)) ||
        !crnn_cudnn_ok(cuda, cuda->lib.cudnnSetStream(cuda->dnn, cuda->stream)))
        return;
    cuda->compute_major = properties.major;
    crnn_cuda_need_workspace(cuda, WORKSPACE_BYTES);
    cuda->partials = crnn_cuda_alloc_items(cuda, CRNN_GPU_PARTIALS, 1, sizeof *cuda->partials);
}

/* A small layer forward and backward, and a product: libraries that are there in part, and kernels for other GPUs, show here. */
static void try_out(crnn_cuda *cuda)
{
    enum { N = 8 };
    static const float ones[N * 3 * N] = {1};
    crnn_gru_shape shape = {.T = 2, .B = N, .I = N, .H = N, .training = true};
    crnn_backend *be = &cuda->base;
    const crnn_gru_named_way wanted = {cuda->config.rnn_algo, cuda->way};
    crnn_cuda_take_way(cuda, &crnn_gru_ways[0]); /* the others do not serve every shape */
    crnn_gru *g = crnn_cuda_gru_new(be, &shape);
    crnn_cuda_take_way(cuda, &wanted);
    if (!g)
        return;
    size_t w_bytes = (size_t)crnn_cuda_gru_params(g) * sizeof(float);
    float *w = crnn_cuda_alloc(be, w_bytes), *dw = crnn_cuda_alloc(be, w_bytes);
    float *x = crnn_cuda_alloc(be, sizeof ones), *hs = crnn_cuda_alloc(be, sizeof ones),
          *h = crnn_cuda_alloc(be, sizeof ones);
    crnn_gru_input in = {.x = x};
    crnn_cuda_gru_pack(g, w, ones, ones, ones);
    cuda_upload(be, x, ones, sizeof ones);
    crnn_cuda_gru_forward(g, hs, h, &in, h, w);
    crnn_cuda_gru_backward(g, NULL, dw, x, hs, &in, h, w);
    cuda_linear(be, hs, x, w, x, N, N, N);
    crnn_cuda_wait(cuda);
    void *all[] = {w, dw, x, hs, h};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        crnn_cuda_free(be, all[i]);
    crnn_cuda_gru_free(g);
}

crnn_backend *crnn_cuda_open(const crnn_device_config *config, crnn_error *err)
{
    const crnn_gru_named_way *way = crnn_cuda_way(config->rnn_algo, err);
    if (!way || crnn_cuda_check_device(config, err) != CRNN_OK)
        return NULL;
    crnn_cuda *cuda = crnn_alloc(1, sizeof *cuda, "the CUDA backend", err);
    if (!cuda)
        return NULL;
    cuda->base.ops = &cuda_ops;
    cuda->config = *config;
    cuda->config.kind = CRNN_DEVICE_CUDA;
    cuda->way = way->way;
    cuda->writes =
        !config->rnn_algo || strcmp(config->rnn_algo, "auto") == 0 || strcmp(config->rnn_algo, "persist") == 0;
    if (crnn_gpu_libraries_open(&cuda->lib, err) != CRNN_OK) {
        free(cuda);
        return NULL;
    }
    open_parts(cuda);
    try_out(cuda);
    if (cuda->failure.status) {
        crnn_fail(err, CRNN_ERR_DEVICE, "the GPU cannot be used: %s", cuda->failure.text);
        cuda_close(&cuda->base);
        return NULL;
    }
    return &cuda->base;
}
