// runtime.cpp - the device itself: its properties, errors that stay, calls that fail on demand, launches.
#include "internal.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace cusim
{
static cudaError_t last_error, fault; // fault: the device is lost until cudaDeviceReset
static std::map<std::string, uint64_t> &calls = *new std::map<std::string, uint64_t>;
static uint64_t all_calls;
struct Plan {
    std::string name; // "": every call
    uint64_t left = 0;
    cudaError_t error = cudaSuccess;
    std::string failed; // the call that did
};
// CUSIM_FAIL=NAME:N or N.
static Plan *plan_of_environment()
{
    Plan *p = new Plan;
    const char *s = getenv("CUSIM_FAIL");
    const char *colon = s ? strrchr(s, ':') : nullptr;
    if (s && *s) {
        p->name = colon ? std::string(s, colon) : "";
        p->left = strtoull(colon ? colon + 1 : s, nullptr, 10);
        p->error = cudaErrorUnknown;
    }
    return p;
}
static Plan &plan = *plan_of_environment();

cudaError_t error(cudaError_t e)
{
    if (e != cudaSuccess)
        last_error = e;
    return e;
}
void device_fault(cudaError_t e)
{
    if (fault == cudaSuccess)
        fault = e;
}
bool device_dead()
{
    return fault != cudaSuccess;
}
// Counts one call and says what it shall fail with.
static cudaError_t count(const char *name, bool is_kernel)
{
    calls[name]++;
    if (!is_kernel)
        all_calls++;
    bool meant = plan.left > 0 && (plan.name.empty() ? !is_kernel : plan.name == name);
    if (!meant || --plan.left > 0)
        return cudaSuccess;
    plan.failed = name;
    return plan.error;
}
cudaError_t enter(const char *name)
{
    cudaError_t injected = name ? count(name, false) : cudaSuccess;
    return error(injected != cudaSuccess ? injected : fault);
}
bool any_capture()
{
    for (Capture *c : captures)
        if (c->mode != cudaStreamCaptureModeRelaxed)
            return c->invalid = true;
    return false;
}
cudaError_t enter_unsafe(const char *name)
{
    cudaError_t e = enter(name);
    return any_capture() ? error(cudaErrorStreamCaptureUnsupported) : e;
}
// What runs on the device counts as "kernel NAME".
static void run_kernel(const char *name, const std::function<void()> &run)
{
    cudaError_t e = count((std::string("kernel ") + name).c_str(), true);
    if (e == cudaSuccess)
        run();
    else
        device_fault(e);
}

// ---- launches
static std::map<const void *, int> &smem_optin = *new std::map<const void *, int>;
static std::map<const void *, size_t> &smem_own =
    *new std::map<const void *, size_t>; // __shared__, of kernels that ran

void block_has(const void *fn, size_t bytes)
{
    smem_own[fn] = std::max(smem_own[fn], bytes);
    const size_t most = smem_optin.count(fn) ? SMEM_MAX : SMEM_USUAL;
    if (bytes > SMEM_USUAL || bytes + grid->smem > most)
        fail("the kernel has %zu bytes of __shared__ memory and was launched with %zu more; %zu is the most", bytes,
             grid->smem, most);
}

// What a cluster may be; its blocks are neighbours along x.
static cudaError_t check_cluster(const void *fn, dim3 g, size_t n, size_t smem, unsigned cluster)
{
    int fit = 0;
    if (cluster == 1)
        return cudaSuccess;
    if (settings().major < 9)
        return cudaErrorNotSupported;
    if (cluster > 8 || cluster == 0 || g.x % cluster)
        return cudaErrorInvalidClusterSize;
    max_clusters(&fit, fn, static_cast<int>(n), smem, cluster);
    return fit > 0 ? cudaSuccess : cudaErrorLaunchOutOfResources;
}
cudaError_t check_launch(const void *fn, dim3 g, dim3 b, size_t smem, How how, size_t argbytes)
{
    cudaError_t e = enter("launch");
    if (e != cudaSuccess)
        return e;
    size_t n = static_cast<size_t>(b.x) * b.y * b.z, nb = static_cast<size_t>(g.x) * g.y * g.z;
    size_t most = smem_optin.count(fn) ? std::max(static_cast<size_t>(smem_optin[fn]), SMEM_USUAL) : SMEM_USUAL;
    if (n == 0 || n > 1024 || b.z > 64 || nb == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
        e = cudaErrorInvalidConfiguration;
    else if (argbytes > 32764 || smem > most)
        e = cudaErrorInvalidValue;
    else
        e = check_cluster(fn, g, n, smem, how.cluster);
    if (e == cudaSuccess && how.coop) {
        int fit = 0;
        max_clusters(&fit, fn, static_cast<int>(n), smem, how.cluster);
        if (nb > static_cast<size_t>(fit) * how.cluster)
            e = cudaErrorCooperativeLaunchTooLarge;
    }
    return error(e);
}
// Where a GPU has its multiprocessors in groups, and a cluster within one of them, here they are one group.
cudaError_t max_clusters(int *n, const void *fn, int threads, size_t smem, unsigned cluster)
{
    int per = 0;
    cudaError_t e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per, fn, threads, smem);
    *n = e == cudaSuccess ? per * settings().sms / static_cast<int>(cluster) : 0;
    return e;
}
cudaError_t launch(const char *name, const void *fn, dim3 g, dim3 b, size_t smem, cudaStream_t s, How how,
                   size_t argbytes, void (*thunk)(void *), void (*del)(void *), void *args)
{
    std::shared_ptr<void> keep(args, del); // as long as a graph names them
    return enqueue(s, name, [=] {
        GridImpl grid_now = {};
        grid_now.gdim = g;
        grid_now.bdim = b;
        grid_now.name = name;
        grid_now.fn = fn;
        grid_now.smem = smem;
        grid_now.coop = how.coop;
        grid_now.cluster = how.cluster;
        grid_now.thunk = thunk;
        grid_now.args = keep.get();
        grid_now.argbytes = argbytes;
        run_kernel(name, [&] { run_grid(&grid_now); });
    });
}
cudaError_t enqueue_work(const char *name, cudaStream_t stream, std::function<void()> work)
{
    if (device_dead())
        return enter(nullptr);
    return enqueue(stream, name, [name, work = std::move(work)] { run_kernel(name, work); });
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
void cusim_fail(const char *name, uint64_t nth, cudaError_t e)
{
    plan.name = name ? name : "";
    plan.left = nth;
    plan.error = e;
    plan.failed.clear();
}
const char *cusim_failed(void)
{
    return plan.failed.empty() ? nullptr : plan.failed.c_str();
}
uint64_t cusim_calls(const char *name)
{
    if (!name)
        return all_calls;
    auto it = calls.find(name);
    return it == calls.end() ? 0 : it->second;
}
void cusim_reset_calls(void)
{
    calls.clear();
    all_calls = 0;
}
cudaError_t cusim_call(const char *name)
{
    return count(name, false);
}
cudaError_t cusim_enqueue(const char *name, cudaStream_t stream, void (*function)(void *), const void *data, size_t n)
{
    std::shared_ptr<char> copy(new char[n ? n : 1], std::default_delete<char[]>());
    if (n)
        memcpy(copy.get(), data, n);
    return enqueue_work(name, stream, [=] { function(copy.get()); });
}
void cusim_touch(const void *p, size_t n, bool write)
{
    if (n && side_of(p, n) != DEVICE_SIDE)
        fail("%zu bytes at %p are not, or not all, in one allocation on the device", n, p);
    chk_library(p, n, write);
}
void cusim_set_devices(int n)
{
    settings().devices = n;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 0;
    ENTER(enter("cudaGetDeviceCount"));
    *n = settings().devices;
    return error(*n > 0 ? cudaSuccess : cudaErrorNoDevice);
}
static cudaError_t check_device(int device)
{
    return error(device >= 0 && device < settings().devices ? cudaSuccess : cudaErrorInvalidDevice);
}
static int current_device;
cudaError_t cudaGetDevice(int *device)
{
    ENTER(enter("cudaGetDevice"));
    *device = current_device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    ENTER(enter("cudaSetDevice"));
    ENTER(check_device(device));
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset(void)
{
    cudaError_t e = enter_unsafe("cudaDeviceReset");
    drain_all();
    bool was_lost = e == fault;
    fault = last_error = cudaSuccess;
    return was_lost ? cudaSuccess : e;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    ENTER(enter("cudaRuntimeGetVersion"));
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version)
{
    ENTER(enter("cudaDriverGetVersion"));
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER(enter("cudaDeviceGetStreamPriorityRange"));
    *least = *greatest = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    ENTER(enter("cudaGetDeviceProperties"));
    ENTER(check_device(device));
    *p = {};
    snprintf(p->name, sizeof p->name, "Simulated device");
    p->totalGlobalMem = settings().memory;
    p->sharedMemPerBlock = SMEM_USUAL;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = settings().major;
    p->multiProcessorCount = settings().sms;
    p->concurrentKernels = p->asyncEngineCount = p->unifiedAddressing = p->cooperativeLaunch = 1;
    p->memoryBusWidth = 64;
    p->l2CacheSize = 1 << 20;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerMultiprocessor = SMEM_SM;
    p->sharedMemPerBlockOptin = SMEM_MAX;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    ENTER(enter("cudaDeviceGetAttribute"));
    ENTER(check_device(device));
    static const std::map<int, int> &fixed =
        *new std::map<int, int>{{cudaDevAttrMaxThreadsPerBlock, 1024},
                                {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
                                {cudaDevAttrWarpSize, 32},
                                {cudaDevAttrClockRate, 1000},
                                {cudaDevAttrMemoryClockRate, 1000},
                                {cudaDevAttrGlobalMemoryBusWidth, 64},
                                {cudaDevAttrL2CacheSize, 1 << 20},
                                {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
                                {cudaDevAttrComputeCapabilityMinor, 0},
                                {cudaDevAttrMaxSharedMemoryPerMultiprocessor, SMEM_SM},
                                {cudaDevAttrCooperativeLaunch, 1},
                                {cudaDevAttrMaxSharedMemoryPerBlockOptin, SMEM_MAX}};
    if (attribute == cudaDevAttrMultiProcessorCount)
        *value = settings().sms;
    else if (attribute == cudaDevAttrComputeCapabilityMajor)
        *value = settings().major;
    else if (attribute == cudaDevAttrClusterLaunch)
        *value = settings().major >= 9;
    else if (fixed.count(attribute))
        *value = fixed.at(attribute);
    else
        return error(cudaErrorInvalidValue);
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    cudaError_t e = fault != cudaSuccess ? fault : last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    return fault != cudaSuccess ? fault : last_error;
}
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    ENTER(enter("cudaFuncSetAttribute"));
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<size_t>(value) + smem_own[kernel] > SMEM_MAX)
        return error(cudaErrorInvalidValue);
    smem_optin[kernel] = value;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *kernel, int block, size_t smem)
{
    ENTER(enter("cudaOccupancyMaxActiveBlocksPerMultiprocessor"));
    if (block <= 0 || block > 1024)
        return error(cudaErrorInvalidValue);
    int by_threads = 2048 / ((block + 31) / 32 * 32),
        by_smem = static_cast<int>(SMEM_SM / (smem + smem_own[kernel] + 1024));
    *n = by_threads < by_smem ? by_threads : by_smem; // registers are not modelled
    return cudaSuccess;
}
}
