#include "host/model/draw.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static int by_likelihood(const void *a, const void *b)
{
    const crnn_candidate *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t most_likely(const float *logits, int32_t V)
{
    int32_t best = 0;
    for (int32_t v = 1; v < V; v++)
        if (logits[v] > logits[best])
            best = v;
    return best;
}

/* How many of the n sorted candidates top-p keeps: the fewest that together reach top_p of what they sum to. */
static int32_t nucleus(const crnn_candidate *sorted, int32_t n, double top_p)
{
    double total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        total += (double)sorted[i].p;
    int32_t kept = 0;
    while (kept < n && (kept == 0 || sum < top_p * total))
        sum += (double)sorted[kept++].p;
    return kept;
}

static void filter(float *p, int32_t V, const crnn_sample_options *options, crnn_candidate *sorted)
{
    for (int32_t v = 0; v < V; v++) {
        sorted[v] = (crnn_candidate){p[v], v};
        p[v] = 0;
    }
    qsort(sorted, (size_t)V, sizeof *sorted, by_likelihood);
    int32_t kept = options->top_k > 0 && options->top_k < V ? options->top_k : V;
    if (options->top_p < 1)
        kept = nucleus(sorted, kept, (double)options->top_p);
    for (int32_t i = 0; i < kept && sorted[i].p >= options->min_p * sorted[0].p; i++)
        p[sorted[i].id] = sorted[i].p;
}

void crnn_probabilities(float *p, const float *logits, int32_t V, const crnn_sample_options *options,
                        crnn_candidate *scratch)
{
    int32_t best = most_likely(logits, V);
    if (options->temperature <= 0) {
        for (int32_t v = 0; v < V; v++)
            p[v] = v == best ? 1.0F : 0.0F;
        return;
    }
    for (int32_t v = 0; v < V; v++)
        p[v] = expf((logits[v] - logits[best]) / options->temperature);
    if (options->top_k > 0 || options->top_p < 1 || options->min_p > 0)
        filter(p, V, options, scratch);
    double sum = 0;
    for (int32_t v = 0; v < V; v++)
        sum += (double)p[v];
    for (int32_t v = 0; v < V; v++)
        p[v] = (float)((double)p[v] / sum);
}

uint16_t crnn_pick(const float *p, int32_t V, float u)
{
    double sum = 0;
    int32_t last = 0; /* rounding may leave the sum a little short of u: then the last possible one */
    for (int32_t v = 0; v < V; v++) {
        if (p[v] <= 0)
            continue;
        sum += (double)p[v];
        last = v;
        if ((double)u < sum)
            break;
    }
    return (uint16_t)last;
}
