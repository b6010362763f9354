/* samples.cu - see samples.h. */
#include "kernels/cuda/gpu.h"
#include "samples.h"
#include <cooperative_groups.h>

static constexpr unsigned ALL = 0xffffffffu;

__global__ void __launch_bounds__(128, 1) sums_kernel(float *sums, const float *x, int n)
{
    SHARED(float, part, [4]);
    const float *row = x + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(n);
    float sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += 128)
        sum += row[i];
    for (int o = 16; o; o >>= 1)
        sum += __shfl_xor_sync(ALL, sum, o);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
        sums[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}
cudaError_t sample_sums(float *sums, const float *x, int rows, int n, cudaStream_t stream)
{
    return LAUNCH(sums_kernel, rows, 128, 0, stream, sums, x, n);
}

__global__ void __launch_bounds__(256, 1) reverse_kernel(int *y, const int *x)
{
    DYN_SHARED(int, tile);
    const unsigned i = blockIdx.x * 256 + threadIdx.x;
    tile[threadIdx.x] = x[i];
    __syncthreads();
    y[(gridDim.x - 1 - blockIdx.x) * 256 + threadIdx.x] = tile[255 - threadIdx.x];
}
cudaError_t sample_reverse(int *y, const int *x, int n, cudaStream_t stream)
{
    return LAUNCH(reverse_kernel, n / 256, 256, 256 * sizeof(int), stream, y, x);
}

__global__ void __launch_bounds__(256, 1) reverse_warps_kernel(int *y, const int *x)
{
    SHARED(int, tile, [8][32]);
    const unsigned i = blockIdx.x * 256 + threadIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    tile[warp][lane] = x[i];
    __syncwarp();
    y[i] = tile[warp][31 - lane];
}
cudaError_t sample_reverse_warps(int *y, const int *x, int n, cudaStream_t stream)
{
    return LAUNCH(reverse_warps_kernel, n / 256, 256, 0, stream, y, x);
}

__global__ void __launch_bounds__(64, 1) smooth_kernel(float *x, float *other, int steps)
{
    const unsigned n = gridDim.x * 64, i = blockIdx.x * 64 + threadIdx.x;
    for (int s = 0; s < steps; s++) {
        other[i] = 0.5f * (x[(i + n - 1) % n] + x[(i + 1) % n]);
        cooperative_groups::this_grid().sync();
        float *t = x;
        x = other;
        other = t;
    }
}
cudaError_t sample_smooth(float *x, float *other, int blocks, int steps, cudaStream_t stream)
{
    return LAUNCH_COOP(smooth_kernel, blocks, 64, 0, stream, x, other, steps);
}

__global__ void __launch_bounds__(256, 1) count_kernel(unsigned *counts, const uint8_t *x, int n)
{
    const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
    if (i < n)
        atomicAdd(&counts[x[i]], 1u);
}
cudaError_t sample_count(unsigned *counts, const uint8_t *x, int n, cudaStream_t stream)
{
    return LAUNCH(count_kernel, (n + 255) / 256, 256, 0, stream, counts, x, n);
}

__global__ void __launch_bounds__(32, 1) last_block_kernel(int *sum, int *parts, unsigned *done)
{
    if (threadIdx.x)
        return;
    parts[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
    __threadfence();
    if (atomicAdd(done, 1u) != gridDim.x - 1)
        return;
    __threadfence();
    *sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
        *sum += parts[b];
}
cudaError_t sample_last_block(int *sum, int *parts, unsigned *done, int blocks, cudaStream_t stream)
{
    return LAUNCH(last_block_kernel, blocks, 32, 0, stream, sum, parts, done);
}

// Block 0 writes a row and a flag; one lane of block 1 waits for the flag, the barrier of its warp tells the others.
__global__ void __launch_bounds__(32, 1) hand_over_kernel(int *y, int *x, unsigned *flag)
{
    const unsigned lane = threadIdx.x;
    if (blockIdx.x == 0) {
        x[lane] = static_cast<int>(lane) + 1;
        __syncthreads();
        if (lane == 0)
            gpu::st_release(flag, 1);
        return;
    }
    if (lane == 7)
        while (gpu::ld_acquire(flag) != 1)
            ;
    __syncwarp();
    y[lane] = x[31 - lane];
}
cudaError_t sample_hand_over(int *y, int *x, unsigned *flag, cudaStream_t stream)
{
    return LAUNCH_COOP(hand_over_kernel, 2, 32, 0, stream, y, x, flag);
}

template <bool HALF> __global__ void __launch_bounds__(32, 1) mma_kernel(float *d, const uint16_t *a, const uint16_t *b)
{
    SHARED(uint16_t, tile, [16][24]); // rows of 48 bytes: aligned to 16, and no two of eight in one bank
    const unsigned lane = threadIdx.x, g = lane / 4, q = lane % 4;
    gpu::cp_async16(&tile[lane / 2][lane % 2 * 8], a + lane * 8);
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncwarp();
    uint32_t ar[4], br[2];
    gpu::ldmatrix_x4(ar, &tile[lane % 16][lane / 16 * 8]);
    for (unsigned r = 0; r < 2; r++) {
        const uint32_t low = b[(2 * q + 8 * r) * 8 + g], high = b[(2 * q + 1 + 8 * r) * 8 + g];
        br[r] = low | high << 16;
    }
    float c[4] = {0, 0, 0, 0};
    if (HALF)
        gpu::mma_m16n8k16_f16(c, ar, br, c);
    else
        gpu::mma_m16n8k16(c, ar, br, c);
    for (unsigned r = 0; r < 4; r++)
        d[(g + 8 * (r >> 1)) * 8 + 2 * q + (r & 1)] = c[r];
}
cudaError_t sample_mma(float *d, const uint16_t *a, const uint16_t *b, bool half, cudaStream_t stream)
{
    return half ? LAUNCH(mma_kernel<true>, 1, 32, 0, stream, d, a, b)
                : LAUNCH(mma_kernel<false>, 1, 32, 0, stream, d, a, b);
}

__global__ void __launch_bounds__(128, 1) halve_kernel(uint16_t *bits, float *back, const float *x, int n)
{
    const int i = static_cast<int>(blockIdx.x * 128 + threadIdx.x);
    if (i >= n)
        return;
    const __half h = __float2half_rn(x[i]);
    bits[i] = __half_as_ushort(h);
    back[i] = __half2float(h);
}
cudaError_t sample_halve(uint16_t *bits, float *back, const float *x, int n, cudaStream_t stream)
{
    return LAUNCH(halve_kernel, (n + 127) / 128, 128, 0, stream, bits, back, x, n);
}

struct triple {
    double at[3];
};
__global__ void __launch_bounds__(128, 1) triples_kernel(triple *y, const triple *x, int n)
{
    const int i = static_cast<int>(blockIdx.x * 128 + threadIdx.x);
    if (i < n)
        y[i] = x[i];
}
cudaError_t sample_copy_triples(double *y, const double *x, int n, cudaStream_t stream)
{
    return LAUNCH(triples_kernel, (n + 127) / 128, 128, 0, stream, reinterpret_cast<triple *>(y),
                  reinterpret_cast<const triple *>(x), n);
}

__global__ void __launch_bounds__(128, 1) add_kernel(int *y, const int *x, int n)
{
    const int i = static_cast<int>(blockIdx.x * 128 + threadIdx.x);
    if (i < n)
        y[i] += x[i];
}
cudaError_t sample_add(int *y, const int *x, int n, cudaStream_t stream)
{
    return LAUNCH(add_kernel, (n + 127) / 128, 128, 0, stream, y, x, n);
}
