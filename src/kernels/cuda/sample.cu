// sample.cu - from logits to characters: temperature, the filters, one draw for each row.
//
// No sorting: what top-k and top-p keep is all above a value, and of those equal to it the ones of lowest id. That value is found by halving
// the range of its bits, 31 passes over the row, whatever V is.
#include "host/base/rng.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/philox.h"
#include "kernels/cuda/reduce.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;

struct row_scratch {
    double sums[WARPS];
    int counts[WARPS];
};

// Unnormalised likelihoods >= 0 order as their bits do.
__device__ static uint32_t bits_of(float p)
{
    return __float_as_uint(p);
}

// How many are above a value, and what they sum to.
struct above {
    int count;
    double sum;
};

__device__ static above count_above(const float *p, int V, uint32_t bits, row_scratch &s)
{
    above a = {0, 0};
    for (int v = threadIdx.x; v < V; v += THREADS)
        if (bits_of(p[v]) > bits) {
            a.count++;
            a.sum += static_cast<double>(p[v]);
        }
    a.count = gpu::block_reduce<THREADS>(a.count, s.counts, gpu::plus());
    a.sum = gpu::block_reduce<THREADS>(a.sum, s.sums, gpu::plus());
    return a;
}

// Keeps the `ties` lowest ids among those equal to the value, all above it, none below.
__device__ static void cut(float *p, int V, uint32_t bits, int ties, row_scratch &s)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int before = 0; // equals of lower id
    for (int base = 0; base < V; base += THREADS) {
        const int v = base + threadIdx.x;
        const uint32_t mine = v < V ? bits_of(p[v]) : 0;
        const bool equal = v < V && mine == bits;
        const unsigned votes = __ballot_sync(0xffffffffu, equal);
        __syncthreads(); // counts may still be read
        if (lane == 0)
            s.counts[warp] = __popc(votes);
        __syncthreads();
        int rank = before + __popc(votes & ((1u << lane) - 1u));
        for (int w = 0; w < WARPS; w++) {
            rank += w < warp ? s.counts[w] : 0;
            before += s.counts[w];
        }
        if (v < V && (mine < bits || (equal && rank >= ties)))
            p[v] = 0;
    }
    __syncthreads();
}

