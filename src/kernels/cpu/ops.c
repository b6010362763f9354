/* The CPU's operations but the recurrent layer: each a few plain loops, split among threads so that no sum depends on the split. */
#include "host/base/memory.h"
#include "host/base/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/maths.h"
#include "kernels/cpu/onednn.h"
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

enum { CHUNK = 4096, COLUMNS = 64, HEADER = 64 };

static void latch(crnn_cpu *cpu, const char *op, const char *what)
{
    if (cpu->failure.status == CRNN_OK)
        crnn_fail(&cpu->failure, CRNN_ERR_DEVICE, "%s failed on the CPU: %s", op, what);
}

/* --- memory ----------------------------------------------------------------------------------------------------------- */

void *crnn_cpu_alloc(crnn_backend *be, size_t bytes)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (cpu->failure.status != CRNN_OK)
        return NULL;
    char *memory = bytes < SIZE_MAX / 2 ? crnn_alloc(1, bytes + HEADER, "the model", &cpu->failure) : NULL;
    if (!memory) {
        if (cpu->failure.status == CRNN_OK)
            crnn_fail(&cpu->failure, CRNN_ERR_MEMORY, "out of memory: %zu bytes for the model", bytes);
        return NULL;
    }
    memcpy(memory, &bytes, sizeof bytes);
    cpu->memory += (int64_t)bytes;
    return memory + HEADER;
}

void crnn_cpu_free(crnn_backend *be, void *memory)
{
    if (!memory)
        return;
    size_t bytes;
    char *start = (char *)memory - HEADER;
    memcpy(&bytes, start, sizeof bytes);
    crnn_cpu_of(be)->memory -= (int64_t)bytes;
    free(start);
}

static void copy(crnn_backend *be, void *to, const void *from, size_t bytes)
{
    if (crnn_cpu_of(be)->failure.status == CRNN_OK)
        memmove(to, from, bytes);
}

static void zero(crnn_backend *be, void *device, size_t bytes)
{
    if (crnn_cpu_of(be)->failure.status == CRNN_OK)
        memset(device, 0, bytes);
}

static int64_t memory_now(crnn_backend *be)
{
    return crnn_cpu_of(be)->memory;
}

static crnn_status sync_cpu(crnn_backend *be, crnn_error *err)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    crnn_status status = cpu->failure.status;
    if (status != CRNN_OK && err)
        *err = cpu->failure;
    cpu->failure.status = CRNN_OK;
    return status;
}

/* Room for the partial results of n pieces; false latches. Grows at the first step only. */
static bool partials(crnn_cpu *cpu, int64_t n)
{
    if (cpu->failure.status != CRNN_OK)
        return false;
    if (n <= cpu->partials)
        return true;
    free(cpu->partial);
    cpu->partial = crnn_alloc((size_t)n, sizeof *cpu->partial, "partial sums", &cpu->failure);
    cpu->partials = cpu->partial ? n : 0;
    return cpu->partial != NULL;
}

/* --- ids and embeddings ----------------------------------------------------------------------------------------------- */

static void gather(crnn_backend *be, uint16_t *x, uint16_t *y, const void *ids, int32_t width, const int64_t *starts,
                   int32_t T, int32_t B)
{
    if (crnn_cpu_of(be)->failure.status != CRNN_OK)
        return;
    const uint8_t *narrow = ids;
    const uint16_t *wide = ids;
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++) {
            int64_t at = starts[b] + t;
            x[t * B + b] = width == 1 ? narrow[at] : wide[at];
            y[t * B + b] = width == 1 ? narrow[at + 1] : wide[at + 1];
        }
}

void crnn_cpu_embed(crnn_backend *be, float *y, const uint16_t *tokens, const float *table, int64_t n, int32_t V,
                    int32_t E)
{
    (void)V;
    if (crnn_cpu_of(be)->failure.status != CRNN_OK)
        return;
#pragma omp parallel for num_threads(crnn_cpu_of(be)->threads)
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * E, table + (int64_t)tokens[i] * E, (size_t)E * sizeof *y);
}

