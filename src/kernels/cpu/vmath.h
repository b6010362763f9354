/* vmath.h - exp, sigmoid and tanh that the compiler can put into vector loops: no branch, no table, no call.
 *
 * Within 3 units in the last place of the true value over all floats (tests/kernels/test_vmath.c measures it); NaN stays NaN, and very
 * large arguments saturate. The method is the classic one (Cody and Waite): x = k ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r - 1,
 * and 2^k put together from bits. tanh goes through e^x - 1, as e^x itself would cancel near zero.
 */
#ifndef CRNN_KERNELS_CPU_VMATH_H
#define CRNN_KERNELS_CPU_VMATH_H

#include <stdint.h>

typedef union {
    float f;
    uint32_t u;
} crnn_float_bits;

/* e^x = 2^k (1 + p); x within [-87, 88]. */
static inline float crnn_exp_parts(float x, float *two_to_k)
{
    const float magic = 12582912.0F; /* 1.5 * 2^23: adding it rounds to an integer, which then lies in the low bits */
    crnn_float_bits k = {.f = x * 1.44269504F + magic};
    float kf = k.f - magic;
    float r = x - kf * 0.693359375F; /* exact: nine bits of ln 2 times an integer below 2^8 */
    r = r + kf * 2.12194440e-4F;
    crnn_float_bits scale = {.u = (k.u + 127U) << 23};
    *two_to_k = scale.f;
    float q = 1.9841270e-4F; /* Taylor to r^8: the rest is below 2^-28 of r */
    q = q + r * 2.4801587e-5F;
    q = 1.3888889e-3F + r * q;
    q = 8.3333333e-3F + r * q;
    q = 4.1666667e-2F + r * q;
    q = 0.16666667F + r * q;
    q = 0.5F + r * q;
    return r + r * r * q;
}

static inline float crnn_exp(float x)
{
    float s;
    x = x < -87.0F ? -87.0F : x;
    x = x > 88.0F ? 88.0F : x;
    float p = crnn_exp_parts(x, &s);
    return s + s * p;
}

static inline float crnn_sigmoid(float x)
{
    return 1.0F / (1.0F + crnn_exp(-x));
}

static inline float crnn_tanh(float x)
{
    float s, a = x < 0.0F ? -x : x;
    a = a > 10.0F ? 10.0F : a; /* tanh(10) rounds to 1 */
    float p = crnn_exp_parts(-2.0F * a, &s);
    float e = (s - 1.0F) + s * p; /* e^(-2a) - 1 */
    float t = -e / (2.0F + e);
    return x < 0.0F ? -t : t;
}

#endif
