/* exchange.cu - what it costs that all blocks of a group see what each of them wrote: the part of a time step of the persistent kernels
 * (src/kernels/cuda/gru_persist.cuh) that no product can hide.
 *
 *   nvcc -std=c++17 -O3 -arch=native -I include -I src benchmarks/exchange.cu -o exchange && ./exchange [ROUNDS]
 *
 * For each way of sharing out blocks, microseconds a round: "flags" is release, poll and acquire alone; "forward" adds what a chunk's h is
 * in 16 bits at H 1024, written in parts and read whole by every block; "backward" is three times as much; "grid" is grid.sync() in their
 * place. Every round's numbers are checked. A design is worth its while where "forward" stays below 0.8.
 */
#include "kernels/cuda/gru_persist.cuh"
#include <algorithm>
#include <cooperative_groups.h>
#include <cstdio>
#include <cstdlib>

using namespace persist;

enum Mode { FLAGS, FORWARD, BACKWARD, GRID, MODES };
static const char *const mode_names[MODES] = {"flags", "forward", "backward", "grid"};
constexpr int H = 1024, STEPS = H / 16, MOST_STEPS = 3 * STEPS;

struct Round {
    uint4 *slots;    // [groups][2][steps][32]
    unsigned *flags; // [groups][slices], zero
    unsigned *wrong; // [2] a number that was not this round's; a block gave up
    int rounds, steps, slices;
    Mode mode;
};

// One slot's worth, from all slices of the group.
static __device__ void pull(uint4 *stage, const uint4 *slot, int steps)
{
    for (int i = threadIdx.x; i < steps * STEP_LANES; i += THREADS)
        gpu::cp_async16(stage + i, slot + i);
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncthreads();
}

__global__ void __launch_bounds__(THREADS, 1) exchange(const __grid_constant__ Round r)
{
    DYN_SHARED(uint4, stage);
    SHARED(unsigned, stop, [1]);
    const int slice = blockIdx.x, share = r.steps / r.slices * STEP_LANES, warp = threadIdx.x / 32,
              lane = threadIdx.x % 32;
    Exchange x = {};
    x.slots = r.slots + static_cast<size_t>(blockIdx.y) * (2 * r.steps * STEP_LANES);
    x.flags = r.flags + blockIdx.y * r.slices;
    x.status = r.wrong + 1;
    x.stop = stop;
    x.slices = r.slices;
    x.chunks = 1;
    x.k_steps = r.steps;
    x.patience = PATIENCE;
    if (threadIdx.x == 0)
        *stop = 0;
    const int each = (r.slices + WARPS - 1) / WARPS, from = warp * each;
    for (unsigned round = 1; round <= static_cast<unsigned>(r.rounds); round++) {
        uint4 *slot = slot_of(x, round & 1, 0, 1);
        for (int i = threadIdx.x; r.mode != FLAGS && i < share; i += THREADS)
            slot[slice * share + i] = {round, round, round, round};
        if (r.mode == GRID) {
            cooperative_groups::this_grid().sync();
        } else {
            __syncthreads();
            if (threadIdx.x == 0)
                gpu::st_release(x.flags + slice, round);
            await(x, 0, from, min(from + each, r.slices), round, lane);
            __syncthreads();
        }
        if (*stop)
            return;
        if (r.mode == FLAGS)
            continue;
        pull(stage, slot, r.steps);
        for (int i = threadIdx.x; i < r.steps * STEP_LANES; i += THREADS)
            if (stage[i].x != round || stage[i].w != round)
                atomicExch(r.wrong, round);
        __syncthreads();
    }
}

static void ok(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "exchange: %s: %s\n", what, cudaGetErrorString(e));
    exit(4);
}

// Microseconds a round, the best of five; below zero: it went wrong.
static double measure(Mode mode, int groups, int slices, int rounds)
{
    const int steps = mode == BACKWARD ? MOST_STEPS : STEPS;
    const size_t slot_bytes = static_cast<size_t>(groups) * 2 * steps * STEP_LANES * 16;
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
    ok(cudaFuncSetAttribute(exchange, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(stage_bytes)),
       "shared memory");
    const Round r = {static_cast<uint4 *>(slots),
                     static_cast<unsigned *>(flags),
                     static_cast<unsigned *>(wrong),
                     rounds,
                     steps,
                     slices,
                     mode};
    for (int i = 0; i < 5; i++) {
        float ms = 0;
        ok(cudaMemset(flags, 0, flag_bytes), "fill");
        ok(cudaEventRecord(begin, nullptr), "event");
        ok(LAUNCH_COOP(exchange, dim3(static_cast<unsigned>(slices), static_cast<unsigned>(groups)), THREADS,
                       stage_bytes, nullptr, r),
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
    for (const char *name : mode_names)
        printf("%10s", name);
    for (const auto &s : shares) {
        if (s[0] * s[1] > gpu.multiProcessorCount)
            continue;
        printf("\n%dx%-6d", s[0], s[1]);
        for (int mode = 0; mode < MODES; mode++) {
            if (mode == BACKWARD &&
                static_cast<size_t>(MOST_STEPS) * STEP_LANES * 16 > gpu.sharedMemPerBlockOptin - 1024) {
                printf("%10s", "-"); // a slot is more than a block can hold
                continue;
            }
            const double us = measure(static_cast<Mode>(mode), s[0], s[1], rounds);
            failed = failed || us < 0;
            us < 0 ? printf("%10s", "WRONG") : printf("%10.2f", us);
        }
    }
    printf("\n");
    return failed;
}
