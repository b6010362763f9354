/* cpu.c - the CPU backend: its table, its memory, its latch. */
#include "kernels/cpu/cpu.h"
#include "host/base/memory.h"
#include "kernels/cpu/onednn.h"
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool crnn_cpu_begin(crnn_cpu *cpu, const char *op)
{
    if (cpu->failure.status)
        return false;
    cpu->op = op;
    omp_set_num_threads(cpu->config.threads); /* of the calling thread; oneDNN asks OpenMP */
    return true;
}

void crnn_cpu_failed(crnn_cpu *cpu, crnn_status status, const char *what)
{
    if (!cpu->failure.status)
        crnn_fail(&cpu->failure, status, "the CPU backend failed in %s: %s", cpu->op, what);
}

static crnn_status cpu_sync(crnn_backend *be, crnn_error *err)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    crnn_status status = cpu->failure.status;
    if (status)
        crnn_fail(err, status, "%s", cpu->failure.text);
    cpu->failure = (crnn_error){0};
    return status;
}

/* Each block is preceded by 64 bytes that hold its size. */
void *crnn_cpu_alloc(crnn_backend *be, size_t bytes)
{
    crnn_cpu *cpu = crnn_cpu_of(be);
    if (!crnn_cpu_begin(cpu, "alloc"))
        return NULL;
    crnn_error err = {0};
    size_t *block = bytes <= SIZE_MAX - 64 ? crnn_alloc(bytes + 64, 1, "the model", &err) : NULL;
    if (!block) {
        char text[64];
        snprintf(text, sizeof text, "out of memory (%zu bytes more were asked for)", bytes);
        crnn_cpu_failed(cpu, CRNN_ERR_MEMORY, text);
        return NULL;
    }
    *block = bytes;
    cpu->memory += (int64_t)bytes;
    return (char *)block + 64;
}

void crnn_cpu_free(crnn_backend *be, void *memory)
{
    if (!memory)
        return;
    size_t *block = (size_t *)(void *)((char *)memory - 64);
    crnn_cpu_touched(crnn_cpu_of(be), memory, *block);
    crnn_cpu_of(be)->memory -= (int64_t)*block;
    free(block);
}

void *crnn_cpu_alloc_items(crnn_cpu *cpu, int64_t rows, int64_t columns, size_t item)
{
    size_t bytes;
    if (!crnn_mul_size(&bytes, (size_t)rows, (size_t)columns) || !crnn_mul_size(&bytes, bytes, item))
        bytes = SIZE_MAX; /* which alloc refuses */
    return crnn_cpu_alloc(&cpu->base, bytes);
}

void crnn_cpu_touched(crnn_cpu *cpu, const void *memory, size_t bytes)
{
    for (crnn_gru *g = cpu->layers; g;)
        g = crnn_cpu_gru_touched(g, memory, bytes);
}

static void cpu_copy(crnn_backend *be, void *to, const void *from, size_t bytes)
{
    if (!crnn_cpu_begin(crnn_cpu_of(be), "copy"))
        return;
    memmove(to, from, bytes);
    crnn_cpu_touched(crnn_cpu_of(be), to, bytes);
}

static void cpu_download(crnn_backend *be, void *host, const void *device, size_t bytes)
{
    if (crnn_cpu_begin(crnn_cpu_of(be), "download"))
        memcpy(host, device, bytes);
}

static void cpu_zero(crnn_backend *be, void *device, size_t bytes)
{
    if (!crnn_cpu_begin(crnn_cpu_of(be), "zero"))
        return;
    memset(device, 0, bytes);
    crnn_cpu_touched(crnn_cpu_of(be), device, bytes);
}

static int64_t cpu_memory(crnn_backend *be)
{
    return crnn_cpu_of(be)->memory;
}

/* Nothing is gained by keeping ops: issuing them costs nothing here. */
static bool cpu_record(crnn_backend *be, crnn_record list)
{
    (void)be, (void)list;
    return true;
}

static bool cpu_record_end(crnn_backend *be, crnn_record list)
{
    (void)be, (void)list;
    return true;
}

static void cpu_gru_choose(crnn_backend *be, crnn_rnn_choice *choice, const crnn_gru_shape *shapes, int32_t count)
{
    (void)be, (void)shapes, (void)count;
    *choice = (crnn_rnn_choice){.name = "auto", .reason = CRNN_RNN_ONLY};
}

static void cpu_close(crnn_backend *be)
{
    free(crnn_cpu_of(be)->candidates);
    free(be);
}

static void cpu_info(crnn_backend *be, crnn_device_info *info)
{
    crnn_cpu_describe(info, crnn_cpu_of(be)->config.threads);
}

