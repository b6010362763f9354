// write_many.cu - the kernel that writes many texts; gru_persist.cuh has the exchange of states and the products.
//
// A step of a block goes through its chunks twice. First, for each of them: the new states come, whole, into shared memory; logits, if the
// block has any, are multiplied and published; then h R. Afterwards, for each: a draw for each row, the gates, the newer states are published.
// So of a chunk the logits, or the states, are on their way while the block works at another.
//
// Logits need one place for all steps: a block publishes new ones when it has seen states from all blocks that those published after
// they had read the old ones.
#include "kernels/cuda/write_many.cuh"
#include "kernels/cuda/write_words.cuh"

using namespace writing_many;

namespace
{
__device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

template <class F, int TILES, int RESIDENT> struct Block {
    using L = UnitsLayout<F, TILES, RESIDENT>;
    using LL = LettersLayout<F>;
    using Team = draw::LaneTeam<THREADS / ROWS>; // one for each row
    static constexpr int UNITS = 16 * TILES, OWNERS = UNITS / 2 * ROWS;
    static constexpr int LETTER_OWNERS = LETTERS / 2 * ROWS;
    static constexpr float BACK_TO_ONE = 1.0f / (F::WEIGHTS * F::STATES);
    const Pass &p;
    uint4 *shared;

    // Registers hold weights: what can be computed anew is not kept.
    __device__ __forceinline__ int thread() const
    {
        return gpu::thread_again();
    }
    __device__ __forceinline__ int slice() const
    {
        return static_cast<int>(gpu::anew(blockIdx.x));
    }
    __device__ __forceinline__ float *floats(int at) const
    {
        return reinterpret_cast<float *>(shared + at);
    }
    template <class T> __device__ __forceinline__ T *in_workspace(size_t at) const
    {
        return reinterpret_cast<T *>(static_cast<unsigned char *>(p.a.workspace) + at);
    }
    // What comes first in shared memory: characters of a chunk's rows as drawn, and whether someone gave up.
    __device__ __forceinline__ uint16_t *drawn() const
    {
        return reinterpret_cast<uint16_t *>(shared);
    }
    __device__ __forceinline__ unsigned *stop() const
    {
        return reinterpret_cast<unsigned *>(shared + 2);
    }
    __device__ __forceinline__ uint64_t *draws_before() const // this launch
    {
        return reinterpret_cast<uint64_t *>(shared + 3);
    }
    __device__ __forceinline__ persist::Exchange exchange() const
    {
        return persist::exchange_of(p.plan.pass, p.a.workspace, p.a.patience, stop());
    }
    __device__ __forceinline__ persist::Owner owner() const
    {
        return persist::owner_of<UNITS>(slice(), p.plan.shape.H, false);
    }
    __device__ __forceinline__ int text(int chunk, int row) const
    {
        return (static_cast<int>(gpu::anew(blockIdx.y)) * p.plan.pass.chunks + chunk) * ROWS + row;
    }
    __device__ __forceinline__ bool there(int chunk, int row) const
    {
        return text(chunk, row) < p.plan.shape.count;
    }
    __device__ __forceinline__ float2 &state(int chunk) const // of this owner
    {
        return reinterpret_cast<float2 *>(shared + p.parts.states)[chunk * OWNERS + thread()];
    }
    __device__ __forceinline__ float2 *recurrent(int chunk) const // h R of this owner, a gate every OWNERS
    {
        return reinterpret_cast<float2 *>(shared + p.parts.recurrent) + chunk * 3 * OWNERS + thread();
    }
    __device__ __forceinline__ uint64_t *logits(int chunk, int row) const
    {
        return in_workspace<uint64_t>(p.places.logits) +
               static_cast<int64_t>(text(chunk, row)) * (letter_tiles(p.plan) * LETTERS);
    }

    // ---- before the first step
    __device__ __forceinline__ void copy(int to, const uint4 *from, int n) const
    {
        for (int i = thread(); i < n; i += THREADS)
            shared[to + i] = from[i];
    }
    __device__ __forceinline__ void copy_floats(int to, const float *from, int n) const
    {
        for (int i = thread(); i < n; i += THREADS)
            floats(to)[i] = from[i];
    }
    __device__ __forceinline__ const uint4 *far_letters(int own) const
    {
        return in_workspace<uint4>(p.places.letters) +
               static_cast<size_t>(slice() + own * p.plan.pass.slices) * letters_size(p.plan);
    }
    __device__ __forceinline__ bool has_letters(int own) const
    {
        return slice() + own * p.plan.pass.slices < letter_tiles(p.plan);
    }
    __device__ __forceinline__ const float *far_table() const
    {
        return in_workspace<float>(p.places.table) + static_cast<int64_t>(slice()) * table_size(p.plan);
    }
    __device__ __forceinline__ void begin() const
    {
        if (thread() == 0) {
            *stop() = 0;
            *draws_before() = *p.a.io.drawn;
        }
        copy_floats(p.parts.b1, in_workspace<float>(p.places.b1) + slice() * 3 * UNITS, 3 * UNITS);
        for (int own = 0; p.plan.near_letters && has_letters(own); own++)
            copy(p.parts.letters + own * letters_size(p.plan), far_letters(own), letters_size(p.plan));
        if (p.plan.near_table)
            copy_floats(p.parts.table, far_table(), table_size(p.plan));
        const persist::Owner o = owner();
        for (int chunk = 0; o.thread < OWNERS && chunk < p.plan.pass.chunks; chunk++) {
            state(chunk) = {0.0f, 0.0f};
            if (o.mine && there(chunk, o.row)) {
                state(chunk) = persist::load_pair(in_workspace<float>(p.places.first_state) +
                                                      static_cast<int64_t>(text(chunk, o.row)) * p.plan.shape.H + o.j,
                                                  o);
                publish(o, 0, chunk);
            }
        }
    }
    // What chunks' first states are published with: for step 0.
    __device__ __forceinline__ void publish(const persist::Owner &o, int step, int chunk) const
    {
        const float2 h = state(chunk);
        persist::publish<F>(persist::slot_of(exchange(), step & 1, chunk, L::PARTS), o.j / 16, o.j, o.row,
                            h.x * F::STATES, h.y * F::STATES);
    }
    // All of it is written, before a barrier of the block.
    __device__ __forceinline__ void raise(int chunk, unsigned count) const
    {
        gpu::st_release(exchange().flags + chunk * p.plan.pass.slices + slice(), count);
    }

    // ---- products
    // This warp's share of the states before step i; all of them are there after a barrier of the block. False: someone gave up, and what others
    // may still be writing is not read.
    __device__ __forceinline__ bool take(unsigned base, int i, int chunk) const
    {
        const persist::Exchange x = exchange();
        const int warp = thread() / 32, lane = thread() % 32, share = warp_steps(p.plan);
        const int from = warp * share, to = min(from + share, x.k_steps);
        persist::await(x, chunk, from / TILES, min((to + TILES - 1) / TILES, x.slices),
                       base + static_cast<unsigned>(i) + 1, lane);
        if (__any_sync(0xffffffffu, lane == 0 && atomicMax(stop(), 0u)))
            return false;
        const uint4 *slot = persist::slot_of(x, i & 1, chunk, L::PARTS);
        for (int at = from * (L::PARTS * STEP_LANES) + lane; at < to * (L::PARTS * STEP_LANES); at += STEP_LANES)
            gpu::cp_async16(shared + p.parts.landing + at, slot + at);
        gpu::cp_async_commit();
        gpu::cp_async_wait<0>();
        __syncwarp();
        return true;
    }
    __device__ __forceinline__ float *letter_partial(int own) const
    {
        return floats(p.parts.letter_partial) + own % 2 * (WARPS * ROWS * (LETTERS + 4));
    }
    // This warp's share of the sums of a tile of logits.
    __device__ __forceinline__ void multiply_letters(int own) const
    {
        const int warp = thread() / 32, lane = thread() % 32, share = warp_steps(p.plan);
        const int steps = min(share, k_steps(p.plan) - warp * share);
        const uint4 *w =
            (p.plan.near_letters ? shared + p.parts.letters + own * letters_size(p.plan) : far_letters(own)) +
            warp * (share * L::PARTS * STEP_LANES) + lane;
        const uint4 *h = shared + p.parts.landing + warp * (share * L::PARTS * STEP_LANES) + lane;
        float sum[1][2][4] = {};
#pragma unroll 2
        for (int k = 0; k < steps; k++, h += L::PARTS * STEP_LANES) {
            const uint4 high = w[k * STEP_LANES];
            const uint32_t a[4] = {high.x, high.y, high.z, high.w};
            persist::Multiply<LL>::multiply(sum[0], a, h[0]);
            if (L::PARTS == 2) {
                const uint4 low = w[(share + k) * STEP_LANES];
                const uint32_t b[4] = {low.x, low.y, low.z, low.w};
                persist::Multiply<LL>::multiply(sum[0], b, h[0]);
                persist::Multiply<LL>::multiply(sum[0], a, h[STEP_LANES]);
            }
        }
        persist::leave<LL, 1, LETTERS>(letter_partial(own), sum);
    }
    // Of the states before step i; those behind the last step are what the launch leaves.
    __device__ __forceinline__ void finish_letters(int own, int i, int chunk) const
    {
        const int row = thread() / (LETTERS / 2), letter = thread() % (LETTERS / 2) * 2;
        if (thread() >= LETTER_OWNERS || !there(chunk, row))
            return;
        const int v = (slice() + own * p.plan.pass.slices) * LETTERS + letter;
        const float2 sum = persist::gather<LL, 1, LETTERS>(letter_partial(own), 0, row, letter);
        const float *bias = in_workspace<float>(p.places.letter_bias) + v;
        const float z[2] = {sum.x * BACK_TO_ONE + bias[0], sum.y * BACK_TO_ONE + bias[1]};
        for (int k = 0; k < 2; k++)
            if (i < p.a.n)
                writing::publish(logits(chunk, row) + v + k, z[k], p.a.steps + static_cast<uint32_t>(i));
            else if (v + k < p.plan.shape.V)
                p.a.io.logits[static_cast<int64_t>(text(chunk, row)) * p.plan.shape.V + v + k] = z[k];
    }
    __device__ __forceinline__ void multiply_units(const persist::Weights<L> &w) const
    {
        const int steps = p.plan.pass.steps, k_warp = thread() / 32 / TILES;
        const persist::Multiply<L> m(thread(), steps, shared + p.parts.further);
        const uint4 *h = shared + p.parts.landing + k_warp * (steps * L::PARTS * STEP_LANES) + thread() % 32;
        float sum[3][2][4] = {};
#pragma unroll
        for (int k = 0; k < RESIDENT; k++) {
            m.step(sum, w, k, h + k * (L::PARTS * STEP_LANES));
            if (k % 4 == 3)
                __syncwarp(); // no load is moved from behind it to before, where it would hold registers
        }
#pragma unroll 1
        for (int k = RESIDENT; k < steps; k++)
            m.far_step(sum, k, h + k * (L::PARTS * STEP_LANES));
        persist::leave<L, 3, UNITS>(floats(p.parts.partial), sum);
    }
    __device__ __forceinline__ void keep_recurrent(int chunk) const
    {
        const persist::Owner o = owner();
        if (o.thread >= OWNERS)
            return;
#pragma unroll 1
        for (int gate = 0; gate < 3; gate++) // n, z, r
            recurrent(chunk)[gate * OWNERS] =
                persist::gather<L, 3, UNITS>(floats(p.parts.partial), gate, o.row, o.unit);
    }

    // ---- draws and gates
    __device__ __forceinline__ bool patient(uint32_t &polls) const
    {
        unsigned *status = in_workspace<unsigned>(0);
        if (++polls < p.a.patience && !(polls % 1024 == 0 && gpu::ld_acquire(status)))
            return true;
        atomicExch(status, 1u);
        atomicExch(stop(), 1u);
        return false;
    }
    // Character i of this launch of each row of the chunk.
    __device__ __forceinline__ void draw(int i, int chunk) const
    {
        const Team team;
        const int r = thread() / Team::SIZE, V = p.plan.shape.V;
        float *row = floats(p.parts.rows) + r * V;
        if (!there(chunk, r))
            return;
        team.meet(); // members may still read the row of the chunk before
        if (i == 0) {
            for (int v = team.member(); v < V; v += Team::SIZE)
                row[v] = in_workspace<float>(p.places.first_logits)[static_cast<int64_t>(text(chunk, r)) * V + v];
        } else {
            writing::take_logits(team, row, logits(chunk, r), V, p.a.steps + static_cast<uint32_t>(i),
                                 [&](uint32_t &polls) { return patient(polls); });
        }
        team.meet(); // all of the row has come
        const int id =
            writing::draw_from(team, row, V, p.a.options, text(chunk, r), *draws_before() + static_cast<uint64_t>(i));
        if (team.member() == 0)
            write_down(i, chunk, r, id);
    }
    __device__ __forceinline__ void write_down(int i, int chunk, int row, int id) const
    {
        drawn()[row] = static_cast<uint16_t>(id);
        if (slice() != 0)
            return;
        p.a.io.written[static_cast<int64_t>(i) * p.plan.shape.count + text(chunk, row)] = static_cast<uint16_t>(id);
        if (i + 1 == p.a.n)
            p.a.io.last[text(chunk, row)] = static_cast<uint16_t>(id);
    }
    __device__ __forceinline__ void gates(int i, int chunk) const
    {
        const persist::Owner o = owner();
        if (!o.mine || !there(chunk, o.row))
            return;
        const float *x =
            (p.plan.near_table ? floats(p.parts.table) : far_table()) + drawn()[o.row] * (3 * UNITS) + o.unit;
        const float *b = floats(p.parts.b1) + o.unit;
        const float2 *hr = recurrent(chunk), n_h = hr[0], h_z = hr[OWNERS], h_r = hr[2 * OWNERS];
        float2 &h = state(chunk);
        h.x = next(h.x, x, b, n_h.x, h_z.x, h_r.x);
        h.y = next(h.y, x + 1, b + 1, n_h.y, h_z.y, h_r.y);
        publish(o, i + 1, chunk);
        if (i + 1 == p.a.n)
            persist::store_pair(p.a.io.state + static_cast<int64_t>(text(chunk, o.row)) * p.plan.shape.H + o.j, h, o);
    }
    static __device__ __forceinline__ float next(float h, const float *x, const float *b, float n_h, float h_z,
                                                 float h_r)
    {
        const float z = sigmoid(x[0] + (h_z * BACK_TO_ONE + b[0]));
        const float r = sigmoid(x[UNITS] + (h_r * BACK_TO_ONE + b[UNITS]));
        const float n = tanhf(x[2 * UNITS] + r * (n_h * BACK_TO_ONE + b[2 * UNITS]));
        return z * h + (1.0f - z) * n;
    }

    // ---- stages of a step. False: someone gave up.
    // From the states before step i: the logits, and h R unless it was the last.
    __device__ __forceinline__ bool products(const persist::Weights<L> &w, unsigned base, int i, int chunk) const
    {
        const bool taken = take(base, i, chunk);
        for (int own = 0; i > 0 && has_letters(own); own++) {
            if (taken)
                multiply_letters(own);
            __syncthreads();
            if (*stop())
                return false;
            finish_letters(own, i, chunk);
        }
        __syncthreads(); // all states are there
        if (*stop())
            return false;
        if (i < p.a.n)
            multiply_units(w);
        __syncthreads();
        if (i < p.a.n)
            keep_recurrent(chunk);
        return true;
    }
    __device__ __forceinline__ bool step(unsigned base, int i, int chunk) const
    {
        draw(i, chunk);
        __syncthreads();
        if (*stop())
            return false;
        gates(i, chunk);
        __syncthreads();
        if (thread() == 0)
            raise(chunk, base + static_cast<unsigned>(i) + 2);
        return true;
    }
};

template <class F, int TILES, int RESIDENT>
__global__ void __launch_bounds__(THREADS, 1) write_many_texts(const __grid_constant__ Pass p)
{
    DYN_SHARED(uint4, shared);
    using B = Block<F, TILES, RESIDENT>;
    const B block{p, shared};
    const persist::Places at = persist::places_of(p.plan.pass);
    const int chunks = p.plan.pass.chunks;
    persist::Weights<typename B::L> w;
    persist::load_weights<typename B::L>(
        w, shared + p.parts.further,
        reinterpret_cast<const uint4 *>(static_cast<const unsigned char *>(p.a.workspace) + at.weights) +
            blockIdx.x * at.slice_weights,
        p.plan.pass.steps, threadIdx.x);
    const unsigned base = block.exchange().flags[blockIdx.x];
    block.begin();
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < chunks)
        block.raise(threadIdx.x, base + 1);
    for (int i = 0; i <= p.a.n; i++) {
        for (int chunk = 0; chunk < chunks; chunk++)
            if (!block.products(w, base, i, chunk))
                return;
        for (int chunk = 0; chunk < chunks && i < p.a.n; chunk++)
            if (!block.step(base, i, chunk))
                return;
    }
}