// The smallest bits that fewer than `enough` values, or values that sum to less than `mass`, are above.
__device__ static uint32_t find_cut(const float *p, int V, int enough, double mass, row_scratch &s)
{
    uint32_t low = 0, high = 0x3f800000u; // the likeliest is 1: nothing is above that
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const above a = count_above(p, V, middle, s);
        if (a.count < enough && a.sum < mass)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

__device__ static void keep_top_k(float *p, int V, int k, row_scratch &s)
{
    const uint32_t bits = find_cut(p, V, k, INFINITY, s);
    cut(p, V, bits, k - count_above(p, V, bits, s).count, s);
}

// The fewest that together reach top_p of what there is.
__device__ static void keep_top_p(float *p, int V, double top_p, row_scratch &s)
{
    const double mass = top_p * count_above(p, V, 0, s).sum;
    const uint32_t bits = find_cut(p, V, V + 1, mass, s);
    const double missing = mass - count_above(p, V, bits, s).sum, each = static_cast<double>(__uint_as_float(bits));
    const int ties = each > 0 ? static_cast<int>(fmin(ceil(missing / each), 65536.0)) : 0;
    cut(p, V, bits, ties < 1 ? 1 : ties, s);
}

__device__ static int block_argmax(const float *z, int V, float *part, row_scratch &s)
{
    float max = -INFINITY;
    for (int v = threadIdx.x; v < V; v += THREADS)
        max = fmaxf(max, z[v]);
    max = gpu::block_reduce<THREADS>(max, part, gpu::larger());
    int best = V - 1; // the first of equals
    for (int v = threadIdx.x; v < V; v += THREADS)
        if (z[v] == max) {
            best = v;
            break;
        }
    return -gpu::block_reduce<THREADS>(-best, s.counts, gpu::larger());
}

__device__ static void normalise(float *p, int V, row_scratch &s)
{
    double sum = 0;
    for (int v = threadIdx.x; v < V; v += THREADS)
        sum += static_cast<double>(p[v]);
    sum = gpu::block_reduce<THREADS>(sum, s.sums, gpu::plus());
    for (int v = threadIdx.x; v < V; v += THREADS)
        p[v] = static_cast<float>(static_cast<double>(p[v]) / sum);
}

// One block, one row.
__global__ void __launch_bounds__(THREADS, 1)
    probabilities(float *all_p, const float *all_z, int V, float temperature, int top_k, float top_p, float min_p)
{
    SHARED(row_scratch, s, [1]);
    SHARED(float, part, [WARPS]);
    float *p = all_p + static_cast<int64_t>(blockIdx.x) * V;
    const float *z = all_z + static_cast<int64_t>(blockIdx.x) * V;
    const int best = block_argmax(z, V, part, s[0]);
    const float max = z[best];
    if (temperature <= 0) {
        for (int v = threadIdx.x; v < V; v += THREADS)
            p[v] = v == best ? 1.0f : 0.0f;
        return;
    }
    for (int v = threadIdx.x; v < V; v += THREADS)
        p[v] = expf((z[v] - max) / temperature);
    if (top_k > 0 && top_k < V)
        keep_top_k(p, V, top_k, s[0]);
    if (top_p < 1)
        keep_top_p(p, V, static_cast<double>(top_p), s[0]);
    if (min_p > 0) // of the likeliest, which is 1
        for (int v = threadIdx.x; v < V; v += THREADS)
            p[v] = p[v] >= min_p ? p[v] : 0.0f;
    normalise(p, V, s[0]);
}

cudaError_t crnn_launch_probabilities(float *p, const float *z, int64_t n, int32_t V,
                                      const crnn_sample_options *options, cudaStream_t stream)
{
    return LAUNCH(probabilities, static_cast<unsigned>(n), THREADS, 0, stream, p, z, V, options->temperature,
                  options->top_k, options->top_p, options->min_p);
}

// One warp, one row. The running sum is in double, where sums of a few hundred floats are mostly exact.
__device__ static int pick_one(const float *p, int V, double u, int lane)
{
    double before = 0;
    int last = 0; // rounding may leave the sum a little short of u: then the last possible one
    for (int base = 0; base < V; base += 32) {
        const int v = base + lane;
        const float mine = v < V ? p[v] : 0.0f;
        double sum = static_cast<double>(mine);
        for (int distance = 1; distance < 32; distance *= 2) {
            const double left = __shfl_up_sync(0xffffffffu, sum, static_cast<unsigned>(distance));
            if (lane >= distance)
                sum += left;
        }
        const unsigned hit = __ballot_sync(0xffffffffu, mine > 0 && u < before + sum);
        if (hit)
            return base + __ffs(static_cast<int>(hit)) - 1;
        const unsigned possible = __ballot_sync(0xffffffffu, mine > 0);
        if (possible)
            last = base + 31 - __clz(static_cast<int>(possible));
        before += __shfl_sync(0xffffffffu, sum, 31);
    }
    return last;
}

__global__ void __launch_bounds__(THREADS, 1) pick(uint16_t *ids, uint16_t *written, const uint64_t *drawn,
                                                   const float *p, int64_t n, int V, int ring, uint64_t seed)
{
    const int lane = threadIdx.x % 32;
    const int64_t k = static_cast<int64_t>(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (k >= n)
        return; // a whole warp
    uint32_t bits[4];
    gpu::philox(bits, seed, static_cast<uint64_t>(CRNN_RNG_SAMPLE) << 56 | static_cast<uint64_t>(k), *drawn);
    const int id = pick_one(p + k * V, V, static_cast<double>(gpu::u01(bits[0])), lane);
    if (lane == 0) {
        ids[k] = static_cast<uint16_t>(id);
        written[static_cast<int64_t>(*drawn % static_cast<uint64_t>(ring)) * n + k] = static_cast<uint16_t>(id);
    }
}

// By itself, as every block of pick reads it.
__global__ void __launch_bounds__(32, 1) count_draw(uint64_t *drawn)
{
    if (threadIdx.x == 0)
        ++*drawn;
}

cudaError_t crnn_launch_pick(uint16_t *ids, uint16_t *written, uint64_t *drawn, const float *p, int64_t n, int32_t V,
                             int32_t ring, uint64_t seed, cudaStream_t stream)
{
    const unsigned blocks = static_cast<unsigned>((n + WARPS - 1) / WARPS);
    const cudaError_t error = LAUNCH(pick, blocks, THREADS, 0, stream, ids, written, drawn, p, n, V, ring, seed);
    if (error != cudaSuccess)
        return error;
    return LAUNCH(count_draw, 1, 32, 0, stream, drawn);
}
