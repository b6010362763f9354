/* gru_persist.cuh - what the persistent kernels of both directions share: number formats, the exchange and the product.
 *
 * The product is that of a slice's weights (A, 16 rows a tile) and what the group exchanged (B, 16 batch rows a chunk), by
 * mma.m16n8k16. Each of 8 warps holds the weights of some tiles and a share of K; its B comes from the exchange in pieces through
 * cp.async, each lane's share of a step of 16 numbers being 16 bytes in the order in which mma wants them. Each warp leaves its sums in
 * shared memory, where the owners of the results add them up in the order of K.
 *
 * The exchange of a group's chunk: two slots; a slot holds, for each step of K, 32 lanes x 16 bytes (twice that in split precision). One
 * flag for each (group, chunk, slice) counts what the slice has published since the workspace was zeroed: every launch of one workspace
 * advances all flags alike, so that a block's own flag says where all of them stood, and no launch need reset them. Two slots are
 * enough: a block publishes into a slot after it has read all of the other one, and whoever filled that one had read this one before.
 */
#ifndef CRNN_KERNELS_CUDA_GRU_PERSIST_CUH
#define CRNN_KERNELS_CUDA_GRU_PERSIST_CUH

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/gru_persist.h"
#include "kernels/cuda/gru_persist_words.cuh"
#include <initializer_list>

