// gru_persist.cu - how a persistent pass is shared out, and its weights in the order in which the kernels read them.
#include "kernels/cuda/gru_persist_copies.cuh"

using namespace persist;

namespace
{
template <class F> __global__ void __launch_bounds__(THREADS, 1) pack(const __grid_constant__ crnn_persist_copies c)
{
    SHARED(Tile, tiles, [WARPS]);
    const int lane = threadIdx.x % 32, number = blockIdx.x * WARPS + threadIdx.x / 32;
    if (number >= Place::count(c.H))
        return;
    const Place at(number, c.H);
    Tile &tile = tiles[threadIdx.x / 32];
    for (int i = lane; i < TILE * TILE; i += 32) {
        const int row = at.k * TILE + i / TILE, unit = at.u * TILE + i % TILE;
        tile[i / TILE][i % TILE] = row < c.H && unit < c.H ? c.R[row * c.ldr + at.gate * c.H + unit] : 0.0f;
    }
    write_tile<F>(c, tile, at);
}

int parts_of(const crnn_persist_plan &p)
{
    return p.precision == CRNN_PERSIST_SPLIT ? 2 : 1;
}
Need need_of_plan(const crnn_persist_plan &p)
{
    return p.direction == CRNN_PERSIST_FORWARD ? forward_need(p) : backward_need(p);
}

// Whether the blocks are there at the same time, in their clusters.
bool blocks_fit(const crnn_persist_plan &p, const crnn_persist_gpu &gpu)
{
    const int64_t blocks = static_cast<int64_t>(p.groups) * p.slices;
    return blocks <= (p.cluster == 1 ? gpu.sms : int64_t{gpu.clusters[p.cluster == 4]} * p.cluster);
}
// Fills in what follows from precision, B, H, groups, tiles, resident and cluster; false: it does not fit.
bool complete(crnn_persist_plan &p, const crnn_persist_gpu &gpu)
{
    const Need need = need_of_plan(p);
    if (!need.fixed)
        return false;
    const int tiles = (p.H + 15) / 16, gates = p.direction == CRNN_PERSIST_BACKWARD ? 3 : 1;
    p.slots = p.exchange == CRNN_PERSIST_WORDS ? static_cast<int>(RING) : 2;
    p.slices = ((tiles + p.tiles - 1) / p.tiles + p.cluster - 1) / p.cluster * p.cluster;
    p.chunks = (p.B + p.groups * ROWS - 1) / (p.groups * ROWS);
    p.steps = (tiles * gates + need.k_warps - 1) / need.k_warps;
    p.steps = max(p.resident, (p.steps + need.piece - 1) / need.piece * need.piece);
    const int64_t slot = static_cast<int64_t>(p.steps) * need.k_warps * parts_of(p) * STEP_LANES * 16;
    int64_t shared = need.fixed + static_cast<int64_t>(p.chunks) * need.a_chunk +
                     static_cast<int64_t>(p.steps - p.resident) * need.a_step;
    if (p.cluster > 1) {
        p.buffers = shared + 2 * slot <= gpu.shared ? 2 : 1;
        shared += p.buffers * slot;
    }
    if (!blocks_fit(p, gpu) || shared > gpu.shared || p.chunks > THREADS)
        return false;
    p.shared = static_cast<int32_t>(shared);
    return true;
}

// Steps of K that stand for units, of those that each warp multiplies.
int steps_of_units(const crnn_persist_plan &p, const Need &need)
{
    const int steps = (p.H + 15) / 16 * (p.direction == CRNN_PERSIST_BACKWARD ? 3 : 1);
    return min(p.steps, (steps + need.k_warps - 1) / need.k_warps);
}
// Clocks of a time step, from the figures of docs/PERFORMANCE.md: a block works on its chunks in turn, while what it published of one is
// on its way for the time of a round.
double estimate(const crnn_persist_plan &p)
{
    const bool words = p.exchange == CRNN_PERSIST_WORDS;
    const double clock = 1.7e9, fixed = 700; // fixed: barriers, sums over K, gates
    const double mma = 8, from_shared = 4;   // clocks a warp's mma; a warp's 16-byte load
    const double from_cache =
        p.cluster > 1 ? 64 : 48; // bytes a clock; a multicast is bound by what a block can take in
    const Need need = need_of_plan(p);
    const int parts = parts_of(p), products = parts == 2 ? 3 : 1, steps = words ? steps_of_units(p, need) : p.steps;
    const int far = max(0, steps - p.resident);
    const double poll = need.k_warps * 512.0 * parts / from_cache; // by words: a step of each warp's share
    const double round = words ? 475 + poll : 900;
    const double multiply = 2.0 * steps * need.warp_tiles * 2 * products * mma;
    const double weights = static_cast<double>(far) * need.warp_tiles * parts * WARPS * from_shared;
    const double copy = steps * need.k_warps * 512.0 * parts / from_cache;
    // Within a cluster the first quarter comes beside no product, but where it is sent a chunk ahead.
    const double first = p.cluster == 1 || (p.buffers == 2 && p.chunks > 1) ? 0 : copy / 4;
    // What goes through registers takes nothing of the shared memory that weights come from.
    const double moved = words ? max(multiply + weights, copy) : max(multiply, copy) + weights;
    const double work = fixed + first + moved;
    const double all = p.chunks * work;
    return (all > work + round ? all : work + round) / clock;
}
} // namespace

