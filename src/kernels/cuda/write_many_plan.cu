// write_many_plan.cu - how the kernel that writes many texts is shared out, and its weights in the order in which it reads them.
#include "kernels/cuda/write_many.cuh"

using namespace writing_many;

namespace
{
constexpr int TILE = persist::TILE;

// ---- weights. A warp a tile of 16 x 16.
// R [H,3H], gates z, r, n; the copies want n, z, r.
template <class F>
__global__ void __launch_bounds__(THREADS, 1) pack_units(const __grid_constant__ crnn_persist_copies c)
{
    SHARED(persist::Tile, tiles, [WARPS]);
    const int lane = threadIdx.x % 32, number = blockIdx.x * WARPS + threadIdx.x / 32;
    if (number >= persist::Place::count(c.H))
        return;
    const persist::Place at(number, c.H);
    persist::Tile &tile = tiles[threadIdx.x / 32];
    for (int i = lane; i < TILE * TILE; i += 32) {
        const int k = at.k * TILE + i / TILE, unit = at.u * TILE + i % TILE;
        tile[i / TILE][i % TILE] = k < c.H && unit < c.H ? c.R[k * c.ldr + (at.gate + 2) % 3 * c.H + unit] : 0.0f;
    }
    persist::write_tile<F>(c, tile, at);
}
// W [H,V]: rows of A are characters.
template <class F>
__global__ void __launch_bounds__(THREADS, 1)
    pack_letters(const __grid_constant__ crnn_persist_copy copy, const float *W, int H, int V)
{
    SHARED(persist::Tile, tiles, [WARPS]);
    const int lane = threadIdx.x % 32, k = blockIdx.x * WARPS + threadIdx.x / 32, letters = blockIdx.y;
    if (k >= WARPS * copy.steps)
        return;
    persist::Tile &tile = tiles[threadIdx.x / 32];
    for (int i = lane; i < TILE * TILE; i += 32) {
        const int unit = k * TILE + i / TILE, v = letters * TILE + i % TILE;
        tile[i / TILE][i % TILE] = unit < H && v < V ? W[static_cast<int64_t>(unit) * V + v] : 0.0f;
    }
    __syncwarp();
    persist::write_fragment<F>(copy, letters, k / copy.steps, 1, 0, k % copy.steps,
                               [&](int row, int column) { return tile[column][row]; });
}
// [rows,3H] to [slice][rows][3][units], with zeros for units that are not there.
__global__ void __launch_bounds__(THREADS, 1)
    pack_gates(float *to, const float *from, int64_t rows, int H, int units, int slices)
{
    const int64_t all = slices * rows * 3 * units;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < all;
         i += static_cast<int64_t>(gridDim.x) * THREADS) {
        const int64_t gate = i / units % 3, row = i / units / 3 % rows;
        const int64_t unit = i / units / 3 / rows * units + i % units;
        to[i] = unit < H ? from[(row * 3 + gate) * H + unit] : 0.0f;
    }
}

// ---- plans
// Fills in what follows from the shape, the precision, groups, tiles and resident; false: it does not fit.
bool complete(crnn_write_many_plan &p, const crnn_persist_gpu &gpu)
{
    crnn_persist_plan &pass = p.pass;
    if (!made(pass))
        return false;
    const int tiles = (p.shape.H + TILE - 1) / TILE, k_warps = WARPS / pass.tiles;
    pass.slices = (tiles + pass.tiles - 1) / pass.tiles;
    pass.chunks = (p.shape.count + pass.groups * ROWS - 1) / (pass.groups * ROWS);
    pass.steps = max(pass.resident, (tiles + k_warps - 1) / k_warps);
    pass.slots = 2;
    if (pass.groups * static_cast<int64_t>(pass.slices) > gpu.sms || pass.chunks > THREADS)
        return false;
    const int64_t room = gpu.shared / static_cast<int64_t>(sizeof(uint4));
    p.near_letters = p.near_table = false;
    // What cannot be counted in 32 bits has no room either.
    if (static_cast<int64_t>(ROWS) * p.shape.V / 4 > room ||
        slot_size(p) + static_cast<int64_t>(further_size(p)) > room || parts_of(p).end > room)
        return false;
    const int64_t table = (static_cast<int64_t>(table_size(p)) + 3) / 4;
    p.near_letters = static_cast<int64_t>(own_letter_tiles(p)) * letters_size(p) <= room - parts_of(p).end;
    p.near_table = table <= room - parts_of(p).end;
    pass.shared = static_cast<int32_t>(parts_of(p).end * sizeof(uint4));
    return true;
}

