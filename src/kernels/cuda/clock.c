/* clock.c - what the GPU takes for a step's parts, by events on its stream, and how fast it copies. */
#include "kernels/cuda/cuda.h"

void crnn_cuda_mark(crnn_backend *be, int32_t i)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "mark"))
        return;
    if (cuda->marks[i] || crnn_cuda_ok(cuda, cudaEventCreate(&cuda->marks[i])))
        crnn_cuda_ok(cuda, cudaEventRecord(cuda->marks[i], cuda->stream));
}

double crnn_cuda_between(crnn_backend *be, int32_t i, int32_t j)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    float ms = 0;
    if (!crnn_cuda_begin(cuda, "between") ||
        !crnn_cuda_ok(cuda, cudaEventElapsedTime(&ms, cuda->marks[i], cuda->marks[j])))
        return 0;
    return 1e-3 * (double)ms;
}

void crnn_cuda_marks_free(crnn_cuda *cuda)
{
    for (int i = 0; i < CRNN_MARKS; i++)
        if (cuda->marks[i])
            cudaEventDestroy(cuda->marks[i]);
}

double crnn_cuda_copy_rate(crnn_backend *be)
{
    enum { ROUNDS = 4 };
    crnn_cuda *cuda = crnn_cuda_of(be);
    struct cudaDeviceProp p;
    if (!crnn_cuda_begin(cuda, "copy_rate") || !crnn_cuda_ok(cuda, cudaGetDeviceProperties(&p, 0)))
        return 0;
    size_t bytes = 8 * (size_t)p.l2CacheSize; /* so that it comes from memory */
    void *from = crnn_cuda_alloc(be, bytes), *to = crnn_cuda_alloc(be, bytes);
    double best = 0;
    for (int round = 0; round < ROUNDS && !cuda->failure.status; round++) {
        crnn_cuda_mark(be, 0);
        be->ops->copy(be, to, from, bytes);
        crnn_cuda_mark(be, 1);
        crnn_cuda_ok(cuda, cudaStreamSynchronize(cuda->stream));
        double seconds = crnn_cuda_between(be, 0, 1), rate = seconds > 0 ? 2.0 * (double)bytes / seconds : 0;
        best = rate > best ? rate : best;
    }
    crnn_cuda_free(be, from);
    crnn_cuda_free(be, to);
    return best;
}
