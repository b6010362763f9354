/* cuda.c - the CUDA backend: its latch, and how it is opened and closed. */
#include "kernels/cuda/cuda.h"
#include "host/base/memory.h"
#include "kernels/cuda/device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_BYTES = 32 << 20 /* what NVIDIA advises for its newest GPUs */ };

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

void crnn_cuda_forget_watched(crnn_cuda *cuda, const void *device, size_t bytes)
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

crnn_status crnn_cuda_sync(crnn_backend *be, crnn_error *err)
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

/* --- opening and closing --------------------------------------------------------------------------------------------- */

void crnn_cuda_close(crnn_backend *be)
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

static void open_parts(crnn_cuda *cuda)
{
    struct cudaDeviceProp properties;
    cuda->op = "open";
    if (!crnn_cuda_ok(cuda, cudaGetDeviceProperties(&properties, 0)) ||
        !crnn_cuda_ok(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking)) ||
        !crnn_cuda_ok(cuda, cudaMallocHost((void **)&cuda->staging, CRNN_STAGING_BYTES)) ||
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
    crnn_cuda_upload(be, x, ones, sizeof ones);
    crnn_cuda_gru_forward(g, hs, h, &in, h, w);
    crnn_cuda_gru_backward(g, NULL, dw, x, hs, &in, h, w);
    be->ops->linear(be, hs, x, w, x, N, N, N);
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
    cuda->base.ops = &crnn_cuda_ops;
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
        crnn_cuda_close(&cuda->base);
        return NULL;
    }
    return &cuda->base;
}