using Kernel = void (*)(Pass);
template <class F, int TILES> Kernel with_resident(int resident)
{
    if (resident == 4)
        return write_many_texts<F, TILES, 4>;
    if constexpr (F::PARTS == 2) { // with 8, registers spill
        if (resident == 7)
            return write_many_texts<F, TILES, 7>;
    } else {
        if (resident == 8)
            return write_many_texts<F, TILES, 8>;
        if (resident == 12)
            return write_many_texts<F, TILES, 12>;
        if (resident == 16)
            return write_many_texts<F, TILES, 16>;
    }
    return nullptr;
}
Kernel kernel_of(const crnn_persist_plan &pass)
{
    if (pass.precision == CRNN_PERSIST_SPLIT)
        return pass.tiles == 1 ? with_resident<persist::Split, 1>(pass.resident) : nullptr;
    return pass.tiles == 1 ? with_resident<persist::Fp16, 1>(pass.resident)
                           : with_resident<persist::Fp16, 2>(pass.resident);
}
} // namespace

bool writing_many::made(const crnn_persist_plan &pass)
{
    return kernel_of(pass);
}

cudaError_t crnn_write_many_launch(const crnn_write_many_plan *plan, const crnn_write_pass *pass, cudaStream_t stream)
{
    const Places at = places_of(*plan);
    Pass p = {*pass, *plan, at, parts_of(*plan)};
    const crnn_writer_shape &s = plan->shape;
    auto *bytes = static_cast<unsigned char *>(pass->workspace);
    const Kernel kernel = kernel_of(plan->pass);
    if (!kernel)
        return cudaErrorInvalidValue;
    if (!p.a.patience)
        p.a.patience = writing::PATIENCE;
    // Blocks end a text's state and logits while others may not have begun: those read copies.
    cudaError_t e =
        cudaMemcpyAsync(bytes + at.first_state, pass->io.state, static_cast<size_t>(s.count) * s.H * sizeof(float),
                        cudaMemcpyDeviceToDevice, stream);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(bytes + at.first_logits, pass->io.logits,
                            static_cast<size_t>(s.count) * s.V * sizeof(float), cudaMemcpyDeviceToDevice, stream);
    if (e == cudaSuccess)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan->pass.shared);
    if (e != cudaSuccess)
        return e;
    return gpu_launch("write_many_texts", dim3(plan->pass.slices, plan->pass.groups), THREADS, plan->pass.shared,
                      stream, true, 1, kernel, p);
}
