// write.cuh - how the kernel that writes shares out its work and its memory.
#ifndef CRNN_KERNELS_CUDA_WRITE_CUH
#define CRNN_KERNELS_CUDA_WRITE_CUH

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/write.h"

namespace writing
{
constexpr int THREADS = 256, WARPS = 8;
constexpr int UNITS = 8, COLUMNS = 3 * UNITS; // of a tile of gates, columns z, r, h of each unit in turn
constexpr int LETTERS = 4;                    // of a tile of logits
constexpr int PIECE = COLUMNS * THREADS, LETTERS_PIECE = LETTERS * THREADS; // float4 of one quad of a tile

__host__ __device__ __forceinline__ int
matrices(const crnn_write_plan &p) // R of each layer, then K of each but the first
{
    return 2 * p.shape.L - 1;
}
__host__ __device__ __forceinline__ int slice_units(const crnn_write_plan &p)
{
    return UNITS * p.tiles;
}
__host__ __device__ __forceinline__ int all_units(const crnn_write_plan &p)
{
    return slice_units(p) * p.slices;
}
__host__ __device__ __forceinline__ int letter_tiles(const crnn_write_plan &p)
{
    return (p.shape.V + LETTERS - 1) / LETTERS;
}
__host__ __device__ __forceinline__ int own_letter_tiles(const crnn_write_plan &p) // of a slice, at most
{
    return (letter_tiles(p) + p.slices - 1) / p.slices;
}
__host__ __device__ __forceinline__ int slots(const crnn_write_plan &p) // of texts, in a group
{
    return p.chunks * p.texts;
}

// Offsets in a workspace, in bytes.
struct Places {
    size_t states, logits, gates, letters, biases, table, letter_bias, first_state, first_logits, bytes;
};
__host__ __device__ __forceinline__ size_t place(size_t &end, size_t bytes)
{
    const size_t at = end;
    end += (bytes + 255) / 256 * 256;
    return at;
}
__host__ __device__ __forceinline__ Places places_of(const crnn_write_plan &p)
{
    const size_t L = p.shape.L, V = p.shape.V, words = sizeof(uint64_t), number = sizeof(float);
    const size_t texts = static_cast<size_t>(p.groups) * slots(p), rows = static_cast<size_t>(all_units(p)) * 3;
    Places at;
    size_t end = 256;                                                  // the status word comes first
    at.states = place(end, 2 * L * texts * all_units(p) * words);      // [L][2][group][slot][unit]
    at.logits = place(end, texts * letter_tiles(p) * LETTERS * words); // [group][slot][V]
    // [matrix][slice][tile][quad][24][256] float4
    at.gates = place(end, static_cast<size_t>(matrices(p)) * p.slices * p.tiles * p.quads * PIECE * sizeof(float4));
    // [tile][quad][4][256] float4
    at.letters = place(end, static_cast<size_t>(letter_tiles(p)) * p.quads * LETTERS_PIECE * sizeof(float4));
    at.biases = place(end, L * 2 * rows * number); // [L][slice][2][3 units]
    at.table = place(end, V * rows * number);      // [slice][V][3 units]
    at.letter_bias = place(end, V * number);       // [V]
    at.first_state = place(end, L * p.shape.count * p.shape.H * number);
    at.first_logits = place(end, p.shape.count * V * number);
    at.bytes = end;
    return at;
}

// Offsets in a block's shared memory, in float4, and behind them the weights.
struct Parts {
    int h, partial, recurrent, states, input, likelihoods, biases, weights, letters, table, end;
};
__host__ __device__ __forceinline__ int part(int &end, int numbers)
{
    const int at = end;
    end += (numbers + 3) / 4;
    return at;
}
__host__ __device__ __forceinline__ Parts parts_of(const crnn_write_plan &p)
{
    const int rows = 3 * slice_units(p), L = p.shape.L;
    Parts at;
    int end = 0;
    at.h = part(end, 4 * p.texts * p.quads * THREADS);        // [text][quad][thread] float4, each thread's own
    at.partial = part(end, 2 * WARPS * p.texts * COLUMNS);    // [2][warp][text][column]
    at.recurrent = part(end, L * slots(p) * rows);            // [L][slot][3 units] h R
    at.states = part(end, L * slots(p) * slice_units(p));     // [L][slot][unit]
    at.input = part(end, p.texts * rows);                     // [text][3 units] x K + b0 of a layer
    at.likelihoods = part(end, p.texts * p.shape.V);          // [text][V]
    at.biases = part(end, L * 2 * rows);                      // [L][2][3 units]
    at.weights = part(end, 4 * max(p.pieces - 1, 0) * PIECE); // [piece][24][256] float4
    at.letters = part(end, p.near_letters ? 4 * own_letter_tiles(p) * p.quads * LETTERS_PIECE : 0);
    at.table = part(end, p.near_table ? p.shape.V * rows : 0);
    at.end = end;
    return at;
}

struct Pass {
    crnn_write_pass a;
    crnn_write_plan plan;
    Places places;
    Parts parts;
};
} // namespace writing
#endif
