// rows.cu - a matrix and a vector: sums of columns, biases; and bfloat16, there and back.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"

constexpr int THREADS = 256;
constexpr int WIDE = 32, TALL = 16; // of a block that sums columns

// Each thread adds every TALL-th row of one column; the TALL sums are added in order, in double.
__global__ void __launch_bounds__(WIDE *TALL, 1)
    column_sums(float *y, const float *x, int64_t ld, int64_t rows, int32_t columns)
{
    SHARED(float, part, [TALL][WIDE]);
    const int lane = threadIdx.x % WIDE, group = threadIdx.x / WIDE, column = blockIdx.x * WIDE + lane;
    float sum = 0;
    if (column < columns)
        for (int64_t i = group; i < rows; i += TALL)
            sum += x[i * ld + column];
    part[group][lane] = sum;
    __syncthreads();
    if (group != 0 || column >= columns)
        return;
    double all = 0;
    for (int g = 0; g < TALL; g++)
        all += static_cast<double>(part[g][lane]);
    y[column] = static_cast<float>(all);
}

cudaError_t crnn_launch_column_sums(float *y, const float *x, int64_t ld, int64_t rows, int32_t columns,
                                    cudaStream_t stream)
{
    return LAUNCH(column_sums, (columns + WIDE - 1) / WIDE, WIDE * TALL, 0, stream, y, x, ld, rows, columns);
}

__global__ void __launch_bounds__(THREADS, 1)
    add_bias(float *x, int64_t ld, const float *b, int64_t rows, int32_t columns)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS, n = rows * columns;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        x[i / columns * ld + i % columns] += b[i % columns];
}

cudaError_t crnn_launch_add_bias(float *x, int64_t ld, const float *b, int64_t rows, int32_t columns,
                                 cudaStream_t stream)
{
    return LAUNCH(add_bias, gpu_blocks(rows * columns, THREADS), THREADS, 0, stream, x, ld, b, rows, columns);
}

__global__ void __launch_bounds__(THREADS, 1) to_bf16(__nv_bfloat16 *to, const float *from, int64_t n)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        to[i] = __float2bfloat16_rn(from[i]);
}

__global__ void __launch_bounds__(THREADS, 1) from_bf16(float *to, const __nv_bfloat16 *from, int64_t n)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        to[i] = __bfloat162float(from[i]);
}

cudaError_t crnn_launch_to_bf16(uint16_t *to, const float *from, int64_t n, cudaStream_t stream)
{
    return LAUNCH(to_bf16, gpu_blocks(n, THREADS), THREADS, 0, stream, reinterpret_cast<__nv_bfloat16 *>(to), from, n);
}

cudaError_t crnn_launch_from_bf16(float *to, const uint16_t *from, int64_t n, cudaStream_t stream)
{
    return LAUNCH(from_bf16, gpu_blocks(n, THREADS), THREADS, 0, stream, to,
                  reinterpret_cast<const __nv_bfloat16 *>(from), n);
}
