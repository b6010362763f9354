// head.cuh - what the kernels of head.h share: the plan, scales, and a block's product of 64 rows by all characters, over any K.
//
// The product is that of 8 warps: 2 of 32 rows each x 4 over tiles of 8 columns, every fourth tile to one warp. A goes from float32 in global
// memory through registers, two pieces of K ahead, into shared memory as fragments of mma.m16n8k16; B lies in global memory in the order of
// its fragments, [step of K][tile][part][lane] of 8 bytes, and comes through cp.async.
#ifndef CRNN_KERNELS_CUDA_HEAD_CUH
#define CRNN_KERNELS_CUDA_HEAD_CUH

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/head.h"

namespace head
{
constexpr int THREADS = 256, WARPS = 8, ROWS = 64;
constexpr int ROW_TILES = 4; // of 16 rows, two to a warp
constexpr int COLUMN_WARPS = 4;
constexpr int STEPS_OF_ROWS = ROWS / 16; // steps of K where K goes over rows

// What is multiplied is x * 2^STATES; each column of W and each row of dlogits times the power of two by which its largest number is near
// 2^15; and, for dW, dlogits * 2^gradients, of which the largest possible one becomes 2^15.
constexpr int STATES = 8, LARGEST = 15;
constexpr int GROUP = 32; // columns of dx that a warp makes at a time

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

// What each kernel is given.
struct Pass {
    crnn_head a;
    Plan p;
    bool wide; // 8-byte accesses to rows of H floats are allowed
    template <class T> __device__ __forceinline__ T *at(size_t place) const
    {
        return reinterpret_cast<T *>(static_cast<unsigned char *>(a.scratch) + place);
    }
};

static __device__ __forceinline__ float power_of_two(int exponent)
{
    return __uint_as_float(static_cast<unsigned>(min(max(exponent, -126), 127) + 127) << 23);
}
// By how much numbers up to `largest` are doubled; a power of two itself remains a normal number, undone too.
static __device__ __forceinline__ int doublings_for(float largest)
{
    int exponent = 0;
    if (isfinite(largest))
        frexpf(largest, &exponent); // 0 of 0
    return min(max(LARGEST - exponent, -112), 112);
}

// ---- the product
// TILES: column tiles of a warp at most. A piece is STEPS steps of K, each of 16.
template <class F, int TILES_> struct Shape {
    using Format = F;
    static constexpr int TILES = TILES_, PARTS = F::PARTS, COLUMNS = COLUMN_WARPS * TILES * 8;
    static constexpr int STEPS = (TILES > 3 ? 2 : 4) / PARTS;
    static constexpr int PAIRS = STEPS * 8; // of neighbours along K, of a row's piece
    // Where K goes along rows, a warp brings so many pairs of each of some rows: whole sectors, two to a bank when they are stored.
    static constexpr int ACROSS = PAIRS < 16 ? PAIRS : 16;
    static constexpr int ITEMS = ROWS * PAIRS / THREADS; // pairs that each thread brings
    static constexpr int A_PIECE = STEPS * ROW_TILES * PARTS * 32;
    static constexpr int B_STEP = COLUMN_WARPS * TILES * PARTS * 16;
    struct Stages {
        uint4 a[2][A_PIECE];
        uint4 b[3][STEPS * B_STEP];
    };
};

// Where in a fragment of A the lane for (row of 8, pair of 4) has its 16 bytes: neither stores of words nor loads meet in a bank.
static __device__ __forceinline__ int place_of(int row, int pair)
{
    return row * 4 + (pair ^ row / 2);
}

static __device__ __forceinline__ void mma(float (&sum)[4], const uint4 &a, const uint2 &b)
{
    const uint32_t rows[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b.x, b.y};
    gpu::mma_m16n8k16_f16(sum, rows, columns, sum);
}
// All that counts of a product of numbers in PARTS parts: low times low does not. The small ones come first.
template <int PARTS>
static __device__ __forceinline__ void mma(float (&sum)[4], const uint4 (&a)[PARTS], const uint2 (&b)[PARTS])
{
    if (PARTS == 2) {
        mma(sum, a[PARTS - 1], b[0]);
        mma(sum, a[0], b[PARTS - 1]);
    }
    mma(sum, a[0], b[0]);
}

// S: a Shape. Source: SCALE; fetch<S>(piece, item) the pair that this thread brings as its item, and row_of<S>(item), pair_of<S>(item)
// where it goes. sum[i][j]: tile 2 (warp / 4) + i of rows, tile 4 j + warp % 4 of columns.
template <class S, class Source> struct Product {
    using F = typename S::Format;
    typename S::Stages &stages;
    const Source &source;
    const uint4 *b;
    int tiles, pieces;

    __device__ __forceinline__ void fetch(float2 (&values)[S::ITEMS], int piece) const
    {
#pragma unroll
        for (int item = 0; item < S::ITEMS; item++)
            values[item] = source.template fetch<S>(piece, item);
    }
    __device__ __forceinline__ void put(const float2 (&values)[S::ITEMS], int piece) const
    {
        uint32_t *to = reinterpret_cast<uint32_t *>(stages.a[piece % 2]);
#pragma unroll
        for (int item = 0; item < S::ITEMS; item++) {
            const int row = Source::template row_of<S>(item), pair = Source::template pair_of<S>(item);
            const int fragment = (pair / 8 * ROW_TILES + row / 16) * S::PARTS;
            const int word = place_of(row % 8, pair % 4) * 4 + row % 16 / 8 + pair % 8 / 4 * 2;
            uint32_t w[S::PARTS];
            F::words(w, values[item].x * Source::SCALE, values[item].y * Source::SCALE);
#pragma unroll
            for (int part = 0; part < S::PARTS; part++)
                to[(fragment + part) * 128 + word] = w[part];
        }
    }
    // Starts the copy of a piece of B; one group, even where there is no such piece.
    __device__ __forceinline__ void copy(int piece) const
    {
        const int n = piece < pieces ? S::STEPS * tiles * S::PARTS * 16 : 0;
        const uint4 *from = b + static_cast<int64_t>(piece) * n;
        for (int i = threadIdx.x; i < n; i += THREADS)
            gpu::cp_async16(&stages.b[piece % 3][i], from + i);
        gpu::cp_async_commit();
    }
    __device__ __forceinline__ void multiply(float (&sum)[2][S::TILES][4], int piece) const
    {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const uint4 *a = stages.a[piece % 2] + place_of(lane / 4, lane % 4);
        const uint2 *from = reinterpret_cast<const uint2 *>(stages.b[piece % 3]) + lane;
#pragma unroll
        for (int step = 0; step < S::STEPS; step++) {
            uint4 rows[2][S::PARTS];
#pragma unroll
            for (int i = 0; i < 2 * S::PARTS; i++)
                rows[i / S::PARTS][i % S::PARTS] =
                    a[((step * ROW_TILES + warp / COLUMN_WARPS * 2) * S::PARTS + i) * 32];
#pragma unroll
            for (int j = 0; j < S::TILES; j++) {
                const int tile = j * COLUMN_WARPS + warp % COLUMN_WARPS;
                if (tile >= tiles)
                    break;
                uint2 column[S::PARTS];
#pragma unroll
                for (int part = 0; part < S::PARTS; part++)
                    column[part] = from[((step * tiles + tile) * S::PARTS + part) * 32];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    mma(sum[i][j], rows[i], column);
            }
        }
    }
    // Tensor cores cut off what they cannot hold, so where that shows they add up one piece alone.
    __device__ __forceinline__ void add(float (&sum)[2][S::TILES][4], int piece) const
    {
        if (S::PARTS == 1) {
            multiply(sum, piece);
            return;
        }
        float share[2][S::TILES][4] = {};
        multiply(share, piece);
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < S::TILES; j++)
#pragma unroll
                for (int k = 0; k < 4; k++)
                    sum[i][j][k] += share[i][j][k];
    }
    // `values` hold this piece of A; then the one after the next.
    __device__ __forceinline__ void step(float (&sum)[2][S::TILES][4], float2 (&values)[S::ITEMS], int piece) const
    {
        put(values, piece);
        gpu::cp_async_wait<1>(); // the copy of the next piece may still be under way
        __syncthreads();         // this piece is here, and the one before is read
        if (piece + 2 < pieces)
            fetch(values, piece + 2);
        copy(piece + 2);
        add(sum, piece);
    }
    // sum += A B. When it returns, other warps may still read the stages.
    __device__ __forceinline__ void run(float (&sum)[2][S::TILES][4]) const
    {
        float2 even[S::ITEMS], odd[S::ITEMS];
        fetch(even, 0);
        if (pieces > 1)
            fetch(odd, 1);
        copy(0);
        copy(1);
        for (int piece = 0; piece < pieces; piece += 2) {
            step(sum, even, piece);
            if (piece + 1 < pieces)
                step(sum, odd, piece + 1);
        }
    }
};
} // namespace head
#endif
