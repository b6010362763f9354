// tokens.cu - what is done with ids of characters: gathering batches, looking up rows, summing rows.
#include "kernels/cuda/formats.cuh"

constexpr int THREADS = 256;

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

// Adds THREADS tokens' worth of rows: list holds the positions of v among them, in order.
template <class F>
__device__ static float add_rows(float sum, const typename F::Item *dy, const crnn_matrix &m, const int *list,
                                 int count)
{
    constexpr int ahead = 8; // loads in flight: the additions are in order, the loads need not be
    int i = 0;
    for (; i + ahead <= count; i += ahead) {
        float row[ahead];
#pragma unroll
        for (int j = 0; j < ahead; j++)
            row[j] = F::read(dy + list[i + j] * m.ld, m.low);
#pragma unroll
        for (int j = 0; j < ahead; j++)
            sum += row[j];
    }
    for (; i < count; i++)
        sum += F::read(dy + list[i] * m.ld, m.low);
    return sum;
}

// A block has one character, blockIdx.x, and THREADS columns. It reads all tokens, THREADS at a time, and lists where its own stands.
template <class F>
__global__ void __launch_bounds__(THREADS, 1)
    sum_by_token(float *dtable, bool add, const __grid_constant__ crnn_matrix dy, const uint16_t *tokens, int64_t n,
                 int32_t E, float unit)
{
    constexpr int WARPS = THREADS / 32;
    SHARED(int, list, [THREADS]);
    SHARED(int, found, [WARPS]);
    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
    const int column = blockIdx.y * THREADS + tid;
    const auto *from = static_cast<const typename F::Item *>(dy.at) + column;
    float sum = 0;
    // Two barriers are enough: found is written again behind the second one, list behind the first of the next round.
    for (int64_t base = 0; base < n; base += THREADS) {
        const bool mine = base + tid < n && tokens[base + tid] == blockIdx.x;
        const unsigned votes = __ballot_sync(0xffffffffu, mine);
        if (lane == 0)
            found[warp] = __popc(votes);
        __syncthreads();
        int before = 0, count = 0;
        for (int w = 0; w < WARPS; w++) {
            before += w < warp ? found[w] : 0;
            count += found[w];
        }
        if (mine)
            list[before + __popc(votes & ((1u << lane) - 1u))] = tid;
        __syncthreads();
        if (column < E)
            sum = add_rows<F>(sum, from + base * dy.ld, dy, list, count);
    }
    if (column < E) {
        float *to = dtable + static_cast<int64_t>(blockIdx.x) * E + column;
        *to = (add ? *to : 0.0f) + sum * unit;
    }
}

cudaError_t crnn_launch_sum_by_token(float *dtable, bool add, crnn_matrix dy, const uint16_t *tokens, int64_t n,
                                     int32_t V, int32_t E, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(V), static_cast<unsigned>((E + THREADS - 1) / THREADS));
    const float unit = ldexpf(1.0f, -dy.doublings);
    return format::with(dy.format, [&](auto f) {
        using F = decltype(f);
        return LAUNCH(sum_by_token<F>, grid, THREADS, 0, stream, dtable, add, dy, tokens, n, E, unit);
    });
}
