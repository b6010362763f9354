// tokens.cu - what is done with ids of characters: gathering batches, looking up rows, summing rows.
#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/reduce.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int WIDE = 64; // of a block that sums rows

template <class ID>
__global__ void __launch_bounds__(THREADS, 1)
    gather(uint16_t *x, uint16_t *y, const ID *ids, const int64_t *starts, int32_t T, int32_t B)
{
    const int64_t n = static_cast<int64_t>(T) * B, step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step) {
        const ID *from = ids + starts[i % B] + i / B;
        x[i] = from[0];
        y[i] = from[1];
    }
}

cudaError_t crnn_launch_gather(uint16_t *x, uint16_t *y, const void *ids, int32_t width, const int64_t *starts,
                               int32_t T, int32_t B, cudaStream_t stream)
{
    const unsigned blocks = gpu_blocks(static_cast<int64_t>(T) * B, THREADS);
    if (width == 1)
        return LAUNCH(gather<uint8_t>, blocks, THREADS, 0, stream, x, y, static_cast<const uint8_t *>(ids), starts, T,
                      B);
    return LAUNCH(gather<uint16_t>, blocks, THREADS, 0, stream, x, y, static_cast<const uint16_t *>(ids), starts, T, B);
}

__global__ void __launch_bounds__(THREADS, 1)
    embed(float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t E)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n * E; i += step)
        y[i] = table[static_cast<int64_t>(tokens[i / E]) * E + i % E];
}

cudaError_t crnn_launch_embed(float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t E,
                              cudaStream_t stream)
{
    return LAUNCH(embed, gpu_blocks(n * E, THREADS), THREADS, 0, stream, y, tokens, table, n, E);
}

// Positions of character v among the tokens, in order, from order[starts[v]] on. A block has one character, each warp a stretch of tokens.
__global__ void __launch_bounds__(THREADS, 1)
    list_by_token(int32_t *starts /* [V+1] */, int32_t *order /* [n] */, const uint16_t *tokens, int32_t n)
{
    SHARED(int, scratch, [WARPS]);
    SHARED(int, found, [WARPS]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, v = blockIdx.x;
    const int stretch = ((n + WARPS - 1) / WARPS + 31) / 32 * 32, from = warp * stretch, to = min(n, from + stretch);
    int below = 0, mine = 0;
    for (int i = from + lane; i < to; i += 32) {
        below += tokens[i] < v;
        mine += tokens[i] == v;
    }
    mine = gpu::warp_reduce(mine, gpu::plus());
    if (lane == 0)
        found[warp] = mine;
    below = gpu::block_reduce<THREADS>(below, scratch, gpu::plus()); // has barriers behind what was found
    int at = below;
    for (int w = 0; w < warp; w++)
        at += found[w];
    for (int base = from; base < to; base += 32) {
        const bool here = base + lane < to && tokens[base + lane] == v;
        const unsigned votes = __ballot_sync(0xffffffffu, here);
        if (here)
            order[at + __popc(votes & ((1u << lane) - 1u))] = base + lane;
        at += __popc(votes);
    }
    if (threadIdx.x == THREADS - 1) { // of the last warp
        starts[v] = below;
        if (v + 1 == static_cast<int>(gridDim.x))
            starts[v + 1] = n;
    }
}

// A block has one character and WIDE columns, each of its warps every WARPS'th of the rows, and the warps' sums are added in order: what a
// character as frequent as the space has to wait for is its loads, of which many are on their way at a time.
template <class F>
__global__ void __launch_bounds__(THREADS, 1)
    sum_by_token(float *dtable, bool add, const __grid_constant__ crnn_matrix dy, const int32_t *starts,
                 const int32_t *order, int32_t E, float unit)
{
    constexpr int AHEAD = 8;
    SHARED(float, part, [WARPS][WIDE]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = blockIdx.y * WIDE + lane;
    const auto *from = static_cast<const typename F::Item *>(dy.at) + column;
    const bool first = column < E, second = column + 32 < E;
    float sum[2] = {0.0f, 0.0f};
    const int end = starts[blockIdx.x + 1];
    for (int base = starts[blockIdx.x] + warp; base < end; base += 32 * WARPS) {
        const int row = base + lane * WARPS < end ? order[base + lane * WARPS] : -1;
        for (int i = 0; i < 32 && base + i * WARPS < end; i += AHEAD) {
            float x[AHEAD][2];
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                const int64_t at = __shfl_sync(0xffffffffu, row, i + j) * dy.ld;
                x[j][0] = at >= 0 && first ? F::read(from + at, dy.low) : 0.0f;
                x[j][1] = at >= 0 && second ? F::read(from + at + 32, dy.low) : 0.0f;
            }
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                sum[0] += x[j][0];
                sum[1] += x[j][1];
            }
        }
    }
    part[warp][lane] = sum[0];
    part[warp][lane + 32] = sum[1];
    __syncthreads();
    const int own = threadIdx.x, mine = blockIdx.y * WIDE + own;
    if (own >= WIDE || mine >= E)
        return;
    float all = 0.0f;
    for (int w = 0; w < WARPS; w++)
        all += part[w][own];
    float *to = dtable + static_cast<int64_t>(blockIdx.x) * E + mine;
    *to = (add ? *to : 0.0f) + all * unit;
}

size_t crnn_sum_by_token_scratch(int64_t n, int32_t V)
{
    return (static_cast<size_t>(n) + static_cast<size_t>(V) + 1) * sizeof(int32_t);
}

cudaError_t crnn_launch_sum_by_token(float *dtable, bool add, crnn_matrix dy, const uint16_t *tokens, int64_t n,
                                     int32_t V, int32_t E, void *scratch, cudaStream_t stream)
{
    if (n > INT32_MAX)
        return cudaErrorInvalidValue;
    auto *starts = static_cast<int32_t *>(scratch), *order = starts + V + 1;
    const dim3 grid(static_cast<unsigned>(V), static_cast<unsigned>((E + WIDE - 1) / WIDE));
    const float unit = ldexpf(1.0f, -dy.doublings);
    const cudaError_t e =
        LAUNCH(list_by_token, grid.x, THREADS, 0, stream, starts, order, tokens, static_cast<int32_t>(n));
    if (e != cudaSuccess)
        return e;
    return format::with(dy.format, [&](auto f) {
        using F = decltype(f);
        return LAUNCH(sum_by_token<F>, grid, THREADS, 0, stream, dtable, add, dy, starts, order, E, unit);
    });
}