void crnn_cpu_embed_backward(crnn_backend *be, float *dtable, const float *dy, const uint16_t *tokens, int64_t n,
                             int32_t V, int32_t E)
{
    if (crnn_cpu_of(be)->failure.status != CRNN_OK)
        return;
        /* Threads own columns, so that every sum goes through the rows in order whatever their number. */
#pragma omp parallel for num_threads(crnn_cpu_of(be)->threads)
    for (int64_t block = 0; block < (E + COLUMNS - 1) / COLUMNS; block++) {
        int64_t begin = block * COLUMNS, end = begin + COLUMNS < E ? begin + COLUMNS : E;
        for (int64_t v = 0; v < V; v++)
            memset(dtable + v * E + begin, 0, (size_t)(end - begin) * sizeof *dtable);
        for (int64_t i = 0; i < n; i++) {
            float *to = dtable + (int64_t)tokens[i] * E;
            const float *from = dy + i * E;
#pragma omp simd
            for (int64_t c = begin; c < end; c++)
                to[c] += from[c];
        }
    }
}

void crnn_cpu_column_sums(crnn_cpu *cpu, float *out, const float *m, int64_t rows, int64_t columns, int64_t stride)
{
    if (cpu->failure.status != CRNN_OK)
        return;
#pragma omp parallel for num_threads(cpu->threads)
    for (int64_t block = 0; block < (columns + COLUMNS - 1) / COLUMNS; block++) {
        int64_t begin = block * COLUMNS, end = begin + COLUMNS < columns ? begin + COLUMNS : columns;
        double sum[COLUMNS] = {0}; /* thousands of rows: float would lose digits */
        for (int64_t i = 0; i < rows; i++)
            for (int64_t c = begin; c < end; c++)
                sum[c - begin] += (double)m[i * stride + c];
        for (int64_t c = begin; c < end; c++)
            out[c] = (float)sum[c - begin];
    }
}

static void dropout(crnn_backend *be, float *y, const float *x, int64_t n, float p, uint64_t seed, uint64_t stream)
{
    if (crnn_cpu_of(be)->failure.status != CRNN_OK)
        return;
    const float scale = 1.0F / (1.0F - p);
#pragma omp parallel for num_threads(crnn_cpu_of(be)->threads)
    for (int64_t four = 0; four < (n + 3) / 4; four++) {
        crnn_philox4 bits = crnn_philox(seed, stream, (uint64_t)four);
        for (int64_t i = four * 4; i < n && i < four * 4 + 4; i++)
            y[i] = crnn_u01(bits.v[i % 4]) >= p ? x[i] * scale : 0.0F;
    }
}

/* --- the dense layer -------------------------------------------------------------------------------------------------- */

void crnn_cpu_gemm(crnn_cpu *cpu, bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, const float *A,
                   int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    if (cpu->failure.status != CRNN_OK)
        return;
    omp_set_num_threads(cpu->threads); /* oneDNN takes the number from here */
    const char *problem = crnn_onednn_sgemm(transpose_a, transpose_b, M, N, K, A, lda, B, ldb, beta, C, ldc);
    if (problem)
        latch(cpu, "a matrix product", problem);
}

static void linear(crnn_backend *be, float *y, const float *x, const float *W, const float *b, int64_t n, int32_t H,
                   int32_t V)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (cpu->failure.status != CRNN_OK)
        return;
#pragma omp parallel for num_threads(cpu->threads)
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * V, b, (size_t)V * sizeof *y);
    crnn_cpu_gemm(cpu, false, false, n, V, H, x, H, W, V, 1, y, V);
}

static void linear_backward(crnn_backend *be, float *dx, float *dW, float *db, const float *dy, const float *x,
                            const float *W, int64_t n, int32_t H, int32_t V)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    crnn_cpu_gemm(cpu, false, true, n, H, V, dy, V, W, V, 0, dx, H);
    crnn_cpu_gemm(cpu, true, false, H, V, n, x, H, dy, V, 0, dW, V);
    crnn_cpu_column_sums(cpu, db, dy, n, V, V);
}

/* --- the loss --------------------------------------------------------------------------------------------------------- */

