// head_rows.cuh - 64 rows of the dense layer by one block: logits, loss, dlogits and the gradient of its input.
#ifndef CRNN_KERNELS_CUDA_HEAD_ROWS_CUH
#define CRNN_KERNELS_CUDA_HEAD_ROWS_CUH

#include "kernels/cuda/head.cuh"
#include "kernels/cuda/loss.cuh"

namespace head
{
// A = x of these rows, K its columns.
struct States {
    static constexpr float SCALE = 1 << STATES;
    const float *x; // the first row
    int64_t rows;   // that are there, from the first on
    int H;
    bool wide;
    template <class S> static __device__ __forceinline__ int row_of(int item)
    {
        return (item * THREADS + static_cast<int>(threadIdx.x)) / S::ACROSS % ROWS;
    }
    template <class S> static __device__ __forceinline__ int pair_of(int item)
    {
        const int i = item * THREADS + static_cast<int>(threadIdx.x);
        return i % S::ACROSS + i / (S::ACROSS * ROWS) * S::ACROSS;
    }
    template <class S> __device__ __forceinline__ float2 fetch(int piece, int item) const
    {
        const int row = row_of<S>(item), k = 2 * (piece * S::PAIRS + pair_of<S>(item));
        const float *from = x + static_cast<int64_t>(row) * H + k;
        if (row >= rows || k >= H)
            return {0.0f, 0.0f};
        if (wide)
            return *reinterpret_cast<const float2 *>(from);
        return {from[0], k + 1 < H ? from[1] : 0.0f};
    }
};

// What a block's shared memory holds when its logits are there.
template <class S> struct Rows {
    static constexpr int LD = S::COLUMNS + 8;
    float
        z[ROWS * LD]; // logits, then dlogits, then these as fragments of A: [steps][ROW_TILES][PARTS][lane] of 16 bytes
    float db[WARPS][S::COLUMNS];
    int column[S::COLUMNS], row[ROWS]; // doublings: of W; of dlogits on their way back through it
    crnn_gpu_partial loss[WARPS];
};
template <class S> union Shared {
    typename S::Stages stages;
    Rows<S> rows;
};

// Logits from sums.
template <class S>
static __device__ __forceinline__ void put_logits(Rows<S> &rows, const float (&sum)[2][S::TILES][4], const Pass &pass)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, V = pass.p.V;
    for (int v = threadIdx.x; v < S::COLUMNS; v += THREADS)
        rows.column[v] = v < V ? pass.at<int>(pass.p.doublings)[v] : 0;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < S::TILES; j++) {
        const int tile = j * COLUMN_WARPS + warp % COLUMN_WARPS, v = tile * 8 + lane % 4 * 2;
        if (tile >= 2 * pass.p.steps)
            break;
        const float2 b = {v < V ? pass.a.b[v] : 0.0f, v + 1 < V ? pass.a.b[v + 1] : 0.0f};
        const float2 unit = {power_of_two(-rows.column[v] - STATES), power_of_two(-rows.column[v + 1] - STATES)};
#pragma unroll
        for (int half = 0; half < 4; half++) {
            const float *s = sum[half / 2][j] + half % 2 * 2;
            const int row = (warp / COLUMN_WARPS * 2 + half / 2) * 16 + half % 2 * 8 + lane / 4;
            *reinterpret_cast<float2 *>(rows.z + row * Rows<S>::LD + v) = {v < V ? s[0] * unit.x + b.x : 0.0f,
                                                                           v + 1 < V ? s[1] * unit.y + b.y : 0.0f};
        }
    }
}

// Each warp: the loss and the gradient of its 8 rows, four lanes to a row, and the sums of their columns. What goes back through W is divided
// by the powers of two of its columns, so a row's largest number there says how it is multiplied.
template <class S> static __device__ __forceinline__ void differentiate(Rows<S> &rows, const Pass &pass, int64_t first)
{
    constexpr int LANES = 32 * WARPS / ROWS, LD = Rows<S>::LD;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, V = pass.p.V, row = warp * 8 + lane / LANES;
    const uint16_t y = first + row < pass.p.n ? pass.a.y[first + row] : static_cast<uint16_t>(CRNN_NO_ID);
    crnn_gpu_partial sum = {0, 0, 0};
    loss::one_row<LANES>(sum, rows.z + row * LD, y, V, pass.a.scale, lane % LANES);
    float most = 0;
    for (int v = lane % LANES; v < V; v += LANES)
        most = fmaxf(most, fabsf(rows.z[row * LD + v]) * power_of_two(-rows.column[v]));
    most = gpu::lanes_reduce<LANES>(most, gpu::larger());
    if (lane % LANES == 0)
        rows.row[row] = doublings_for(most);
    __syncwarp();
    for (int v = lane; v < V; v += 32) {
        float column = 0;
        for (int i = 0; i < 8; i++)
            column += rows.z[(warp * 8 + i) * LD + v];
        rows.db[warp][v] = column;
    }
    sum.sum = gpu::warp_reduce(sum.sum, gpu::plus());
    sum.positions = gpu::warp_reduce(static_cast<long long>(sum.positions), gpu::plus());
    sum.hits = gpu::warp_reduce(static_cast<long long>(sum.hits), gpu::plus());
    if (lane == 0)
        rows.loss[warp] = sum;
}

