/* memory.c - the backend's device memory, and what passes between it and the host. */
#include "host/base/memory.h"
#include "kernels/cuda/cuda.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    crnn_cuda_forget_watched(cuda, device, block->bytes);
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

void crnn_cuda_upload(crnn_backend *be, void *device, const void *host, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "upload"))
        return;
    crnn_cuda_touched(cuda, device, bytes);
    if (bytes > CRNN_STAGING_BYTES) {
        crnn_cuda_ok(cuda, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream));
        crnn_cuda_wait(cuda);
        return;
    }
    if (cuda->staged + bytes > CRNN_STAGING_BYTES)
        crnn_cuda_wait(cuda);
    char *stage = cuda->staging + cuda->staged;
    memcpy(stage, host, bytes);
    cuda->staged += (bytes + 63) / 64 * 64;
    crnn_cuda_ok(cuda, cudaMemcpyAsync(device, stage, bytes, cudaMemcpyHostToDevice, cuda->stream));
}

/* Small ones through pinned memory, which the device writes by itself. */
void crnn_cuda_download(crnn_backend *be, void *host, const void *device, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "download"))
        return;
    bool small = cuda->staged + bytes <= CRNN_STAGING_BYTES;
    void *to = small ? cuda->staging + cuda->staged : host;
    crnn_cuda_ok(cuda, cudaMemcpyAsync(to, device, bytes, cudaMemcpyDeviceToHost, cuda->stream));
    crnn_cuda_wait(cuda);
    if (small && !cuda->failure.status)
        memcpy(host, to, bytes);
}

void crnn_cuda_copy(crnn_backend *be, void *to, const void *from, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "copy"))
        return;
    crnn_cuda_touched(cuda, to, bytes);
    crnn_cuda_ok(cuda, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda->stream));
}

void crnn_cuda_zero(crnn_backend *be, void *device, size_t bytes)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "zero"))
        return;
    crnn_cuda_touched(cuda, device, bytes);
    crnn_cuda_ok(cuda, cudaMemsetAsync(device, 0, bytes, cuda->stream));
}

int64_t crnn_cuda_memory(crnn_backend *be)
{
    return crnn_cuda_of(be)->memory;
}
