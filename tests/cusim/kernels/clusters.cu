/* clusters.cu - see clusters.h. */
#include "clusters.h"
#include "kernels/cuda/gpu.h"

static constexpr int ITEMS = CLUSTER_ITEMS;

static __device__ int number_of(int round)
{
    return 1000 * round + 100 * static_cast<int>(blockIdx.x) + static_cast<int>(threadIdx.x);
}

__global__ void __launch_bounds__(ITEMS, 1)
    multicast_kernel(int *sums, int *x, unsigned cluster, int rounds, cluster_mistake mistake)
{
    SHARED(uint64_t, barrier, [1]);
    SHARED(uint4, stage, [8][ITEMS / 4]); // of each block its numbers
    const unsigned rank = gpu::cluster_rank(), bytes = ITEMS * sizeof(int);
    int *mine = x + blockIdx.x * ITEMS, sum = 0;
    if (threadIdx.x == 0) {
        gpu::mbarrier_init(barrier, 1);
        if (mistake != CLUSTER_NO_INIT_FENCE)
            gpu::mbarrier_fence_init();
    }
    if (mistake == CLUSTER_NOT_TOLD) {
        for (unsigned i = 0; i < 8; i++)
            __nanosleep(100); // the other has made it, as it happens
        __syncthreads();
    } else {
        gpu::cluster_arrive();
        gpu::cluster_wait();
    }
    for (int round = 0; round < rounds; round++) {
        if (mistake == CLUSTER_SOURCE_TOO_EARLY)
            mine[threadIdx.x] = number_of(round);
        if (round && mistake != CLUSTER_NO_BARRIER)
            gpu::cluster_wait(); // all have read what was copied before
        if (mistake != CLUSTER_SOURCE_TOO_EARLY)
            mine[threadIdx.x] = number_of(round);
        __syncthreads();
        if (threadIdx.x == 0) {
            const unsigned off = mistake == CLUSTER_TOO_MANY_BYTES  ? 16
                                 : mistake == CLUSTER_TOO_FEW_BYTES ? static_cast<unsigned>(-16)
                                                                    : 0;
            gpu::mbarrier_arrive_expect(barrier, cluster * bytes + off);
            if (mistake != CLUSTER_NO_PROXY_FENCE)
                gpu::fence_proxy_async();
            gpu::bulk_multicast(stage[rank], mine, bytes, barrier, (1u << cluster) - 1);
        }
        if (mistake == CLUSTER_LEAVES && round + 1 == rounds)
            return;
        if (mistake != CLUSTER_NO_WAIT)
            gpu::mbarrier_wait(barrier, (round + (mistake == CLUSTER_WRONG_PARITY ? 1 : 0)) & 1);
        for (unsigned block = 0; block < cluster; block++)
            sum += reinterpret_cast<const int *>(stage[block])[threadIdx.x];
        if (mistake != CLUSTER_NO_BARRIER)
            gpu::cluster_arrive();
    }
    if (rounds && mistake != CLUSTER_NO_BARRIER)
        gpu::cluster_wait();
    if (rank == 0)
        sums[blockIdx.x / cluster * ITEMS + threadIdx.x] = sum;
}
cudaError_t cluster_multicast(int *sums, int *x, int blocks, unsigned cluster, int rounds, cluster_mistake mistake)
{
    return LAUNCH_COOP_CLUSTER(multicast_kernel, blocks, ITEMS, 0, nullptr, cluster, sums, x, cluster, rounds, mistake);
}

__global__ void __launch_bounds__(ITEMS, 1) write_to_peers_kernel(int *sums, unsigned cluster, cluster_mistake mistake)
{
    SHARED(int, tile, [8][ITEMS]);
    const unsigned rank = gpu::cluster_rank();
    if (mistake == CLUSTER_LEAVES_WRITERS && rank == 0)
        return;
    for (unsigned block = 0; block < cluster; block++)
        gpu::peer(&tile[rank][threadIdx.x], (rank + block) % cluster)[0] = number_of(0);
    if (mistake == CLUSTER_WRITE_UNTOLD)
        __syncthreads();
    if (mistake != CLUSTER_WAITS_ALONE && mistake != CLUSTER_WRITE_UNTOLD)
        gpu::cluster_arrive();
    if (mistake == CLUSTER_ARRIVES_TWICE)
        gpu::cluster_arrive();
    if (mistake != CLUSTER_WRITE_UNTOLD)
        gpu::cluster_wait();
    int sum = 0;
    for (unsigned block = 0; block < cluster; block++)
        sum += tile[block][threadIdx.x];
    if (rank == 0)
        sums[blockIdx.x / cluster * ITEMS + threadIdx.x] = sum;
}
cudaError_t cluster_write_to_peers(int *sums, int blocks, unsigned cluster, cluster_mistake mistake)
{
    // Clusters that need not run at the same time.
    return gpu_launch("write_to_peers_kernel", blocks, ITEMS, 0, nullptr, false, cluster, write_to_peers_kernel, sums,
                      cluster, mistake);
}
