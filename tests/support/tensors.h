/* tensors.h - a backend, and tensors on it beside what they should be, for tests of single ops. */
#ifndef CRNN_TESTS_TENSORS_H
#define CRNN_TESTS_TENSORS_H

#include "support/cmocka.h"

#include "host/base/rng.h"
#include "kernels/backend.h"
#include "support/device.h"
#include <math.h>
#include <stdlib.h>

/* NULL where the device has no bf16, with a sentence that says so. */
static inline crnn_backend *open_precision(crnn_precision precision)
{
    crnn_device_config config = test_device();
    config.precision = precision;
    crnn_error err = {0};
    crnn_backend *be = crnn_backend_open(&config, NULL, 0, &err);
    if (!be && precision == CRNN_FP32)
        fail_msg("%s", err.text);
    if (!be)
        assert_int_equal(err.status, CRNN_ERR_DEVICE);
    return be;
}

static inline crnn_backend *open_backend(void)
{
    return open_precision(CRNN_FP32);
}

static inline void no_failure(crnn_backend *be)
{
    crnn_error err = {0};
    if (be->ops->sync(be, &err))
        fail_msg("%s", err.text);
}

/* A tensor in three forms: doubles of the reference (exactly the floats), host floats, device floats. */
typedef struct {
    int64_t n;
    double *d;
    float *f;
    float *device;
} tensor;

static inline tensor make(crnn_backend *be, int64_t n)
{
    tensor t = {n, calloc((size_t)n, sizeof(double)), calloc((size_t)n, sizeof(float)), NULL};
    t.device = be->ops->alloc(be, (size_t)n * sizeof(float));
    assert_non_null(t.device);
    return t;
}

/* Uniform in +-range, a different sequence for each number. */
static inline tensor draw(crnn_backend *be, int64_t n, double range, uint64_t number)
{
    tensor t = make(be, n);
    for (int64_t i = 0; i < n; i++) {
        t.f[i] = (float)(((double)crnn_u01(crnn_philox(7, number, (uint64_t)i).v[0]) * 2 - 1) * range);
        t.d[i] = (double)t.f[i];
    }
    be->ops->upload(be, t.device, t.f, (size_t)n * sizeof(float));
    return t;
}

static inline void drop(crnn_backend *be, tensor *t)
{
    be->ops->free(be, t->device);
    free(t->f);
    free(t->d);
}

/* || device - d || / || d ||: single precision keeps it near 1e-7, and sums of a few hundred terms below 1e-6. */
static inline void assert_near(crnn_backend *be, const char *what, tensor *t, double tolerance)
{
    double error = 0, norm = 0;
    be->ops->download(be, t->f, t->device, (size_t)t->n * sizeof(float));
    for (int64_t i = 0; i < t->n; i++) {
        double e = (double)t->f[i] - t->d[i];
        error += e * e;
        norm += t->d[i] * t->d[i];
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm) + 1e-30))
        fail_msg("%s: error %g of the norm %g", what, sqrt(error), sqrt(norm));
}

static inline uint16_t *draw_tokens(crnn_backend *be, uint16_t **device, int64_t n, int32_t V)
{
    uint16_t *tokens = calloc((size_t)n, sizeof *tokens);
    for (int64_t i = 0; i < n; i++)
        tokens[i] = (uint16_t)(crnn_philox(8, (uint64_t)V, (uint64_t)i).v[1] % (uint32_t)V);
    *device = be->ops->alloc(be, (size_t)n * sizeof **device);
    be->ops->upload(be, *device, tokens, (size_t)n * sizeof *tokens);
    return tokens;
}

#endif