// The sums over the block's rows.
template <class S> static __device__ __forceinline__ void leave_sums(const Rows<S> &rows, const Pass &pass)
{
    const int v = threadIdx.x;
    if (v < pass.p.V) {
        float sum = 0;
        for (int warp = 0; warp < WARPS; warp++)
            sum += rows.db[warp][v];
        pass.at<float>(pass.p.db)[static_cast<int64_t>(blockIdx.x) * pass.p.V + v] = sum;
    }
    if (threadIdx.x != THREADS - 1)
        return;
    crnn_gpu_partial all = {0, 0, 0};
    for (int warp = 0; warp < WARPS; warp++) {
        all.sum += rows.loss[warp].sum;
        all.positions += rows.loss[warp].positions;
        all.hits += rows.loss[warp].hits;
    }
    pass.at<crnn_gpu_partial>(pass.p.losses)[blockIdx.x] = all;
}

// dlogits as the factor B of x' dlogits: [16 rows][tiles][PARTS][lane] of 8 bytes.
template <class S>
static __device__ __forceinline__ void leave_gradient(const Rows<S> &rows, const Pass &pass, float scale)
{
    constexpr int LD = Rows<S>::LD;
    const int tiles = pass.p.tiles;
    uint2 *to = pass.at<uint2>(pass.p.d) + static_cast<int64_t>(blockIdx.x) * (STEPS_OF_ROWS * tiles * S::PARTS * 32);
    for (int i = threadIdx.x; i < STEPS_OF_ROWS * tiles * 32; i += THREADS) {
        const int lane = i % 32, tile = i / 32 % tiles, step = i / 32 / tiles;
        const float *z = rows.z + (step * 16 + lane % 4 * 2) * LD + tile * 8 + lane / 4;
        uint32_t w[2][S::PARTS];
        S::Format::words(w[0], z[0] * scale, z[LD] * scale);
        S::Format::words(w[1], z[8 * LD] * scale, z[9 * LD] * scale);
#pragma unroll
        for (int part = 0; part < S::PARTS; part++)
            to[(i / 32 * S::PARTS + part) * 32 + lane] = uint2{w[0][part], w[1][part]};
    }
}

// dlogits become fragments of A where they are.
template <class S> static __device__ __forceinline__ void to_fragments(Rows<S> &rows, int steps)
{
    constexpr int LD = Rows<S>::LD, MOST = S::COLUMNS / 16 * ROW_TILES * 32 / THREADS;
    uint32_t w[MOST][4][S::PARTS];
    const int n = steps * ROW_TILES * 32, thread = threadIdx.x, lane = thread % 32;
#pragma unroll
    for (int item = 0; item < MOST; item++) {
        const int i = item * THREADS + thread, tile = i / 32 % ROW_TILES, step = i / 32 / ROW_TILES;
        if (i >= n)
            break;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int row = tile * 16 + k % 2 * 8 + lane / 4, v = step * 16 + k / 2 * 8 + lane % 4 * 2;
            const float2 z = *reinterpret_cast<const float2 *>(rows.z + row * LD + v);
            S::Format::words(w[item][k], z.x * power_of_two(rows.row[row] - rows.column[v]),
                             z.y * power_of_two(rows.row[row] - rows.column[v + 1]));
        }
    }
    __syncthreads(); // all are read
    uint4 *to = reinterpret_cast<uint4 *>(rows.z);
#pragma unroll
    for (int item = 0; item < MOST; item++) {
        const int i = item * THREADS + thread;
        if (i >= n)
            break;
#pragma unroll
        for (int part = 0; part < S::PARTS; part++)
            to[(i / 32 * S::PARTS + part) * 32 + lane] =
                uint4{w[item][0][part], w[item][1][part], w[item][2][part], w[item][3][part]};
    }
}

