/* planted.cu - see planted.h. */
#include "kernels/cuda/gpu.h"
#include "planted.h"
#include <cooperative_groups.h>

static constexpr unsigned ALL = 0xffffffffu;
static __device__ int thread()
{
    return static_cast<int>(threadIdx.x);
}

__global__ void two_barriers()
{
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads();
}
__global__ void barrier_after_exit(int *p)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    p[0] = 1;
}
__global__ void barrier_skipped(int *p)
{
    if (threadIdx.x >= 32 && threadIdx.x < 48)
        __syncwarp(); // waits for the other half, which waits below
    __syncthreads();
    p[threadIdx.x] = 1;
}
__global__ void lane_outside_its_mask(int *p)
{
    if (threadIdx.x % 2)
        p[threadIdx.x] = __shfl_sync(0x55555555u, 1, 0);
}
__global__ void shuffle_from_outside(int *p)
{
    if (threadIdx.x % 2 == 0)
        p[threadIdx.x] = __shfl_sync(0x55555555u, thread(), 1);
}
__global__ void half_a_warp_waits(int *p)
{
    if (threadIdx.x < 16)
        __syncwarp();
    p[threadIdx.x] = __shfl_xor_sync(ALL, 1, 16);
}
__global__ void grid_barrier()
{
    cooperative_groups::this_grid().sync();
}
__global__ void use_dynamic(int *p)
{
    DYN_SHARED(int, tile);
    tile[threadIdx.x] = 1;
    p[threadIdx.x] = tile[threadIdx.x];
}
__global__ void misaligned_ldmatrix(int *p)
{
    SHARED(int, tile, [512]);
    uint32_t r[4];
    gpu::ldmatrix_x4(r, tile + 1 + threadIdx.x * 8);
    p[threadIdx.x] = static_cast<int>(r[0]);
}
__global__ void block_race(int *p)
{
    p[0] = static_cast<int>(blockIdx.x);
}
__global__ void shared_race(int *p)
{
    SHARED(int, tile, [64]);
    tile[threadIdx.x] = thread();
    p[threadIdx.x] = tile[63 - threadIdx.x];
}
__global__ void shared_reuse(int *p)
{
    SHARED(int, tile, [64]);
    tile[threadIdx.x] = thread();
    __syncthreads();
    p[threadIdx.x] = tile[63 - threadIdx.x];
    tile[threadIdx.x] = 0;
}
__global__ void warp_race(int *p)
{
    SHARED(int, tile, [32]);
    tile[threadIdx.x] = 1;
    p[threadIdx.x] = tile[31 - threadIdx.x];
}
__global__ void float_atomic_as_flag(float *flag, int *p)
{
    if (blockIdx.x == 0)
        p[0] = 1;
    atomicAdd(flag, 1.0f);
    if (blockIdx.x == 1)
        p[1] = p[0];
}
__global__ void hand_over(int *p, unsigned *flag)
{
    if (blockIdx.x == 0) {
        p[threadIdx.x] = thread();
        __syncthreads();
        if (threadIdx.x == 0)
            gpu::st_release(flag, 1);
        return;
    }
    if (threadIdx.x == 0)
        while (gpu::ld_acquire(flag) != 1)
            ;
    __shfl_sync(ALL, 0, 0); // waits for lane 0, but orders no memory
    p[32 + threadIdx.x] = p[threadIdx.x];
}
// Block 1 writes over what block 0 has read when it says so; and it reads what block 0 has written, which that word does not tell.
__global__ void words(int *p, unsigned *word, bool reads)
{
    if (blockIdx.x == 0) {
        const int read = p[threadIdx.x];
        p[32 + threadIdx.x] = read;
        gpu::st_relaxed(word + threadIdx.x, static_cast<unsigned>(read) | 1);
        return;
    }
    const uint4 *from = reinterpret_cast<const uint4 *>(word + threadIdx.x / 4 * 4);
    uint4 v;
    do
        v = gpu::ld_relaxed16(from);
    while (!(v.x && v.y && v.z && v.w));
    __syncthreads();
    p[threadIdx.x] = static_cast<int>(v.x) + (reads ? p[32 + threadIdx.x] : 0);
}
__global__ void copy_wait(int *p, const int *x)
{
    SHARED(int, tile, [128]);
    gpu::cp_async16(tile + threadIdx.x * 4, x + threadIdx.x * 4);
    gpu::cp_async_commit();
    __syncthreads();
    p[threadIdx.x] = tile[threadIdx.x];
}
__global__ void copy(int *to, const int *from)
{
    to[threadIdx.x] = from[threadIdx.x];
}
__global__ void misaligned_load(float *to, const float *from)
{
    *reinterpret_cast<float4 *>(to) = *reinterpret_cast<const float4 *>(from + 1);
}
__global__ void stack_of_another(int *p)
{
    SHARED(int *, where, [1]);
    int mine = thread();
    if (threadIdx.x == 0)
        where[0] = &mine;
    __syncthreads();
    if (threadIdx.x == 1)
        p[0] = *where[0];
    __syncthreads();
}

