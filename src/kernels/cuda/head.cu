// head.cu - what head.h says: the plan, W in order, dW, the sums and the launches; head_rows.cuh has the way from x to its gradient.
#include "kernels/cuda/head_rows.cuh"

using namespace head;

namespace
{
constexpr int MOST_SHARES = 128; // blocks that add up dW at a time: about as many as a large GPU has multiprocessors

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
