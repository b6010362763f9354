// dropout.cu - the masks between the layers, drawn by cuRAND's Philox: the same units fall out as on the CPU.
#include "host/base/rng.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/philox.h"

constexpr int THREADS = 256;

// A thread has the four elements of one draw.
__global__ void __launch_bounds__(THREADS, 1)
    dropout(float *y, const float *x, int64_t n, float p, uint64_t seed, const crnn_step_inputs *inputs, int32_t layer)
{
    const uint64_t stream =
        static_cast<uint64_t>(CRNN_RNG_DROPOUT) << 56 | (inputs->step * 256 + static_cast<uint64_t>(layer));
    const float scale = __fdiv_rn(1.0f, __fsub_rn(1.0f, p));
    const int64_t draws = (n + 3) / 4, step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t d = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; d < draws; d += step) {
        uint32_t bits[4];
        gpu::philox(bits, seed, stream, static_cast<uint64_t>(d));
        for (int j = 0; j < 4 && d * 4 + j < n; j++)
            y[d * 4 + j] = gpu::u01(bits[j]) >= p ? x[d * 4 + j] * scale : 0.0f;
    }
}

cudaError_t crnn_launch_dropout(float *y, const float *x, int64_t n, float p, uint64_t seed,
                                const crnn_step_inputs *inputs, int32_t layer, cudaStream_t stream)
{
    return LAUNCH(dropout, gpu_blocks((n + 3) / 4, THREADS), THREADS, 0, stream, y, x, n, p, seed, inputs, layer);
}
