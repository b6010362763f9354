/* exchange.cu - what it costs that all blocks of a group see what each of them wrote: the part of a time step of the persistent kernels
 * (src/kernels/cuda/gru_persist.cuh) that no product can hide.
 *
 *   nvcc -std=c++17 -O3 -arch=native -I include -I src benchmarks/exchange.cu -o exchange && ./exchange [ROUNDS]
 *
 * For each way of sharing out blocks, microseconds a round: "flags" is release, poll and acquire alone; "forward" adds what a chunk's h is
 * in 16 bits at H 1024, written in parts and read whole by every block; "backward" is three times as much; "grid" is grid.sync() in their
 * place. In "words" there are no flags, as each word tells whether it has come. With clusters of 2 or 4 blocks each block reads its share
 * alone and hands it to the others of its cluster: "multi" by multicast, "dsmem" by writing to their shared memory. "+" is three times as
 * much, "-" what the GPU cannot do. Every round's numbers are checked. A design is worth its while where "forward" stays below 0.8. What
 * the compiler says of multicast is advice for later GPUs.
 */
#include "kernels/cuda/gru_persist.cuh"
#include "kernels/cuda/gru_persist_words.cuh"
#include <algorithm>
#include <cooperative_groups.h>
#include <cstdio>
#include <cstdlib>

using namespace persist;

enum Way { FLAGS, CACHE, GRID, WORDS, MULTICAST, DSMEM };
constexpr int H = 1024, STEPS = H / 16;
struct Column {
    const char *name;
    Way way;
    int steps;
    unsigned cluster;
};
static const Column columns[] = {
    {"flags", FLAGS, STEPS, 1},        {"forward", CACHE, STEPS, 1},
    {"backward", CACHE, 3 * STEPS, 1}, {"grid", GRID, STEPS, 1},
    {"words", WORDS, STEPS, 1},        {"words+", WORDS, 3 * STEPS, 1},
    {"multi2", MULTICAST, STEPS, 2},   {"multi2+", MULTICAST, 3 * STEPS, 2},
    {"multi4", MULTICAST, STEPS, 4},   {"multi4+", MULTICAST, 3 * STEPS, 4},
    {"dsmem2", DSMEM, STEPS, 2},       {"dsmem2+", DSMEM, 3 * STEPS, 2},
    {"dsmem4", DSMEM, STEPS, 4},       {"dsmem4+", DSMEM, 3 * STEPS, 4},
};

constexpr int SLOTS = 4; // flags need two

struct Round {
    uint4 *slots;    // [groups][SLOTS][steps][32], zero
    unsigned *flags; // [groups][slices], zero
    unsigned *wrong; // [2] a number that was not this round's; a block gave up
    int rounds, steps, slices;
    Way way;
    int cluster;
};

// A block's place, and what it reads itself: a part of the slot, which a part of the slices wrote.
struct Place {
    Exchange x;
    uint4 *stage;
    uint64_t *arrived;
    int slice, rank, part, from, to; // part: 16-byte pieces
};

