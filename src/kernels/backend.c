/* Chooses and opens a device. */
#include "kernels/backend.h"
#include <stdio.h>
#include <string.h>

static const char no_cuda[] = "this build has no CUDA backend";

crnn_device_config crnn_device_config_default(void)
{
    return (crnn_device_config){.kind = CRNN_DEVICE_AUTO, .precision = CRNN_FP32, .rnn_algo = "auto"};
}

static void describe_cuda(crnn_device_info *info)
{
    memset(info, 0, sizeof *info);
    info->kind = CRNN_DEVICE_CUDA;
    snprintf(info->name, sizeof info->name, "CUDA GPU");
    snprintf(info->why, sizeof info->why, "%s", no_cuda);
}

int crnn_device_list(crnn_device_info *info, int max)
{
    if (max > 0)
        crnn_cpu_describe(&info[0], 0);
    if (max > 1)
        describe_cuda(&info[1]);
    return 2;
}

crnn_status crnn_device_choose(crnn_device_info *info, const crnn_device_config *config, char *note, int size,
                               crnn_error *err)
{
    if (note && size > 0)
        note[0] = 0;
    if (config->kind == CRNN_DEVICE_CUDA)
        return crnn_fail(err, CRNN_ERR_DEVICE, "no CUDA device: %s; use --device cpu", no_cuda);
    if (config->threads < 0 || config->threads > 4096)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "threads must lie between 1 and 4096 (0: all cores), not %d",
                         (int)config->threads);
    crnn_cpu_describe(info, config->threads);
    if (config->kind == CRNN_DEVICE_AUTO && note && size > 0)
        snprintf(note, (size_t)size, "computing on the CPU (%s): %s", info->name, no_cuda);
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
    return crnn_cpu_open(&resolved, err);
}