cudaError_t crnn_persist_gpu_of(crnn_persist_gpu *gpu, int device)
{
    cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess)
        return e;
    *gpu = {p.multiProcessorCount, static_cast<int32_t>(p.sharedMemPerBlockOptin), p.major, {0, 0}};
    if (p.major < 9)
        return cudaSuccess;
    // Any kernel serves: with all shared memory that there is beside its own, one block fills a multiprocessor.
    const int rest = gpu->shared - static_cast<int>(sizeof(Tile) * WARPS);
    e = cudaFuncSetAttribute(pack<Bf16>, cudaFuncAttributeMaxDynamicSharedMemorySize, rest);
    for (int i = 0; i < 2 && e == cudaSuccess; i++)
        e = gpu_max_clusters(&gpu->clusters[i], pack<Bf16>, THREADS, static_cast<size_t>(rest), 2u << i);
    return e;
}

// The best of the plans that begin like this one.
static bool best_plan(crnn_persist_plan *plan, const crnn_persist_plan &begun, const crnn_persist_gpu &gpu,
                      const crnn_persist_wish &wish)
{
    bool found = false;
    const int most = min((begun.B + ROWS - 1) / ROWS, gpu.sms);
    for (int t = wish.tiles ? wish.tiles : 1; t <= (wish.tiles ? wish.tiles : 2); t++)
        for (int g = wish.groups ? wish.groups : 1; g <= (wish.groups ? wish.groups : most); g++)
            for (int resident = 4; resident <= 48; resident += 4) {
                crnn_persist_plan p = begun;
                p.groups = g;
                p.tiles = t;
                p.resident = resident;
                if (!complete(p, gpu))
                    continue;
                p.estimate = estimate(p);
                if (!found || p.estimate < plan->estimate)
                    *plan = p;
                found = true;
            }
    return found;
}

bool crnn_persist_plan_for(crnn_persist_plan *plan, crnn_persist_direction direction, crnn_persist_precision precision,
                           int32_t B, int32_t H, const crnn_persist_gpu *gpu, const crnn_persist_wish *wish)
{
    const crnn_persist_wish free_to_choose = {}, &wished = wish ? *wish : free_to_choose;
    crnn_persist_plan p = {};
    p.direction = direction;
    p.precision = precision;
    p.B = B;
    p.H = H;
    if (B < 1 || H < 1 || gpu->compute_major < 8)
        return false;
    bool found = false;
    for (p.cluster = wished.cluster == 4 ? 4 : wished.cluster == 2 ? 2 : 1; p.cluster && !found; p.cluster /= 2) {
        p.exchange = p.cluster > 1 ? CRNN_PERSIST_CLUSTER : CRNN_PERSIST_FLAGS;
        found = best_plan(plan, p, *gpu, wished);
    }
    if (!wished.words)
        return found;
    crnn_persist_plan by_words;
    p.cluster = 1;
    p.exchange = CRNN_PERSIST_WORDS;
    if (!best_plan(&by_words, p, *gpu, wished) || (found && plan->estimate < by_words.estimate))
        return found;
    *plan = by_words;
    return true;
}

size_t crnn_persist_bytes(const crnn_persist_plan *plan)
{
    return places_of(*plan).bytes;
}

crnn_persist_copy crnn_persist_copy_of(const crnn_persist_plan *plan, void *workspace)
{
    return {static_cast<unsigned char *>(workspace) + places_of(*plan).weights, plan->tiles, plan->steps};
}

cudaError_t crnn_persist_pack(const crnn_persist_copies *copies, crnn_persist_precision precision, cudaStream_t stream)
{
    const unsigned blocks = (Place::count(copies->H) + WARPS - 1) / WARPS;
    switch (precision) {
    case CRNN_PERSIST_BF16:
        return LAUNCH(pack<Bf16>, blocks, THREADS, 0, stream, *copies);
    case CRNN_PERSIST_FP16:
        return LAUNCH(pack<Fp16>, blocks, THREADS, 0, stream, *copies);
    default:
        return LAUNCH(pack<Split>, blocks, THREADS, 0, stream, *copies);
    }
}

int32_t crnn_persist_doublings(crnn_persist_precision precision, int64_t positions)
{
    int32_t doublings = 0;
    if (precision != CRNN_PERSIST_BF16)
        for (doublings = 4; (positions - 1) >> (doublings - 4); doublings++)
            ;
    return doublings;
}

const uint32_t *crnn_persist_status(const void *workspace)
{
    return static_cast<const uint32_t *>(workspace);
}
