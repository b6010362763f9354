// check_hooks.cpp - what the compiler calls before each access.
#include "internal.h"
#include <cstring>

using cusim::chk_access;
#define RA __builtin_return_address(0)
extern "C" {
#define HOOK(n)                                                                                                        \
    void __tsan_read##n(void *p)                                                                                       \
    {                                                                                                                  \
        chk_access(p, n, false, false, RA);                                                                            \
    }                                                                                                                  \
    void __tsan_write##n(void *p)                                                                                      \
    {                                                                                                                  \
        chk_access(p, n, true, false, RA);                                                                             \
    }                                                                                                                  \
    void __tsan_unaligned_read##n(void *p)                                                                             \
    {                                                                                                                  \
        chk_access(p, n, false, false, RA);                                                                            \
    }                                                                                                                  \
    void __tsan_unaligned_write##n(void *p)                                                                            \
    {                                                                                                                  \
        chk_access(p, n, true, false, RA);                                                                             \
    }                                                                                                                  \
    void __tsan_volatile_read##n(void *p)                                                                              \
    {                                                                                                                  \
        chk_access(p, n, false, true, RA);                                                                             \
        cusim::chk_acquire(p);                                                                                         \
        cusim::yield();                                                                                                \
    }                                                                                                                  \
    void __tsan_volatile_write##n(void *p)                                                                             \
    {                                                                                                                  \
        chk_access(p, n, true, true, RA);                                                                              \
        cusim::chk_release(p);                                                                                         \
    }
HOOK(1) HOOK(2) HOOK(4) HOOK(8) HOOK(16) void __tsan_read_range(void *p, unsigned long n)
{
    chk_access(p, n, false, false, RA);
}
void __tsan_write_range(void *p, unsigned long n)
{
    chk_access(p, n, true, false, RA);
}
void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void)
{
}
void __tsan_vptr_update(void **, void *)
{
}
void __tsan_vptr_read(void **)
{
}
void *__tsan_memset(void *p, int c, size_t n)
{
    chk_access(p, n, true, false, RA);
    return memset(p, c, n);
}
void *__tsan_memcpy(void *d, const void *s, size_t n)
{
    chk_access(s, n, false, false, RA);
    chk_access(d, n, true, false, RA);
    return memcpy(d, s, n);
}
void *__tsan_memmove(void *d, const void *s, size_t n)
{
    chk_access(s, n, false, false, RA);
    chk_access(d, n, true, false, RA);
    return memmove(d, s, n);
}
}
