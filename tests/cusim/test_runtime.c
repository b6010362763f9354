/* The simulated runtime: what runs when, graphs, memory, properties, and calls that fail on demand. */
#include "support/cmocka.h"

#include "kernels/planted.h"
#include "kernels/samples.h"
#include <cusim_control.h>
#include <stdlib.h>
#include <string.h>

enum { N = 256 };

static void is(cudaError_t e, const char *name)
{
    assert_string_equal(cudaGetErrorName(e), name);
}
static void ok(cudaError_t e)
{
    is(e, "cudaSuccess");
}

/* Two streams, an event, arrays x (ones) and y (zeros) on the device; host holds the last download. */
static struct {
    cudaStream_t one, two;
    cudaEvent_t event;
    int *x, *y, *host;
} s;
static int setup(void **state)
{
    (void)state;
    ok(cudaStreamCreateWithFlags(&s.one, cudaStreamNonBlocking));
    ok(cudaStreamCreateWithFlags(&s.two, cudaStreamNonBlocking));
    ok(cudaEventCreateWithFlags(&s.event, cudaEventDisableTiming));
    ok(cudaMalloc((void **)&s.x, N * sizeof *s.x));
    ok(cudaMalloc((void **)&s.y, N * sizeof *s.y));
    ok(cudaHostAlloc((void **)&s.host, N * sizeof *s.host, cudaHostAllocDefault));
    for (int i = 0; i < N; i++)
        s.host[i] = 1;
    ok(cudaMemcpy(s.x, s.host, N * sizeof *s.x, cudaMemcpyHostToDevice));
    ok(cudaMemset(s.y, 0, N * sizeof *s.y));
    ok(cudaDeviceSynchronize());
    cusim_reset_calls();
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    cusim_fail(NULL, 0, cudaSuccess);
    ok(cudaDeviceReset());
    ok(cudaFree(s.x));
    ok(cudaFree(s.y));
    ok(cudaFreeHost(s.host));
    ok(cudaEventDestroy(s.event));
    ok(cudaStreamDestroy(s.one));
    ok(cudaStreamDestroy(s.two));
    assert_int_equal(cusim_memory_used(), 0);
    assert_int_equal(cusim_errors(), 0);
    return 0;
}
static void y_is(int value)
{
    ok(cudaMemcpy(s.host, s.y, N * sizeof *s.y, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++)
        assert_int_equal(s.host[i], value);
}
static void add(cudaStream_t stream)
{
    ok(sample_add(s.y, s.x, N, stream));
}

static void nothing_runs_before_someone_waits(void **state)
{
    (void)state;
    s.host[0] = 7;
    add(s.one);
    ok(cudaMemcpyAsync(s.host, s.y, sizeof *s.y, cudaMemcpyDeviceToHost, s.one));
    assert_int_equal(s.host[0], 7);
    assert_int_equal(cusim_calls("kernel add_kernel"), 0);
    ok(cudaStreamSynchronize(s.one));
    assert_int_equal(s.host[0], 1);
    assert_int_equal(cusim_calls("kernel add_kernel"), 1);
}

static void an_event_holds_the_other_stream_back(void **state)
{
    (void)state;
    is(cudaEventQuery(s.event), "cudaSuccess"); /* never recorded */
    for (int i = 0; i < 5; i++)
        add(s.one);
    ok(cudaEventRecord(s.event, s.one));
    ok(cudaStreamWaitEvent(s.two, s.event, 0));
    ok(cudaMemcpyAsync(s.host, s.y, sizeof *s.y, cudaMemcpyDeviceToHost, s.two));
    is(cudaEventQuery(s.event), "cudaErrorNotReady");
    ok(cudaStreamSynchronize(s.two));
    assert_int_equal(s.host[0], 5);
    ok(cudaEventQuery(s.event));
    ok(cudaStreamQuery(s.one));
}

static void a_wait_stands_for_the_record_before_it(void **state)
{
    (void)state;
    add(s.one);
    ok(cudaEventRecord(s.event, s.one));
    ok(cudaStreamWaitEvent(s.two, s.event, 0));
    ok(cudaStreamWaitEvent(s.one, s.event, 0)); /* its own event does not stop a stream */
    add(s.two);
    ok(cudaEventRecord(s.event, s.two)); /* a later record: the wait above is not for this one */
    ok(cudaStreamSynchronize(s.two));
    ok(cudaStreamSynchronize(s.one));
    y_is(2);
}

static void events_measure_time_once_reached(void **state)
{
    (void)state;
    cudaEvent_t from, to;
    float ms = -1;
    ok(cudaEventCreate(&from));
    ok(cudaEventCreate(&to));
    is(cudaEventElapsedTime(&ms, from, to), "cudaErrorInvalidResourceHandle");
    ok(cudaEventRecord(from, s.one));
    add(s.one);
    ok(cudaEventRecord(to, s.one));
    is(cudaEventElapsedTime(&ms, from, to), "cudaErrorNotReady");
    ok(cudaEventSynchronize(to));
    ok(cudaEventElapsedTime(&ms, from, to));
    assert_true(ms > 0);
    is(cudaEventElapsedTime(&ms, from, s.event), "cudaErrorInvalidResourceHandle"); /* made without timing */
    ok(cudaEventDestroy(from));
    ok(cudaEventDestroy(to));
}

static void a_captured_stream_runs_only_when_its_graph_is_launched(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    enum cudaStreamCaptureStatus status;
    size_t nodes = 0;
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeGlobal));
    ok(cudaStreamIsCapturing(s.one, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    ok(cudaMemsetAsync(s.y, 0, N * sizeof *s.y, s.one));
    add(s.one);
    add(s.one);
    ok(cudaStreamEndCapture(s.one, &graph));
    ok(cudaGraphGetNodes(graph, NULL, &nodes));
    assert_int_equal(nodes, 3);
    ok(cudaGraphInstantiate(&exec, graph, 0));
    ok(cudaGraphDestroy(graph));
    ok(cudaDeviceSynchronize());
    assert_int_equal(cusim_calls("kernel add_kernel"), 0);
    for (int i = 0; i < 3; i++)
        ok(cudaGraphLaunch(exec, s.one));
    add(s.one);
    ok(cudaGraphExecDestroy(exec)); /* what was launched still runs */
    ok(cudaStreamSynchronize(s.one));
    assert_int_equal(cusim_calls("kernel add_kernel"), 7);
    y_is(3);
}

static void a_graph_reads_host_memory_when_it_runs(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeThreadLocal));
    ok(cudaMemcpyAsync(s.x, s.host, N * sizeof *s.x, cudaMemcpyHostToDevice, s.one));
    ok(cudaMemcpyAsync(s.y, s.x, N * sizeof *s.x, cudaMemcpyDeviceToDevice, s.one));
    ok(cudaStreamEndCapture(s.one, &graph));
    ok(cudaGraphInstantiate(&exec, graph, 0));
    for (int value = 5; value < 8; value++) {
        for (int i = 0; i < N; i++)
            s.host[i] = value;
        ok(cudaGraphLaunch(exec, s.one));
        ok(cudaStreamSynchronize(s.one));
        y_is(value);
    }
    ok(cudaGraphExecDestroy(exec));
    ok(cudaGraphDestroy(graph));
}

