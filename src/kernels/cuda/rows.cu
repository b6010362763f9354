// rows.cu - a matrix and a vector: sums of columns, biases; and 16-bit formats, there and back.
#include "kernels/cuda/formats.cuh"

constexpr int THREADS = 256;
constexpr int WIDE = 32, TALL = 32; // of a block that sums columns

// Each thread adds every TALL-th row of one column; the TALL sums are added in order, in double.
template <class F>
__global__ void __launch_bounds__(WIDE *TALL, 1)
    column_sums(float *y, bool add, const __grid_constant__ crnn_matrix x, int64_t rows, int32_t columns, float unit)
{
    SHARED(float, part, [TALL][WIDE]);
    constexpr int AHEAD = 8; // loads on their way at a time: there are few blocks to hide one behind another
    const int lane = threadIdx.x % WIDE, group = threadIdx.x / WIDE, column = blockIdx.x * WIDE + lane;
    const auto *from = static_cast<const typename F::Item *>(x.at) + column;
    float sum = 0;
    for (int64_t base = group; base < rows && column < columns; base += TALL * AHEAD) {
        float v[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            const int64_t i = base + j * TALL;
            v[j] = i < rows ? F::read(from + i * x.ld, x.low) : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++)
            sum += v[j];
    }
    part[group][lane] = sum;
    __syncthreads();
    if (group != 0 || column >= columns)
        return;
    double all = 0;
    for (int g = 0; g < TALL; g++)
        all += static_cast<double>(part[g][lane]);
    y[column] = (add ? y[column] : 0.0f) + static_cast<float>(all) * unit;
}

cudaError_t crnn_launch_column_sums(float *y, bool add, crnn_matrix x, int64_t rows, int32_t columns,
                                    cudaStream_t stream)
{
    const unsigned blocks = (static_cast<unsigned>(columns) + WIDE - 1) / WIDE;
    const float unit = ldexpf(1.0f, -x.doublings);
    return format::with(x.format, [&](auto f) {
        using F = decltype(f);
        return LAUNCH(column_sums<F>, blocks, WIDE * TALL, 0, stream, y, add, x, rows, columns, unit);
    });
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

template <class F>
__global__ void __launch_bounds__(THREADS, 1)
    narrow(uint16_t *to, int64_t ld, int64_t low, const float *from, int64_t n, int64_t columns, float scale)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step) {
        const int64_t at = ld == columns ? i : i / columns * ld + i % columns;
        F::write(to + at, low, from[i] * scale);
    }
}

__global__ void __launch_bounds__(THREADS, 1) from_bf16(float *to, const __nv_bfloat16 *from, int64_t n)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        to[i] = __bfloat162float(from[i]);
}

cudaError_t crnn_launch_narrow(crnn_narrow to, const float *from, int64_t rows, int64_t columns, cudaStream_t stream)
{
    const int64_t n = rows * columns;
    const float scale = ldexpf(1.0f, to.doublings);
    return format::with_narrow(to.format, [&](auto f) {
        using F = decltype(f);
        return LAUNCH(narrow<F>, gpu_blocks(n, THREADS), THREADS, 0, stream, to.at, to.ld, to.low, from, n, columns,
                      scale);
    });
}

cudaError_t crnn_launch_from_bf16(float *to, const uint16_t *from, int64_t n, cudaStream_t stream)
{
    return LAUNCH(from_bf16, gpu_blocks(n, THREADS), THREADS, 0, stream, to,
                  reinterpret_cast<const __nv_bfloat16 *>(from), n);
}
