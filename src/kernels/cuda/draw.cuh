// draw.cuh - from a row of logits to one character: temperature, the filters, the draw. A block, a warp or a part of one works on a
// row; what that decides is the team, and nothing else differs.
//
// No sorting: what top-k and top-p keep is all above a value, and of those equal to it the ones of lowest id. That value is found by halving
// the range of its bits, 31 passes over the row, whatever V is. Member m of a team of SIZE has the values m, m + SIZE, ... throughout, so
// that no two members ever meet in one.
#ifndef CRNN_KERNELS_CUDA_DRAW_CUH
#define CRNN_KERNELS_CUDA_DRAW_CUH

#include "host/base/rng.h"
#include "kernels/backend.h"
#include "kernels/cuda/philox.h"
#include "kernels/cuda/reduce.h"

namespace draw
{
template <int THREADS> struct BlockScratch {
    double sums[THREADS / 32];
    int counts[THREADS / 32];
    float values[THREADS / 32];
};
// All threads of a block.
template <int THREADS> struct BlockTeam {
    static constexpr int SIZE = THREADS;
    BlockScratch<THREADS> &s; // shared memory

    __device__ __forceinline__ int member() const
    {
        return threadIdx.x;
    }
    __device__ __forceinline__ int sum(int v) const
    {
        return gpu::block_reduce<THREADS>(v, s.counts, gpu::plus());
    }
    __device__ __forceinline__ double sum(double v) const
    {
        return gpu::block_reduce<THREADS>(v, s.sums, gpu::plus());
    }
    __device__ __forceinline__ float most(float v) const
    {
        return gpu::block_reduce<THREADS>(v, s.values, gpu::larger());
    }
    __device__ __forceinline__ int least(int v) const
    {
        return -gpu::block_reduce<THREADS>(-v, s.counts, gpu::larger());
    }
    // How many members below this one say yes; all is how many do at all.
    __device__ __forceinline__ int yes_before(bool yes, int &all) const
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const unsigned votes = __ballot_sync(0xffffffffu, yes);
        __syncthreads(); // counts may still be read
        if (lane == 0)
            s.counts[warp] = __popc(votes);
        __syncthreads();
        int before = __popc(votes & ((1u << lane) - 1u));
        all = 0;
        for (int w = 0; w < THREADS / 32; w++) {
            before += w < warp ? s.counts[w] : 0;
            all += s.counts[w];
        }
        return before;
    }
};
// LANES neighbours of a warp, a power of two; those beside them may be elsewhere meanwhile.
template <int LANES> struct LaneTeam {
    static constexpr int SIZE = LANES;

    __device__ __forceinline__ int member() const
    {
        return threadIdx.x % LANES;
    }
    __device__ __forceinline__ int first_lane() const
    {
        return threadIdx.x % 32 / LANES * LANES;
    }
    __device__ __forceinline__ unsigned lanes() const
    {
        return (0xffffffffu >> (32 - LANES)) << first_lane();
    }
    __device__ __forceinline__ void meet() const
    {
        __syncwarp(lanes());
    }
    // The members that say yes, a bit for each.
    __device__ __forceinline__ unsigned votes(bool yes) const
    {
        return __ballot_sync(lanes(), yes) >> first_lane();
    }
    template <class T, class F> __device__ __forceinline__ T reduce(T v, F f) const
    {
#pragma unroll
        for (int distance = LANES / 2; distance; distance /= 2)
            v = f(v, __shfl_xor_sync(lanes(), v, distance));
        return v;
    }
    template <class T> __device__ __forceinline__ T sum(T v) const
    {
        return reduce(v, gpu::plus());
    }
    __device__ __forceinline__ float most(float v) const
    {
        return reduce(v, gpu::larger());
    }
    __device__ __forceinline__ int least(int v) const
    {
        return -reduce(-v, gpu::larger());
    }
    __device__ __forceinline__ int yes_before(bool yes, int &all) const
    {
        const unsigned saying = votes(yes);
        all = __popc(saying);
        return __popc(saying & ((1u << member()) - 1u));
    }
    // The sum of v over this member and those before it.
    __device__ __forceinline__ double running_sum(double v) const
    {
#pragma unroll
        for (int distance = 1; distance < LANES; distance *= 2) {
            const double left = __shfl_up_sync(lanes(), v, static_cast<unsigned>(distance), LANES);
            if (member() >= distance)
                v += left;
        }
        return v;
    }
    // The v of the last member.
    __device__ __forceinline__ double last(double v) const
    {
        return __shfl_sync(lanes(), v, LANES - 1, LANES);
    }
};

// Unnormalised likelihoods >= 0 order as their bits do.
__device__ __forceinline__ uint32_t bits_of(float p)
{
    return __float_as_uint(p);
}