static void another_stream_joins_a_capture_by_events(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t nodes = 0;
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeGlobal));
    add(s.one);
    ok(cudaEventRecord(s.event, s.one));
    ok(cudaStreamWaitEvent(s.two, s.event, 0));
    add(s.two);
    is(cudaEventQuery(s.event), "cudaErrorCapturedEvent");
    ok(cudaEventRecord(s.event, s.two));
    ok(cudaStreamWaitEvent(s.one, s.event, 0));
    add(s.one);
    ok(cudaStreamEndCapture(s.one, &graph));
    ok(cudaGraphGetNodes(graph, NULL, &nodes));
    assert_int_equal(nodes, 3);
    ok(cudaGraphInstantiate(&exec, graph, 0));
    ok(cudaGraphLaunch(exec, s.two));
    ok(cudaStreamSynchronize(s.two));
    y_is(3);
    add(s.two); /* no longer captured */
    ok(cudaStreamSynchronize(s.two));
    y_is(4);
    ok(cudaGraphExecDestroy(exec));
    ok(cudaGraphDestroy(graph));
}

/* The capture that one began gives no graph, for that reason. */
static void ends_with(const char *name)
{
    cudaGraph_t graph;
    is(cudaStreamEndCapture(s.one, &graph), name);
    assert_null(graph);
}
static void what_cannot_be_captured_spoils_the_graph(void **state)
{
    (void)state;
    void *p = NULL;
    is(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal), "cudaErrorStreamCaptureUnsupported");
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeGlobal));
    is(cudaStreamSynchronize(s.one), "cudaErrorStreamCaptureUnsupported");
    is(sample_add(s.y, s.x, N, s.one), "cudaErrorStreamCaptureInvalidated");
    ends_with("cudaErrorStreamCaptureInvalidated");
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeGlobal));
    is(cudaMalloc(&p, 16), "cudaErrorStreamCaptureUnsupported");
    ends_with("cudaErrorStreamCaptureInvalidated");
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeRelaxed));
    ok(cudaMalloc(&p, 16));
    ok(cudaFree(p));
    ok(cudaEventRecord(s.event, s.one));
    ok(cudaStreamWaitEvent(s.two, s.event, 0));
    add(s.two); /* and one does not wait for it */
    ends_with("cudaErrorStreamCaptureUnjoined");
    ok(cudaEventRecord(s.event, s.two));
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeGlobal));
    is(cudaStreamWaitEvent(s.one, s.event, 0), "cudaErrorStreamCaptureIsolation");
    ends_with("cudaErrorStreamCaptureInvalidated");
    y_is(0);
}