namespace persist
{
constexpr int THREADS = 256, WARPS = 8;
constexpr int ROWS = 16;       // batch rows of a chunk
constexpr int STEP_LANES = 32; // 16-byte pieces of a step

// ---- number formats: what is multiplied is x * SCALE, two values to a word. The scales keep the low parts of usual weights (0.01 to 1)
// and states (below 1) out of fp16's denormal numbers.
struct Bf16 : format::Bf16 {
    static constexpr float WEIGHTS = 1.0f, STATES = 1.0f;
    static __device__ __forceinline__ void mma(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu::mma_m16n8k16(d, a, b, d);
    }
};
template <class F> struct Scaled : F {
    static constexpr float WEIGHTS = 1 << CRNN_PERSIST_DOUBLINGS, STATES = WEIGHTS;
    static __device__ __forceinline__ void mma(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu::mma_m16n8k16_f16(d, a, b, d);
    }
};
using Fp16 = Scaled<format::Fp16>;
using Split = Scaled<format::Split>;

// How blocks hand on what the others multiply: as above; a share of it to whole clusters (gru_persist_cluster.cuh); or without flags
// (gru_persist_words.cuh).
enum class By { FLAGS, CLUSTER, WORDS };

// ---- how a block's product is laid out. TILES: 16-row tiles of a warp; ACROSS: warps side by side over tiles, the others share K;
// K_STEPS: steps of K that one tile of 16 units publishes; RESIDENT: steps with weights in registers; a piece is PIECE steps, and
// DEPTH of them are on their way at a time.
template <class F, int TILES_, int ACROSS_, int K_STEPS_, int RESIDENT_, By BY_ = By::FLAGS> struct Layout {
    using Format = F;
    static constexpr int TILES = TILES_, ACROSS = ACROSS_, K_STEPS = K_STEPS_, RESIDENT = RESIDENT_;
    static constexpr By BY = BY_;
    static constexpr int PARTS = F::PARTS, K_WARPS = WARPS / ACROSS;
    static constexpr int PIECE = PARTS == 2 ? 1 : 4, AHEAD = PARTS == 2 ? 6 : 3;
    static constexpr int DEPTH = RESIDENT / PIECE < AHEAD ? RESIDENT / PIECE : AHEAD;
    static_assert(RESIDENT % PIECE == 0 && RESIDENT >= PIECE, "whole pieces");
    static constexpr int PIECE_LANES = PIECE * PARTS * STEP_LANES;         // 16-byte pieces of one warp's piece
    static constexpr int STAGE_BYTES = K_WARPS * DEPTH * PIECE_LANES * 16; // of shared memory
};

template <class L> struct Weights {
    uint32_t a[L::PARTS][L::TILES][L::RESIDENT][4];
};

// A group's exchange. What a thread can compute anew from its number and the plan is not kept: registers hold weights.
struct Exchange {
    uint4 *slots;     // of this group: [2][chunks][steps of K][PARTS][32]
    unsigned *flags;  // of this group: [chunks][slices]
    unsigned *status; // of the workspace
    unsigned *stop;   // shared memory: someone gave up
    int slices, chunks, k_steps;
    unsigned patience;
};

// Waits until the slices [from,to) have published up to `wanted`. One warp.
static __device__ __forceinline__ void await(const Exchange &x, int chunk, int from, int to, unsigned wanted, int lane)
{
    for (int i = from + lane; i < to; i += 32) {
        const unsigned *flag = x.flags + chunk * x.slices + i;
        unsigned polls = 0;
        while (static_cast<int>(gpu::ld_acquire(flag) - wanted) < 0)
            if (++polls >= x.patience || (polls % 1024 == 0 && gpu::ld_acquire(x.status))) {
                atomicExch(x.status, 1u);
                atomicExch(x.stop, 1u);
                break;
            }
    }
    __syncwarp(); // all lanes may read
}

static __device__ __forceinline__ uint4 *slot_of(const Exchange &x, int parity, int chunk, int parts)
{
    return x.slots + static_cast<size_t>(parity * x.chunks + chunk) * (x.k_steps * parts * STEP_LANES);
}

// Two neighbouring units (unit even) of one batch row go into one word of a step: lane (row % 8, unit / 2 % 4), there word
// (row / 8, unit % 16 / 8). STEP: the step of K that holds the unit.
template <class F> static __device__ __forceinline__ uint32_t *word_of(uint4 *slot, int step, int unit, int row)
{
    return reinterpret_cast<uint32_t *>(slot + step * (F::PARTS * STEP_LANES)) + ((row % 8) * 4 + unit / 2 % 4) * 4 +
           row / 8 * 2 + unit % 16 / 8;
}
template <class F>
static __device__ __forceinline__ void publish(uint4 *slot, int step, int unit, int row, float a, float b)
{
    uint32_t w[F::PARTS];
    F::words(w, a, b);
    uint32_t *words = word_of<F>(slot, step, unit, row);
#pragma unroll
    for (int part = 0; part < F::PARTS; part++)
        words[part * STEP_LANES * 4] = w[part];
}

// ---- the product: this warp's share, a step of K at a time
template <class L> struct Multiply {
    using F = typename L::Format;
    int steps;            // of this warp; the first RESIDENT with weights in registers
    const uint4 *further; // shared memory: weights [PARTS][TILES][steps - RESIDENT][32], from this lane on

    // From all further weights of the block.
    __device__ __forceinline__ Multiply(int thread, int steps_, const uint4 *further_) : steps(steps_)
    {
        further = further_ + thread / 32 * (L::PARTS * L::TILES * (steps - L::RESIDENT) * 32) + thread % 32;
    }
    static __device__ __forceinline__ void multiply(float (&sum)[2][4], const uint32_t (&a)[4], const uint4 &b)
    {
        const uint32_t low[2] = {b.x, b.y}, high[2] = {b.z, b.w};
        F::mma(sum[0], a, low);
        F::mma(sum[1], a, high);
    }
    // One step of K with weights in registers; b: its numbers for this lane.
    __device__ __forceinline__ void step(float (&sum)[L::TILES][2][4], const Weights<L> &w, int k, const uint4 *b) const
    {
        step_high(sum, w, k, b[0]);
        if (L::PARTS == 2)
            step_low(sum, w, k, b[STEP_LANES]);
    }
    static __device__ __forceinline__ void step_high(float (&sum)[L::TILES][2][4], const Weights<L> &w, int k,
                                                     uint4 high)
    {
#pragma unroll
        for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
            for (int part = 0; part < L::PARTS; part++)
                multiply(sum[tile], w.a[part][tile][k], high);
    }
    static __device__ __forceinline__ void step_low(float (&sum)[L::TILES][2][4], const Weights<L> &w, int k, uint4 low)
    {
#pragma unroll
        for (int tile = 0; tile < L::TILES; tile++)
            multiply(sum[tile], w.a[0][tile][k], low);
    }
    // The same with weights in shared memory.
    __device__ __forceinline__ void far_step(float (&sum)[L::TILES][2][4], int k, const uint4 *b) const
    {
        far_step(sum, k, b[0], b[(L::PARTS - 1) * STEP_LANES]);
    }
    __device__ __forceinline__ void far_step(float (&sum)[L::TILES][2][4], int k, uint4 high, uint4 low) const
    {
#pragma unroll
        for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
            for (int part = 0; part < L::PARTS; part++) {
                const uint4 w = further[((part * L::TILES + tile) * (steps - L::RESIDENT) + k - L::RESIDENT) * 32];
                const uint32_t a[4] = {w.x, w.y, w.z, w.w};
                multiply(sum[tile], a, high);
                if (L::PARTS == 2 && part == 0)
                    multiply(sum[tile], a, low);
            }
    }
    // With one tile, steps of odd number have sums of their own: two sums alone would leave the tensor cores waiting for each other's ends.
    static constexpr bool TWO_CHAINS = L::TILES == 1;
    static __device__ __forceinline__ void add(float (&sum)[L::TILES][2][4], const float (&odd)[L::TILES][2][4])
    {
#pragma unroll
        for (int tile = 0; TWO_CHAINS && tile < L::TILES; tile++)
#pragma unroll
            for (int i = 0; i < 8; i++)
                sum[tile][i / 4][i % 4] += odd[tile][i / 4][i % 4];
    }
};

// The same with what was exchanged coming in pieces.
template <class L> struct Product : Multiply<L> {
    using Base = Multiply<L>;
    using Base::steps;
    const uint4 *slot;  // what this thread copies of this warp's share
    uint4 *copies;      // shared memory: where to
    const uint4 *stage; // shared memory: [DEPTH][PIECE_LANES] of this share, from this lane on

    // From the whole slot, all stages and all further weights of the block.
    __device__ __forceinline__ Product(int thread, int steps_, const uint4 *slot_, uint4 *stage_, const uint4 *further_)
        : Base(thread, steps_, further_)
    {
        const int lane = thread % 32, across = thread / 32 % L::ACROSS, k_warp = thread / 32 / L::ACROSS;
        slot = slot_ + k_warp * steps * (L::PARTS * STEP_LANES) + across * 32 + lane;
        copies = stage_ + k_warp * L::DEPTH * L::PIECE_LANES + across * 32 + lane;
        stage = stage_ + k_warp * L::DEPTH * L::PIECE_LANES + lane;
    }
    // Starts the copy of piece p.
    __device__ __forceinline__ void issue(int p) const
    {
#pragma unroll
        for (int i = 0; i < L::PIECE_LANES / 32 / L::ACROSS; i++)
            gpu::cp_async16(copies + p % L::DEPTH * L::PIECE_LANES + i * L::ACROSS * 32,
                            slot + p * L::PIECE_LANES + i * L::ACROSS * 32);
    }
    // A piece is there for all warps that read it; or all are done with what is to be overwritten.
    static __device__ __forceinline__ void meet()
    {
        if (L::ACROSS > 1)
            __syncthreads();
        else
            __syncwarp();
    }
    __device__ __forceinline__ void begin() const
    {
#pragma unroll
        for (int p = 0; p < L::DEPTH; p++) {
            issue(p);
            gpu::cp_async_commit();
        }
    }
    // Behind piece p: the copy of the one that takes its place.
    __device__ __forceinline__ void follow(int p) const
    {
        if (p + L::DEPTH < L::RESIDENT / L::PIECE || p + L::DEPTH < steps / L::PIECE) {
            meet();
            issue(p + L::DEPTH);
        }
        gpu::cp_async_commit();
    }
    // sum += W x. Between begin() and run() the caller has committed exactly one group of its own copies.
    __device__ __forceinline__ void run(float (&sum)[L::TILES][2][4], const Weights<L> &w) const
    {
        float odd[L::TILES][2][4] = {};
#pragma unroll
        for (int p = 0; p < L::RESIDENT / L::PIECE; p++) {
            // Later groups: the pieces under way, and until the first ones are all here the caller's own.
            if (p < L::DEPTH)
                gpu::cp_async_wait<L::DEPTH>();
            else
                gpu::cp_async_wait<L::DEPTH - 1>();
            meet();
#pragma unroll
            for (int i = 0; i < L::PIECE; i++)
                Base::step(Base::TWO_CHAINS && (p * L::PIECE + i) % 2 ? odd : sum, w, p * L::PIECE + i,
                           stage + (p % L::DEPTH * L::PIECE + i) * (L::PARTS * STEP_LANES));
            follow(p);
        }
#pragma unroll 1
        for (int p = L::RESIDENT / L::PIECE; p < steps / L::PIECE; p++) {
            gpu::cp_async_wait<L::DEPTH - 1>();
            meet();
#pragma unroll
            for (int i = 0; i < L::PIECE; i++)
                Base::far_step(sum, p * L::PIECE + i, stage + (p % L::DEPTH * L::PIECE + i) * (L::PARTS * STEP_LANES));
            follow(p);
        }
        Base::add(sum, odd);
    }
};

// ---- results. partial: shared memory [K_WARPS][GATES][ROWS][UNITS + 4]: rows of 20 or 36 numbers, so that neither the stores below nor
// the owners' loads meet in a bank. A warp's tiles are gates where GATES > 1, and else neighbouring units.
template <class L, int GATES, int UNITS>
static __device__ __forceinline__ void leave(float *partial, const float (&sum)[L::TILES][2][4])
{
    constexpr int LD = UNITS + 4;
    const int thread = gpu::thread_again(), lane = thread % 32, unit = lane / 4, row = lane % 4 * 2;
    const int across = thread / 32 % L::ACROSS, k_warp = thread / 32 / L::ACROSS;
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++) {
        const int gate = GATES > 1 ? tile : 0, first = (GATES > 1 ? across : tile) * 16;
#pragma unroll
        for (int n = 0; n < 2; n++) {
            float *to = partial + ((k_warp * GATES + gate) * ROWS + n * 8 + row) * LD + first + unit;
            to[0] = sum[tile][n][0];
            to[LD] = sum[tile][n][1];
            to[8] = sum[tile][n][2];
            to[LD + 8] = sum[tile][n][3];
        }
    }
}
// The two units at `unit` of one row and gate: all warps' shares, in the order of K.
template <class L, int GATES, int UNITS>
static __device__ __forceinline__ float2 gather(const float *partial, int gate, int row, int unit)
{
    constexpr int LD = UNITS + 4;
    float2 all = {0.0f, 0.0f};
#pragma unroll 4 // eight loads at once cost registers that hold weights
    for (int k = 0; k < L::K_WARPS; k++) {
        const float2 one = *reinterpret_cast<const float2 *>(partial + ((k * GATES + gate) * ROWS + row) * LD + unit);
        all.x += one.x;
        all.y += one.y;
    }
    return all;
}

