// gates.cu - the gates of one time step, forward and backward (docs/MODEL.md), between two products.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"

constexpr int THREADS = 128;

__device__ static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

__device__ static uint16_t bf16_bits(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

// One thread, one unit of one row.
__global__ void __launch_bounds__(THREADS, 1) gates_forward(const __grid_constant__ crnn_gates g)
{
    const int j = blockIdx.y * THREADS + threadIdx.x, b = blockIdx.x, H = g.H;
    if (j >= H)
        return;
    float *keep = g.keep + b * g.ldk + j;
    const float *hp = g.hp + static_cast<int64_t>(b) * 3 * H + j, *b1 = g.b1 + j;
    const float *xp = g.xp + (g.tokens ? g.tokens[b] : b) * g.ldx + j;
    const float n_h = hp[0] + b1[0];
    const float z = sigmoid(xp[0] + (hp[H] + b1[H]));
    const float r = sigmoid(xp[H] + (hp[2 * H] + b1[2 * H]));
    const float n = tanhf(xp[2 * H] + r * n_h);
    keep[0] = n_h;
    keep[H] = z;
    keep[2 * H] = r;
    keep[3 * H] = n;
    if (!g.h)
        return;
    const int64_t at = static_cast<int64_t>(b) * H + j;
    const float h = z * g.h_prev[at] + (1.0f - z) * n;
    g.h[at] = h;
    if (g.h16)
        g.h16[at] = bf16_bits(h);
}

cudaError_t crnn_launch_gates(const crnn_gates *gates, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(gates->B), static_cast<unsigned>((gates->H + THREADS - 1) / THREADS));
    return LAUNCH(gates_forward, grid, THREADS, 0, stream, *gates);
}

__global__ void __launch_bounds__(THREADS, 1) gates_backward(const __grid_constant__ crnn_gates_backward g)
{
    const int j = blockIdx.y * THREADS + threadIdx.x, b = blockIdx.x, H = g.H;
    if (j >= H)
        return;
    const float *keep = g.keep + b * g.ldk + j;
    const int64_t at = static_cast<int64_t>(b) * H + j;
    const float n_h = keep[0], z = keep[H], r = keep[2 * H], n = keep[3 * H];
    const float d = g.dhs[at] + (g.last ? 0.0f : g.dh[at] + g.back[at]);
    const float dn = d * (1.0f - z) * (1.0f - n * n);
    const float dz = d * (g.h_prev[at] - n) * z * (1.0f - z);
    const float dr = dn * n_h * r * (1.0f - r);
    const float all[] = {dn * r, dz, dr, dn};
    g.dh[at] = d * z;
    const int64_t to = b * g.ldd + j;
    for (int part = 0; part < 4; part++)
        if (g.bf16)
            static_cast<uint16_t *>(g.d)[to + part * H] = bf16_bits(all[part]);
        else
            static_cast<float *>(g.d)[to + part * H] = all[part];
}

cudaError_t crnn_launch_gates_backward(const crnn_gates_backward *gates, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(gates->B), static_cast<unsigned>((gates->H + THREADS - 1) / THREADS));
    return LAUNCH(gates_backward, grid, THREADS, 0, stream, *gates);
}
