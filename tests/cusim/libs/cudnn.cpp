// cudnn.cpp - the stand-in for cuDNN: the calls of cudnn.h that make handles and descriptors and ask for sizes and places.
//
// Which descriptors are accepted, and the status of those that are not, was read off cuDNN 9.19 where that needs no GPU. The rest follows
// its documents, the narrower reading where they leave one. Recurrent layers: a GRU with two biases, one direction, all sequences of full
// length; everything else is NOT_SUPPORTED.
#include "cudnn_calls.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cusim
{
static std::string &last_message = *new std::string;
cudnnStatus_t refuse(cudnnStatus_t status, const char *why)
{
    last_message = why;
    return status;
}
cudnnStatus_t status_of(cudaError_t e)
{
    if (e == cudaSuccess)
        return CUDNN_STATUS_SUCCESS;
    return refuse(e == cudaErrorMemoryAllocation ? CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
                                                 : CUDNN_STATUS_EXECUTION_FAILED,
                  cudaGetErrorString(e));
}
cudaDataType format(cudnnDataType_t type)
{
    return type == CUDNN_DATA_HALF ? CUDA_R_16F : type == CUDNN_DATA_BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
}
static bool known(cudnnDataType_t type)
{
    return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF ||
           type == CUDNN_DATA_INT32 || type == CUDNN_DATA_BFLOAT16;
}

// ---- algorithms
static unsigned algos_of_environment()
{
    const char *s = getenv("CUSIM_RNN_ALGOS");
    return s && *s ? static_cast<unsigned>(strtoul(s, nullptr, 0)) : ~0u;
}
static unsigned algos = algos_of_environment();
// Real limits differ from device to device and are known by asking; these make a backend ask.
cudnnStatus_t algo_fits(const cudnnRNNStruct &rnn)
{
    const bool wide = rnn.type == CUDNN_DATA_FLOAT, bf16 = rnn.type == CUDNN_DATA_BFLOAT16;
    if (!(algos >> rnn.algo & 1))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "this device has no such algorithm");
    if (rnn.algo != CUDNN_RNN_ALGO_STANDARD && bf16)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "persistent algorithms are for FLOAT and HALF");
    if (rnn.algo == CUDNN_RNN_ALGO_PERSIST_STATIC && rnn.hidden_size > 1536)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "PERSIST_STATIC: hiddenSize > 1536");
    if (rnn.algo == CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H && rnn.hidden_size > (wide ? 256 : 384))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "PERSIST_STATIC_SMALL_H: hiddenSize is too large");
    return CUDNN_STATUS_SUCCESS;
}
static Operand operand(const cudnnRNNStruct &rnn)
{
    if (rnn.type == CUDNN_DATA_BFLOAT16 && rnn.math != CUDNN_FMA_MATH)
        return Operand::BF16;
    if (rnn.type == CUDNN_DATA_HALF && rnn.math != CUDNN_FMA_MATH)
        return Operand::FP16;
    return rnn.math == CUDNN_FMA_MATH                          ? Operand::EXACT
           : rnn.math == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION ? Operand::FP16
                                                               : Operand::TF32;
}
cudnnStatus_t understand(Gru *g, const cudnnHandle_t handle, const cudnnRNNStruct *rnn)
{
    if (!given(handle, HANDLE) || !given(rnn, RNN) || !rnn->set)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no handle, or no recurrent descriptor that was set");
    if (rnn->cell != CUDNN_GRU || rnn->bias != CUDNN_RNN_DOUBLE_BIAS || rnn->direction != CUDNN_UNIDIRECTIONAL ||
        rnn->input != CUDNN_LINEAR_INPUT || (rnn->draws && rnn->layers > 1))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the stand-in has a GRU with two biases in one direction only");
    if (rnn->type == CUDNN_DATA_DOUBLE || rnn->precision != CUDNN_DATA_FLOAT)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the stand-in computes in FLOAT only");
    *g = {"",
          format(rnn->type),
          operand(*rnn),
          0,
          0,
          static_cast<size_t>(rnn->input_size),
          static_cast<size_t>(rnn->hidden_size),
          static_cast<size_t>(rnn->layers),
          false};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t understand_sequences(Gru *g, const cudnnRNNStruct &rnn, const cudnnRNNDataStruct *x)
{
    if (!given(x, SEQUENCES) || !x->set || x->type != rnn.type || x->vector != rnn.input_size)
        return refuse(CUDNN_STATUS_BAD_PARAM, "xDesc is not set, or is not of dataType and inputSize");
    if (x->layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED && !(rnn.flags & CUDNN_RNN_PADDED_IO_ENABLED))
        return refuse(CUDNN_STATUS_BAD_PARAM, "an unpacked layout without CUDNN_RNN_PADDED_IO_ENABLED");
    if (!x->whole)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "the stand-in has sequences of full length only");
    g->T = static_cast<size_t>(x->steps);
    g->B = static_cast<size_t>(x->batch);
    g->batch_major = x->layout == CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED;
    return algo_fits(rnn);
}
} // namespace cusim
using namespace cusim;
extern "C" {
void cusim_set_rnn_algos(unsigned mask)
{
    algos = mask;
}
size_t cudnnGetVersion(void)
{
    return 91900;
}
size_t cudnnGetCudartVersion(void)
{
    return CUDART_VERSION;
}
const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch (status) {
    case CUDNN_STATUS_SUCCESS:
        return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
        return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM:
        return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED:
        return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
        return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    case CUDNN_STATUS_EXECUTION_FAILED:
        return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
        return "CUDNN_UNKNOWN_STATUS";
    }
}
void cudnnGetLastErrorString(char *message, size_t size)
{
    snprintf(message, size, "%s", last_message.c_str());
}
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    ENTER("cudnnCreate");
    if (!handle)
        return refuse(CUDNN_STATUS_BAD_PARAM, "handle == NULL");
    if (any_capture()) // it allocates
        return refuse(CUDNN_STATUS_EXECUTION_FAILED, "a stream is being captured");
    *handle = made(new cudnnContext, HANDLE);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    cudaError_t e = cusim_call("cudnnDestroy");
    destroy(handle, HANDLE);
    return status_of(e);
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    ENTER("cudnnSetStream");
    if (!given(handle, HANDLE) || (stream && !object_lives(stream, "stream")))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no handle, or no such stream");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