// ---- owners: the first 8 * UNITS threads, each of two neighbouring units in one row of every chunk of the block
struct Owner {
    int thread;
    int row, unit;     // within chunk and slice
    int j;             // of all H units: j and j + 1
    bool mine, second; // this thread owns something that is there; j + 1 is there too
    bool wide;         // both, and 8-byte accesses are allowed
    bool has_place;    // this thread owns something, there or not
    // Whether its place is within a tile of units: others look at that, then.
    __device__ __forceinline__ bool has_words(int H) const
    {
        return has_place && j < (H + 15) / 16 * 16;
    }
};
template <int UNITS> static __device__ __forceinline__ Owner owner_of(int slice, int H, bool wide)
{
    Owner o;
    o.thread = gpu::thread_again();
    const int pair = o.thread % (UNITS / 2), rest = o.thread / (UNITS / 2);
    o.row = rest / 2 % 8 + rest % 2 * 8; // rows r and r + 8 go to one 16-byte piece of the exchange
    o.unit = 2 * pair;
    o.j = slice * UNITS + o.unit;
    o.has_place = rest < ROWS;
    o.mine = o.has_place && o.j < H;
    o.second = o.j + 1 < H;
    o.wide = wide && o.second;
    return o;
}
static __device__ __forceinline__ void copy_pair(float2 *to, const float *from, const Owner &o)
{
    if (o.wide) {
        gpu::cp_async_small<8>(to, from);
        return;
    }
    gpu::cp_async_small<4>(&to->x, from);
    if (o.second)
        gpu::cp_async_small<4>(&to->y, from + 1);
}
static __device__ __forceinline__ void store_pair(float *to, float2 v, const Owner &o)
{
    if (o.wide) {
        *reinterpret_cast<float2 *>(to) = v;
        return;
    }
    to[0] = v.x;
    if (o.second)
        to[1] = v.y;
}
// In format F, each part `low` items behind the one before.
template <class F>
static __device__ __forceinline__ void store_pair_narrow(uint16_t *to, int64_t low, float a, float b, const Owner &o)
{
    uint32_t w[F::PARTS];
    F::words(w, a, b);
#pragma unroll
    for (int part = 0; part < F::PARTS; part++, to += low) {
        if (o.wide) {
            *reinterpret_cast<uint32_t *>(to) = w[part];
            continue;
        }
        to[0] = static_cast<uint16_t>(w[part]);
        if (o.second)
            to[1] = static_cast<uint16_t>(w[part] >> 16);
    }
}
static __device__ __forceinline__ float2 load_pair(const float *from, const Owner &o)
{
    return {from[0], o.second ? from[1] : 0.0f};
}

