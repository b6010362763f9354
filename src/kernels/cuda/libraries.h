/* libraries.h - cuBLASLt and cuDNN, loaded when a GPU is opened: one table of functions, so that the program starts where they are missing. */
#ifndef CRNN_KERNELS_CUDA_LIBRARIES_H
#define CRNN_KERNELS_CUDA_LIBRARIES_H

#include <crnn/error.h>
#include <cublasLt.h>
#include <cudnn.h>

#define CRNN_CUBLASLT_FUNCTIONS(X)                                                                                     \
    X(cublasLtCreate)                                                                                                  \
    X(cublasLtDestroy)                                                                                                 \
    X(cublasLtGetVersion)                                                                                              \
    X(cublasLtGetStatusString)                                                                                         \
    X(cublasLtMatmulDescCreate)                                                                                        \
    X(cublasLtMatmulDescSetAttribute)                                                                                  \
    X(cublasLtMatmulDescDestroy)                                                                                       \
    X(cublasLtMatrixLayoutCreate)                                                                                      \
    X(cublasLtMatrixLayoutSetAttribute)                                                                                \
    X(cublasLtMatrixLayoutDestroy)                                                                                     \
    X(cublasLtMatmulPreferenceCreate)                                                                                  \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                            \
    X(cublasLtMatmulPreferenceDestroy)                                                                                 \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                                  \
    X(cublasLtMatmul)

#define CRNN_CUDNN_FUNCTIONS(X)                                                                                        \
    X(cudnnGetVersion)                                                                                                 \
    X(cudnnGetErrorString)                                                                                             \
    X(cudnnGetLastErrorString)                                                                                         \
    X(cudnnCreate)                                                                                                     \
    X(cudnnDestroy)                                                                                                    \
    X(cudnnSetStream)                                                                                                  \
    X(cudnnCreateTensorDescriptor)                                                                                     \
    X(cudnnDestroyTensorDescriptor)                                                                                    \
    X(cudnnSetTensorNdDescriptor)                                                                                      \
    X(cudnnGetTensorNdDescriptor)                                                                                      \
    X(cudnnCreateDropoutDescriptor)                                                                                    \
    X(cudnnDestroyDropoutDescriptor)                                                                                   \
    X(cudnnSetDropoutDescriptor)                                                                                       \
    X(cudnnCreateRNNDescriptor)                                                                                        \
    X(cudnnDestroyRNNDescriptor)                                                                                       \
    X(cudnnSetRNNDescriptor_v8)                                                                                        \
    X(cudnnCreateRNNDataDescriptor)                                                                                    \
    X(cudnnDestroyRNNDataDescriptor)                                                                                   \
    X(cudnnSetRNNDataDescriptor)                                                                                       \
    X(cudnnBuildRNNDynamic)                                                                                            \
    X(cudnnGetRNNWeightSpaceSize)                                                                                      \
    X(cudnnGetRNNWeightParams)                                                                                         \
    X(cudnnGetRNNTempSpaceSizes)                                                                                       \
    X(cudnnRNNForward)                                                                                                 \
    X(cudnnRNNBackwardData_v8)                                                                                         \
    X(cudnnRNNBackwardWeights_v8)

#define CRNN_LIBRARY_MEMBER(name) __typeof__(&name) name;
typedef struct {
    CRNN_CUBLASLT_FUNCTIONS(CRNN_LIBRARY_MEMBER)
    CRNN_CUDNN_FUNCTIONS(CRNN_LIBRARY_MEMBER)
} crnn_gpu_libraries;

/* Opens both, from the folder that CRNN_CUDA_LIBRARIES names, where the loader looks, where the build found them, or where Python's packages
 * keep them. They stay open as long as the process: neither survives being closed. CRNN_ERR_DEVICE names the file that is missing and what
 * brings it. */
crnn_status crnn_gpu_libraries_open(crnn_gpu_libraries *libraries, crnn_error *err);

#endif