// ---- tensors
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *tensor)
{
    ENTER("cudnnCreateTensorDescriptor");
    if (!tensor)
        return refuse(CUDNN_STATUS_BAD_PARAM, "tensorDesc == NULL");
    *tensor = made(new cudnnTensorStruct, TENSOR);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor)
{
    cudaError_t e = cusim_call("cudnnDestroyTensorDescriptor");
    destroy(tensor, TENSOR);
    return status_of(e);
}
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int dims,
                                         const int dim[], const int stride[])
{
    ENTER("cudnnSetTensorNdDescriptor");
    if (dims > 8)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "nbDims > 8");
    if (!given(tensor, TENSOR) || !known(type) || dims < 2 || !dim || !stride)
        return refuse(CUDNN_STATUS_BAD_PARAM,
                      "no descriptor, sizes or strides; or such a type or number of dimensions");
    for (int i = 0; i < dims; i++)
        if (dim[i] < 1)
            return refuse(CUDNN_STATUS_BAD_PARAM, "dimA[i] <= 0");
    tensor->set = true;
    tensor->type = type;
    tensor->dim.assign(dim, dim + dims);
    tensor->stride.assign(stride, stride + dims);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t tensor, int wanted, cudnnDataType_t *type,
                                         int *dims, int dim[], int stride[])
{
    ENTER("cudnnGetTensorNdDescriptor");
    if (!given(tensor, TENSOR) || !type || !dims || (wanted > 0 && (!dim || !stride)))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no descriptor, or nowhere to write");
    *type = tensor->type;
    *dims = static_cast<int>(tensor->dim.size());
    for (int i = 0; i < wanted && i < *dims; i++) {
        dim[i] = tensor->dim[static_cast<size_t>(i)];
        stride[i] = tensor->stride[static_cast<size_t>(i)];
    }
    return CUDNN_STATUS_SUCCESS;
}

