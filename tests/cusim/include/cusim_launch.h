// cusim_launch.h - a launch: the kernel with a copy of its arguments, put on a stream.
#pragma once
#include "cusim_device.h"

namespace cusim
{
template <class... P> struct Call { // a plain struct keeps the names in back traces short
    void (*k)(P...);
    std::tuple<P...> a;
    template <size_t... I> void go(std::index_sequence<I...>)
    {
        k(std::get<I>(a)...);
    }
    static void run(void *p)
    {
        static_cast<Call *>(p)->go(std::index_sequence_for<P...>());
    }
    static void del(void *p)
    {
        delete static_cast<Call *>(p);
    }
};
template <class... P>
cudaError_t launch_kernel(const char *name, dim3 g, dim3 b, size_t smem, cudaStream_t st, How how, void (*k)(P...),
                          P... a)
{
    static_assert((std::is_trivially_copyable<P>::value && ...), "kernel parameters must be trivially copyable");
    const void *fn = reinterpret_cast<const void *>(k);
    cudaError_t e = check_launch(fn, g, b, smem, how, (sizeof(P) + ... + 0));
    if (e != cudaSuccess)
        return e;
    auto *c = new Call<P...>{k, std::tuple<P...>(a...)};
    return launch(name, fn, g, b, smem, st, how, sizeof(*c), Call<P...>::run, Call<P...>::del, c);
}
} // namespace cusim
template <class T> cudaError_t cudaMalloc(T **p, size_t n)
{
    return cudaMalloc(reinterpret_cast<void **>(p), n);
}
template <class F> cudaError_t cudaFuncSetAttribute(F *f, cudaFuncAttribute a, int v)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(f), a, v);
}
template <class F> cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, F *f, int b, size_t s)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(n, reinterpret_cast<const void *>(f), b, s);
}
