/* gpu.h - one header for kernels: the CUDA compiler and the simulator of tests/cusim see the same source.
 *
 * Rules that keep it so: shared memory by SHARED and DYN_SHARED (a CPU has no __shared__ per block); launches by LAUNCH and its like;
 * inline PTX only in the wrappers below; a loop that waits for another thread polls with gpu::ld_acquire, ld_relaxed16, ld_relaxed2 or calls
 * __nanosleep, so that the simulator can let the other one run; __launch_bounds__(threads, 1) on every kernel, as without the second number a
 * register may spill.
 */
#ifndef CRNN_KERNELS_CUDA_GPU_H
#define CRNN_KERNELS_CUDA_GPU_H

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#ifdef CUSIM
#include <mma.h>
#endif

#ifdef CUSIM
#define SHARED(T, name, dims)                                                                                          \
    typedef T name##_array_t dims;                                                                                     \
    static const char name##_tag = 0;                                                                                  \
    name##_array_t &name = *static_cast<name##_array_t *>(                                                             \
        cusim::shared_static(&name##_tag, sizeof(name##_array_t), alignof(name##_array_t), "__shared__ " #name))
#define DYN_SHARED(T, name) T *name = static_cast<T *>(cusim::shared_dynamic(1024))
#else
#define SHARED(T, name, dims) __shared__ T name dims
#define DYN_SHARED(T, name)                                                                                            \
    extern __shared__ __align__(1024) unsigned char gpu_dyn_smem[];                                                    \
    T *name = reinterpret_cast<T *>(gpu_dyn_smem)
#endif

// Arguments convert to the types of the parameters; the status is that of the launch alone.
template <class... P, class... A>
static inline cudaError_t gpu_launch(const char *name, dim3 g, dim3 b, size_t smem, cudaStream_t st, bool coop,
                                     unsigned cluster, void (*k)(P...), A... a)
{
#ifdef CUSIM
    return cusim::launch_kernel<P...>(name, g, b, smem, st, {coop, cluster}, k, static_cast<P>(a)...);
#else
    (void)name;
    cudaLaunchAttribute at[2];
    cudaLaunchConfig_t cfg = {g, b, smem, st, at, 0};
    if (coop) {
        at[cfg.numAttrs].id = cudaLaunchAttributeCooperative;
        at[cfg.numAttrs++].val.cooperative = 1;
    }
    if (cluster > 1) {
        at[cfg.numAttrs].id = cudaLaunchAttributeClusterDimension;
        at[cfg.numAttrs++].val.clusterDim = {cluster, 1, 1};
    }
    return cudaLaunchKernelEx(&cfg, k, static_cast<P>(a)...);
#endif
}
#define LAUNCH(k, g, b, smem, st, ...) gpu_launch(#k, g, b, smem, st, false, 1, k, __VA_ARGS__)
// All blocks run at the same time; and, in the second form, `cluster` neighbours along x share a cluster (compute capability 9.0).
#define LAUNCH_COOP(k, g, b, smem, st, ...) gpu_launch(#k, g, b, smem, st, true, 1, k, __VA_ARGS__)
#define LAUNCH_COOP_CLUSTER(k, g, b, smem, st, cluster, ...)                                                           \
    gpu_launch(#k, g, b, smem, st, true, cluster, k, __VA_ARGS__)

// How many clusters of that size of such blocks the GPU can hold at a time. The kernel's shared memory has been asked for.
template <class... P>
static inline cudaError_t gpu_max_clusters(int *n, void (*k)(P...), int threads, size_t smem, unsigned cluster)
{
#ifdef CUSIM
    return cusim::max_clusters(n, reinterpret_cast<const void *>(k), threads, smem, cluster);
#else
    cudaLaunchAttribute at[1];
    const cudaLaunchConfig_t cfg = {dim3(cluster), dim3(static_cast<unsigned>(threads)), smem, nullptr, at, 1};
    at[0].id = cudaLaunchAttributeClusterDimension;
    at[0].val.clusterDim = {cluster, 1, 1};
    return cudaOccupancyMaxActiveClusters(n, k, &cfg);
#endif
}

// Blocks for n pieces of work, threads a block: enough to fill any GPU; where there is more work, threads take several pieces.
static inline unsigned gpu_blocks(int64_t n, int threads)
{
    const int64_t most = 8192, blocks = (n + threads - 1) / threads;
    return static_cast<unsigned>(blocks < most ? blocks : most);
}

// Tensor cores for these formats, and copies beside computing, came with compute capability 8.0. Kernels that use them compile for older
// GPUs too, so that each file serves them all, but are never launched there.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define GPU_BEFORE_AMPERE 1
#else
#define GPU_BEFORE_AMPERE 0
#endif

// Clusters, and copies that a barrier in shared memory counts, came with 9.0.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define GPU_BEFORE_HOPPER 1
#else
#define GPU_BEFORE_HOPPER 0
#endif

// Operations without a CUDA C++ spelling: inline PTX for the GPU, functions of the simulator otherwise.
namespace gpu
{
// threadIdx.x, asked for anew: what is computed from it within a loop is not kept in registers from round to round.
__device__ __forceinline__ int thread_again()
{
#ifdef CUSIM
    return static_cast<int>(threadIdx.x);
#else
    int v;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(v));
    return v;
#endif
}
// v, asked for anew in the same way.
template <class T> __device__ __forceinline__ T anew(T v) // int or unsigned
{
#ifndef CUSIM
    asm volatile("" : "+r"(v));
#endif
    return v;
}
__device__ __forceinline__ unsigned ld_acquire(const unsigned *p)
{
#ifdef CUSIM
    return cusim::ld_acquire(p);
#else
    unsigned v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
#endif
}
// What this thread wrote, and what it saw others write before a barrier, is there for who acquires the new value.
__device__ __forceinline__ void st_release(unsigned *p, unsigned v)
{
#ifdef CUSIM
    cusim::st_release(p, v);
#else
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
#endif
}
// No order with other accesses: the words themselves are what is told. ld_relaxed16 and ld_relaxed2: each of the words by itself, of 4 bytes or 8.
__device__ __forceinline__ void st_relaxed(unsigned *p, unsigned v)
{
#ifdef CUSIM
    cusim::st_relaxed(p, v);
#else
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
#endif
}
__device__ __forceinline__ void st_relaxed(uint64_t *p, uint64_t v)
{
#ifdef CUSIM
    cusim::st_relaxed(p, v);
#else
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
#endif
}
__device__ __forceinline__ uint4 ld_relaxed16(const uint4 *p)
{
#ifdef CUSIM
    return cusim::ld_relaxed16(p);
#else
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
#endif
}
__device__ __forceinline__ void ld_relaxed2(uint64_t v[2], const uint64_t *p) // p: 16-byte aligned
{
#ifdef CUSIM
    v[0] = cusim::ld_relaxed(p);
    v[1] = cusim::ld_relaxed(p + 1);
#else
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0,%1}, [%2];" : "=l"(v[0]), "=l"(v[1]) : "l"(p) : "memory");
#endif
}
__device__ __forceinline__ void red_release_add(unsigned *p, unsigned v)
{
#ifdef CUSIM
    atomicAdd(p, v);
#else
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
#endif
}
__device__ __forceinline__ void mma_m16n8k16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4])
{
#ifdef CUSIM
    cusim::mma_m16n8k16_bf16(d, a, b, c);
#elif GPU_BEFORE_AMPERE
    __trap();
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#endif
}
__device__ __forceinline__ void mma_m16n8k16_f16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4])
{
#ifdef CUSIM
    cusim::mma_m16n8k16_f16(d, a, b, c);
#elif GPU_BEFORE_AMPERE
    __trap();
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#endif
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
#ifdef CUSIM
    cusim::ldmatrix(r, 4, false, row);
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(s)
                 : "memory");
