/* linear.c - the dense layer and dropout. */
#include "host/base/rng.h"
#include "kernels/cpu/cpu.h"
#include <string.h>

void crnn_cpu_linear(crnn_backend *be, float *y, const float *x, const float *W, const float *b, int64_t n, int32_t H,
                     int32_t V)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!crnn_cpu_begin(cpu, "linear"))
        return;
#pragma omp parallel for schedule(static) if (n * V >= CRNN_CPU_WORTH_THREADS)
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * V, b, (size_t)V * sizeof *y);
    crnn_cpu_gemm(cpu, y, V, x, H, false, W, V, false, n, V, H, 1);
}

void crnn_cpu_linear_backward(crnn_backend *be, float *dx, float *dW, float *db, const float *dy, const float *x,
                              const float *W, int64_t n, int32_t H, int32_t V)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!crnn_cpu_begin(cpu, "linear_backward"))
        return;
    crnn_cpu_gemm(cpu, dx, H, dy, V, false, W, V, true, n, H, V, 0);
    crnn_cpu_gemm(cpu, dW, V, x, H, true, dy, V, false, H, V, n, 0);
    crnn_cpu_column_sums(cpu, db, dy, V, n, V);
}

void crnn_cpu_dropout(crnn_backend *be, float *y, const float *x, int64_t n, float p, uint64_t seed,
                      const crnn_step_inputs *inputs, int32_t layer)
{
    if (!crnn_cpu_begin(crnn_cpu_of(be), "dropout"))
        return;
    uint64_t stream = crnn_rng_stream(CRNN_RNG_DROPOUT, inputs->step * 256 + (uint64_t)layer);
    float scale = 1.0F / (1.0F - p);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += 4) {
        crnn_philox4 draw = crnn_philox(seed, stream, (uint64_t)i / 4);
        for (int64_t j = i; j < n && j < i + 4; j++)
            y[j] = crnn_u01(draw.v[j - i]) >= p ? x[j] * scale : 0.0F;
    }
}
