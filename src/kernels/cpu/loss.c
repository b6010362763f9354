/* loss.c - softmax with cross-entropy: the loss, the hits, and the gradient in place of the logits. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"
#include <crnn/text.h>
#include <math.h>

typedef struct {
    double loss;
    int64_t positions, hits;
} partial;

/* In lanes, as compilers do not reorder comparisons of floats by themselves. */
CRNN_CLONES static float row_max(const float *z, int32_t V)
{
    enum { lanes = 16 };
    float max[lanes], all = z[0];
    for (int i = 0; i < lanes; i++)
        max[i] = z[0];
    int32_t v = 0;
    for (; v + lanes <= V; v += lanes)
        for (int i = 0; i < lanes; i++)
            max[i] = z[v + i] > max[i] ? z[v + i] : max[i];
    for (; v < V; v++)
        all = z[v] > all ? z[v] : all;
    for (int i = 0; i < lanes; i++)
        all = max[i] > all ? max[i] : all;
    return all;
}

/* A NaN among the logits comes out in the sum. */
CRNN_CLONES static double row_sum(const float *z, float max, int32_t V)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int32_t v = 0; v < V; v++)
        sum += (double)crnn_exp(z[v] - max);
    return sum;
}

CRNN_CLONES static void row_gradient(float *z, float max, float factor, int32_t V)
{
#pragma omp simd
    for (int32_t v = 0; v < V; v++)
        z[v] = crnn_exp(z[v] - max) * factor;
}

static void one_row(partial *sum, float *z, uint16_t y, int32_t V, float scale)
{
    if (y == CRNN_NO_ID) {
        for (int32_t v = 0; v < V && scale != 0; v++)
            z[v] = 0;
        return;
    }
    float max = row_max(z, V), target = z[y];
    double total = row_sum(z, max, V);
    sum->loss += log(total) + ((double)max - (double)target);
    sum->positions++;
    int32_t best = 0;
    while (best < V - 1 && z[best] != max) /* the first of equals */
        best++;
    sum->hits += best == y;
    if (scale != 0) {
        row_gradient(z, max, (float)((double)scale / total), V);
        z[y] = (float)(((double)crnn_exp(target - max) - total) / total *
                       (double)scale); /* p - 1 would cancel for p near 1 */
    }
}

void crnn_cpu_softmax_xent(crnn_backend *be, crnn_step_numbers *numbers, float *z, const uint16_t *y, int64_t n,
                           int32_t V, float scale)
{
    enum { chunks = 64 }; /* fixed, so that the sum's order does not depend on the threads */
    partial sums[chunks] = {{0}};
    if (!crnn_cpu_begin(crnn_cpu_of(be), "softmax_xent"))
        return;
#pragma omp parallel for schedule(static) if (n * V >= CRNN_CPU_WORTH_THREADS)
    for (int64_t c = 0; c < chunks; c++)
        for (int64_t i = n * c / chunks; i < n * (c + 1) / chunks; i++)
            one_row(&sums[c], z + i * V, y[i], V, scale);
    partial all = {0};
    for (int c = 0; c < chunks; c++) {
        all.loss += sums[c].loss;
        all.positions += sums[c].positions;
        all.hits += sums[c].hits;
    }
    numbers->loss_sum = all.loss;
    numbers->positions = all.positions;
    numbers->hits = all.hits;
    numbers->finite = isfinite(all.loss) ? 1 : 0;
}
