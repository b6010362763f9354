/* lists.c - lists of ops that are the same each time, as graphs. */
#include "kernels/cuda/cuda.h"

void crnn_cuda_forget_lists(crnn_cuda *cuda)
{
    for (int i = 0; i < CRNN_RECORDS; i++) {
        if (cuda->lists[i].graph)
            cudaGraphExecDestroy(cuda->lists[i].graph);
        cuda->lists[i] = (crnn_cuda_list){0};
    }
}

bool crnn_cuda_record(crnn_backend *be, crnn_record list)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    crnn_cuda_list *l = &cuda->lists[list];
    if (!crnn_cuda_begin(cuda, "record"))
        return true;
    if (l->state == CRNN_LIST_READY) {
        crnn_cuda_ok(cuda, cudaGraphLaunch(l->graph, cuda->stream));
        return false;
    }
    if (l->state == CRNN_LIST_COLD)
        l->state = CRNN_LIST_WARM;
    else if (l->state == CRNN_LIST_WARM)
        cuda->capturing = crnn_cuda_ok(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
    return true;
}

/* What was captured becomes a graph; false where it does not. */
static bool make_graph(crnn_cuda *cuda, crnn_cuda_list *l)
{
    cudaGraph_t graph = NULL;
    bool ok = crnn_cuda_ok(cuda, cudaStreamEndCapture(cuda->stream, &graph)) && !cuda->failure.status &&
              crnn_cuda_ok(cuda, cudaGraphInstantiate(&l->graph, graph, 0));
    if (graph)
        cudaGraphDestroy(graph);
    if (ok)
        return true;
    l->graph = NULL;
    return false;
}

bool crnn_cuda_record_end(crnn_backend *be, crnn_record list)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    crnn_cuda_list *l = &cuda->lists[list];
    if (!cuda->capturing)
        return true;
    cuda->capturing = false;
    cuda->op = "record_end";
    if (!make_graph(cuda, l)) { /* nothing of it has run: whatever failed will show again, where it can be reported */
        cuda->failure = (crnn_error){0};
        for (crnn_gru *g = cuda->layers; g; g = g->next)
            g->seen_w = NULL;
        l->state = CRNN_LIST_UNFIT;
        return false;
    }
    l->state = CRNN_LIST_READY;
    crnn_cuda_ok(cuda, cudaGraphLaunch(l->graph, cuda->stream));
    return true;
}
