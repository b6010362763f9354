// write_plan.cu - how the work of the kernel that writes is shared out, and its weights in the order in which it reads them.
#include "kernels/cuda/write.cuh"

using namespace writing;

namespace
{
constexpr int MOST_TEXTS = 64;     // of a group: beyond, products of many texts at once are faster
constexpr int MOST_LETTERS = 4096; // beyond, a warp is too few for a draw

// ---- weights
// [rows,3H], gates z, r, h, to [slice][rows][3 units], with zeros for units that are not there.
__global__ void __launch_bounds__(THREADS, 1)
    pack_rows(float *to, const float *from, int64_t rows, int H, int units, int slices)
{
    const int64_t all = slices * rows * 3 * units;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < all;
         i += static_cast<int64_t>(gridDim.x) * THREADS) {
        const int64_t row = i / (3 * units) % rows;
        const int at = static_cast<int>(i % (3 * units)),
                  unit = static_cast<int>(i / (3 * units) / rows) * units + at / 3;
        to[i] = unit < H ? from[row * 3 * H + at % 3 * H + unit] : 0.0f;
    }
}
// Columns of a matrix [H,ld] to one tile's [quad][N][256] float4. Column c of the tile is that of gate c % GATES of unit c / GATES, gates being
// `apart` columns from each other.
template <int N, int GATES>
__global__ void __launch_bounds__(THREADS, 1) pack_tile(float4 *to, const float *from, int H, int units, int64_t ld)
{
    const int tile = blockIdx.x, quad = blockIdx.y, k = 4 * (quad * THREADS + static_cast<int>(threadIdx.x));
    for (int c = 0; c < N; c++) {
        const int unit = tile * (N / GATES) + c / GATES;
        float v[4];
        for (int i = 0; i < 4; i++)
            v[i] = unit < units && k + i < H ? from[(k + i) * ld + c % GATES * units + unit] : 0.0f;
        to[((static_cast<int64_t>(tile) * gridDim.y + quad) * N + c) * THREADS + threadIdx.x] = {v[0], v[1], v[2],
                                                                                                 v[3]};
    }
}

// ---- plans
// Fills in what follows from the shape and tiles; false: it does not fit.
bool complete(crnn_write_plan &p, const crnn_write_gpu &gpu)
{
    const crnn_writer_shape &s = p.shape;
    p.slices = (s.H + slice_units(p) - 1) / slice_units(p);
    if (p.slices > gpu.sms || s.V > MOST_LETTERS)
        return false;
    p.groups = min(s.count, gpu.sms / p.slices);
    p.per_group = (s.count + p.groups - 1) / p.groups;
    p.groups = (s.count + p.per_group - 1) / p.per_group;
    p.texts = p.per_group > 4 ? 8 : p.per_group > 2 ? 4 : p.per_group;
    p.chunks = (p.per_group + p.texts - 1) / p.texts;
    p.quads = (all_units(p) + 4 * THREADS - 1) / (4 * THREADS);
    p.pieces = 1;
    p.near_letters = p.near_table = false;
    const int64_t room = gpu.shared / static_cast<int64_t>(sizeof(float4));
    if (p.per_group > MOST_TEXTS || static_cast<int64_t>(p.texts) * s.V / 4 > room ||
        static_cast<int64_t>(s.L) * slots(p) * slice_units(p) > room || parts_of(p).end > room)
        return false;
    const int64_t left = room - parts_of(p).end,
                  letters = static_cast<int64_t>(own_letter_tiles(p)) * p.quads * LETTERS_PIECE;
    const int64_t table = (static_cast<int64_t>(s.V) * 3 * slice_units(p) + 3) / 4;
    p.near_letters = letters <= left;
    p.near_table = table <= left - (p.near_letters ? letters : 0);
    const int64_t pieces = (room - parts_of(p).end) / PIECE,
                  all = static_cast<int64_t>(matrices(p)) * p.tiles * p.quads;
    p.pieces = static_cast<int32_t>(pieces + 1 < all ? pieces + 1 : all);
    p.shared = static_cast<int32_t>(parts_of(p).end * sizeof(float4));
    return true;
}