// ---- memory of a workspace, and of a block
struct Places {
    size_t flags, slots, weights, bytes;            // offsets; the status word comes first
    size_t group_slots, group_flags, slice_weights; // of one group or slice, in 16-byte pieces, flags, 16-byte pieces
    int k_steps;
};
__host__ __device__ __forceinline__ Places places_of(const crnn_persist_plan &p)
{
    const bool back = p.direction == CRNN_PERSIST_BACKWARD;
    const int parts = p.precision == CRNN_PERSIST_SPLIT ? 2 : 1;
    const int k_warps = back ? WARPS : WARPS / p.tiles, warp_tiles = back ? p.tiles : 3;
    Places at;
    at.k_steps = k_warps * p.steps;
    at.group_flags = static_cast<size_t>(p.chunks) * p.slices;
    at.group_slots = static_cast<size_t>(p.slots * p.chunks) * (at.k_steps * parts * STEP_LANES);
    at.slice_weights = static_cast<size_t>(WARPS * warp_tiles * parts) * (p.steps * 32);
    at.flags = 256;
    at.slots = at.flags + (at.group_flags * p.groups * 4 + 255) / 256 * 256;
    at.weights = at.slots + at.group_slots * p.groups * 16;
    at.bytes = at.weights + at.slice_weights * p.slices * 16;
    return at;
}

