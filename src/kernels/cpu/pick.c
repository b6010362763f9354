/* pick.c - from logits to characters: temperature, the filters, one draw for each row. */
#include "host/base/rng.h"
#include "kernels/cpu/cpu.h"
#include <math.h>
#include <stdlib.h>

/* One candidate during filtering. */
typedef struct {
    float p;
    int32_t id;
} candidate;

static int by_likelihood(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
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
static int32_t nucleus(const candidate *sorted, int32_t n, double top_p)
{
    double total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        total += (double)sorted[i].p;
    int32_t kept = 0;
    while (kept < n && (kept == 0 || sum < top_p * total))
        sum += (double)sorted[kept++].p;
    return kept;
}

static void filter(float *p, int32_t V, const crnn_sample_options *options, candidate *sorted)
{
    for (int32_t v = 0; v < V; v++) {
        sorted[v] = (candidate){p[v], v};
        p[v] = 0;
    }
    qsort(sorted, (size_t)V, sizeof *sorted, by_likelihood);
    int32_t kept = options->top_k > 0 && options->top_k < V ? options->top_k : V;
    if (options->top_p < 1)
        kept = nucleus(sorted, kept, (double)options->top_p);
    for (int32_t i = 0; i < kept && sorted[i].p >= options->min_p * sorted[0].p; i++)
        p[sorted[i].id] = sorted[i].p;
}

static void one_row(float *p, const float *logits, int32_t V, const crnn_sample_options *options, candidate *scratch)
{
    int32_t best = most_likely(logits, V);
    if (options->temperature <= 0) {
        for (int32_t v = 0; v < V; v++)
            p[v] = v == best ? 1.0F : 0.0F;
        return;
    }
    for (int32_t v = 0; v < V; v++)
        p[v] = expf((logits[v] - logits[best]) / options->temperature);
    if (scratch)
        filter(p, V, options, scratch);
    double sum = 0;
    for (int32_t v = 0; v < V; v++)
        sum += (double)p[v];
    for (int32_t v = 0; v < V; v++)
        p[v] = (float)((double)p[v] / sum);
}

/* Room for V candidates; NULL latches. */
static candidate *candidates(crnn_cpu *cpu, int32_t V)
{
    if (cpu->candidate_room < V) {
        free(cpu->candidates);
        cpu->candidates = malloc((size_t)V * sizeof(candidate));
        cpu->candidate_room = cpu->candidates ? V : 0;
    }
    if (!cpu->candidates)
        crnn_cpu_failed(cpu, CRNN_ERR_MEMORY, "out of memory for the candidates");
    return cpu->candidates;
}

void crnn_cpu_probabilities(crnn_backend *be, float *p, const float *z, int64_t n, int32_t V,
                            const crnn_sample_options *options)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    bool filtered = options->top_k > 0 || options->top_p < 1 || options->min_p > 0;
    if (!crnn_cpu_begin(cpu, "probabilities") || (filtered && !candidates(cpu, V)))
        return;
    for (int64_t k = 0; k < n; k++)
        one_row(p + k * V, z + k * V, V, options, filtered ? cpu->candidates : NULL);
}

static uint16_t pick(const float *p, int32_t V, float u)
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

void crnn_cpu_pick(crnn_backend *be, uint16_t *ids, uint16_t *written, uint64_t *drawn, const float *p, int64_t n,
                   int32_t V, int32_t ring, uint64_t seed)
{
    if (!crnn_cpu_begin(crnn_cpu_of(be), "pick"))
        return;
    uint16_t *row = written + (int64_t)(*drawn % (uint64_t)ring) * n;
    for (int64_t k = 0; k < n; k++) {
        uint64_t stream = crnn_rng_stream(CRNN_RNG_SAMPLE, (uint64_t)k);
        row[k] = ids[k] = pick(p + k * V, V, crnn_u01(crnn_philox(seed, stream, *drawn).v[0]));
    }
    ++*drawn;
}
