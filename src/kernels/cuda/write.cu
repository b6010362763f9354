// write.cu - the kernel that writes texts.
//
// A product: thread i of a block multiplies h[4 (q 256 + i) ...] for each of its quads q with as many weights of each column, the warp
// adds up over its lanes so that each column's sum ends up with one of them, and the warp of a text adds up over the warps. Columns come by
// tiles: 24 are the three gates of 8 units, or 4 are logits.
//
// The exchange is of words that carry their step (write_words.cuh): twice as many bytes, which are few. Two slots of states are enough: a
// block publishes states of a step when it has seen those of the step before from all blocks, and who published those had read the ones
// before them. Logits need but one: who reads them publishes states of the next step afterwards, and without those there are no new
// logits.
#include "kernels/cuda/write.cuh"
#include "kernels/cuda/write_words.cuh"

using namespace writing;

namespace
{
// ---- sums over the lanes of a warp. Of N sums a lane starts with, halves go from lane to lane while N is even: for 24, lane 4 u + any has the
// three of unit u at the end, and for 4, lane 8 c + any has that of column c.
template <int N, int DISTANCE> struct Reduce {
    static __device__ __forceinline__ void run(float *s, int lane)
    {
        if (N % 2 == 0) {
            const bool high = lane & DISTANCE;
#pragma unroll
            for (int i = 0; i < N / 2; i++) {
                const float give = high ? s[i] : s[i + N / 2], keep = high ? s[i + N / 2] : s[i];
                s[i] = keep + __shfl_xor_sync(0xffffffffu, give, DISTANCE);
            }
            Reduce<N % 2 == 0 ? N / 2 : N, DISTANCE / 2>::run(s, lane);
        } else {
#pragma unroll
            for (int i = 0; i < N; i++)
                s[i] += __shfl_xor_sync(0xffffffffu, s[i], DISTANCE);
            Reduce<N, DISTANCE / 2>::run(s, lane);
        }
    }
};
template <int N> struct Reduce<N, 0> {
    static __device__ __forceinline__ void run(float *, int)
    {
    }
};

__device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}
__device__ __forceinline__ float dot(float sum, const float4 &a, const float4 &b)
{
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// ---- a block's work. TEXTS: of a chunk; the warp of that number has the draw and the gates of each.
template <int TEXTS> struct Block {
    static constexpr int PAIR = TEXTS > 1 ? 2 : 1;      // texts that are multiplied with weights once they are read
    static constexpr int BATCH = TEXTS < 4 ? TEXTS : 4; // texts that are waited for together
    using Lanes = draw::LaneTeam<32>;
    const Pass &p;
    float4 *shared;
    int buffer = 0; // of partial: which the next product fills
    bool gave_up = false;

    // Registers hold weights: what can be computed anew is not kept.
    __device__ __forceinline__ int thread() const
    {
        return gpu::thread_again();
    }
    __device__ __forceinline__ int lane() const
    {
        return thread() % 32;
    }
    __device__ __forceinline__ int warp() const
    {
        return thread() / 32;
    }
    __device__ __forceinline__ int slice() const
    {
        return static_cast<int>(gpu::anew(blockIdx.x));
    }
    __device__ __forceinline__ int group() const
    {
        return static_cast<int>(gpu::anew(blockIdx.y));
    }
    template <class T> __device__ __forceinline__ T *in_workspace(size_t at) const
    {
        return reinterpret_cast<T *>(static_cast<unsigned char *>(p.a.workspace) + at);
    }
    __device__ __forceinline__ float *in_shared(int at) const
    {
        return reinterpret_cast<float *>(shared + at);
    }
    __device__ __forceinline__ int rows() const
    {
        return 3 * slice_units(p.plan);
    }
    __device__ __forceinline__ bool there(int chunk, int text) const
    {
        const int slot = chunk * TEXTS + text;
        return slot < p.plan.per_group && group() * p.plan.per_group + slot < p.plan.shape.count;
    }
    __device__ __forceinline__ int number(int chunk, int text) const // of the text, among all
    {
        return group() * p.plan.per_group + chunk * TEXTS + text;
    }
    __device__ __forceinline__ int slot(int chunk, int text) const // among those of all groups
    {
        return group() * slots(p.plan) + chunk * TEXTS + text;
    }
    __device__ __forceinline__ int first_unit(int quad) const // of this thread's quad
    {
        return 4 * (quad * THREADS + thread());
    }

    __device__ __forceinline__ bool
    any_of(int quad) const // of this warp's quads is there; those that are not are zeros
    {
        return 4 * (quad * THREADS + warp() * 32) < all_units(p.plan);
    }

    // ---- the exchange
    __device__ __forceinline__ uint64_t *states(int layer, uint32_t step, int chunk, int text) const
    {
        const size_t texts = static_cast<size_t>(p.plan.groups) * slots(p.plan);
        return in_workspace<uint64_t>(p.places.states) +
               ((layer * 2 + (step & 1)) * texts + slot(chunk, text)) * all_units(p.plan);
    }
    __device__ __forceinline__ uint64_t *logits(int chunk, int text) const
    {
        return in_workspace<uint64_t>(p.places.logits) +
               static_cast<size_t>(slot(chunk, text)) * (letter_tiles(p.plan) * LETTERS);
    }
    // Whether to go on polling.
    __device__ __forceinline__ bool patient(uint32_t &polls)
    {
        unsigned *status = in_workspace<unsigned>(0);
        if (gave_up)
            return false;
        if (++polls >= p.a.patience || (polls % 1024 == 0 && gpu::ld_acquire(status))) {
            atomicExch(status, 1u);
            gave_up = true;
        }
        return !gave_up;
    }

    // ---- this thread's part of h
    __device__ __forceinline__ float4 &own_h(int text, int quad) const
    {
        return shared[p.parts.h + (text * p.plan.quads + quad) * THREADS + thread()];
    }
    // The states of a layer after a step, as soon as all have published them.
    __device__ __forceinline__ void take(int layer, int chunk, uint32_t step)
    {
        for (int text = 0; text < TEXTS && there(chunk, text); text += BATCH)
            for (int quad = 0; quad < p.plan.quads && first_unit(quad) < all_units(p.plan); quad++)
                take_batch(layer, chunk, text, quad, step);
    }
    __device__ __forceinline__ void take_batch(int layer, int chunk, int text, int quad, uint32_t step)
    {
        uint64_t words[BATCH][4] = {};
        uint32_t polls = 0;
        bool all;
        do {
#pragma unroll
            for (int i = 0; i < BATCH; i++)
                if (there(chunk, text + i)) {
                    const uint64_t *from = states(layer, step, chunk, text + i) + first_unit(quad);
                    gpu::ld_relaxed2(words[i], from);
                    gpu::ld_relaxed2(words[i] + 2, from + 2);
                }
            all = true;
#pragma unroll
            for (int i = 0; i < BATCH; i++)
                all = all && (!there(chunk, text + i) || (of_step(words[i], step) && of_step(words[i] + 2, step)));
        } while (!all && patient(polls));
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            own_h(text + i, quad) = {value_of(words[i][0]), value_of(words[i][1]), value_of(words[i][2]),
                                     value_of(words[i][3])};
    }
    // Those that the launch begins with.
    __device__ __forceinline__ void take_first(int layer, int chunk)
    {
        const int H = p.plan.shape.H;
        for (int text = 0; text < TEXTS; text++)
            for (int quad = 0; quad < p.plan.quads; quad++) {
                const int unit = first_unit(quad);
                float h[4] = {};
                for (int i = 0; i < 4 && there(chunk, text) && unit + i < H; i++)
                    h[i] = first_state(layer, chunk, text)[unit + i];
                own_h(text, quad) = {h[0], h[1], h[2], h[3]};
            }
    }
    __device__ __forceinline__ const float *first_state(int layer, int chunk, int text) const
    {
        return in_workspace<float>(p.places.first_state) +
               (static_cast<int64_t>(layer) * p.plan.shape.count + number(chunk, text)) * p.plan.shape.H;
    }

    // ---- products
    __device__ __forceinline__ float *partial(int in, int of_warp, int text) const
    {
        return in_shared(p.parts.partial) + ((in * WARPS + of_warp) * TEXTS + text) * COLUMNS;
    }
    // This warp's sums of N columns, of texts [text, text + PAIR).
    template <int N> __device__ __forceinline__ void leave(float (&sum)[PAIR][N], int text) const
    {
#pragma unroll
        for (int i = 0; i < PAIR; i++) {
            Reduce<N, 16>::run(sum[i], lane());
            float *to = partial(buffer, warp(), text + i);
            if (N == COLUMNS && lane() % 4 < 3)
                to[lane() / 4 * 3 + lane() % 4] = lane() % 4 == 0   ? sum[i][0]
                                                  : lane() % 4 == 1 ? sum[i][1]
                                                                    : sum[i][N == COLUMNS ? 2 : 0];
            if (N == LETTERS && lane() % 8 == 0)
                to[lane() / 8] = sum[i][0];
        }
    }
    // All warps' sums are there; the next product may be begun before they are read.
    __device__ __forceinline__ void meet()
    {
        __syncthreads();
        buffer ^= 1;
    }
    // The sum of a column over K, after meet().
    __device__ __forceinline__ float sum_of(int text, int column) const
    {
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            sum += partial(buffer ^ 1, w, text)[column];
        return sum;
    }
    template <int N>
    static __device__ __forceinline__ void multiply(float (&sum)[PAIR][N], const float4 (&h)[PAIR], const float4 *w)
    {
#pragma unroll
        for (int column = 0; column < N; column++) {
            const float4 weights = w[column * THREADS];
#pragma unroll
            for (int i = 0; i < PAIR; i++)
                sum[i][column] = dot(sum[i][column], h[i], weights);
            if (column % 8 == 7)
                __syncwarp(); // no load is moved from behind it to before, where it would hold registers
        }
    }
    // h times one tile of a matrix; the first piece of all is in registers.
    __device__ __forceinline__ void gates_product(const float4 (&w)[COLUMNS], int matrix, int tile, int chunk)
    {
        const int quads = p.plan.quads, first = (matrix * p.plan.tiles + tile) * quads;
        for (int text = 0; text < TEXTS && there(chunk, text); text += PAIR) {
            float sum[PAIR][COLUMNS] = {};
            for (int quad = 0; quad < quads && any_of(quad); quad++) {
                float4 h[PAIR];
#pragma unroll
                for (int i = 0; i < PAIR; i++)
                    h[i] = own_h(text + i, quad);
                if (first + quad == 0) {
#pragma unroll
                    for (int column = 0; column < COLUMNS; column++)
#pragma unroll
                        for (int i = 0; i < PAIR; i++)
                            sum[i][column] = dot(sum[i][column], h[i], w[column]);
                } else {
                    multiply(sum, h, gates_piece(first + quad) + thread());
                }
            }
            leave(sum, text);
        }
        meet();
    }
    // Piece (matrix, tile, quad) of this slice, where it is nearest.
    __device__ __forceinline__ const float4 *gates_piece(int piece) const
    {
        if (piece < p.plan.pieces)
            return shared + p.parts.weights + (piece - 1) * PIECE;
        return far_piece(piece);
    }
    __device__ __forceinline__ const float4 *far_piece(int piece) const
    {
        const int of_matrix = p.plan.tiles * p.plan.quads, matrix = piece / of_matrix;
        return in_workspace<float4>(p.places.gates) +
               ((static_cast<size_t>(matrix) * p.plan.slices + slice()) * of_matrix + piece % of_matrix) * PIECE;
    }
    __device__ __forceinline__ void letters_product(int own_tile, int chunk)
    {
        const int quads = p.plan.quads;
        const float4 *w =
            p.plan.near_letters ? shared + p.parts.letters + own_tile * quads * LETTERS_PIECE : far_letters(own_tile);
        for (int text = 0; text < TEXTS && there(chunk, text); text += PAIR) {
            float sum[PAIR][LETTERS] = {};
            for (int quad = 0; quad < quads && any_of(quad); quad++) {
                float4 h[PAIR];
#pragma unroll
                for (int i = 0; i < PAIR; i++)
                    h[i] = own_h(text + i, quad);
                multiply(sum, h, w + quad * LETTERS_PIECE + thread());
            }
            leave(sum, text);
        }
        meet();
    }
    __device__ __forceinline__ const float4 *far_letters(int own_tile) const
    {
        return in_workspace<float4>(p.places.letters) +
               static_cast<size_t>(slice() + own_tile * p.plan.slices) * p.plan.quads * LETTERS_PIECE;
    }

    // ---- what the warp of a text does
    __device__ __forceinline__ float *recurrent(int layer, int chunk, int text) const
    {
        return in_shared(p.parts.recurrent) + ((layer * p.plan.chunks + chunk) * TEXTS + text) * rows();
    }
    __device__ __forceinline__ float *own_states(int layer, int chunk, int text) const
    {
        return in_shared(p.parts.states) + ((layer * p.plan.chunks + chunk) * TEXTS + text) * slice_units(p.plan);
    }
    __device__ __forceinline__ const float *biases(int layer, int which) const
    {
        return in_shared(p.parts.biases) + (layer * 2 + which) * rows();
    }
    // Character i of this launch, in all lanes.
    __device__ __forceinline__ int draw_one(int chunk, int i)
    {
        const int V = p.plan.shape.V, text = number(chunk, warp());
        float *row = in_shared(p.parts.likelihoods) + warp() * V;
        if (i == 0) {
            for (int v = lane(); v < V; v += 32)
                row[v] = in_workspace<float>(p.places.first_logits)[static_cast<int64_t>(text) * V + v];
        } else {
            __syncwarp(); // lanes may still read the row of the text before
            take_logits(Lanes{}, row, logits(chunk, warp()), V, p.a.steps + static_cast<uint32_t>(i),
                        [&](uint32_t &polls) { return patient(polls); });
            __syncwarp();
        }
        return draw_from(Lanes{}, row, V, p.a.options, text, *p.a.io.drawn + static_cast<uint64_t>(i));
    }
    // x: [3 units] the input's side with b0. The new states, published at once.
    __device__ __forceinline__ void gates(int layer, int chunk, int i, const float *x)
    {
        const float *hr = recurrent(layer, chunk, warp()), *b1 = biases(layer, 1);
        float *own = own_states(layer, chunk, warp());
        const uint32_t step = p.a.steps + static_cast<uint32_t>(i) + 1;
        uint64_t *words = states(layer, step, chunk, warp()) + slice() * slice_units(p.plan);
        for (int u = lane(); u < slice_units(p.plan); u += 32) {
            const float z = sigmoid(x[3 * u] + (hr[3 * u] + b1[3 * u]));
            const float r = sigmoid(x[3 * u + 1] + (hr[3 * u + 1] + b1[3 * u + 1]));
            const float n = tanhf(x[3 * u + 2] + r * (hr[3 * u + 2] + b1[3 * u + 2]));
            const float h = z * own[u] + (1.0f - z) * n;
            publish(words + u, h, step);
            own[u] = h;
        }
        if (i + 1 == p.a.n)
            keep_states(layer, chunk, own);
    }
    __device__ __forceinline__ void keep_states(int layer, int chunk, const float *own) const
    {
        const int H = p.plan.shape.H, first = slice() * slice_units(p.plan);
        float *to =
            p.a.io.state + (static_cast<int64_t>(layer) * p.plan.shape.count + number(chunk, warp())) * H + first;
        for (int u = lane(); u < slice_units(p.plan) && first + u < H; u += 32)
            to[u] = own[u];
    }
    __device__ __forceinline__ const float *table_row(int id) const
    {
        const int64_t V = p.plan.shape.V;
        if (p.plan.near_table)
            return in_shared(p.parts.table) + id * rows();
        return in_workspace<float>(p.places.table) + (slice() * V + id) * rows();
    }
    __device__ __forceinline__ void write_down(int chunk, int i, int id) const
    {
        const int text = number(chunk, warp());
        if (slice() != 0 || lane() != 0)
            return;
        p.a.io.written[static_cast<int64_t>(i) * p.plan.shape.count + text] = static_cast<uint16_t>(id);
        if (i + 1 == p.a.n)
            p.a.io.last[text] = static_cast<uint16_t>(id);
    }

    // ---- stages of a step; every block has each text's chunk go through them
    __device__ __forceinline__ bool mine(int chunk) const // this warp has a text of the chunk
    {
        return warp() < TEXTS && there(chunk, warp());
    }
    __device__ __forceinline__ void first_layer(int chunk, int i)
    {
        if (!mine(chunk))
            return;
        const int id = draw_one(chunk, i);
        gates(0, chunk, i, table_row(id));
        write_down(chunk, i, id);
    }
    // h: the new states of the layer below.
    __device__ __forceinline__ void later_layer(const float4 (&w)[COLUMNS], int layer, int chunk, int i)
    {
        float *x = in_shared(p.parts.input) + warp() * rows();
        for (int tile = 0; tile < p.plan.tiles; tile++) {
            gates_product(w, p.plan.shape.L + layer - 1, tile, chunk);
            const int at = tile * COLUMNS + lane();
            if (mine(chunk) && lane() < COLUMNS)
                x[at] = sum_of(warp(), lane()) + biases(layer, 0)[at];
        }
        __syncwarp();
        if (mine(chunk))
            gates(layer, chunk, i, x);
    }
    // h R for the next step, from the layer's states in h.
    __device__ __forceinline__ void look_ahead(const float4 (&w)[COLUMNS], int layer, int chunk)
    {
        for (int tile = 0; tile < p.plan.tiles; tile++) {
            gates_product(w, layer, tile, chunk);
            if (mine(chunk) && lane() < COLUMNS)
                recurrent(layer, chunk, warp())[tile * COLUMNS + lane()] = sum_of(warp(), lane());
        }
        __syncwarp();
    }
    __device__ __forceinline__ void last_layer(int chunk, int i)
    {
        const int V = p.plan.shape.V, tiles = letter_tiles(p.plan);
        for (int own = 0; slice() + own * p.plan.slices < tiles; own++) {
            letters_product(own, chunk);
            const int v = (slice() + own * p.plan.slices) * LETTERS + lane();
            if (!mine(chunk) || lane() >= LETTERS)
                continue;
            const float z = sum_of(warp(), lane()) + (v < V ? in_workspace<float>(p.places.letter_bias)[v] : 0.0f);
            if (i + 1 < p.a.n)
                publish(logits(chunk, warp()) + v, z, p.a.steps + static_cast<uint32_t>(i) + 1);
            else if (v < V)
                p.a.io.logits[static_cast<int64_t>(number(chunk, warp())) * V + v] = z;
        }
    }

    // ---- before the first step
    __device__ __forceinline__ void copy_near() const
    {
        for (int piece = 1; piece < p.plan.pieces; piece++)
            for (int i = thread(); i < PIECE; i += THREADS)
                shared[p.parts.weights + (piece - 1) * PIECE + i] = far_piece(piece)[i];
        const int of_tile = p.plan.quads * LETTERS_PIECE;
        for (int own = 0; p.plan.near_letters && slice() + own * p.plan.slices < letter_tiles(p.plan); own++)
            for (int i = thread(); i < of_tile; i += THREADS)
                shared[p.parts.letters + own * of_tile + i] = far_letters(own)[i];
        for (int i = thread(); p.plan.near_table && i < p.plan.shape.V * rows(); i += THREADS)
            in_shared(p.parts.table)[i] =
                in_workspace<float>(p.places.table)[static_cast<int64_t>(slice()) * p.plan.shape.V * rows() + i];
        for (int i = thread(); i < p.plan.shape.L * 2 * rows(); i += THREADS) {
            const int layer = i / (2 * rows()), at = i % (2 * rows());
            in_shared(p.parts.biases)[i] = in_workspace<float>(
                p.places.biases)[(static_cast<int64_t>(layer) * p.plan.slices + slice()) * 2 * rows() + at];
        }
    }
    __device__ __forceinline__ void copy_states() const
    {
        const int first = slice() * slice_units(p.plan);
        for (int layer = 0; layer < p.plan.shape.L; layer++)
            for (int chunk = 0; chunk < p.plan.chunks; chunk++)
                for (int u = lane(); mine(chunk) && u < slice_units(p.plan); u += 32)
                    own_states(layer, chunk, warp())[u] =
                        first + u < p.plan.shape.H ? first_state(layer, chunk, warp())[first + u] : 0.0f;
    }
    __device__ __forceinline__ void load(float4 (&w)[COLUMNS]) const
    {
#pragma unroll
        for (int column = 0; column < COLUMNS; column++)
            w[column] = far_piece(0)[column * THREADS + thread()];
    }
    __device__ __forceinline__ void begin(const float4 (&w)[COLUMNS])
    {
        for (int layer = 0; layer < p.plan.shape.L; layer++)
            for (int chunk = 0; chunk < p.plan.chunks; chunk++) {
                take_first(gpu::anew(layer), gpu::anew(chunk));
                look_ahead(w, gpu::anew(layer), gpu::anew(chunk));
            }
    }
    // One character of each text.
    __device__ __forceinline__ void step(const float4 (&w)[COLUMNS], int i)
    {
        for (int chunk = 0; chunk < p.plan.chunks; chunk++)
            first_layer(gpu::anew(chunk), gpu::anew(i));
        for (int layer = 1; layer <= p.plan.shape.L;
             layer++) // from the states of the layer below; the last: the logits
            for (int chunk = 0; chunk < p.plan.chunks; chunk++)
                from_below(w, gpu::anew(layer), gpu::anew(chunk), gpu::anew(i));
    }
    __device__ __forceinline__ void from_below(const float4 (&w)[COLUMNS], int layer, int chunk, int i)
    {
        take(layer - 1, chunk, p.a.steps + static_cast<uint32_t>(i) + 1);
        if (layer < p.plan.shape.L)
            later_layer(w, layer, chunk, i);
        else
            last_layer(chunk, i);
        look_ahead(w, layer - 1, chunk);
    }
};

template <int TEXTS> __global__ void __launch_bounds__(THREADS, 1) write_texts(const __grid_constant__ Pass p)
{
    DYN_SHARED(float4, shared);
    Block<TEXTS> block{p, shared};
    block.copy_near();
    block.copy_states();
    __syncthreads();
    float4 w[COLUMNS];
    block.load(w);
    block.begin(w);
    for (int i = 0; i < p.a.n; i++) {
        block.step(w, i);
        if (__syncthreads_or(block.gave_up))
            return;
    }
}

template <int TEXTS> cudaError_t launch(const Pass &p, cudaStream_t stream)
{
    const cudaError_t e =
        cudaFuncSetAttribute(write_texts<TEXTS>, cudaFuncAttributeMaxDynamicSharedMemorySize, p.plan.shared);
    if (e != cudaSuccess)
        return e;
    return LAUNCH_COOP(write_texts<TEXTS>, dim3(p.plan.slices, p.plan.groups), THREADS, p.plan.shared, stream, p);
}
} // namespace

cudaError_t crnn_write_launch(const crnn_write_plan *plan, const crnn_write_pass *pass, cudaStream_t stream)
{
    const Places at = places_of(*plan);
    Pass p = {*pass, *plan, at, parts_of(*plan)};
    const crnn_writer_shape &s = plan->shape;
    auto *bytes = static_cast<unsigned char *>(pass->workspace);
    if (!p.a.patience)
        p.a.patience = PATIENCE;
    // Blocks end a text's states and logits while others may not have begun: those read copies.
    cudaError_t e =
        cudaMemcpyAsync(bytes + at.first_state, pass->io.state,
                        static_cast<size_t>(s.L) * s.count * s.H * sizeof(float), cudaMemcpyDeviceToDevice, stream);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(bytes + at.first_logits, pass->io.logits,
                            static_cast<size_t>(s.count) * s.V * sizeof(float), cudaMemcpyDeviceToDevice, stream);
    if (e != cudaSuccess)
        return e;
    return plan->texts == 1   ? launch<1>(p, stream)
           : plan->texts == 2 ? launch<2>(p, stream)
           : plan->texts == 4 ? launch<4>(p, stream)
                              : launch<8>(p, stream);
}