// This warp's weights, from the packed form [slice][warp][PARTS][TILES][steps][32], to registers and to shared memory.
template <class L>
static __device__ __forceinline__ void load_weights(Weights<L> &w, uint4 *further, const uint4 *packed, int steps,
                                                    int thread)
{
    const int share = L::PARTS * L::TILES * 32, lane = thread % 32;
    packed += thread / 32 * (share * steps) + lane;
    further += thread / 32 * (share * (steps - L::RESIDENT)) + lane;
#pragma unroll
    for (int part = 0; part < L::PARTS; part++)
#pragma unroll
        for (int tile = 0; tile < L::TILES; tile++) {
            const uint4 *from = packed + (part * L::TILES + tile) * steps * 32;
#pragma unroll
            for (int k = 0; k < L::RESIDENT; k++) {
                const uint4 v = from[k * 32];
                w.a[part][tile][k][0] = v.x;
                w.a[part][tile][k][1] = v.y;
                w.a[part][tile][k][2] = v.z;
                w.a[part][tile][k][3] = v.w;
            }
            uint4 *to = further + (part * L::TILES + tile) * (steps - L::RESIDENT) * 32;
            for (int k = L::RESIDENT; k < steps; k++)
                to[(k - L::RESIDENT) * 32] = from[k * 32];
        }
}