// Clocks of a step, from figures of docs/PERFORMANCE.md.
double estimate(const crnn_write_plan &p)
{
    const double exchange = 1100, fixed = 150, multiply = 260, near = 770,
                 far = 3000; // of a tile's piece, the first two for each text
    const int pieces = matrices(p) * p.tiles * p.quads, pair = p.texts > 1 ? 2 : 1;
    const double reads = (p.pieces - 1) * near + (pieces - p.pieces) * far;
    const double text = pieces * multiply + reads / pair + own_letter_tiles(p) * p.quads * multiply / 4;
    return (p.shape.L + 1) * exchange + p.chunks * (2 * p.shape.L * p.tiles * fixed + p.texts * text);
}
} // namespace

bool crnn_write_plan_for(crnn_write_plan *plan, const crnn_writer_shape *shape, const crnn_write_gpu *gpu,
                         int32_t tiles)
{
    bool found = false;
    const int all = (shape->H + UNITS - 1) / UNITS;
    for (int t = tiles ? tiles : 1; t <= (tiles ? tiles : min(all, 64)); t++) {
        crnn_write_plan p = {};
        p.shape = *shape;
        p.tiles = t;
        if (!complete(p, *gpu))
            continue;
        p.estimate = estimate(p);
        if (!found || p.estimate < plan->estimate)
            *plan = p;
        found = true;
    }
    return found;
}

size_t crnn_write_bytes(const crnn_write_plan *plan)
{
    return places_of(*plan).bytes;
}

cudaError_t crnn_write_pack(const crnn_write_plan *plan, void *workspace, const float *weights, const float *table,
                            cudaStream_t stream)
{
    const crnn_write_plan &p = *plan;
    const Places at = places_of(p);
    auto *bytes = static_cast<unsigned char *>(workspace);
    const int H = p.shape.H, V = p.shape.V, L = p.shape.L, units = slice_units(p);
    const int64_t H3 = 3 * static_cast<int64_t>(H), rows = 3 * static_cast<int64_t>(units);
    const dim3 tiles(p.slices * p.tiles, p.quads);
    const auto pack_vectors = [&](size_t to, const float *from, int64_t n) {
        return LAUNCH(pack_rows, gpu_blocks(p.slices * n * rows, THREADS), THREADS, 0, stream,
                      reinterpret_cast<float *>(bytes + to), from, n, H, units, p.slices);
    };
    const auto pack_matrix = [&](int matrix, const float *from) {
        const size_t one = static_cast<size_t>(p.slices) * p.tiles * p.quads * PIECE;
        return LAUNCH((pack_tile<COLUMNS, 3>), tiles, THREADS, 0, stream,
                      reinterpret_cast<float4 *>(bytes + at.gates) + matrix * one, from, H, H, H3);
    };
    cudaError_t e = pack_vectors(at.table, table, V);
    const float *w = weights + static_cast<int64_t>(V) * p.shape.E;
    for (int l = 0; l < L && e == cudaSuccess; l++) {
        const int64_t I = l ? H : p.shape.E;
        if (l)
            e = pack_matrix(L + l - 1, w);
        if (e == cudaSuccess)
            e = pack_matrix(l, w + I * H3);
        if (e == cudaSuccess)
            e = pack_vectors(at.biases + l * 2 * rows * p.slices * sizeof(float), w + (I + H) * H3, 2);
        w += (I + H + 2) * H3;
    }
    if (e == cudaSuccess)
        e = LAUNCH((pack_tile<LETTERS, 1>), dim3(letter_tiles(p), p.quads), THREADS, 0, stream,
                   reinterpret_cast<float4 *>(bytes + at.letters), w, H, V, V);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(bytes + at.letter_bias, w + static_cast<int64_t>(H) * V, V * sizeof(float),
                            cudaMemcpyDeviceToDevice, stream);
    return e;
}

const uint32_t *crnn_write_status(const void *workspace)
{
    return static_cast<const uint32_t *>(workspace);
}
