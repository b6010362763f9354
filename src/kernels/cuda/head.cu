// head.cu - logits, loss and the gradients of the dense layer; head.h says what, head.cuh has the product.
#include "kernels/cuda/head.cuh"
#include "kernels/cuda/head.h"
#include "kernels/cuda/loss.cuh"

using namespace head;

namespace
{
// What is multiplied is x * 2^STATES; each column of W and each row of dlogits times the power of two by which its largest number is near
// 2^15; and, for dW, dlogits * 2^gradients, of which the largest possible one becomes 2^15.
constexpr int STATES = 8, LARGEST = 15;
constexpr int MOST_SHARES = 128; // blocks that add up dW at a time: about as many as a large GPU has multiprocessors
constexpr int GROUP = 32;        // columns of dx that a warp makes at a time

// Sizes, and places in the scratch.
struct Plan {
    int64_t n;
    int H, V;
    int tiles, steps;       // of V: tiles of 8 columns, steps of 16 of K
    int state_steps;        // steps of H, in whole pieces
    int groups;             // of GROUP columns of H that each column warp has
    int64_t blocks;         // of 64 rows
    int row_blocks, shares; // of dW: blocks of 64 units; shares of the rows
    int gradients;
    size_t doublings, w, wt, d, losses, db, dW, bytes;
};

int64_t up_to(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

Plan plan_for(int64_t n, int32_t H, int32_t V, bool split, float scale)
{
    const size_t parts = split ? 2 : 1;
    Plan p = {};
    p.n = n;
    p.H = H;
    p.V = V;
    p.tiles = (V + 7) / 8;
    p.steps = (V + 15) / 16;
    p.state_steps = static_cast<int>(up_to(H, 64) / 16);
    p.groups = static_cast<int>(up_to(H, COLUMN_WARPS * GROUP) / (COLUMN_WARPS * GROUP));
    p.blocks = up_to(n, ROWS) / ROWS;
    p.row_blocks = static_cast<int>(up_to(H, ROWS) / ROWS);
    const int64_t wanted = MOST_SHARES / p.row_blocks > 1 ? MOST_SHARES / p.row_blocks : 1;
    p.shares = static_cast<int>(wanted < p.blocks ? wanted : p.blocks);
    int exponent = 0;
    frexpf(scale, &exponent); // scale <= 2^exponent
    p.gradients = LARGEST - exponent < 100 ? LARGEST - exponent : 100;
    size_t end = 0;
    const auto place = [&end](size_t &at, size_t bytes) {
        at = end;
        end += (bytes + 255) / 256 * 256;
    };
    const size_t tiles = static_cast<size_t>(p.tiles), row_blocks = static_cast<size_t>(p.row_blocks);
    place(p.doublings, static_cast<size_t>(V) * sizeof(int));
    place(p.w, static_cast<size_t>(p.state_steps) * tiles * parts * 32 * sizeof(uint2));
    place(p.wt,
          static_cast<size_t>(COLUMN_WARPS * p.groups) * static_cast<size_t>(p.steps) * parts * 64 * sizeof(uint4));
    place(p.d, static_cast<size_t>(p.blocks) * STEPS_OF_ROWS * tiles * parts * 32 * sizeof(uint2));
    place(p.losses, static_cast<size_t>(p.blocks) * sizeof(crnn_gpu_partial));
    place(p.db, static_cast<size_t>(p.blocks) * static_cast<size_t>(V) * sizeof(float));
    place(p.dW, static_cast<size_t>(p.shares) * row_blocks * ROWS * tiles * 8 * sizeof(float));
    p.bytes = end;
    return p;
}

struct Pass {
    crnn_head a;
    Plan p;
    bool wide; // 8-byte accesses to rows of H floats are allowed
    template <class T> __device__ __forceinline__ T *at(size_t place) const
    {
        return reinterpret_cast<T *>(static_cast<unsigned char *>(a.scratch) + place);
    }
};

__device__ __forceinline__ float power_of_two(int exponent)
{
    return __uint_as_float(static_cast<unsigned>(min(max(exponent, -126), 127) + 127) << 23);
}
// By how much numbers up to `largest` are doubled; a power of two itself remains a normal number, undone too.
__device__ __forceinline__ int doublings_for(float largest)
{
    int exponent = 0;
    if (isfinite(largest))
        frexpf(largest, &exponent); // 0 of 0
    return min(max(LARGEST - exponent, -112), 112);
}

// ---- W as the factor B of x W, [state_steps][tiles][PARTS][lane] of 8 bytes, and as that of dlogits W',
// [column warp][groups][steps][PARTS][2][lane] of 16 bytes, which are two tiles of 8 columns. A block packs 16 characters of 128 units,
// after it has looked at all units' numbers for these characters.
constexpr int PACKERS = 1024;
template <class F> __global__ void __launch_bounds__(PACKERS, 1) pack_head(const __grid_constant__ Pass pass)
{
    SHARED(float, largest, [PACKERS / 32][16]);
    SHARED(int, doublings, [16]);
    const Plan &p = pass.p;
    const int thread = threadIdx.x, lane = thread % 32, pair = lane % 4 * 2, step = blockIdx.x, group = blockIdx.y;
    const int V = p.V, mine = step * 16 + thread % 16;
    float most = 0;
    for (int unit = thread / 16; unit < p.H && mine < V; unit += PACKERS / 16)
        most = fmaxf(most, fabsf(pass.a.W[static_cast<int64_t>(unit) * V + mine]));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 16));
    if (lane < 16)
        largest[thread / 32][lane] = most;
    __syncthreads();
    if (thread < 16) {
        for (int warp = 1; warp < PACKERS / 32; warp++)
            most = fmaxf(most, largest[warp][thread]);
        doublings[thread] = doublings_for(most);
        if (group == 0 && mine < V)
            pass.at<int>(p.doublings)[mine] = doublings[thread];
    }
    __syncthreads();
    const auto weight = [&](int unit, int v) {
        return unit < p.H && v < V ? pass.a.W[static_cast<int64_t>(unit) * V + v] * power_of_two(doublings[v % 16])
                                   : 0.0f;
    };
    uint32_t w[4][F::PARTS];
    if (thread < 512) {
        const int k = group * COLUMN_WARPS * GROUP / 16 + thread / 64, tile = step * 2 + thread / 32 % 2;
        if (k >= p.state_steps || tile >= p.tiles)
            return;
        for (int i = 0; i < 2; i++) {
            const int unit = k * 16 + i * 8 + pair, v = tile * 8 + lane / 4;
            F::words(w[i], weight(unit, v), weight(unit + 1, v));
        }
        for (int part = 0; part < F::PARTS; part++)
            pass.at<uint2>(p.w)[((static_cast<int64_t>(k) * p.tiles + tile) * F::PARTS + part) * 32 + lane] =
                uint2{w[0][part], w[1][part]};
    } else if (thread < 768) {
        const int half = thread / 32 % 2, warp = thread / 64 % COLUMN_WARPS;
        for (int i = 0; i < 4; i++) {
            const int unit = (group * COLUMN_WARPS + warp) * GROUP + half * 16 + i / 2 * 8 + lane / 4;
            const int v = step * 16 + i % 2 * 8 + pair;
            F::words(w[i], weight(unit, v), weight(unit, v + 1));
        }
        const int64_t to = (static_cast<int64_t>(warp) * p.groups + group) * p.steps + step;
        for (int part = 0; part < F::PARTS; part++)
            pass.at<uint4>(p.wt)[((to * F::PARTS + part) * 2 + half) * 32 + lane] =
                uint4{w[0][part], w[1][part], w[2][part], w[3][part]};
    }
}