static void memory_is_counted_and_ends(void **state)
{
    (void)state;
    size_t free_before = 0, free_after = 0, total = 0;
    void *p = NULL;
    ok(cudaMemGetInfo(&free_before, &total));
    ok(cudaMalloc(&p, 1000));
    ok(cudaMemGetInfo(&free_after, &total));
    assert_int_equal(free_before - free_after, 1024);
    cusim_set_memory(cusim_memory_used() + 4096);
    void *q = NULL;
    is(cudaMalloc(&q, 4097), "cudaErrorMemoryAllocation");
    is(cudaPeekAtLastError(), "cudaErrorMemoryAllocation");
    is(cudaGetLastError(), "cudaErrorMemoryAllocation");
    ok(cudaGetLastError());
    ok(cudaMalloc(&q, 4096));
    ok(cudaFree(q));
    ok(cudaFree(p));
    ok(cudaFree(NULL));
    cusim_set_memory(total);
}

static void copies_say_where_they_go(void **state)
{
    (void)state;
    size_t n = N * sizeof *s.x;
    is(cudaMemcpy(s.host, s.host, n, cudaMemcpyHostToDevice), "cudaErrorInvalidValue");
    is(cudaMemcpy(s.x, s.y, n, cudaMemcpyDeviceToHost), "cudaErrorInvalidValue");
    is(cudaMemcpyAsync(s.x, s.host, n + 1, cudaMemcpyHostToDevice, s.one), "cudaErrorInvalidValue");
    is(cudaMemsetAsync(s.x + 1, 0, n, s.one), "cudaErrorInvalidValue");
    is(cudaMemset(s.host, 0, n), "cudaErrorInvalidValue");
    ok(cudaMemcpy(s.y, s.x, n, cudaMemcpyDefault));
    y_is(1);
    ok(cudaMemset(s.y, 0, n));
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy2DAsync(s.y, 16, s.x, 32, 4, 8, cudaMemcpyDeviceToDevice, s.one));
    ok(cudaMemcpyAsync(s.host, s.y, n, cudaMemcpyDeviceToHost, s.one));
    ok(cudaStreamSynchronize(s.one));
    for (int i = 0; i < N; i++)
        assert_int_equal(s.host[i], i < 32 && i % 4 == 0);
}

static void the_device_describes_itself(void **state)
{
    (void)state;
    int n = 0, version = 0, value = 0;
    struct cudaDeviceProp properties;
    ok(cudaGetDeviceCount(&n));
    assert_int_equal(n, 1);
    ok(cudaGetDeviceProperties(&properties, 0));
    assert_string_equal(properties.name, "Simulated device");
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
    assert_int_equal(value, properties.multiProcessorCount);
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    assert_int_equal(value, properties.major);
    ok(cudaRuntimeGetVersion(&version));
    assert_int_equal(version, CUDART_VERSION);
    ok(cudaDriverGetVersion(&version));
    assert_true(version >= CUDART_VERSION);
    is(cudaSetDevice(1), "cudaErrorInvalidDevice");
    is(cudaGetDeviceProperties(&properties, -1), "cudaErrorInvalidDevice");
    cusim_set_devices(0);
    is(cudaGetDeviceCount(&n), "cudaErrorNoDevice");
    assert_int_equal(n, 0);
    cusim_set_devices(1);
}