// ---- dropout: none is drawn
cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t *dropout)
{
    ENTER("cudnnCreateDropoutDescriptor");
    if (!dropout)
        return refuse(CUDNN_STATUS_BAD_PARAM, "dropoutDesc == NULL");
    *dropout = made(new cudnnDropoutStruct, DROPOUT);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t dropout)
{
    cudaError_t e = cusim_call("cudnnDestroyDropoutDescriptor");
    destroy(dropout, DROPOUT);
    return status_of(e);
}
static const size_t DROPOUT_STATES = 65536;
cudnnStatus_t cudnnDropoutGetStatesSize(cudnnHandle_t handle, size_t *bytes)
{
    ENTER("cudnnDropoutGetStatesSize");
    if (!given(handle, HANDLE) || !bytes)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no handle, or nowhere to write");
    *bytes = DROPOUT_STATES;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t descriptor, cudnnHandle_t handle, float dropout,
                                        void *states, size_t bytes, unsigned long long)
{
    ENTER("cudnnSetDropoutDescriptor");
    if (!given(descriptor, DROPOUT) || !given(handle, HANDLE) || !(dropout >= 0 && dropout < 1))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no descriptor or handle, or a probability that is none");
    if (dropout > 0 && (!states || bytes < DROPOUT_STATES))
        return refuse(CUDNN_STATUS_BAD_PARAM, "the states are absent or too small");
    descriptor->set = true;
    descriptor->p = dropout;
    if (dropout == 0)
        return CUDNN_STATUS_SUCCESS;
    return status_of(enqueue_work("cudnnSetDropoutDescriptor", handle->stream, [=] {
        cusim_touch(states, DROPOUT_STATES, true);
        memset(states, 0, DROPOUT_STATES);
    }));
}