// ---- 64 rows: logits, loss, dlogits, dx
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
__device__ __forceinline__ void put_logits(Rows<S> &rows, const float (&sum)[2][S::TILES][4], const Pass &pass)
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
template <class S> __device__ __forceinline__ void differentiate(Rows<S> &rows, const Pass &pass, int64_t first)
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
template <class S> __device__ __forceinline__ void leave_sums(const Rows<S> &rows, const Pass &pass)
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
template <class S> __device__ __forceinline__ void leave_gradient(const Rows<S> &rows, const Pass &pass, float scale)
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
template <class S> __device__ __forceinline__ void to_fragments(Rows<S> &rows, int steps)
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
__device__ __forceinline__ void put_dx(const float (&sum)[PARTS][2][4][4], const Pass &pass, int64_t first, int column,
                                       const int *doublings)
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
template <class S> __device__ __forceinline__ void multiply_back(const Rows<S> &shared, const Pass &pass, int64_t first)
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

// ---- dW = x' dlogits: 64 units, all characters, a share of the rows
// A = x', K the rows.
struct Units {
    static constexpr float SCALE = 1 << STATES;
    const float *x; // the share's first row, the block's first unit
    int64_t rows;   // that are there, from the share's first on
    int H, units;
    template <class S> static __device__ __forceinline__ int row_of(int)
    {
        return static_cast<int>(threadIdx.x) % ROWS;
    }
    template <class S> static __device__ __forceinline__ int pair_of(int item)
    {
        return (item * THREADS + static_cast<int>(threadIdx.x)) / ROWS;
    }
    template <class S> __device__ __forceinline__ float2 fetch(int piece, int item) const
    {
        const int unit = row_of<S>(item);
        const int64_t row = 2 * (static_cast<int64_t>(piece) * S::PAIRS + pair_of<S>(item));
        const float *from = x + row * H + unit;
        return {unit < units && row < rows ? from[0] : 0.0f, unit < units && row + 1 < rows ? from[H] : 0.0f};
    }
};

