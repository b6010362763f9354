// gru_persist_words_product.cuh - what blocks hand each other by words (gru_persist_words.cuh), and its product with weights.
//
// Each chunk of a group has a ring of its own, whose publications count on from launch to launch: the slice's flag of chunk 0, which nobody waits
// for, holds how many there have been. Every word of the steps that stand for units is published each time, by the owner of its place: what has
// no batch row or no unit as zero, since all lanes wait for their words. Steps beyond are not waited for and not multiplied.
//
// A warp's words come straight into registers, some steps of them on their way at a time. They are looked for in order. Where a group has
// several chunks, this one's words were published while the one before was multiplied, so all are asked for at once. With one chunk they are
// still on their way: then the first step alone is asked for again and again, and the others when it is there, as they are hardly later.
// A poll of a block is 4 KB so; were all asked for, as much as the words themselves.
#ifndef CRNN_KERNELS_CUDA_GRU_PERSIST_WORDS_PRODUCT_CUH
#define CRNN_KERNELS_CUDA_GRU_PERSIST_WORDS_PRODUCT_CUH

#include "kernels/cuda/gru_persist.cuh"

namespace persist
{
// Words from slot to slot of a chunk's ring.
template <class F> static __device__ __forceinline__ size_t ring_pitch(const Exchange &x)
{
    return static_cast<size_t>(x.chunks) * (x.k_steps * F::PARTS * STEP_LANES * 4);
}
// As publish(), as the chunk's publication n.
template <class F>
static __device__ __forceinline__ void publish_words(const Exchange &x, unsigned n, int chunk, int step, int unit,
                                                     int row, float a, float b)
{
    uint32_t w[F::PARTS];
    F::words(w, a, b);
    uint32_t *word = word_of<F>(slot_of(x, 0, chunk, F::PARTS), step, unit, row);
#pragma unroll
    for (int part = 0; part < F::PARTS; part++)
        publish_word(word + part * STEP_LANES * 4, ring_pitch<F>(x), n, w[part]);
}
// After publication n has been made of them: two before.
template <class F>
static __device__ __forceinline__ void take_back_words(const Exchange &x, unsigned n, int chunk, int step, int unit,
                                                       int row)
{
    uint32_t *word = word_of<F>(slot_of(x, 0, chunk, F::PARTS), step, unit, row);
#pragma unroll
    for (int part = 0; part < F::PARTS; part++)
        take_back(word + part * STEP_LANES * 4, ring_pitch<F>(x), n);
}

template <class L> struct WordsProduct : Multiply<L> {
    using Base = Multiply<L>;
    static constexpr int AT_ONCE = 8 / L::PARTS; // steps on their way: 32 registers
    static_assert(L::RESIDENT >= AT_ONCE, "the first ones have weights in registers");
    const uint4 *words; // the share's first step in the publication's slot, from this lane on
    int there;          // steps of the share that stand for units
    uint4 v[AT_ONCE][L::PARTS];

    // From the whole slot, of which `all` steps stand for units, and all further weights of the block.
    __device__ __forceinline__ WordsProduct(int thread, int steps_, int all, const uint4 *slot, const uint4 *further_)
        : Base(thread, steps_, further_)
    {
        const int first = thread / 32 / L::ACROSS * steps_;
        words = slot + first * (L::PARTS * STEP_LANES) + thread % 32;
        there = min(steps_, all - first);
    }
    __device__ __forceinline__ void ask(int k)
    {
#pragma unroll
        for (int part = 0; part < L::PARTS; part++)
            v[k % AT_ONCE][part] = gpu::ld_relaxed16(words + (k * L::PARTS + part) * STEP_LANES);
    }
    __device__ __forceinline__ bool here(int k) const
    {
        return has_come(v[k % AT_ONCE][0]) && has_come(v[k % AT_ONCE][L::PARTS - 1]);
    }
    // Asks for the first steps; or for one alone, where none is thought to be there yet.
    __device__ __forceinline__ void begin(bool alone)
    {
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
            if (k < there && (k == 0 || !alone))
                ask(k);
            else
                for (uint4 &one : v[k])
                    one = {0, 0, 0, 0};
    }
    // Until step k is here, for all lanes. LATE: where it was not, those behind it are asked for again.
    template <bool LATE> __device__ __forceinline__ void wait(const Exchange &x, int k, bool late)
    {
        unsigned polls = 0;
        while (!__all_sync(~0u, here(k))) {
            if (++polls >= x.patience || (polls % 1024 == 0 && __any_sync(~0u, gpu::ld_acquire(x.status)))) {
                atomicExch(x.status, 1u);
                atomicExch(x.stop, 1u);
                break;
            }
            if (!here(k))
                ask(k);
        }
        if (LATE && (late || polls))
#pragma unroll
            for (int i = 1; i < AT_ONCE; i++)
                if (k + i < AT_ONCE && k + i < there && !here(k + i))
                    ask(k + i);
    }
    __device__ __forceinline__ void step(float (&sum)[L::TILES][2][4], const Weights<L> &w, int k)
    {
        Base::step_high(sum, w, k, published(v[k % AT_ONCE][0]));
        if (L::PARTS == 2)
            Base::step_low(sum, w, k, published(v[k % AT_ONCE][L::PARTS - 1]));
        follow(k);
    }
    // Behind step k: the one that takes its place.
    __device__ __forceinline__ void follow(int k)
    {
        if (k + AT_ONCE < there)
            ask(k + AT_ONCE);
    }
    // The first n steps are done with.
    __device__ __forceinline__ void pass(int n)
    {
        words += n * (L::PARTS * STEP_LANES);
        there -= n;
    }
    // sum += W x, in the order of Product::run.
    __device__ __forceinline__ void run(float (&sum)[L::TILES][2][4], const Weights<L> &w, const Exchange &x,
                                        bool alone)
    {
        float odd[L::TILES][2][4] = {};
#pragma unroll
        for (int k = 0; k < L::RESIDENT; k++)
            if (k < there) {
                if (k < AT_ONCE)
                    wait<true>(x, k, alone && k == 0);
                else
                    wait<false>(x, k, false);
                step(Base::TWO_CHAINS && k % 2 ? odd : sum, w, k);
            }
        constexpr int PLACE = L::RESIDENT % AT_ONCE; // of the first further step
        pass(L::RESIDENT - PLACE);
#pragma unroll 1
        for (int passed = L::RESIDENT - PLACE; there > PLACE; passed += AT_ONCE, pass(AT_ONCE))
#pragma unroll
            for (int k = PLACE; k < PLACE + AT_ONCE; k++)
                if (k < there) {
                    wait<false>(x, k, false);
                    Base::far_step(sum, passed + k, published(v[k % AT_ONCE][0]),
                                   published(v[k % AT_ONCE][L::PARTS - 1]));
                    follow(k);
                }
        Base::add(sum, odd);
    }
};
} // namespace persist
#endif