// Clocks of a step, from the figures of docs/PERFORMANCE.md.
double estimate(const crnn_write_many_plan &p)
{
    const double round = 900, drawing = 700, gates = 450,
                 barriers = 250;                            // a round: from a store to a poll elsewhere that finds it
    const double mma = 8, from_shared = 4, from_cache = 48; // as in gru_persist.cu
    const int steps = p.pass.steps, products = parts(p) == 2 ? 3 : 1;
    const double copy = slot_size(p) * 16.0 / from_cache;
    const double multiply = 2.0 * warp_steps(p) * 2 * products * mma,
                 weights = static_cast<double>(warp_steps(p)) * parts(p) * WARPS * from_shared;
    const double letters =
        own_letter_tiles(p) * ((multiply > weights ? multiply : weights) * (p.near_letters ? 1 : 2) + 150);
    const double units = 2.0 * steps * 3 * 2 * products * mma +
                         static_cast<double>(steps - p.pass.resident) * 3 * parts(p) * WARPS * from_shared;
    const double before = copy + letters, meanwhile = units + barriers, after = drawing + gates;
    const double work = p.pass.chunks * (before + meanwhile + after);
    const double alone = round + before + (meanwhile > round ? meanwhile : round) + after; // one chunk waits twice
    return work > alone ? work : alone;
}
} // namespace

bool crnn_write_many_plan_for(crnn_write_many_plan *plan, const crnn_writer_shape *shape,
                              crnn_persist_precision precision, const crnn_persist_gpu *gpu,
                              const crnn_persist_wish *wish)
{
    const crnn_persist_wish free_to_choose = {}, &w = wish ? *wish : free_to_choose;
    bool found = false;
    if (shape->L != 1 || shape->count < 1 || gpu->compute_major < 8 || precision == CRNN_PERSIST_BF16)
        return false;
    const int most = min((shape->count + ROWS - 1) / ROWS, gpu->sms);
    for (int tiles = w.tiles ? w.tiles : 1; tiles <= (w.tiles ? w.tiles : 2); tiles++)
        for (int groups = w.groups ? w.groups : 1; groups <= (w.groups ? w.groups : most); groups++)
            for (int resident : {4, 7, 8, 12, 16}) {
                crnn_write_many_plan p = {};
                p.shape = *shape;
                p.pass.direction = CRNN_PERSIST_FORWARD;
                p.pass.precision = precision;
                p.pass.B = shape->count;
                p.pass.H = shape->H;
                p.pass.groups = groups;
                p.pass.tiles = tiles;
                p.pass.resident = resident;
                p.pass.cluster = 1;
                if (!complete(p, *gpu))
                    continue;
                p.estimate = estimate(p);
                if (!found || p.estimate < plan->estimate)
                    *plan = p;
                found = true;
            }
    return found;
}

size_t crnn_write_many_bytes(const crnn_write_many_plan *plan)
{
    return places_of(*plan).bytes;
}

cudaError_t crnn_write_many_pack(const crnn_write_many_plan *plan, void *workspace, const float *weights,
                                 const float *table, cudaStream_t stream)
{
    const crnn_write_many_plan &p = *plan;
    const Places at = places_of(p);
    auto *bytes = static_cast<unsigned char *>(workspace);
    const int H = p.shape.H, V = p.shape.V, units = slice_units(p), slices = p.pass.slices;
    const int64_t H3 = 3 * static_cast<int64_t>(H);
    const float *R = weights + static_cast<int64_t>(V) * p.shape.E + p.shape.E * H3, *b1 = R + H * H3 + H3,
                *W = b1 + H3;
    const crnn_persist_copies copies = {R, H3, H, crnn_persist_copy_of(&p.pass, workspace), {nullptr, 0, 0}, nullptr};
    const crnn_persist_copy letters = {bytes + at.letters, 1, warp_steps(p)};
    const bool split = p.pass.precision == CRNN_PERSIST_SPLIT;
    const unsigned blocks = (persist::Place::count(H) + WARPS - 1) / WARPS;
    const dim3 letter_blocks(letters.steps, letter_tiles(p));
    const auto pack_rows = [&](size_t to, const float *from, int64_t rows) {
        return LAUNCH(pack_gates, gpu_blocks(slices * rows * 3 * units, THREADS), THREADS, 0, stream,
                      reinterpret_cast<float *>(bytes + to), from, rows, H, units, slices);
    };
    cudaError_t e =
        LAUNCH(split ? pack_units<persist::Split> : pack_units<persist::Fp16>, blocks, THREADS, 0, stream, copies);
    if (e == cudaSuccess)
        e = LAUNCH(split ? pack_letters<persist::Split> : pack_letters<persist::Fp16>, letter_blocks, THREADS, 0,
                   stream, letters, W, H, V);
    if (e == cudaSuccess)
        e = pack_rows(at.table, table, V);
    if (e == cudaSuccess)
        e = pack_rows(at.b1, b1, 1);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(bytes + at.letter_bias, W + static_cast<int64_t>(H) * V, V * sizeof(float),
                            cudaMemcpyDeviceToDevice, stream);
    return e;
}

const uint32_t *crnn_write_many_status(const void *workspace)
{
    return crnn_persist_status(workspace);
}
