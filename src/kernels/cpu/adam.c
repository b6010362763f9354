/* adam.c - what a step takes from its queue, the norm of the gradients, the update, and the state that a step hands on. */
#include "kernels/cpu/cpu.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { chunks = 256 }; /* fixed, so that the sum's order does not depend on the threads */

void crnn_cpu_next_step(crnn_backend *be, crnn_step_inputs *inputs, int64_t *starts, const crnn_step_queue *queue,
                        int32_t B)
{
    crnn_step_numbers *numbers = queue->numbers;
    if (!crnn_cpu_begin(crnn_cpu_of(be), "next_step"))
        return;
    int64_t k = (*queue->begun)++;
    *inputs = queue->inputs[k];
    memcpy(starts, queue->starts + k * B, (size_t)B * sizeof *starts);
    if (k > 0)
        numbers[k] = numbers[0];
    numbers->halted = k > 0 && !numbers->finite;
}

CRNN_CLONES static double sum_of_squares(const float *g, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    return sum;
}

void crnn_cpu_norm(crnn_backend *be, crnn_step_numbers *numbers, const float *g, int64_t n)
{
    double sums[chunks], sum = 0;
    if (!crnn_cpu_begin(crnn_cpu_of(be), "norm"))
        return;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < chunks; c++)
        sums[c] = sum_of_squares(g + n / chunks * c, c + 1 < chunks ? n / chunks : n - n / chunks * c);
    for (int c = 0; c < chunks; c++)
        sum += sums[c];
    numbers->norm_squared = sum;
    if (!(sum <= (double)FLT_MAX) || numbers->halted) /* NaN too */
        numbers->finite = 0;
}

CRNN_CLONES static void update(float *restrict w, float *restrict m, float *restrict v, const float *restrict g,
                               int64_t n, const crnn_adam *hyper, float scale)
{
    float rate = hyper->rate, beta1 = hyper->beta1, beta2 = hyper->beta2, epsilon = hyper->epsilon,
          decay = hyper->decay;
    float one_minus_beta1 = 1.0F - beta1, one_minus_beta2 = 1.0F - beta2;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        m[i] = m[i] * beta1 + gi * one_minus_beta1;
        v[i] = v[i] * beta2 + gi * gi * one_minus_beta2;
        w[i] -= rate * m[i] / (sqrtf(v[i]) + epsilon) + decay * w[i];
    }
}

void crnn_cpu_adam(crnn_backend *be, float *w, float *m, float *v, const float *g, int64_t n,
                   const crnn_step_inputs *inputs, const crnn_step_numbers *numbers)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    const crnn_adam *hyper = &inputs->adam;
    if (!crnn_cpu_begin(cpu, "adam") || !numbers->finite)
        return;
    double norm = sqrt(numbers->norm_squared);
    float scale = hyper->clip > 0 && norm > (double)hyper->clip ? (float)((double)hyper->clip / norm) : 1.0F;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t from = n * c / chunks, to = n * (c + 1) / chunks;
        update(w + from, m + from, v + from, g + from, to - from, hyper, scale);
    }
    crnn_cpu_touched(cpu, w, (size_t)n * sizeof *w);
}

void crnn_cpu_carry(crnn_backend *be, float *to, const float *from, int64_t n, const crnn_step_numbers *numbers)
{
    if (crnn_cpu_begin(crnn_cpu_of(be), "carry") && (!numbers || numbers->finite))
        memcpy(to, from, (size_t)n * sizeof *to);
}
