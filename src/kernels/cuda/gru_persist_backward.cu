// gru_persist_backward.cu - all time steps of the backward pass in one launch; gru_persist.cuh has the parts.
#include "kernels/cuda/gru_persist_cluster.cuh"
#include "kernels/cuda/gru_persist_words_product.cuh"

namespace
{
using namespace persist;

// A warp multiplies all tiles of the slice by an eighth of K, which goes over the gates of all units.
template <class F, int TILES, int RESIDENT, By BY> using BackwardLayout = Layout<F, TILES, 1, 3, RESIDENT, BY>;

// Shared memory of a block, in this order, and behind it the weights that have no room in registers.
template <class L, int UNITS> struct Shared {
    static constexpr int OWNERS = UNITS / 2 * ROWS, INPUTS = 6;
    Landing<L, L::BY> landing;
    float partial[L::K_WARPS * ROWS * (UNITS + 4)];
    float2 input[2][INPUTS][OWNERS]; // n_h, z, r, n, dhs, h_prev of the next two chunks
    unsigned stop, pad[3];
    // float2 dh[chunks][OWNERS]; uint4 weights[]; in a cluster uint4 slots[buffers][]
};

struct Pass {
    static constexpr const char *NAME = "gru_persist_backward";
    crnn_persist_backward a;
    crnn_persist_plan plan;
    float scale; // 2^doublings
    bool wide;   // every row begins at a multiple of 8 bytes
};

// A block's pass. Members are few, as registers hold the weights: places are computed anew from the thread's number.
template <class F, int TILES, int RESIDENT, By BY> struct Block {
    using L = BackwardLayout<F, TILES, RESIDENT, BY>;
    static constexpr int UNITS = 16 * TILES, OWNERS = UNITS / 2 * ROWS;
    using S = Shared<L, UNITS>;
    const Pass &p;
    S &sh;

    // What came past z from the step after, [chunks][OWNERS].
    __device__ __forceinline__ float2 *carried() const
    {
        return reinterpret_cast<float2 *>(&sh + 1);
    }
    __device__ __forceinline__ uint4 *further() const
    {
        return reinterpret_cast<uint4 *>(carried() + p.plan.chunks * OWNERS);
    }
    __device__ __forceinline__ Multicast<L, 3 * TILES> multicast() const
    {
        const int far = WARPS * L::PARTS * TILES * (p.plan.steps - RESIDENT) * 32;
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
    __device__ __forceinline__ bool there(const Owner &o, int chunk) const
    {
        return o.mine && row(o, chunk) < p.plan.B;
    }

    // Starts the copy of what the gates of step t will need.
    __device__ __forceinline__ void fetch(int parity, int t, int chunk) const
    {
        const Owner o = owner();
        if (t >= 0 && there(o, chunk)) {
            const int64_t H = p.plan.H, B = p.plan.B, i = t * B + row(o, chunk);
            const float *keep = p.a.keep + i * p.a.ldk + o.j;
#pragma unroll
            for (int part = 0; part < 4; part++)
                copy_pair(&sh.input[parity][part][o.thread], keep + part * H, o);
            copy_pair(&sh.input[parity][4][o.thread], p.a.dhs + i * H + o.j, o);
            copy_pair(&sh.input[parity][5][o.thread], (t ? p.a.hs + (i - B) * H : p.a.h_first + i * H) + o.j, o);
        }
        gpu::cp_async_commit();
    }
    __device__ __forceinline__ void begin() const
    {
        const Owner o = owner();
        if (o.thread == 0)
            sh.stop = 0;
        if (o.thread < OWNERS) {
            for (int i = 0; i < 2 * S::INPUTS; i++)
                sh.input[i / S::INPUTS][i % S::INPUTS][o.thread] = {0.0f, 0.0f};
            for (int chunk = 0; chunk < p.plan.chunks; chunk++) {
                float2 dh = {0.0f, 0.0f};
                if (p.a.dh && there(o, chunk))
                    dh = load_pair(flow(o, chunk), o);
                carried()[chunk * OWNERS + o.thread] = dh;
            }
        }
        fetch(0, p.a.T - 1, 0);
    }
    __device__ __forceinline__ float *flow(const Owner &o, int chunk) const
    {
        return p.a.dh + static_cast<int64_t>(row(o, chunk)) * p.plan.H + o.j;
    }
    // partial <- the shares of what comes back through R from step t+1.
    __device__ __forceinline__ void product(const Weights<L> &w, unsigned base, int t, int chunk, int parity) const
    {
        const Exchange x = exchange();
        const int thread = gpu::thread_again(), k_warp = thread / 32, steps = p.plan.steps;
        const int published = p.a.T - 1 - t, last = published - 1; // steps before this one
        const bool wraps = chunk + 1 == x.chunks;
        if (!published) {
            fetch(parity ^ 1, wraps ? t - 1 : t, wraps ? 0 : chunk + 1);
            gpu::cp_async_wait<1>();
            return;
        }
        constexpr int SLICE = 3 * TILES; // steps of K that a slice publishes
        const int from = k_warp * steps / SLICE, to = ((k_warp + 1) * steps + SLICE - 1) / SLICE;
        await(x, chunk, from, min(to, x.slices), base + static_cast<unsigned>(published), thread % 32);
        const Product<L> product(thread, steps, slot_of(x, last & 1, chunk, L::PARTS), sh.landing.pieces, further());
        product.begin();
        fetch(parity ^ 1, wraps ? t - 1 : t, wraps ? 0 : chunk + 1);
        float sum[TILES][2][4] = {};
        product.run(sum, w);
        leave<L, 1, UNITS>(sh.partial, sum);
        __syncthreads(); // all shares are there
    }
    // The same, of what the cluster shares.
    __device__ __forceinline__ void cluster_product(const Weights<L> &w, unsigned base, int t, int chunk,
                                                    int parity) const
    {
        const Exchange x = exchange();
        const Multicast<L, 3 *TILES> m = multicast();
        const int published = p.a.T - 1 - t, round = (published - 1) * x.chunks + chunk;
        const bool wraps = chunk + 1 == x.chunks;
        if (published) {
            m.clear();
            if (!m.ahead(x) || round == 0)
                m.send(x, round, (published - 1) & 1, chunk, base + static_cast<unsigned>(published));
        }
        fetch(parity ^ 1, wraps ? t - 1 : t, wraps ? 0 : chunk + 1);
        gpu::cp_async_wait<1>(); // what was fetched before that
        if (!published)
            return;
        float sum[TILES][2][4] = {};
        m.run(sum, w, further(), round);
        m.done();
        const int next = wraps ? published + 1 : published;
        if (m.ahead(x) && next < p.a.T)
            m.send(x, round + 1, (next - 1) & 1, wraps ? 0 : chunk + 1, base + static_cast<unsigned>(next));
        leave<L, 1, UNITS>(sh.partial, sum);
        __syncthreads(); // every share is there
    }
    // The same by words.
    __device__ __forceinline__ void words_product(const Weights<L> &w, unsigned base, int t, int chunk,
                                                  int parity) const
    {
        const Exchange x = exchange();
        const int thread = gpu::thread_again();
        const bool wraps = chunk + 1 == x.chunks;
        if (t + 1 == p.a.T) {
            fetch(parity ^ 1, wraps ? t - 1 : t, wraps ? 0 : chunk + 1);
            gpu::cp_async_wait<1>();
            return;
        }
        const unsigned last = publication(base, t + 1);
        WordsProduct<L> product(thread, p.plan.steps, (p.plan.H + 15) / 16 * 3,
                                slot_of(x, static_cast<int>(last % RING), chunk, L::PARTS), further());
        product.begin(x.chunks == 1);
        if (thread < OWNERS)
            taken_back();
        fetch(parity ^ 1, wraps ? t - 1 : t, wraps ? 0 : chunk + 1);
        gpu::cp_async_wait<1>(); // what was fetched before that
        float sum[TILES][2][4] = {};
        product.run(sum, w, x, x.chunks == 1);
        leave<L, 1, UNITS>(sh.partial, sum);
        __syncthreads(); // each share is there
    }
    // Of the gradients of step t.
    __device__ __forceinline__ unsigned publication(unsigned base, int t) const
    {
        return base + static_cast<unsigned>(p.a.T - 1 - t);
    }
    struct Gates {
        float2 dn_h, dz, dr, dn;
    };
    // Gradients of step t, for the product of the step before. By words, owners of nothing publish zeros.
    __device__ __forceinline__ void tell(const Owner &o, unsigned base, int t, int chunk, const Gates &g) const
    {
        const float s = p.scale;
        const int step = o.j / 16 * 3;
        if constexpr (BY == By::WORDS) {
            const unsigned n = publication(base, t);
            publish_words<F>(exchange(), n, chunk, step, o.j, o.row, g.dn_h.x * s, g.dn_h.y * s);
            publish_words<F>(exchange(), n, chunk, step + 1, o.j, o.row, g.dz.x * s, g.dz.y * s);
            publish_words<F>(exchange(), n, chunk, step + 2, o.j, o.row, g.dr.x * s, g.dr.y * s);
            return;
        }
        uint4 *slot = slot_of(exchange(), (p.a.T - 1 - t) & 1, chunk, L::PARTS);
        publish<F>(slot, step, o.j, o.row, g.dn_h.x * s, g.dn_h.y * s);
        publish<F>(slot, step + 1, o.j, o.row, g.dz.x * s, g.dz.y * s);
        publish<F>(slot, step + 2, o.j, o.row, g.dr.x * s, g.dr.y * s);
    }
    // What all have read since.
    __device__ __forceinline__ void take_back(const Owner &o, unsigned base, int t, int chunk) const
    {
        if (o.has_words(p.plan.H))
            for (int gate = 0; gate < 3; gate++)
                take_back_words<F>(exchange(), publication(base, t), chunk, o.j / 16 * 3 + gate, o.j, o.row);
    }
    static __device__ __forceinline__ void one(float &dn_h, float &dz, float &dr, float &dn, float &carry, float d,
                                               float n_h, float z, float r, float n, float h_prev)
    {
        dn = d * (1.0f - z) * (1.0f - n * n);
        dz = d * (h_prev - n) * z * (1.0f - z);
        dr = dn * n_h * r * (1.0f - r);
        dn_h = dn * r;
        carry = d * z;
    }
    __device__ __forceinline__ void compute(Gates &g, unsigned base, int t, int chunk, int parity) const
    {
        const Owner o = owner();
        if (!there(o, chunk)) {
            if (BY == By::WORDS && t && o.has_words(p.plan.H))
                tell(o, base, t, chunk, g);
            return;
        }
        const float2(*in)[OWNERS] = sh.input[parity];
        float2 &carry = carried()[chunk * OWNERS + o.thread];
        float2 d = carry;
        if (t + 1 < p.a.T) {
            const float2 back = gather<L, 1, UNITS>(sh.partial, 0, o.row, o.unit);
            const float to_one = 1.0f / (F::WEIGHTS * p.scale); // powers of two
            d = {d.x + back.x * to_one, d.y + back.y * to_one};
        }
        const float2 dh = in[4][o.thread];
        d = {dh.x + d.x, dh.y + d.y};
        const float2 n_h = in[0][o.thread], z = in[1][o.thread], r = in[2][o.thread], n = in[3][o.thread],
                     h_prev = in[5][o.thread];
        one(g.dn_h.x, g.dz.x, g.dr.x, g.dn.x, carry.x, d.x, n_h.x, z.x, r.x, n.x, h_prev.x);
        one(g.dn_h.y, g.dz.y, g.dr.y, g.dn.y, carry.y, d.y, n_h.y, z.y, r.y, n.y, h_prev.y);
        if (t)
            tell(o, base, t, chunk, g);
    }
    __device__ __forceinline__ void store(const Gates &g, int t, int chunk) const
    {
        const Owner o = owner();
        if (!there(o, chunk))
            return;
        const int64_t H = p.plan.H;
        const float s = p.scale;
        uint16_t *d = p.a.d + (static_cast<int64_t>(t) * p.plan.B + row(o, chunk)) * p.a.ldd + o.j;
        store_pair_narrow<F>(d, 4 * H, g.dn_h.x * s, g.dn_h.y * s, o);
        store_pair_narrow<F>(d + H, 4 * H, g.dz.x * s, g.dz.y * s, o);
        store_pair_narrow<F>(d + 2 * H, 4 * H, g.dr.x * s, g.dr.y * s, o);
        store_pair_narrow<F>(d + 3 * H, 4 * H, g.dn.x * s, g.dn.y * s, o);
        if (!t && p.a.dh)
            store_pair(flow(o, chunk), carried()[chunk * OWNERS + o.thread], o);
    }
    // The gates' gradients, published before they are stored for later kernels.
    __device__ __forceinline__ void gates(unsigned base, int t, int chunk, int parity) const
    {
        Gates g = {}; // an owner of nothing stores nothing of it
        compute(g, base, t, chunk, parity);
        __syncthreads(); // all of it is written
        if (BY == By::WORDS) {
            if (t)
                take_back(owner(), base, t, chunk);
        } else if (t && gpu::thread_again() == 0)
            gpu::st_release(exchange().flags + chunk * p.plan.slices + blockIdx.x,
                            base + static_cast<unsigned>(p.a.T - t));
        store(g, t, chunk);
    }
};

template <class F, int TILES, int RESIDENT, By BY>
__device__ __forceinline__ void whole_pass(const Pass &p, unsigned char *raw)
{
    using Block = Block<F, TILES, RESIDENT, BY>;
    using L = typename Block::L;
    const Block block{p, *reinterpret_cast<typename Block::S *>(raw)};
    const Places at = places_of(p.plan);
    Weights<L> w;
    load_weights<L>(w, block.further(),
                    reinterpret_cast<const uint4 *>(static_cast<unsigned char *>(p.a.workspace) + at.weights) +
                        blockIdx.x * at.slice_weights,
                    p.plan.steps, threadIdx.x);
    const unsigned base = block.exchange().flags[blockIdx.x];
    block.begin();
    if constexpr (BY == By::CLUSTER)
        block.multicast().begin(&block.sh.landing.arrived[0][0][0]);
    __syncthreads();
    int parity = 0;
    for (int t = p.a.T - 1; t >= 0; t--)
        for (int chunk = 0; chunk < p.plan.chunks; chunk++) {
            if constexpr (BY == By::CLUSTER)
                block.cluster_product(w, base, t, chunk, parity);
            else if constexpr (BY == By::WORDS)
                block.words_product(w, base, t, chunk, parity);
            else
                block.product(w, base, t, chunk, parity);
            if (BY != By::CLUSTER && block.sh.stop)
                return;
            block.gates(base, t, chunk, parity);
            parity ^= 1;
        }
    if constexpr (BY == By::CLUSTER)
        block.multicast().end();
    if (BY == By::WORDS && threadIdx.x == 0)
        block.exchange().flags[blockIdx.x] = base + static_cast<unsigned>(p.a.T - 1);
}
template <class F, int TILES, int RESIDENT, By BY>
__global__ void __launch_bounds__(THREADS, 1) gru_persist_backward(const __grid_constant__ Pass p)
{
    if constexpr (BY != By::CLUSTER || !GPU_BEFORE_HOPPER) {
        DYN_SHARED(unsigned char, raw);
        whole_pass<F, TILES, RESIDENT, BY>(p, raw);
    }
}

template <class F, int TILES, int RESIDENT, By BY> constexpr Kernel<Pass> kernel()
{
    using L = BackwardLayout<F, TILES, RESIDENT, BY>;
    return {launch_kernel<Pass, gru_persist_backward<F, TILES, RESIDENT, BY>>, need_of<L, Shared<L, 16 * TILES>>()};
}
template <class F, By BY> Kernel<Pass> whole_precision(const crnn_persist_plan &p)
{
    if (p.tiles == 2)
        return p.resident == 12 ? kernel<F, 2, 12, BY>() : p.resident == 24 ? kernel<F, 2, 24, BY>() : Kernel<Pass>{};
    return p.resident == 12   ? kernel<F, 1, 12, BY>()
           : p.resident == 24 ? kernel<F, 1, 24, BY>()
           : p.resident == 48 ? kernel<F, 1, 48, BY>()
                              : Kernel<Pass>{};
}
template <By BY> Kernel<Pass> kernel_for(const crnn_persist_plan &p)
{
    if (p.precision == CRNN_PERSIST_SPLIT)
        return p.tiles == 1 && p.resident == 12   ? kernel<Split, 1, 12, BY>()
               : p.tiles == 1 && p.resident == 24 ? kernel<Split, 1, 24, BY>()
                                                  : Kernel<Pass>{};
    return p.precision == CRNN_PERSIST_FP16 ? whole_precision<Fp16, BY>(p) : whole_precision<Bf16, BY>(p);
}
// Those with registers left for words.
template <class F> Kernel<Pass> words_of_whole_precision(const crnn_persist_plan &p)
{
    return p.tiles == 1 && p.resident == 24   ? kernel<F, 1, 24, By::WORDS>()
           : p.tiles == 2 && p.resident == 16 ? kernel<F, 2, 16, By::WORDS>()
                                              : Kernel<Pass>{};
}
Kernel<Pass> words_kernel_for(const crnn_persist_plan &p)
{
    if (p.precision == CRNN_PERSIST_SPLIT)
        return p.tiles == 1 && p.resident == 12 ? kernel<Split, 1, 12, By::WORDS>() : Kernel<Pass>{};
    return p.precision == CRNN_PERSIST_FP16 ? words_of_whole_precision<Fp16>(p) : words_of_whole_precision<Bf16>(p);
}
Kernel<Pass> kernel_of(const crnn_persist_plan &p)
{
    if (p.exchange == CRNN_PERSIST_WORDS)
        return words_kernel_for(p);
    return p.exchange == CRNN_PERSIST_CLUSTER ? kernel_for<By::CLUSTER>(p) : kernel_for<By::FLAGS>(p);
}
} // namespace

persist::Need persist::backward_need(const crnn_persist_plan &plan)
{
    return kernel_of(plan).need;
}

cudaError_t crnn_persist_launch_backward(const crnn_persist_plan *plan, const crnn_persist_backward *pass,
                                         cudaStream_t stream)
{
    Pass p = {*pass, *plan, ldexpf(1.0f, pass->doublings), false};
    p.wide = even({plan->H, pass->ldk, pass->ldd}) &&
             aligned({pass->keep, pass->d, pass->dhs, pass->hs, pass->h_first, pass->dh});
    return launch(kernel_of(*plan), p, CRNN_PERSIST_BACKWARD, stream);
}
