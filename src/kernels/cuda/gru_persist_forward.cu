// gru_persist_forward.cu - all time steps of the forward pass in one launch; gru_persist.cuh has the parts.
#include "kernels/cuda/gru_persist_cluster.cuh"
#include "kernels/cuda/gru_persist_words_product.cuh"

namespace
{
using namespace persist;

// A warp multiplies one tile of 16 units, all three gates, by its share of K.
template <class F, int TILES, int RESIDENT, By BY> using ForwardLayout = Layout<F, 3, TILES, 1, RESIDENT, BY>;

__device__ __forceinline__ float sigmoid(float x)
{
    return __fdividef(1.0f, 1.0f + expf(-x));
}

// Shared memory of a block, in this order, and behind it the weights that have no room in registers.
template <class L, int UNITS> struct Shared {
    static constexpr int OWNERS = UNITS / 2 * ROWS;
    Landing<L, L::BY> landing;
    float partial[L::K_WARPS * 3 * ROWS * (UNITS + 4)];
    float2 input[2][3][OWNERS]; // what the next two chunks' gates need
    float b1[3][UNITS];
    int character[OWNERS]; // of the next chunk
    unsigned stop, pad[3];
    // float2 h[chunks][OWNERS]; uint4 weights[]; in a cluster uint4 slots[buffers][]
};

struct Pass {
    static constexpr const char *NAME = "gru_persist_forward";
    crnn_persist_forward a;
    crnn_persist_plan plan;
    bool wide; // every row begins at a multiple of 8 bytes
};

// A block's pass. Members are few, as registers hold the weights: places are computed anew from the thread's number.
template <class F, int TILES, int RESIDENT, By BY> struct Block {
    using L = ForwardLayout<F, TILES, RESIDENT, BY>;
    static constexpr int UNITS = 16 * TILES, OWNERS = UNITS / 2 * ROWS;
    using S = Shared<L, UNITS>;
    const Pass &p;
    S &sh;

    __device__ __forceinline__ float2 *states() const // [chunks][OWNERS]
    {
        return reinterpret_cast<float2 *>(&sh + 1);
    }
    __device__ __forceinline__ uint4 *further() const
    {
        return reinterpret_cast<uint4 *>(states() + p.plan.chunks * OWNERS);
    }
    __device__ __forceinline__ Multicast<L, TILES> multicast() const
    {
        const int far = WARPS * L::PARTS * L::TILES * (p.plan.steps - RESIDENT) * 32;
        return {&sh.landing.arrived[0][0][0], further() + far, p.plan.steps, p.plan.cluster, p.plan.buffers};
    }
    __device__ __forceinline__ Exchange exchange() const
    {
        return exchange_of(p.plan, p.a.workspace, p.a.patience, &sh.stop);
    }
    __device__ __forceinline__ Owner owner() const
    {
        return owner_of<UNITS>(blockIdx.x, p.plan.H, p.wide);
    }
    __device__ __forceinline__ int row(const Owner &o, int chunk) const
    {
        return (blockIdx.y * p.plan.chunks + chunk) * ROWS + o.row;
    }
    __device__ __forceinline__ bool there(const Owner &o, int t, int chunk) const
    {
        return o.mine && t < p.a.T && row(o, chunk) < p.plan.B;
    }
    __device__ __forceinline__ int64_t position(const Owner &o, int t, int chunk) const
    {
        return static_cast<int64_t>(t) * p.plan.B + row(o, chunk);
    }

    // h before step t, for later kernels.
    __device__ __forceinline__ void store_narrow(const Owner &o, int t, int chunk, float2 h) const
    {
        const int64_t row = static_cast<int64_t>(p.plan.B) * p.plan.H;
        store_pair_narrow<F>(p.a.h16 + position(o, t, chunk) * p.plan.H + o.j, (p.a.T + 1) * row, h.x * F::STATES,
                             h.y * F::STATES, o);
    }
    // The character for fetch().
    __device__ __forceinline__ void look(int t, int chunk) const
    {
        if (!p.a.tokens)
            return;
        const Owner o = owner();
        if (there(o, t, chunk))
            sh.character[o.thread] = p.a.tokens[position(o, t, chunk)];
    }
    // Starts the copy of what the gates will need.
    __device__ __forceinline__ void fetch(int parity, int t, int chunk) const
    {
        const Owner o = owner();
        if (there(o, t, chunk)) {
            const float *x = p.a.xp + (p.a.tokens ? sh.character[o.thread] : position(o, t, chunk)) * p.a.ldx + o.j;
#pragma unroll
            for (int gate = 0; gate < 3; gate++)
                copy_pair(&sh.input[parity][gate][o.thread], x + gate * p.plan.H, o);
        }
        gpu::cp_async_commit();
    }
    // h, for the product of step t. By words, owners of nothing publish zeros.
    __device__ __forceinline__ void tell(const Owner &o, unsigned base, int t, int chunk, float2 h) const
    {
        if constexpr (BY == By::WORDS)
            publish_words<F>(exchange(), base + static_cast<unsigned>(t), chunk, o.j / 16, o.j, o.row, h.x * F::STATES,
                             h.y * F::STATES);
        else
            publish<F>(slot_of(exchange(), t & 1, chunk, L::PARTS), o.j / 16, o.j, o.row, h.x * F::STATES,
                       h.y * F::STATES);
    }
    // What all have read since.
    __device__ __forceinline__ void take_back(const Owner &o, unsigned base, int t, int chunk) const
    {
        if (o.has_words(p.plan.H))
            take_back_words<F>(exchange(), base + static_cast<unsigned>(t), chunk, o.j / 16, o.j, o.row);
    }
    // h_first is what the step before the first published.
    __device__ __forceinline__ void begin(unsigned base)
    {
        const Owner o = owner();
        for (int i = o.thread; i < 3 * UNITS; i += THREADS) {
            const int j = blockIdx.x * UNITS + i % UNITS;
            sh.b1[i / UNITS][i % UNITS] = j < p.plan.H ? p.a.b1[i / UNITS * p.plan.H + j] : 0.0f;
        }
        if (o.thread == 0)
            sh.stop = 0;
        if (o.thread < OWNERS)
            for (int i = 0; i < 2 * 3; i++)
                sh.input[i / 3][i % 3][o.thread] = {0.0f, 0.0f};
        for (int chunk = 0; chunk < p.plan.chunks; chunk++)
            if (there(o, 0, chunk)) {
                const float2 h = load_pair(p.a.h_first + position(o, 0, chunk) * p.plan.H + o.j, o);
                states()[chunk * OWNERS + o.thread] = h;
                if (p.a.h16)
                    store_narrow(o, 0, chunk, h);
                tell(o, base, 0, chunk, h);
            } else if (BY == By::WORDS && o.has_words(p.plan.H))
                tell(o, base, 0, chunk, {0.0f, 0.0f});
        for (int chunk = 0; BY == By::WORDS && chunk < p.plan.chunks; chunk++)
            take_back(o, base, 0, chunk);
        look(0, 0);
        fetch(0, 0, 0);
        look(1 / p.plan.chunks, 1 % p.plan.chunks);
    }
    // partial <- the shares of h R of the last step's h.
    __device__ __forceinline__ void product(const Weights<L> &w, unsigned base, int t, int chunk, int parity)
    {
        const Exchange x = exchange();
        const int thread = gpu::thread_again(), k_warp = thread / 32 / TILES, steps = p.plan.steps;
        const int from = k_warp * steps / TILES, to = ((k_warp + 1) * steps + TILES - 1) / TILES;
        await(x, chunk, from, min(to, x.slices), base + static_cast<unsigned>(t) + 1, thread % 32);
        const Product<L> product(thread, steps, slot_of(x, t & 1, chunk, L::PARTS), sh.landing.pieces, further());
        product.begin();
        const bool wraps = chunk + 1 == x.chunks;
        fetch(parity ^ 1, wraps ? t + 1 : t, wraps ? 0 : chunk + 1);
        float sum[3][2][4] = {};
        product.run(sum, w);
        leave<L, 3, UNITS>(sh.partial, sum);
    }
    // The same, of what the cluster shares.
    __device__ __forceinline__ void cluster_product(const Weights<L> &w, unsigned base, int t, int chunk, int parity)
    {
        const Exchange x = exchange();
        const Multicast<L, TILES> m = multicast();
        const int round = t * x.chunks + chunk;
        const bool wraps = chunk + 1 == x.chunks;
        m.clear();
        if (!m.ahead(x) || round == 0)
            m.send(x, round, t & 1, chunk, base + static_cast<unsigned>(t) + 1);
        fetch(parity ^ 1, wraps ? t + 1 : t, wraps ? 0 : chunk + 1);
        gpu::cp_async_wait<1>(); // what was fetched before that
        float sum[3][2][4] = {};
        m.run(sum, w, further(), round);
        m.done();
        const int next = wraps ? t + 1 : t;
        if (m.ahead(x) && next < p.a.T)
            m.send(x, round + 1, next & 1, wraps ? 0 : chunk + 1, base + static_cast<unsigned>(next) + 1);
        leave<L, 3, UNITS>(sh.partial, sum);
    }
    // The same by words.
    __device__ __forceinline__ void words_product(const Weights<L> &w, unsigned base, int t, int chunk, int parity)
    {
        const Exchange x = exchange();
        const int thread = gpu::thread_again();
        WordsProduct<L> product(thread, p.plan.steps, (p.plan.H + 15) / 16,
                                slot_of(x, static_cast<int>((base + static_cast<unsigned>(t)) % RING), chunk, L::PARTS),
                                further());
        product.begin(x.chunks == 1);
        if (thread < OWNERS)
            taken_back();
        const bool wraps = chunk + 1 == x.chunks;
        fetch(parity ^ 1, wraps ? t + 1 : t, wraps ? 0 : chunk + 1);
        gpu::cp_async_wait<1>(); // what was fetched before that
        float sum[3][2][4] = {};
        product.run(sum, w, x, x.chunks == 1);
        leave<L, 3, UNITS>(sh.partial, sum);
    }
    // h, published before anything else is done with it; then what later kernels read.
    __device__ __forceinline__ void gates(unsigned base, int t, int chunk, int parity) const
    {
        Gates g = {}; // an owner of nothing stores nothing of it
        compute(g, base, t, chunk, parity);
        __syncthreads(); // all of it is written
        if (BY == By::WORDS) {
            if (t + 1 < p.a.T)
                take_back(owner(), base, t + 1, chunk);
        } else if (t + 1 < p.a.T && gpu::thread_again() == 0)
            gpu::st_release(exchange().flags + chunk * p.plan.slices + blockIdx.x, base + static_cast<unsigned>(t) + 2);
        store(g, t, chunk);
    }
    struct Gates {
        float2 n_h, z, r, n;
    };
    __device__ __forceinline__ void compute(Gates &g, unsigned base, int t, int chunk, int parity) const
    {
        constexpr float BACK_TO_ONE = 1.0f / (F::WEIGHTS * F::STATES);
        const Owner o = owner();
        if (!there(o, t, chunk)) {
            if (BY == By::WORDS && t + 1 < p.a.T && o.has_words(p.plan.H))
                tell(o, base, t + 1, chunk, {0.0f, 0.0f});
            return;
        }
        const float2(*x)[OWNERS] = sh.input[parity];
        const float *b = &sh.b1[0][o.unit];
        const float2 hr = gather<L, 3, UNITS>(sh.partial, 2, o.row, o.unit), xr = x[1][o.thread];
        g.r = {sigmoid(xr.x + (hr.x * BACK_TO_ONE + b[2 * UNITS])),
               sigmoid(xr.y + (hr.y * BACK_TO_ONE + b[2 * UNITS + 1]))};
        const float2 hn = gather<L, 3, UNITS>(sh.partial, 0, o.row, o.unit), xn = x[2][o.thread];
        g.n_h = {hn.x * BACK_TO_ONE + b[0], hn.y * BACK_TO_ONE + b[1]};
        g.n = {tanhf(xn.x + g.r.x * g.n_h.x), tanhf(xn.y + g.r.y * g.n_h.y)};
        const float2 hz = gather<L, 3, UNITS>(sh.partial, 1, o.row, o.unit), xz = x[0][o.thread];
        g.z = {sigmoid(xz.x + (hz.x * BACK_TO_ONE + b[UNITS])), sigmoid(xz.y + (hz.y * BACK_TO_ONE + b[UNITS + 1]))};
        float2 &h = states()[chunk * OWNERS + o.thread];
        h = {g.z.x * h.x + (1.0f - g.z.x) * g.n.x, g.z.y * h.y + (1.0f - g.z.y) * g.n.y};
        if (t + 1 < p.a.T)
            tell(o, base, t + 1, chunk, h);
    }
    __device__ __forceinline__ void store(const Gates &g, int t, int chunk) const
    {
        const Owner o = owner();
        if (!there(o, t, chunk))
            return;
        const int H = p.plan.H;
        const float2 h = states()[chunk * OWNERS + o.thread];
        store_pair(p.a.hs + position(o, t, chunk) * H + o.j, h, o);
        if (p.a.h16)
            store_narrow(o, t + 1, chunk, h);
        if (t + 1 == p.a.T && p.a.h_last)
            store_pair(p.a.h_last + position(o, 0, chunk) * H + o.j, h, o);
        if (!p.a.keep)
            return;
        float *keep = p.a.keep + position(o, t, chunk) * p.a.ldk + o.j;
        store_pair(keep, g.n_h, o);
        store_pair(keep + H, g.z, o);
        store_pair(keep + 2 * H, g.r, o);
        store_pair(keep + 3 * H, g.n, o);
    }
};

template <class F, int TILES, int RESIDENT, By BY>
__device__ __forceinline__ void whole_pass(const Pass &p, unsigned char *raw)
{
    using Block = Block<F, TILES, RESIDENT, BY>;
    using L = typename Block::L;
    Block block{p, *reinterpret_cast<typename Block::S *>(raw)};
    const Places at = places_of(p.plan);
    Weights<L> w;
    load_weights<L>(w, block.further(),
                    reinterpret_cast<const uint4 *>(static_cast<unsigned char *>(p.a.workspace) + at.weights) +
                        blockIdx.x * at.slice_weights,
                    p.plan.steps, threadIdx.x);
    const unsigned base = block.exchange().flags[blockIdx.x];
    block.begin(base);
    if constexpr (BY == By::CLUSTER)
        block.multicast().begin(&block.sh.landing.arrived[0][0][0]);
    __syncthreads();
    if (BY != By::WORDS && static_cast<int>(threadIdx.x) < p.plan.chunks)
        gpu::st_release(block.exchange().flags + threadIdx.x * p.plan.slices + blockIdx.x, base + 1);
    int parity = 0;
    for (int t = 0; t < p.a.T; t++)
        for (int chunk = 0; chunk < p.plan.chunks; chunk++) {
            if constexpr (BY == By::CLUSTER)
                block.cluster_product(w, base, t, chunk, parity);
            else if constexpr (BY == By::WORDS)
                block.words_product(w, base, t, chunk, parity);
            else
                block.product(w, base, t, chunk, parity);
            __syncthreads();
            if (BY != By::CLUSTER && block.sh.stop)
                return;
            block.gates(base, t, chunk, parity);
            block.look(t + (chunk + 2) / p.plan.chunks, (chunk + 2) % p.plan.chunks);
            parity ^= 1;
        }
    if constexpr (BY == By::CLUSTER)
        block.multicast().end();
    if (BY == By::WORDS && threadIdx.x == 0)
        block.exchange().flags[blockIdx.x] = base + static_cast<unsigned>(p.a.T);
}
template <class F, int TILES, int RESIDENT, By BY>
__global__ void __launch_bounds__(THREADS, 1) gru_persist_forward(const __grid_constant__ Pass p)
{
    if constexpr (BY != By::CLUSTER || !GPU_BEFORE_HOPPER) {
        DYN_SHARED(unsigned char, raw);
        whole_pass<F, TILES, RESIDENT, BY>(p, raw);
    }
}

template <class F, int TILES, int RESIDENT, By BY> constexpr Kernel<Pass> kernel()
{
    using L = ForwardLayout<F, TILES, RESIDENT, BY>;
    return {launch_kernel<Pass, gru_persist_forward<F, TILES, RESIDENT, BY>>, need_of<L, Shared<L, 16 * TILES>>()};
}
template <class F, int TILES, By BY> Kernel<Pass> whole_precision(int resident)
{
    return resident == 4    ? kernel<F, TILES, 4, BY>()
           : resident == 8  ? kernel<F, TILES, 8, BY>()
           : resident == 12 ? kernel<F, TILES, 12, BY>()
           : resident == 16 ? kernel<F, TILES, 16, BY>()
                            : Kernel<Pass>{};
}
template <By BY> Kernel<Pass> kernel_for(const crnn_persist_plan &p)
{
    if (p.precision == CRNN_PERSIST_SPLIT)
        return p.tiles == 1 && p.resident == 4   ? kernel<Split, 1, 4, BY>()
               : p.tiles == 1 && p.resident == 8 ? kernel<Split, 1, 8, BY>()
                                                 : Kernel<Pass>{};
    if (p.precision == CRNN_PERSIST_FP16)
        return p.tiles == 1 ? whole_precision<Fp16, 1, BY>(p.resident) : whole_precision<Fp16, 2, BY>(p.resident);
    return p.tiles == 1 ? whole_precision<Bf16, 1, BY>(p.resident) : whole_precision<Bf16, 2, BY>(p.resident);
}
// Those with registers left for words.
Kernel<Pass> words_kernel_for(const crnn_persist_plan &p)
{
    if (p.tiles > 1)
        return {};
    if (p.precision == CRNN_PERSIST_SPLIT)
        return p.resident == 4 ? kernel<Split, 1, 4, By::WORDS>() : Kernel<Pass>{};
    if (p.precision == CRNN_PERSIST_FP16)
        return p.resident == 8    ? kernel<Fp16, 1, 8, By::WORDS>()
               : p.resident == 12 ? kernel<Fp16, 1, 12, By::WORDS>()
                                  : Kernel<Pass>{};
    return p.resident == 8    ? kernel<Bf16, 1, 8, By::WORDS>()
           : p.resident == 12 ? kernel<Bf16, 1, 12, By::WORDS>()
                              : Kernel<Pass>{};
}
Kernel<Pass> kernel_of(const crnn_persist_plan &p)
{
    if (p.exchange == CRNN_PERSIST_WORDS)
        return words_kernel_for(p);
    return p.exchange == CRNN_PERSIST_CLUSTER ? kernel_for<By::CLUSTER>(p) : kernel_for<By::FLAGS>(p);
}
} // namespace

persist::Need persist::forward_need(const crnn_persist_plan &plan)
{
    return kernel_of(plan).need;
}

cudaError_t crnn_persist_launch_forward(const crnn_persist_plan *plan, const crnn_persist_forward *pass,
                                        cudaStream_t stream)
{
    Pass p = {*pass, *plan, false};
    p.wide = even({plan->H, pass->ldx, pass->keep ? pass->ldk : 0}) &&
             aligned({pass->hs, pass->h16, pass->keep, pass->h_last, pass->xp, pass->h_first});
    return launch(kernel_of(*plan), p, CRNN_PERSIST_FORWARD, stream);
}
