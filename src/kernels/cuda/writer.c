/* writer.c - the writer of backend.h: the kernel of write.h or that of write_many.h, its plan, workspace and count of steps. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/write_many.h"
#include <stdlib.h>

struct crnn_writer {
    crnn_cuda *cuda;
    crnn_writer_shape shape;
    bool many; /* which of the plans it is */
    crnn_write_plan few_plan;
    crnn_write_many_plan many_plan;
    void *workspace;
    uint32_t steps; /* characters written so far */
};

/* What fp16 can hold, as gru_persist.h says. */
static bool within_range(const float *weights, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(weights[i] > -255 && weights[i] < 255))
            return false;
    return true;
}

/* The faster of the plans that there are; false: none. bf16 is served by fp16, which is as fast and has three bits more. */
static bool find_plan(crnn_writer *w, const float *weights, int64_t floats)
{
    crnn_persist_gpu gpu;
    if (!crnn_cuda_ok(w->cuda, crnn_persist_gpu_of(&gpu, 0)))
        return false;
    const crnn_write_gpu of_few = {gpu.sms, gpu.shared};
    const crnn_persist_precision precision =
        w->cuda->config.precision == CRNN_FP32 ? CRNN_PERSIST_SPLIT : CRNN_PERSIST_FP16;
    bool few = crnn_write_plan_for(&w->few_plan, &w->shape, &of_few, 0);
    w->many = crnn_write_many_plan_for(&w->many_plan, &w->shape, precision, &gpu, NULL) &&
              (!few || w->many_plan.estimate < w->few_plan.estimate) && within_range(weights, floats);
    return few || w->many;
}
static size_t workspace_bytes(const crnn_writer *w)
{
    return w->many ? crnn_write_many_bytes(&w->many_plan) : crnn_write_bytes(&w->few_plan);
}
/* It would not fill the memory with the weights for a second time. */
static bool has_memory(const crnn_writer *w, int64_t floats)
{
    size_t left = 0, total = 0;
    double needed = (double)workspace_bytes(w) + 4.0 * (double)floats + 12.0 * (double)w->shape.V * (double)w->shape.H;
    return crnn_cuda_ok(w->cuda, cudaMemGetInfo(&left, &total)) && needed <= 0.9 * (double)left;
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
    const crnn_writer_shape *s = &w->shape;
    float *canonical = crnn_cuda_alloc_items(cuda, floats, 1, sizeof *canonical);
    float *table = crnn_cuda_alloc_items(cuda, s->V, 3 * (int64_t)s->H, sizeof *table);
    w->workspace = crnn_cuda_alloc(be, workspace_bytes(w));
    if (w->workspace)
        crnn_cuda_watch(cuda, w->many ? crnn_write_many_status(w->workspace) : crnn_write_status(w->workspace),
                        "the blocks of the kernel that writes waited for one another in vain: is the GPU shared with "
                        "other work? use --rnn-algo cudnn");
    be->ops->upload(be, canonical, weights, (size_t)floats * sizeof *weights);
    if (crnn_cuda_begin(cuda, "writer_new"))
        fill_table(cuda, s, table, canonical);
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, w->many ? crnn_write_many_pack(&w->many_plan, w->workspace, canonical, table, cuda->stream)
                                   : crnn_write_pack(&w->few_plan, w->workspace, canonical, table, cuda->stream));
    crnn_cuda_free(be, table);
    crnn_cuda_free(be, canonical);
}

crnn_writer *crnn_cuda_writer_new(crnn_backend *be, const crnn_writer_shape *shape, const float *weights)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    const crnn_model_sizes sizes = {.V = shape->V, .E = shape->E, .H = shape->H, .L = shape->L};
    const int64_t floats = crnn_model_parameters(&sizes);
    if (!crnn_cuda_begin(cuda, "writer_new") || !cuda->writes)
        return NULL;
    crnn_writer *w = calloc(1, sizeof *w);
    if (!w) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of host memory");
        return NULL;
    }
    *w = (crnn_writer){.cuda = cuda, .shape = *shape};
    if (find_plan(w, weights, floats) && has_memory(w, floats)) {
        fill(w, weights, floats);
        if (!cuda->failure.status)
            return w;
    }
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
    if (crnn_cuda_ok(cuda, w->many ? crnn_write_many_launch(&w->many_plan, &pass, cuda->stream)
                                   : crnn_write_launch(&w->few_plan, &pass, cuda->stream)))
        crnn_cuda_ok(cuda, crnn_launch_count_draws(writing->drawn, n, cuda->stream));
}
