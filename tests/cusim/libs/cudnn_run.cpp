// cudnn_run.cpp - the stand-in for cuDNN: forward and backward of a recurrent layer. Everything is checked before anything is queued.
#include "cudnn_calls.h"

namespace cusim
{
// What the three calls have in common.
struct Common {
    const char *name;
    cudnnHandle_t handle;
    cudnnRNNDescriptor_t rnn;
    cudnnRNNDataDescriptor_t x, y;
    cudnnTensorDescriptor_t h;
    size_t weights_size;
    const void *weights;
    Space workspace, reserve;
    bool training;
};
static bool sound(const Space &s, size_t needed)
{
    return s.at && s.bytes >= needed && reinterpret_cast<uintptr_t>(s.at) % 16 == 0;
}
static cudnnStatus_t check_descriptors(const Common &c)
{
    const cudnnRNNDataStruct &x = *c.x;
    if (!given(c.y, SEQUENCES) || !c.y->set || c.y->type != x.type || c.y->layout != x.layout ||
        c.y->steps != x.steps || c.y->batch != x.batch || c.y->whole != x.whole || c.y->vector != c.rnn->hidden_size)
        return refuse(CUDNN_STATUS_BAD_PARAM, "yDesc is not set, or differs from xDesc, or is not of hiddenSize");
    const int B = x.batch, H = c.rnn->hidden_size;
    if (!given(c.h, TENSOR) || !c.h->set || c.h->type != x.type || c.h->dim != std::vector<int>{c.rnn->layers, B, H} ||
        c.h->stride != std::vector<int>{B * H, H, 1})
        return refuse(CUDNN_STATUS_BAD_PARAM, "hDesc is not set, or not numLayers x batchSize x hiddenSize, packed");
    if (c.rnn->algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC && !c.rnn->built.count(B))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cudnnBuildRNNDynamic was not called for this batch");
    return CUDNN_STATUS_SUCCESS;
}
// The network, and spaces cut to what is used of them.
static cudnnStatus_t check(Gru *g, Common *c)
{
    cudnnStatus_t status = status_of(cusim_call(c->name));
    if (status == CUDNN_STATUS_SUCCESS)
        status = understand(g, c->handle, c->rnn);
    if (status == CUDNN_STATUS_SUCCESS)
        status = understand_sequences(g, *c->rnn, c->x);
    if (status == CUDNN_STATUS_SUCCESS)
        status = check_descriptors(*c);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    g->call = c->name;
    const size_t workspace = workspace_bytes(*g), reserve = c->training ? reserve_bytes(*g) : 0;
    if (!c->weights || c->weights_size < weight_bytes(*g))
        return refuse(CUDNN_STATUS_BAD_PARAM, "the weight space is absent or too small");
    if (!sound(c->workspace, workspace))
        return refuse(CUDNN_STATUS_BAD_PARAM, "the workspace is absent, too small or misaligned");
    if (reserve && !sound(c->reserve, reserve))
        return refuse(CUDNN_STATUS_BAD_PARAM, "the reserve space is absent, too small or misaligned");
    c->workspace.bytes = workspace;
    c->reserve.bytes = reserve;
    return CUDNN_STATUS_SUCCESS;
}
template <class Call> cudnnStatus_t queue(const Common &c, const Call &call)
{
    return status_of(enqueue_work(c.name, c.handle->stream, [call] { run(call); }));
}
} // namespace cusim
using namespace cusim;
extern "C" {
cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                              const int32_t lengths[], cudnnRNNDataDescriptor_t x_desc, const void *x,
                              cudnnRNNDataDescriptor_t y_desc, void *y, cudnnTensorDescriptor_t h_desc, const void *hx,
                              void *hy, cudnnTensorDescriptor_t, const void *, void *, size_t weight_bytes,
                              const void *weights, size_t workspace_bytes, void *workspace, size_t reserve_bytes,
                              void *reserve)
{
    Common c = {"cudnnRNNForward",
                handle,
                rnn,
                x_desc,
                y_desc,
                h_desc,
                weight_bytes,
                weights,
                {workspace, workspace_bytes},
                {reserve, reserve_bytes},
                mode == CUDNN_FWD_MODE_TRAINING};
    Gru g;
    cudnnStatus_t status = check(&g, &c);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (!x || !y || (!c.training && mode != CUDNN_FWD_MODE_INFERENCE))
        return refuse(CUDNN_STATUS_BAD_PARAM, "no x or y, or no such mode");
    return queue(c, ForwardCall{g, lengths, x, hx, weights, y, hy, c.workspace, c.reserve});
}
cudnnStatus_t cudnnRNNBackwardData_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const int32_t lengths[],
                                      cudnnRNNDataDescriptor_t y_desc, const void *y, const void *dy,
                                      cudnnRNNDataDescriptor_t x_desc, void *dx, cudnnTensorDescriptor_t h_desc,
                                      const void *hx, const void *dhy, void *dhx, cudnnTensorDescriptor_t, const void *,
                                      const void *, void *, size_t weight_bytes, const void *weights,
                                      size_t workspace_bytes, void *workspace, size_t reserve_bytes, void *reserve)
{
    Common c = {"cudnnRNNBackwardData_v8",
                handle,
                rnn,
                x_desc,
                y_desc,
                h_desc,
                weight_bytes,
                weights,
                {workspace, workspace_bytes},
                {reserve, reserve_bytes},
                true};
    Gru g;
    cudnnStatus_t status = check(&g, &c);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (!y || !dy || !dx)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no y, dy or dx");
    return queue(c, BackwardDataCall{g, lengths, y, dy, hx, dhy, weights, dx, dhx, c.workspace, c.reserve});
}
cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnWgradMode_t mode,
                                         const int32_t lengths[], cudnnRNNDataDescriptor_t x_desc, const void *x,
                                         cudnnTensorDescriptor_t h_desc, const void *hx,
                                         cudnnRNNDataDescriptor_t y_desc, const void *y, size_t weight_bytes,
                                         void *dweights, size_t workspace_bytes, void *workspace, size_t reserve_bytes,
                                         void *reserve)
{
    Common c = {"cudnnRNNBackwardWeights_v8",
                handle,
                rnn,
                x_desc,
                y_desc,
                h_desc,
                weight_bytes,
                dweights,
                {workspace, workspace_bytes},
                {reserve, reserve_bytes},
                true};
    Gru g;
    cudnnStatus_t status = check(&g, &c);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (mode != CUDNN_WGRAD_MODE_ADD) // as the library, for now
        return refuse(mode == CUDNN_WGRAD_MODE_SET ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_BAD_PARAM,
                      "addGrad is not CUDNN_WGRAD_MODE_ADD");
    if (!x || !y)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no x or y");
    return queue(c, BackwardWeightsCall{g, lengths, x, hx, y, dweights, c.workspace, c.reserve});
}
}
