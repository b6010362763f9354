/* maths.h - exp, sigmoid and tanh that a compiler turns into vector code; the same bits at every vector width.
 *
 * No libm call, no branch, no contraction into fused multiply-adds (the build forbids it), so that a build for AVX-512 and one for SSE2 agree.
 */
#ifndef CRNN_KERNELS_CPU_MATHS_H
#define CRNN_KERNELS_CPU_MATHS_H

#include <stdint.h>
#include <string.h>

/* Versions for the vector units of x86-64, chosen when the program starts. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 && !defined(__SANITIZE_ADDRESS__)
#define CRNN_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CRNN_VECTOR_CLONES
#endif

/* e^x within 2 units in the last place for |x| <= 87; beyond it is clamped (e^-87 and e^88 are far past any use here). NaN stays NaN.
 * Range reduction by ln 2 in two parts, then a minimax polynomial of degree 5 (coefficients of Cephes's expf). */
static inline float crnn_expf(float x)
{
    float clamped = x < -87.0F ? -87.0F : x;
    clamped = clamped > 88.0F ? 88.0F : clamped;
    float shifted = clamped * 1.44269504F + 12582912.0F; /* rounds to the nearest whole number, in the low bits */
    float n = shifted - 12582912.0F;
    float r = clamped - n * 0.693359375F;
    r = r + n * 2.12194440e-4F;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    int32_t bits = ((int32_t)n + 127) << 23; /* n lies in [-126, 127] */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static inline float crnn_sigmoidf(float x)
{
    return 1.0F / (1.0F + crnn_expf(-x));
}

/* Absolute error below 1.2e-7; near zero a polynomial keeps the relative error small too. */
static inline float crnn_tanhf(float x)
{
    float e = crnn_expf(2.0F * x);
    float far = 1.0F - 2.0F / (e + 1.0F);
    float s = x * x;
    float near = ((-5.70498872745e-3F * s + 2.06390887954e-2F) * s - 5.37397155531e-2F) * s + 1.33314422036e-1F;
    near = (near * s - 3.33332819422e-1F) * s * x + x;
    return s < 0.390625F ? near : far;
}

#endif
