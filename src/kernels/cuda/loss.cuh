// loss.cuh - softmax with cross-entropy of one row, and the sum over all of them: the same rules wherever logits come from.
#ifndef CRNN_KERNELS_CUDA_LOSS_CUH
#define CRNN_KERNELS_CUDA_LOSS_CUH

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/reduce.h"
#include <crnn/text.h>

namespace loss
{
// The first of equals, as in the sum over ids everywhere.
template <int LANES> static __device__ __forceinline__ int argmax(const float *z, int V, float max, int lane)
{
    int best = V - 1;
    for (int v = lane; v < V; v += LANES)
        if (z[v] == max) {
            best = v;
            break;
        }
    return -gpu::lanes_reduce<LANES>(-best, gpu::larger());
}

// One row by LANES neighbouring lanes, of which this one has number `lane`; the others of the warp work on other rows. The partial is
// summed by lane 0 alone.
template <int LANES>
static __device__ __forceinline__ void one_row(crnn_gpu_partial &sum, float *z, uint16_t y, int V, float scale,
                                               int lane)
{
    const bool counts = y != CRNN_NO_ID;
    float max = -INFINITY;
    for (int v = lane; v < V; v += LANES)
        max = fmaxf(max, z[v]);
    max = gpu::lanes_reduce<LANES>(max, gpu::larger());
    double total = 0;
    for (int v = lane; v < V; v += LANES)
        total += static_cast<double>(expf(z[v] - max)); // a NaN among the logits comes out here
    total = gpu::lanes_reduce<LANES>(total, gpu::plus());
    const int best = argmax<LANES>(z, V, max, lane);
    const double target = counts ? static_cast<double>(z[y]) : 0;
    __syncwarp(); // every lane has read z before it is overwritten
    if (lane == 0 && counts) {
        sum.sum += log(total) + (static_cast<double>(max) - target);
        sum.positions++;
        sum.hits += best == y;
    }
    if (scale == 0)
        return;
    const float factor = static_cast<float>(static_cast<double>(scale) / total);
    for (int v = lane; v < V; v += LANES)
        if (v == y) { // p - 1 would cancel for p near 1
            const double e = static_cast<double>(expf(z[v] - max));
            z[v] = static_cast<float>((e - total) / total * static_cast<double>(scale));
        } else {
            z[v] = counts ? expf(z[v] - max) * factor : 0.0f;
        }
}

// One warp adds up what the blocks left.
static __device__ __forceinline__ void add_up(crnn_step_numbers *numbers, const crnn_gpu_partial *partials,
                                              int64_t blocks, int lane)
{
    double loss = 0;
    long long positions = 0, hits = 0;
    for (int64_t i = lane; i < blocks; i += 32) {
        loss += partials[i].sum;
        positions += partials[i].positions;
        hits += partials[i].hits;
    }
    loss = gpu::warp_reduce(loss, gpu::plus());
    positions = gpu::warp_reduce(positions, gpu::plus());
    hits = gpu::warp_reduce(hits, gpu::plus());
    if (lane != 0)
        return;
    numbers->loss_sum = loss;
    numbers->positions = positions;
    numbers->hits = hits;
    numbers->finite = isfinite(loss) ? 1 : 0;
}
} // namespace loss
#endif