// How many are above a value, and what they sum to.
struct Above {
    int count;
    double sum;
};
template <class Team> __device__ Above count_above(const Team &team, const float *p, int V, uint32_t bits)
{
    Above a = {0, 0};
    for (int v = team.member(); v < V; v += Team::SIZE)
        if (bits_of(p[v]) > bits) {
            a.count++;
            a.sum += static_cast<double>(p[v]);
        }
    a.count = team.sum(a.count);
    a.sum = team.sum(a.sum);
    return a;
}

// Keeps the `ties` lowest ids among those equal to the value, all above it, none below.
template <class Team> __device__ void cut(const Team &team, float *p, int V, uint32_t bits, int ties)
{
    int before = 0; // equals of lower id
    for (int base = 0; base < V; base += Team::SIZE) {
        const int v = base + team.member();
        const uint32_t mine = v < V ? bits_of(p[v]) : 0;
        const bool equal = v < V && mine == bits;
        int all;
        const int rank = before + team.yes_before(equal, all);
        before += all;
        if (v < V && (mine < bits || (equal && rank >= ties)))
            p[v] = 0;
    }
}

// The smallest bits that fewer than `enough` values, or values that sum to less than `mass`, are above.
template <class Team> __device__ uint32_t find_cut(const Team &team, const float *p, int V, int enough, double mass)
{
    uint32_t low = 0, high = 0x3f800000u; // the likeliest is 1: nothing is above that
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const Above a = count_above(team, p, V, middle);
        if (a.count < enough && a.sum < mass)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

template <class Team> __device__ void keep_top_k(const Team &team, float *p, int V, int k)
{
    const uint32_t bits = find_cut(team, p, V, k, INFINITY);
    cut(team, p, V, bits, k - count_above(team, p, V, bits).count);
}

// The fewest that together reach top_p of what there is.
template <class Team> __device__ void keep_top_p(const Team &team, float *p, int V, double top_p)
{
    const double mass = top_p * count_above(team, p, V, 0).sum;
    const uint32_t bits = find_cut(team, p, V, V + 1, mass);
    const double missing = mass - count_above(team, p, V, bits).sum, each = static_cast<double>(__uint_as_float(bits));
    const int ties = each > 0 ? static_cast<int>(fmin(ceil(missing / each), 65536.0)) : 0;
    cut(team, p, V, bits, ties < 1 ? 1 : ties);
}

// p [V] <- the probabilities of a draw from the logits z [V], which may be p.
template <class Team>
__device__ void probabilities(const Team &team, float *p, const float *z, int V, const crnn_sample_options &o)
{
    float max = -INFINITY;
    for (int v = team.member(); v < V; v += Team::SIZE)
        max = fmaxf(max, z[v]);
    max = team.most(max);
    if (o.temperature <= 0) {
        int best = V - 1; // the first of equals
        for (int v = team.member(); v < V; v += Team::SIZE)
            if (z[v] == max) {
                best = v;
                break;
            }
        best = team.least(best);
        for (int v = team.member(); v < V; v += Team::SIZE)
            p[v] = v == best ? 1.0f : 0.0f;
        return;
    }
    for (int v = team.member(); v < V; v += Team::SIZE)
        p[v] = expf((z[v] - max) / o.temperature);
    if (o.top_k > 0 && o.top_k < V)
        keep_top_k(team, p, V, o.top_k);
    if (o.top_p < 1)
        keep_top_p(team, p, V, static_cast<double>(o.top_p));
    double sum = 0;
    for (int v = team.member(); v < V; v += Team::SIZE) {
        if (p[v] < o.min_p) // of the likeliest, which is 1
            p[v] = 0;
        sum += static_cast<double>(p[v]);
    }
    sum = team.sum(sum);
    for (int v = team.member(); v < V; v += Team::SIZE)
        p[v] = static_cast<float>(static_cast<double>(p[v]) / sum);
}

// [0,1): draw number `drawn` of text k.
__device__ __forceinline__ double uniform(uint64_t seed, int64_t k, uint64_t drawn)
{
    uint32_t bits[4];
    gpu::philox(bits, seed, static_cast<uint64_t>(CRNN_RNG_SAMPLE) << 56 | static_cast<uint64_t>(k), drawn);
    return static_cast<double>(gpu::u01(bits[0]));
}

// The running sum is in double, where sums of a few hundred floats are mostly exact.
template <int LANES> __device__ int pick(const LaneTeam<LANES> &team, const float *p, int V, double u)
{
    double before = 0;
    int last = 0; // rounding may leave the sum a little short of u: then the last possible one
    for (int base = 0; base < V; base += LANES) {
        const int v = base + team.member();
        const float mine = v < V ? p[v] : 0.0f;
        const double sum = team.running_sum(static_cast<double>(mine));
        const unsigned hit = team.votes(mine > 0 && u < before + sum);
        if (hit)
            return base + __ffs(static_cast<int>(hit)) - 1;
        const unsigned possible = team.votes(mine > 0);
        if (possible)
            last = base + 31 - __clz(static_cast<int>(possible));
        before += team.last(sum);
    }
    return last;
}
} // namespace draw
#endif