cudaError_t planted_two_barriers(cudaStream_t stream)
{
    return gpu_launch("two_barriers", 1, 64, 0, stream, false, 1, two_barriers);
}
cudaError_t planted_barrier_after_exit(int *p)
{
    return LAUNCH(barrier_after_exit, 1, 64, 0, nullptr, p);
}
cudaError_t planted_barrier_skipped(int *p)
{
    return LAUNCH(barrier_skipped, 1, 64, 0, nullptr, p);
}
cudaError_t planted_lane_outside_its_mask(int *p)
{
    return LAUNCH(lane_outside_its_mask, 1, 32, 0, nullptr, p);
}
cudaError_t planted_shuffle_from_outside(int *p)
{
    return LAUNCH(shuffle_from_outside, 1, 32, 0, nullptr, p);
}
cudaError_t planted_half_a_warp_waits(int *p)
{
    return LAUNCH(half_a_warp_waits, 1, 32, 0, nullptr, p);
}
cudaError_t planted_grid_barrier_without_cooperation(void)
{
    return gpu_launch("grid_barrier", 2, 32, 0, nullptr, false, 1, grid_barrier);
}
cudaError_t planted_no_shared_memory(int *p)
{
    return LAUNCH(use_dynamic, 1, 32, 0, nullptr, p);
}
cudaError_t planted_misaligned_ldmatrix(int *p)
{
    return LAUNCH(misaligned_ldmatrix, 1, 32, 0, nullptr, p);
}
cudaError_t planted_block_race(int *p)
{
    return LAUNCH(block_race, 4, 1, 0, nullptr, p);
}
cudaError_t planted_shared_race(int *p)
{
    return LAUNCH(shared_race, 1, 64, 0, nullptr, p);
}
cudaError_t planted_shared_reuse(int *p)
{
    return LAUNCH(shared_reuse, 1, 64, 0, nullptr, p);
}
cudaError_t planted_warp_race(int *p)
{
    return LAUNCH(warp_race, 1, 32, 0, nullptr, p);
}
cudaError_t planted_float_atomic_as_flag(float *flag, int *p)
{
    return LAUNCH(float_atomic_as_flag, 2, 1, 0, nullptr, flag, p);
}
cudaError_t planted_hand_over(int *p, unsigned *flag)
{
    return LAUNCH_COOP(hand_over, 2, 32, 0, nullptr, p, flag);
}
cudaError_t planted_words(int *p, unsigned *word, int reads)
{
    return LAUNCH_COOP(words, 2, 32, 0, nullptr, p, word, reads != 0);
}
cudaError_t planted_copy_wait(int *p, const int *x)
{
    return LAUNCH(copy_wait, 1, 32, 0, nullptr, p, x);
}
cudaError_t planted_copy(int *to, const int *from, int threads, cudaStream_t stream)
{
    return LAUNCH(copy, 1, threads, 0, stream, to, from);
}
cudaError_t planted_misaligned_load(float *to, const float *from)
{
    return LAUNCH(misaligned_load, 1, 1, 0, nullptr, to, from);
}
cudaError_t planted_shared_bounds(int *p)
{
    return LAUNCH(use_dynamic, 1, 32, 16 * sizeof(int), nullptr, p);
}
cudaError_t planted_stack_of_another(int *p)
{
    return LAUNCH(stack_of_another, 1, 32, 0, nullptr, p);
}
cudaError_t planted_big_block(void)
{
    return gpu_launch("grid_barrier", 1, 1025, 0, nullptr, false, 1, grid_barrier);
}
cudaError_t planted_big_shared_memory(int *p)
{
    return LAUNCH(use_dynamic, 1, 32, 60000, nullptr, p);
}
__global__ void with_memory_of_its_own(int *p)
{
    SHARED(int, own, [1024]);
    own[threadIdx.x] = 1;
    p[threadIdx.x] = own[threadIdx.x];
}
cudaError_t planted_shared_memory_beside_its_own(int *p, size_t more)
{
    cudaError_t e = LAUNCH(with_memory_of_its_own, 1, 32, 0, nullptr, p);
    if (e == cudaSuccess)
        e = cudaDeviceSynchronize();
    return e == cudaSuccess ? cudaFuncSetAttribute(with_memory_of_its_own, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(more))
                            : e;
}
cudaError_t planted_big_cooperation(void)
{
    return gpu_launch("grid_barrier", 100, 1024, 0, nullptr, true, 1, grid_barrier);
}