// What a plan must know of a kernel; bytes of shared memory. No such kernel: fixed is 0.
struct Need {
    int fixed, a_chunk; // of a block, and for each chunk
    int a_step, piece;  // for each step beyond the resident ones; steps come in pieces of so many
    int warp_tiles, k_warps;
};
// Polls until a block gives up: at half a microsecond and more each, several seconds.
constexpr uint32_t PATIENCE = 1u << 23;

// Whether each row begins at a multiple of 8 bytes.
static inline bool even(std::initializer_list<int64_t> sizes)
{
    for (int64_t n : sizes)
        if (n % 2)
            return false;
    return true;
}
static inline bool aligned(std::initializer_list<const void *> pointers)
{
    for (const void *p : pointers)
        if (reinterpret_cast<uintptr_t>(p) % 8)
            return false;
    return true;
}

template <class L, class S> constexpr Need need_of()
{
    return {static_cast<int>(sizeof(S)),
            static_cast<int>(sizeof(float2)) * S::OWNERS,
            WARPS * L::PARTS * L::TILES * 32 * 16,
            L::PIECE,
            L::TILES,
            L::K_WARPS};
}
Need forward_need(const crnn_persist_plan &plan);
Need backward_need(const crnn_persist_plan &plan);

// A kernel of one layout, and its launch.
template <class Pass> struct Kernel {
    cudaError_t (*launch)(const Pass &, cudaStream_t);
    Need need;
};
template <class Pass, void (*KERNEL)(Pass)> cudaError_t launch_kernel(const Pass &p, cudaStream_t stream)
{
    const cudaError_t e = cudaFuncSetAttribute(KERNEL, cudaFuncAttributeMaxDynamicSharedMemorySize, p.plan.shared);
    if (e != cudaSuccess)
        return e;
    return gpu_launch(Pass::NAME, dim3(p.plan.slices, p.plan.groups), THREADS, p.plan.shared, stream, true,
                      p.plan.cluster, KERNEL, p);
}
template <class Pass>
cudaError_t launch(const Kernel<Pass> &kernel, Pass &p, crnn_persist_direction direction, cudaStream_t stream)
{
    if (!kernel.launch || p.plan.direction != direction)
        return cudaErrorInvalidValue;
    if (!p.a.patience)
        p.a.patience = PATIENCE;
    return kernel.launch(p, stream);
}

static __device__ __forceinline__ Exchange exchange_of(const crnn_persist_plan &p, void *workspace, unsigned patience,
                                                       unsigned *stop)
{
    auto *bytes = static_cast<unsigned char *>(workspace);
    const Places at = places_of(p);
    Exchange x;
    x.slots = reinterpret_cast<uint4 *>(bytes + at.slots) + blockIdx.y * at.group_slots;
    x.flags = reinterpret_cast<unsigned *>(bytes + at.flags) + blockIdx.y * at.group_flags;
    x.status = reinterpret_cast<unsigned *>(bytes);
    x.stop = stop;
    x.slices = p.slices;
    x.chunks = p.chunks;
    x.k_steps = at.k_steps;
    x.patience = patience;
    return x;
}
} // namespace persist
#endif
