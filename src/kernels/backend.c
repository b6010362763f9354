/* Chooses and opens a device; what every one can do by its other ops. */
#include "kernels/backend.h"
#include <stdio.h>

crnn_device_config crnn_device_config_default(void)
{
    return (crnn_device_config){.kind = CRNN_DEVICE_AUTO, .precision = CRNN_FP32, .rnn_algo = "auto"};
}

#ifndef CRNN_HAVE_CUDA /* built without src/kernels/cuda */
static const char no_cuda[] =
    "this build has no CUDA backend (CMake found no CUDA toolkit with cuDNN, or was told CRNN_CUDA=OFF)";

crnn_backend *crnn_cuda_open(const crnn_device_config *config, crnn_error *err)
{
    (void)config;
    crnn_fail(err, CRNN_ERR_DEVICE, "%s", no_cuda);
    return NULL;
}

crnn_status crnn_cuda_describe(crnn_device_info *info, const crnn_device_config *config)
{
    (void)config;
    *info = (crnn_device_info){.kind = CRNN_DEVICE_CUDA, .name = "CUDA GPU"};
    snprintf(info->why, sizeof info->why, "%s", no_cuda);
    return CRNN_ERR_DEVICE;
}
#endif

int crnn_device_list(crnn_device_info *info, int max)
{
    crnn_device_config config = crnn_device_config_default();
    if (max > 0)
        crnn_cpu_describe(&info[0], 0);
    if (max > 1)
        crnn_cuda_describe(&info[1], &config);
    return 2;
}

static void say(char *note, int size, const char *device, const crnn_device_info *info, const char *why)
{
    if (note && size > 0)
        snprintf(note, (size_t)size, "computing on the %s (%s)%s%s", device, info->name, why[0] ? ": " : "", why);
}

static crnn_status check_threads(const crnn_device_config *config, crnn_error *err)
{
    if (config->threads >= 0 && config->threads <= 4096)
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_ARGUMENT, "threads must lie between 1 and 4096 (0: all cores), not %d",
                     (int)config->threads);
}

/* The GPU was asked for by name, and cannot be had. */
static crnn_status no_gpu(crnn_status status, const char *why, crnn_error *err)
{
    if (status == CRNN_ERR_DEVICE)
        return crnn_fail(err, status, "no CUDA device: %s; or use --device cpu", why);
    return crnn_fail(err, status, "%s", why);
}

crnn_status crnn_device_choose(crnn_device_info *info, const crnn_device_config *config, char *note, int size,
                               crnn_error *err)
{
    if (note && size > 0)
        note[0] = 0;
    if (check_threads(config, err) != CRNN_OK)
        return CRNN_ERR_ARGUMENT;
    crnn_device_info cuda = {0};
    crnn_status status = config->kind == CRNN_DEVICE_CPU ? CRNN_OK : crnn_cuda_describe(&cuda, config);
    if (config->kind == CRNN_DEVICE_CUDA && status != CRNN_OK)
        return no_gpu(status, cuda.why, err);
    *info = cuda;
    if (!cuda.usable)
        crnn_cpu_describe(info, config->threads);
    if (config->kind == CRNN_DEVICE_AUTO)
        say(note, size, cuda.usable ? "GPU" : "CPU", info, cuda.why);
    return CRNN_OK;
}

crnn_backend *crnn_backend_open(const crnn_device_config *config, char *note, int size, crnn_error *err)
{
    crnn_device_config resolved = *config;
    crnn_device_info info;
    crnn_error why = {0};
    crnn_backend *be = NULL;
    if (note && size > 0)
        note[0] = 0;
    if (check_threads(config, err) != CRNN_OK)
        return NULL;
    if (!resolved.rnn_algo)
        resolved.rnn_algo = "auto";
    if (config->kind != CRNN_DEVICE_CPU)
        be = crnn_cuda_open(&resolved, &why);
    if (config->kind == CRNN_DEVICE_CUDA && !be)
        no_gpu(why.status, why.text, err);
    else if (!be)
        be = crnn_cpu_open(&resolved, err);
    if (be && config->kind == CRNN_DEVICE_AUTO) {
        be->ops->info(be, &info);
        say(note, size, info.kind == CRNN_DEVICE_CUDA ? "GPU" : "CPU", &info, why.text);
    }
    return be;
}

size_t crnn_head_by_ops_bytes(crnn_backend *be, int64_t n, int32_t H, int32_t V)
{
    (void)be;
    (void)H;
    return (size_t)n * (size_t)V * sizeof(float);
}

void crnn_head_by_ops(crnn_backend *be, const crnn_head *h)
{
    float *z = h->scratch; /* [n,V] logits, then their gradient */
    be->ops->linear(be, z, h->x, h->W, h->b, h->n, h->H, h->V);
    be->ops->softmax_xent(be, h->numbers, z, h->y, h->n, h->V, h->scale);
    be->ops->linear_backward(be, h->dx, h->dW, h->db, z, h->x, h->W, h->n, h->H, h->V);
}
