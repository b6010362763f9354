// memory.cpp - device and pinned memory: what is allocated, how much is left, copies and fills.
#include "internal.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace cusim
{
static std::map<const char *, size_t> &device_blocks = *new std::map<const char *, size_t>;
static size_t used;

#if !CUSIM_CHECK
void *dev_alloc(size_t n, size_t align, const char *, int)
{
    void *p = nullptr; // posix_memalign keeps the exact size, so AddressSanitizer's red zone follows the last byte
    if (posix_memalign(&p, align < 16 ? 16 : align, n))
        return nullptr;
    memset(p, 0xff, n); // NaN, -1: reads of unset memory show up
    return p;
}
void dev_free(void *p)
{
    free(p);
}
#endif
// What an allocation takes of the device.
static size_t cost(size_t n)
{
    return (n + 511) / 512 * 512;
}
Side side_of(const void *p, size_t n)
{
    const char *c = static_cast<const char *>(p);
    auto it = device_blocks.upper_bound(c);
    if (it == device_blocks.begin())
        return HOST_SIDE;
    --it;
    if (c >= it->first + it->second)
        return HOST_SIDE;
    return c + n <= it->first + it->second ? DEVICE_SIDE : OUT_OF_BOUNDS;
}
static cudaError_t check_copy(const void *to, const void *from, size_t n, cudaMemcpyKind kind)
{
    Side t = side_of(to, n), f = side_of(from, n);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (n == 0)
        return cudaSuccess;
    if (!to || !from || t == OUT_OF_BOUNDS || f == OUT_OF_BOUNDS)
        return cudaErrorInvalidValue;
    if (kind != cudaMemcpyDefault && ((t == DEVICE_SIDE) != to_device || (f == DEVICE_SIDE) != from_device))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}
static void copy_now(void *to, const void *from, size_t n)
{
    chk_host(from, n, false);
    chk_host(to, n, true);
    memcpy(to, from, n);
}
// As on hardware, a call that fails leaves *p as it was.
static cudaError_t allocate(void **p, size_t n)
{
    if (n > settings().memory || cost(n) > settings().memory - std::min(used, settings().memory))
        return error(cudaErrorMemoryAllocation);
    void *block = n ? dev_alloc(n, 256, "cudaMalloc", -1) : nullptr;
    if (n && !block)
        return error(cudaErrorMemoryAllocation);
    *p = block;
    if (block)
        device_blocks[static_cast<char *>(block)] = n;
    used += cost(n);
    return cudaSuccess;
}
static void release(void *p)
{
    auto it = device_blocks.find(static_cast<char *>(p));
    if (it == device_blocks.end())
        fail("cudaFree(%p): no such allocation, or freed before", p);
    used -= cost(it->second);
    device_blocks.erase(it);
    dev_free(p);
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
#if !CUSIM_CHECK
bool cusim_checks(void)
{
    return false;
}
int cusim_errors(void)
{
    return 0;
}
#endif
void cusim_set_memory(size_t bytes)
{
    settings().memory = bytes;
}
size_t cusim_memory_used(void)
{
    return used;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    ENTER(enter("cudaMemGetInfo"));
    *total = settings().memory;
    *free = *total > used ? *total - used : 0;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **p, size_t n)
{
    ENTER(enter_unsafe("cudaMalloc"));
    return allocate(p, n);
}
cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t)
{
    ENTER(enter_unsafe("cudaMallocAsync"));
    return allocate(p, n);
}
cudaError_t cudaFree(void *p)
{
    cudaError_t e = enter_unsafe("cudaFree");
    if (!p || e == cudaErrorStreamCaptureUnsupported)
        return e;
    drain_all();
    release(p);
    return e;
}
cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    cudaError_t e = enter_unsafe("cudaFreeAsync");
    if (!p || e == cudaErrorStreamCaptureUnsupported)
        return e;
    cudaError_t queued = enqueue(stream, "free", [=] { release(p); });
    return e != cudaSuccess ? e : queued;
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    ENTER(enter_unsafe("cudaHostAlloc"));
    void *block = n ? malloc(n) : nullptr;
    if (n && !block)
        return error(cudaErrorMemoryAllocation);
    *p = block;
    if (block)
        object_made(block, "pinned block");
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n)
{
    return cudaHostAlloc(p, n, cudaHostAllocDefault);
}
cudaError_t cudaFreeHost(void *p)
{
    cudaError_t e = enter_unsafe("cudaFreeHost");
    if (!p || e == cudaErrorStreamCaptureUnsupported)
        return e;
    drain_all();
    object_gone(p, "pinned block");
    free(p);
    return e;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t stream)
{
    ENTER(enter("cudaMemcpyAsync"));
    ENTER(error(check_copy(to, from, n, kind)));
    return enqueue(stream, "copy", [=] {
        if (n && check_copy(to, from, n, kind) != cudaSuccess) // as in a graph that outlives its memory
            fail("a copy of %zu bytes from %p to %p runs after the memory was freed", n, from, to);
        copy_now(to, from, n);
    });
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    ENTER(enter("cudaMemcpy2DAsync"));
    if (width > to_pitch || width > from_pitch)
        return error(cudaErrorInvalidValue);
    if (!width || !height)
        return cudaSuccess;
    ENTER(error(check_copy(to, from, width, kind)));
    char *t = static_cast<char *>(to);
    const char *f = static_cast<const char *>(from);
    size_t last_to = to_pitch * (height - 1), last_from = from_pitch * (height - 1);
    ENTER(error(check_copy(t + last_to, f + last_from, width, kind)));
    return enqueue(stream, "copy", [=] {
        for (size_t i = 0; i < height; i++)
            copy_now(t + i * to_pitch, f + i * from_pitch, width);
    });
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind)
{
    ENTER(enter_unsafe("cudaMemcpy"));
    ENTER(error(check_copy(to, from, n, kind)));
    ENTER(enqueue(nullptr, "copy", [=] { copy_now(to, from, n); }));
    return cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t stream)
{
    ENTER(enter("cudaMemsetAsync"));
    if (n && side_of(p, n) != DEVICE_SIDE)
        return error(cudaErrorInvalidValue);
    return enqueue(stream, "fill", [=] {
        if (n && side_of(p, n) != DEVICE_SIDE)
            fail("a fill of %zu bytes at %p runs after the memory was freed", n, p);
        chk_host(p, n, true);
        memset(p, value, n);
    });
}
cudaError_t cudaMemset(void *p, int value, size_t n)
{
    return cudaMemsetAsync(p, value, n, nullptr);
}
}
