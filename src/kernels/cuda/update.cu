// update.cu - what a step takes from its queue, the norm of the gradients, the update, and the state that a step hands on.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/reduce.h"
#include <cfloat>

constexpr int THREADS = 256;

// One block: *begun is read by all threads before one of them counts on.
__global__ void __launch_bounds__(THREADS, 1)
    next_step(crnn_step_inputs *inputs, int64_t *starts, const __grid_constant__ crnn_step_queue queue, int B)
{
    const int64_t k = *queue.begun;
    for (int b = threadIdx.x; b < B; b += THREADS)
        starts[b] = queue.starts[k * B + b];
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    *queue.begun = k + 1;
    *inputs = queue.inputs[k];
    crnn_step_numbers *numbers = queue.numbers;
    if (k > 0)
        numbers[k] = numbers[0];
    numbers->halted = k > 0 && !numbers->finite ? 1 : 0;
}

cudaError_t crnn_launch_next_step(crnn_step_inputs *inputs, int64_t *starts, const crnn_step_queue *queue, int32_t B,
                                  cudaStream_t stream)
{
    return LAUNCH(next_step, 1, THREADS, 0, stream, inputs, starts, *queue, B);
}

__global__ void __launch_bounds__(THREADS, 1) sum_of_squares(const float *g, int64_t n, crnn_gpu_partial *partials)
{
    SHARED(double, part, [THREADS / 32]);
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    double sum = 0;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    sum = gpu::block_reduce<THREADS>(sum, part, gpu::plus());
    if (threadIdx.x == 0)
        partials[blockIdx.x].sum = sum;
}

__global__ void __launch_bounds__(32, 1)
    sum_norm(crnn_step_numbers *numbers, const crnn_gpu_partial *partials, int blocks)
{
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += 32)
        sum += partials[i].sum;
    sum = gpu::warp_reduce(sum, gpu::plus());
    if (threadIdx.x != 0)
        return;
    numbers->norm_squared = sum;
    if (!(sum <= static_cast<double>(FLT_MAX)) || numbers->halted) // NaN too
        numbers->finite = 0;
}

cudaError_t crnn_launch_norm(crnn_step_numbers *numbers, const float *g, int64_t n, crnn_gpu_partial *partials,
                             cudaStream_t stream)
{
    const int64_t wanted = (n + THREADS - 1) / THREADS;
    const int blocks = wanted < CRNN_GPU_PARTIALS ? static_cast<int>(wanted) : CRNN_GPU_PARTIALS;
    const cudaError_t error = LAUNCH(sum_of_squares, blocks, THREADS, 0, stream, g, n, partials);
    if (error != cudaSuccess)
        return error;
    return LAUNCH(sum_norm, 1, 32, 0, stream, numbers, partials, blocks);
}

// Multiplications and additions are rounded one by one, as on the CPU.
__device__ static void update(float &w, float &m, float &v, float g, const crnn_adam &a)
{
    m = __fadd_rn(__fmul_rn(m, a.beta1), __fmul_rn(g, __fsub_rn(1.0f, a.beta1)));
    v = __fadd_rn(__fmul_rn(v, a.beta2), __fmul_rn(__fmul_rn(g, g), __fsub_rn(1.0f, a.beta2)));
    const float change = __fdiv_rn(__fmul_rn(a.rate, m), __fadd_rn(__fsqrt_rn(v), a.epsilon));
    w = __fsub_rn(w, __fadd_rn(change, __fmul_rn(a.decay, w)));
}

__device__ static float clip_scale(float clip, const crnn_step_numbers *numbers)
{
    const double norm = sqrt(numbers->norm_squared);
    return clip > 0 && norm > static_cast<double>(clip) ? static_cast<float>(static_cast<double>(clip) / norm) : 1.0f;
}

__global__ void __launch_bounds__(THREADS, 1) adam(float *w, float *m, float *v, const float *g, int64_t n,
                                                   const crnn_step_inputs *inputs, const crnn_step_numbers *numbers)
{
    if (!numbers->finite)
        return;
    const crnn_adam a = inputs->adam;
    const float scale = clip_scale(a.clip, numbers);
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS * 4;
    for (int64_t i = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * 4; i < n; i += step) {
        if (i + 4 > n) {
            for (int64_t j = i; j < n; j++)
                update(w[j], m[j], v[j], __fmul_rn(g[j], scale), a);
            continue;
        }
        float4 W = *reinterpret_cast<float4 *>(w + i), M = *reinterpret_cast<float4 *>(m + i),
               V = *reinterpret_cast<float4 *>(v + i);
        const float4 G = *reinterpret_cast<const float4 *>(g + i);
        update(W.x, M.x, V.x, __fmul_rn(G.x, scale), a);
        update(W.y, M.y, V.y, __fmul_rn(G.y, scale), a);
        update(W.z, M.z, V.z, __fmul_rn(G.z, scale), a);
        update(W.w, M.w, V.w, __fmul_rn(G.w, scale), a);
        *reinterpret_cast<float4 *>(w + i) = W;
        *reinterpret_cast<float4 *>(m + i) = M;
        *reinterpret_cast<float4 *>(v + i) = V;
    }
}

cudaError_t crnn_launch_adam(float *w, float *m, float *v, const float *g, int64_t n, const crnn_step_inputs *inputs,
                             const crnn_step_numbers *numbers, cudaStream_t stream)
{
    return LAUNCH(adam, gpu_blocks((n + 3) / 4, THREADS), THREADS, 0, stream, w, m, v, g, n, inputs, numbers);
}

__global__ void __launch_bounds__(THREADS, 1)
    carry(float *to, const float *from, int64_t n, const crnn_step_numbers *numbers)
{
    if (numbers && !numbers->finite)
        return;
    const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        to[i] = from[i];
}

cudaError_t crnn_launch_carry(float *to, const float *from, int64_t n, const crnn_step_numbers *numbers,
                              cudaStream_t stream)
{
    return LAUNCH(carry, gpu_blocks(n, THREADS), THREADS, 0, stream, to, from, n, numbers);
}
