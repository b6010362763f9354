// update.cu - what a step takes from its queue, the norm of the gradients, the update, and the state that a step hands on.
#include "kernels/cuda/gru_persist_copies.cuh"
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

// Both give the new weights.
__device__ static float update_one(const crnn_gpu_update &u, int64_t i, const crnn_adam &a, float scale)
{
    float w = u.w[i], m = u.m[i], v = u.v[i];
    update(w, m, v, __fmul_rn(u.g[i], scale), a);
    u.w[i] = w;
    u.m[i] = m;
    u.v[i] = v;
    return w;
}
__device__ static float4 update_four(const crnn_gpu_update &u, int64_t i, const crnn_adam &a, float scale)
{
    float4 W = *reinterpret_cast<float4 *>(u.w + i), M = *reinterpret_cast<float4 *>(u.m + i),
           V = *reinterpret_cast<float4 *>(u.v + i);
    const float4 G = *reinterpret_cast<const float4 *>(u.g + i);
    update(W.x, M.x, V.x, __fmul_rn(G.x, scale), a);
    update(W.y, M.y, V.y, __fmul_rn(G.y, scale), a);
    update(W.z, M.z, V.z, __fmul_rn(G.z, scale), a);
    update(W.w, M.w, V.w, __fmul_rn(G.w, scale), a);
    *reinterpret_cast<float4 *>(u.w + i) = W;
    *reinterpret_cast<float4 *>(u.m + i) = M;
    *reinterpret_cast<float4 *>(u.v + i) = V;
    return W;
}

// What lies between the matrices that have copies: block `block` of `blocks`.
__device__ static void update_between(const crnn_gpu_update &u, unsigned block, unsigned blocks, const crnn_adam &a,
                                      float scale)
{
    const int64_t step = static_cast<int64_t>(blocks) * THREADS * 4;
    int64_t from = u.from;
    for (int k = 0; k <= u.count; k++) {
        const int64_t to = k < u.count ? u.copies[k].R - u.w : u.to;
        for (int64_t i = from / 4 * 4 + (static_cast<int64_t>(block) * THREADS + threadIdx.x) * 4; i < to; i += step)
            if (i >= from && i + 4 <= to)
                update_four(u, i, a, scale);
            else
                for (int64_t j = i < from ? from : i; j < i + 4 && j < to; j++)
                    update_one(u, j, a, scale);
        if (k < u.count)
            from = to + u.copies[k].H * u.copies[k].ldr;
    }
}

// One warp's tile of a matrix, and its copies. Lane: four neighbours in each of two rows.
template <class F>
__device__ static void update_tile(const crnn_gpu_update &u, const crnn_persist_copies &c, int number,
                                   persist::Tile &tile, const crnn_adam &a, float scale)
{
    const persist::Place at(number, c.H);
    const int lane = threadIdx.x % 32;
    const bool whole = (c.R - u.w) % 4 == 0 && c.H % 4 == 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = lane / 4 + 8 * half, row = at.k * persist::TILE + r, unit = at.u * persist::TILE + lane % 4 * 4;
        const int64_t i = c.R - u.w + row * c.ldr + at.gate * c.H + unit;
        const bool there = row < c.H && unit < c.H;
        float4 w = {0.0f, 0.0f, 0.0f, 0.0f};
        if (there && whole)
            w = update_four(u, i, a, scale);
        else if (there) {
            w.x = update_one(u, i, a, scale);
            w.y = unit + 1 < c.H ? update_one(u, i + 1, a, scale) : 0.0f;
            w.z = unit + 2 < c.H ? update_one(u, i + 2, a, scale) : 0.0f;
            w.w = unit + 3 < c.H ? update_one(u, i + 3, a, scale) : 0.0f;
        }
        float *to = &tile[r][lane % 4 * 4];
        to[0] = w.x;
        to[1] = w.y;
        to[2] = w.z;
        to[3] = w.w;
    }
    persist::write_tile<F>(c, tile, at);
}

// The first blocks take tiles of the matrices that have copies, a warp one each; the last `between` blocks the rest.
template <class F>
__global__ void __launch_bounds__(THREADS, 1) adam(const __grid_constant__ crnn_gpu_update u, unsigned between)
{
    SHARED(persist::Tile, tiles, [THREADS / 32]);
    if (!u.numbers->finite)
        return;
    const crnn_adam a = u.inputs->adam;
    const float scale = clip_scale(a.clip, u.numbers);
    const unsigned of_tiles = gridDim.x - between;
    if (blockIdx.x >= of_tiles) {
        update_between(u, blockIdx.x - of_tiles, between, a, scale);
        return;
    }
    const int warp = threadIdx.x / 32;
    int number = blockIdx.x * (THREADS / 32) + warp;
    for (int k = 0; k < u.count; number -= persist::Place::count(u.copies[k].H), k++)
        if (number >= 0 && number < persist::Place::count(u.copies[k].H))
            update_tile<F>(u, u.copies[k], number, tiles[warp], a, scale);
}

cudaError_t crnn_launch_adam(const crnn_gpu_update *update, cudaStream_t stream)
{
    const crnn_gpu_update &u = *update;
    int64_t rest = u.to - u.from, tiles = 0;
    for (int k = 0; k < u.count; k++) {
        rest -= u.copies[k].H * u.copies[k].ldr;
        tiles += persist::Place::count(u.copies[k].H);
    }
    const unsigned between = gpu_blocks((rest + 3) / 4 + 1, THREADS);
    const unsigned blocks = between + static_cast<unsigned>((tiles + THREADS / 32 - 1) / (THREADS / 32));
    switch (u.precision) {
    case CRNN_PERSIST_BF16:
        return LAUNCH(adam<persist::Bf16>, blocks, THREADS, 0, stream, u, between);
    case CRNN_PERSIST_FP16:
        return LAUNCH(adam<persist::Fp16>, blocks, THREADS, 0, stream, u, between);
    default:
        return LAUNCH(adam<persist::Split>, blocks, THREADS, 0, stream, u, between);
    }
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
