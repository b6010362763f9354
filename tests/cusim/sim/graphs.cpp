// graphs.cpp - streams captured into a graph, and the graph launched again. A node follows those that stream order and events put before
// it; what lies side by side runs in any order, and the checker sees it as unordered.
#include "streams.h"
#include <algorithm>

namespace cusim
{
std::vector<Capture *> &captures = *new std::vector<Capture *>;

// Takes the operation into the stream's capture; false: the stream is not captured. *error is what the call returns.
bool captured(cudaStream_t s, const char *name, std::function<void()> &run, cudaError_t *e)
{
    if (s == &null_stream || !s->capture) {
        // The legacy stream would wait for a blocking stream that is captured.
        for (Capture *c : captures)
            if (s == &null_stream && !c->origin->nonblocking) {
                c->invalid = true;
                *e = error(cudaErrorStreamCaptureImplicit);
                return true;
            }
        return false;
    }
    if (s->capture->invalid) {
        *e = error(cudaErrorStreamCaptureInvalidated);
        return true;
    }
    s->capture->nodes.push_back({name, std::move(run), s->tips});
    s->tips.assign(1, s->capture->nodes.size() - 1);
    return true;
}
// Whether every node comes before one of tips.
static bool joined(const std::vector<Node> &nodes, const std::vector<size_t> &tips)
{
    std::vector<bool> seen(nodes.size());
    std::vector<size_t> todo(tips);
    while (!todo.empty()) {
        size_t n = todo.back();
        todo.pop_back();
        if (seen[n])
            continue;
        seen[n] = true;
        todo.insert(todo.end(), nodes[n].after.begin(), nodes[n].after.end());
    }
    return std::find(seen.begin(), seen.end(), false) == seen.end();
}
static bool chain(const std::vector<Node> &nodes)
{
    for (size_t i = 1; i < nodes.size(); i++)
        if (nodes[i].after.size() != 1 || nodes[i].after[0] != i - 1)
            return false;
    return true;
}
// An order in which the nodes can run; a random one with CUSIM_SEED.
static std::vector<size_t> some_order(const std::vector<Node> &nodes)
{
    std::vector<size_t> order;
    std::vector<bool> done(nodes.size());
    while (order.size() < nodes.size()) {
        std::vector<size_t> ready;
        for (size_t i = 0; i < nodes.size(); i++)
            if (!done[i] &&
                std::all_of(nodes[i].after.begin(), nodes[i].after.end(), [&](size_t a) { return done[a]; }))
                ready.push_back(i);
        size_t next = settings().policy == RANDOM ? ready[rnd() % ready.size()] : ready[0];
        done[next] = true;
        order.push_back(next);
    }
    return order;
}
static void push_node(cudaStream_t s, const Node &node, const Order &order)
{
    auto run = node.run;
    push_op(s, {node.name,
                [run] {
                    if (!device_dead())
                        run();
                },
                nullptr, 0, order});
}
static void launch_side_by_side(cudaStream_t s, cudaGraphExec_t exec)
{
    const std::vector<uint32_t> before = s->vc;
    std::vector<Order> orders(exec->nodes.size());
    for (size_t i : some_order(exec->nodes)) {
        Order &o = orders[i];
        o.stream = exec->ids[i];
        o.seq = next_seq(o.stream);
        o.vc = before;
        for (size_t a : exec->nodes[i].after)
            join(o.vc, orders[a].vc);
        if (o.vc.size() <= o.stream)
            o.vc.resize(o.stream + 1);
        o.vc[o.stream] = o.seq;
        join(s->vc, o.vc);
        push_node(s, exec->nodes[i], o);
    }
}
} // namespace cusim
using namespace cusim;
extern "C" {
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t e = enter("cudaStreamBeginCapture");
    if (e != cudaSuccess)
        return e;
    if (!stream || stream->capture)
        return error(stream ? cudaErrorIllegalState : cudaErrorStreamCaptureUnsupported);
    stream->capture = new Capture;
    stream->capture->origin = stream;
    stream->capture->mode = mode;
    stream->tips.clear();
    captures.push_back(stream->capture);
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    cudaError_t e = enter("cudaStreamEndCapture");
    *graph = nullptr;
    if (!stream || !stream->capture)
        return error(cudaErrorIllegalState);
    Capture *c = stream->capture;
    if (c->origin != stream)
        return error(cudaErrorStreamCaptureUnmatched);
    if (e == cudaSuccess && c->invalid)
        e = cudaErrorStreamCaptureInvalidated;
    if (e == cudaSuccess && !joined(c->nodes, stream->tips))
        e = cudaErrorStreamCaptureUnjoined;
    if (e == cudaSuccess)
        object_made(*graph = new CUgraph_st{std::move(c->nodes)}, "graph");
    forget_capture(c);
    captures.erase(std::find(captures.begin(), captures.end(), c));
    delete c;
    return error(e);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    cudaError_t e = enter("cudaStreamIsCapturing");
    Capture *c = real(stream)->capture;
    *status = !c           ? cudaStreamCaptureStatusNone
              : c->invalid ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return e;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    cudaError_t e = enter("cudaGraphGetNodes");
    if (nodes)
        return error(cudaErrorNotSupported); // nodes cannot be looked into
    *n = graph->nodes.size();
    return e;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    cudaError_t e = enter("cudaGraphInstantiate");
    if (e != cudaSuccess)
        return e;
    object_made(*exec = new CUgraphExec_st{graph->nodes, {}}, "executable graph");
    for (size_t i = 0; !chain(graph->nodes) && i < graph->nodes.size(); i++)
        (*exec)->ids.push_back(new_stream_id());
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return enter("cudaGraphUpload");
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    cudaError_t e = enter("cudaGraphLaunch");
    if (e != cudaSuccess)
        return e;
    cudaStream_t s = real(stream);
    if (s->capture)
        return error(cudaErrorNotSupported); // a graph within a graph is not simulated
    before_enqueue(s);
    if (exec->ids.empty())
        for (const Node &node : exec->nodes)
            push_node(s, node, next_order(s));
    else
        launch_side_by_side(s, exec);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t e = enter("cudaGraphDestroy");
    if (!graph)
        return error(cudaErrorInvalidValue);
    object_gone(graph, "graph");
    delete graph;
    return e;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t e = enter("cudaGraphExecDestroy");
    if (!exec)
        return error(cudaErrorInvalidValue);
    object_gone(exec, "executable graph");
    delete exec;
    return e;
}
}
