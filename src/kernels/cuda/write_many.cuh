// write_many.cuh - how the kernel that writes many texts shares out its memory.
#ifndef CRNN_KERNELS_CUDA_WRITE_MANY_CUH
#define CRNN_KERNELS_CUDA_WRITE_MANY_CUH

#include "kernels/cuda/gru_persist_copies.cuh"
#include "kernels/cuda/write_many.h"

namespace writing_many
{
using persist::ROWS, persist::THREADS, persist::WARPS, persist::STEP_LANES;

constexpr int LETTERS = 16; // of a tile of logits

template <class F, int TILES, int RESIDENT> using UnitsLayout = persist::Layout<F, 3, TILES, 1, RESIDENT>;
// Each warp multiplies an eighth of K; what it holds of that in registers is not used.
template <class F> using LettersLayout = persist::Layout<F, 1, 1, 1, 4>;

__host__ __device__ __forceinline__ int parts(const crnn_write_many_plan &p)
{
    return p.pass.precision == CRNN_PERSIST_SPLIT ? 2 : 1;
}
__host__ __device__ __forceinline__ int slice_units(const crnn_write_many_plan &p)
{
    return 16 * p.pass.tiles;
}
__host__ __device__ __forceinline__ int letter_tiles(const crnn_write_many_plan &p)
{
    return (p.shape.V + LETTERS - 1) / LETTERS;
}
__host__ __device__ __forceinline__ int own_letter_tiles(const crnn_write_many_plan &p) // of a slice, at most
{
    return (letter_tiles(p) + p.pass.slices - 1) / p.pass.slices;
}
__host__ __device__ __forceinline__ int k_steps(const crnn_write_many_plan &p) // of 16 units, that are there or not
{
    return WARPS / p.pass.tiles * p.pass.steps;
}
__host__ __device__ __forceinline__ int warp_steps(const crnn_write_many_plan &p) // of them, a warp's share at most
{
    return (k_steps(p) + WARPS - 1) / WARPS;
}
// 16-byte pieces: of a slot of the exchange, of the weights of a tile of logits, of those of a slice that have no room in registers.
__host__ __device__ __forceinline__ int slot_size(const crnn_write_many_plan &p)
{
    return k_steps(p) * parts(p) * STEP_LANES;
}
__host__ __device__ __forceinline__ int letters_size(const crnn_write_many_plan &p)
{
    return WARPS * warp_steps(p) * parts(p) * STEP_LANES;
}
__host__ __device__ __forceinline__ int further_size(const crnn_write_many_plan &p)
{
    return WARPS * 3 * (p.pass.steps - p.pass.resident) * parts(p) * STEP_LANES;
}
__host__ __device__ __forceinline__ int table_size(const crnn_write_many_plan &p) // floats, of a slice
{
    return p.shape.V * 3 * slice_units(p);
}

// Offsets in a workspace, in bytes. It begins with that of the pass.
struct Places {
    size_t logits, letters, letter_bias, table, b1, first_state, first_logits, bytes;
};
__host__ __device__ __forceinline__ Places places_of(const crnn_write_many_plan &p)
{
    const size_t H = p.shape.H, V = p.shape.V, count = p.shape.count, number = sizeof(float);
    const size_t slots = static_cast<size_t>(p.pass.groups) * p.pass.chunks * ROWS, letters = letter_tiles(p);
    Places at;
    size_t end = persist::places_of(p.pass).bytes;
    const auto place = [&end](size_t bytes) {
        const size_t begin = end;
        end += (bytes + 255) / 256 * 256;
        return begin;
    };
    at.logits = place(slots * letters * LETTERS * sizeof(uint64_t)); // [group][chunk][row][V]
    at.letters = place(letters * letters_size(p) * sizeof(uint4));   // [tile][warp][PARTS][steps][32]
    at.letter_bias = place(letters * LETTERS * number);
    at.table = place(p.pass.slices * table_size(p) * number);   // [slice][V][3][units], gates z, r, n
    at.b1 = place(p.pass.slices * 3 * slice_units(p) * number); // [slice][3][units], z, r, n
    at.first_state = place(count * H * number);
    at.first_logits = place(count * V * number);
    at.bytes = end;
    return at;
}

// Offsets in a block's shared memory, in 16-byte pieces.
struct Parts {
    int partial, letter_partial, rows, states, recurrent, b1, landing, further, letters, table, end;
};
__host__ __device__ __forceinline__ Parts parts_of(const crnn_write_many_plan &p)
{
    const int units = slice_units(p), owners = units / 2 * ROWS;
    Parts at;
    int end = 4; // what write_many.cu has there
    const auto place = [&end](int pieces) {
        const int begin = end;
        end += pieces;
        return begin;
    };
    const auto floats = [](int n) { return (n + 3) / 4; };
    at.partial = place(floats(WARPS / p.pass.tiles * 3 * ROWS * (units + 4)));
    // [1 or 2] shares of the sums of a tile of logits, by turns; and [row][V] logits, then likelihoods: never both.
    const int buffers = own_letter_tiles(p) > 1 ? 2 : 1;
    at.letter_partial = at.rows = place(max(floats(buffers * WARPS * ROWS * (LETTERS + 4)), floats(ROWS * p.shape.V)));
    at.states = place(floats(p.pass.chunks * owners * 2));        // [chunk][owner] two units
    at.recurrent = place(floats(p.pass.chunks * 3 * owners * 2)); // [chunk][3][owner]
    at.b1 = place(floats(3 * units));
    at.landing = place(slot_size(p));
    at.further = place(further_size(p));
    at.letters = place(p.near_letters ? own_letter_tiles(p) * letters_size(p) : 0);
    at.table = place(p.near_table ? floats(table_size(p)) : 0);
    at.end = end;
    return at;
}

struct Pass {
    crnn_write_pass a;
    crnn_write_many_plan plan;
    Places places;
    Parts parts;
};

// Whether a kernel of that layout has been made.
bool made(const crnn_persist_plan &pass);
} // namespace writing_many
#endif
