// loss.cu - softmax with cross-entropy in one pass over the logits: the loss, the hits, and the gradient in their place.
#include "kernels/cuda/loss.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;

__global__ void __launch_bounds__(THREADS, 1)
    softmax_xent(float *z, const uint16_t *y, int64_t n, int V, float scale, crnn_gpu_partial *partials)
{
    SHARED(crnn_gpu_partial, part, [WARPS]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    crnn_gpu_partial sum = {0, 0, 0};
    const int64_t step = static_cast<int64_t>(gridDim.x) * WARPS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * WARPS + warp; i < n; i += step)
        loss::one_row<32>(sum, z + i * V, y[i], V, scale, lane);
    if (lane == 0)
        part[warp] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int w = 1; w < WARPS; w++) {
        sum.sum += part[w].sum;
        sum.positions += part[w].positions;
        sum.hits += part[w].hits;
    }
    partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(32, 1)
    sum_losses(crnn_step_numbers *numbers, const crnn_gpu_partial *partials, int blocks)
{
    loss::add_up(numbers, partials, blocks, threadIdx.x);
}

cudaError_t crnn_launch_softmax_xent(crnn_step_numbers *numbers, float *z, const uint16_t *y, int64_t n, int32_t V,
                                     float scale, crnn_gpu_partial *partials, cudaStream_t stream)
{
    const int64_t wanted = (n + WARPS - 1) / WARPS;
    const int blocks = wanted < CRNN_GPU_PARTIALS ? static_cast<int>(wanted) : CRNN_GPU_PARTIALS;
    const cudaError_t error = LAUNCH(softmax_xent, blocks, THREADS, 0, stream, z, y, n, V, scale, partials);
    if (error != cudaSuccess)
        return error;
    return LAUNCH(sum_losses, 1, 32, 0, stream, numbers, partials, blocks);
}