template <class F, int TILES>
__global__ void __launch_bounds__(THREADS, 1) head_weights(const __grid_constant__ Pass pass)
{
    using S = Shape<F, TILES>;
    DYN_SHARED(typename S::Stages, stages);
    const Plan &p = pass.p;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * ROWS, share = blockIdx.y;
    const int64_t from = p.blocks * share / p.shares, to = p.blocks * (share + 1) / p.shares;
    const Units units = {pass.a.x + from * ROWS * p.H + first, p.n - from * ROWS, p.H, p.H - first};
    const uint4 *d = pass.at<const uint4>(p.d) + from * (STEPS_OF_ROWS * p.tiles * S::PARTS * 16);
    const int pieces = static_cast<int>((to - from) * STEPS_OF_ROWS / S::STEPS);
    float sum[2][TILES][4] = {};
    Product<S, Units>{*stages, units, d, p.tiles, pieces}.run(sum);
    const int ld = p.tiles * 8;
    float *out = pass.at<float>(p.dW) + (static_cast<int64_t>(share) * p.row_blocks * ROWS + first) * ld;
#pragma unroll
    for (int j = 0; j < TILES; j++) {
        const int tile = j * COLUMN_WARPS + warp % COLUMN_WARPS;
        if (tile >= p.tiles)
            break;
#pragma unroll
        for (int half = 0; half < 4; half++) {
            const int unit = (warp / COLUMN_WARPS * 2 + half / 2) * 16 + half % 2 * 8 + lane / 4;
            const float *s = sum[half / 2][j] + half % 2 * 2;
            *reinterpret_cast<float2 *>(out + static_cast<int64_t>(unit) * ld + tile * 8 + lane % 4 * 2) = {s[0], s[1]};
        }
    }
}