/* One row: its loss; z becomes the gradient where scale is not 0. hit: is the first of the largest the target? */
static double row_loss(float *z, uint16_t target, int32_t V, float scale, int32_t *hit)
{
    int32_t best = 0;
    for (int32_t v = 1; v < V; v++)
        if (z[v] > z[best])
            best = v;
    const float top = z[best], wanted = z[target];
    double sum = 0;
    for (int32_t v = 0; v < V; v++)
        sum += exp((double)(z[v] - top));
    if (scale != 0) {
        for (int32_t v = 0; v < V; v++)
            z[v] = (float)(exp((double)(z[v] - top)) / sum) * scale;
        z[target] -= scale;
    }
    *hit = best == target;
    return log(sum) - (double)(wanted - top);
}

static void softmax_xent(crnn_backend *be, crnn_step_numbers *numbers, float *z, const uint16_t *y, int64_t n,
                         int32_t V, float scale)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!partials(cpu, n))
        return;
    int64_t positions = 0, hits = 0;
    double *loss = cpu->partial;
#pragma omp parallel for num_threads(cpu->threads) reduction(+ : positions, hits)
    for (int64_t i = 0; i < n; i++) {
        int32_t hit = 0;
        loss[i] = 0;
        if (y[i] == CRNN_NO_ID) {
            if (scale != 0)
                memset(z + i * V, 0, (size_t)V * sizeof *z);
            continue;
        }
        loss[i] = row_loss(z + i * V, y[i], V, scale, &hit);
        positions++;
        hits += hit;
    }
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += loss[i];
    numbers->loss_sum = sum;
    numbers->positions = positions;
    numbers->hits = hits;
    numbers->finite = isfinite(sum);
    numbers->norm_squared = 0;
}

/* --- the update ------------------------------------------------------------------------------------------------------- */

CRNN_VECTOR_CLONES
static double sum_of_squares(const float *g, int64_t n)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            lane[k] += (double)g[i + k] * (double)g[i + k];
    double sum = 0;
    for (; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    for (int k = 0; k < 8; k++)
        sum += lane[k];
    return sum;
}

static void norm(crnn_backend *be, crnn_step_numbers *numbers, const float *g, int64_t n)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    if (!partials(cpu, chunks))
        return;
    double *partial = cpu->partial, sum = 0;
#pragma omp parallel for num_threads(cpu->threads)
    for (int64_t c = 0; c < chunks; c++)
        partial[c] = sum_of_squares(g + c * CHUNK, n - c * CHUNK < CHUNK ? n - c * CHUNK : CHUNK);
    for (int64_t c = 0; c < chunks; c++)
        sum += partial[c];
    numbers->norm_squared = sum;
    numbers->finite = numbers->finite && isfinite(sum);
}

CRNN_VECTOR_CLONES
static void adam_piece(float *restrict w, float *restrict m, float *restrict v, const float *restrict g, int64_t n,
                       const crnn_adam *h, float scale)
{
    const float beta1 = h->beta1, beta2 = h->beta2, rate = h->rate, epsilon = h->epsilon, decay = h->decay;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        m[i] = beta1 * m[i] + (1.0F - beta1) * gi;
        v[i] = beta2 * v[i] + (1.0F - beta2) * gi * gi;
        w[i] = w[i] - (rate * m[i] / (sqrtf(v[i]) + epsilon) + decay * w[i]);
    }
}

static void adam(crnn_backend *be, float *w, float *m, float *v, const float *g, int64_t n, const crnn_adam *hyper,
                 const crnn_step_numbers *numbers)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (cpu->failure.status != CRNN_OK || !numbers->finite)
        return;
    double size = sqrt(numbers->norm_squared);
    float scale = hyper->clip > 0 && size > (double)hyper->clip ? (float)((double)hyper->clip / size) : 1.0F;
#pragma omp parallel for num_threads(cpu->threads)
    for (int64_t c = 0; c < (n + CHUNK - 1) / CHUNK; c++) {
        int64_t at = c * CHUNK, count = n - at < CHUNK ? n - at : CHUNK;
        adam_piece(w + at, m + at, v + at, g + at, count, hyper, scale);
    }
}