// dx of 32 rows and GROUP columns of H.
template <int PARTS>
static __device__ __forceinline__ void put_dx(const float (&sum)[PARTS][2][4][4], const Pass &pass, int64_t first,
                                              int column, const int *doublings)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 4; half++) {
        const int64_t row = first + half / 2 * 16 + half % 2 * 8 + lane / 4;
        if (row >= pass.p.n)
            break;
        float *dx = pass.a.dx + row * pass.p.H;
        const float unit = power_of_two(-doublings[half / 2 * 16 + half % 2 * 8 + lane / 4]);
#pragma unroll
        for (int tile = 0; tile < 4; tile++) {
            const int j = column + tile * 8 + lane % 4 * 2;
            float v[2];
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const int at = half % 2 * 2 + k;
                v[k] = sum[0][half / 2][tile][at] * unit;
                if (PARTS == 2)
                    v[k] += sum[PARTS - 1][half / 2][tile][at] * unit;
            }
            if (pass.wide && j < pass.p.H)
                *reinterpret_cast<float2 *>(dx + j) = {v[0], v[1]};
            else if (j < pass.p.H)
                dx[j] = v[0];
            if (!pass.wide && j + 1 < pass.p.H)
                dx[j + 1] = v[1];
        }
    }
}

// dx = dlogits W'. Each warp of 32 rows reads W' by itself, AHEAD steps before it multiplies. High times high is summed apart from what is
// small beside it.
template <class S>
static __device__ __forceinline__ void multiply_back(const Rows<S> &shared, const Pass &pass, int64_t first)
{
    constexpr int PARTS = S::PARTS, AHEAD = 4 / PARTS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, steps = pass.p.steps;
    const uint4 *fragments = reinterpret_cast<const uint4 *>(shared.z);
    const int all = pass.p.groups * steps, rows = warp / COLUMN_WARPS * 2;
    const uint4 *from =
        pass.at<const uint4>(pass.p.wt) + static_cast<int64_t>(warp % COLUMN_WARPS) * all * PARTS * 64 + lane;
    int column = warp % COLUMN_WARPS * GROUP, step = 0;
    float sum[PARTS][2][4][4] = {};
    uint4 b[AHEAD][PARTS][2];
    const auto load = [&](uint4(&to)[PARTS][2], int i) {
        if (i < all)
#pragma unroll
            for (int k = 0; k < 2 * PARTS; k++)
                to[k / 2][k % 2] = from[(static_cast<int64_t>(i) * PARTS * 2 + k) * 32];
    };
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        load(b[i], i);
#pragma unroll 1
    for (int i = 0; i < all; i += AHEAD)
#pragma unroll
        for (int ahead = 0; ahead < AHEAD; ahead++) {
            if (i + ahead >= all || column >= pass.p.H)
                return;
#pragma unroll
            for (int row = 0; row < 2; row++) {
                const uint4 *a = fragments + (step * ROW_TILES + rows + row) * PARTS * 32 + lane;
#pragma unroll
                for (int tile = 0; tile < 4; tile++) {
                    const auto half = [&](const uint4 &v) { return tile % 2 ? uint2{v.z, v.w} : uint2{v.x, v.y}; };
                    const uint2 high = half(b[ahead][0][tile / 2]), low = half(b[ahead][PARTS - 1][tile / 2]);
                    mma(sum[0][row][tile], a[0], high);
                    if (PARTS == 2) {
                        mma(sum[PARTS - 1][row][tile], a[0], low);
                        mma(sum[PARTS - 1][row][tile], a[(PARTS - 1) * 32], high);
                    }
                }
            }
            load(b[ahead], i + ahead + AHEAD);
            if (++step < steps)
                continue;
            put_dx<PARTS>(sum, pass, first + rows * 16, column, shared.row + rows * 16);
            step = 0;
            column += COLUMN_WARPS * GROUP;
#pragma unroll
            for (int k = 0; k < PARTS * 32; k++)
                sum[k / 32][k / 16 % 2][k / 4 % 4][k % 4] = 0;
        }
}

template <class F, int TILES> __global__ void __launch_bounds__(THREADS, 1) head_rows(const __grid_constant__ Pass pass)
{
    using S = Shape<F, TILES>;
    static_assert(sizeof(Shared<S>) <= CRNN_HEAD_MOST_SHARED, "every GPU has room for it");
    DYN_SHARED(Shared<S>, shared);
    const Plan &p = pass.p;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * ROWS;
    const States states = {pass.a.x + first * p.H, p.n - first, p.H, pass.wide};
    float sum[2][TILES][4] = {};
    Product<S, States>{shared->stages, states, pass.at<const uint4>(p.w), p.tiles, p.state_steps / S::STEPS}.run(sum);
    __syncthreads(); // the stages are read
    put_logits<S>(shared->rows, sum, pass);
    __syncthreads();
    differentiate<S>(shared->rows, pass, first);
    __syncthreads();
    leave_sums<S>(shared->rows, pass);
    leave_gradient<S>(shared->rows, pass, power_of_two(p.gradients));
    to_fragments<S>(shared->rows, p.steps);
    __syncthreads();
    multiply_back<S>(shared->rows, pass, first);
}
} // namespace head
#endif
