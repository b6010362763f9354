/* device.h - which GPU there is, whether it can be used, and what is missing where it cannot. */
#ifndef CRNN_KERNELS_CUDA_DEVICE_H
#define CRNN_KERNELS_CUDA_DEVICE_H

#include "kernels/cuda/libraries.h"
#include <crnn/device.h>

/* The driver, the GPU, and whether this build and config.precision fit it. CRNN_ERR_DEVICE says what was found, what is needed and the fix. */
crnn_status crnn_cuda_check_device(const crnn_device_config *config, crnn_error *err);
/* Of the GPU in use. */
void crnn_cuda_describe_device(crnn_device_info *info, const crnn_gpu_libraries *libraries);

#endif
