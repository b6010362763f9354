// loss.cu - softmax with cross-entropy in one pass over the logits: the loss, the hits, and the gradient in their place.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/reduce.h"
#include <crnn/text.h>

constexpr int THREADS = 256, WARPS = THREADS / 32;

// The first of equals, as in the sum over ids everywhere.
__device__ static int warp_argmax(const float *z, int V, float max, int lane)
{
    int best = V - 1;
    for (int v = lane; v < V; v += 32)
        if (z[v] == max) {
            best = v;
            break;
        }
    return -gpu::warp_reduce(-best, gpu::larger());
}

// One warp, one row. The partial is summed by lane 0 alone.
__device__ static void one_row(crnn_gpu_partial &sum, float *z, uint16_t y, int V, float scale, int lane)
{
    if (y == CRNN_NO_ID) {
        for (int v = lane; v < V && scale != 0; v += 32)
            z[v] = 0;
        return;
    }
    float max = -INFINITY;
    for (int v = lane; v < V; v += 32)
        max = fmaxf(max, z[v]);
    max = gpu::warp_reduce(max, gpu::larger());
    double total = 0;
    for (int v = lane; v < V; v += 32)
        total += static_cast<double>(expf(z[v] - max)); // a NaN among the logits comes out here
    total = gpu::warp_reduce(total, gpu::plus());
    const double target = static_cast<double>(z[y]);
    const int best = warp_argmax(z, V, max, lane);
    __syncwarp(); // every lane has read z before it is overwritten
    if (lane == 0) {
        sum.sum += log(total) + (static_cast<double>(max) - target);
        sum.positions++;
        sum.hits += best == y;
    }
    if (scale == 0)
        return;
    const float factor = static_cast<float>(static_cast<double>(scale) / total);
    for (int v = lane; v < V; v += 32)
        if (v == y) { // p - 1 would cancel for p near 1
            const double e = static_cast<double>(expf(z[v] - max));
            z[v] = static_cast<float>((e - total) / total * static_cast<double>(scale));
        } else {
            z[v] = expf(z[v] - max) * factor;
        }
}

__global__ void __launch_bounds__(THREADS, 1)
    softmax_xent(float *z, const uint16_t *y, int64_t n, int V, float scale, crnn_gpu_partial *partials)
{
    SHARED(crnn_gpu_partial, part, [WARPS]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    crnn_gpu_partial sum = {0, 0, 0};
    const int64_t step = static_cast<int64_t>(gridDim.x) * WARPS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * WARPS + warp; i < n; i += step)
        one_row(sum, z + i * V, y[i], V, scale, lane);
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

// One warp adds up what the blocks left.
__global__ void __launch_bounds__(32, 1)
    sum_losses(crnn_step_numbers *numbers, const crnn_gpu_partial *partials, int blocks)
{
    double loss = 0;
    long long positions = 0, hits = 0;
    for (int i = threadIdx.x; i < blocks; i += 32) {
        loss += partials[i].sum;
        positions += partials[i].positions;
        hits += partials[i].hits;
    }
    loss = gpu::warp_reduce(loss, gpu::plus());
    positions = gpu::warp_reduce(positions, gpu::plus());
    hits = gpu::warp_reduce(hits, gpu::plus());
    if (threadIdx.x != 0)
        return;
    numbers->loss_sum = loss;
    numbers->positions = positions;
    numbers->hits = hits;
    numbers->finite = isfinite(loss) ? 1 : 0;
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
