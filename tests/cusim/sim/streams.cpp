// streams.cpp - streams and events. Operations of a stream keep their order; those of several streams run in any order that events and
// the legacy stream leave (with CUSIM_SEED: a random one). Nothing runs before someone waits, so code that forgets to wait reads old bytes.
#include "streams.h"
#include <algorithm>
#include <ctime>

namespace cusim
{
std::vector<cudaStream_t> &streams = *new std::vector<cudaStream_t>;
CUstream_st null_stream{{}, false, 0, {}, nullptr, {}};
static std::vector<uint32_t> &last_seq = *new std::vector<uint32_t>(1); // by stream number
static std::vector<cudaEvent_t> &events = *new std::vector<cudaEvent_t>;
static std::vector<uint32_t> &host_vc = *new std::vector<uint32_t>; // what the host waited for

unsigned new_stream_id()
{
    last_seq.push_back(0);
    return static_cast<unsigned>(last_seq.size() - 1);
}
uint32_t next_seq(unsigned stream)
{
    return ++last_seq[stream];
}
void join(std::vector<uint32_t> &to, const std::vector<uint32_t> &from)
{
    if (to.size() < from.size())
        to.resize(from.size());
    for (size_t i = 0; i < from.size(); i++)
        to[i] = std::max(to[i], from[i]);
}
// The host has waited for all that vc names.
static void host_waited(const std::vector<uint32_t> &vc)
{
    join(host_vc, vc);
    host_vc.resize(last_seq.size());
    if (host_vc == last_seq)
        chk_settled();
}
static double now()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
static bool step(cudaStream_t s)
{
    if (s->q.empty())
        return false;
    if (s->q.front().event && s->q.front().event->done < s->q.front().record)
        return false;
    Op op = std::move(s->q.front());
    s->q.pop_front();
    if (op.run) {
        chk_op_begin(op.name, op.order);
        op.run();
    }
    return true;
}
static void drain(cudaStream_t s)
{
    while (!s->q.empty()) {
        std::vector<cudaStream_t> candidates(streams);
        candidates.push_back(&null_stream);
        bool random = settings().policy == RANDOM;
        if (!random && step(s))
            continue;
        size_t first = random ? rnd() % candidates.size() : 0, n = 0;
        while (n < candidates.size() && !step(candidates[(first + n) % candidates.size()]))
            n++;
        if (n == candidates.size())
            fail("streams wait for each other");
    }
}
void drain_all()
{
    for (cudaStream_t s : streams)
        drain(s);
    drain(&null_stream);
}
// The legacy stream waits for every blocking stream, and they for it.
void before_enqueue(cudaStream_t s)
{
    if (s == &null_stream) {
        for (cudaStream_t other : streams)
            if (!other->nonblocking) {
                drain(other);
                join(s->vc, other->vc);
            }
    } else if (!s->nonblocking) {
        drain(&null_stream);
        join(s->vc, null_stream.vc);
    }
    join(s->vc, host_vc);
}
Order next_order(cudaStream_t s)
{
    if (s->vc.size() <= s->id)
        s->vc.resize(s->id + 1);
    s->vc[s->id] = next_seq(s->id);
    return {s->id, s->vc[s->id], s->vc};
}
void push_op(cudaStream_t s, Op op)
{
    s->q.push_back(std::move(op));
    if (!settings().async_streams)
        drain(s);
}
cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> run)
{
    cudaStream_t s = real(stream);
    cudaError_t e = cudaSuccess;
    if (captured(s, name, run, &e))
        return e;
    before_enqueue(s);
    auto unless_dead = [run = std::move(run)] {
        if (!device_dead())
            run();
    };
    push_op(s, {name, std::move(unless_dead), nullptr, 0, next_order(s)});
    return cudaSuccess;
}
void forget_capture(Capture *c)
{
    for (cudaStream_t s : streams)
        if (s->capture == c) {
            s->capture = nullptr;
            s->tips.clear();
        }
    for (cudaEvent_t e : events)
        if (e->capture == c)
            e->capture = nullptr;
}
static bool known(cudaStream_t s)
{
    return !s || std::find(streams.begin(), streams.end(), s) != streams.end();
}
static cudaError_t may_wait(cudaStream_t s)
{
    if (!known(s))
        return error(cudaErrorInvalidResourceHandle);
    if (real(s)->capture) { // waiting ends the capture
        real(s)->capture->invalid = true;
        return error(cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}
} // namespace cusim
using namespace cusim;
#define ENTER(call)                                                                                                    \
    do {                                                                                                               \
        cudaError_t entered = call;                                                                                    \
        if (entered != cudaSuccess)                                                                                    \
            return entered;                                                                                            \
    } while (0)
extern "C" {
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    ENTER(enter("cudaStreamCreate"));
    *stream = new CUstream_st{{}, (flags & cudaStreamNonBlocking) != 0, new_stream_id(), {}, nullptr, {}};
    streams.push_back(*stream);
    object_made(*stream, "stream");
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t e = enter("cudaStreamDestroy");
    if (!stream || !known(stream))
        return error(cudaErrorInvalidResourceHandle);
    drain(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    object_gone(stream, "stream");
    delete stream;
    return e;
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    ENTER(enter("cudaStreamQuery"));
    ENTER(may_wait(stream));
    if (!real(stream)->q.empty())
        step(real(stream)); // so that a program that polls comes to an end
    if (!real(stream)->q.empty())
        return cudaErrorNotReady;
    host_waited(real(stream)->vc);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t e = enter("cudaStreamSynchronize");
    ENTER(may_wait(stream));
    drain(real(stream));
    host_waited(real(stream)->vc);
    return e != cudaSuccess ? e : enter(nullptr);
}
cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t e = enter_unsafe("cudaDeviceSynchronize");
    if (e == cudaErrorStreamCaptureUnsupported)
        return e;
    drain_all();
    host_waited(last_seq);
    return e != cudaSuccess ? e : enter(nullptr);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    ENTER(enter("cudaLaunchHostFunc"));
    return enqueue(stream, "host function", [=] { function(data); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    ENTER(enter("cudaEventCreate"));
    *event = new CUevent_st;
    events.push_back(*event);
    object_made(*event, "event");
    (*event)->timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTER(enter("cudaEventRecord"));
    cudaStream_t s = real(stream);
    if (!event || !known(stream))
        return error(cudaErrorInvalidResourceHandle);
    event->capture = s->capture;
    event->tips = s->tips;
    if (s->capture)
        return cudaSuccess;
    before_enqueue(s);
    uint64_t n = ++event->recorded;
    Order order = next_order(s);
    event->vc = order.vc;
    auto reached = [=] {
        event->done = n;
        event->seconds = now();
    };
    push_op(s, {"event", reached, nullptr, 0, order});
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    ENTER(enter("cudaStreamWaitEvent"));
    cudaStream_t s = real(stream);
    if (!event || !known(stream))
        return error(cudaErrorInvalidResourceHandle);
    if (event->capture) { // the stream joins that capture
        if (s->capture && s->capture != event->capture)
            return error(cudaErrorStreamCaptureMerge);
        s->capture = event->capture;
        for (size_t tip : event->tips)
            if (std::find(s->tips.begin(), s->tips.end(), tip) == s->tips.end())
                s->tips.push_back(tip);
        return cudaSuccess;
    }
    if (s->capture) {
        s->capture->invalid = true;
        return error(cudaErrorStreamCaptureIsolation);
    }
    before_enqueue(s);
    join(s->vc, event->vc);
    push_op(s, {"wait", nullptr, event, event->recorded, {}});
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    ENTER(enter("cudaEventQuery"));
    if (event->capture)
        return error(cudaErrorCapturedEvent);
    if (event->done < event->recorded) {
        for (cudaStream_t s : streams)
            step(s);
        step(&null_stream);
    }
    if (event->done < event->recorded)
        return cudaErrorNotReady;
    host_waited(event->vc);
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t e = enter("cudaEventSynchronize");
    if (event->capture)
        return error(cudaErrorCapturedEvent);
    while (event->done < event->recorded)
        drain_all();
    host_waited(event->vc);
    return e != cudaSuccess ? e : enter(nullptr);
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    ENTER(enter("cudaEventElapsedTime"));
    if (!from->timing || !to->timing || !from->recorded || !to->recorded)
        return error(cudaErrorInvalidResourceHandle);
    if (from->done < from->recorded || to->done < to->recorded)
        return error(cudaErrorNotReady);
    *milliseconds = static_cast<float>(1e3 * (to->seconds - from->seconds));
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t e = enter("cudaEventDestroy");
    if (!event)
        return error(cudaErrorInvalidResourceHandle);
    drain_all();
    object_gone(event, "event");
    events.erase(std::find(events.begin(), events.end(), event));
    delete event;
    return e;
}
}