/* --- the device ------------------------------------------------------------------------------------------------------- */

static double peak_rate(crnn_backend *be)
{
    enum { N = 2048 };
    crnn_cpu *cpu = crnn_cpu_of(be);
    float *m = crnn_cpu_alloc(be, sizeof(float) * 3 * N * N);
    double best = 0;
    if (!m)
        return 0;
    for (int64_t i = 0; i < 2 * N * N; i++)
        m[i] = 0.001F * (float)(i % 97);
    for (int round = 0; round < 5; round++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        crnn_cpu_gemm(cpu, false, false, N, N, N, m, N, m + N * N, N, 0, m + 2 * N * N, N);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        best = fmax(best, 2.0 * N * N * N / seconds);
    }
    crnn_cpu_free(be, m);
    return best;
}

static int32_t usable_cores(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : (int32_t)count;
}

static void processor_name(char *name, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(name, size, "CPU");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, size, "%.100s", colon + 2);
        break;
    }
    if (file)
        fclose(file);
}

/* Bytes that a program may take without swapping; 0 where the system does not say. */
static int64_t available_memory(void)
{
    char line[256];
    long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (int64_t)kib * 1024;
}

void crnn_cpu_describe(crnn_device_info *info, int32_t threads)
{
    char name[104];
    struct sysinfo system;
    memset(info, 0, sizeof *info);
    processor_name(name, sizeof name);
    info->kind = CRNN_DEVICE_CPU;
    info->usable = true;
    info->threads = threads > 0 ? threads : usable_cores();
    snprintf(info->name, sizeof info->name, "%s, %d thread%s", name, (int)info->threads, info->threads == 1 ? "" : "s");
    crnn_onednn_versions(info->versions, sizeof info->versions);
    info->memory_free = available_memory();
    if (sysinfo(&system) == 0)
        info->memory_total = (int64_t)system.totalram * system.mem_unit;
}

static void info_cpu(crnn_backend *be, crnn_device_info *info)
{
    crnn_cpu_describe(info, crnn_cpu_of(be)->threads);
}

static void close_cpu(crnn_backend *be)
{
    free(crnn_cpu_of(be)->partial);
    free(be);
}

static const crnn_backend_ops cpu_ops = {
    .name = "cpu",
    .close = close_cpu,
    .info = info_cpu,
    .sync = sync_cpu,
    .alloc = crnn_cpu_alloc,
    .free = crnn_cpu_free,
    .upload = copy,
    .download = copy,
    .copy = copy,
    .zero = zero,
    .memory = memory_now,
    .gather = gather,
    .embed = crnn_cpu_embed,
    .embed_backward = crnn_cpu_embed_backward,
    .gru_new = crnn_cpu_gru_new,
    .gru_free = crnn_cpu_gru_free,
    .gru_params = crnn_cpu_gru_params,
    .gru_pack = crnn_cpu_gru_pack,
    .gru_unpack = crnn_cpu_gru_unpack,
    .gru_forward = crnn_cpu_gru_forward,
    .gru_backward = crnn_cpu_gru_backward,
    .gru_flop = crnn_cpu_gru_flop,
    .dropout = dropout,
    .linear = linear,
    .linear_backward = linear_backward,
    .softmax_xent = softmax_xent,
    .norm = norm,
    .adam = adam,
    .peak_rate = peak_rate,
};

crnn_backend *crnn_cpu_open(const crnn_device_config *config, crnn_error *err)
{
    if (config->precision != CRNN_FP32) {
        crnn_fail(err, CRNN_ERR_DEVICE, "the CPU computes in fp32 only so far: choose --precision fp32");
        return NULL;
    }
    crnn_cpu *cpu = crnn_alloc(1, sizeof *cpu, "the CPU backend", err);
    if (!cpu)
        return NULL;
    cpu->base.ops = &cpu_ops;
    cpu->config = *config;
    cpu->threads = config->threads > 0 ? config->threads : usable_cores();
    return &cpu->base;
}
