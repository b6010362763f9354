/* Looks at the driver and the GPU. */
#include "kernels/cuda/device.h"
#include "kernels/backend.h"
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_CAPABILITY = 75, FIRST_WITH_TF32 = 80 }; /* tensor cores that round to tf32 and bf16 came with 8.0 */

/* 13000 is CUDA 13.0. */
static int major_of(int version)
{
    return version / 1000;
}

static int minor_of(int version)
{
    return version % 1000 / 10;
}

static crnn_status no_device(cudaError_t error, crnn_error *err)
{
    int driver = 0;
    cudaDriverGetVersion(&driver);
    cudaGetLastError();
    if (driver == 0 && (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice))
        return crnn_fail(err, CRNN_ERR_DEVICE,
                         "no NVIDIA driver was found; install one (Debian: nvidia-driver, Ubuntu: ubuntu-drivers "
                         "install) and start the machine again");
    if (error == cudaErrorInsufficientDriver)
        return crnn_fail(err, CRNN_ERR_DEVICE,
                         "the NVIDIA driver serves CUDA up to %d.%d, this build needs %d.%d; install a newer driver",
                         major_of(driver), minor_of(driver), major_of(CUDART_VERSION), minor_of(CUDART_VERSION));
    if (error == cudaErrorNoDevice || error == cudaSuccess)
        return crnn_fail(err, CRNN_ERR_DEVICE,
                         "an NVIDIA driver is here, but no GPU it may use; see nvidia-smi and CUDA_VISIBLE_DEVICES");
    return crnn_fail(err, CRNN_ERR_DEVICE, "the CUDA runtime cannot start: %s (%s)", cudaGetErrorString(error),
                     cudaGetErrorName(error));
}

crnn_status crnn_cuda_check_device(const crnn_device_config *config, crnn_error *err)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count < 1)
        return no_device(error, err);
    struct cudaDeviceProp p;
    error = cudaSetDevice(0);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&p, 0);
    if (error != cudaSuccess)
        return no_device(error, err);
    int capability = p.major * 10 + p.minor;
    if (capability < OLDEST_CAPABILITY)
        return crnn_fail(err, CRNN_ERR_DEVICE, "%s has compute capability %d.%d; 7.5 (Turing) is the oldest supported",
                         p.name, p.major, p.minor);
    if (config->precision != CRNN_FP32 && capability < FIRST_WITH_TF32)
        return crnn_fail(err, CRNN_ERR_DEVICE,
                         "%s has compute capability %d.%d; tf32 and bf16 need 8.0 (Ampere): use --precision fp32",
                         p.name, p.major, p.minor);
    return CRNN_OK;
}

void crnn_cuda_describe_device(crnn_device_info *info, const crnn_gpu_libraries *libraries)
{
    struct cudaDeviceProp p;
    size_t free_bytes = 0, total = 0;
    int driver = 0;
    *info = (crnn_device_info){.kind = CRNN_DEVICE_CUDA};
    if (cudaGetDeviceProperties(&p, 0) != cudaSuccess || cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
        return; /* not usable; whatever is wrong shows at the next op */
    cudaDriverGetVersion(&driver);
    size_t cudnn = libraries->cudnnGetVersion(), cublas = libraries->cublasLtGetVersion();
    info->usable = true;
    info->memory_total = (int64_t)total;
    info->memory_free = (int64_t)free_bytes;
    snprintf(info->name, sizeof info->name, "%.80s, compute capability %d.%d, %d multiprocessors", p.name, p.major,
             p.minor, p.multiProcessorCount);
    snprintf(info->versions, sizeof info->versions,
             "CUDA %d.%d, driver for CUDA %d.%d, cuBLASLt %zu.%zu.%zu, cuDNN %zu.%zu.%zu", major_of(CUDART_VERSION),
             minor_of(CUDART_VERSION), major_of(driver), minor_of(driver), cublas / 10000, cublas / 100 % 100,
             cublas % 100, cudnn / 10000, cudnn / 100 % 100, cudnn % 100);
}

crnn_status crnn_cuda_describe(crnn_device_info *info, const crnn_device_config *config)
{
    crnn_error err = {0};
    crnn_backend *be = crnn_cuda_open(config, &err);
    *info = (crnn_device_info){.kind = CRNN_DEVICE_CUDA};
    if (be) {
        be->ops->info(be, info);
        be->ops->close(be);
        return CRNN_OK;
    }
    snprintf(info->name, sizeof info->name, "CUDA GPU");
    snprintf(info->why, sizeof info->why, "%.*s", (int)sizeof info->why - 1, err.text);
    return err.status;
}