#endif
}
__device__ __forceinline__ void cp_async16(void *dst, const void *src)
{
#ifdef CUSIM
    cusim::cp_async(dst, src, 16, 16);
#elif GPU_BEFORE_AMPERE
    __trap();
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(dst));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(s), "l"(src) : "memory");
#endif
}
// BYTES 4 or 8
template <int BYTES> __device__ __forceinline__ void cp_async_small(void *dst, const void *src)
{
    static_assert(BYTES == 4 || BYTES == 8, "16 bytes go past the first-level cache: cp_async16");
#ifdef CUSIM
    cusim::cp_async(dst, src, BYTES, BYTES);
#elif GPU_BEFORE_AMPERE
    __trap();
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(dst));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(s), "l"(src), "n"(BYTES) : "memory");
#endif
}
__device__ __forceinline__ void cp_async_commit()
{
#ifdef CUSIM
    cusim::cp_async_commit();
#elif GPU_BEFORE_AMPERE
    __trap();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> __device__ __forceinline__ void cp_async_wait()
{
#ifdef CUSIM
    cusim::cp_async_wait(N);
#elif GPU_BEFORE_AMPERE
    __trap();
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// ---- clusters: blocks that run at the same time and see each other's shared memory
__device__ __forceinline__ unsigned cluster_rank()
{
#ifdef CUSIM
    return cusim::cluster_rank();
#elif GPU_BEFORE_HOPPER
    __trap();
    return 0;
#else
    unsigned v;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
    return v;
#endif
}
// The cluster's barrier in two halves, for all threads of all its blocks: what came before the first is there for who is past the second.
__device__ __forceinline__ void cluster_arrive()
{
#ifdef CUSIM
    cusim::cluster_arrive();
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait()
{
#ifdef CUSIM
    cusim::cluster_wait();
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}
// What p is in this block's shared memory, in that of the block of that rank: to be read and written as any other memory, while it runs.
template <class T> __device__ __forceinline__ T *peer(T *p, unsigned rank)
{
#ifdef CUSIM
    return static_cast<T *>(cusim::cluster_map(p, rank));
#elif GPU_BEFORE_HOPPER
    __trap();
    return p;
#else
    T *there;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(p), "r"(rank));
    return there;
#endif
}

// ---- barriers in shared memory: a phase ends when all arrivals were made and all bytes came that they were told to expect
__device__ __forceinline__ void mbarrier_init(uint64_t *barrier, unsigned arrivals)
{
#ifdef CUSIM
    cusim::mbarrier_init(barrier, arrivals);
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(barrier));
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(s), "r"(arrivals) : "memory");
#endif
}
// Behind the initialisations of this thread, before the barrier that tells others of them: copies may then report to them.
__device__ __forceinline__ void mbarrier_fence_init()
{
#ifdef CUSIM
    cusim::mbarrier_fence_init();
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t *barrier, unsigned bytes)
{
#ifdef CUSIM
    cusim::mbarrier_arrive_expect(barrier, bytes);
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(barrier));
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(s), "r"(bytes) : "memory");
#endif
}
// Until the phase of that parity has ended: 0 the first, 1 the second, 0 the third.
__device__ __forceinline__ void mbarrier_wait(uint64_t *barrier, unsigned parity)
{
#ifdef CUSIM
    cusim::mbarrier_wait(barrier, parity);
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(barrier)), done;
    do // waits for a while that the hardware chooses
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(s), "r"(parity)
                     : "memory");
    while (!done);
#endif
}

// ---- bulk copies
// Between what this thread wrote, or acquired of what others wrote, and bulk copies that read it.
__device__ __forceinline__ void fence_proxy_async()
{
#ifdef CUSIM
    cusim::fence_proxy_async();
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
}
// Starts a copy of device memory to the same place `to` in the shared memory of each block of the cluster in mask; it reports its bytes to
// `barrier` in each. Multiples of 16.
__device__ __forceinline__ void bulk_multicast(void *to, const void *from, unsigned bytes, uint64_t *barrier,
                                               unsigned mask)
{
#ifdef CUSIM
    cusim::bulk_multicast(to, from, bytes, barrier, mask);
#elif GPU_BEFORE_HOPPER
    __trap();
#else
    unsigned s = static_cast<unsigned>(__cvta_generic_to_shared(to)),
             b = static_cast<unsigned>(__cvta_generic_to_shared(barrier));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, "
                 "[%3], %4;" ::"r"(s),
                 "l"(from), "r"(bytes), "r"(b), "h"(static_cast<uint16_t>(mask))
                 : "memory");
#endif
}
} // namespace gpu
#endif