static const crnn_backend_ops cpu_ops = {
    .name = "cpu",
    .close = cpu_close,
    .info = cpu_info,
    .sync = cpu_sync,
    .alloc = crnn_cpu_alloc,
    .free = crnn_cpu_free,
    .upload = cpu_copy,
    .download = cpu_download,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .memory = cpu_memory,
    .record = cpu_record,
    .record_end = cpu_record_end,
    .next_step = crnn_cpu_next_step,
    .gather = crnn_cpu_gather,
    .embed = crnn_cpu_embed,
    .embed_backward = crnn_cpu_embed_backward,
    .gru_choose = cpu_gru_choose,
    .gru_new = crnn_cpu_gru_new,
    .gru_free = crnn_cpu_gru_free,
    .gru_params = crnn_cpu_gru_params,
    .gru_pack = crnn_cpu_gru_pack,
    .gru_unpack = crnn_cpu_gru_unpack,
    .gru_forward = crnn_cpu_gru_forward,
    .gru_backward = crnn_cpu_gru_backward,
    .gru_flop = crnn_cpu_gru_flop,
    .dropout = crnn_cpu_dropout,
    .linear = crnn_cpu_linear,
    .linear_backward = crnn_cpu_linear_backward,
    .softmax_xent = crnn_cpu_softmax_xent,
    .head = crnn_head_by_ops,
    .head_bytes = crnn_head_by_ops_bytes,
    .norm = crnn_cpu_norm,
    .adam = crnn_cpu_adam,
    .carry = crnn_cpu_carry,
    .probabilities = crnn_cpu_probabilities,
    .pick = crnn_cpu_pick,
    .peak_rate = crnn_cpu_peak_rate,
    .copy_rate = crnn_cpu_copy_rate,
    .mark = crnn_cpu_mark,
    .between = crnn_cpu_between,
};

static int32_t usable_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (!sched_getaffinity(0, sizeof set, &set) && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* a machine with more cores than cpu_set_t holds */
    return online > 0 ? (int32_t)online : 1;
}

static bool bf16_works(void)
{
    crnn_dnnl_bf16_shape shape = {.M = 16, .N = 16, .K = 16, .ldc = 16, .pack_b = true, .ldb = 16};
    crnn_dnnl_bf16 *product = crnn_dnnl_bf16_new(&shape);
    crnn_dnnl_bf16_free(product);
    return product != NULL;
}

crnn_backend *crnn_cpu_open(const crnn_device_config *config, crnn_error *err)
{
    if (config->precision == CRNN_TF32) {
        crnn_fail(err, CRNN_ERR_ARGUMENT, "tf32 is a format of NVIDIA GPUs; on the CPU use --precision fp32 or bf16");
        return NULL;
    }
    if (config->precision == CRNN_BF16 && !bf16_works()) {
        crnn_fail(err, CRNN_ERR_DEVICE,
                  "oneDNN cannot compute in bf16 on this CPU, which lacks AVX-512; use --precision fp32");
        return NULL;
    }
    if (config->rnn_algo && strcmp(config->rnn_algo, "auto") != 0) {
        crnn_fail(err, CRNN_ERR_ARGUMENT, "unknown --rnn-algo for the CPU; it knows: auto");
        return NULL;
    }
    if (config->threads < 0 || config->threads > 4096) {
        crnn_fail(err, CRNN_ERR_ARGUMENT, "threads must be from 0 (all cores) to 4096, not %d", config->threads);
        return NULL;
    }
    crnn_cpu *cpu = crnn_alloc(1, sizeof *cpu, "the CPU backend", err);
    if (!cpu)
        return NULL;
    cpu->base.ops = &cpu_ops;
    cpu->config = *config;
    cpu->config.kind = CRNN_DEVICE_CPU;
    cpu->config.rnn_algo = "auto";
    if (cpu->config.threads == 0)
        cpu->config.threads = usable_cores();
    return &cpu->base;
}

/* The value of the first line of /proc/cpuinfo that begins with key. */
static void cpu_model_name(char *name, int size)
{
    snprintf(name, (size_t)size, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, (size_t)size, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (file)
        fclose(file);
}

static int64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    long long kib = -1;
    while (file && fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %lld", &kib) != 1)
        ;
    if (file)
        fclose(file);
    long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return kib >= 0 ? (int64_t)kib * 1024 : (int64_t)pages * size;
}

void crnn_cpu_describe(crnn_device_info *info, int32_t threads)
{
    *info = (crnn_device_info){.kind = CRNN_DEVICE_CPU, .usable = true};
    info->threads = threads > 0 ? threads : usable_cores();
    char model[96];
    cpu_model_name(model, sizeof model);
    snprintf(info->name, sizeof info->name, "%s, %d thread%s", model, info->threads, info->threads == 1 ? "" : "s");
    crnn_dnnl_version_text(info->versions, sizeof info->versions);
    info->memory_total = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    info->memory_free = memory_available();
}