// Pieces [0,n) from device to shared memory; each thread has its own when this returns.
static __device__ void pull(uint4 *stage, const uint4 *slot, int n)
{
    for (int i = threadIdx.x; i < n; i += THREADS)
        gpu::cp_async16(stage + i, slot + i);
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
}
// The block's own part goes to all blocks of the cluster.
static __device__ void multicast(const Place &p, const Round &r, const uint4 *slot, unsigned round)
{
    const int first = p.rank * p.part;
    if (threadIdx.x == 0) {
        gpu::mbarrier_arrive_expect(p.arrived, static_cast<unsigned>(r.cluster * p.part) * 16);
        gpu::fence_proxy_async();
        gpu::bulk_multicast(p.stage + first, slot + first, static_cast<unsigned>(p.part) * 16, p.arrived,
                            (1u << r.cluster) - 1);
    }
    gpu::mbarrier_wait(p.arrived, (round - 1) & 1);
}
static __device__ void write_to_peers(const Place &p, const Round &r, const uint4 *slot)
{
    const int first = p.rank * p.part;
    pull(p.stage + first, slot + first, p.part);
    for (int other = 1; other < r.cluster; other++) {
        uint4 *there = gpu::peer(p.stage, static_cast<unsigned>((p.rank + other) % r.cluster));
        for (int i = first + static_cast<int>(threadIdx.x); i < first + p.part; i += THREADS)
            there[i] = p.stage[i];
    }
    gpu::cluster_arrive();
    gpu::cluster_wait();
}
// Where this round's numbers come together: in the stage.
static __device__ void fetch(const Place &p, const Round &r, const uint4 *slot, unsigned round)
{
    if (r.cluster > 1)
        gpu::cluster_wait(); // all have read the round before
    if (r.way == MULTICAST)
        multicast(p, r, slot, round);
    else if (r.way == DSMEM)
        write_to_peers(p, r, slot);
    else
        pull(p.stage, slot, r.steps * STEP_LANES);
    __syncthreads();
}
// All of a round by words; the block's share is `share` pieces.
static __device__ void exchange_words(const Place &p, const Round &r, int share, unsigned round)
{
    constexpr int AT_ONCE = 8;
    static_assert(SLOTS == RING && STEPS * STEP_LANES % (AT_ONCE * THREADS) == 0, "threads take whole rounds of loads");
    const int pieces = r.steps * STEP_LANES;
    const size_t slot = static_cast<size_t>(pieces) * 4;
    unsigned *mine = reinterpret_cast<unsigned *>(p.x.slots + p.slice * share);
    for (int i = threadIdx.x; i < share * 4; i += THREADS)
        publish_word(mine + i, slot, round, round);
    for (int i = threadIdx.x; i < share * 4; i += THREADS)
        take_back(mine + i, slot, round);
    taken_back();
    for (int i = threadIdx.x; i < pieces; i += AT_ONCE * THREADS) {
        uint4 v[AT_ONCE];
        if (!take(v, p.x.slots + static_cast<size_t>(round % RING) * pieces + i, THREADS, p.x.patience, p.x.status)) {
            atomicExch(p.x.status, 1u);
            atomicExch(p.x.stop, 1u);
            break;
        }
        for (int k = 0; k < AT_ONCE; k++)
            p.stage[i + k * THREADS] = v[k];
    }
    __syncthreads();
}
static __device__ void publish_and_wait(const Place &p, const Round &r, unsigned round, bool gave_up)
{
    const int warp = threadIdx.x / 32, each = (p.to - p.from + WARPS - 1) / WARPS, from = p.from + warp * each;
    if (r.way == GRID) {
        cooperative_groups::this_grid().sync();
        return;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        gpu::st_release(p.x.flags + p.slice, round);
    if (!gave_up)
        await(p.x, 0, from, min(from + each, p.to), round, threadIdx.x % 32);
    __syncthreads();
}
static __device__ void exchange_flags(const Place &p, const Round &r, int share, unsigned round, bool gave_up)
{
    uint4 *slot = slot_of(p.x, round & 1, 0, 1);
    for (int i = threadIdx.x; r.way != FLAGS && i < share; i += THREADS)
        slot[p.slice * share + i] = {round, round, round, round};
    publish_and_wait(p, r, round, gave_up);
    if (r.way != FLAGS)
        fetch(p, r, slot, round);
}
static __device__ Place place_of(const Round &r, uint4 *stage, uint64_t *arrived, unsigned *stop)
{
    Place p = {};
    p.x.slots = r.slots + static_cast<size_t>(blockIdx.y) * (SLOTS * r.steps * STEP_LANES);
    p.x.flags = r.flags + blockIdx.y * r.slices;
    p.x.status = r.wrong + 1;
    p.x.stop = stop;
    p.x.slices = r.slices;
    p.x.chunks = 1;
    p.x.k_steps = r.steps;
    p.x.patience = PATIENCE;
    p.stage = stage;
    p.arrived = arrived;
    p.slice = blockIdx.x;
    p.rank = p.slice % r.cluster;
    p.part = r.steps * STEP_LANES / r.cluster;
    p.from = p.rank * (r.slices / r.cluster);
    p.to = p.from + r.slices / r.cluster;
    return p;
}

__global__ void __launch_bounds__(THREADS, 1) exchange(const __grid_constant__ Round r)
{
    DYN_SHARED(uint4, stage);
    SHARED(unsigned, stop, [1]);
    SHARED(uint64_t, arrived, [1]);
    const Place p = place_of(r, stage, arrived, stop);
    const int share = r.steps / r.slices * STEP_LANES;
    bool gave_up = false; // a block that waits no longer goes on, as its cluster needs it
    if (threadIdx.x == 0)
        *stop = 0;
    if (r.cluster > 1) {
        if (threadIdx.x == 0) {
            gpu::mbarrier_init(arrived, 1);
            gpu::mbarrier_fence_init();
        }
        gpu::cluster_arrive();
        gpu::cluster_wait();
        gpu::cluster_arrive();
    }
    for (unsigned round = 1; round <= static_cast<unsigned>(r.rounds); round++) {
        if (r.way == WORDS)
            exchange_words(p, r, share, round);
        else
            exchange_flags(p, r, share, round, gave_up);
        gave_up = *stop;
        if (r.way == WORDS && gave_up)
            return;
        if (r.way == FLAGS)
            continue;
        for (int i = threadIdx.x; i < r.steps * STEP_LANES; i += THREADS)
            if (stage[i].x != round || stage[i].w != round)
                atomicExch(r.wrong, round);
        if (r.cluster > 1)
            gpu::cluster_arrive();
        else
            __syncthreads();
    }
    if (r.cluster > 1)
        gpu::cluster_wait();
}

static void ok(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "exchange: %s: %s\n", what, cudaGetErrorString(e));
    exit(4);
}

