// sample.cu - from logits to characters, row by row; draw.cuh has the maths.
#include "kernels/cuda/draw.cuh"
#include "kernels/cuda/kernels.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;

// One block, one row.
__global__ void __launch_bounds__(THREADS, 1)
    probabilities(float *p, const float *z, int V, const __grid_constant__ crnn_sample_options options)
{
    SHARED(draw::BlockScratch<THREADS>, scratch, [1]);
    const int64_t row = static_cast<int64_t>(blockIdx.x) * V;
    draw::probabilities(draw::BlockTeam<THREADS>{scratch[0]}, p + row, z + row, V, options);
}

cudaError_t crnn_launch_probabilities(float *p, const float *z, int64_t n, int32_t V,
                                      const crnn_sample_options *options, cudaStream_t stream)
{
    return LAUNCH(probabilities, static_cast<unsigned>(n), THREADS, 0, stream, p, z, V, *options);
}

__global__ void __launch_bounds__(THREADS, 1) pick(uint16_t *ids, uint16_t *written, const uint64_t *drawn,
                                                   const float *p, int64_t n, int V, int ring, uint64_t seed)
{
    const int lane = threadIdx.x % 32;
    const int64_t k = static_cast<int64_t>(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (k >= n)
        return; // a whole warp
    const int id = draw::pick(draw::LaneTeam<32>{}, p + k * V, V, draw::uniform(seed, k, *drawn));
    if (lane == 0) {
        ids[k] = static_cast<uint16_t>(id);
        written[static_cast<int64_t>(*drawn % static_cast<uint64_t>(ring)) * n + k] = static_cast<uint16_t>(id);
    }
}

// By itself, as every block that draws reads it.
__global__ void __launch_bounds__(32, 1) count_draws(uint64_t *drawn, uint64_t n)
{
    if (threadIdx.x == 0)
        *drawn += n;
}

cudaError_t crnn_launch_count_draws(uint64_t *drawn, int64_t n, cudaStream_t stream)
{
    return LAUNCH(count_draws, 1, 32, 0, stream, drawn, n);
}

cudaError_t crnn_launch_pick(uint16_t *ids, uint16_t *written, uint64_t *drawn, const float *p, int64_t n, int32_t V,
                             int32_t ring, uint64_t seed, cudaStream_t stream)
{
    const unsigned blocks = static_cast<unsigned>((n + WARPS - 1) / WARPS);
    const cudaError_t error = LAUNCH(pick, blocks, THREADS, 0, stream, ids, written, drawn, p, n, V, ring, seed);
    if (error != cudaSuccess)
        return error;
    return crnn_launch_count_draws(drawn, 1, stream);
}
