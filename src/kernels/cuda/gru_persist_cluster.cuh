/* gru_persist_cluster.cuh - the exchange in clusters of blocks: each share of K leaves the second-level cache once for a whole cluster.
 *
 * The blocks of a cluster are neighbouring slices of a group. A round is the product of one chunk at one time step. In each, the share of
 * warp k is waited for and sent by block k % cluster: its producers' flags, then multicasts into the stages of all blocks. A stage holds
 * whole slots, one or two of them. A share is sent in quarters, each with an mbarrier, so that the first is multiplied while others come.
 *
 * The cluster's barrier has one phase a round: a thread arrives when it is done with the stage. With one slot, that is waited for before
 * the next is sent. With two, a round later, when all have long been there; and where a group has several chunks, the next one is sent before
 * this one's gates, as all that it needs was published a round ago.
 *
 * A block that gives up waiting for flags goes on to its end with whatever is there: its neighbours count on its shares and its arrivals,
 * and none may leave while copies come to it. So every wait within a cluster ends; only flags come from elsewhere.
 */
#ifndef CRNN_KERNELS_CUDA_GRU_PERSIST_CLUSTER_CUH
#define CRNN_KERNELS_CUDA_GRU_PERSIST_CLUSTER_CUH

#include "kernels/cuda/gru_persist.cuh"

namespace persist
{
constexpr int QUARTERS = 4;

// Where in a block's structure what was exchanged comes to lie: pieces, or the barriers of the slots that lie behind the structure.
template <class L, By BY> struct Landing {
    uint4 pieces[L::STAGE_BYTES / 16];
};
template <class L> struct Landing<L, By::WORDS> {
    uint4 none;
};
template <class L> struct Landing<L, By::CLUSTER> {
    uint64_t arrived[2][L::K_WARPS][QUARTERS];
};

// SLICE: steps of K that a slice publishes.
template <class L, int SLICE> struct Multicast {
    uint64_t *arrived; // [buffers][K_WARPS][QUARTERS]
    uint4 *stage;      // [buffers][steps of K][PARTS][32]
    int steps, cluster, buffers;

    // All threads; the barriers can be used from then on.
    static __device__ __forceinline__ void begin(uint64_t *arrived)
    {
        if (threadIdx.x == 0) {
            for (int i = 0; i < 2 * L::K_WARPS * QUARTERS; i++)
                gpu::mbarrier_init(arrived + i, 1);
            gpu::mbarrier_fence_init();
        }
        gpu::cluster_arrive();
        gpu::cluster_wait();
        gpu::cluster_arrive(); // as if a round had ended
    }
    // Nothing comes to this block any more; what it sent has come.
    static __device__ __forceinline__ void end()
    {
        gpu::cluster_wait();
    }
    static constexpr int PIECES = L::PARTS * STEP_LANES; // of a step, 16 bytes each
    static constexpr int QUARTER =
        L::RESIDENT / QUARTERS; // steps; the last has those with weights in shared memory, too
    __device__ __forceinline__ int steps_of(int quarter) const
    {
        return quarter < QUARTERS - 1 ? QUARTER : steps - QUARTER * (QUARTERS - 1);
    }
    __device__ __forceinline__ int place(int round, int share) const
    {
        return (round & (buffers - 1)) * L::K_WARPS + share;
    }
    // Whether a round's numbers are sent in the round before.
    __device__ __forceinline__ bool ahead(const Exchange &x) const
    {
        return x.chunks > 1 && buffers == 2;
    }
    // Before a round is sent: its place is free.
    __device__ __forceinline__ void clear() const
    {
        if (buffers == 1)
            gpu::cluster_wait();
    }
    // This thread has read all that the round brought.
    __device__ __forceinline__ void done() const
    {
        if (buffers == 2)
            gpu::cluster_wait();
        gpu::cluster_arrive();
    }
    // One warp of each share: what this round will bring is expected, and the block's own shares are sent.
    __device__ __forceinline__ void send(const Exchange &x, int round, int parity, int chunk, unsigned wanted) const
    {
        const int thread = gpu::thread_again(), lane = thread % 32, share = thread / 32 / L::ACROSS;
        if (thread / 32 % L::ACROSS)
            return;
        uint64_t *barriers = arrived + place(round, share) * QUARTERS;
        if (lane < QUARTERS)
            gpu::mbarrier_arrive_expect(barriers + lane, steps_of(lane) * (PIECES * 16));
        if (share % cluster != static_cast<int>(gpu::cluster_rank()))
            return;
        const int from = share * steps / SLICE, to = ((share + 1) * steps + SLICE - 1) / SLICE;
        await(x, chunk, from, min(to, x.slices), wanted, lane);
        if (lane < QUARTERS) {
            const int first = lane * QUARTER;
            gpu::fence_proxy_async();
            gpu::bulk_multicast(stage + (place(round, share) * steps + first) * PIECES,
                                slot_of(x, parity, chunk, L::PARTS) + (share * steps + first) * PIECES,
                                steps_of(lane) * (PIECES * 16), barriers + lane, (1u << cluster) - 1);
        }
    }
    // sum += W x, in the order of Product::run.
    __device__ __forceinline__ void run(float (&sum)[L::TILES][2][4], const Weights<L> &w, const uint4 *further,
                                        int round) const
    {
        const int thread = gpu::thread_again(), share = thread / 32 / L::ACROSS;
        const Multiply<L> warp(thread, steps, further);
        const uint4 *b = stage + place(round, share) * steps * PIECES + thread % 32;
        uint64_t *barriers = arrived + place(round, share) * QUARTERS;
        float odd[L::TILES][2][4] = {};
#pragma unroll
        for (int k = 0; k < L::RESIDENT; k++) {
            if (k % QUARTER == 0)
                gpu::mbarrier_wait(barriers + k / QUARTER, round >> (buffers - 1) & 1);
            warp.step(Multiply<L>::TWO_CHAINS && k % 2 ? odd : sum, w, k, b + k * PIECES);
        }
#pragma unroll 1
        for (int k = L::RESIDENT; k < steps; k++)
            warp.far_step(sum, k, b + k * PIECES);
        Multiply<L>::add(sum, odd);
    }
};
} // namespace persist
#endif
