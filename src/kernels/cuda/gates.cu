// gates.cu - the gates of one time step, forward and backward (docs/MODEL.md), between two products.
#include "kernels/cuda/formats.cuh"

constexpr int THREADS = 128;

__device__ static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

// Column j of row b, in one order of summation: what is small first.
__device__ static float sum(const crnn_sums &s, int rows, int columns, int b, int j)
{
    float x = 0;
    for (int half = s.halves - 1; half >= 0; half--)
        for (int piece = 0; piece < s.pieces; piece++)
            x += s.at[((static_cast<int64_t>(piece) * rows + b) * s.halves + half) * columns + j];
    return x;
}

// One thread, one unit of one row.
template <class F>
__global__ void __launch_bounds__(THREADS, 1) gates_forward(const __grid_constant__ crnn_gates g, float unit)
{
    const int j = blockIdx.y * THREADS + threadIdx.x, b = blockIdx.x, H = g.H;
    if (j >= H)
        return;
    float *keep = g.keep + b * g.ldk + j;
    const float *b1 = g.b1 + j;
    const float hn = sum(g.hp, g.B, 3 * H, b, j), hz = sum(g.hp, g.B, 3 * H, b, H + j),
                hr = sum(g.hp, g.B, 3 * H, b, 2 * H + j);
    const float *xp = g.xp + (g.tokens ? g.tokens[b] : b) * g.ldx + j;
    const float n_h = hn + b1[0];
    const float z = sigmoid(xp[0] + (hz + b1[H]));
    const float r = sigmoid(xp[H] + (hr + b1[2 * H]));
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
    if (g.h16.at)
        F::write(g.h16.at + b * g.h16.ld + j, g.h16.low, h * unit);
}

cudaError_t crnn_launch_gates(const crnn_gates *gates, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(gates->B), static_cast<unsigned>((gates->H + THREADS - 1) / THREADS));
    const float unit = ldexpf(1.0f, gates->h16.doublings);
    return format::with_narrow(gates->h16.format, [&](auto f) {
        using F = decltype(f);
        return LAUNCH(gates_forward<F>, grid, THREADS, 0, stream, *gates, unit);
    });
}

template <class F>
__global__ void __launch_bounds__(THREADS, 1) gates_backward(const __grid_constant__ crnn_gates_backward g, float unit)
{
    const int j = blockIdx.y * THREADS + threadIdx.x, b = blockIdx.x, H = g.H;
    if (j >= H)
        return;
    const float *keep = g.keep + b * g.ldk + j;
    const int64_t at = static_cast<int64_t>(b) * H + j;
    const float n_h = keep[0], z = keep[H], r = keep[2 * H], n = keep[3 * H];
    const float d = g.dhs[at] + (g.last ? 0.0f : g.dh[at] + sum(g.back, g.B, H, b, j));
    const float dn = d * (1.0f - z) * (1.0f - n * n);
    const float dz = d * (g.h_prev[at] - n) * z * (1.0f - z);
    const float dr = dn * n_h * r * (1.0f - r);
    const float all[] = {dn * r, dz, dr, dn};
    g.dh[at] = d * z;
    for (int part = 0; part < 4; part++)
        F::write(g.d.at + b * g.d.ld + part * H + j, g.d.low, all[part] * unit);
}

cudaError_t crnn_launch_gates_backward(const crnn_gates_backward *gates, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(gates->B), static_cast<unsigned>((gates->H + THREADS - 1) / THREADS));
    const float unit = ldexpf(1.0f, gates->d.doublings);
    return format::with_narrow(gates->d.format, [&](auto f) {
        using F = decltype(f);
        return LAUNCH(gates_backward<F>, grid, THREADS, 0, stream, *gates, unit);
    });
}