// Microseconds a round, the best of five; below zero: it went wrong.
static double measure(const Column &column, int groups, int slices, int rounds)
{
    const int steps = column.steps;
    const size_t slot_bytes = static_cast<size_t>(groups) * SLOTS * steps * STEP_LANES * 16;
    const size_t flag_bytes = static_cast<size_t>(groups) * slices * 4,
                 stage_bytes = static_cast<size_t>(steps) * STEP_LANES * 16;
    void *slots = nullptr, *flags = nullptr, *wrong = nullptr;
    unsigned errors[2] = {0, 0};
    float best = 1e30f;
    cudaEvent_t begin, end;
    ok(cudaMalloc(&slots, slot_bytes), "memory");
    ok(cudaMalloc(&flags, flag_bytes), "memory");
    ok(cudaMalloc(&wrong, sizeof errors), "memory");
    ok(cudaMemset(wrong, 0, sizeof errors), "fill");
    ok(cudaEventCreate(&begin), "event");
    ok(cudaEventCreate(&end), "event");
    const Round r = {static_cast<uint4 *>(slots),
                     static_cast<unsigned *>(flags),
                     static_cast<unsigned *>(wrong),
                     rounds,
                     steps,
                     slices,
                     column.way,
                     static_cast<int>(column.cluster)};
    for (int i = 0; i < 5; i++) {
        float ms = 0;
        ok(cudaMemset(flags, 0, flag_bytes), "fill");
        ok(cudaMemset(slots, 0, slot_bytes), "fill");
        ok(cudaEventRecord(begin, nullptr), "event");
        ok(LAUNCH_COOP_CLUSTER(exchange, dim3(static_cast<unsigned>(slices), static_cast<unsigned>(groups)), THREADS,
                               stage_bytes, nullptr, column.cluster, r),
           "launch");
        ok(cudaEventRecord(end, nullptr), "event");
        ok(cudaEventSynchronize(end), "run");
        ok(cudaEventElapsedTime(&ms, begin, end), "time");
        best = std::min(best, ms);
    }
    ok(cudaMemcpy(errors, wrong, sizeof errors, cudaMemcpyDeviceToHost), "copy");
    for (void *p : {slots, flags, wrong})
        ok(cudaFree(p), "free");
    ok(cudaEventDestroy(begin), "event");
    ok(cudaEventDestroy(end), "event");
    return errors[0] || errors[1] ? -1 : 1e3 * static_cast<double>(best) / rounds;
}

// Whether the GPU can hold that many blocks, in such clusters, with a slot in each. The kernel may then have the shared memory.
static bool fits(const Column &column, int groups, int slices, const cudaDeviceProp &gpu)
{
    const int stage_bytes = column.steps * STEP_LANES * 16;
    int clusters = 0;
    if (static_cast<size_t>(stage_bytes) > gpu.sharedMemPerBlockOptin - 1024)
        return false;
    ok(cudaFuncSetAttribute(exchange, cudaFuncAttributeMaxDynamicSharedMemorySize, stage_bytes), "shared memory");
    if (column.cluster == 1)
        return true;
    if (gpu.major < 9 || slices % static_cast<int>(column.cluster))
        return false;
    ok(gpu_max_clusters(&clusters, exchange, THREADS, static_cast<size_t>(stage_bytes), column.cluster), "clusters");
    return groups * slices <= clusters * static_cast<int>(column.cluster);
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 10000,
              shares[][2] = {{1, 4}, {2, 2}, {1, 64}, {1, 128}, {2, 64}, {4, 32}, {8, 16}};
    cudaDeviceProp gpu;
    bool failed = false;
    if (rounds < 1) {
        fprintf(stderr, "usage: exchange [ROUNDS]\n");
        return 2;
    }
    ok(cudaGetDeviceProperties(&gpu, 0), "device");
    printf("%s, %d multiprocessors, %d rounds, microseconds a round\n%-8s", gpu.name, gpu.multiProcessorCount, rounds,
           "blocks");
    for (const Column &column : columns)
        printf("%9s", column.name);
    for (const auto &s : shares) {
        if (s[0] * s[1] > gpu.multiProcessorCount)
            continue;
        printf("\n%dx%-6d", s[0], s[1]);
        for (const Column &column : columns) {
            if (!fits(column, s[0], s[1], gpu)) {
                printf("%9s", "-");
                continue;
            }
            const double us = measure(column, s[0], s[1], rounds);
            failed = failed || us < 0;
            us < 0 ? printf("%9s", "WRONG") : printf("%9.2f", us);
        }
    }
    printf("\n");
    return failed;
}
