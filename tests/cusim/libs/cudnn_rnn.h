// cudnn_rnn.h - what cuDNN's handles and descriptors hold here, and the GRU that its calls run.
#pragma once
#include "numbers.h"
#include <cudnn.h>
#include <set>

struct cudnnContext {
    cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
    bool set = false;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    std::vector<int> dim, stride;
};
struct cudnnDropoutStruct {
    bool set = false;
    float p = 0;
};
struct cudnnRNNStruct {
    bool set = false, draws = false; // draws: dropout above 0
    cudnnRNNAlgo_t algo;
    cudnnRNNMode_t cell;
    cudnnRNNBiasMode_t bias;
    cudnnDirectionMode_t direction;
    cudnnRNNInputMode_t input;
    cudnnDataType_t type, precision;
    cudnnMathType_t math;
    int32_t input_size, hidden_size, layers;
    uint32_t flags;
    std::set<int> built; // batch sizes
};
struct cudnnRNNDataStruct {
    bool set = false, whole; // whole: each sequence of full length
    cudnnDataType_t type;
    cudnnRNNDataLayout_t layout;
    int steps, batch, vector;
};

namespace cusim
{
cudaDataType format(cudnnDataType_t type); // only of FLOAT, HALF, BFLOAT16

// A network of one kind over sequences of one length.
struct Gru {
    const char *call; // for what is said of it
    cudaDataType type;
    Operand operand;
    size_t T, B, I, H, L;
    bool batch_major;
    size_t inputs(size_t layer) const
    {
        return layer ? H : I;
    }
    size_t size() const // of one number
    {
        return bytes_of(type);
    }
};

// Where the weights lie: gate 0 to 2 are r, z, n of the input, 3 to 5 of the state. Known to cudnnGetRNNWeightParams alone, and unlike
// cuDNN's own order, so that code which assumes one fails here.
struct Weights {
    size_t matrix, bias; // first element
};
Weights weights_at(const Gru &g, size_t layer, size_t gate);
size_t weight_bytes(const Gru &g);
size_t workspace_bytes(const Gru &g);
size_t reserve_bytes(const Gru &g);

struct Space {
    void *at;
    size_t bytes;
};
struct ForwardCall {
    Gru g;
    const int32_t *lengths;
    const void *x, *hx, *weights;
    void *y, *hy;
    Space workspace, reserve; // reserve: of 0 bytes in inference
};
struct BackwardDataCall {
    Gru g;
    const int32_t *lengths;
    const void *y, *dy, *hx, *dhy, *weights;
    void *dx, *dhx;
    Space workspace, reserve;
};
struct BackwardWeightsCall {
    Gru g;
    const int32_t *lengths;
    const void *x, *hx, *y;
    void *dweights;
    Space workspace, reserve;
};
void run(const ForwardCall &call);
void run(const BackwardDataCall &call);
void run(const BackwardWeightsCall &call);
} // namespace cusim
