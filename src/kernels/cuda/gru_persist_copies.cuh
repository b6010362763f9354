// gru_persist_copies.cuh - R in the order in which the persistent kernels read it, written tile by tile: each 16 x 16 tile of a gate is one
// fragment of the forward pass and one of the backward pass.
#ifndef CRNN_KERNELS_CUDA_GRU_PERSIST_COPIES_CUH
#define CRNN_KERNELS_CUDA_GRU_PERSIST_COPIES_CUH

#include "kernels/cuda/gru_persist.cuh"

namespace persist
{
constexpr int TILE = 16;
using Tile = float[TILE][TILE + 1]; // of one warp, in shared memory; 0 beyond H

// A tile's place in R: rows from 16 k on, units from 16 u on of one gate. Neighbours in a row follow each other.
struct Place {
    int k, gate, u;
    static __host__ __device__ __forceinline__ int across(int H)
    {
        return (H + TILE - 1) / TILE;
    }
    static __host__ __device__ __forceinline__ int count(int H)
    {
        return 3 * across(H) * across(H);
    }
    __device__ __forceinline__ Place(int number, int H)
        : k(number / across(H) / 3), gate(number / across(H) % 3), u(number % across(H))
    {
    }
};

// Of a copy [slice][warp][PARTS][warp_tiles][steps][32 lanes] x 16 bytes, which are A fragments of mma.m16n8k16: the one of this warp, tile
// and step. value(row, column) of A.
template <class F, class V>
static __device__ __forceinline__ void write_fragment(const crnn_persist_copy &copy, int slice, int warp,
                                                      int warp_tiles, int tile, int step, V value)
{
    const int lane = threadIdx.x % 32;
    uint32_t words[4][F::PARTS];
#pragma unroll
    for (int reg = 0; reg < 4; reg++) {
        const int row = lane / 4 + reg % 2 * 8, column = lane % 4 * 2 + reg / 2 * 8;
        F::words(words[reg], F::seen(value(row, column) * F::WEIGHTS), F::seen(value(row, column + 1) * F::WEIGHTS));
    }
    const int64_t first = (static_cast<int64_t>(slice) * WARPS + warp) * F::PARTS;
#pragma unroll
    for (int part = 0; part < F::PARTS; part++)
        static_cast<uint4 *>(copy.to)[(((first + part) * warp_tiles + tile) * copy.steps + step) * 32 + lane] =
            uint4{words[0][part], words[1][part], words[2][part], words[3][part]};
}

// A tile as it stands in R: each lane half a row.
template <class F>
static __device__ __forceinline__ void write_rows(const crnn_persist_copies &c, const Tile &tile, const Place &at)
{
    const int row = threadIdx.x % 32 / 2, column = threadIdx.x % 2 * 8, unit = at.u * TILE + column;
    const int64_t first = (static_cast<int64_t>(at.k) * TILE + row) * 3 * c.H + at.gate * c.H + unit,
                  low = static_cast<int64_t>(c.H) * 3 * c.H;
    if (at.k * TILE + row >= c.H)
        return;
    uint16_t *to = c.rows + first;
    const float *from = &tile[row][column];
    if (c.H % 8) { // rows begin anywhere
#pragma unroll 1
        for (int i = 0; i < 8 && unit + i < c.H; i++)
            F::write(to + i, low, from[i] * F::WEIGHTS);
    } else if (unit < c.H) {
        uint32_t words[4][F::PARTS];
#pragma unroll
        for (int i = 0; i < 4; i++)
            F::words(words[i], F::seen(from[2 * i] * F::WEIGHTS), F::seen(from[2 * i + 1] * F::WEIGHTS));
#pragma unroll
        for (int part = 0; part < F::PARTS; part++)
            *reinterpret_cast<uint4 *>(to + part * low) =
                uint4{words[0][part], words[1][part], words[2][part], words[3][part]};
    }
}

// One warp writes a tile that all of its lanes have filled. Forward: rows of A are a slice's units, one gate a tile, K the units of h.
// Backward: rows are the units of h, K goes over units' tiles and within each over the gates.
template <class F>
static __device__ __forceinline__ void write_tile(const crnn_persist_copies &c, const Tile &tile, const Place &at)
{
    __syncwarp();
    if (c.forward.to) {
        const int tiles = c.forward.tiles, steps = c.forward.steps, warp = at.k / steps * tiles + at.u % tiles;
        write_fragment<F>(c.forward, at.u / tiles, warp, 3, at.gate, at.k % steps,
                          [&](int row, int column) { return tile[column][row]; });
    }
    if (c.backward.to) {
        const int tiles = c.backward.tiles, steps = c.backward.steps, k = at.u * 3 + at.gate;
        write_fragment<F>(c.backward, at.k / tiles, k / steps, tiles, at.k % tiles, k % steps,
                          [&](int row, int column) { return tile[row][column]; });
    }
    if (c.rows)
        write_rows<F>(c, tile, at);
    __syncwarp(); // before the tile is filled again
}
} // namespace persist
#endif