// ---- shares and blocks added up in order: dW by the first blocks, then a warp for each number of db, then one for those of the step
__global__ void __launch_bounds__(THREADS, 1) add_head(const __grid_constant__ Pass pass, int weight_blocks)
{
    const Plan &p = pass.p;
    const int lane = threadIdx.x % 32, block = blockIdx.x, v = (block - weight_blocks) * WARPS + threadIdx.x / 32;
    if (block < weight_blocks) {
        const int64_t n = static_cast<int64_t>(p.H) * p.V, ld = p.tiles * 8, share = p.row_blocks * ROWS * ld;
        const float unit = power_of_two(-p.gradients - STATES);
        const float *from = pass.at<float>(p.dW);
        for (int64_t i = static_cast<int64_t>(block) * THREADS + threadIdx.x; i < n;
             i += static_cast<int64_t>(weight_blocks) * THREADS) {
            float sum = 0;
            for (int s = 0; s < p.shares; s++)
                sum += from[s * share + i / p.V * ld + i % p.V];
            pass.a.dW[i] = sum * unit;
        }
    } else if (v < p.V) {
        double sum = 0;
        for (int64_t i = lane; i < p.blocks; i += 32)
            sum += static_cast<double>(pass.at<float>(p.db)[i * p.V + v]);
        sum = gpu::warp_reduce(sum, gpu::plus());
        if (lane == 0)
            pass.a.db[v] = static_cast<float>(sum);
    } else if (v == p.V) {
        loss::add_up(pass.a.numbers, pass.at<crnn_gpu_partial>(p.losses), p.blocks, lane);
    }
}

// ---- launches
template <class F, int TILES> cudaError_t launch(const Pass &pass, cudaStream_t stream)
{
    using S = Shape<F, TILES>;
    const Plan &p = pass.p;
    const dim3 packs(static_cast<unsigned>(p.steps), static_cast<unsigned>(p.groups));
    const unsigned weight_blocks = gpu_blocks(static_cast<int64_t>(p.H) * p.V, THREADS);
    const dim3 shares(static_cast<unsigned>(p.row_blocks), static_cast<unsigned>(p.shares));
    cudaError_t e = cudaFuncSetAttribute(head_rows<F, TILES>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(sizeof(Shared<S>)));
    if (e == cudaSuccess)
        e = cudaFuncSetAttribute(head_weights<F, TILES>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(sizeof(typename S::Stages)));
    if (e == cudaSuccess)
        e = LAUNCH(pack_head<F>, packs, PACKERS, 0, stream, pass);
    if (e == cudaSuccess)
        e = LAUNCH((head_rows<F, TILES>), static_cast<unsigned>(p.blocks), THREADS, sizeof(Shared<S>), stream, pass);
    if (e == cudaSuccess)
        e = LAUNCH((head_weights<F, TILES>), shares, THREADS, sizeof(typename S::Stages), stream, pass);
    if (e == cudaSuccess)
        e = LAUNCH(add_head, weight_blocks + static_cast<unsigned>(p.V) / WARPS + 1, THREADS, 0, stream, pass,
                   weight_blocks);
    return e;
}
template <class F> cudaError_t launch(const Pass &pass, cudaStream_t stream)
{
    constexpr int FEW = 3, MANY = CRNN_HEAD_MOST_V / (COLUMN_WARPS * 8);
    return pass.p.tiles <= COLUMN_WARPS * FEW ? launch<F, FEW>(pass, stream) : launch<F, MANY>(pass, stream);
}
} // namespace

size_t crnn_head_bytes(int64_t n, int32_t H, int32_t V, bool split)
{
    return plan_for(n, H, V, split, 1.0f).bytes;
}

cudaError_t crnn_launch_head(const crnn_head *head, bool split, cudaStream_t stream)
{
    if (head->V > CRNN_HEAD_MOST_V || !(head->scale > 0))
        return cudaErrorInvalidValue;
    const uintptr_t rows = reinterpret_cast<uintptr_t>(head->x) | reinterpret_cast<uintptr_t>(head->dx);
    const Pass pass = {*head, plan_for(head->n, head->H, head->V, split, head->scale),
                       head->H % 2 == 0 && rows % 8 == 0};
    return split ? launch<format::Split>(pass, stream) : launch<format::Fp16>(pass, stream);
}