// ---- recurrent layers
cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t *rnn)
{
    ENTER("cudnnCreateRNNDescriptor");
    if (!rnn)
        return refuse(CUDNN_STATUS_BAD_PARAM, "rnnDesc == NULL");
    *rnn = made(new cudnnRNNStruct, RNN);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t rnn)
{
    cudaError_t e = cusim_call("cudnnDestroyRNNDescriptor");
    destroy(rnn, RNN);
    return status_of(e);
}
cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t rnn, cudnnRNNAlgo_t algo, cudnnRNNMode_t cell,
                                       cudnnRNNBiasMode_t bias, cudnnDirectionMode_t direction,
                                       cudnnRNNInputMode_t input, cudnnDataType_t type, cudnnDataType_t precision,
                                       cudnnMathType_t math, int32_t input_size, int32_t hidden_size,
                                       int32_t projection_size, int32_t layers, cudnnDropoutDescriptor_t dropout,
                                       uint32_t flags)
{
    ENTER("cudnnSetRNNDescriptor_v8");
    auto within = [](int value, int last) { return value >= 0 && value <= last; };
    if (!given(rnn, RNN) || !within(algo, CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H) || !within(cell, CUDNN_GRU) ||
        !within(bias, CUDNN_RNN_SINGLE_REC_BIAS) || !within(direction, CUDNN_BIDIRECTIONAL) ||
        !within(input, CUDNN_SKIP_INPUT) || !within(math, CUDNN_FMA_MATH) || !known(type) || !known(precision))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no descriptor, or a value that is none of its kind");
    if (input_size < 1 || hidden_size < 1 || layers < 1 || projection_size < 1 || projection_size > hidden_size ||
        flags & ~CUDNN_RNN_PADDED_IO_ENABLED)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a size out of its range, or a flag that there is not");
    const bool narrow = type == CUDNN_DATA_HALF && precision == CUDNN_DATA_HALF;
    const bool fits =
        type == CUDNN_DATA_DOUBLE ? precision == CUDNN_DATA_DOUBLE : narrow || precision == CUDNN_DATA_FLOAT;
    if (type == CUDNN_DATA_INT32 || !fits || projection_size != hidden_size)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "types that do not go together, or a projection");
    if (given(dropout, DROPOUT) && !dropout->set)
        return refuse(CUDNN_STATUS_BAD_PARAM, "dropoutDesc was never set");
    *rnn = {true,       dropout && dropout->p > 0,
            algo,       cell,
            bias,       direction,
            input,      type,
            precision,  math,
            input_size, hidden_size,
            layers,     flags,
            {}};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBuildRNNDynamic(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int batch)
{
    ENTER("cudnnBuildRNNDynamic");
    Gru g;
    cudnnStatus_t status = understand(&g, handle, rnn);
    if (status == CUDNN_STATUS_SUCCESS && batch < 1)
        status = refuse(CUDNN_STATUS_BAD_PARAM, "miniBatch < 1");
    if (status == CUDNN_STATUS_SUCCESS && rnn->algo != CUDNN_RNN_ALGO_PERSIST_DYNAMIC)
        status = refuse(CUDNN_STATUS_NOT_SUPPORTED, "only PERSIST_DYNAMIC is built");
    if (status == CUDNN_STATUS_SUCCESS)
        status = algo_fits(*rnn);
    if (status == CUDNN_STATUS_SUCCESS && any_capture()) // it compiles and loads code
        status = refuse(CUDNN_STATUS_EXECUTION_FAILED, "a stream is being captured");
    if (status == CUDNN_STATUS_SUCCESS)
        rnn->built.insert(batch);
    return status;
}
cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t *data)
{
    ENTER("cudnnCreateRNNDataDescriptor");
    if (!data)
        return refuse(CUDNN_STATUS_BAD_PARAM, "rnnDataDesc == NULL");
    *data = made(new cudnnRNNDataStruct{}, SEQUENCES);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t data)
{
    cudaError_t e = cusim_call("cudnnDestroyRNNDataDescriptor");
    destroy(data, SEQUENCES);
    return status_of(e);
}
cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t data, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int batch, int vector,
                                        const int lengths[], void *)
{
    ENTER("cudnnSetRNNDataDescriptor");
    const int last = CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED;
    if (!given(data, SEQUENCES) || !known(type) || layout > last || steps < 1 || batch < 1 || vector < 1 || !lengths)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no descriptor or lengths, or a size or value that is none");
    if (type == CUDNN_DATA_INT32 || steps > 65535)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "no such type of sequences, or maxSeqLength > 65535");
    bool whole = true;
    for (int b = 0; b < batch; b++) {
        whole = whole && lengths[b] == steps;
        if (lengths[b] < 0 || lengths[b] > steps)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a length above maxSeqLength");
        if (layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED && b && lengths[b] > lengths[b - 1])
            return refuse(CUDNN_STATUS_BAD_PARAM, "packed sequences in increasing length");
    }
    *data = {true, whole, type, layout, steps, batch, vector};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, size_t *bytes)
{
    ENTER("cudnnGetRNNWeightSpaceSize");
    Gru g;
    cudnnStatus_t status = understand(&g, handle, rnn);
    if (status == CUDNN_STATUS_SUCCESS && !bytes)
        status = refuse(CUDNN_STATUS_BAD_PARAM, "weightSpaceSize == NULL");
    if (status == CUDNN_STATUS_SUCCESS)
        *bytes = weight_bytes(g);
    return status;
}
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int32_t layer, size_t bytes,
                                      const void *weights, int32_t gate, cudnnTensorDescriptor_t matrix,
                                      void **matrix_at, cudnnTensorDescriptor_t bias, void **bias_at)
{
    ENTER("cudnnGetRNNWeightParams");
    Gru g;
    cudnnStatus_t status = understand(&g, handle, rnn);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (!weights || !given(matrix, TENSOR) || !matrix_at || !given(bias, TENSOR) || !bias_at)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no weight space or tensor descriptor, or nowhere to write");
    if (layer < 0 || layer >= rnn->layers || gate < 0 || gate > 5 || bytes < weight_bytes(g))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no such layer or gate, or a weight space that is too small");
    const int inputs = static_cast<int>(gate < 3 ? g.inputs(static_cast<size_t>(layer)) : g.H), H = rnn->hidden_size;
    *matrix = {true, rnn->type, {1, H, inputs}, {H * inputs, inputs, 1}};
    *bias = {true, rnn->type, {1, H, 1}, {H, 1, 1}};
    const Weights at = weights_at(g, static_cast<size_t>(layer), static_cast<size_t>(gate));
    char *space = static_cast<char *>(const_cast<void *>(weights));
    *matrix_at = space + at.matrix * g.size();
    *bias_at = space + at.bias * g.size();
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                                        cudnnRNNDataDescriptor_t x, size_t *workspace, size_t *reserve)
{
    ENTER("cudnnGetRNNTempSpaceSizes");
    Gru g;
    cudnnStatus_t status = understand(&g, handle, rnn);
    if (status == CUDNN_STATUS_SUCCESS)
        status = understand_sequences(&g, *rnn, x);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    const bool training = mode == CUDNN_FWD_MODE_TRAINING;
    if (!workspace || (training && !reserve) || (!training && mode != CUDNN_FWD_MODE_INFERENCE))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no such mode, or nowhere to write");
    *workspace = workspace_bytes(g);
    if (reserve)
        *reserve = training ? reserve_bytes(g) : 0;
    return CUDNN_STATUS_SUCCESS;
}
}
