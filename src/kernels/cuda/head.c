/* head.c - the dense layer and its loss: by kernels of our own where they serve, else by the ops of which it is made. */
#include "kernels/cuda/head.h"
#include "kernels/cuda/cuda.h"

static bool fused(const crnn_cuda *cuda, int32_t V)
{
    return cuda->compute_major >= CRNN_HEAD_OLDEST_MAJOR && V <= CRNN_HEAD_MOST_V;
}

/* tf32 and bf16: fp16, which rounds as tf32 does. */
static bool split(const crnn_cuda *cuda)
{
    return cuda->config.precision == CRNN_FP32;
}

size_t crnn_cuda_head_bytes(crnn_backend *be, int64_t n, int32_t H, int32_t V)
{
    const crnn_cuda *cuda = crnn_cuda_of(be);
    size_t logits = crnn_head_by_ops_bytes(be, n, H, V);
    size_t bytes = fused(cuda, V) ? crnn_head_bytes(n, H, V, split(cuda)) : 0;
    return bytes > logits ? bytes : logits;
}

void crnn_cuda_head(crnn_backend *be, const crnn_head *head)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!fused(cuda, head->V))
        crnn_head_by_ops(be, head);
    else if (crnn_cuda_begin(cuda, "head"))
        crnn_cuda_ok(cuda, crnn_launch_head(head, split(cuda), cuda->stream));
}
