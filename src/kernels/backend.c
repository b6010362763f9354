/* Chooses and opens a device. */
#include "kernels/backend.h"
#include <stdio.h>
#include <string.h>

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

crnn_status crnn_device_choose(crnn_device_info *info, const crnn_device_config *config, char *note, int size,
                               crnn_error *err)
{
    if (note && size > 0)
        note[0] = 0;
    if (config->threads < 0 || config->threads > 4096)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "threads must lie between 1 and 4096 (0: all cores), not %d",
                         (int)config->threads);
    crnn_device_info cuda = {0};
    crnn_status status = config->kind == CRNN_DEVICE_CPU ? CRNN_OK : crnn_cuda_describe(&cuda, config);
    if (config->kind == CRNN_DEVICE_CUDA && status == CRNN_ERR_DEVICE)
        return crnn_fail(err, status, "no CUDA device: %s; or use --device cpu", cuda.why);
    if (config->kind == CRNN_DEVICE_CUDA && status != CRNN_OK)
        return crnn_fail(err, status, "%s", cuda.why);
    if (cuda.usable) {
        *info = cuda;
        if (config->kind == CRNN_DEVICE_AUTO)
            say(note, size, "GPU", info, "");
        return CRNN_OK;
    }
    crnn_cpu_describe(info, config->threads);
    if (config->kind == CRNN_DEVICE_AUTO)
        say(note, size, "CPU", info, cuda.why);
    return CRNN_OK;
}

crnn_backend *crnn_backend_open(const crnn_device_config *config, char *note, int size, crnn_error *err)
{
    crnn_device_info info;
    if (crnn_device_choose(&info, config, note, size, err) != CRNN_OK)
        return NULL;
    crnn_device_config resolved = *config;
    resolved.kind = info.kind;
    if (!resolved.rnn_algo)
        resolved.rnn_algo = "auto";
    return info.kind == CRNN_DEVICE_CUDA ? crnn_cuda_open(&resolved, err) : crnn_cpu_open(&resolved, err);
}
