/* writer.c - the writer of backend.h: the plan, the workspace and the count of steps of the kernel of write.h. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/write.h"
#include <stdlib.h>

struct crnn_writer {
    crnn_cuda *cuda;
    crnn_write_plan plan;
    void *workspace;
    uint32_t steps; /* characters written so far */
};

static bool find_plan(crnn_cuda *cuda, crnn_write_plan *plan, const crnn_writer_shape *shape)
{
    struct cudaDeviceProp p;
    if (!crnn_cuda_ok(cuda, cudaGetDeviceProperties(&p, 0)))
        return false;
    crnn_write_gpu gpu = {p.multiProcessorCount, (int32_t)p.sharedMemPerBlockOptin};
    return crnn_write_plan_for(plan, shape, &gpu, 0);
}

/* x Kx + b0 of each character in the first layer, from weights in canonical order. */
static void fill_table(crnn_cuda *cuda, const crnn_writer_shape *s, float *table, const float *weights)
{
    int64_t H3 = 3 * (int64_t)s->H;
    const float *K = weights + (int64_t)s->V * s->E, *b0 = K + (s->E + (int64_t)s->H) * H3;
    crnn_cuda_multiply(cuda,
                       &(crnn_cuda_product_shape){.M = s->V, .N = H3, .K = s->E, .lda = s->E, .ldb = H3, .ldc = H3},
                       table, weights, K, b0);
}

/* The weights as they came and the table are needed for a while only; the workspace holds what comes of them. */
static void fill(crnn_writer *w, const float *weights, int64_t floats)
{
    crnn_cuda *cuda = w->cuda;
    crnn_backend *be = &cuda->base;
    const crnn_writer_shape *s = &w->plan.shape;
    float *canonical = crnn_cuda_alloc_items(cuda, floats, 1, sizeof *canonical);
    float *table = crnn_cuda_alloc_items(cuda, s->V, 3 * (int64_t)s->H, sizeof *table);
    w->workspace = crnn_cuda_alloc(be, crnn_write_bytes(&w->plan));
    if (w->workspace)
        crnn_cuda_watch(cuda, crnn_write_status(w->workspace),
                        "the blocks of the kernel that writes waited for one another in vain: is the GPU shared with "
                        "other work? use --rnn-algo cudnn");
    be->ops->upload(be, canonical, weights, (size_t)floats * sizeof *weights);
    if (crnn_cuda_begin(cuda, "writer_new"))
        fill_table(cuda, s, table, canonical);
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_write_pack(&w->plan, w->workspace, canonical, table, cuda->stream));
    crnn_cuda_free(be, table);
    crnn_cuda_free(be, canonical);
}

crnn_writer *crnn_cuda_writer_new(crnn_backend *be, const crnn_writer_shape *shape, const float *weights)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    crnn_write_plan plan;
    size_t left = 0, total = 0;
    crnn_model_sizes sizes = {.V = shape->V, .E = shape->E, .H = shape->H, .L = shape->L};
    int64_t floats = crnn_model_parameters(&sizes);
    if (!crnn_cuda_begin(cuda, "writer_new") || !cuda->writes || !find_plan(cuda, &plan, shape) ||
        !crnn_cuda_ok(cuda, cudaMemGetInfo(&left, &total)))
        return NULL;
    if ((double)crnn_write_bytes(&plan) + 4.0 * (double)floats + 12.0 * shape->V * shape->H > 0.9 * (double)left)
        return NULL; /* it would fill the memory with the weights for a second time */
    crnn_writer *w = calloc(1, sizeof *w);
    if (!w) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of host memory");
        return NULL;
    }
    *w = (crnn_writer){.cuda = cuda, .plan = plan};
    fill(w, weights, floats);
    if (!cuda->failure.status)
        return w;
    crnn_cuda_writer_free(w);
    return NULL;
}

void crnn_cuda_writer_free(crnn_writer *w)
{
    if (!w)
        return;
    crnn_cuda_free(&w->cuda->base, w->workspace);
    free(w);
}

void crnn_cuda_write(crnn_writer *w, const crnn_writing *writing, int32_t n, const crnn_sample_options *options)
{
    crnn_cuda *cuda = w->cuda;
    if (!crnn_cuda_begin(cuda, "write"))
        return;
    crnn_write_pass pass = {.workspace = w->workspace, .io = *writing, .options = *options, .n = n, .steps = w->steps};
    w->steps += (uint32_t)n;
    if (crnn_cuda_ok(cuda, crnn_write_launch(&w->plan, &pass, cuda->stream)))
        crnn_cuda_ok(cuda, crnn_launch_count_draws(writing->drawn, n, cuda->stream));
}
