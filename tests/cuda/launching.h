/* launching.h - memory of the simulated GPU for tests of single launchers: of the exact size, and unwritten where a kernel is to write. */
#ifndef CRNN_TESTS_LAUNCHING_H
#define CRNN_TESTS_LAUNCHING_H

#include "cusim/numbers.h"

#include <cusim_control.h>
#include <stdlib.h>

/* ---- memory of one test, on the device and here; given back at its end */
enum { BLOCKS = 64 };
static void *on_device[BLOCKS], *here[BLOCKS];
static int devices, heres;
static inline void *room(size_t bytes)
{
    assert_true(devices < BLOCKS);
    cuda(cudaMalloc(&on_device[devices], bytes));
    return on_device[devices++];
}
static inline void *up(const void *from, size_t bytes)
{
    void *p = room(bytes);
    cuda(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}
static inline void *host(size_t bytes)
{
    assert_true(heres < BLOCKS);
    return here[heres++] = calloc(bytes ? bytes : 1, 1);
}
static inline void *down(const void *from, size_t bytes)
{
    void *p = host(bytes);
    cuda(cudaMemcpy(p, from, bytes, cudaMemcpyDeviceToHost));
    return p;
}
static inline void give_back(void)
{
    while (devices)
        cuda(cudaFree(on_device[--devices]));
    while (heres)
        free(here[--heres]);
}
static inline float *floats(size_t n, float limit)
{
    float *x = host(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = limit * ((float)draw(2001) - 1000) / 1000;
    return x;
}
static inline uint16_t *ids(size_t n, unsigned below)
{
    uint16_t *x = host(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (uint16_t)draw(below);
    return x;
}
static inline void expect(const float *got, const double *wanted, size_t n, double relative, double absolute)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - wanted[i]) <= relative * fabs(wanted[i]) + absolute))
            fail_msg("[%zu]: %.9g, not %.9g", i, (double)got[i], wanted[i]);
}
static inline void expect_floats(const float *got, const float *wanted, size_t n)
{
    assert_memory_equal(got, wanted, n * sizeof *got);
}

/* The last of a group: whether the checker saw something. */
static inline int nothing_was_found(void **state)
{
    (void)state;
    return cusim_errors();
}

#endif
