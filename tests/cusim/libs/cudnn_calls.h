// cudnn_calls.h - what the calls of cuDNN's stand-in share: their statuses, and what their descriptors say when put together.
#pragma once
#include "cudnn_rnn.h"

namespace cusim
{
inline const char HANDLE[] = "cuDNN handle", TENSOR[] = "tensor descriptor", DROPOUT[] = "dropout descriptor",
                  RNN[] = "recurrent descriptor", SEQUENCES[] = "sequence descriptor";

// Returns the status and keeps the reason for cudnnGetLastErrorString.
cudnnStatus_t refuse(cudnnStatus_t status, const char *why);
cudnnStatus_t status_of(cudaError_t e);

cudnnStatus_t algo_fits(const cudnnRNNStruct &rnn);
// The network; then the length and number of its sequences.
cudnnStatus_t understand(Gru *g, cudnnHandle_t handle, const cudnnRNNStruct *rnn);
cudnnStatus_t understand_sequences(Gru *g, const cudnnRNNStruct &rnn, const cudnnRNNDataStruct *x);
} // namespace cusim

#define ENTER(name)                                                                                                    \
    do {                                                                                                               \
        cudnnStatus_t entered = cusim::status_of(cusim_call(name));                                                    \
        if (entered != CUDNN_STATUS_SUCCESS)                                                                           \
            return entered;                                                                                            \
    } while (0)
