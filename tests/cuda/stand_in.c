/* A library that has every function the backend takes from cuBLASLt and cuDNN by name, none of which is ever called. */
#include "kernels/cuda/libraries.h"

#define STAND_IN(name)                                                                                                 \
    void stand_in_##name(void) __asm__(#name);                                                                         \
    void stand_in_##name(void)                                                                                         \
    {                                                                                                                  \
    }
CRNN_CUBLASLT_FUNCTIONS(STAND_IN)
CRNN_CUDNN_FUNCTIONS(STAND_IN)