static void a_call_fails_by_name_and_number_once(void **state)
{
    (void)state;
    void *p = NULL;
    cusim_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
    ok(cudaMalloc(&p, 16));
    ok(cudaFree(p));
    is(cudaMalloc(&p, 16), "cudaErrorMemoryAllocation");
    ok(cudaMalloc(&p, 16));
    cusim_fail("cudaFree", 1, cudaErrorUnknown);
    is(cudaFree(p), "cudaErrorUnknown"); /* and it is free all the same: see teardown */
    cusim_fail("launch", 1, cudaErrorLaunchOutOfResources);
    is(sample_add(s.y, s.x, N, s.one), "cudaErrorLaunchOutOfResources");
    cusim_reset_calls();
    add(s.one);
    ok(cudaStreamSynchronize(s.one));
    assert_int_equal(cusim_calls(NULL), 2);
    for (uint64_t nth = 1; nth <= 2; nth++) { /* every call of a run, one after the other */
        cusim_fail(NULL, nth, cudaErrorUnknown);
        cudaError_t first = sample_add(s.y, s.x, N, s.one), second = cudaStreamSynchronize(s.one);
        is(first, nth == 1 ? "cudaErrorUnknown" : "cudaSuccess");
        is(second, nth == 2 ? "cudaErrorUnknown" : "cudaSuccess");
    }
    y_is(2);
}

static void a_kernel_that_faults_is_reported_late_and_for_good(void **state)
{
    (void)state;
    cusim_fail("kernel add_kernel", 2, cudaErrorIllegalAddress);
    add(s.one);
    add(s.one);
    add(s.one);
    is(cudaStreamSynchronize(s.one), "cudaErrorIllegalAddress");
    is(cudaGetLastError(), "cudaErrorIllegalAddress");
    is(cudaGetLastError(), "cudaErrorIllegalAddress");
    is(sample_add(s.y, s.x, N, s.one), "cudaErrorIllegalAddress");
    is(cudaDeviceSynchronize(), "cudaErrorIllegalAddress");
    assert_int_equal(cusim_calls("kernel add_kernel"), 2);
    ok(cudaDeviceReset());
    y_is(1); /* the first one ran, the others did not */
}

struct scale {
    int *p, factor;
};
static void scale_all(void *data)
{
    struct scale *a = data;
    cusim_touch(a->p, N * sizeof(int), false);
    cusim_touch(a->p, N * sizeof(int), true);
    for (int i = 0; i < N; i++)
        a->p[i] *= a->factor;
}
static void a_library_stands_in_a_stream_as_kernels_do(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    struct scale by_ten = {s.y, 10};
    ok(cudaStreamBeginCapture(s.one, cudaStreamCaptureModeGlobal));
    add(s.one);
    ok(cusim_call("libraryScale"));
    ok(cusim_enqueue("scale", s.one, scale_all, &by_ten, sizeof by_ten));
    ok(cudaStreamEndCapture(s.one, &graph));
    by_ten.factor = 0; /* the data was copied */
    ok(cudaGraphInstantiate(&exec, graph, 0));
    ok(cudaGraphLaunch(exec, s.one));
    ok(cudaGraphLaunch(exec, s.one));
    ok(cudaStreamSynchronize(s.one));
    y_is(110);
    assert_int_equal(cusim_calls("libraryScale"), 1);
    ok(cudaGraphExecDestroy(exec));
    ok(cudaGraphDestroy(graph));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_runs_before_someone_waits),
        TEST(an_event_holds_the_other_stream_back),
        TEST(a_wait_stands_for_the_record_before_it),
        TEST(events_measure_time_once_reached),
        TEST(a_captured_stream_runs_only_when_its_graph_is_launched),
        TEST(a_graph_reads_host_memory_when_it_runs),
        TEST(another_stream_joins_a_capture_by_events),
        TEST(what_cannot_be_captured_spoils_the_graph),
        TEST(memory_is_counted_and_ends),
        TEST(copies_say_where_they_go),
        TEST(the_device_describes_itself),
        TEST(a_call_fails_by_name_and_number_once),
        TEST(a_kernel_that_faults_is_reported_late_and_for_good),
        TEST(a_library_stands_in_a_stream_as_kernels_do),
    };
    return cmocka_run_group_tests_name("simulated runtime", tests, NULL, NULL);
}
